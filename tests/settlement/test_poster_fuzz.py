"""Several posters on a simulated L1 that does everything an L1 can do, one seed after another.

Every run: faults with safety checked all the time, then everything is healed and all certified
batches have to become final within a bound.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import pytest

from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.poster import MAX_VERSIONS
from sequencer.settlement.poster_events import Final, Notice, Posted, PosterSettings, Unposted
from sequencer.settlement.poster_runner import CertifiedBatch, PosterRunner
from sequencer.settlement.poster_state import decode_state
from sequencer.settlement.schedule import posting_order
from testnet.l1.simulated import SimulatedAccount, SimulatedL1
from testnet.l1.simulated_client import ClientFaults, SimulatedClient
from tests.settlement.committees import committee, sign

CHAIN = b"\x0c" * 32
CONTRACT = b"\x0d" * 20
SETTINGS = PosterSettings(answer_timeout_ms=5_000)
STEPS = 150
BATCHES = 12
HEAL_BLOCKS_PER_BATCH = 14
"""Bound of progress after healing: a takeover by the last of four and its confirmation."""


class Crash(BaseException):
    """The process dies here. Nothing in the poster may catch it."""


def run_sync(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the poster waits for something that is not the L1")


@cache
def batch(number: int, epoch: int = 0) -> CertifiedBatch:
    """Batch `number` of one endless log; only its header means something here."""
    header = BatchHeader(
        chain_id=CHAIN,
        l1_chain_id=1,
        contract=CONTRACT,
        epoch=epoch,
        number=number,
        previous_log_root=bytes(31) + bytes([number - 1]),
        first_position=number - 1,
        last_position=number - 1,
        log_root=bytes(31) + bytes([number]),
        data_hash=bytes(32),
        blob_hashes=bytes(32),
        entry_count=1,
    ).encode()
    return CertifiedBatch(header, bitmap_of([0, 1, 2], 4), signature(), b"data")


@cache
def signature() -> bytes:
    return sign(b"any point of the curve will do", 4, [0])


@dataclass
class Member:
    """A poster that can be crashed and restarted, its disk, and what it was told."""

    index: int
    size: int
    l1: SimulatedL1
    random: Random
    world: "World"
    faults: ClientFaults = field(default_factory=ClientFaults)
    disk: bytes | None = None
    crash_chance: float = 0.0
    alive: bool = True
    heads: dict[int, int] = field(default_factory=dict)
    """The epochs of batches that got new headers."""
    posted: dict[int, bytes] = field(default_factory=dict)
    final: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.alive = True
        self.posted = {}
        self.final = 0
        client = CrashingClient(self)
        account = SimulatedAccount(self.l1, bytes([self.index + 1]) * 20)
        self.runner = PosterRunner(
            client,
            self,
            account,
            CONTRACT,
            chain_id=CHAIN,
            committee_index=self.index,
            committee_size=self.size,
            clock_ms=lambda: self.world.now_ms,
            settings=SETTINGS,
        )

    def poll(self) -> None:
        if not self.alive:
            return
        try:
            run_sync(self.runner.poll_once())
        except Crash:
            self.alive = False

    def maybe_crash(self) -> None:
        if self.random.random() < self.crash_chance:
            raise Crash

    # the port

    def on_contract(self, epoch: int, next_number: int) -> None:
        for number in range(next_number, self.world.last_closed + 1):
            if self.world.epoch >= epoch > self.world.epoch_of(number):
                self.heads[number] = epoch

    def latest_certified(self) -> int:
        return self.world.certified

    def posted_since(self) -> int | None:
        return None

    def header_epoch(self, number: int) -> int | None:
        if number > self.world.last_closed:
            return None
        return max(self.heads.get(number, 0), self.world.epoch_of(number))

    def certified(self, number: int) -> CertifiedBatch | None:
        assert number <= self.world.certified
        return batch(number, self.header_epoch(number) or 0)

    def handover(self, epoch: int) -> CommitCertificate | None:
        return self.world.handovers[epoch] if epoch < self.world.epoch else None

    def save(self, state: bytes) -> None:
        self.maybe_crash()
        self.disk = state
        self.maybe_crash()

    def load(self) -> bytes | None:
        return self.disk

    def notify(self, notice: Notice) -> None:
        if isinstance(notice, Posted):
            self.world.check_posted(notice)
            self.posted[notice.number] = notice.block_hash
        elif isinstance(notice, Unposted):
            self.posted = {n: h for n, h in self.posted.items() if n < notice.number}
        elif isinstance(notice, Final):
            assert notice.number > self.final
            assert self.l1.final().contract.next_number > notice.number
            self.final = notice.number


class CrashingClient(SimulatedClient):
    """May take the process down before and after every request, and checks what is saved."""

    def __init__(self, member: Member) -> None:
        super().__init__(member.l1, member.random, member.faults)
        self._member = member

    def _request(self) -> None:
        self._member.maybe_crash()
        super()._request()

    async def send(self, raw: bytes, sidecar=None):
        flights = decode_state(self._member.disk or b"{}")
        saved = {version.tx_hash for flight in flights for version in flight.versions}
        assert raw in saved, "sent before it was saved"
        self._member.maybe_crash()
        answer = await super().send(raw, sidecar)
        self._member.maybe_crash()
        return answer


@dataclass
class World:
    """Posters and their L1."""

    seed: int
    size: int = 4
    certified: int = 0
    now_ms: int = 0
    closed: int = 0
    """Batches that are closed, where that is more than the certified ones."""
    ends: list[int] = field(default_factory=list)
    """The last batch of each epoch that is over."""
    handovers: list[CommitCertificate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.l1 = SimulatedL1(Random(self.seed + 1), CONTRACT, committee=committee(4, 0))
        self.members = [
            Member(index, self.size, self.l1, Random(self.seed * 100 + index), self)
            for index in range(self.size)
        ]

    @property
    def epoch(self) -> int:
        """The members' epoch, which is at most one ahead of the contract's."""
        return len(self.ends)

    @property
    def last_closed(self) -> int:
        """The newest closed batch."""
        return max(self.closed, self.certified)

    def epoch_of(self, number: int) -> int:
        """The epoch in which a batch was closed."""
        return sum(number > last for last in self.ends)

    def end_epoch(self) -> bool:
        """The members end their epoch, if the next committee is final in the registry."""
        pending = self.l1.final().pending
        if pending is None or pending.epoch != self.epoch + 1:
            return False
        here = self.epoch, self.last_closed, self.last_closed
        signed = bytes(32), pending.digest, b"\x07", signature()
        self.handovers.append(CommitCertificate(*here, *signed))
        self.ends.append(self.last_closed)
        return True

    def check_posted(self, notice: Posted) -> None:
        place = self.l1.chain[notice.block_number]
        assert place.block.block_hash == notice.block_hash
        assert (notice.number, notice.tx_hash) in {(a.number, a.tx_hash) for a in place.accepted}

    def check(self) -> None:
        """Each batch once, none skipped, and nobody floods the L1."""
        numbers = [a.number for block in self.l1.chain for a in block.accepted]
        assert numbers == list(range(1, len(numbers) + 1))
        epochs = [h.committee.epoch for block in self.l1.chain for h in block.handovers]
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(self.l1.pool) <= self.size
        for member in self.members:
            for flight in decode_state(member.disk or b"{}"):
                assert len(flight.versions) <= MAX_VERSIONS

    def tick(self, blocks: float = 1.0) -> None:
        """All members look at the L1 in random order; then it mines, perhaps."""
        self.now_ms += 1_000
        for member in self.random.sample(self.members, len(self.members)):
            member.poll()
        if self.random.random() < blocks:
            self.l1.mine()
        self.check()

    def until_final(self, number: int, bound_blocks: int) -> int:
        """Mine until a batch is final everywhere; the blocks it took."""
        start = self.l1.head.block.number
        while any(member.alive and member.final < number for member in self.members):
            assert self.l1.head.block.number - start <= bound_blocks, "no progress"
            self.tick()
        return self.l1.head.block.number - start

    def heal(self, base_fee: int = 10**9) -> None:
        self.l1.stalled = False
        self.l1.inclusion = 1.0
        self.l1.base_fee = base_fee
        for member in self.members:
            member.faults.__init__()
            member.crash_chance = 0.0
            if not member.alive:
                member.start()


def break_something(world: World, level: float) -> None:
    """One random fault, or the end of one. `level` is how bad this run is."""
    random, l1 = world.random, world.l1
    member = random.choice(world.members)
    kind = random.randrange(10)
    if kind == 0:
        l1.reorg(random.randint(1, 3), keep=random.choice([0.0, 0.5, 1.0]))
    elif kind == 1:
        l1.stalled = random.random() < level / 2
    elif kind == 2:
        l1.base_fee = random.choice([1, 10**9, 3 * 10**9, 40 * 10**9, 10**12])
    elif kind == 3:
        l1.inclusion = random.choice([1.0, 1.0, 0.5, 0.1])
    elif kind == 4:
        l1.lose_pool()
    elif kind == 5:
        member.faults.lose_request = random.random() * level / 3
        member.faults.lose_answer = random.random() * level / 3
    elif kind == 6:
        member.faults.lag_blocks = random.choice([0, 0, 1, 2])
    elif kind == 7:
        member.faults.down = random.random() < level / 2
    elif kind == 8:
        member.crash_chance = random.choice([0.0, 0.02, 0.1]) * level
    elif not member.alive:
        if random.random() < 0.2:
            member.disk = random.choice([None, b"", b"\xff" * 10])  # the hint is lost
        member.start()


@pytest.mark.parametrize("seed", range(80))
def test_every_batch_is_posted_once_and_becomes_final_whatever_happens(seed: int) -> None:
    world = World(seed)
    level = world.random.random()
    for _ in range(STEPS):
        if world.random.random() < level / 2:
            break_something(world, level)
        if world.certified < BATCHES and world.random.random() < 0.2:
            world.certified += 1
        world.tick(blocks=0.7)
    world.certified = BATCHES
    world.heal()
    world.until_final(BATCHES, HEAL_BLOCKS_PER_BATCH * BATCHES)
    for member in world.members:
        canonical = {a.number: a.block_hash for b in world.l1.chain for a in b.accepted}
        assert all(canonical[number] == place for number, place in member.posted.items())


@pytest.mark.parametrize("seed", range(60))
def test_a_lone_survivor_gets_everything_through_by_itself(seed: int) -> None:
    world = World(seed)
    survivor = world.members.pop(seed % world.size)
    world.members = [survivor]
    level = world.random.random()
    for _ in range(STEPS):
        if world.random.random() < level / 2:
            break_something(world, level)
        if world.certified < BATCHES and world.random.random() < 0.2:
            world.certified += 1
        world.tick(blocks=0.7)
    world.certified = BATCHES
    world.heal(base_fee=world.random.choice([10**9, 30 * 10**9]))
    world.until_final(BATCHES, HEAL_BLOCKS_PER_BATCH * BATCHES)
    assert decode_state(survivor.disk or b"") == []


@pytest.mark.parametrize("seed", range(5))
def test_without_faults_nothing_is_wasted_and_a_batch_takes_a_block(seed: int) -> None:
    world = World(seed)
    for _ in range(BATCHES):
        world.certified += 1
        world.tick()
    world.until_final(BATCHES, 10)
    assert world.l1.wasted == []
    assert sum(len(block.transactions) for block in world.l1.chain) == BATCHES


@pytest.mark.parametrize("dead", range(4))
def test_the_next_rank_takes_over_within_its_bound(dead: int) -> None:
    world = World(seed=7)
    order = posting_order(CHAIN, 1, world.size)
    for index in order[:dead]:
        world.members[index].alive = False
    world.certified = 1
    start = world.l1.head.block.number
    while world.l1.head.contract.next_number == 1:
        assert world.l1.head.block.number - start <= dead * SETTINGS.takeover_blocks + 2
        world.tick()
    assert world.l1.head.block.number - start == dead * SETTINGS.takeover_blocks + 1
    sender = next(tx.sender for b in world.l1.chain for tx, _ in b.transactions)
    assert sender == bytes([order[dead] + 1]) * 20


def test_a_poster_whose_endpoint_dies_with_its_transaction_in_flight_is_taken_over() -> None:
    world = World(seed=3)
    first = world.members[posting_order(CHAIN, 1, world.size)[0]]
    world.certified = 1
    world.l1.inclusion = 0.0
    first.poll()
    assert len(world.l1.pool) == 1
    first.faults.down = True
    world.l1.lose_pool()
    world.l1.inclusion = 1.0
    while world.l1.head.contract.next_number == 1:
        world.tick()
        assert world.l1.head.block.number <= SETTINGS.takeover_blocks + 2
    first.faults.down = False
    world.until_final(1, 10)
    world.tick()
    assert world.l1.wasted == []
    assert decode_state(first.disk or b"") == []


def test_an_overtaken_transaction_is_cancelled_by_an_empty_one() -> None:
    world = World(seed=3)
    order = posting_order(CHAIN, 1, world.size)
    first = world.members[order[0]]
    world.certified = 1
    world.l1.inclusion = 0.0
    first.poll()
    (stuck,) = world.l1.pool.values()
    world.l1.lose_pool()  # an outsider posts the same certificate
    world.l1.inclusion = 1.0
    outsider = SimulatedAccount(world.l1, b"\x99" * 20)
    world.l1.receive(
        world.l1.known[
            outsider.sign(
                nonce=0, to=CONTRACT, data=stuck.data, gas=stuck.gas, fees=stuck.fees
            ).tx_hash
        ]
    )
    world.l1.mine()
    world.l1.receive(stuck)
    first.poll()
    (waiting,) = world.l1.pool.values()
    assert (waiting.nonce, waiting.data, waiting.to) == (stuck.nonce, b"", first_address(first))
    world.l1.mine()
    first.poll()
    assert world.l1.wasted == []
    assert decode_state(first.disk or b"") == []


def first_address(member: Member) -> bytes:
    return bytes([member.index + 1]) * 20
