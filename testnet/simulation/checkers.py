"""What must never happen, watched from outside the nodes and remembered across their crashes.

`protocol_checker` looks at what members say and save, `LogChecker` here at the logs that come out,
`check_bounded` at the memory of a node. Each complaint cites its rule of the specification.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

EPOCH_WORD = slice(4 * 32, 5 * 32)
"""Where the header of a batch names its epoch."""


class Violation(AssertionError):
    """A rule was broken: `rule` is its number, `text` says by whom and how."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.text = text


def require(condition: bool, rule: str, text: str, *details: object) -> None:
    """Raise `Violation` unless `condition`; `text` is formatted with `details` only then."""
    if not condition:
        raise Violation(rule, text.format(*details))


class LogChecker:
    """The logs of honest members: prefixes of each other, each transaction once, none lost."""

    def __init__(self, duplicate_window: int) -> None:
        self._window = duplicate_window
        self._entries: list[tuple[bytes, ...]] = [()]
        self._ends: list[int] = [0]
        self._roots: list[bytes] = [b""]
        self._height_of: dict[bytes, int] = {}
        self._saved: dict[int, dict[bytes, None]] = {}
        self._batches: dict[int, bytes] = {}
        self._submitted: dict[bytes, None] = {}

    @property
    def transactions(self) -> int:
        """How many have been ordered."""
        return len(self._height_of)

    def on_submitted(self, transactions: Iterable[bytes]) -> None:
        """Clients handed these (ids) to honest members."""
        self._submitted.update(dict.fromkeys(transactions))

    def on_saved(self, member: int, transactions: Iterable[bytes]) -> None:
        """A member made transactions (ids) durable: what came from a client may not be lost."""
        mine = self._saved.setdefault(member, {})
        for transaction in transactions:
            if transaction in self._submitted:
                mine[transaction] = None

    def on_applied(self, member: int, height: int, entries: tuple[bytes, ...], root: bytes) -> None:
        """A member wrote a block's surviving transactions (ids) to its log."""
        require(height <= len(self._entries), "C3", "{} applied {} too early", member, height)
        if height < len(self._entries):
            known = self._entries[height], self._roots[height]
            require(known == (entries, root), "C1", "{} has another log at {}", member, height)
            return
        for entry in entries:
            before = self._height_of.get(entry)
            fresh = before is None or before + self._window <= height
            require(
                fresh, "C1", "a transaction stands in the log twice, at {} and {}", before, height
            )
            self._height_of[entry] = height
        self._entries.append(entries)
        self._ends.append(self._ends[-1] + len(entries))
        self._roots.append(root)

    def at(self, height: int) -> tuple[tuple[bytes, ...], bytes]:
        """What honest members have at a height: the ids of its entries, and the log root."""
        return self._entries[height], self._roots[height]

    def on_certified(self, member: int, number: int, header: bytes) -> None:
        """A member holds the certificate of a batch; only the epoch in its header may differ."""
        what = header[: EPOCH_WORD.start] + header[EPOCH_WORD.stop :]
        known = self._batches.setdefault(number, what)
        require(known == what, "C1", "member {} certified another batch {}", member, number)

    def height_at(self, position: int) -> int:
        """The height of the block that put an entry into the log."""
        return bisect_right(self._ends, position)

    @property
    def batches(self) -> int:
        """How many batches were certified."""
        return len(self._batches)

    def missing(self, members: Iterable[int]) -> int:
        """How many transactions that these members made durable are in no log."""
        return sum(transaction not in self._height_of for transaction in self._due(members))

    def height_of_all(self, members: Iterable[int]) -> int:
        """The height by which everything that these members made durable is ordered."""
        return max([0, *(self._height_of[transaction] for transaction in self._due(members))])

    def _due(self, members: Iterable[int]) -> Iterator[bytes]:
        return (transaction for member in members for transaction in self._saved.get(member, ()))


GROWS_WITH_THE_LOG = ("sequencer.index",)
"""Modules whose memory is the log's, which nobody can make grow but by having it ordered."""


NO_OTHERS: Mapping[str, int] = {}


def check_bounded(
    owner: object, limit: int, name: str, others: Mapping[str, int] = NO_OTHERS
) -> int:
    """Q3: no container inside `owner` is longer than `limit`; the length of the longest.

    Attributes named in `others` have limits of their own.
    """
    longest = 0
    seen: set[int] = set()
    left: list[tuple[str, object]] = [(name, owner)]
    while left:
        path, item = left.pop()
        if id(item) in seen or isinstance(item, str | bytes | int | float | type(None)):
            continue
        seen.add(id(item))
        if isinstance(item, dict | list | set | frozenset | tuple | deque):
            most = others.get(path.rpartition(".")[2], limit)
            require(len(item) <= most, "Q3", "{} holds {} items", path, len(item))
            longest = max(longest, len(item))
            values = item.values() if isinstance(item, dict) else item
            left += [(path, value) for value in values]
        elif _is_ours(type(item).__module__):
            slots = [slot for kind in type(item).__mro__ for slot in getattr(kind, "__slots__", ())]
            names = [*slots, *getattr(item, "__dict__", {})]
            left += [(f"{path}.{key}", getattr(item, key, None)) for key in names]
    return longest


def _is_ours(module: str) -> bool:
    return module.startswith(("consensus.", "sequencer.")) and not module.startswith(
        GROWS_WITH_THE_LOG
    )
