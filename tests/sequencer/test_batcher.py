"""Batches close the same everywhere, and get exactly one certificate each."""

import itertools
from collections.abc import Iterator

import pytest

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.committee import Committee, Member
from consensus.errors import InvalidMessage
from consensus.rules import Rules
from sequencer.batcher import WINDOW, Batcher, Binding
from sequencer.messages import BatchCertificate, BatchVote
from sequencer.settlement.batch import (
    BatchHeader,
    LogEntry,
    decode_batch,
    next_log_root,
)
from sequencer.store.memory import MemoryStore
from sequencer.store.seam import WriteBatch
from sequencer.stored_batch import StoredBatch, put_batches

CHAIN = b"c" * 32
BINDING = Binding(CHAIN, 31337, b"a" * 20)
SIGNERS = [KeySigner(new_bls_secret(bytes([i] * 32)), bytes([i] * 32)) for i in range(4)]
COMMITTEE = Committee(0, tuple(Member(s.identity, s.bls_key) for s in SIGNERS))
RULES = Rules(batch_max_ms=1_000, batch_max_blocks=10, batch_max_bytes=101_000)
CRYPTO = BlsCrypto()


class World:
    """Four batchers on four stores, fed with the same blocks."""

    def __init__(self, rules: Rules = RULES, binding: Binding = BINDING) -> None:
        self.rules = rules
        self.binding = binding
        self.stores = [MemoryStore(CHAIN) for _ in SIGNERS]
        self.batchers = [self.open(i) for i in range(4)]
        self.entries: list[LogEntry] = []
        self.root = bytes(32)
        self.heights = itertools.count(1)

    def open(self, member: int) -> Batcher:
        store = self.stores[member]
        return Batcher(self.binding, COMMITTEE, member, self.rules, CRYPTO, SIGNERS[member], store)

    def block(self, timestamp_ms: int, *transactions: bytes) -> None:
        height = next(self.heights)
        entries = [LogEntry(height, timestamp_ms, 7, data) for data in transactions]
        for entry in entries:
            self.root = next_log_root(self.root, entry)
        self.entries += entries
        for batcher in self.batchers:
            batcher.on_block(height, timestamp_ms, entries, self.root, 0)

    def votes(self) -> Iterator[tuple[int, BatchVote]]:
        """Save what every batcher decided; its votes."""
        for member, batcher in enumerate(self.batchers):
            ready = batcher.take()
            writes = WriteBatch()
            put_batches(writes, ready.save)
            self.stores[member].save(writes)
            for vote in ready.broadcast:
                yield member, vote

    def save(self) -> None:
        """What a drain does; the votes are lost."""
        for _ in self.votes():
            pass

    def exchange(self) -> None:
        for sender, vote in list(self.votes()):
            for member, batcher in enumerate(self.batchers):
                if member != sender:
                    batcher.on_vote(sender, vote, 0)
        self.save()

    def headers(self, member: int = 0) -> list[BatchHeader]:
        found = []
        for number in range(1, self.batchers[member].last_closed + 1):
            batch = self.batchers[member].batch(number)
            assert batch is not None
            found.append(BatchHeader.decode(batch.header))
        return found


def test_a_batch_closes_with_the_block_that_makes_it_old() -> None:
    world = World()
    world.block(1_000, b"first")
    assert world.batchers[0].block_wanted_at() == 2_000
    world.block(1_999, b"second")
    assert world.batchers[0].last_closed == 0
    world.block(2_000)
    assert world.batchers[0].last_closed == 1
    assert world.batchers[0].block_wanted_at() is None


def test_a_batch_closes_after_so_many_blocks() -> None:
    world = World()
    for step in range(10):
        world.block(1_000 + step, b"x%d" % step)
    assert world.batchers[0].last_closed == 0
    world.block(1_010)
    assert world.batchers[0].last_closed == 1


def test_an_empty_log_closes_nothing() -> None:
    world = World()
    for step in range(30):
        world.block(1_000 * step)
    assert world.batchers[0].last_closed == 0


def test_a_batch_ends_inside_a_block_before_the_entry_that_does_not_fit() -> None:
    world = World()
    world.block(1_000, *(bytes([i]) * 40_000 for i in range(6)))
    headers = world.headers()
    assert [(h.first_position, h.last_position) for h in headers] == [(0, 1), (2, 3)]
    world.block(3_000)
    assert world.headers()[-1].log_root == world.root


def test_all_members_close_the_same_chain_of_batches() -> None:
    world = World()
    for step in range(40):
        world.block(1_000 + 100 * step, *(b"%d-%d" % (step, i) * 50 for i in range(step % 4)))
    world.exchange()
    assert world.headers(0) == world.headers(1) == world.headers(2) == world.headers(3)
    root = bytes(32)
    position = 0
    for header in world.headers():
        assert header.previous_log_root == root
        assert header.first_position == position
        root, position = header.log_root, header.last_position + 1


def test_the_bytes_of_all_batches_are_the_log() -> None:
    world = World()
    for step in range(40):
        world.block(1_000 + 100 * step, *(b"%d-%d" % (step, i) for i in range(3)))
    world.exchange()
    carried: list[LogEntry] = []
    for number in range(1, world.batchers[0].last_closed + 1):
        batch = world.batchers[0].batch(number)
        assert batch is not None
        carried += decode_batch(batch.data)
    assert carried == world.entries[: len(carried)]
    assert len(carried) > 90


