"""Whole nodes on a simulated L1: ordering, certifying, posting and deriving under faults of all.

Committees change: members are registered, leave and come back, the posters see to the upkeep.

A seed draws what a run is: the network's weather, crashes of nodes and of posters (also between a
save and what it covers, and around every request), and an L1 that stalls, reorganises, becomes
expensive, drops and delays transactions, and is seen through endpoints that lose requests and
answers, lag, and go away. Everything above the L1's seam is what a node runs in production. Then
all heals, and from outside it is checked that

    every committed entry becomes final on the L1 within a bound
    the L1 holds every batch once, in order, and every handover; its committee is who is registered
    nobody calls something posted or final that is not
    the log derived from the L1 alone is the committed log, byte for byte
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from consensus.committee import Committee, Member
from consensus.epochs import EpochChange
from consensus.rules import Rules
from net.simulated import Conditions
from sequencer.settlement import derive as derivation
from sequencer.settlement.blobs import DATA_MODES, Sidecar
from sequencer.settlement.client import SendAnswer
from sequencer.settlement.derive import DerivedLog, PostedLog
from sequencer.settlement.poster_events import PosterSettings
from sequencer.settlement.poster_runner import PosterRunner
from sequencer.settling import Settling
from sequencer.store.seam import StoreError
from testnet.l1.simulated import SimulatedAccount, SimulatedL1
from testnet.l1.simulated_client import ClientFaults, SimulatedBeacon, SimulatedClient
from testnet.simulation.checkers import Violation, require
from testnet.simulation.crypto import StubProver
from testnet.simulation.place import Place
from testnet.simulation.posting import run_sync, stub_signatures
from testnet.simulation.process import Crashed, NodeProcess, shared_decoding
from testnet.simulation.scenario import (
    POINTS,
    Action,
    Crash,
    CrashAll,
    Heal,
    Partition,
    Submit,
    Weather,
)
from testnet.simulation.trace import Trace
from testnet.simulation.world import Setup, World

NODES = 5
FOUNDERS = 4
"""The others follow, until they are elected. No committee is smaller: one member may be dead."""
L1_CHAIN_ID = 1
CONTRACT = bytes(20)
FAULTS_MS = 40_000
BLOCK_MS = 1_000
POLL_MS = 700
"""Not a divisor of the block time: posters see the L1 at every phase."""
HEAL_BLOCKS = 90
"""Bound of progress after healing: what restarts, higher fees and finality take at most ..."""
HEAL_BLOCKS_PER_BATCH = 8
"""... and a batch whose first poster is dead, with its takeover."""
SPIKE_FEES = (1, 10**9, 3 * 10**9, 40 * 10**9, 10**12)


@dataclass(slots=True)
class L1Faults:
    """What a run draws about its L1; `level` is how bad it is, 0 to 1."""

    level: float
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed. `healed_blocks` is how many L1 blocks it took after healing."""

    seed: int
    violation: tuple[str, str] | None
    transactions: int
    batches: int
    epochs: int
    healed_blocks: int
    faults: Counter[str]


class FragileClient(SimulatedClient):
    """An endpoint around whose requests the node may lose its power."""

    def __init__(self, l1: SimulatedL1, random: Random, faults: ClientFaults) -> None:
        super().__init__(l1, random, faults)
        self.crash_chance = 0.0

    def _perhaps_crash(self) -> None:
        if self._random.random() < self.crash_chance:
            raise Crashed("around an L1 request")

    def _request(self) -> None:
        self._perhaps_crash()
        super()._request()

    async def send(self, raw: bytes, sidecar: Sidecar | None = None) -> SendAnswer:
        """As the endpoint does it, with a crash before or after."""
        self._perhaps_crash()
        answer = await super().send(raw, sidecar)
        self._perhaps_crash()
        return answer


