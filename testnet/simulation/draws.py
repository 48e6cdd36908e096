"""Draws from a seed: which faults a run sees, when, and what its clients and clocks do."""

from collections.abc import Callable, Iterable
from random import Random

from net.simulated import Conditions
from testnet.simulation.scenario import (
    POINTS,
    Action,
    ClockJump,
    Crash,
    CrashAll,
    Heal,
    OneWay,
    Partition,
    Reconnect,
    Submit,
    Suspend,
    Weather,
)

MAX_DRIFT_PPM = 5_000


class ClockDraw:
    """Draws what the clocks of one run do, and which processes stand still."""

    def __init__(self, random: Random, nodes: int, until_ms: int) -> None:
        self.random = random
        self.nodes = nodes
        self.until_ms = until_ms

    def drifts_ppm(self) -> tuple[int, ...]:
        """Rates that differ by up to one percent, in half of the runs."""
        most = self.random.choice((0, MAX_DRIFT_PPM))
        return tuple(self.random.randint(-most, most) for _ in range(self.nodes))

    def actions(self) -> list[tuple[int, Action]]:
        """Jumps of one node's Unix clock, and pauses of any."""
        random = self.random
        found: list[tuple[int, Action]] = []
        if random.random() < 0.3:
            jumper = random.randrange(self.nodes)
            for _ in range(random.choice((1, 2, 5))):
                by_ms = random.choice((-1, 1)) * random.choice((1_500, 5_000, 60_000, 300_000))
                found.append((random.randint(0, self.until_ms), ClockJump(jumper, by_ms)))
        if random.random() < 0.3:
            for _ in range(random.choice((1, 3, 10))):
                stopped = Suspend(random.randrange(self.nodes), random.choice((100, 1_000, 5_000)))
                found.append((random.randint(0, self.until_ms), stopped))
        return found


class FaultDraw:
    """Draws the events of one run."""

    def __init__(self, random: Random, nodes: int, until_ms: int) -> None:
        self.random = random
        self.nodes = nodes
        self.until_ms = until_ms

    def conditions(self) -> Conditions:
        """How the links are, for now."""
        random = self.random
        slow = random.choice((5, 20, 100, 400))
        return Conditions(
            min_latency_ms=random.choice((0, slow // 4)),
            max_latency_ms=slow,
            loss=random.choice((0.0, 0.0, 0.02, 0.2, 0.5)),
            duplication=random.choice((0.0, 0.0, 0.1, 0.3)),
            reordering=random.choice((0.0, 0.0, 0.1, 0.5)),
        )

    def actions(self) -> list[tuple[int, Action]]:
        """What clients do, and what goes wrong."""
        random = self.random
        found = self._workload()
        kinds: tuple[Callable[[], list[Action]], ...] = (
            self._crash,
            self._crash_all,
            self._partition,
            self._one_way,
            self._reconnect,
            self._weather,
        )
        for kind in kinds:
            if random.random() < 0.5:
                for _ in range(random.choice((1, 3, 10))):
                    at = random.randint(0, self.until_ms)
                    later = at
                    for action in kind():
                        found.append((later, action))
                        later = random.randint(at, self.until_ms)
        if self.nodes <= 5 and random.random() < 0.1:
            found += self._long_absence()
        return found

    def _long_absence(self) -> list[tuple[int, Action]]:
        """A member misses more blocks than one answer holds (Y1)."""
        random = self.random
        times = range(self.until_ms // 10, self.until_ms, self.until_ms // 140)
        steady: list[tuple[int, Action]] = [
            (at, Submit(random.randrange(self.nodes))) for at in times
        ]
        absent, down_ms = random.randrange(self.nodes), self.until_ms * 4 // 5
        return [*steady, (times.start, Crash(absent, "now", 1, down_ms))]

    def _workload(self) -> list[tuple[int, Action]]:
        random = self.random
        times = [random.randint(0, self.until_ms) for _ in range(random.choice((3, 20, 60)))]
        again = random.choice((0.0, 0.3))
        return [(at, self._submit(again)) for at in times]

    def _submit(self, again: float) -> Submit:
        random = self.random
        count = random.choice((1, 3))
        return Submit(random.randrange(self.nodes), count, random.random() < again)

    def _crash(self) -> list[Action]:
        random = self.random
        point, count = random.choice(POINTS), random.choice((1, 1, 2, 5))
        down_ms = random.choice((1, 300, 3_000))
        return [Crash(random.randrange(self.nodes), point, count, down_ms)]

    def _crash_all(self) -> list[Action]:
        return [CrashAll(self.random.choice((1, 500)))]

    def _partition(self) -> list[Action]:
        random = self.random
        members = random.sample(range(self.nodes), self.nodes)
        cuts = sorted(random.sample(range(1, self.nodes), random.choice((1, 1, 2))))
        groups = [members[a:b] for a, b in zip([0, *cuts], [*cuts, self.nodes], strict=True)]
        return [Partition(tuple(tuple(sorted(group)) for group in groups)), Heal()]

    def _one_way(self) -> list[Action]:
        sender, receiver = self.random.sample(range(self.nodes), 2)
        return [OneWay(sender, receiver), Heal()]

    def _reconnect(self) -> list[Action]:
        first, second = self.random.sample(range(self.nodes), 2)
        return [Reconnect(first, second)]

    def _weather(self) -> list[Action]:
        return [Weather(self.conditions())]


def cut_off_at_the_end(
    random: Random, actions: Iterable[tuple[int, Action]], nodes: int, heal_ms: int
) -> list[tuple[int, Action]]:
    """The last fault: one member is alone, with work of its own; the others do theirs, and rest.

    When the link is good again nobody is told, so what is said to a new link does not help.
    """
    alone = random.randrange(nodes)
    others = tuple(member for member in range(nodes) if member != alone)
    at = heal_ms - 5_000
    kept = [item for item in actions if item[0] < at]
    work = [Submit(alone), Submit(random.choice(others)), Submit(random.choice(others))]
    parting: list[tuple[int, Action]] = [(at + 100 * step, job) for step, job in enumerate(work, 1)]
    return [*kept, (at, Weather(Conditions())), (at, Partition(((alone,), others))), *parting]
