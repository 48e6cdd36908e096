"""Batches across epochs: who signs which, what happens when the contract moves on, who asks."""

import itertools
from dataclasses import replace
from random import Random

import pytest

from consensus.codec import u64
from consensus.committee import Committee, Member
from consensus.errors import InvalidMessage
from consensus.rules import Rules
from sequencer.batch_votes import Seat
from sequencer.batcher import WINDOW, Batcher, Binding
from sequencer.messages import BatchCertificate, BatchRequest, BatchVote
from sequencer.settlement.batch import BatchHeader, LogEntry, next_log_root
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import WriteBatch
from sequencer.stored_batch import StoredBatch, put_batches
from testnet.simulation.crypto import StubCrypto, StubSigner

CHAIN = b"c" * 32
BINDING = Binding(CHAIN, 31337, b"a" * 20)
SIGNERS = [StubSigner(bytes([i])) for i in range(6)]
RULES = Rules(batch_max_ms=1_000, batch_max_blocks=10, base_timeout_ms=1_000)


def committee(epoch: int, *nodes: int) -> Committee:
    members = (Member(SIGNERS[node].identity, SIGNERS[node].bls_key) for node in nodes)
    return Committee(epoch, tuple(members))


COMMITTEES = [
    committee(0, 0, 1, 2, 3),
    committee(1, 4, 3, 2, 1),
    committee(2, 5, 4, 3, 2),
]
FOLLOWER = 5
"""A member of the last epoch alone."""


class Place:
    """One node: what is on its disk, and a batcher as long as it runs."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.store = MemoryStore(CHAIN)
        self.epoch = 0
        self.entries: list[LogEntry] = []
        self.root = bytes(32)
        self.batcher = self.open()

    def seat(self, epoch: int) -> Seat | None:
        if epoch > self.epoch:
            return None
        return Seat.of(COMMITTEES[epoch], SIGNERS[self.node].identity, self._signer)

    def _signer(self, member: Member) -> StubSigner:
        return SIGNERS[self.node]

    def open(self) -> Batcher:
        """Start, from what is on the disk."""
        seat = self.seat(self.epoch)
        assert seat is not None
        batcher = Batcher(
            *(BINDING, seat.committee, seat.me, RULES, StubCrypto(), seat.signer, self.store),
            seat_of=self.seat,
        )
        batcher.resume(self.entries[batcher.open_position :], self.root)
        return batcher

    def restart(self) -> None:
        """Whatever was not saved is gone."""
        self.batcher = self.open()

    def block(self, height: int, timestamp_ms: int, *transactions: bytes) -> None:
        entries = [LogEntry(height, timestamp_ms, 7, data) for data in transactions]
        for entry in entries:
            self.root = next_log_root(self.root, entry)
        self.entries += entries
        self.batcher.on_block(height, timestamp_ms, entries, self.root, 0)

    def next_epoch(self) -> None:
        """The epoch's last block was the newest."""
        self.batcher.close_epoch(0)
        self.epoch += 1
        seat = self.seat(self.epoch)
        assert seat is not None
        self.batcher.begin_epoch(seat.committee, seat.me, seat.signer)

    def header(self, number: int) -> BatchHeader:
        batch = self.batcher.batch(number)
        assert batch is not None
        return BatchHeader.decode(batch.header)

    def certified_by(self, number: int) -> int | None:
        """The epoch of the certificate, which is checked; None while there is none."""
        batch = self.batcher.batch(number)
        assert batch is not None
        if not batch.certified:
            return None
        epoch = self.header(number).epoch
        certificate = BatchCertificate(number, batch.header, batch.signers, batch.signature)
        self.batcher._votes.check(certificate, COMMITTEES[epoch])
        return epoch