class PostingPlace:
    """The production settling and poster of one place, as long as its node's process lives."""

    def __init__(self, run: "SettlementRun", place: Place, random: Random) -> None:
        self._run = run
        self._place = place
        self._random = random
        self._process: object | None = None
        self.faults = ClientFaults()
        self.client = FragileClient(run.l1, random, self.faults)
        self.settling: Settling | None = None
        self.runner: PosterRunner | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the node runs, and this poster belongs to it."""
        return self._place.process is not None and self._place.process is self._process

    def poll(self) -> None:
        """Look at the L1 once, if the node runs; power may fail on the way."""
        process = self._place.process
        if not isinstance(process, NodeProcess):
            return
        pending = self._run.elect()
        if pending is not None and not self.faults.down:
            self._place.see(pending)
        try:
            if self._process is not process:
                self._start(process)
            assert self.runner is not None
            run_sync(self.runner.poll_once())
        except (Crashed, StoreError):
            self._run.faults.counts["poster crashes"] += 1
            self._place.arm("now", 1, self._random.choice((1, 300, 5_000)))
            return
        self._check_claims()
        self._place.poke()

    def _start(self, process: NodeProcess) -> None:
        place, world = self._place, self._run.world
        batcher = process.node.batcher
        assert batcher is not None
        node = process.node
        size = node.committee.size
        self.settling = settling = Settling(batcher, place.disk, world.chain_id, size, node.me)
        told = node.on_epoch

        def on_epoch(change: EpochChange) -> None:
            told(change)
            settling.begin_epoch(node.committee.size, node.me)

        node.on_epoch = on_epoch
        self.runner = self.settling.runner = PosterRunner(
            self.client,
            self.settling,
            SimulatedAccount(self._run.l1, bytes([place.index + 1]) * 20),
            CONTRACT,
            chain_id=world.chain_id,
            committee_index=settling.member,
            committee_size=settling.size,
            clock_ms=lambda: place.instant().monotonic_ms,
            settings=self._run.settings,
            data=self._run.data,
            prover=StubProver(),
        )
        self._process = process

    def _check_claims(self) -> None:
        """Final is what the L1 calls final; posted, after a look at the L1, what stands there."""
        assert self.settling is not None
        assert self.runner is not None
        settling = self.settling
        final = self._run.l1.final().contract.next_number - 1
        require(settling.final <= final, "final", "{} of {}", settling.final, final)
        if self.runner.read_age_ms != 0:
            return
        places = self._run.places()
        for number in range(1, settling.posted + 2):
            described = settling.describe(number)
            if described is None:
                break  # the L1 is ahead of this member's log
            told, there = described["l1_transaction"], places.get(number)
            if number > settling.posted:
                require(told is None, "posted", "batch {} is not, but has {}", number, told)
            elif number > settling.final:
                require(told == there, "posted", "batch {}: {}, not {}", number, told, there)

    def heal(self) -> None:
        """A sound endpoint, and no more crashes."""
        self.client.faults = self.faults = ClientFaults()
        self.client.crash_chance = 0.0

    @property
    def is_done(self) -> bool:
        """Whether everything in this node's log is in batches that are final."""
        process, settling = self._place.process, self.settling
        if not isinstance(process, NodeProcess) or not self.is_alive or settling is None:
            return False
        batcher = process.node.batcher
        assert batcher is not None
        closed = batcher.open_position == process.node.ledger.head.next_position
        return closed and settling.final == batcher.last_closed


