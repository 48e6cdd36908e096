"""One suite for both who commit to blobs, so that the cheap one cannot drift from the real one."""

from collections.abc import AsyncIterator

import pytest

from sequencer.settlement.blobs import BLOB_DATA_BYTES, MAX_BLOB_BATCH_BYTES, decode_blobs
from sequencer.settlement.kzg import BlobProver, KzgProcess
from testnet.simulation.crypto import StubProver

ONE = b"a batch"
TWO = b"x" * BLOB_DATA_BYTES


@pytest.fixture(params=["real", "stub"])
async def prover(request: pytest.FixtureRequest) -> AsyncIterator[BlobProver]:
    if request.param == "stub":
        yield StubProver()
        return
    process = KzgProcess()
    yield process
    await process.aclose()


async def test_hashes_are_versioned_and_one_a_blob(prover: BlobProver) -> None:
    for data, count in ((ONE, 1), (TWO, 2)):
        hashes = await prover.versioned_hashes(data)
        assert len(hashes) == count
        assert all(len(found) == 32 and found[0] == 1 for found in hashes)


async def test_the_same_bytes_have_the_same_hashes_and_others_have_others(
    prover: BlobProver,
) -> None:
    first = await prover.versioned_hashes(ONE)
    assert first == await prover.versioned_hashes(ONE)
    assert first != await prover.versioned_hashes(ONE + b"!")


@pytest.mark.parametrize("cells", [True, False])
async def test_a_sidecar_carries_the_bytes_under_these_hashes(
    prover: BlobProver, cells: bool
) -> None:
    sidecar = await prover.sidecar(ONE, cells)
    assert decode_blobs(sidecar.blobs) == ONE
    assert sidecar.versioned_hashes == await prover.versioned_hashes(ONE)
    assert sidecar.cells is cells
    assert all(len(commitment) == 48 for commitment in sidecar.commitments)


async def test_what_no_blobs_carry_is_refused(prover: BlobProver) -> None:
    for data in (b"", bytes(MAX_BLOB_BATCH_BYTES + 1)):
        with pytest.raises(ValueError, match="6 blobs carry"):
            await prover.versioned_hashes(data)
