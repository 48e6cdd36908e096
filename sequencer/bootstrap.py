"""The store of a node whose log begins above the genesis, built from parts that are each proved.

Nothing is believed but the genesis. The parts come in this order, from a snapshot or from the L1:

    changes      from the genesis committee on, each certified by the committee before it
    batches      a run of them, each certified by the committee of its header's epoch; the bytes
                 hash to the header, the entries extend its log root
    headers      the newest blocks up to the base: digests and attestations are looked up in them
    blocks       what was ordered above the base, with its collections; there may be none
    proof        that the last block is final

The *base* is the height below that of the last certified entry. So all entries of the base and
below are in certified batches, and their log root is known. The base's block is an ancestor of a
block that is proved final. Both facts are the committee's, and it has one log: the height joins
them. When the block above the base is applied, here or later by the node, its entries have to lead
to the log root of the last batch, or nothing goes on (`Batcher.on_block`).

A transaction counts once within the duplicate window, so the batches have to reach below the window
of the first block above the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from consensus.bls import Crypto
from consensus.codec import u64
from consensus.committee import Committee
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit_proof
from consensus.rules import Rules
from consensus.safety import SafetyRecord
from consensus.types import Block, CommitProof, genesis_block
from sequencer.batch_votes import BatchVotes
from sequencer.batcher import Batcher, Binding
from sequencer.block_entries import BlockEntries, alias_keys, aliases_of
from sequencer.collection import Collection, transaction_id
from sequencer.epochs import Epochs
from sequencer.history import GENESIS_BASE, Base, Pruner, windows
from sequencer.index import TransactionIndex
from sequencer.ledger import AppliedBlock, Head, Ledger
from sequencer.messages import BatchCertificate
from sequencer.settlement.batch import (
    BatchHeader,
    InvalidBatch,
    LogEntry,
    decode_batch,
    next_log_root,
)
from sequencer.settlement.blobs import MAX_BLOB_BATCH_BYTES
from sequencer.store.schema import META_BASE, META_FIRST_RECORD, META_HEAD, Table
from sequencer.store.seam import Store, StoreError, WriteBatch
from sequencer.stored_batch import StoredBatch, put_batches

if TYPE_CHECKING:
    from sequencer.genesis import L1Settings

MAX_BLOCKS_ABOVE_BASE: Final = 1 << 17
"""Blocks with collections at most: an idle chain makes as many in two weeks."""
HEIGHTS_DROPPED_AT_ONCE: Final = 4_096


class Origin(Protocol):
    """What of a genesis everything is proved from."""

    @property
    def chain_id(self) -> bytes:
        """32 bytes."""
        ...

    @property
    def committee(self) -> Committee:
        """The first one."""
        ...

    @property
    def rules(self) -> Rules:
        """The limits of the chain."""
        ...

    @property
    def l1(self) -> "L1Settings | None":
        """Where batches are posted."""
        ...


class BootstrapError(Exception):
    """The parts prove no log to begin with; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Began:
    """Where the log of a store begins and how far it goes, all of it proved.

    base         height and log root below the first block that is here
    head         the last block
    epoch        its epoch, or the next one where it ended its own
    last_batch   number of the newest certified batch; 0 if there is none
    first_batch  number of the oldest that is kept
    """

    base: Base
    head: Head
    epoch: int
    first_batch: int
    last_batch: int