class SettlementRun:
    """One seed: four nodes with their posters, an L1, and what happens to them."""

    def __init__(self, seed: int, trace: Trace | None = None) -> None:
        self.seed = seed
        self.random = random = Random(f"settlement {seed}")
        self.faults = L1Faults(random.choice((0.0, random.random(), random.random())))
        self.settings = PosterSettings(
            confirmations=random.choice((1, 2)), answer_timeout_ms=random.choice((2_000, 30_000))
        )
        rules = Rules(
            base_timeout_ms=500,
            max_timeout_ms=4_000,
            idle_heartbeat_ms=5_000,
            batch_max_bytes=random.choice((300, 2_000, 120_000)),
            batch_max_ms=random.choice((300, 3_000)),
            batch_max_blocks=random.choice((2, 500)),
        )
        self.data = random.choice(DATA_MODES)
        founders = tuple(range(FOUNDERS))
        setup = Setup(seed=seed, nodes=NODES, founders=founders, rules=rules, data=self.data)
        self.world = World(setup, trace)
        self.l1 = SimulatedL1(
            Random(f"l1 {seed}"),
            CONTRACT,
            finality_depth=random.choice((4, 4, 8)),
            committee=self.world.committee,
        )
        self.posters = [
            PostingPlace(self, place, Random(f"poster {seed}/{place.index}"))
            for place in self.world.places
        ]
        self._draw()
        clock = self.world.clock
        clock.after(BLOCK_MS, self._mine)
        for index, poster in enumerate(self.posters):
            clock.after(1 + index * POLL_MS // NODES, self._poll, poster)

    # the clockwork

    def _mine(self) -> None:
        self.l1.mine()
        numbers = [batch.number for block in self.l1.chain for batch in block.accepted]
        require(numbers == list(range(1, len(numbers) + 1)), "once", "batches {}", numbers[-3:])
        epochs = [change.committee.epoch for block in self.l1.chain for change in block.handovers]
        require(epochs == list(range(1, len(epochs) + 1)), "once", "handovers {}", epochs[-3:])
        late = self.random.random() < self.faults.level
        self.world.clock.after(BLOCK_MS * (3 if late else 1), self._mine)

    def elect(self) -> Committee | None:
        """What is pending in a final block stays: the world knows the next committee from there."""
        pending, registry = self.l1.final().pending, self.world.registry
        if pending is not None and pending.epoch > registry.newest:
            places = {signer.identity: place for place, signer in enumerate(registry.signers)}
            elected = registry.elect([places[member.identity] for member in pending.members])
            assert elected == pending
        return pending

    def _change_members(self) -> None:
        """Somebody joins or leaves, or all change their places."""
        places = self.random.sample(range(NODES), self.random.choice((FOUNDERS, NODES)))
        signers = [self.world.registry.signers[place] for place in places]
        self.l1.members = tuple(Member(signer.identity, signer.bls_key) for signer in signers)
        self.world.note("L1", f"registered: {places}")

    def _poll(self, poster: PostingPlace) -> None:
        poster.poll()
        self.world.clock.after(POLL_MS, self._poll, poster)

    # what happens

    def _draw(self) -> None:
        random, world = self.random, self.world
        for _ in range(random.choice((5, 20, 60))):
            submit = Submit(random.randrange(NODES), random.choice((1, 3, 10)))
            world.schedule(random.randint(0, FAULTS_MS), submit)
        for at, action in self._node_faults():
            world.schedule(at, action)
        for _ in range(random.choice((0, 1, 3))):
            world.clock.at(random.randint(0, FAULTS_MS), self._change_members)
        for _ in range(int(self.faults.level * random.choice((5, 20, 60)))):
            world.clock.at(random.randint(0, FAULTS_MS), self._break_l1)

    def _node_faults(self) -> list[tuple[int, Action]]:
        random = self.random
        found: list[tuple[int, Action]] = []
        for _ in range(random.choice((0, 2, 8))):
            down_ms = random.choice((1, 300, 6_000))
            crash = Crash(
                random.randrange(NODES), random.choice(POINTS), random.choice((1, 2, 5)), down_ms
            )
            found.append((random.randint(0, FAULTS_MS), crash))
        if random.random() < 0.2:
            found.append((random.randint(0, FAULTS_MS), CrashAll(random.choice((1, 500)))))
        if random.random() < 0.3:
            at = random.randint(0, FAULTS_MS)
            members = random.sample(range(NODES), NODES)
            groups = (tuple(sorted(members[:2])), tuple(sorted(members[2:])))
            found.append((at, Partition(groups)))
            found.append((random.randint(at, FAULTS_MS), Heal()))
        if random.random() < 0.5:
            weather = Conditions(1, random.choice((20, 100, 400)), loss=random.choice((0.0, 0.1)))
            found.append((random.randint(0, FAULTS_MS), Weather(weather)))
        return found

    def _break_l1(self) -> None:
        """One random fault of the L1 or of an endpoint, or the end of one."""
        random, l1, level = self.random, self.l1, self.faults.level
        poster = random.choice(self.posters)
        kinds: dict[str, Callable[[], object]] = {
            "reorg": lambda: l1.reorg(random.randint(1, 7), keep=random.choice((0.0, 0.5, 1.0))),
            "stall": lambda: setattr(l1, "stalled", random.random() < level),
            "spike": lambda: setattr(l1, "base_fee", random.choice(SPIKE_FEES)),
            "blob spike": lambda: setattr(l1, "blob_base_fee", random.choice(SPIKE_FEES)),
            "inclusion": lambda: setattr(l1, "inclusion", random.choice((1.0, 1.0, 0.5, 0.1))),
            "pool lost": l1.lose_pool,
            "lost": lambda: self._lose(poster),
            "lag": lambda: setattr(poster.faults, "lag_blocks", random.choice((0, 1, 2, 6))),
            "down": lambda: setattr(poster.faults, "down", random.random() < level),
            "poster": lambda: setattr(
                poster.client, "crash_chance", random.choice((0.0, 0.02, 0.1)) * level
            ),
        }
        kind = random.choice(sorted(kinds))
        self.faults.counts[kind] += 1
        self.world.note("L1", kind)
        kinds[kind]()

    def _lose(self, poster: PostingPlace) -> None:
        level = self.faults.level
        poster.faults.lose_request = self.random.random() * level / 3
        poster.faults.lose_answer = self.random.random() * level / 3

    def _heal(self) -> None:
        world, l1 = self.world, self.l1
        self.faults.level = 0.0
        l1.stalled, l1.inclusion = False, 1.0
        l1.base_fee = self.random.choice((10**9, 30 * 10**9))
        l1.blob_base_fee = self.random.choice((1, 30 * 10**9))
        for poster in self.posters:
            poster.heal()
        if self.random.random() < 0.3:
            world.places[self.random.randrange(NODES)].remove()
            self.faults.counts["dead for ever"] += 1
        world.note("", "everything heals")
        world.calm()

    # what is checked

    def play(self) -> int:
        """Faults, healing, progress, checks; the L1 blocks it took after healing."""
        world = self.world
        world.run(FAULTS_MS)
        self._heal()
        world.run(FAULTS_MS + 500)
        world.submit(world.live[0], 1)
        start = self.l1.head.block.number
        world.run(world.clock.now + 2 * BLOCK_MS)
        while not (world.is_settled() and self._is_done()):
            mined = self.l1.head.block.number - start
            bound = HEAL_BLOCKS + HEAL_BLOCKS_PER_BATCH * world.log.batches
            require(mined <= bound, "progress", "{} blocks: {}", mined, self._state())
            world.run(world.clock.now + BLOCK_MS)
        self._check_end()
        return self.l1.head.block.number - start

    def _live(self) -> list[PostingPlace]:
        return [self.posters[index] for index in self.world.live]

    def _is_done(self) -> bool:
        head = self.l1.final()
        kept_up = head.committee is not None and head.committee.members == self.l1.members
        return kept_up and all(poster.is_done for poster in self._live())

    def _state(self) -> list[dict[str, Any]]:
        return [poster.settling.status() for poster in self._live() if poster.settling]

    def _check_end(self) -> None:
        derived = self.derive()
        for index in self.world.live:
            ledger = self.world.places[index].node.ledger
            log = ledger.entries(0, ledger.head.next_position)
            require(derived.entries == log, "derivation", "is not the log of member {}", index)
            require(derived.log_root == ledger.head.log_root, "derivation", "root of {}", index)
        places = self.places()
        for poster in self._live():
            assert poster.settling is not None
            for number, tx_hash in places.items():
                described = poster.settling.describe(number) or {}
                told = described.get("l1_transaction")
                require(told in (tx_hash, None), "posted", "batch {}: {}", number, told)

    def places(self) -> dict[int, str]:
        """The transaction that brought each batch, in hex."""
        return {
            batch.number: "0x" + batch.tx_hash.hex()
            for block in self.l1.chain
            for batch in block.accepted
        }

    def derive(self) -> DerivedLog:
        """The log, from the simulated L1 alone."""
        world = self.world
        source = PostedLog(world.chain_id, world.committee, L1_CHAIN_ID, CONTRACT, deploy_block=0)
        client, blobs = SimulatedClient(self.l1, Random(0)), SimulatedBeacon(self.l1)
        return run_sync(derivation.derive(client, source, crypto=world.crypto, blobs=blobs))


def run_seed(seed: int, trace: Trace | None = None) -> Outcome:
    """Run one seed through. A violation is part of the outcome."""
    violation: tuple[str, str] | None = None
    healed = 0
    with shared_decoding(), stub_signatures():
        run = SettlementRun(seed, trace)
        try:
            healed = run.play()
        except Violation as found:
            violation = found.rule, found.text
        except Exception as broken:
            violation = type(broken).__name__, str(broken)
    world = run.world
    faults = world.faults + world.network.counts + run.faults.counts
    log, epochs = world.log, world.registry.newest
    return Outcome(seed, violation, log.transactions, log.batches, epochs, healed, faults)
