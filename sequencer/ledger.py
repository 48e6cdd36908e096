"""The log on top of a store: blocks in, numbered entries out.

Applying a block is a function of the log before it and of the block alone, so every member has
the same entries, positions and log root. A transaction counts once within
`rules.duplicate_window_heights`: it is dropped when the same id stands in an entry less than that
many heights below.

`apply` moves the ledger at once and writes into a batch; reads see what was saved. Where the log
does not begin at the genesis (`sequencer.history`), what stands at `base` and below is not shown.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from struct import Struct
from typing import TypeVar

from consensus.codec import decode_whole
from consensus.errors import InvalidMessage
from consensus.rules import Rules
from consensus.types import Block, CommitProof, genesis_block
from sequencer.block_entries import (
    ID_BYTES,
    BlockEntries,
    alias_keys,
    aliases_of,
    extend_log_root,
    kept,
    log_entries,
)
from sequencer.collection import Collection, read_transactions
from sequencer.history import Base, Pruned, Pruner, Retention
from sequencer.index import INDEX_BITS, TransactionIndex
from sequencer.settlement.batch import GENESIS_LOG_ROOT, LogEntry
from sequencer.store.schema import META_HEAD, Table
from sequencer.store.seam import DAMAGED_ROW, Store, StoreError, WriteBatch

_HEAD = Struct(">Q32sQ32sQ")
_INDEX_MASK = (1 << INDEX_BITS) - 1
_ROWS_PER_READ = 256
_RIVALS_PER_READ = 8

Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True)
class Head:
    """The last block that is in the log.

    height, block_id, timestamp_ms  its own
    log_root                        after its last entry, 32 bytes
    next_position                   of the first entry that will follow
    """

    height: int
    block_id: bytes
    timestamp_ms: int
    log_root: bytes
    next_position: int

    def encode(self) -> bytes:
        """88 bytes."""
        return _HEAD.pack(
            self.height, self.block_id, self.timestamp_ms, self.log_root, self.next_position
        )

    @classmethod
    def decode(cls, data: bytes) -> "Head":
        """Inverse of `encode`."""
        return cls(*_HEAD.unpack(data))

    @classmethod
    def load(cls, store: Store, chain_id: bytes) -> "Head":
        """The head that a store was saved with; the genesis block of an empty one."""
        data = store.get(Table.META, META_HEAD)
        if data is None:
            return cls(0, genesis_block(chain_id).id, 0, GENESIS_LOG_ROOT, 0)
        return cls.decode(data)


@dataclass(frozen=True)
class AppliedBlock:
    """One block as it went into the log.

    row           what the store keeps of it: positions, ids, aliases, what was dropped
    transactions  (namespace, bytes) of its entries, in log order
    """

    block: Block
    row: BlockEntries
    transactions: list[tuple[int, bytes]]

    @property
    def first_position(self) -> int:
        """The log position of its first entry, or of the next one there will be."""
        return self.row.first_position

    @property
    def log_root(self) -> bytes:
        """The log root after its last entry."""
        return self.row.log_root

    @cached_property
    def entries(self) -> tuple[tuple[int, int, int, bytes], ...]:
        """(place of the collection, index in it, namespace, id) of each entry, in log order."""
        repeated = set(self.row.repeated)
        places = (
            (place, index) for place, count in enumerate(self.row.counts) for index in range(count)
        )
        kept = (place for ordinal, place in enumerate(places) if ordinal not in repeated)
        return tuple(
            (place, position, namespace, self.row.id(index))
            for index, ((place, position), (namespace, _)) in enumerate(
                zip(kept, self.transactions, strict=True)
            )
        )

    def log_entries(self) -> list[LogEntry]:
        """Its entries as settlement takes them."""
        return log_entries(self.block, self.transactions)


@dataclass(frozen=True, slots=True)
class Location:
    """Where one entry stands.

    height            of its block
    index             among the entries of the block
    position          in the log
    place             of its collection in the block
    collection_index  of its transaction in the collection
    namespace, id     its own
    """

    height: int
    index: int
    position: int
    place: int
    collection_index: int
    namespace: int
    id: bytes


class Ledger:
    """The log of one chain; `head` is the applied head, `base` what stands below its first block.

    `retention` says what to forget as the log grows; None keeps everything.
    """

    def __init__(self, store: Store, chain_id: bytes, rules: Rules) -> None:
        self._store = store
        self._rules = rules
        self._genesis = genesis_block(chain_id)
        self.head = Head.load(store, chain_id)
        self._index = TransactionIndex(store, rules.duplicate_window_heights, self.head.height)
        self._restore_index()
        self._pruner = Pruner(store, self._index, Base.load(store))
        self.retention: Retention | None = None

    @property
    def base(self) -> Base:
        """Where the log stands before the first block that is here."""
        return self._pruner.base

    def is_pruned(self, height: int) -> bool:
        """Whether the block of this height was ordered and is not here."""
        return 0 < height <= self.base.height

    def put_block(self, batch: WriteBatch, block: Block) -> None:
        """Keep a block above the head. It has to be saved before a block of its height is applied:
        then it is in the log, or it never will be and goes."""
        batch.put(Table.BLOCKS, block.id, block.encode())
        batch.put(Table.UNCOMMITTED, _u64(block.height) + block.id, b"")

    def put_collection(self, batch: WriteBatch, item: Collection, author: bytes = b"") -> None:
        """Keep a collection that no block has ordered yet, and whose it is (`author_of`)."""
        batch.put(Table.COLLECTIONS, item.digest, item.data)
        batch.put(Table.UNORDERED, item.digest, author)

    def author_of(self, digest: bytes) -> bytes:
        """What a collection that waits was saved with: its author's name, empty if unknown."""
        return self._store.get(Table.UNORDERED, digest) or b""

    def drop_collection(self, batch: WriteBatch, digest: bytes) -> None:
        """Forget a collection that waits; one that was ordered before stays in the log."""
        batch.delete(Table.UNORDERED, digest)
        if batch.get(Table.ORDERED, digest, self._store) is None:
            batch.delete(Table.COLLECTIONS, digest)

    def apply(
        self,
        batch: WriteBatch,
        block: Block,
        proof: CommitProof | None,
        collections: Sequence[Collection],
    ) -> AppliedBlock:
        """Append a committed block, whose collections are given in its order, to the log.

        Writes everything into `batch`, which has to be the next one saved.
        """
        assert block.height == self.head.height + 1, "C3: heights are contiguous"
        assert block.parent_id == self.head.block_id, "C3: parent ids match"
        assert tuple(held.digest for held in collections) == block.collections
        applied = self._append(batch, block, collections)
        self.head = Head(
            block.height,
            block.id,
            block.timestamp_ms,
            applied.log_root,
            applied.first_position + applied.row.count,
        )
        self._write(batch, applied, proof, collections)
        self._index.seal(block.height, batch)
        if self.retention is not None:
            self._pruner.step(batch, self.retention.target(block.height))
        return applied

    def block(self, height: int) -> Block | None:
        """The committed block of this height; 0 is the genesis block.

        Of the blocks at the base and below, the newest few may be here for those who judge blocks.
        """
        if height == 0:
            return self._genesis
        block_id = self._store.get(Table.HEIGHTS, _u64(height))
        return None if block_id is None else self.block_by_id(block_id)

    def block_by_id(self, block_id: bytes) -> Block | None:
        """The block of this id, committed or only kept; `StoreError` if the disk changed it."""
        if block_id == self._genesis.id:
            return self._genesis
        data = self._store.get(Table.BLOCKS, block_id)
        if data is None:
            return None
        block = _decoded(Block.decode, data)
        if block is None or block.id != block_id:
            raise StoreError(f"block {block_id.hex()} {DAMAGED_ROW}")
        return block

    def proof_at_or_after(self, height: int) -> tuple[int, CommitProof] | None:
        """The first proof of this height or a higher one, with its height; None below the base."""
        if height < self.base.height:
            return None
        for key, value in self._store.range(Table.PROOFS, _u64(height), 1):
            return int.from_bytes(key, "big"), decode_whole(value, CommitProof.read)
        return None

    def first_position(self, height: int) -> int:
        """The log position of the block's first entry, or of the next one if it has none."""
        row = self._row(height)
        return row.first_position if row is not None else 0

    def log_root(self, height: int) -> bytes | None:
        """The log root after the last entry of a block; None below the base."""
        if height <= self.base.height:
            return self.base.log_root if height == self.base.height else None
        row = self._row(height)
        return None if row is None else row.log_root

    def locate(self, tx_hash: bytes, namespace: int | None = None) -> Location | None:
        """Find an entry by its id or its Ethereum hash, the newest where several have it.

        With a namespace, an Ethereum hash finds only that namespace's entry. `Pruned` where it
        stands, as far as is known here, below the base.
        """
        if len(tx_hash) != ID_BYTES:
            return None
        found = self._index.find(tx_hash)
        if found is None:
            return None
        location = self._location(found >> INDEX_BITS, found & _INDEX_MASK)
        if namespace is None or location is None or namespace == location.namespace:
            return location
        other = self._index.find(tx_hash + _u64(namespace))
        return None if other is None else self._location(other >> INDEX_BITS, other & _INDEX_MASK)

    def is_recent(self, tx_hash: bytes) -> bool:
        """Whether an id or Ethereum hash stands in the duplicate window; cheaper than `locate`."""
        return len(tx_hash) == ID_BYTES and self._index.find_recent(tx_hash) is not None

    def transaction(self, location: Location) -> bytes:
        """The bytes of an entry that was located."""
        block = self.block(location.height)
        assert block is not None
        transactions = self._transactions(block.collections[location.place])
        return transactions[location.collection_index][1]

    def entries(self, first_position: int, limit: int) -> list[LogEntry]:
        """Up to `limit` entries from a log position on; `Pruned` for positions below the base."""
        if first_position < self.base.next_position:
            raise Pruned(
                f"the log is kept from position {self.base.next_position} on, height "
                f"{self.base.height + 1}"
            )
        found: list[LogEntry] = []
        start = self._store.range(Table.POSITIONS, _u64(first_position), 1, reverse=True)
        skip = first_position - int.from_bytes(start[0][0], "big") if start else 0
        for height in self._heights_from(start[0][0] if start else _u64(0)):
            if len(found) >= limit:
                break
            found += self.block_entries(height)[skip : skip + limit - len(found)]
            skip = 0
        return found

    def block_entries(self, height: int) -> list[LogEntry]:
        """The entries of one block; none at the base and below."""
        if height <= self.base.height:
            return []
        block, row = self.block(height), self._row(height)
        if block is None or row is None or not row.count:
            return []
        transactions = chain.from_iterable(map(self._transactions, block.collections))
        return log_entries(block, kept(transactions, row.repeated))

    def block_row(self, height: int) -> BlockEntries | None:
        """What the store keeps of an applied block."""
        return self._row(height)

    def collection_data(self, digest: bytes) -> bytes | None:
        """The encoded bytes of a collection, ordered or not; enough to pass it on."""
        return self._store.get(Table.COLLECTIONS, digest)

    def collection(self, digest: bytes) -> Collection | None:
        """A collection, ordered or not; `StoreError` if the disk changed it."""
        data = self.collection_data(digest)
        if data is None:
            return None
        collection = _decoded(lambda data: Collection.decode(data, self._rules), data)
        if collection is None or collection.digest != digest:
            raise StoreError(f"collection {digest.hex()} {DAMAGED_ROW}")
        return collection

    def unordered_collections(self) -> list[Collection]:
        """The collections that were saved and not ordered."""
        found: list[Collection] = []
        start = b""
        while rows := self._store.range(Table.UNORDERED, start, _ROWS_PER_READ):
            for digest, _ in rows:
                collection = self.collection(digest)
                assert collection is not None, "a collection that waits is in the store"
                found.append(collection)
            start = rows[-1][0] + b"\0"
        return found

    def _append(
        self, batch: WriteBatch, block: Block, collections: Sequence[Collection]
    ) -> AppliedBlock:
        ids: Sequence[bytes] = list(chain.from_iterable(held.leaves for held in collections))
        repeated = tuple(self._index.add_block(block.height, ids, batch))
        transactions = kept(
            chain.from_iterable(held.transactions() for held in collections), repeated
        )
        if repeated:
            dropped = set(repeated)
            ids = [id for ordinal, id in enumerate(ids) if ordinal not in dropped]
        aliases = aliases_of(transactions)
        self._index.add_aliases(block.height, alias_keys(aliases))
        row = BlockEntries(
            extend_log_root(self.head.log_root, block, transactions),
            self.head.next_position,
            tuple(held.count for held in collections),
            repeated,
            b"".join(ids),
            aliases,
        )
        return AppliedBlock(block, row, transactions)

    def _write(
        self,
        batch: WriteBatch,
        applied: AppliedBlock,
        proof: CommitProof | None,
        collections: Sequence[Collection],
    ) -> None:
        block, height = applied.block, _u64(applied.block.height)
        self._drop_rivals(block, batch)
        batch.put(Table.BLOCKS, block.id, block.encode())
        batch.put(Table.HEIGHTS, height, block.id)
        batch.put(Table.ENTRIES, height, applied.row.encode())
        if proof is not None:
            batch.put(Table.PROOFS, height, proof.encode())
        if applied.row.count:
            batch.put(Table.POSITIONS, _u64(applied.first_position), height)
        for collection in collections:
            if batch.get(Table.UNORDERED, collection.digest, self._store) is None:
                batch.put(Table.COLLECTIONS, collection.digest, collection.data)
            batch.delete(Table.UNORDERED, collection.digest)
            batch.put(Table.ORDERED, collection.digest, height)
        batch.put(Table.META, META_HEAD, self.head.encode())

    def _drop_rivals(self, block: Block, batch: WriteBatch) -> None:
        """Of the blocks kept at a height all go but the one that is in the log now."""
        start = height = _u64(block.height)
        while rows := self._store.range(Table.UNCOMMITTED, start, _RIVALS_PER_READ):
            for key, _ in rows:
                if not key.startswith(height):
                    return
                batch.delete(Table.UNCOMMITTED, key)
                batch.delete(Table.BLOCKS, key.removeprefix(height))
            start = rows[-1][0] + b"\0"

    def _restore_index(self) -> None:
        """Read back what the index keeps in memory; blocks without entries are skipped over."""
        for _, first in self._store.range(Table.ENTRIES, _u64(self._index.wanted_from), 1):
            position = BlockEntries.decode(first).first_position
            for height in self._heights_from(_u64(position)):
                row = self._row(height)
                assert row is not None
                self._index.restore(height, row.keys())

    def _heights_from(self, position: bytes) -> Iterator[int]:
        """The heights of the blocks with entries, from the one that starts at this position."""
        while rows := self._store.range(Table.POSITIONS, position, _ROWS_PER_READ):
            for _, height in rows:
                yield int.from_bytes(height, "big")
            position = rows[-1][0] + b"\0"

    def _row(self, height: int) -> BlockEntries | None:
        data = self._store.get(Table.ENTRIES, _u64(height))
        return None if data is None else BlockEntries.decode(data)

    def _transactions(self, digest: bytes) -> list[tuple[int, bytes]]:
        data = self.collection_data(digest)
        assert data is not None, "a collection of the log is in the store"
        return read_transactions(data)

    def _location(self, height: int, index: int) -> Location | None:
        if height <= self.base.height:
            raise Pruned(f"it is ordered at height {height}; the log is kept from there on upwards")
        block, row = self.block(height), self._row(height)
        if block is None or row is None:
            return None
        place, collection_index = row.place(index)
        namespace = self._transactions(block.collections[place])[collection_index][0]
        position = row.first_position + index
        return Location(height, index, position, place, collection_index, namespace, row.id(index))


def _decoded(decode: Callable[[bytes], Decoded], data: bytes) -> Decoded | None:
    try:
        return decode(data)
    except InvalidMessage:
        return None


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")
