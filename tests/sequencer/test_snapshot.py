"""Snapshots: a log goes on from one as if it had never been cut, or the file is refused."""

import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.epochs import EpochChange
from sequencer import snapshot
from sequencer.bootstrap import Began
from sequencer.collection import Collection, transaction_id
from sequencer.genesis import Genesis
from sequencer.history import Pruned, Retention, first_record
from sequencer.ledger import Ledger
from sequencer.snapshot import Kind, SnapshotError
from sequencer.store.lmdb import LmdbStore
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import Store, WriteBatch
from sequencer.stored_batch import StoredBatch
from tests.sequencer.certified_chain import (
    CRYPTO,
    NEXT_SIGNER,
    RULES,
    CertifiedChain,
    genesis_with,
    numbered,
)

Records = list[tuple[Kind, bytes]]


def grown(heights: int, store: Store | None = None) -> CertifiedChain:
    """A chain with a transaction in most blocks, some of them ordered twice."""
    chain = CertifiedChain(store)
    for height in range(1, heights + 1):
        again = numbered(height - 3) if height % 5 == 0 else []
        chain.commit(*([numbered(height, 10_000 + height) + again] if height % 4 else []))
    return chain


def snapshot_of(chain: CertifiedChain) -> bytes:
    out = io.BytesIO()
    snapshot.create(chain.store, chain.genesis.chain_id, chain.genesis.rules, out)
    return out.getvalue()


def loaded(
    data: bytes, genesis: Genesis | None = None, store: Store | None = None, oldest_ms: int = 0
) -> tuple[Began, Store]:
    genesis = genesis or genesis_with()
    store = store if store is not None else MemoryStore(genesis.chain_id)
    return snapshot.load(io.BytesIO(data), store, genesis, CRYPTO, oldest_ms), store


def records_of(data: bytes) -> Records:
    return list(snapshot.Reader(io.BytesIO(data)).records())


def file_of(chain_id: bytes, records: Records) -> bytes:
    """A well-formed file of these records, its checksum good."""
    data = snapshot.MAGIC + chain_id
    for kind, content in records:
        data += bytes([kind]) + len(content).to_bytes(4, "big") + content
    return data + bytes([Kind.END]) + (32).to_bytes(4, "big") + sha256(data).digest()


def refuses(data: bytes, sentence: str, genesis: Genesis | None = None) -> None:
    with pytest.raises(SnapshotError, match=sentence):
        loaded(data, genesis)


def go_on(*chains: CertifiedChain, blocks: int = 30) -> None:
    """The same further blocks for all; some repeat what was ordered before the snapshot."""
    for step in range(blocks):
        height = chains[0].ledger.head.height
        content = numbered(20_000 + step, height - 2, height - 15, height - 40)
        applied = [chain.commit(content) for chain in chains]
        assert len({item.log_root for item in applied}) == 1
        assert len({item.row.repeated for item in applied}) == 1


@pytest.mark.parametrize("heights", [1, 7, 45, 90, 91, 92, 93, 94])
def test_a_log_goes_on_from_a_snapshot_as_if_it_had_never_been_cut(heights: int) -> None:
    chain = grown(heights)
    began, store = loaded(snapshot_of(chain))
    assert began.head == chain.ledger.head
    copy = CertifiedChain(store)
    assert copy.ledger.head == chain.ledger.head
    go_on(chain, copy)
    assert copy.ledger.head == chain.ledger.head


def test_batches_of_a_log_from_a_snapshot_close_as_everybodys() -> None:
    chain = grown(93)
    _, store = loaded(snapshot_of(chain))
    copy = CertifiedChain(store)
    go_on(chain, copy)
    assert chain.batcher is not None
    assert copy.batcher is not None
    assert chain.batcher.last_closed == copy.batcher.last_closed
    for number in range(15, chain.batcher.last_closed + 1):
        mine, theirs = chain.batcher.batch(number), copy.batcher.batch(number)
        assert mine is not None
        assert theirs is not None
        assert mine.header == theirs.header


def test_a_snapshot_of_a_snapshot_is_as_good() -> None:
    chain = grown(93)
    _, store = loaded(snapshot_of(chain))
    copy = CertifiedChain(store)
    go_on(chain, copy)
    _, second = loaded(snapshot_of(copy))
    last = CertifiedChain(second)
    assert last.ledger.head == chain.ledger.head
    go_on(chain, copy, last)


