"""One vocabulary for what happens to a cluster: in a simulation and with real processes.

Nodes are named by their index in the committee. Times are milliseconds from the start.
"""

from dataclasses import dataclass

from net.simulated import Conditions


@dataclass(frozen=True, slots=True)
class Partition:
    """Only members of the same group reach each other; replaces the partition before."""

    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class OneWay:
    """Nothing from `sender` reaches `receiver`; the way back works."""

    sender: int
    receiver: int


@dataclass(frozen=True, slots=True)
class Heal:
    """Every link works again, at once."""


@dataclass(frozen=True, slots=True)
class Weather:
    """All links behave like this from now on."""

    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Two nodes lose and regain their connection."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Crash:
    """Cut the power of a node: now, or the `count`-th time it comes to `point` of its drain.

    Points: "before save" (the save is lost), "after save" (saved, nothing sent), "send" (between
    two messages); and the disk can fail: "torn save" (the next save is lost and says so), "torn
    save kept" (it says so but is there). It restarts `down_ms` later, if that is given.
    With `at_the_end` it counts from when the last block of its epoch is certified.
    """

    node: int
    point: str = "now"
    count: int = 1
    down_ms: int | None = None
    at_the_end: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Start a node that is down."""

    node: int


@dataclass(frozen=True, slots=True)
class CrashAll:
    """Cut the power of every node, and start all again `down_ms` later."""

    down_ms: int


@dataclass(frozen=True, slots=True)
class Submit:
    """A client hands this many new transactions to a node; `again`, the last ones once more."""

    node: int
    count: int = 1
    again: bool = False


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The wall clock of a node jumps by `by_ms`, back if that is negative."""

    node: int
    by_ms: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """A node stands still for a while (SIGSTOP); what arrives meanwhile is found afterwards."""

    node: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class Elect:
    """These nodes, in this order, become the registry's committee of the next epoch, finally.

    A node sees it `seen_after_ms` later: at once if there is no such number for it, never by
    itself if that is None. `rotated` have new BLS keys in it.
    """

    members: tuple[int, ...]
    seen_after_ms: tuple[int | None, ...] = ()
    rotated: tuple[int, ...] = ()


Action = (
    Partition
    | OneWay
    | Heal
    | Weather
    | Reconnect
    | Crash
    | Restart
    | CrashAll
    | Submit
    | ClockJump
    | Suspend
    | Elect
)

POINTS = ("now", "before save", "after save", "send", "torn save", "torn save kept")