class Bootstrap:
    """Takes the parts in their order and writes them into an empty store, which is not to be used
    before `finish`. Every method raises `BootstrapError`."""

    def __init__(self, store: Store, genesis: Origin, crypto: Crypto) -> None:
        self._store = store
        self._genesis = genesis
        self._rules = genesis.rules
        self._crypto = crypto
        self._binding = _binding(genesis)
        self._committee = genesis.committee
        self._epochs = Epochs(
            store, genesis.committee, genesis.chain_id, crypto, genesis.committee.epoch
        )
        self._index = TransactionIndex(store, self._rules.duplicate_window_heights, 0)
        self._pruner = Pruner(store, self._index, GENESIS_BASE)
        self._first: tuple[int, int] | None = None
        self._last: BatchHeader | None = None
        self._newest: list[LogEntry] = []
        self._below = GENESIS_BASE
        self._parent = genesis_block(genesis.chain_id)
        self._base: Base | None = None
        self._ledger: Ledger | None = None
        self._batcher: Batcher | None = None

    # ------------------------------------------------------------------ changes

    def add_change(self, change: EpochChange) -> None:
        """How the newest epoch known so far ended."""
        try:
            change.verify(self._committee, self._genesis.chain_id, self._crypto)
        except InvalidMessage as error:
            raise BootstrapError(f"the end of epoch {self._committee.epoch}: {error}") from None
        self._committee = change.committee
        writes = WriteBatch()
        writes.put(Table.EPOCHS, u64(change.committee.epoch), change.encode())
        self._store.save(writes)

    # ------------------------------------------------------------------ batches

    def add_batch(self, batch: StoredBatch) -> None:
        """The next certified batch; the first one may have any number."""
        if self._base is not None:
            raise BootstrapError("a batch comes after the blocks")
        try:
            header = BatchHeader.decode(batch.header)
            self._check_header(header, batch)
            entries = decode_batch(batch.data, MAX_BLOB_BATCH_BYTES)
        except (InvalidBatch, InvalidMessage) as error:
            raise BootstrapError(f"batch {_number(batch)}: {error}") from None
        if self._first is None:
            self._first = (header.number, entries[0].height)
            self._below = Base(0, header.previous_log_root, header.first_position)
        writes = WriteBatch()
        self._add_entries(header, entries, writes)
        put_batches(writes, [(header.number, batch)])
        target = entries[-1].height - 2 - windows(self._rules)
        self._pruner.step(writes, target, HEIGHTS_DROPPED_AT_ONCE)
        self._store.save(writes)
        self._last = header

    def _check_header(self, header: BatchHeader, batch: StoredBatch) -> None:
        """Its place, its certificate, and its bytes; also `InvalidMessage`."""
        from eth_hash.auto import keccak

        last, binding = self._last, self._binding
        if binding is None:
            raise BootstrapError("there are batches, and the genesis names no L1 contract")
        where = (header.chain_id, header.l1_chain_id, header.contract)
        if where != (binding.chain_id, binding.l1_chain_id, binding.contract):
            raise InvalidMessage("it is of another chain, L1 or contract than the genesis")
        follows = (header.number, header.previous_log_root, header.first_position)
        if last is not None:
            if follows != (last.number + 1, last.log_root, last.last_position + 1):
                raise InvalidMessage("it does not follow the batch before it")
        elif header.number == 1 and follows[1:] != (
            GENESIS_BASE.log_root,
            GENESIS_BASE.next_position,
        ):
            raise InvalidMessage("it does not begin where the log begins")
        committee = self._committee_of(header.epoch)
        certificate = BatchCertificate(header.number, batch.header, batch.signers, batch.signature)
        BatchVotes(self._crypto, lambda epoch: None).check(certificate, committee)
        if keccak(batch.data) != header.data_hash:
            raise InvalidMessage("its bytes are not those that were signed")

    def _add_entries(
        self, header: BatchHeader, entries: Sequence[LogEntry], writes: WriteBatch
    ) -> None:
        """Entries of one height become its row once a higher one is seen."""
        where, root = f"batch {header.number}", header.previous_log_root
        for entry in entries:
            root = next_log_root(root, entry)
            before = self._newest[-1] if self._newest else None
            if before is not None and entry.height != before.height:
                self._put_row(writes)
            if before is not None and not _follows(entry, before):
                raise BootstrapError(f"{where}: its entries are older than those before")
            self._newest.append(entry)
        if len(entries) != header.entry_count or root != header.log_root:
            raise BootstrapError(f"{where}: its entries do not give the log root that was signed")

    def _put_row(self, writes: WriteBatch) -> None:
        """What duplicates are looked up in, as if the block of these entries had been applied."""
        entries, self._newest = self._newest, []
        height, first = entries[0].height, self._below.next_position
        transactions = [(entry.namespace, entry.transaction) for entry in entries]
        ids = [transaction_id(*transaction) for transaction in transactions]
        if self._index.add_block(height, ids, writes):
            raise BootstrapError(f"height {height}: a transaction is in the log a second time")
        aliases = aliases_of(transactions)
        self._index.add_aliases(height, alias_keys(aliases))
        root = self._below.log_root
        for entry in entries:
            root = next_log_root(root, entry)
        row = BlockEntries(root, first, (), (), b"".join(ids), aliases)
        writes.put(Table.ENTRIES, u64(height), row.encode())
        writes.put(Table.POSITIONS, u64(first), u64(height))
        self._index.seal(height, writes)
        self._below = Base(height, root, first + len(entries))

    # ------------------------------------------------------------------ blocks

    @property
    def base_height(self) -> int:
        """Where the log will begin, after the batches so far."""
        return self._newest[0].height - 1 if self._newest else 0

    @property
    def first_header(self) -> int:
        """The height of the first block that is needed, after the batches so far."""
        return max(1, self.base_height - self._rules.digest_window_heights + 1)

    def add_block(self, block: Block, collections: Sequence[Collection] = ()) -> None:
        """The next block; with the collections that it names if it is above the base."""
        if self._base is None:
            self._settle_base(block)
        assert self._base is not None
        first = self._parent.height == 0 and block.height == self.first_header > 1
        if not first and (block.parent_id, block.height) != (
            self._parent.id,
            self._parent.height + 1,
        ):
            raise BootstrapError(f"block {block.height} is no child of the one before it")
        self._parent = block
        if block.height <= self._base.height:
            self._put_header(block)
        else:
            self._apply(block, collections)

    def _settle_base(self, block: Block) -> None:
        """There are no more batches: they have to reach far enough back."""
        height = self.base_height
        wanted_from = height + 2 - self._rules.duplicate_window_heights
        if self._first is not None and self._first[0] > 1 and self._first[1] >= wanted_from:
            raise BootstrapError(
                f"the batches begin at height {self._first[1]}; duplicates have to be known from "
                f"height {wanted_from} on"
            )
        if block.height != self.first_header:
            raise BootstrapError(
                f"the blocks begin at height {block.height}, not at {self.first_header}"
            )
        self._base = Base(height, self._below.log_root, self._below.next_position)

    def _put_header(self, block: Block) -> None:
        writes = WriteBatch()
        writes.put(Table.BLOCKS, block.id, block.encode())
        writes.put(Table.HEIGHTS, u64(block.height), block.id)
        if self._base is not None and block.height == self._base.height:
            self._put_base(self._base, block, writes)
        self._store.save(writes)

    def _put_base(self, base: Base, block: Block, writes: WriteBatch) -> None:
        head = Head(block.height, block.id, block.timestamp_ms, base.log_root, base.next_position)
        writes.put(Table.META, META_BASE, base.encode())
        writes.put(Table.META, META_HEAD, head.encode())

    def _apply(self, block: Block, collections: Sequence[Collection]) -> None:
        """Into the log and the batches, as the node would have done."""
        base = self._base
        assert base is not None
        if block.height - base.height > MAX_BLOCKS_ABOVE_BASE:
            raise BootstrapError(f"more than {MAX_BLOCKS_ABOVE_BASE} blocks above the base")
        if tuple(held.digest for held in collections) != block.collections:
            raise BootstrapError(f"block {block.height} comes without the collections it names")
        if self._ledger is None:
            self._ledger = Ledger(self._store, self._genesis.chain_id, self._rules)
            self._batcher = self._open_batcher(block, base)
        writes = WriteBatch()
        applied = self._ledger.apply(writes, block, None, collections)
        if self._batcher is not None:
            try:
                self._to_batches(self._batcher, applied)
            except (StoreError, InvalidBatch, InvalidMessage) as error:
                raise BootstrapError(f"block {block.height}: {error}") from None
            put_batches(writes, self._batcher.take().save)
        self._store.save(writes)

    def _to_batches(self, batcher: Batcher, applied: AppliedBlock) -> None:
        block = applied.block
        entries = applied.log_entries()
        batcher.on_block(block.height, block.timestamp_ms, entries, applied.log_root, 0)
        following = self._change_after(block)
        if following is not None:
            batcher.close_epoch(0)
            batcher.begin_epoch(following.committee, None, None)

    def _open_batcher(self, block: Block, base: Base) -> Batcher | None:
        if self._binding is None:
            return None
        committee = self._committee_of(block.epoch)
        batcher = Batcher(
            self._binding, committee, None, self._rules, self._crypto, None, self._store
        )
        batcher.resume([], base.log_root)
        return batcher

    # ------------------------------------------------------------------ the end

    def finish(self, proof: CommitProof | None, links: Sequence[Block] = ()) -> Began:
        """Nothing follows: the last block has to be final. The genesis needs no proof.

        `links` are headers above the last block up to the one that the proof is of.
        """
        last = self._parent
        if self._base is None and self.base_height > 0:
            raise BootstrapError("the blocks are missing")
        writes = WriteBatch()
        if last.height > 0:
            if proof is None:
                raise BootstrapError("the proof that the last block is final is missing")
            self._check_proof(last, links, proof)
            if not links:
                writes.put(Table.PROOFS, u64(last.height), proof.encode())
            writes.put(Table.META, META_FIRST_RECORD, self._first_record(last).encode())
        epoch = last.epoch if self._change_after(last) is None else last.epoch + 1
        for later in range(epoch + 1, self._committee.epoch + 1):
            writes.delete(Table.EPOCHS, u64(later))
        self._store.save(writes)
        first = self._store.range(Table.BATCHES, b"", 1)
        return Began(
            Base.load(self._store),
            Head.load(self._store, self._genesis.chain_id),
            epoch,
            int.from_bytes(first[0][0], "big") if first else 0,
            self._last.number if self._last is not None else 0,
        )

    def _check_proof(self, last: Block, links: Sequence[Block], proof: CommitProof) -> None:
        for link in links:
            if link.parent_id != last.id:
                raise BootstrapError("the headers do not lead to the block that is proved")
            last = link
        if proof.block_id != last.id:
            raise BootstrapError("the proof is of another block than the last one")
        try:
            committee = self._committee_of(last.epoch)
            verify_commit_proof(committee, self._genesis.chain_id, proof, self._crypto)
        except InvalidMessage as error:
            raise BootstrapError(f"block {last.height} is not proved final: {error}") from None
        ends = proof.certificate is not None and any(proof.certificate.next_committee)
        if ends and self._change_after(last) is None:
            raise BootstrapError(f"block {last.height} ends an epoch, and what follows is missing")

    def _first_record(self, last: Block) -> SafetyRecord:
        """What a member that never signed begins with; the last block's own QC is known good."""
        change = self._change_after(last)
        if change is not None:
            return SafetyRecord(change.committee.epoch, change.root)
        return SafetyRecord(last.epoch, last.qc)

    def _change_after(self, block: Block) -> EpochChange | None:
        """What followed, if the block ended its epoch."""
        change = self._epochs.change_to(block.epoch + 1)
        return change if change is not None and change.last.id == block.id else None

    def _committee_of(self, epoch: int) -> Committee:
        """The committee of a proved epoch; `InvalidMessage` for others."""
        found = self._epochs.committee_of(epoch)
        if found is None:
            raise InvalidMessage(f"how epoch {epoch} began is not proved")
        return found


def _binding(genesis: Origin) -> Binding | None:
    l1 = genesis.l1
    return None if l1 is None else Binding(genesis.chain_id, l1.chain_id, l1.contract, l1.data)


def _follows(entry: LogEntry, before: LogEntry) -> bool:
    """Heights and times never fall, and one height has one time."""
    if entry.height == before.height:
        return entry.timestamp_ms == before.timestamp_ms
    return entry.height > before.height and entry.timestamp_ms >= before.timestamp_ms


def _number(batch: StoredBatch) -> int:
    """What its header says, to name it by."""
    return int.from_bytes(batch.header[160:192], "big")