def test_on_disk_it_is_the_same(tmp_path: Path) -> None:
    genesis = genesis_with()
    chain = grown(93, LmdbStore(tmp_path / "one", genesis.chain_id))
    with (tmp_path / "file").open("wb") as out:
        snapshot.create(chain.store, genesis.chain_id, genesis.rules, out)
    store = LmdbStore(tmp_path / "two", genesis.chain_id)
    with (tmp_path / "file").open("rb") as file:
        snapshot.load(file, store, genesis, CRYPTO, 0)
    store.close()
    copy = CertifiedChain(LmdbStore(tmp_path / "two", genesis.chain_id))
    go_on(chain, copy)
    chain.store.close()
    copy.store.close()


def test_what_was_ordered_within_the_window_is_still_dropped_and_no_more_than_that() -> None:
    chain = grown(93)
    _, store = loaded(snapshot_of(chain))
    copy = CertifiedChain(store)
    window = RULES.duplicate_window_heights
    content = numbered(*range(94 - window - 5, 94))
    applied = copy.commit(content)
    assert applied.row.repeated == chain.commit(content).row.repeated
    dropped = {content[ordinal] for ordinal in applied.row.repeated}
    assert numbered(93)[0] in dropped
    assert numbered(94 - window + 1)[0] in dropped
    assert numbered(94 - window)[0] not in dropped


def test_below_its_base_a_log_says_that_it_is_pruned() -> None:
    chain = grown(93)
    began, store = loaded(snapshot_of(chain))
    ledger = Ledger(store, chain.genesis.chain_id, RULES)
    base = began.base
    assert 80 < base.height < 93
    assert ledger.base == base
    assert ledger.log_root(base.height) == chain.ledger.log_root(base.height)
    for height in range(base.height + 1, 94):
        assert ledger.block_entries(height) == chain.ledger.block_entries(height)
    assert ledger.block(base.height - RULES.digest_window_heights) is None
    assert ledger.is_pruned(base.height)
    assert not ledger.is_pruned(0)
    assert not ledger.is_pruned(base.height + 1)
    assert ledger.proof_at_or_after(base.height - 1) is None
    with pytest.raises(Pruned):
        ledger.entries(base.next_position - 1, 1)
    below = next(height for height in range(base.height, 0, -1) if height % 4)
    with pytest.raises(Pruned):
        ledger.locate(transaction_id(901, b"transaction %d" % below))
    count = chain.ledger.head.next_position - base.next_position
    assert ledger.entries(base.next_position, 99) == chain.ledger.entries(base.next_position, 99)
    assert len(ledger.entries(base.next_position, 99)) == count > 0


def test_what_a_node_judges_new_blocks_by_is_there() -> None:
    chain = grown(93)
    began, store = loaded(snapshot_of(chain))
    ledger = Ledger(store, chain.genesis.chain_id, RULES)
    oldest = began.head.height - RULES.digest_window_heights + 1
    for height in range(oldest, began.head.height + 1):
        assert ledger.block(height) == chain.ledger.block(height)
    record = first_record(store, chain.genesis.chain_id)
    assert record.epoch == 0
    assert record.high_qc == chain.block_of([]).qc
    proof = ledger.proof_at_or_after(began.head.height)
    assert proof is not None
    assert proof[1].block_id == began.head.block_id


def test_a_chain_without_certified_batches_is_its_own_snapshot() -> None:
    genesis = genesis_with(l1=None)
    chain = CertifiedChain(genesis=genesis)
    for height in range(1, 30):
        chain.commit(numbered(height))
    began, store = loaded(snapshot_of(chain), genesis)
    assert began.base.height == 0
    copy = CertifiedChain(store, genesis)
    assert copy.ledger.entries(0, 99) == chain.ledger.entries(0, 99)
    go_on(chain, copy, blocks=5)


def test_it_ends_with_the_newest_block_that_is_proved() -> None:
    chain = grown(90)
    for number in range(3):
        chain.commit(numbered(30_000 + number), proved=False)
    began, store = loaded(snapshot_of(chain))
    assert began.head.height == 90
    copy = CertifiedChain(store)
    for number in range(3):
        copy.commit(numbered(30_000 + number))
    assert copy.ledger.head == chain.ledger.head


def test_nothing_is_known_of_a_chain_that_has_not_begun() -> None:
    began, _ = loaded(snapshot_of(CertifiedChain()))
    assert (began.head.height, began.last_batch) == (0, 0)


