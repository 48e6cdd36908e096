"""A seed draws what kind of run it is, and what happens when; then a quorum is healed.

Not only the faults are drawn but their distribution: which kinds there are at all, how often, how
the links and clocks are. So runs differ in kind and corners meet that a fixed mixture would never
bring together. After `heal_ms` nothing new breaks, except that faulty members stay faulty and
members drawn to be dead stay dead; everything that a live honest member has made durable must be
in every live honest log within `Plan.progress_bound_ms`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from consensus.rules import Rules
from net.simulated import Conditions
from sequencer.limits import PoolLimits
from testnet.simulation.checkers import Violation
from testnet.simulation.process import shared_decoding
from testnet.simulation.roster import ADVERSARIES
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
from testnet.simulation.trace import Trace
from testnet.simulation.twins import Twins
from testnet.simulation.world import Setup, World

SETTLE_STEP_MS = 250
MAX_ITEMS_OF_A_LIGHT_LOAD = 400
"""Q3, beyond the collections in quotas: usual are a hundred, of a kept flood thousands."""
MAX_PEER_COLLECTIONS = 24
"""Small enough to be reached: an honest member hands out about as many, a liar more."""
FLOODERS = frozenset({"flood", "garbled frames", "mixture"})
"""Whose lies are valid collections, or become ones."""
MAX_DRIFT_PPM = 5_000
NODE_COUNTS = (4, 4, 4, 5, 5, 7, 7, 10)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is: everything about it that is not a draw during the run."""

    seed: int
    nodes: int
    rules: Rules
    weights: tuple[int, ...]
    limits: PoolLimits
    skews_ms: tuple[int, ...]
    drifts_ppm: tuple[int, ...]
    conditions: Conditions
    actions: tuple[tuple[int, Action], ...]
    heal_ms: int
    duration_ms: int
    dead: tuple[int, ...] = ()
    settles: bool = True
    adversary: str | None = None
    faulty: tuple[int, ...] = ()

    @property
    def progress_bound_ms(self) -> int:
        """How long after healing everything may take: timers that had grown, and dead leaders.

        No idle heartbeat is in it: whoever holds work offers it to all when its own timer is over
        (T4), and who is behind is told (E5), so nobody has to wait for one.
        """
        rules = self.rules
        return 4 * rules.max_timeout_ms + 6 * rules.base_timeout_ms + 2_000

    @property
    def kind(self) -> str:
        """What kind of run it is, in a few words."""
        weights = "" if len(set(self.weights)) == 1 else f" of weights {self.weights}"
        return f"n={self.nodes}{weights} {self.adversary or 'honest'} {len(self.actions)} events"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    seed: int
    violation: tuple[str, str] | None
    virtual_ms: int
    settled_ms: int
    """How long after healing the last log was complete."""
    transactions: int
    faults: Counter[str]


