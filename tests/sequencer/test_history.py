"""Pruning: what is old goes with what is new, and nothing that anybody still needs."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sequencer.index
from consensus.types import Block
from sequencer.collection import Collection, transaction_id
from sequencer.history import Base, FinalHeight, Pruned, Pruner, Retention
from sequencer.index import TransactionIndex
from sequencer.ledger import Ledger
from sequencer.store.lmdb import LmdbStore
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import Store, WriteBatch
from tests.sequencer.certified_chain import RULES, CertifiedChain, genesis_with, numbered

KEEP = RULES.duplicate_window_heights + RULES.digest_window_heights


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer.index, "SEGMENT_ENTRIES", 4)


def pruned(heights: int, store: Store | None = None, l1: bool = False) -> CertifiedChain:
    genesis = genesis_with() if l1 else genesis_with(l1=None)
    chain = CertifiedChain(store, genesis)
    chain.ledger.retention = Retention(KEEP)
    extend(chain, heights)
    return chain


def extend(chain: CertifiedChain, heights: int) -> None:
    first = chain.ledger.head.height + 1
    for height in range(first, first + heights):
        chain.commit(numbered(height, 10_000 + height, max(1, height - 5)))


def rows(store: Store, table: Table) -> int:
    return len(store.range(table, b"", 1 << 20))


def test_within_its_window_a_pruned_log_answers_as_a_whole_one(small_segments: None) -> None:
    whole, chain = CertifiedChain(genesis=genesis_with(l1=None)), pruned(120)
    extend(whole, 120)
    ledger = chain.ledger
    assert ledger.head == whole.ledger.head
    assert ledger.base.height == 120 - KEEP
    for height in range(ledger.base.height + 1, 121):
        assert ledger.block_entries(height) == whole.ledger.block_entries(height)
        assert ledger.log_root(height) == whole.ledger.log_root(height)
        for number in (height, 10_000 + height):
            ident = transaction_id(901, b"transaction %d" % number)
            location = ledger.locate(ident)
            assert location is not None
            assert location == whole.ledger.locate(ident)
            assert ledger.transaction(location) == b"transaction %d" % number
    position = ledger.base.next_position
    assert ledger.entries(position, 10**6) == whole.ledger.entries(position, 10**6)


def test_below_its_window_a_pruned_log_says_so(small_segments: None) -> None:
    chain = pruned(120)
    ledger, base = chain.ledger, chain.ledger.base
    assert base == Base.load(chain.store)
    assert ledger.block(base.height) is None
    assert ledger.block_entries(base.height) == []
    assert ledger.block_row(base.height) is None
    assert ledger.proof_at_or_after(base.height - 1) is None
    assert ledger.is_pruned(1)
    assert ledger.is_pruned(base.height)
    assert not ledger.is_pruned(base.height + 1)
    with pytest.raises(Pruned, match="the log is kept from position"):
        ledger.entries(0, 10)
    with pytest.raises(Pruned):
        ledger.locate(transaction_id(901, b"transaction %d" % base.height))
    assert ledger.locate(transaction_id(901, b"transaction 1")) is None


def test_every_table_stops_growing(small_segments: None) -> None:
    chain = pruned(100)
    tables = [table for table in Table if table is not Table.META]
    before = {table: rows(chain.store, table) for table in tables}
    extend(chain, 300)
    for table in tables:
        assert rows(chain.store, table) <= before[table] + 64, table


def test_a_pruned_log_is_the_same_after_a_restart(small_segments: None) -> None:
    chain = pruned(100)
    assert isinstance(chain.store, MemoryStore)
    again = CertifiedChain(chain.store.crash(), chain.genesis)
    again.ledger.retention = Retention(KEEP)
    assert again.ledger.base == chain.ledger.base
    whole = CertifiedChain(genesis=genesis_with(l1=None))
    extend(whole, 100)
    for _ in range(60):
        extend(whole, 1)
        extend(again, 1)
        assert whole.ledger.head == again.ledger.head
    assert again.ledger.base.height == 160 - KEEP


def test_a_long_log_is_pruned_a_few_heights_a_block() -> None:
    chain = CertifiedChain(genesis=genesis_with(l1=None))
    extend(chain, 150)
    chain.ledger.retention = Retention(KEEP)
    bases = []
    for _ in range(60):
        extend(chain, 1)
        bases.append(chain.ledger.base.height)
    steps = [after - before for before, after in zip([0, *bases], bases, strict=False)]
    assert max(steps) == 4
    assert bases[-1] == 210 - KEEP


def test_a_crash_in_between_costs_nothing(small_segments: None) -> None:
    """Each step is part of its block's save: after any of them the store is whole."""
    chain = CertifiedChain(genesis=genesis_with(l1=None))
    extend(chain, 100)
    whole = CertifiedChain(genesis=genesis_with(l1=None))
    extend(whole, 100)
    for _ in range(40):
        assert isinstance(chain.store, MemoryStore)
        chain = CertifiedChain(chain.store.crash(), chain.genesis)
        chain.ledger.retention = Retention(KEEP)
        extend(chain, 1)
        extend(whole, 1)
        base = chain.ledger.base
        assert chain.ledger.entries(base.next_position, 10**6) == whole.ledger.entries(
            base.next_position, 10**6
        )


