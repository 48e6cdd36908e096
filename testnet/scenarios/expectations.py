"""What can be expected of a cluster: of its commits over time, and of nodes that stop.

An expectation looks at the record of a run alone, so it holds in both worlds. One that waits
(`within`) is met as soon as it is true; one about a window is judged when the window has passed.
A real cluster shares its machine, so there waiting ones get `slack_ms` more: what they say is
that it happens at all. How fast it is, is said in virtual time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from testnet.scenarios.record import Record, ScenarioFailed, Seat


class Expectation(ABC):
    """Something a scenario expects; `since_ms` is the time in the sentence before it."""

    @abstractmethod
    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        """When it has to be true."""

    @property
    def waits(self) -> bool:
        """Whether it is done with as soon as it is true."""
        return False

    @property
    def stopping(self) -> int | None:
        """The node that ends by itself, if one is expected to."""
        return None

    @property
    def is_final(self) -> bool:
        """Whether it is about the very end."""
        return False

    @abstractmethod
    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        """What is missing or wrong, "" if nothing is."""


def name_nodes(nodes: Iterable[int]) -> str:
    """`node 2`, or `nodes 0, 1`."""
    numbers = sorted(nodes)
    return f"node{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _who(nodes: frozenset[int] | None) -> str:
    if nodes is None:
        return "every node"
    return f"each of {name_nodes(nodes)}" if len(nodes) > 1 else name_nodes(nodes)


def _within(time_ms: int) -> str:
    return f"within {time_ms:,} ms"


def _window(expected: "_NoCommits | _Commits | _AtMostBlocks") -> str:
    return f"from {expected.start_ms:,} to {expected.end_ms:,} ms"


@dataclass(frozen=True, slots=True)
class _AllCommit(Expectation):
    count: int
    within: int
    nodes: frozenset[int] | None

    def __str__(self) -> str:
        return f"{_who(self.nodes)} has committed {self.count:,} {_within(self.within)}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return since_ms + self.within + slack_ms

    @property
    def waits(self) -> bool:
        return True

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        due = self.due_ms(since_ms, slack_ms)
        nodes = record.up if self.nodes is None else sorted(self.nodes)
        totals = {node: record.total(node, due) for node in nodes}
        behind = [
            f"node {node} has {total}" for node, total in totals.items() if total < self.count
        ]
        return f"not {self.count} committed by {due} ms: {', '.join(behind)}" if behind else ""


@dataclass(frozen=True, slots=True)
class _NoCommits(Expectation):
    start_ms: int
    end_ms: int
    nodes: frozenset[int] | None

    def __str__(self) -> str:
        return f"{_who(self.nodes)} commits nothing {_window(self)}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return self.end_ms

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        for node in range(record.nodes) if self.nodes is None else sorted(self.nodes):
            found = record.between(node, self.start_ms, self.end_ms)
            if found:
                return f"node {node} committed height {found[0].height} at {found[0].at_ms} ms"
        if not record.waiting(self.end_ms) and self.nodes is None:
            return f"nothing waited to be committed at {self.end_ms} ms, so this says nothing"
        return ""


@dataclass(frozen=True, slots=True)
class _Commits(Expectation):
    start_ms: int
    end_ms: int
    nodes: frozenset[int] | None

    def __str__(self) -> str:
        return f"{_who(self.nodes)} commits something {_window(self)}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return self.end_ms

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        for node in range(record.nodes) if self.nodes is None else sorted(self.nodes):
            found = record.between(node, self.start_ms, self.end_ms)
            if not any(commit.fresh for commit in found):
                return f"node {node} committed nothing from {self.start_ms} to {self.end_ms} ms"
        return ""


@dataclass(frozen=True, slots=True)
class _AtMostBlocks(Expectation):
    count: int
    start_ms: int
    end_ms: int

    def __str__(self) -> str:
        return f"no node commits more than {self.count} blocks {_window(self)}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return self.end_ms

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        for node in range(record.nodes):
            found = record.between(node, self.start_ms, self.end_ms)
            if len(found) > self.count:
                return f"node {node} committed {len(found)} blocks with nothing to do"
        return ""


@dataclass(frozen=True, slots=True)
class _Exactly(Expectation):
    count: int

    def __str__(self) -> str:
        return f"{self.count:,} are in the log in the end, and not one more"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return since_ms

    @property
    def is_final(self) -> bool:
        return True

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        longest = max(record.total(node, record.now_ms) for node in range(record.nodes))
        return "" if longest == self.count else f"{longest} in the log instead of {self.count}"


@dataclass(frozen=True, slots=True)
class _Stops(Expectation):
    node: int
    saying: str
    within: int

    def __str__(self) -> str:
        return f"node {self.node} stops {_within(self.within)}, saying: {self.saying}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return since_ms + self.within + slack_ms

    @property
    def stopping(self) -> int | None:
        return self.node

    @property
    def waits(self) -> bool:
        return True

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        said = record.stopped.get(self.node)
        if said is None:
            return f"node {self.node} did not stop by itself"
        return "" if self.saying in said else f"node {self.node} stopped saying: {said}"


@dataclass(frozen=True, slots=True)
class _AllPosted(Expectation):
    count: int
    within: int

    def __str__(self) -> str:
        return f"{self.count:,} are posted on the L1 {_within(self.within)}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return since_ms + self.within + slack_ms

    @property
    def waits(self) -> bool:
        return True

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        posted = record.posted or 0
        return "" if posted >= self.count else f"{posted} of {self.count} posted on the L1"


@dataclass(frozen=True, slots=True)
class _Seated(Expectation):
    """These nodes come to be where `hoped` says; `wanted` says what a node is that is not."""

    nodes: frozenset[int]
    within: int
    hoped: str
    wanted: str
    met: Callable[[Sequence[Seat]], bool]

    def __str__(self) -> str:
        return f"{_who(self.nodes)} {self.hoped} {_within(self.within)}"

    def due_ms(self, since_ms: int, slack_ms: int) -> int:
        return since_ms + self.within + slack_ms

    @property
    def waits(self) -> bool:
        return True

    def lacking(self, record: Record, since_ms: int, slack_ms: int) -> str:
        for node in sorted(self.nodes):
            seats = record.seats.get(node, [])
            if not seats or not self.met(seats):
                return f"node {node} {self.wanted}: {seats[-1] if seats else 'it says nothing'}"
        return ""


class Judge:
    """Judges the expectations of a run while it goes on."""

    def __init__(
        self, expectations: Sequence[tuple[int, Expectation]], record: Record, slack_ms: int
    ) -> None:
        self._open = list(expectations)
        self._record = record
        self._slack_ms = slack_ms

    @property
    def is_done(self) -> bool:
        """Whether only the end is left to be judged, and its time has come."""
        now_ms = self._record.now_ms
        return all(expected.is_final and now_ms >= since_ms for since_ms, expected in self._open)

    def look(self) -> None:
        """Close what is met; `ScenarioFailed` says what is not met although it is due."""
        for since_ms, expected in list(self._open):
            if expected.is_final:
                continue
            due = self._record.now_ms >= expected.due_ms(since_ms, self._slack_ms)
            if due or expected.waits:
                self._close(since_ms, expected, due)

    def finish(self) -> None:
        """It is over: everything has to hold."""
        for since_ms, expected in list(self._open):
            self._close(since_ms, expected, True)

    def _close(self, since_ms: int, expected: Expectation, due: bool) -> None:
        lacking = expected.lacking(self._record, since_ms, self._slack_ms)
        if not lacking:
            self._open.remove((since_ms, expected))
        elif due:
            raise ScenarioFailed(lacking)


def _members(nodes: Collection[int] | None) -> frozenset[int] | None:
    return None if nodes is None else frozenset(nodes)


def all_commit(count: int, within: int, nodes: Collection[int] | None = None) -> Expectation:
    """These nodes, or all that are up, have so many transactions in their logs in time."""
    return _AllCommit(count, within, _members(nodes))


def no_commits_between(
    start_ms: int, end_ms: int, nodes: Collection[int] | None = None
) -> Expectation:
    """Nothing is committed in a window although something waits."""
    return _NoCommits(start_ms, end_ms, _members(nodes))


def commits_between(
    start_ms: int, end_ms: int, nodes: Collection[int] | None = None
) -> Expectation:
    """Each of these nodes, or of all, commits transactions in a window."""
    return _Commits(start_ms, end_ms, _members(nodes))


def at_most_blocks(count: int, start_ms: int, end_ms: int) -> Expectation:
    """No node commits more blocks than this in a window."""
    return _AtMostBlocks(count, start_ms, end_ms)


def exactly(count: int) -> Expectation:
    """In the end the log holds so many transactions and not one more."""
    return _Exactly(count)


def stops(node: int, saying: str, within: int) -> Expectation:
    """A node ends by itself, and its last words hold `saying`."""
    return _Stops(node, saying, within)


def are_members(*nodes: int, within: int) -> Expectation:
    """Each of these is in the committee of the epoch that it is in, in time."""
    return _Seated(
        frozenset(nodes),
        within,
        "is a member",
        "is no member",
        lambda seats: seats[-1].index is not None,
    )


def follow(*nodes: int, within: int) -> Expectation:
    """Each of these is in the committee no more, in time."""
    return _Seated(
        frozenset(nodes),
        within,
        "is a member no more",
        "is still a member",
        lambda seats: seats[-1].index is None,
    )


def reach_epoch(epoch: int, within: int, nodes: Collection[int]) -> Expectation:
    """Each of these nodes comes to this epoch, or one after it, in time."""
    return _Seated(
        frozenset(nodes),
        within,
        f"is in epoch {epoch}, or after it,",
        "is behind",
        lambda seats: seats[-1].epoch >= epoch,
    )


def vote_with_new_keys(*nodes: int, within: int) -> Expectation:
    """A committee holds each of these with another BLS key than before, in time."""
    return _Seated(
        frozenset(nodes),
        within,
        "votes with a new key",
        "votes with its old key",
        lambda seats: len({seat.bls_key for seat in seats if seat.bls_key}) > 1,
    )


def all_posted(count: int, within: int) -> Expectation:
    """So many entries of the log come to stand on the L1."""
    return _AllPosted(count, within)
