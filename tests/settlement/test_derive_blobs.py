"""Batches in blobs are derived as those in calldata are, and nothing about them is believed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random

import pytest

from sequencer.settlement import abi
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.blobs import BLOB_BYTES, encode_blobs
from sequencer.settlement.client import Accepted
from sequencer.settlement.derive import DerivationError, derive
from sequencer.settlement.poster_runner import CertifiedBatch
from tests.settlement.test_derive import RecordedL1, fresh


def stub_hashes(blobs: Sequence[bytes]) -> list[bytes]:
    return [b"\x01" + sha256(blob).digest()[1:] for blob in blobs]


@dataclass
class BlobL1(RecordedL1):
    """An L1 whose batches are in blobs, and the beacon node beside it."""

    carried: list[tuple[bytes, ...]] = field(default_factory=list)

    def add(self, batch: CertifiedBatch) -> None:
        super().add(batch)
        blobs = encode_blobs(batch.data)
        self.carried.append(blobs)
        signed = batch.header, batch.bitmap, batch.signature
        self.inputs[-1] = abi.post_blobs_calldata(*signed, len(blobs))
        self.events[-1] = replace(self.events[-1], blobs=len(blobs))

    async def blob_hashes(self, tx_hash: bytes) -> tuple[bytes, ...]:
        return tuple(stub_hashes(self.carried[int.from_bytes(tx_hash, "big")]))

    async def timestamp_s(self, block_hash: bytes) -> int:
        return 12 * block_hash[-1]

    async def blobs(
        self, place: Accepted, timestamp_s: int, versioned_hashes: Sequence[bytes]
    ) -> tuple[bytes, ...]:
        assert timestamp_s == 12 * place.block_number
        known = {
            found: blob for c in self.carried for found, blob in zip(stub_hashes(c), c, strict=True)
        }
        return tuple(known[wanted] for wanted in versioned_hashes)


def two_batches() -> BlobL1:
    deployed = fresh()
    deployed.hashes = stub_hashes
    deployed.certify()
    deployed.certify_raw([Random(i).randbytes(50_000) for i in range(4)])
    return BlobL1(deployed)


async def fails(l1: BlobL1, message: str) -> None:
    with pytest.raises(DerivationError, match=message):
        await derive(l1, l1.deployed.source, blobs=l1)


async def test_the_log_comes_back_from_blobs_byte_for_byte() -> None:
    l1 = two_batches()
    log = await derive(l1, l1.deployed.source, blobs=l1)
    assert (log.entries, log.log_root) == (l1.deployed.entries, l1.deployed.root)


async def test_blobs_and_calldata_follow_each_other() -> None:
    l1 = two_batches()
    RecordedL1.add(l1, l1.deployed.certify())
    log = await derive(l1, l1.deployed.source, blobs=l1)
    assert log.entries == l1.deployed.entries


async def test_without_a_beacon_endpoint_it_says_what_is_missing() -> None:
    l1 = two_batches()
    with pytest.raises(DerivationError, match="batch 1 is in blobs, and no beacon endpoint"):
        await derive(l1, l1.deployed.source)


async def test_blobs_that_nobody_signed_are_refused() -> None:
    l1 = two_batches()
    l1.carried[0] = encode_blobs(b"something else")
    await fails(l1, "batch 1 .*: the transaction's blobs are not those that were signed")


async def test_more_or_fewer_blobs_than_the_call_names_are_refused() -> None:
    l1 = two_batches()
    l1.carried[0] += encode_blobs(b"more")
    await fails(l1, "batch 1 .*: the transaction's blobs are not those that were signed")
    l1 = two_batches()
    batch = l1.deployed.batches[0]
    l1.inputs[0] = abi.post_blobs_calldata(batch.header, batch.bitmap, batch.signature, 2)
    await fails(l1, "batch 1 .*: the transaction's blobs are not those that were signed")


async def test_a_call_of_the_other_kind_than_the_event_names_is_refused() -> None:
    l1 = two_batches()
    l1.events[0] = replace(l1.events[0], blobs=0)
    await fails(l1, "batch 1 .*: its input cannot be read: not a call of post_batch")
    l1 = two_batches()
    batch = l1.deployed.batches[0]
    signed = batch.header, batch.bitmap, batch.signature
    l1.inputs[0] = abi.post_batch_calldata(*signed, batch.data)
    await fails(l1, "batch 1 .*: its input cannot be read: not a call of post_blobs")


async def test_a_beacon_node_that_lies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    l1, answers = two_batches(), [encode_blobs(b"a lie"), (b"\xff" * BLOB_BYTES,)]

    async def lie(*_: object) -> tuple[bytes, ...]:
        return answers.pop(0)

    monkeypatch.setattr(l1, "blobs", lie)
    await fails(l1, "batch 1 .*: the posted bytes are not those that were signed")
    await fails(l1, "batch 1 .*: its blobs carry no batch: a field element")


async def test_a_quorum_that_signs_blobs_without_their_bytes_is_found_out() -> None:
    l1 = two_batches()
    header = BatchHeader.decode(l1.deployed.batches[0].header)
    assert header.blob_hashes != bytes(32)
    deployed = fresh()
    deployed.hashes = lambda blobs: stub_hashes(encode_blobs(b"other bytes"))
    deployed.certify()
    l1 = BlobL1(deployed)
    l1.carried[0] = encode_blobs(b"other bytes")
    await fails(l1, "batch 1 .*: the posted bytes are not those that were signed")
