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


async def test_whoever_commits_to_blobs_keeps_the_contract(prover: BlobProver) -> None:
    for data, count in ((ONE, 1), (TWO, 2)):
        hashes = await prover.versioned_hashes(data)
        assert len(hashes) == count
        assert all(len(found) == 32 and found[0] == 1 for found in hashes)
        assert hashes == await prover.versioned_hashes(data), "the same for the same bytes"
    hashes = await prover.versioned_hashes(ONE)
    assert hashes != await prover.versioned_hashes(ONE + b"!")
    for cells in (True, False):
        sidecar = await prover.sidecar(ONE, cells)
        assert decode_blobs(sidecar.blobs) == ONE
        assert (sidecar.versioned_hashes, sidecar.cells) == (hashes, cells)
        assert all(len(commitment) == 48 for commitment in sidecar.commitments)
    for data in (b"", bytes(MAX_BLOB_BATCH_BYTES + 1)):
        with pytest.raises(ValueError, match="6 blobs carry"):
            await prover.versioned_hashes(data)
