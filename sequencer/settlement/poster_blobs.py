"""The sidecars of the poster's blob transactions under way."""

from sequencer.settlement.blobs import Sidecar, empty_sidecar
from sequencer.settlement.client import SettlementClient
from sequencer.settlement.kzg import BlobProver, KzgError

MAX_KEPT_SIDECARS = 2
"""Batches whose proofs are kept, so that higher fees or another try cost no proofs."""


class Sidecars:
    """Blobs with commitments and proofs, in the form that the L1 takes at present."""

    def __init__(self, client: SettlementClient, prover: BlobProver | None) -> None:
        self._client = client
        self._prover = prover
        self._kept: dict[tuple[bytes, bool], Sidecar] = {}

    async def of(self, data: bytes) -> Sidecar:
        """The sidecar that carries a batch.  Raises `SettlementError`."""
        if self._prover is None:
            raise KzgError("nobody is here to compute proofs of blobs")
        key = (data, await self._client.takes_cells())
        if key not in self._kept:
            self._kept[key] = await self._prover.sidecar(*key)
            while len(self._kept) > MAX_KEPT_SIDECARS:
                del self._kept[next(iter(self._kept))]
        return self._kept[key]

    async def of_nothing(self) -> Sidecar:
        """The sidecar of a transaction that only takes the place of one with blobs."""
        return empty_sidecar(await self._client.takes_cells())