class World:
    """Places that apply the same log, and a network that carries what they say."""

    def __init__(self, *nodes: int) -> None:
        self.places = {node: Place(node) for node in nodes}
        self.heights = itertools.count(1)

    def batch(self, payload: bytes = b"x") -> None:
        """Two blocks that close a batch."""
        for step, transactions in enumerate(([payload], [])):
            height = next(self.heights)
            for place in self.places.values():
                place.block(height, 10_000 * height + step, *transactions)

    def next_epoch(self) -> None:
        for place in self.places.values():
            place.next_epoch()

    def contract(self, epoch: int, next_number: int) -> None:
        """Everybody looks at the L1."""
        for place in self.places.values():
            place.batcher.on_contract_epoch(epoch, next_number)

    def exchange(self, now: int = 0) -> None:
        """Deliver everything said, and what is said to that."""
        while self._round(now):
            pass

    def _round(self, now: int) -> bool:
        said = False
        for node, place in self.places.items():
            ready = place.batcher.take()
            writes = WriteBatch()
            put_batches(writes, ready.save)
            place.store.save(writes)
            for vote in ready.broadcast:
                said = True
                self._hear(node, vote, now)
            for number in ready.requests:
                said = True
                for other in self.places.values():
                    if other is not place:
                        other.batcher.on_request(node, BatchRequest(number).number, now)
            for to, certificate in ready.answers:
                said = True
                self.places[to].batcher.on_certificate(certificate)
        return said

    def _hear(self, node: int, vote: BatchVote, now: int) -> None:
        for other in self.places.values():
            seat = other.seat(vote.epoch)
            if other.node == node or seat is None:
                continue
            # what the node checks before
            assert seat.committee.members[vote.voter].identity == SIGNERS[node].identity
            other.batcher.on_vote(node, vote, now)

    def tick(self, now: int) -> None:
        for place in self.places.values():
            place.batcher.tick(now)
        self.exchange(now)


def heads(world: World, number: int) -> set[int]:
    return {place.header(number).epoch for place in world.places.values()}


def certificates(world: World, number: int) -> set[int | None]:
    return {place.certified_by(number) for place in world.places.values()}


def test_the_last_block_of_an_epoch_closes_the_open_batch() -> None:
    world = World(0, 1, 2, 3)
    for place in world.places.values():
        place.block(1, 1_000, b"open")
        place.batcher.close_epoch(0)
        assert place.batcher.last_closed == 1
        place.batcher.close_epoch(0)
        assert place.batcher.last_closed == 1
    world.exchange()
    assert certificates(world, 1) == {0}


def test_a_batch_belongs_to_the_epoch_it_was_closed_in() -> None:
    world = World(0, 1, 2, 3, 4)
    world.batch()
    world.next_epoch()
    world.batch()
    assert (heads(world, 1), heads(world, 2)) == ({0}, {1})
    world.tick(5_000)
    assert (certificates(world, 1), certificates(world, 2)) == ({0}, {1})


def test_who_has_left_still_signs_the_batches_of_its_epoch() -> None:
    world = World(0, 1, 2, 3)
    del world.places[3]
    world.batch()
    world.places[0].batcher.take()  # the votes of the first are lost
    world.next_epoch()
    world.tick(5_000)
    assert certificates(world, 1) == {0}


def test_who_has_no_vote_asks_for_the_certificate() -> None:
    world = World(0, 1, 2, 3, FOLLOWER)
    world.batch()
    follower = world.places.pop(FOLLOWER)
    world.exchange()
    world.places[FOLLOWER] = follower
    assert follower.certified_by(1) is None
    assert follower.batcher.deadline is not None
    world.tick(follower.batcher.deadline)
    assert follower.certified_by(1) == 0
    assert follower.batcher.deadline is None


def test_who_has_no_vote_counts_those_it_hears() -> None:
    world = World(0, 1, 2, 3, FOLLOWER)
    world.batch()
    world.exchange()
    assert world.places[FOLLOWER].certified_by(1) == 0


def test_a_request_for_what_is_not_certified_is_not_answered() -> None:
    world = World(0, 1)
    world.batch()
    batcher = world.places[0].batcher
    batcher.take()
    for number in (0, 1, 2, 2**64 - 1):
        batcher.on_request(1, number, 0)
    assert not batcher.take().answers


