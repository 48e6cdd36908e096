"""Committed blocks into the log, in order, as soon as their payload is here (C1, C3)."""

from collections import deque
from collections.abc import Iterator

from consensus.types import Block, CommitProof
from sequencer.collection import Collection
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.pool import Pool
from sequencer.store.seam import WriteBatch

COLLECTIONS_FETCHED_AHEAD = 64
"""How many that committed blocks name are asked for at once: a node that catches up would wait for
an answer a block otherwise. More would fill the links for longer than the pool waits."""


class Applying:
    """The committed blocks that wait for their collections; `waiting` is oldest first."""

    def __init__(self, ledger: Ledger, pool: Pool) -> None:
        self._ledger = ledger
        self._pool = pool
        self.waiting: deque[tuple[Block, CommitProof | None]] = deque()

    def apply(self, writes: WriteBatch, now: int) -> Iterator[AppliedBlock]:
        """Each block that can be applied now, after it was."""
        while self.waiting:
            block, proof = self.waiting[0]
            collections = self._collections_of(block)
            if collections is None:
                self._fetch_ahead(now)
                break
            self.waiting.popleft()
            applied = self._ledger.apply(writes, block, proof, collections)
            self._pool.on_committed(block)
            yield applied

    def _fetch_ahead(self, now: int) -> None:
        """Ask for what the next committed blocks name; the pool asks for each once."""
        room = COLLECTIONS_FETCHED_AHEAD
        for block, _ in self.waiting:
            room -= self._pool.need(block, now)
            if room <= 0:
                break

    def _collections_of(self, block: Block) -> list[Collection] | None:
        """What a block orders, None while some of it is not here."""
        found: list[Collection] = []
        for digest in block.collections:
            collection = self._pool.get(digest) or self._ledger.collection(digest)
            if collection is None:
                return None
            found.append(collection)
        return found
