"""The words of a scenario: who is in it, what happens when, what is expected.

    Scenario("a partition heals", nodes=4)
        .submit(100, over=4_000)
        .at(2_000, Partition({0, 1}, {2, 3}))
        .expect(no_commits_between(2_500, 5_000))
        .at(5_000, Heal())
        .expect(all_commit(100, within=3_000))

Nodes are numbers, the founders as in the committee of the genesis and behind them those that join;
or `LEADER` and `NEXT_LEADER`: whoever that is when the scenario first says so, and the same node
from then on. Times are milliseconds from the moment all nodes are up. What a sentence says without
a time happens at the time said last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from testnet.scenarios.expectations import Expectation
from testnet.simulation import scenario as simulated
from testnet.simulation.scenario import (
    ClockJump,
    Crash,
    CrashAll,
    Heal,
    OneWay,
    Reconnect,
    Restart,
    Weather,
)

__all__ = [
    "LEADER",
    "NEXT_LEADER",
    "REAL",
    "SIMULATED",
    "Action",
    "BeginWithSnapshot",
    "ClockJump",
    "Crash",
    "CrashAll",
    "DiskFreed",
    "DiskFull",
    "Heal",
    "Join",
    "L1Resumes",
    "L1Stalls",
    "Leave",
    "Load",
    "OneWay",
    "Partition",
    "Pause",
    "Reconnect",
    "Restart",
    "Resume",
    "Rotate",
    "Scenario",
    "SlowLinks",
    "Step",
    "Weather",
    "Wipe",
]

LEADER: Final = -1
"""The leader of the current round, at the moment the scenario first names it."""
NEXT_LEADER: Final = -2
"""The leader of the round after that."""

SIMULATED: Final = "simulated"
REAL: Final = "real"


class Partition(simulated.Partition):
    """`Partition({0, 1}, {2, 3})`: only members of the same group reach each other."""

    def __init__(self, *groups: Iterable[int]) -> None:
        super().__init__(tuple(tuple(sorted(group)) for group in groups))


@dataclass(frozen=True, slots=True)
class Load:
    """Clients submit `count` new transactions, spread evenly over `over_ms`.

    Each goes to one node of `to` in turn; with `everywhere` to all of these at once.
    """

    count: int
    over_ms: int
    to: tuple[int, ...]
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A node stands still (SIGSTOP): it hears and says nothing, and nobody is told."""

    node: int


@dataclass(frozen=True, slots=True)
class Resume:
    """A paused node goes on, and finds everything that has arrived meanwhile."""

    node: int


@dataclass(frozen=True, slots=True)
class DiskFull:
    """Nothing more fits on the disk of a node."""

    node: int


@dataclass(frozen=True, slots=True)
class DiskFreed:
    """There is room again on the disk of a node; it has to be restarted."""

    node: int


@dataclass(frozen=True, slots=True)
class Wipe:
    """A node that is down, and has never signed anything, loses its data."""

    node: int


@dataclass(frozen=True, slots=True)
class BeginWithSnapshot:
    """A node that is down and has no data is given a snapshot of another one's log."""

    node: int
    source: int


@dataclass(frozen=True, slots=True)
class SlowLinks:
    """Everything from and to a node takes `delay_ms` longer, each way."""

    node: int
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Join:
    """A new node, which has the next number, starts and asks to become a member.

    With `only_peer` it has the address of that node alone, beside the genesis.
    """

    node: int
    only_peer: int | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """A member asks to leave; its node goes on, as a follower in the end."""

    node: int


@dataclass(frozen=True, slots=True)
class Rotate:
    """A member asks to vote with another BLS key."""

    node: int


@dataclass(frozen=True, slots=True)
class L1Stalls:
    """The L1 makes no more blocks and answers nothing new."""


@dataclass(frozen=True, slots=True)
class L1Resumes:
    """The L1 goes on."""


Action = (
    simulated.Partition
    | OneWay
    | Heal
    | Weather
    | Reconnect
    | Crash
    | Restart
    | CrashAll
    | Load
    | Pause
    | Resume
    | ClockJump
    | DiskFull
    | DiskFreed
    | Wipe
    | BeginWithSnapshot
    | SlowLinks
    | Join
    | Leave
    | Rotate
    | L1Stalls
    | L1Resumes
)

SIMULATED_ONLY: Final = (Weather, Reconnect)
"""Loss, duplication and reordering do not happen to a TCP stream."""
REAL_ONLY: Final = (L1Stalls, L1Resumes)
"""In the simulation there is no L1."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens, or is expected, at a time."""

    at_ms: int
    what: Action | Expectation


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named story of a cluster of `nodes`; every method returns a longer story."""

    name: str
    nodes: int = 4
    steps: tuple[Step, ...] = ()
    now_ms: int = 0

    def at(self, time_ms: int, *actions: Action) -> "Scenario":
        """At this time these things happen, in this order."""
        happening = tuple(Step(time_ms, action) for action in actions)
        return replace(self, steps=self.steps + happening, now_ms=time_ms)

    def submit(
        self,
        count: int,
        over: int = 0,
        to: int | Sequence[int] | None = None,
        everywhere: bool = False,
    ) -> "Scenario":
        """Clients submit so many transactions, over so many milliseconds, to these nodes."""
        chosen = range(self.nodes) if to is None else (to,) if isinstance(to, int) else to
        load = Load(count, over, tuple(chosen), everywhere)
        return replace(self, steps=(*self.steps, Step(self.now_ms, load)))

    def expect(self, *expectations: Expectation) -> "Scenario":
        """These hold; `within` counts from the time said last."""
        expected = tuple(Step(self.now_ms, expectation) for expectation in expectations)
        return replace(self, steps=self.steps + expected)

    @property
    def actions(self) -> list[tuple[int, Action]]:
        """What happens when, in order of time; at one time in the order of the sentence."""
        found = [
            (step.at_ms, step.what) for step in self.steps if not isinstance(step.what, Expectation)
        ]
        return sorted(found, key=lambda item: item[0])

    @property
    def expectations(self) -> list[tuple[int, Expectation]]:
        """What is expected, with the time it counts from."""
        return [
            (step.at_ms, step.what) for step in self.steps if isinstance(step.what, Expectation)
        ]

    @property
    def joining(self) -> list[int]:
        """The numbers of the nodes that join."""
        return [action.node for _, action in self.actions if isinstance(action, Join)]

    @property
    def has_epochs(self) -> bool:
        """Whether its committee changes."""
        return any(isinstance(action, Join | Leave | Rotate) for _, action in self.actions)

    @property
    def has_l1(self) -> bool:
        """Whether real processes need an L1 for it."""
        return self.has_epochs or any(isinstance(action, L1Stalls) for _, action in self.actions)

    @property
    def worlds(self) -> tuple[str, ...]:
        """Where it can run: `simulated`, `real` or both."""
        actions = [action for _, action in self.actions]
        found = []
        if not any(isinstance(action, REAL_ONLY) for action in actions):
            found.append(SIMULATED)
        if not any(_is_inside(action) for action in actions):
            found.append(REAL)
        return tuple(found)


def _is_inside(action: Action) -> bool:
    """Whether only a simulation reaches the place where this happens."""
    inside_drain = isinstance(action, Crash) and action.point != "now"
    return inside_drain or isinstance(action, SIMULATED_ONLY)
