"""Where a node's history begins: at the genesis, or at a base above it.

Blocks above the base are here with everything they ordered. Of those at the base and below, a node
that began with a snapshot keeps the headers and ids that it needs to judge what comes next; nobody
is shown them. Pruning raises the base: every block that is applied takes a few old ones with it, in
the same save, so it costs no sync of its own and never holds the log up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from consensus.safety import SafetyRecord
from consensus.types import Block
from sequencer.block_entries import BlockEntries
from sequencer.settlement.batch import GENESIS_LOG_ROOT, BatchHeader, LogEntry, next_log_root
from sequencer.store.schema import META_BASE, META_FIRST_RECORD, Table
from sequencer.store.seam import Store, StoreError, WriteBatch

if TYPE_CHECKING:
    from consensus.rules import Rules
    from sequencer.index import TransactionIndex

HEIGHTS_PER_STEP: Final = 4
"""Old blocks that a new one takes with it at most, so that a backlog goes as well."""
ROWS_PER_ENTRY: Final = 8
"""Index rows that go with each entry of the dropped blocks, which wrote three of them at most."""
LEAST_ROWS: Final = 64
BATCHES_PER_STEP: Final = 2

_BASE = Struct(">Q32sQ")


class Pruned(LookupError):
    """What was asked for is below the base: it was ordered, and is not kept here."""


@dataclass(frozen=True, slots=True)
class Base:
    """The height below the first block that is here, and where the log stands after it."""

    height: int
    log_root: bytes
    next_position: int

    def encode(self) -> bytes:
        """48 bytes."""
        return _BASE.pack(self.height, self.log_root, self.next_position)

    @classmethod
    def decode(cls, data: bytes) -> "Base":
        """Inverse of `encode`."""
        return cls(*_BASE.unpack(data))

    @classmethod
    def load(cls, store: Store) -> "Base":
        """The base of a store; the genesis where it names none."""
        data = store.get(Table.META, META_BASE)
        return GENESIS_BASE if data is None else cls.decode(data)


GENESIS_BASE: Final = Base(0, GENESIS_LOG_ROOT, 0)


def windows(rules: "Rules") -> int:
    """Heights that a node needs below the next block: for duplicates, and for repeated digests."""
    return rules.duplicate_window_heights + rules.digest_window_heights


def first_record(store: Store, chain_id: bytes) -> SafetyRecord:
    """The safety record of a member that has never signed, in the epoch where its log begins."""
    data = store.get(Table.META, META_FIRST_RECORD)
    return SafetyRecord.initial(chain_id) if data is None else SafetyRecord.decode(data)


@dataclass(frozen=True, slots=True)
class Retention:
    """What may go: everything `keep` heights below the head, and nothing above `settled()`."""

    keep: int
    settled: Callable[[], int] | None = None

    def target(self, head: int) -> int:
        """The highest height that may go."""
        oldest = head - self.keep
        return oldest if self.settled is None else min(oldest, self.settled())


class FinalHeight:
    """Up to where the log may go: what is not final on the L1 may have to be posted, and whoever
    begins with a snapshot needs the windows below the newest batch. -1 while nothing is final.

    `final` is the newest final batch that is held here (0: none), `last_position` that of a batch.
    """

    def __init__(
        self,
        store: Store,
        rules: "Rules",
        final: Callable[[], int],
        last_position: Callable[[int], int],
    ) -> None:
        self._store = store
        self._margin = windows(rules) + 1
        self._final = final
        self._last_position = last_position
        self._known = (0, -1)

    def __call__(self) -> int:
        """The height."""
        number = self._final()
        if number != self._known[0]:
            position = self._last_position(number)
            row = self._store.range(Table.POSITIONS, _u64(max(0, position)), 1, reverse=True)
            height = int.from_bytes(row[0][1], "big") if row and position >= 0 else 0
            self._known = (number, height - self._margin)
        return self._known[1]


def beyond(entries: Sequence[LogEntry], root: bytes, certified: bytes) -> Sequence[LogEntry]:
    """Those of a block's entries that follow the log root `certified`, where `root` is below it.

    `StoreError` if they do not lead there: what was ordered and what was certified differ.
    """
    for index, entry in enumerate(entries):
        root = next_log_root(root, entry)
        if root == certified:
            return entries[index + 1 :]
    raise StoreError(
        f"the block above the base does not lead to the certified log root {certified.hex()}; "
        "remove the data directory, begin anew with another source, and report this"
    )


class Pruner:
    """Takes old heights out of a store, lowest first, into the batches that others save.

    `base` is where the log begins after what was taken out.
    """

    def __init__(self, store: Store, index: "TransactionIndex", base: Base) -> None:
        self._store = store
        self._index = index
        self.base = base
        self._next = 0
        self._oldest_batch: int | None = None

    def step(self, batch: WriteBatch, target: int, limit: int = HEIGHTS_PER_STEP) -> None:
        """Take up to `limit` heights out, none above `target`."""
        entries = 0
        for height in self._lowest(target, limit):
            entries += self._drop(height, batch)
            self._next = height + 1
        self._index.prune(min(target, self._next - 1), batch, LEAST_ROWS + ROWS_PER_ENTRY * entries)
        for _ in range(BATCHES_PER_STEP):
            if not self._drop_batch(batch):
                break

    def _lowest(self, target: int, limit: int) -> list[int]:
        """The lowest heights of which something is left; what an unsaved batch took is behind."""
        start = _u64(self._next)
        found = {
            int.from_bytes(key, "big")
            for table in (Table.HEIGHTS, Table.ENTRIES)
            for key, _ in self._store.range(table, start, limit)
        }
        return [height for height in sorted(found)[:limit] if height <= target]

    def _drop(self, height: int, batch: WriteBatch) -> int:
        """Take a height out; how many entries it had."""
        key = _u64(height)
        block_id = batch.get(Table.HEIGHTS, key, self._store)
        row = batch.get(Table.ENTRIES, key, self._store)
        if block_id is not None:
            self._drop_collections(block_id, height, batch)
            batch.delete(Table.BLOCKS, block_id)
            batch.delete(Table.HEIGHTS, key)
            batch.delete(Table.PROOFS, key)
        if row is None:
            return 0
        entries = BlockEntries.decode(row)
        batch.delete(Table.ENTRIES, key)
        if entries.count:
            batch.delete(Table.POSITIONS, _u64(entries.first_position))
        if height > self.base.height:
            end = entries.first_position + entries.count
            self.base = Base(height, entries.log_root, end)
            batch.put(Table.META, META_BASE, self.base.encode())
        return entries.count

    def _drop_collections(self, block_id: bytes, height: int, batch: WriteBatch) -> None:
        """A collection may be ordered again much later, or wait for that."""
        data = batch.get(Table.BLOCKS, block_id, self._store)
        for digest in Block.decode(data).collections if data is not None else ():
            if batch.get(Table.ORDERED, digest, self._store) == _u64(height):
                batch.delete(Table.ORDERED, digest)
                if batch.get(Table.UNORDERED, digest, self._store) is None:
                    batch.delete(Table.COLLECTIONS, digest)

    def _drop_batch(self, batch: WriteBatch) -> bool:
        """Take the oldest batch out if the one after it is wholly below the base, too.

        So the last batch below the base stays: it shows where its successor's entries begin.
        """
        if self._oldest_batch is None:
            first = self._store.range(Table.BATCHES, b"", 1)
            if not first:
                return False
            self._oldest_batch = int.from_bytes(first[0][0], "big")
        following = self._store.get(Table.BATCHES, _u64(self._oldest_batch + 1))
        if following is None or _last_position(following) >= self.base.next_position:
            return False
        batch.delete(Table.BATCHES, _u64(self._oldest_batch))
        batch.delete(Table.POSTED, _u64(self._oldest_batch))
        self._oldest_batch += 1
        return True


def _last_position(stored_batch: bytes) -> int:
    """Of a `sequencer.batcher.StoredBatch`, whose first field is its header."""
    size = int.from_bytes(stored_batch[:4], "big")
    return BatchHeader.decode(stored_batch[4 : 4 + size]).last_position


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")
