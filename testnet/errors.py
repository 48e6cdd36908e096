"""What a testnet fails with."""


class TestnetError(Exception):
    """The run did not succeed; the message is one sentence that says what is wrong."""

    __test__ = False  # pytest would take the name for a test class
