"""Draws how committees follow each other in one run: who, when, and who learns of it how late."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from consensus.rules import Rules
from testnet.simulation.scenario import POINTS, Action, Crash, Elect, Restart

SIZES = (4, 4, 4, 5, 7)
TimedAction = tuple[int, Action]


@dataclass(frozen=True, slots=True)
class Elections:
    """The committees of a run. `blind` nodes see nothing in the registry, `absent` join late.

    `latecomer` joins when all is over, on an empty disk; by then, with `farewell`, everybody who is
    not in the newest committee has gone.
    """

    places: int
    committees: tuple[tuple[int, ...], ...]
    blind: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    latecomer: int | None = None
    farewell: bool = False
    actions: tuple[TimedAction, ...] = ()

    def spare(self, weights: Sequence[int], missing: Iterable[int] = ()) -> list[int]:
        """How much more weight of each committee may be faulty, if these are already."""
        gone = set(missing)
        budgets = []
        for members in self.committees:
            total = sum(weights[place] for place in members)
            lost = sum(weights[place] for place in members if place in gone)
            budgets.append(total - (2 * total // 3 + 1) - lost)
        return budgets

    @property
    def unseeing(self) -> tuple[int, ...]:
        """Who attests nothing while the epochs change."""
        return self.blind if self.latecomer is None else (*self.blind, self.latecomer)

    def has_a_ruler(self, weights: Sequence[int]) -> bool:
        """Whether somebody is a quorum alone: what its clock says is then what all obey."""
        stakes = [[weights[place] for place in members] for members in self.committees]
        return any(3 * max(held) > 2 * sum(held) for held in stakes)

    def fitting(self, rules: Rules, weights: Sequence[int]) -> Rules:
        """Ep2: attestations have to count for as long as it takes until everybody has led."""
        if len(self.committees) == 1:
            return rules
        cycle = max(sum(weights[place] for place in members) for members in self.committees)
        window = max(rules.digest_window_heights, 2 * cycle)
        return replace(rules, digest_window_heights=window)

    def bearable(
        self, places: Iterable[int], weights: Sequence[int], missing: Iterable[int] = ()
    ) -> list[int]:
        """Of these places, in their order, those that no committee would be short of."""
        gone, chosen = list(missing), list[int]()
        for place in places:
            if place not in gone and min(self.spare(weights, [*gone, place])) >= 0:
                chosen.append(place)
                gone.append(place)
        return chosen


def everybody(nodes: int) -> Elections:
    """A run of one epoch, whose committee is all nodes."""
    return Elections(nodes, (tuple(range(nodes)),))


def draw_elections(
    random: Random, nodes: int | None, until_ms: int, weights_of: Sequence[int]
) -> Elections:
    """Committees that overlap by f, f + 1, 2f, 2f + 1, 3f members, or not at all."""
    size = nodes or random.choice(SIZES)
    places = size + random.choice((0, 1, 2, size, size))
    committees = [tuple(random.sample(range(places), size))]
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        committees.append(_successor(random, committees[-1], places))
    drawn = Elections(places, tuple(committees))
    order = random.sample(range(places), places)
    blind = drawn.bearable(order, weights_of)[: random.choice((0, 0, 1, places))]
    outsiders = [place for place in range(places) if place not in committees[0]]
    absent = [place for place in outsiders if random.random() < 0.5]
    latecomer = None
    if absent and random.random() < 0.3 and drawn.bearable(absent[:1], weights_of, blind):
        latecomer = absent[0]
    found = _elect(random, committees, places, blind, until_ms)
    for place in absent:
        if place != latecomer:
            found.append((random.randint(0, until_ms), Restart(place)))
    for _ in range(random.choice((0, 1, 4))):
        found.append((random.randint(0, until_ms), _crash_at_the_end(random, places)))
    if random.random() < 0.3:
        found.append(_long_absence(random, places, until_ms))
    return Elections(
        places,
        tuple(committees),
        tuple(blind),
        tuple(absent),
        latecomer,
        random.random() < 0.5,
        tuple(found),
    )


def _successor(random: Random, before: Sequence[int], places: int) -> tuple[int, ...]:
    """A committee that shares so many members with the one before, in any order."""
    spare = (len(before) - 1) // 3
    stay = random.choice((0, spare, spare + 1, 2 * spare, 2 * spare + 1, 3 * spare, len(before)))
    others = [place for place in range(places) if place not in before]
    size = random.choice((len(before), len(before), 4, 5))
    size = max(4, min(size, stay + len(others)))
    kept = random.sample(list(before), min(size, max(stay, size - len(others))))
    chosen = kept + random.sample(others, size - len(kept))
    if random.random() < 0.5:
        random.shuffle(chosen)
    return tuple(chosen)


def _elect(
    random: Random,
    committees: Sequence[Sequence[int]],
    places: int,
    blind: Sequence[int],
    until_ms: int,
) -> list[TimedAction]:
    found: list[TimedAction] = []
    times = sorted(random.randint(0, until_ms) for _ in committees[1:])
    if random.random() < 0.2:
        times = times[:1] * len(times)
    late_ms = random.choice((0, 300, 3_000, until_ms))
    for at, members in zip(times, committees[1:], strict=True):
        seen = [random.randint(0, min(late_ms, until_ms - at)) for _ in range(places)]
        rotated = [place for place in members if random.random() < 0.3]
        delays = tuple(None if place in blind else ms for place, ms in enumerate(seen))
        found.append((at, Elect(tuple(members), delays, tuple(rotated))))
    return found


def _crash_at_the_end(random: Random, places: int) -> Crash:
    """A node loses power somewhere around the end of the epoch it is in then."""
    count, down_ms = random.randint(1, 12), random.choice((1, 300, 3_000))
    return Crash(random.randrange(places), random.choice(POINTS[1:]), count, down_ms, True)


def _long_absence(random: Random, places: int, until_ms: int) -> TimedAction:
    """A node misses whole epochs."""
    down_ms = random.randint(until_ms // 3, until_ms)
    return random.randint(0, until_ms // 2), Crash(random.randrange(places), "now", 1, down_ms)
