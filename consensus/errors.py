"""The two kinds of error the core knows besides its own assertions (style.md, rule 3)."""


class InvalidMessage(Exception):
    """A peer's fault: malformed bytes, a bad signature, a rule broken. Caught once, at the door."""


class InvalidConfiguration(ValueError):
    """An operator's fault: a committee or a set of limits that cannot work, in a sentence."""