def test_the_contracts_next_epoch_gives_unposted_batches_new_heads() -> None:
    world = World(0, 1, 2, 3, 4)
    for _ in range(3):
        world.batch()
    world.exchange()
    world.next_epoch()
    before = world.places[1].header(3)
    world.contract(1, next_number=2)
    world.exchange()
    assert [heads(world, number) for number in (1, 2, 3)] == [{0}, {1}, {1}]
    assert replace(world.places[1].header(3), epoch=0) == before
    assert certificates(world, 1) == {0}
    world.tick(5_000)  # member 0 has left, and asks
    assert certificates(world, 2) == certificates(world, 3) == {1}


def test_a_member_that_is_behind_gives_new_heads_when_it_gets_there() -> None:
    world = World(1, 2, 3, 4)
    world.batch()
    world.contract(1, next_number=1)
    assert heads(world, 1) == {0}
    world.next_epoch()
    assert heads(world, 1) == {1}
    world.exchange()
    assert certificates(world, 1) == {1}


def test_a_batch_closed_behind_the_contract_gets_its_head_at_once() -> None:
    world = World(1, 2, 3, 4)
    world.contract(1, next_number=1)
    world.batch()
    world.next_epoch()
    world.exchange()
    assert certificates(world, 1) == {1}


def test_new_heads_are_given_once() -> None:
    world = World(1, 2, 3, 4)
    world.batch()
    world.next_epoch()
    world.contract(1, next_number=1)
    world.exchange()
    world.contract(1, next_number=1)
    assert not world.places[1].batcher.take().save
    assert certificates(world, 1) == {1}


@pytest.mark.parametrize("saved", [False, True])
def test_a_crash_around_the_new_head_costs_nothing(saved: bool) -> None:
    world = World(1, 2, 3, 4)
    world.batch()
    world.exchange()
    world.next_epoch()
    world.contract(1, next_number=1)
    for place in world.places.values():
        ready = place.batcher.take()
        if saved:
            writes = WriteBatch()
            put_batches(writes, ready.save)
            place.store.save(writes)
        place.restart()
    world.contract(1, next_number=1)
    world.tick(5_000)
    assert certificates(world, 1) == {1}


def test_a_crash_between_the_epochs_last_block_and_its_votes_loses_no_batch() -> None:
    world = World(1, 2, 3, 4)
    for place in world.places.values():
        place.block(1, 1_000, b"open")
        place.next_epoch()
        writes = WriteBatch()
        put_batches(writes, place.batcher.take().save)
        place.store.save(writes)
        place.restart()
    world.tick(5_000)
    # member 0 of that epoch is gone, the three others are a quorum
    assert certificates(world, 1) == {0}


def test_a_batch_posted_under_its_old_head_after_all_is_certified_again() -> None:
    """The L1 was reorganised: the batch is taken, by the certificate that this node gave up."""
    world = World(0, 1, 2, 3)
    world.batch()
    world.exchange()
    world.next_epoch()
    alone = world.places[1]
    alone.batcher.on_contract_epoch(1, next_number=1)
    world.exchange()
    assert alone.certified_by(1) is None
    alone.batcher.on_contract_epoch(1, next_number=2)
    world.tick(5_000)
    assert alone.certified_by(1) == 0


def test_an_old_certificate_does_not_take_the_place_of_one_that_can_be_posted() -> None:
    world = World(0, 1, 2, 3)
    world.batch()
    world.exchange()
    old = world.places[0].batcher.batch(1)
    assert old is not None
    world.next_epoch()
    alone = world.places[1].batcher
    alone.on_contract_epoch(1, next_number=1)
    alone.on_certificate(BatchCertificate(1, old.header, old.signers, old.signature))
    assert world.places[1].certified_by(1) is None


