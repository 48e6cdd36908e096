"""Blobs: the encoding and its strictness, hashes, sidecars, and the process that computes them."""

import asyncio
import io
import random
import sys
from collections.abc import AsyncIterator

import ckzg
import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st

from sequencer.settlement import blobs, kzg
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.blobs import (
    BLOB_BYTES,
    BLOB_DATA_BYTES,
    CELLS_PER_BLOB,
    MAX_BLOB_BATCH_BYTES,
    InvalidBlobs,
    decode_blobs,
    encode_blobs,
)
from sequencer.settlement.kzg import KzgError, KzgProcess

FIELD_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


@given(st.binary(min_size=1, max_size=5_000))
@settings(max_examples=50)
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    assert decode_blobs(encode_blobs(data)) == data


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (1, 1),
        (27, 1),
        (BLOB_DATA_BYTES - 4, 1),
        (BLOB_DATA_BYTES - 3, 2),
        (2 * BLOB_DATA_BYTES - 4, 2),
        (MAX_BLOB_BATCH_BYTES, 6),
    ],
)
def test_data_takes_as_few_blobs_as_hold_it(size: int, count: int) -> None:
    data = random.Random(size).randbytes(size)
    encoded = encode_blobs(data)
    assert len(encoded) == count == blobs.blob_count(size)
    assert decode_blobs(encoded) == data
    for blob in encoded:
        assert len(blob) == BLOB_BYTES
        elements = [blob[at : at + 32] for at in range(0, BLOB_BYTES, 32)]
        assert all(int.from_bytes(element, "big") < FIELD_ORDER for element in elements)


@pytest.mark.parametrize("size", [0, MAX_BLOB_BATCH_BYTES + 1])
def test_nothing_and_too_much_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="6 blobs carry 1 to 761852 bytes"):
        encode_blobs(bytes(size))


def spoilt(data: bytes, at: int, byte: int) -> list[bytes]:
    blob = bytearray(encode_blobs(data)[0])
    blob[at] = byte
    return [bytes(blob)]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [bytes(BLOB_BYTES)],
        [bytes(BLOB_BYTES - 1)],
        [*encode_blobs(b"data"), bytes(BLOB_BYTES)],
        encode_blobs(bytes(BLOB_DATA_BYTES))[:1],
        list(encode_blobs(b"data")) * 7,
        spoilt(b"data", 0, 1),
        spoilt(b"data", 32 * 4_095, 1),
        spoilt(b"data", 9, 1),
        spoilt(b"data", BLOB_BYTES - 1, 1),
        spoilt(b"data", 1, 255),
    ],
)
def test_data_has_one_encoding_only(wrong: list[bytes]) -> None:
    with pytest.raises(InvalidBlobs):
        decode_blobs(wrong)


def test_proofs_verify() -> None:
    setup = blobs.trusted_setup()
    data = random.Random(1).randbytes(1_000)
    simple = blobs.prove(data, cells=False)
    (blob,), (commitment,), (proof,) = simple.blobs, simple.commitments, simple.proofs
    assert ckzg.verify_blob_kzg_proof(blob, commitment, proof, setup)
    celled = blobs.prove(data, cells=True)
    assert celled.commitments == simple.commitments
    cells = ckzg.compute_cells(blob, setup)
    indexes = list(range(CELLS_PER_BLOB))
    assert ckzg.verify_cell_kzg_proof_batch(
        [commitment] * CELLS_PER_BLOB, indexes, cells, list(celled.proofs), setup
    )
    assert blobs.hashes_of(celled.blobs) == celled.versioned_hashes


@pytest.mark.parametrize("cells", [True, False])
def test_the_blob_of_a_cancelling_transaction_needs_no_computation(cells: bool) -> None:
    empty, setup = blobs.empty_sidecar(cells), blobs.trusted_setup()
    assert blobs.commitments_of(empty.blobs) == empty.commitments
    if cells:
        proofs = ckzg.compute_cells_and_kzg_proofs(empty.blobs[0], setup)[1]
        assert tuple(map(bytes, proofs)) == empty.proofs
    else:
        assert ckzg.verify_blob_kzg_proof(
            empty.blobs[0], empty.commitments[0], empty.proofs[0], setup
        )