# --- epochs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 1, 3, 25, 60])
def test_committees_are_followed_from_the_genesis(more: int) -> None:
    chain = grown(50)
    change = chain.end_epoch(numbered(40_000))
    for height in range(more):
        chain.commit(numbered(50_000 + height))
    began, store = loaded(snapshot_of(chain))
    assert began.head == chain.ledger.head
    assert began.epoch == 1
    record = first_record(store, chain.genesis.chain_id)
    assert record.epoch == 1
    assert record.high_qc == change.root
    copy = CertifiedChain(store, signer=NEXT_SIGNER, committee=change.committee)
    copy.root = chain.root
    go_on(chain, copy, blocks=12)
    assert chain.batcher is not None
    assert copy.batcher is not None
    for number in range(began.last_batch, chain.batcher.last_closed + 1):
        mine, theirs = chain.batcher.batch(number), copy.batcher.batch(number)
        assert mine is not None
        assert theirs is not None
        assert mine.header == theirs.header


def test_a_committee_that_nobody_elected_certifies_nothing() -> None:
    chain = grown(50)
    chain.end_epoch(numbered(40_000))
    for height in range(9):
        chain.commit(numbered(50_000 + height))
    good = records_of(snapshot_of(chain))
    without = [item for item in good if item[0] is not Kind.CHANGE]
    refuses(file_of(chain.genesis.chain_id, without), "how epoch 1 began is not proved")
    change = EpochChange.decode(good[0][1])
    forged = EpochChange(
        chain.certify(change.last, change.committee.digest), change.last, change.committee
    )
    spoiled = [(Kind.CHANGE, forged.encode()), *without]
    refuses(file_of(chain.genesis.chain_id, spoiled), "the end of epoch 0: .*bad signature")


# --- files that lie -------------------------------------------------------------------------

WHOLE = grown(60)
FILE = snapshot_of(WHOLE)
RECORDS = records_of(FILE)
CHAIN_ID = WHOLE.genesis.chain_id


def kinds(kind: Kind) -> list[int]:
    return [place for place, record in enumerate(RECORDS) if record[0] is kind]


def without(place: int) -> Records:
    return RECORDS[:place] + RECORDS[place + 1 :]


def with_batch(place: int, change: Callable[[StoredBatch], StoredBatch]) -> Records:
    kind, data = RECORDS[place]
    return [
        *RECORDS[:place],
        (kind, change(StoredBatch.decode(data)).encode()),
        *RECORDS[place + 1 :],
    ]


def test_one_of_another_chain_is_refused() -> None:
    other = genesis_with(rules=type(RULES)(duplicate_window_heights=21))
    refuses(FILE, "the snapshot is of chain", other)
    refuses(file_of(other.chain_id, RECORDS), "of another chain, L1 or contract", other)


def test_one_that_is_too_old_is_refused() -> None:
    last_ms = WHOLE.ledger.head.timestamp_ms
    loaded(FILE, oldest_ms=last_ms)
    with pytest.raises(SnapshotError, match="too old"):
        loaded(FILE, oldest_ms=last_ms + 1)


def test_one_with_a_batch_less_is_refused() -> None:
    batches = kinds(Kind.BATCH)
    assert len(batches) > 3
    refuses(file_of(CHAIN_ID, without(batches[1])), "does not follow the batch before it")
    refuses(file_of(CHAIN_ID, RECORDS[batches[2] :]), "duplicates have to be known from height")
    refuses(file_of(CHAIN_ID, without(batches[-1])), "duplicates have to be known from height")


def test_one_with_other_bytes_or_signers_of_a_batch_is_refused() -> None:
    def spoiled(**changes: bytes) -> bytes:
        return file_of(
            CHAIN_ID,
            with_batch(
                kinds(Kind.BATCH)[1],
                lambda batch: StoredBatch(
                    **{name: getattr(batch, name) for name in ("header", "data", "signers")}
                    | {"signature": batch.signature}
                    | changes
                ),
            ),
        )

    batch = StoredBatch.decode(RECORDS[kinds(Kind.BATCH)[1]][1])
    refuses(spoiled(data=batch.data[:-1] + b"?"), "its bytes are not those that were signed")
    refuses(spoiled(signature=bytes(96)), "bad signature")
    refuses(spoiled(signers=b"\0"), "without a quorum")
    refuses(spoiled(header=batch.header[:-1] + b"\1"), "bad signature")
    refuses(spoiled(signature=b"", signers=b""), "members that do not exist")


def test_one_that_lacks_a_block_a_collection_or_the_proof_is_refused() -> None:
    blocks, collections = kinds(Kind.BLOCK), kinds(Kind.COLLECTION)
    assert len(collections) > 1
    refuses(file_of(CHAIN_ID, without(blocks[2])), "is no child of the one before it")
    refuses(file_of(CHAIN_ID, without(blocks[0])), "the blocks begin at height")
    refuses(file_of(CHAIN_ID, without(collections[-1])), "without the collections it names")
    refuses(file_of(CHAIN_ID, RECORDS[:-1]), "the proof that the last block is final is missing")
    refuses(file_of(CHAIN_ID, [r for r in RECORDS if r[0] is Kind.BATCH]), "the blocks are missing")
    fewer = [*RECORDS[: blocks[-1]], RECORDS[-1]]
    refuses(file_of(CHAIN_ID, fewer), "is of another block than the last one")


