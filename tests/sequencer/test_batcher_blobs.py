"""Where batches may go into blobs: nobody signs a header before the blobs are committed to."""

from dataclasses import replace

import pytest

from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.rules import Rules
from sequencer.batcher import Batcher
from sequencer.messages import BatchCertificate
from sequencer.settlement.batch import MAX_BATCH_BYTES, BatchHeader, decode_batch
from sequencer.settlement.blobs import BLOBS, EITHER, MAX_BLOB_BATCH_BYTES, NO_BLOBS, blobs_digest
from tests.sequencer.test_batcher import BINDING, COMMITTEE, RULES, SIGNERS, World

HASHES = [b"\x01" * 32, b"\x01" + b"\x02" * 31]


def blob_world(data: str = BLOBS, rules: Rules = RULES) -> World:
    """Four batchers that have just closed a batch."""
    world = World(rules, replace(BINDING, data=data))
    world.block(1_000, b"first", b"second")
    world.block(2_000)
    return world


def wanted(batcher: Batcher) -> list[int]:
    """The batches that the batcher asks commitments for."""
    return [number for number, _ in batcher.take().commit]


def header_of(batcher: Batcher, number: int = 1) -> BatchHeader:
    batch = batcher.batch(number)
    assert batch is not None
    return BatchHeader.decode(batch.header)


@pytest.mark.parametrize("data", [BLOBS, EITHER])
def test_a_closed_batch_asks_for_commitments_and_is_signed_with_them(data: str) -> None:
    world = blob_world(data)
    ready = world.batchers[0].take()
    ((number, found),) = ready.commit
    assert (number, ready.broadcast) == (1, [])
    assert [entry.transaction for entry in decode_batch(found)] == [b"first", b"second"]
    assert ready.save[0][1].data == found, "a crash before the commitments loses nothing"
    world.save()
    for batcher in world.batchers:
        batcher.on_commitments(1, HASHES)
    assert header_of(world.batchers[0]).blob_hashes == blobs_digest(HASHES)
    world.exchange()
    assert all(batcher.batch(1).certified for batcher in world.batchers)


def test_nothing_is_signed_or_certified_before_the_commitments() -> None:
    world = blob_world()
    batcher = world.batchers[0]
    assert header_of(batcher).blob_hashes == NO_BLOBS
    batcher.tick(60_000)
    ready = batcher.take()
    assert (ready.broadcast, ready.requests) == ([], [1])


def test_votes_that_come_before_my_commitments_count_when_they_are_there() -> None:
    world = blob_world()
    for batcher in world.batchers[1:]:
        batcher.on_commitments(1, HASHES)
    world.exchange()
    first = world.batchers[0]
    assert not first.batch(1).certified
    first.on_commitments(1, HASHES)
    assert first.take().certified == [1]


def test_a_certificate_makes_up_for_commitments_that_cannot_be_computed() -> None:
    world = blob_world()
    for batcher in world.batchers[1:]:
        batcher.on_commitments(1, HASHES)
    world.exchange()
    batch, first = world.batchers[1].batch(1), world.batchers[0]
    first.on_certificate(BatchCertificate(1, batch.header, batch.signers, batch.signature))
    assert first.batch(1).header == batch.header
    assert first.take().certified == [1]
    first.on_commitments(1, HASHES)
    assert first.take().save == [], "it is done"


def test_a_certificate_of_other_bytes_is_not_taken() -> None:
    world = blob_world()
    first = world.batchers[0]
    theirs = replace(header_of(first), data_hash=b"x" * 32, blob_hashes=b"y" * 32).encode()
    first.on_certificate(BatchCertificate(1, theirs, b"\x07", bytes(96)))
    assert not first.batch(1).certified
    mine = replace(header_of(first), blob_hashes=b"y" * 32).encode()
    with pytest.raises(InvalidMessage):
        first.on_certificate(BatchCertificate(1, mine, b"\x07", bytes(96)))


def test_a_crash_between_closing_and_signing_asks_again() -> None:
    world = blob_world()
    world.save()
    reopened = world.batchers[0] = world.open(0)
    assert wanted(reopened) == [1]
    reopened.on_commitments(1, HASHES)
    world.save()
    assert wanted(world.open(0)) == []
    assert header_of(world.open(0)).blob_hashes == blobs_digest(HASHES)


def test_late_and_repeated_commitments_change_nothing() -> None:
    world = blob_world()
    first = world.batchers[0]
    first.on_commitments(1, HASHES)
    first.take()
    first.on_commitments(1, HASHES[:1])
    first.on_commitments(9, HASHES)
    assert first.take().save == []


def test_a_batch_of_blobs_may_be_larger_than_calldata() -> None:
    large = 4 * MAX_BATCH_BYTES
    rules = replace(RULES, batch_max_bytes=large)
    world = World(rules, replace(BINDING, data=BLOBS))
    world.block(1_000, *(bytes([i]) * 90_000 for i in range(5)))
    world.block(2_000)
    assert world.batchers[0].last_closed == 1
    assert header_of(world.batchers[0]).entry_count == 5
    data = world.batchers[0].batch(1).data
    assert len(decode_batch(data, MAX_BLOB_BATCH_BYTES)) == 5
    world.save()
    assert world.open(0).batch(1).data == data


def test_a_batch_that_gets_a_new_header_keeps_its_blobs_or_still_waits_for_them() -> None:
    world, second = blob_world(), Committee(1, COMMITTEE.members)
    world.batchers[0].on_commitments(1, HASHES)
    world.save()
    for member, batcher in enumerate(world.batchers):
        batcher.begin_epoch(second, member, SIGNERS[member])
        batcher.on_contract_epoch(1, 1)
        assert header_of(batcher).epoch == 1
    committed, waiting = world.batchers[:2]
    assert header_of(committed).blob_hashes == blobs_digest(HASHES)
    assert waiting.take().broadcast == [], "nobody signs a header without its blobs"
    for batcher in world.batchers[1:]:
        batcher.on_commitments(1, HASHES)
    world.exchange()
    assert all(batcher.batch(1).certified for batcher in world.batchers)
    assert len({batcher.batch(1).header for batcher in world.batchers}) == 1