def tolerated(weights: Sequence[int]) -> int:
    """How much weight may be faulty."""
    total = sum(weights)
    return total - (2 * total // 3 + 1)


def draw_plan(
    seed: int, nodes: int | None = None, duration_ms: int = 20_000, adversary: str | None = None
) -> Plan:
    """The run that a seed stands for; `nodes` and `adversary` where they are not to be drawn."""
    random = Random(f"plan {seed}")
    count = nodes or random.choice(NODE_COUNTS)
    weights = _draw_weights(Random(f"weights {seed}"), count)
    spare = tolerated(weights)
    most = random.choice((0, 0, 1, count))
    if adversary is not None:
        most = max(1, most)
    elif most:
        adversary = random.choice(sorted(ADVERSARIES))
    members = random.sample(range(count), count)
    faulty = _within(spare, members, weights)[:most]
    spare -= sum(weights[member] for member in faulty)
    dead = _within(spare, [member for member in members if member not in faulty], weights)
    dead = dead[: random.choice((0, 0, count))]
    heal_ms = duration_ms * 3 // 4
    draw = _Draw(random, count, heal_ms)
    skewed = random.random() < 0.5
    clocks = _Clocks(Random(f"clocks {seed}"), count, heal_ms)
    return Plan(
        seed=seed,
        nodes=count,
        rules=_draw_rules(random, adversary in FLOODERS),
        weights=weights,
        limits=PoolLimits(max_peer_collections=MAX_PEER_COLLECTIONS),
        skews_ms=tuple(random.randint(-700, 700) if skewed else 0 for _ in range(count)),
        drifts_ppm=clocks.drifts_ppm(),
        conditions=draw.conditions(),
        actions=tuple(sorted((*draw.actions(), *clocks.actions()), key=lambda item: item[0])),
        heal_ms=heal_ms,
        duration_ms=duration_ms,
        dead=tuple(dead),
        settles=random.random() < 0.5,
        adversary=adversary,
        faulty=tuple(sorted(faulty)),
    )


def _within(budget: int, members: Iterable[int], weights: Sequence[int]) -> list[int]:
    """Members in this order, those left out that would be over the budget of weight."""
    chosen = []
    for member in members:
        if weights[member] <= budget:
            budget -= weights[member]
            chosen.append(member)
    return chosen


def _draw_weights(random: Random, nodes: int) -> tuple[int, ...]:
    """Equal stakes, unequal ones, or one member with just under a third; nobody has more."""
    kind = random.choice(("equal", "equal", "unequal", "giant"))
    if kind == "equal":
        return (1,) * nodes
    weights = [random.randint(1, 9) for _ in range(nodes)]
    if kind == "giant":
        weights[random.randrange(nodes)] = sum(weights)
    while 3 * max(weights) >= sum(weights):
        weights[weights.index(max(weights))] -= 1
    return tuple(weights)


def _draw_rules(random: Random, flooded: bool) -> Rules:
    """Small blocks only where nobody fills them: junk is ordered like anything else."""
    drawn = Rules(
        base_timeout_ms=random.choice((200, 500, 1_000)),
        max_timeout_ms=random.choice((1_000, 4_000)),
        timeout_growth_percent=random.choice((150, 300)),
        free_failures=random.choice((0, 3)),
        idle_heartbeat_ms=random.choice((1_000, 60_000)),
        min_block_interval_ms=random.choice((0, 0, 50)),
        max_block_collections=random.choice((2, 256)),
        duplicate_window_heights=random.choice((8, 20_000)),
        digest_window_heights=random.choice((4, 256)),
        round_window=random.choice((8, 64)),
    )
    return replace(drawn, max_block_collections=256) if flooded else drawn


class _Clocks:
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


class _Draw:
    """Draws the events of one run."""

    def __init__(self, random: Random, nodes: int, until_ms: int) -> None:
        self.random = random
        self.nodes = nodes
        self.until_ms = until_ms

    def conditions(self) -> Conditions:
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


def build_world(plan: Plan, trace: Trace | None = None) -> World:
    """The world a plan starts in, with everything scheduled."""
    shared = ADVERSARIES[plan.adversary](plan.seed) if plan.adversary else None
    twins = isinstance(shared, Twins)
    setup = Setup(
        seed=plan.seed,
        nodes=plan.nodes,
        rules=plan.rules,
        limits=plan.limits,
        weights=plan.weights,
        skews_ms=plan.skews_ms,
        drifts_ppm=plan.drifts_ppm,
        byzantine=dict.fromkeys(plan.faulty, shared.make) if shared and not twins else {},
        twins=plan.faulty if twins else (),
        settles=plan.settles,
    )
    world = World(setup, trace)
    world.network.conditions = plan.conditions
    if shared is not None:
        shared.begin(world)
    for at, action in plan.actions:
        world.schedule(at, action)
    for member in plan.dead:
        world.clock.at(plan.heal_ms, world.places[member].remove)
    return world


def run_plan(plan: Plan, trace: Trace | None = None) -> Outcome:
    """Run it through: faults, healing, progress. A violation is part of the outcome."""
    world: World | None = None
    settled_ms = 0
    violation: tuple[str, str] | None = None
    try:
        world = build_world(plan, trace)
        with shared_decoding():
            settled_ms = _play(plan, world)
    except Violation as found:
        violation = found.rule, found.text
    except Exception as broken:
        violation = type(broken).__name__, _where(broken)
    if world is None:
        return Outcome(plan.seed, violation, 0, 0, 0, Counter())
    faults = world.faults + world.network.counts
    return Outcome(
        plan.seed, violation, world.clock.now, settled_ms, world.log.transactions, faults
    )


def _where(broken: Exception) -> str:
    """The line of the program that failed; what fails in the simulation itself is raised on."""
    traceback = broken.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback is not None
    code = traceback.tb_frame.f_code
    if "simulat" in code.co_filename:
        raise broken
    return f"{code.co_filename.rsplit('/', 2)[-1]}:{traceback.tb_lineno} {code.co_name}: {broken}"


def _play(plan: Plan, world: World) -> int:
    world.run(plan.heal_ms)
    world.note("", "everything heals")
    world.calm()
    world.run(plan.heal_ms + 500)
    for member in world.live:
        world.submit(member, 1)
    deadline = plan.heal_ms + plan.progress_bound_ms
    world.run(plan.heal_ms + 500 + SETTLE_STEP_MS)
    while not world.is_settled():
        if world.clock.now >= deadline:
            missing = world.log.missing(world.live)
            heads = [world.applied_height(member) for member in world.live]
            raise Violation("progress", f"{missing} transactions not ordered, logs at {heads}")
        world.run(world.clock.now + SETTLE_STEP_MS)
    settled_ms = world.clock.now - plan.heal_ms
    world.run(max(world.clock.now, plan.duration_ms))
    _check_memory(plan, world)
    return settled_ms


def _check_memory(plan: Plan, world: World) -> None:
    """Q3: what is ordered makes three windows grow, by what it is; all else has its bound."""
    limit = MAX_ITEMS_OF_A_LIGHT_LOAD + plan.nodes * MAX_PEER_COLLECTIONS
    recent = world.protocol.canonical[-plan.rules.digest_window_heights - 1 :]
    digests = limit + sum(len(block.collections) for block in recent)
    entries = limit + world.log.transactions
    world.check_bounds(limit, {"_ordered": digests, "_committed": digests, "_open": entries})


def shrink(plan: Plan, rule: str, attempts: int = 60) -> Plan:
    """A simpler plan that still breaks the same rule: fewer events, better links, no skew."""

    def fails(candidate: Plan) -> bool:
        outcome = run_plan(candidate)
        return outcome.violation is not None and outcome.violation[0] == rule

    simpler = (
        replace(plan, skews_ms=(0,) * plan.nodes, drifts_ppm=(0,) * plan.nodes),
        replace(plan, dead=()),
    )
    for candidate in simpler:
        attempts -= 1
        if candidate != plan and fails(candidate):
            plan = candidate
    chunk = max(1, len(plan.actions) // 2)
    while chunk and attempts > 0:
        start = 0
        while start < len(plan.actions) and attempts > 0:
            left = plan.actions[:start] + plan.actions[start + chunk :]
            candidate = replace(plan, actions=left)
            attempts -= 1
            if fails(candidate):
                plan = candidate
            else:
                start += chunk
        chunk //= 2
    return plan