def closed_world() -> World:
    world = World()
    world.block(1_000, b"payload")
    world.block(2_000)
    return world


def test_a_quorum_of_votes_is_a_certificate_that_verifies() -> None:
    world = closed_world()
    world.exchange()
    batch = world.batchers[0].batch(1)
    assert batch is not None
    assert batch.certified
    keys = [m.bls_key for i, m in enumerate(COMMITTEE.members) if batch.signers[0] >> i & 1]
    assert len(keys) >= COMMITTEE.quorum_weight
    assert CRYPTO.verify_aggregate(keys, batch.header, batch.signature)


def test_less_than_a_quorum_is_none() -> None:
    world = closed_world()
    votes = dict(world.votes())
    world.batchers[0].on_vote(1, votes[1], 0)
    batch = world.batchers[0].batch(1)
    assert batch is not None
    assert not batch.certified


def test_a_forged_vote_does_not_keep_the_honest_ones_from_certifying() -> None:
    world = closed_world()
    votes = dict(world.votes())
    forged = BatchVote(1, 0, votes[1].header_hash, 1, SIGNERS[1].sign(b"something else"))
    world.batchers[0].on_vote(1, forged, 0)
    world.batchers[0].on_vote(2, votes[2], 0)
    world.batchers[0].on_vote(3, votes[3], 0)
    world.save()
    batch = world.batchers[0].batch(1)
    assert batch is not None
    assert batch.certified
    assert batch.signers == bytes([0b1101])


def test_a_vote_of_a_member_that_does_not_exist_is_refused() -> None:
    world = closed_world()
    with pytest.raises(InvalidMessage, match="does not exist"):
        world.batchers[0].on_vote(2, BatchVote(1, 0, bytes(32), 4, b""), 0)


def test_votes_far_ahead_are_not_kept() -> None:
    world = closed_world()
    batcher = world.batchers[0]
    for number in range(2 + WINDOW, 2 + 5 * WINDOW):
        batcher.on_vote(1, BatchVote(number, 0, bytes(32), 1, b""), 0)
    assert batcher._votes.numbers() == [1]


def test_a_member_that_was_away_is_answered_with_the_certificate() -> None:
    world = closed_world()
    votes = list(world.votes())
    for sender, vote in votes:
        for member in range(3):
            if member != sender:
                world.batchers[member].on_vote(sender, vote, 0)
    world.save()
    world.batchers[0].on_vote(3, dict(votes)[3], 0)
    answers = world.batchers[0].take().answers
    assert [member for member, _ in answers] == [3]
    world.batchers[3].on_certificate(answers[0][1])
    world.save()
    batch = world.batchers[3].batch(1)
    assert batch is not None
    assert batch.certified


def test_a_certificate_without_a_quorum_or_with_a_bad_signature_is_refused() -> None:
    world = closed_world()
    votes = dict(world.votes())
    batch = world.batchers[3].batch(1)
    assert batch is not None
    two = CRYPTO.aggregate([votes[0].signature, votes[1].signature])
    assert two is not None
    for signers, signature in ((b"\x03", two), (b"\x07", two), (b"\xf0", two), (b"", two)):
        certificate = BatchCertificate(1, batch.header, signers, signature)
        with pytest.raises(InvalidMessage, match="certificate"):
            world.batchers[3].on_certificate(certificate)


def test_votes_are_repeated_until_there_is_a_certificate() -> None:
    world = closed_world()
    lost = dict(world.votes())
    batcher = world.batchers[0]
    assert batcher.deadline is not None
    batcher.tick(batcher.deadline)
    assert batcher.take().broadcast == [lost[0]]
    world.exchange()
    for sender in (1, 2):
        batcher.on_vote(sender, lost[sender], 0)
    assert batcher.deadline is None


def test_a_restart_goes_on_where_the_disk_says() -> None:
    world = closed_world()
    world.exchange()
    world.block(2_100, b"after")
    reopened = world.open(0)
    reopened.resume(world.entries[reopened.open_position :], world.root)
    world.batchers[0] = reopened
    world.block(3_200, b"more")
    world.exchange()
    assert world.headers(0) == world.headers(1)
    assert world.headers(0)[-1].log_root == world.root


def test_a_restart_before_the_certificate_votes_again() -> None:
    world = closed_world()
    world.save()
    reopened = world.open(0)
    assert reopened.deadline is not None
    reopened.tick(10_000)
    assert [vote.number for vote in reopened.take().broadcast] == [1]


def test_a_stored_batch_survives_its_encoding() -> None:
    batch = StoredBatch(b"header", b"data", b"\x07", b"s" * 96)
    assert StoredBatch.decode(batch.encode()) == batch


def test_of_who_was_answered_and_left_nothing_is_remembered() -> None:
    world = World()
    world.block(1_000, b"first")
    world.block(2_000)
    world.exchange()
    batcher = world.batchers[0]
    for guest in range(2_000, 2_100):
        batcher.on_request(guest, 1, 0)
        batcher.forget(guest)
        batcher.forget(guest)
    assert len(batcher.take().answers) >= 100
    assert set(batcher._answered) <= set(range(4))
    batcher.on_request(2_100, 1, 0)
    batcher.begin_epoch(COMMITTEE, 0, SIGNERS[0])
    assert not batcher._answered