def test_a_collection_that_is_ordered_again_stays() -> None:
    chain = pruned(1)
    content = numbered(70_001)
    first = chain.commit(content)
    extend(chain, KEEP // 2)
    second = chain.commit(content)
    assert first.block.collections == second.block.collections
    extend(chain, KEEP - 5)
    assert chain.ledger.is_pruned(first.block.height)
    assert not chain.ledger.is_pruned(second.block.height)
    assert chain.ledger.collection(second.block.collections[0]) is not None
    chain.ledger.block_entries(second.block.height)
    extend(chain, 10)
    assert chain.ledger.collection_data(second.block.collections[0]) is None


def test_a_collection_that_waits_to_be_ordered_again_stays() -> None:
    chain = pruned(1)
    collection = Collection.seal(numbered(70_001))
    chain.commit(numbered(70_001))
    writes = WriteBatch()
    chain.ledger.put_collection(writes, collection)
    chain.store.save(writes)
    extend(chain, KEEP + 5)
    assert [held.digest for held in chain.ledger.unordered_collections()] == [collection.digest]


def test_what_is_not_final_on_the_l1_stays() -> None:
    chain = pruned(1, l1=True)
    batcher = chain.batcher
    assert batcher is not None
    final = 0

    def last_position(number: int) -> int:
        from sequencer.settlement.batch import BatchHeader

        batch = batcher.batch(number)
        return BatchHeader.decode(batch.header).last_position if batch is not None else -1

    settled = FinalHeight(chain.store, RULES, lambda: final, last_position)
    chain.ledger.retention = Retention(KEEP, settled)
    extend(chain, 3 * KEEP)
    assert chain.ledger.base.height == 0
    for final in (10, 20):
        extend(chain, KEEP)
        height = next(
            height
            for height in range(1, chain.ledger.head.height)
            if (row := chain.ledger.block_row(height)) is not None
            and row.first_position + row.count > last_position(final)
        )
        assert chain.ledger.base.height == height - KEEP - 1
        numbers = [
            int.from_bytes(key, "big") for key, _ in chain.store.range(Table.BATCHES, b"", 99)
        ]
        held = [last_position(number) for number in numbers]
        assert held[0] < chain.ledger.base.next_position <= held[1]
        assert numbers[0] < final


def test_a_log_that_never_was_is_not_pruned() -> None:
    chain = pruned(KEEP)
    assert chain.ledger.base == Base(0, bytes(32), 0)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(tmp_path / "data", genesis_with(l1=None).chain_id)
    yield store
    store.close()


def test_the_room_on_disk_is_used_again(
    on_disk: LmdbStore, tmp_path: Path, small_segments: None
) -> None:
    chain = CertifiedChain(on_disk, genesis_with(l1=None))
    chain.ledger.retention = Retention(KEEP)
    source = random.Random(1)
    file = tmp_path / "data" / "data.mdb"

    def bulk(blocks: int) -> int:
        for _ in range(blocks):
            chain.commit([(901, source.randbytes(9_000)) for _ in range(4)])
        return file.stat().st_size

    after_window = bulk(2 * KEEP)
    assert bulk(6 * KEEP) < 1.3 * after_window
    assert chain.ledger.base.height == 7 * KEEP


def test_the_index_forgets_segments_in_bounded_steps(small_segments: None) -> None:
    store = MemoryStore(bytes(32))
    index = TransactionIndex(store, 5, 0)
    source = random.Random(2)
    for height in range(1, 60):
        writes = WriteBatch()
        index.add_block(height, [source.randbytes(32) for _ in range(9)], writes)
        index.seal(height, writes)
        store.save(writes)
    while True:
        writes = WriteBatch()
        index.prune(40, writes, 7)
        gone = sum(value is None for value in writes.changes.get(Table.TRANSACTIONS, {}).values())
        assert gone <= 7
        if not len(writes):
            break
        store.save(writes)
    last_heights = [
        int.from_bytes(value[1:], "big") for _, value in store.range(Table.SEGMENTS, b"", 999)
    ]
    assert min(last_heights) > 40
    kept = {key for key, _ in store.range(Table.SEGMENTS, b"", 999)}
    assert {key[:4] for key, _ in store.range(Table.TRANSACTIONS, b"", 9_999)} == kept


def test_what_an_unsaved_batch_took_is_not_taken_twice() -> None:
    chain = CertifiedChain(genesis=genesis_with(l1=None))
    extend(chain, 20)
    pruner = Pruner(chain.store, TransactionIndex(chain.store, 5, 20), Base(0, bytes(32), 0))
    writes = WriteBatch()
    for _ in range(3):
        pruner.step(writes, 20)
    assert pruner.base.height == 12
    chain.store.save(writes)
    assert Base.load(chain.store).height == 12
    pruner.step(writes, 13)
    assert pruner.base.height == 13


Ask = Callable[[Ledger], object]


@pytest.mark.parametrize("ask", [lambda ledger: ledger.block(3), lambda ledger: ledger.block(93)])
def test_blocks_are_there_or_not(ask: Ask) -> None:
    found = ask(pruned(100).ledger)
    assert found is None or (isinstance(found, Block) and found.height == 93)