@pytest.mark.parametrize("cells", [True, False])
def test_a_signed_transaction_and_its_sidecar_are_what_a_wallet_reads(cells: bool) -> None:
    from eth_account.typed_transactions.blob_transactions import BlobTransaction
    from hexbytes import HexBytes

    account = L1Account(b"\x01" * 32, 31_337)
    sidecar = blobs.empty_sidecar(cells)
    fields = {"nonce": 3, "to": b"\x22" * 20, "data": b"call", "gas": 700_000}
    fees = Fees(9, 2, 5)
    signed = account.sign(**fields, fees=fees, blob_hashes=sidecar.versioned_hashes)
    assert signed == account.sign(**fields, fees=fees, blob_hashes=sidecar.versioned_hashes)
    pooled = blobs.with_sidecar(signed.raw, sidecar)
    read = BlobTransaction.from_bytes(HexBytes(signed.raw)).as_dict()
    assert (read["nonce"], read["maxFeePerGas"], read["maxPriorityFeePerGas"]) == (3, 9, 2)
    assert read["maxFeePerBlobGas"] == 5
    assert [bytes(found) for found in read["blobVersionedHashes"]] == list(sidecar.versioned_hashes)
    parts = rlp.decode(pooled[1:])
    assert b"\x03" + rlp.encode(parts[0]) == signed.raw
    version = [b"\x01"] if cells else []
    carried = [list(sidecar.blobs), list(sidecar.commitments), list(sidecar.proofs)]
    assert parts[1:] == [*version, *carried]
    with pytest.raises(ValueError, match="not a blob transaction"):
        blobs.with_sidecar(account.sign(**fields, fees=fees).raw, sidecar)


def test_the_process_computes_what_this_one_would() -> None:
    data = random.Random(2).randbytes(BLOB_DATA_BYTES)
    asked = [(kzg.COMMIT, data), (kzg.PROVE_BLOBS, b"small"), (kzg.PROVE_CELLS, b"small")]
    source = b"".join(bytes([kind]) + len(d).to_bytes(4, "big") + d for kind, d in asked)
    sink = io.BytesIO()
    kzg.serve(io.BytesIO(source), sink)
    told = io.BytesIO(sink.getvalue())
    answers = [told.read(int.from_bytes(told.read(4), "big")) for _ in asked]
    simple, celled = blobs.prove(b"small", False), blobs.prove(b"small", True)
    assert told.read() == b""
    assert answers == [
        b"".join(blobs.commitments_of(encode_blobs(data))),
        b"".join((*simple.commitments, *simple.proofs)),
        b"".join((*celled.commitments, *celled.proofs)),
    ]


WORKER = """
import sys
read, write = sys.stdin.buffer.read, sys.stdout.buffer
while head := read(5):
    data = read(int.from_bytes(head[1:], "big"))
    if data == b"die":
        break
    size = {b"nonsense": 47, b"endless": 1 << 31}.get(data, 48)
    if data != b"hang":
        write.write(size.to_bytes(4, "big") + bytes(min(size, 48)))
        write.flush()
"""


@pytest.fixture
async def worker() -> AsyncIterator[KzgProcess]:
    """A process that does what a test asks of it, in the protocol of the real one."""
    process = KzgProcess((sys.executable, "-c", WORKER))
    yield process
    await process.aclose()
    assert process.pid is None


@pytest.mark.parametrize("request_", [b"die", b"hang", b"endless"])
async def test_a_process_that_fails_is_an_error_once(
    worker: KzgProcess, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await worker.versioned_hashes(b"batch")
    pid = worker.pid
    monkeypatch.setattr(kzg, "REQUEST_TIMEOUT_S", 0.3)
    with pytest.raises(KzgError, match="cannot be computed"):
        await worker.versioned_hashes(request_)
    monkeypatch.undo()
    assert await worker.versioned_hashes(b"batch") == wanted
    assert worker.pid != pid


async def test_a_process_that_answers_nonsense_is_not_believed(worker: KzgProcess) -> None:
    with pytest.raises(KzgError, match="answers nonsense"):
        await worker.versioned_hashes(b"nonsense")


async def test_requests_at_once_are_answered_in_turn(worker: KzgProcess) -> None:
    found = await asyncio.gather(*(worker.versioned_hashes(b"%d" % i) for i in range(5)))
    assert len(set(found)) == 1


async def test_a_request_that_is_cancelled_leaves_no_answer_behind(worker: KzgProcess) -> None:
    await worker.versioned_hashes(b"batch")
    waiting = asyncio.create_task(worker.versioned_hashes(b"hang"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await worker.versioned_hashes(b"batch")
