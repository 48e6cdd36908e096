"""The replica's view of what there is to order, and of what else wants a block."""

from collections.abc import Container

from sequencer.batcher import Batcher
from sequencer.epochs import Epochs
from sequencer.pool import Pool


class NodePayload:
    """Collections of the pool, the committee to attest, the batch to be closed."""

    def __init__(self, pool: Pool, batcher: Batcher | None, epochs: Epochs) -> None:
        self._pool = pool
        self._batcher = batcher
        self.next_committee = epochs.next_digest
        self.holds = pool.holds
        self.size = pool.size
        self.has_work = pool.has_work

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        """Digests to order next."""
        return self._pool.select(exclude, max_count, max_bytes)

    def block_wanted_at(self) -> int | None:
        """Unix milliseconds at which a block is wanted even if it is empty; None if never."""
        return self._batcher.block_wanted_at() if self._batcher else None
