"""A seed draws what kind of run it is, and what happens when; then a quorum is healed.

Not only the faults are drawn but their distribution: which kinds there are at all, how often, how
the links and clocks are. So runs differ in kind and corners meet that a fixed mixture would never
bring together. After `heal_ms` nothing new breaks, except that faulty members stay faulty and
members drawn to be dead stay dead; everything that a live honest member has made durable must be
in every live honest log within `Plan.progress_bound_ms()`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from consensus.rules import Rules
from net.simulated import Conditions
from sequencer.limits import PoolLimits
from testnet.simulation.checkers import Violation
from testnet.simulation.draws import ClockDraw, FaultDraw, cut_off_at_the_end
from testnet.simulation.elections import Elections, draw_elections, everybody
from testnet.simulation.process import shared_decoding
from testnet.simulation.roster import ADVERSARIES, STUFFER
from testnet.simulation.scenario import Action
from testnet.simulation.stuffer import narrow
from testnet.simulation.trace import Trace
from testnet.simulation.twins import Twins
from testnet.simulation.world import Setup, World

SETTLE_STEP_MS = 250
MAX_ITEMS_OF_A_LIGHT_LOAD = 400
"""Q3, beyond the collections in quotas: usual are a hundred, of a kept flood thousands."""
MAX_PEER_COLLECTIONS = 12
"""Small enough to be reached: an honest member hands out about as many, a liar more."""
MAX_SPARED = 100
"""Held for the sake of a few rounds' blocks alone."""
FLOODERS = frozenset({"flood", "garbled frames", "mixture"})
"""Whose lies are valid collections, or become ones."""
NODE_COUNTS = (4, 4, 4, 5, 5, 7, 7, 10)
CHANGING_SHARE = 0.3
"""Of the runs, how many see the committee change."""
MAX_PLACES = 14


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is: everything about it that is not a draw during the run."""

    seed: int
    nodes: int
    elections: Elections
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
    quiet: bool = False
    """Whether no client says anything after healing."""
    adversary: str | None = None
    faulty: tuple[int, ...] = ()

    def progress_bound_ms(self, waiting: int) -> int:
        """How long after healing everything may take: timers that had grown, and dead leaders.

        Where blocks are small, `waiting` transactions are many of them, each with a collection of
        its own; the rounds of faulty leaders, fewer than half, are in a base timeout a block.

        No idle heartbeat is in it: whoever holds work offers it to all when its own timer is over
        (T4), and who is behind is told (E5). Only who has nothing to do and hears nothing has to
        wait for one, which the end of a quiet run allows for.
        """
        rules = self.rules
        once = 5 * rules.max_timeout_ms + 6 * rules.base_timeout_ms + 2_000
        once += waiting // rules.max_block_collections * rules.base_timeout_ms
        return once * len(self.elections.committees)

    @property
    def kind(self) -> str:
        """What kind of run it is, in a few words."""
        weights = "" if len(set(self.weights)) == 1 else f" of weights {self.weights}"
        epochs = len(self.elections.committees)
        changes = f" in {epochs} epochs" if epochs > 1 else ""
        who = self.adversary or "honest"
        return f"n={self.nodes}{changes}{weights} {who} {len(self.actions)} events"


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
    epochs: int = 0
    """How many epochs ended."""


def draw_plan(
    seed: int,
    nodes: int | None = None,
    duration_ms: int = 20_000,
    adversary: str | None = None,
    changing: bool | None = None,
) -> Plan:
    """The run that a seed stands for; the other arguments where they are not to be drawn.

    `nodes` is the size of the first committee, `changing` whether others follow it.
    """
    heal_ms = duration_ms * 3 // 4
    random = Random(f"plan {seed}")
    count = nodes or random.choice(NODE_COUNTS)
    if changing is None:
        changing = Random(f"changing {seed}").random() < CHANGING_SHARE
    if changing:
        elections, weights = _draw_changing(seed, nodes, heal_ms)
    else:
        elections = everybody(count)
        weights = _draw_weights(Random(f"weights {seed}"), count)
    count = elections.places
    most = random.choice((0, 0, 1, count))
    if adversary is not None:
        most = max(1, most)
    elif most:
        adversary = _draw_adversary(seed, random)
    members = random.sample(range(count), count)
    unseeing = elections.unseeing
    faulty = elections.bearable(members, weights, unseeing)[:most]
    dead = elections.bearable(members, weights, (*unseeing, *faulty))
    dead = dead[: random.choice((0, 0, count))]
    draw = FaultDraw(random, count, heal_ms)
    skewed = random.random() < 0.5
    clocks = ClockDraw(Random(f"clocks {seed}"), count, heal_ms)
    conditions = draw.conditions()
    actions = [*draw.actions(), *clocks.actions(), *elections.actions]
    ending = Random(f"ending {seed}")
    quiet = len(elections.committees) == 1 and ending.random() < 0.5
    if quiet and ending.random() < 0.5:
        actions = cut_off_at_the_end(ending, actions, count, heal_ms)
    return Plan(
        seed=seed,
        nodes=count,
        elections=elections,
        rules=elections.fitting(_draw_rules(random, adversary), weights),
        weights=weights,
        limits=PoolLimits(max_peer_collections=MAX_PEER_COLLECTIONS),
        skews_ms=tuple(random.randint(-700, 700) if skewed else 0 for _ in range(count)),
        drifts_ppm=clocks.drifts_ppm(),
        conditions=conditions,
        actions=tuple(sorted(actions, key=lambda item: item[0])),
        heal_ms=heal_ms,
        duration_ms=duration_ms,
        dead=tuple(dead),
        settles=random.random() < 0.5,
        quiet=quiet,
        adversary=adversary,
        faulty=tuple(sorted(faulty)),
    )


def _draw_adversary(seed: int, random: Random) -> str:
    drawn = random.choice(sorted(ADVERSARIES.keys() - {STUFFER}))
    is_stuffer = Random(f"stuffer {seed}").random() < 1 / len(ADVERSARIES)
    return STUFFER if is_stuffer else drawn


def _draw_changing(
    seed: int, nodes: int | None, until_ms: int
) -> tuple[Elections, tuple[int, ...]]:
    """Committees that follow each other, and what everybody weighs: nobody is a quorum alone."""
    for weights in (_draw_weights(Random(f"weights {seed}"), MAX_PLACES), (1,) * MAX_PLACES):
        elections = draw_elections(Random(f"elections {seed}"), nodes, until_ms, weights)
        if not elections.has_a_ruler(weights):
            break
    return elections, weights[: elections.places]


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


def _draw_rules(random: Random, adversary: str | None) -> Rules:
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
    if adversary == STUFFER:
        return narrow(drawn)
    return replace(drawn, max_block_collections=256) if adversary in FLOODERS else drawn


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
        founders=plan.elections.committees[0],
        absent=plan.elections.absent,
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
    changes = world.protocol.epochs.changes
    return Outcome(
        plan.seed, violation, world.clock.now, settled_ms, world.log.transactions, faults, changes
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
    world.calm(plan.elections.latecomer)
    settled_ms = _settle(plan, world)
    if len(plan.elections.committees) > 1:
        _farewell(plan, world)
        _settle(plan, world)
    world.run(max(world.clock.now, plan.duration_ms))
    _check_memory(plan, world)
    return settled_ms


def _settle(plan: Plan, world: World) -> int:
    """How long it takes until all is in every log; unless it is quiet, there is more to order."""
    since = world.clock.now
    bound_ms = plan.progress_bound_ms(world.log.missing(world.live))
    world.run(since + 500)
    if not plan.quiet:
        for member in world.live:
            world.submit(member, 1)
    world.run(since + 500 + SETTLE_STEP_MS)
    _wait(world, world.is_informed, since + bound_ms)
    if plan.quiet:
        bound_ms += plan.rules.idle_heartbeat_ms + plan.rules.max_timeout_ms
    _wait(world, world.is_settled, since + bound_ms)
    return world.clock.now - since


def _wait(world: World, is_done: Callable[[], bool], deadline: int) -> None:
    while not is_done():
        if world.clock.now >= deadline:
            missing = world.log.missing(world.live)
            heads = [(world.applied_height(at), world.epoch(at)) for at in world.live]
            what = f"{missing} transactions not ordered, logs at {heads}"
            raise Violation("progress", f"{what}, still syncing: {world.syncing}")
        world.run(world.clock.now + SETTLE_STEP_MS)


def _farewell(plan: Plan, world: World) -> None:
    """Who is no member any more leaves for good, and the last one joins."""
    elections = plan.elections
    for place in world.places:
        if elections.farewell and place.index not in elections.committees[-1]:
            place.remove()
    if elections.latecomer is not None and elections.latecomer not in plan.dead:
        world.places[elections.latecomer].removed = False
        world.places[elections.latecomer].start()


def _check_memory(plan: Plan, world: World) -> None:
    """Q3: what is ordered makes three windows grow, by what it is; all else has its bound.

    A pool holds what the peers' quotas let in, now and before a restart or two.
    """
    limit = MAX_ITEMS_OF_A_LIGHT_LOAD + plan.nodes * MAX_PEER_COLLECTIONS
    recent = world.protocol.canonical[-plan.rules.digest_window_heights - 1 :]
    digests = limit + sum(len(block.collections) for block in recent)
    others = {
        "_ordered": digests,
        "_committed": digests,
        "_open": limit + world.log.transactions,
        "_spared": MAX_SPARED,
        "_held": 3 * plan.nodes * MAX_PEER_COLLECTIONS + world.submitted,
    }
    world.check_bounds(limit, others)


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
