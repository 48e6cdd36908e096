"""Snapshots: what a node needs to begin above the genesis, in one file that proves itself.

    "dseq/snapshot/1\\0" | chain id (32 bytes) | records | end

A record is `kind u8, length u32, bytes`, big-endian. In this order:

    CHANGE      how each epoch ended since the genesis (`EpochChange`), oldest first
    BATCH       certified batches (`StoredBatch`) back to below the duplicate window
    BLOCK       the newest blocks up to the base, then those above it,
    COLLECTION  each of these followed by the collections it orders, in its order
    PROOF       that the last block is final
    END         SHA-256 of everything before it

The checksum tells a broken download from a false file. Everything else is proved from the genesis
by `sequencer.bootstrap`. Keys that left the committee long ago could sign another past, so a
snapshot is refused once it is old; how old its last block may be is for the reader to say.

Files are written and read front to back, a record at a time: neither side holds more in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final

from consensus.bls import Crypto
from consensus.codec import decode_whole, u64
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.types import Block, CommitProof
from sequencer.bootstrap import MAX_BLOCKS_ABOVE_BASE, Began, Bootstrap, BootstrapError, Origin
from sequencer.collection import Collection
from sequencer.history import Base
from sequencer.ledger import Head
from sequencer.settlement.batch import InvalidBatch, decode_batch
from sequencer.settlement.blobs import MAX_BLOB_BATCH_BYTES
from sequencer.store.schema import META_HEAD, Table
from sequencer.store.seam import Store
from sequencer.stored_batch import StoredBatch

if TYPE_CHECKING:
    from consensus.rules import Rules

MAGIC: Final = b"dseq/snapshot/1\0"
MAX_SNAPSHOT_BYTES: Final = 64 << 30
"""More than the blocks of any duplicate window: reading stops here."""
DEFAULT_MAX_AGE_DAYS: Final = 14
_ROWS_PER_READ: Final = 64


class Kind(IntEnum):
    """What a record holds."""

    CHANGE = 1
    BATCH = 2
    BLOCK = 3
    COLLECTION = 4
    PROOF = 5
    END = 6


_MAX_BYTES: Final = {
    Kind.CHANGE: 1 << 19,
    Kind.BATCH: MAX_BLOB_BATCH_BYTES + 4_096,
    Kind.BLOCK: 1 << 18,
    Kind.COLLECTION: 1 << 26,
    Kind.PROOF: 1 << 19,
    Kind.END: 32,
}

Progress = Callable[[int], None]
"""Called with the bytes read or written so far."""


class SnapshotError(Exception):
    """A snapshot that cannot be made, read or believed; the message is a sentence."""


@dataclass(slots=True)
class Contents:
    """What a file says it holds; nothing of it is proved."""

    chain_id: bytes
    bytes: int = 0
    changes: int = 0
    first_batch: int = 0
    last_batch: int = 0
    first_block: int = 0
    height: int = 0
    epoch: int = 0
    timestamp_ms: int = 0
    collections: int = 0


# ---------------------------------------------------------------------- making one


def create(
    store: Store,
    chain_id: bytes,
    rules: "Rules",
    out: BinaryIO,
    progress: Progress = lambda written: None,
) -> Contents:
    """Write a snapshot of the newest block that is proved, from a store that may go on growing.

    `SnapshotError` where there is nothing to certify it by, or the log was pruned meanwhile.
    """
    run = _certified_run(store, rules)
    proof_at, proof = _newest_proof(store, run.base_height)
    file = _Writer(out, chain_id, progress)
    for _, value in _rows(store, Table.EPOCHS):
        file.put(Kind.CHANGE, value)
    for number in range(run.first, run.last + 1):
        file.put(Kind.BATCH, _kept(store, Table.BATCHES, u64(number)))
    first_block = max(1, run.base_height - rules.digest_window_heights + 1)
    for height in range(first_block, proof_at + 1):
        encoded = _kept(store, Table.BLOCKS, _kept(store, Table.HEIGHTS, u64(height)))
        file.put(Kind.BLOCK, encoded)
        if height > run.base_height:
            for digest in Block.decode(encoded).collections:
                file.put(Kind.COLLECTION, _kept(store, Table.COLLECTIONS, digest))
    if proof is not None:
        file.put(Kind.PROOF, proof)
    file.end()
    return file.contents


@dataclass(frozen=True, slots=True)
class _Run:
    """Certified batches, and the height below the last entry of theirs."""

    first: int
    last: int
    base_height: int


def _certified_run(store: Store, rules: "Rules") -> _Run:
    """The newest batches without a gap that reach below the duplicate window; none at first."""
    rows = store.range(Table.BATCHES, b"", 1, reverse=True)
    number = int.from_bytes(rows[0][0], "big") if rows else 0
    last = base_height = 0
    while number > 0:
        value = store.get(Table.BATCHES, u64(number))
        if value is None:
            raise SnapshotError("the log of this node does not reach far enough back")
        batch = StoredBatch.decode(value)
        if not batch.certified:
            last = 0
        else:
            entries = decode_batch(batch.data, MAX_BLOB_BATCH_BYTES)
            if last == 0:
                last, base_height = number, entries[-1].height - 1
            if entries[0].height < base_height + 2 - rules.duplicate_window_heights:
                return _Run(number, last, base_height)
        number -= 1
    if Base.load(store).height > base_height:
        raise SnapshotError("no certified batch is kept that a snapshot could begin with")
    return _Run(1, last, base_height)


def _newest_proof(store: Store, base_height: int) -> tuple[int, bytes | None]:
    """The height of the last block of a snapshot, and why it is final; 0 for the genesis alone."""
    saved = store.get(Table.META, META_HEAD)
    head = Head.decode(saved).height if saved is not None else 0
    most = min(head, base_height + MAX_BLOCKS_ABOVE_BASE)
    for key, value in store.range(Table.PROOFS, u64(most), 1, reverse=True):
        if int.from_bytes(key, "big") >= base_height:
            return int.from_bytes(key, "big"), value
    if base_height > 0:
        raise SnapshotError(f"no block from height {base_height} on is proved yet; try again")
    return 0, None


def _kept(store: Store, table: Table, key: bytes) -> bytes:
    value = store.get(table, key)
    if value is None:
        raise SnapshotError("the node pruned what was being read; try again")
    return value


def _rows(store: Store, table: Table) -> Iterator[tuple[bytes, bytes]]:
    start = b""
    while rows := store.range(table, start, _ROWS_PER_READ):
        yield from rows
        start = rows[-1][0] + b"\0"


class _Writer:
    """Appends records and keeps count."""

    def __init__(self, out: BinaryIO, chain_id: bytes, progress: Progress) -> None:
        self._out = out
        self._progress = progress
        self._hash = sha256()
        self.contents = Contents(chain_id)
        self._write(MAGIC + chain_id)

    def put(self, kind: Kind, data: bytes) -> None:
        _note(self.contents, kind, data)
        self._write(bytes([kind]) + len(data).to_bytes(4, "big"))
        self._write(data)
        self._progress(self.contents.bytes)

    def end(self) -> None:
        digest = self._hash.digest()
        self.put(Kind.END, digest)

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._out.write(data)
        self.contents.bytes += len(data)


# ---------------------------------------------------------------------- reading one


class Reader:
    """The records of a file; `contents` grows as they are read. `SnapshotError` where it breaks."""

    def __init__(self, file: BinaryIO, progress: Progress = lambda read: None) -> None:
        self._file = file
        self._progress = progress
        self._hash = sha256()
        self.contents = Contents(b"")
        if self._take(len(MAGIC)) != MAGIC:
            raise SnapshotError("this is no snapshot")
        self.contents.chain_id = self._take(32)

    def records(self) -> Iterator[tuple[Kind, bytes]]:
        """Every record but the end, which is checked."""
        while True:
            before = self._hash.digest()
            kind, data = self._record()
            if kind is Kind.END:
                if data != before:
                    raise SnapshotError("the snapshot is damaged: its checksum is another")
                if self._file.read(1):
                    raise SnapshotError("there are bytes after the end of the snapshot")
                return
            try:
                _note(self.contents, kind, data)
            except (InvalidMessage, InvalidBatch) as error:
                raise SnapshotError(f"the snapshot is damaged: {error}") from None
            self._progress(self.contents.bytes)
            yield kind, data

    def _record(self) -> tuple[Kind, bytes]:
        head = self._take(5)
        if head[0] not in _KINDS:
            raise SnapshotError(f"the snapshot has a record of kind {head[0]}, which is unknown")
        kind, size = Kind(head[0]), int.from_bytes(head[1:], "big")
        if size > _MAX_BYTES[kind]:
            raise SnapshotError(f"a record of {size} bytes, where {_MAX_BYTES[kind]} are allowed")
        return kind, self._take(size)

    def _take(self, size: int) -> bytes:
        self.contents.bytes += size
        if self.contents.bytes > MAX_SNAPSHOT_BYTES:
            raise SnapshotError(f"the snapshot is larger than {MAX_SNAPSHOT_BYTES} bytes")
        parts: list[bytes] = []
        while size > 0:
            part = self._file.read(size)
            if not part:
                raise SnapshotError("the snapshot ends early; fetch it again")
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self._hash.update(data)
        return data


_KINDS: Final = frozenset(kind.value for kind in Kind)


def _note(contents: Contents, kind: Kind, data: bytes) -> None:
    """Count a record."""
    match kind:
        case Kind.CHANGE:
            contents.changes += 1
        case Kind.BATCH:
            number = int.from_bytes(StoredBatch.decode(data).header[160:192], "big")
            contents.first_batch = contents.first_batch or number
            contents.last_batch = number
        case Kind.BLOCK:
            block = Block.decode(data)
            contents.first_block = contents.first_block or block.height
            contents.height, contents.epoch = block.height, block.epoch
            contents.timestamp_ms = block.timestamp_ms
        case Kind.COLLECTION:
            contents.collections += 1


def load(
    file: BinaryIO,
    store: Store,
    genesis: Origin,
    crypto: Crypto,
    oldest_ms: int,
    progress: Progress = lambda read: None,
) -> Began:
    """Fill an empty store from a snapshot of this genesis, whose last block is not before
    `oldest_ms` (Unix milliseconds).

    `SnapshotError` if anything in it is not proved; the store is then to be thrown away.
    """
    reader = Reader(file, progress)
    if reader.contents.chain_id != genesis.chain_id:
        raise SnapshotError(
            f"the snapshot is of chain {reader.contents.chain_id.hex()}, the genesis is of chain "
            f"{genesis.chain_id.hex()}"
        )
    try:
        began = _Loading(Bootstrap(store, genesis, crypto), genesis.rules).take(reader)
    except (BootstrapError, InvalidMessage) as error:
        raise SnapshotError(f"the snapshot is not proved: {error}") from None
    if began.head.height > 0 and began.head.timestamp_ms < oldest_ms:
        raise SnapshotError(
            f"the snapshot is too old: its last block is of {began.head.timestamp_ms // 1000} "
            "(Unix seconds); fetch a newer one, or allow it by --max-age"
        )
    return began


class _Loading:
    """Hands records to a bootstrap, a block once all of its collections are here."""

    def __init__(self, bootstrap: Bootstrap, rules: "Rules") -> None:
        self._bootstrap = bootstrap
        self._rules = rules
        self._stage = Kind.CHANGE
        self._block: Block | None = None
        self._collections: list[Collection] = []
        self._proof: CommitProof | None = None

    def take(self, reader: Reader) -> Began:
        for kind, data in reader.records():
            stage = Kind.BLOCK if kind is Kind.COLLECTION else kind
            if stage < self._stage or self._proof is not None:
                raise BootstrapError(f"a {kind.name.lower()} comes too late")
            self._stage = stage
            self._record(kind, data)
        self._flush()
        return self._bootstrap.finish(self._proof)

    def _record(self, kind: Kind, data: bytes) -> None:
        match kind:
            case Kind.CHANGE:
                self._bootstrap.add_change(EpochChange.decode(data))
            case Kind.BATCH:
                self._bootstrap.add_batch(StoredBatch.decode(data))
            case Kind.BLOCK:
                self._flush()
                self._block = Block.decode(data)
            case Kind.COLLECTION:
                self._add_collection(data)
            case Kind.PROOF:
                self._flush()
                self._proof = decode_whole(data, CommitProof.read)

    def _add_collection(self, data: bytes) -> None:
        block, place = self._block, len(self._collections)
        if block is None or place >= len(block.collections):
            raise BootstrapError("a collection that no block orders")
        collection = Collection.decode(data, self._rules)
        if collection.digest != block.collections[place]:
            raise BootstrapError(f"block {block.height} does not order this collection")
        self._collections.append(collection)

    def _flush(self) -> None:
        if self._block is not None:
            self._bootstrap.add_block(self._block, self._collections)
        self._block, self._collections = None, []