def test_a_certificate_for_other_bytes_is_not_taken() -> None:
    world = World(0, 1, 2, 3, FOLLOWER)
    world.batch()
    follower = world.places[FOLLOWER].batcher
    del world.places[FOLLOWER]
    world.exchange()
    batch = world.places[0].batcher.batch(1)
    assert batch is not None
    other = replace(BatchHeader.decode(batch.header), data_hash=bytes(32)).encode()
    follower.on_certificate(BatchCertificate(1, other, batch.signers, batch.signature))
    assert follower.deadline is not None  # it goes on asking
    with pytest.raises(InvalidMessage, match="header"):
        follower.on_certificate(BatchCertificate(1, b"short", batch.signers, batch.signature))


def test_a_long_backlog_gets_its_heads_window_by_window_also_after_a_restart() -> None:
    """More than a window of certified batches stand behind those that wait for a new head."""
    world = World(1, 2, 3)
    place = world.places[1]
    world.batch()
    world.exchange()
    first = place.batcher.batch(1)
    assert first is not None
    writes = WriteBatch()
    count = 2 * WINDOW + 10
    for number in range(2, count + 1):
        header = replace(BatchHeader.decode(first.header), number=number).encode()
        stored = StoredBatch(header, b"data", first.signers, first.signature)
        writes.put(Table.BATCHES, u64(number), stored.encode())
    place.store.save(writes)
    place.epoch = 1
    place.restart()
    place.batcher.on_contract_epoch(1, next_number=1)
    writes = WriteBatch()
    put_batches(writes, place.batcher.take().save)
    place.store.save(writes)
    place.restart()
    assert place.batcher.deadline is None
    place.batcher.on_contract_epoch(1, next_number=1)
    assert len(place.batcher._uncertified) == WINDOW
    place.batcher.on_contract_epoch(1, next_number=20)
    assert [number for number, _ in place.batcher.take().save] == list(range(257, 276))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_every_batch_ends_with_a_certificate_that_the_contract_takes(
    seed: int,
) -> None:
    """Members at different points of the log, with different views of an L1 that goes back and
    forth, and crashes anywhere; then all see the same."""
    random = Random(seed)
    world = World(*range(6))
    script = [random.choice(("batch", "batch", "epoch")) for _ in range(12)]
    while script.count("epoch") > 2:
        script.remove("epoch")
    reached = dict.fromkeys(world.places, 0)
    now = 0
    while min(reached.values()) < len(script):
        now += random.choice((0, 400, 3_000))
        node = random.choice(list(world.places))
        place = world.places[node]
        act = random.choice(("log", "log", "L1", "crash", "say"))
        if act == "log" and reached[node] < len(script):
            _apply(place, script[reached[node]], reached[node])
            reached[node] += 1
        elif act == "L1":
            place.batcher.on_contract_epoch(
                random.randint(0, 2), random.randint(1, place.batcher.last_closed + 2)
            )
        elif act == "crash":
            _save(place)
            if random.random() < 0.5:
                place.batcher.take()
            place.restart()
        else:
            world.tick(now)
        _save(place, lose=random.random() < 0.3)
    epochs = script.count("epoch")
    batches = world.places[0].batcher.last_closed
    posted = random.randint(0, batches)
    world.contract(epochs, next_number=posted + 1)
    for _ in range(batches + 4):
        now += 1_000
        world.tick(now)
    for number in range(1, batches + 1):
        found = certificates(world, number)
        assert None not in found
        if number > posted:
            assert found == {epochs}


def _apply(place: Place, what: str, step: int) -> None:
    place.block(2 * step + 1, 10_000 * step, b"%d" % step)
    if what == "epoch":
        place.next_epoch()
    else:
        place.block(2 * step + 2, 10_000 * step + 5_000)


def _save(place: Place, lose: bool = False) -> None:
    """A drain, of which the messages may be lost."""
    ready = place.batcher.take()
    writes = WriteBatch()
    put_batches(writes, ready.save)
    place.store.save(writes)
    if not lose:
        place.batcher._ready.broadcast = ready.broadcast
        place.batcher._ready.answers = ready.answers
