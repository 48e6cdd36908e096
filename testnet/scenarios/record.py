"""What a run showed, seen from outside: the same for both worlds, judged by the same words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class ScenarioFailed(AssertionError):
    """The run was not as the scenario says; the message says in what."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A block in the log of a node: when it was seen there, and the log's length after it."""

    at_ms: int
    height: int
    fresh: int
    total: int


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a node is: its epoch, its index in that committee (None: it follows), its BLS key
    there."""

    epoch: int
    index: int | None
    bls_key: bytes = b""


@dataclass(slots=True)
class Record:
    """Commits of each node over time, and what clients submitted. Times as in the scenario."""

    nodes: int
    now_ms: int = 0
    commits: list[list[Commit]] = field(default_factory=list)
    submitted: dict[bytes, int] = field(default_factory=dict)
    """Transaction id to when a client first sent it."""
    ordered: dict[bytes, int] = field(default_factory=dict)
    """Transaction id to when it was first seen in any log."""
    down: set[int] = field(default_factory=set)
    """Nodes that cannot commit now: crashed or paused by the scenario, or stopped."""
    stopped: dict[int, str] = field(default_factory=dict)
    """Nodes that ended by themselves, and what they said."""
    posted: int | None = None
    """How many entries of the log are on the L1; None without one."""
    seats: dict[int, list[Seat]] = field(default_factory=dict)
    """Where each node was, as its epochs followed each other; told where the committee changes."""

    def __post_init__(self) -> None:
        self.commits = [[] for _ in range(self.nodes)]

    def add_node(self) -> None:
        """One more node, with the next number."""
        self.nodes += 1
        self.commits.append([])

    def on_seat(self, node: int, seat: Seat) -> None:
        """A node is there, now."""
        seats = self.seats.setdefault(node, [])
        if not seats or seats[-1] != seat:
            seats.append(seat)

    def on_commit(self, node: int, height: int, transactions: Iterable[bytes]) -> None:
        """A block with these transactions (ids) appeared in the log of a node, now."""
        fresh = list(transactions)
        for transaction in fresh:
            self.ordered.setdefault(transaction, self.now_ms)
        commits = self.commits[node]
        total = commits[-1].total if commits else 0
        commits.append(Commit(self.now_ms, height, len(fresh), total + len(fresh)))

    def total(self, node: int, at_ms: int) -> int:
        """How many transactions the log of a node held at a time."""
        found = [commit.total for commit in self.commits[node] if commit.at_ms <= at_ms]
        return found[-1] if found else 0

    def between(self, node: int, start_ms: int, end_ms: int) -> Sequence[Commit]:
        """What a node committed after `start_ms` and up to `end_ms`."""
        return [commit for commit in self.commits[node] if start_ms < commit.at_ms <= end_ms]

    def waiting(self, at_ms: int) -> int:
        """How many submitted transactions no log held at a time."""
        return sum(
            sent <= at_ms and self.ordered.get(transaction, at_ms + 1) > at_ms
            for transaction, sent in self.submitted.items()
        )

    @property
    def up(self) -> list[int]:
        """Nodes that can commit."""
        return [node for node in range(self.nodes) if node not in self.down]