def test_one_with_another_collection_is_refused() -> None:
    place = kinds(Kind.COLLECTION)[0]
    other = [*RECORDS]
    other[place] = (Kind.COLLECTION, Collection.seal(numbered(1)).data)
    refuses(file_of(CHAIN_ID, other), "does not order this collection")


def test_one_whose_blocks_the_committee_never_ordered_is_refused() -> None:
    """The first block above the base has to lead to the log root of the last batch."""
    other = CertifiedChain()
    for height in range(1, WHOLE.ledger.head.height + 1):
        other.commit(*([numbered(60_000 + height)] if height % 4 else []))
    mixed = [record for record in RECORDS if record[0] is Kind.BATCH]
    mixed += [record for record in records_of(snapshot_of(other)) if record[0] is not Kind.BATCH]
    refuses(file_of(CHAIN_ID, mixed), "does not lead to the certified log root")


def test_records_out_of_order_are_refused() -> None:
    batch, block = RECORDS[kinds(Kind.BATCH)[0]], RECORDS[kinds(Kind.BLOCK)[0]]
    refuses(file_of(CHAIN_ID, [*RECORDS[:-1], batch, RECORDS[-1]]), "a batch comes too late")
    refuses(file_of(CHAIN_ID, [*RECORDS, block]), "a block comes too late")


def test_a_broken_file_is_told_from_a_false_one() -> None:
    refuses(b"", "ends early")
    refuses(b"\x89PNG\r\n\x1a\n" + bytes(60), "this is no snapshot")
    refuses(FILE[:-1], "ends early")
    refuses(FILE + b"\0", "bytes after the end")
    refuses(FILE[:-1] + bytes([FILE[-1] ^ 1]), "its checksum is another")
    refuses(FILE[:48] + b"\x02\xff\xff\xff\xff", "a record of 4294967295 bytes, where")
    refuses(FILE[:48] + b"\x77", "ends early")
    refuses(FILE[:48] + b"\x77\0\0\0\0", "of kind 119")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_changed_byte_is_believed(data: st.DataObject) -> None:
    """Also where the checksum is made to fit."""
    records = [*RECORDS]
    place = data.draw(st.integers(0, len(records) - 1))
    kind, content = records[place]
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = content[at] ^ data.draw(st.integers(1, 255))
    changed = content[:at] + bytes([flipped]) + content[at + 1 :]
    changed_file = [*records[:place], (kind, changed), *records[place + 1 :]]
    with pytest.raises(SnapshotError):
        loaded(file_of(CHAIN_ID, changed_file))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.binary(min_size=0, max_size=40))
def test_no_cut_or_spliced_file_is_believed(at: int, inserted: bytes) -> None:
    data = FILE[:at] + inserted
    if data != FILE:
        with pytest.raises(SnapshotError):
            loaded(data)


# --- making one -----------------------------------------------------------------------------


def test_a_pruned_node_still_makes_one() -> None:
    chain = CertifiedChain()
    keep = RULES.duplicate_window_heights + RULES.digest_window_heights
    chain.ledger.retention = Retention(keep, lambda: chain.ledger.head.height - 2 * keep)
    for height in range(1, 150):
        chain.commit(numbered(height, 10_000 + height))
    assert chain.ledger.base.height > 50
    assert chain.store.get(Table.BATCHES, bytes(7) + b"\1") is None
    _, store = loaded(snapshot_of(chain))
    go_on(chain, CertifiedChain(store))


def test_without_enough_batches_none_is_made() -> None:
    chain = grown(93)
    assert isinstance(chain.store, MemoryStore)
    first = int.from_bytes(chain.store.range(Table.BATCHES, b"", 1, reverse=True)[0][0], "big") - 2
    batch = StoredBatch.decode(chain.store.get(Table.BATCHES, first.to_bytes(8, "big")) or b"")
    writes = WriteBatch()
    uncertified = StoredBatch(batch.header, batch.data)
    writes.put(Table.BATCHES, first.to_bytes(8, "big"), uncertified.encode())
    chain.store.save(writes)
    began, _ = loaded(snapshot_of(chain))
    assert began.last_batch == first - 1
    writes.delete(Table.BATCHES, (first - 3).to_bytes(8, "big"))
    chain.store.save(writes)
    with pytest.raises(SnapshotError, match="does not reach far enough back"):
        snapshot_of(chain)
