"""The log: contiguous, numbered, de-duplicated, and the same on every member and after a crash."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sequencer.index
from consensus.codec import ZERO_HASH
from consensus.rules import Rules
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    genesis_block,
    genesis_qc,
)
from sequencer.block_entries import BlockEntries, extend_log_root
from sequencer.collection import Collection, transaction_id, verify_path
from sequencer.ethereum_hash import ethereum_hash, is_ethereum_envelope, public_hash
from sequencer.ledger import AppliedBlock, Head, Ledger
from sequencer.settlement.batch import GENESIS_LOG_ROOT, LogEntry, next_log_root
from sequencer.store.lmdb import LmdbStore
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import Store, StoreError, WriteBatch

CHAIN = b"\1" * 32
WINDOW = 5
RULES = Rules(duplicate_window_heights=WINDOW)
Transactions = list[tuple[int, bytes]]


def legacy(payload: bytes) -> bytes:
    """Bytes of the outer form of a legacy Ethereum transaction."""
    return bytes([0xC0 + len(payload)]) + payload


def typed(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + legacy(payload)


class Chain:
    """A ledger, and a committee of none that commits whatever the test wants."""

    def __init__(self, store: Store | None = None, rules: Rules = RULES) -> None:
        self.rules = rules
        self.store: Store = store if store is not None else MemoryStore(CHAIN)
        self.ledger = Ledger(self.store, CHAIN, rules)

    def block_of(self, collections: list[Collection]) -> Block:
        head = self.ledger.head
        height = head.height + 1
        return Block(
            0,
            height,
            height,
            head.block_id,
            genesis_qc(CHAIN),
            None,
            tuple(collection.digest for collection in collections),
            b"",
            1_000 + 10 * height,
            0,
        )

    def apply(
        self, batch: WriteBatch, *contents: Transactions, proved: bool = True
    ) -> AppliedBlock:
        collections = [Collection.seal(content) for content in contents]
        block = self.block_of(collections)
        return self.ledger.apply(batch, block, proof_of(block) if proved else None, collections)

    def commit(self, *contents: Transactions, proved: bool = True) -> AppliedBlock:
        batch = WriteBatch()
        applied = self.apply(batch, *contents, proved=proved)
        self.store.save(batch)
        return applied

    def reopen(self) -> "Chain":
        assert isinstance(self.store, MemoryStore)
        return Chain(self.store.crash(), self.rules)


def proof_of(block: Block) -> CommitProof:
    certificate = CommitCertificate(
        0, block.round, block.height, block.id, ZERO_HASH, b"\7", b"\1" * 96
    )
    return CommitProof(certificate, None, None)


def opaque(*numbers: int) -> Transactions:
    return [(901, b"transaction %d" % number) for number in numbers]


def ids_of(applied: AppliedBlock) -> list[bytes]:
    return [entry[3] for entry in applied.entries]


def all_entries(ledger: Ledger) -> list[LogEntry]:
    return ledger.entries(0, 10**6)


# --- the log --------------------------------------------------------------------------------


def test_an_empty_log_has_the_genesis_as_its_head() -> None:
    ledger = Chain().ledger
    genesis = genesis_block(CHAIN)
    assert ledger.head == Head(0, genesis.id, 0, GENESIS_LOG_ROOT, 0)
    assert ledger.block(0) == genesis == ledger.block_by_id(genesis.id)
    assert ledger.block(1) is None
    assert ledger.log_root(0) == GENESIS_LOG_ROOT
    assert ledger.log_root(1) is None
    assert ledger.entries(0, 9) == ledger.block_entries(0) == ledger.block_entries(1) == []
    assert ledger.proof_at_or_after(0) is None
    assert ledger.locate(bytes(32)) is None


def test_entries_come_in_the_order_of_blocks_collections_and_transactions() -> None:
    chain = Chain()
    first = chain.commit(opaque(1, 2), opaque(3))
    second = chain.commit()
    third = chain.commit(opaque(4))
    assert (first.first_position, second.first_position, third.first_position) == (0, 3, 3)
    assert chain.ledger.head == Head(3, third.block.id, 1_030, third.log_root, 4)
    expected = [
        LogEntry(1, 1_010, 901, b"transaction 1"),
        LogEntry(1, 1_010, 901, b"transaction 2"),
        LogEntry(1, 1_010, 901, b"transaction 3"),
        LogEntry(3, 1_030, 901, b"transaction 4"),
    ]
    assert all_entries(chain.ledger) == expected
    assert first.log_entries() + second.log_entries() + third.log_entries() == expected
    assert chain.ledger.block_entries(1) == expected[:3]
    assert chain.ledger.block_entries(2) == []


def test_any_range_of_positions_can_be_read() -> None:
    chain = Chain()
    for height in range(1, 8):
        chain.commit(*[opaque(height * 10 + place) for place in range(height % 3)])
    entries = all_entries(chain.ledger)
    assert len(entries) == chain.ledger.head.next_position == 7
    for start in range(9):
        for limit in range(9):
            assert chain.ledger.entries(start, limit) == entries[start : start + limit]


def test_the_log_root_is_settlement_s() -> None:
    chain = Chain()
    chain.commit(opaque(1, 2), [(7, b""), (2**64 - 1, b"x"), (7, b"y")])
    chain.commit(opaque(3))
    root = GENESIS_LOG_ROOT
    for entry in all_entries(chain.ledger):
        root = next_log_root(root, entry)
    assert chain.ledger.head.log_root == root == chain.ledger.log_root(2)


def test_what_was_applied_names_places_namespaces_and_ids() -> None:
    chain = Chain()
    applied = chain.commit(opaque(1, 2), [(5, b"three"), *opaque(1)], opaque(4))
    assert applied.entries == (
        (0, 0, 901, transaction_id(901, b"transaction 1")),
        (0, 1, 901, transaction_id(901, b"transaction 2")),
        (1, 0, 5, transaction_id(5, b"three")),
        (2, 0, 901, transaction_id(901, b"transaction 4")),
    )
    assert applied.row.repeated == (3,)


def test_C3_a_block_that_does_not_follow_is_an_assertion() -> None:
    chain = Chain()
    chain.commit(opaque(1))
    block = chain.block_of([])
    for wrong in (
        replace(block, height=1),
        replace(block, height=3),
        replace(block, parent_id=ZERO_HASH),
        replace(block, collections=(ZERO_HASH,)),
    ):
        with pytest.raises(AssertionError):
            chain.ledger.apply(WriteBatch(), wrong, None, [])
    assert chain.ledger.head.height == 1


def test_blocks_and_proofs_are_found() -> None:
    chain = Chain()
    blocks = [chain.commit(opaque(1), proved=False).block, chain.commit(opaque(2)).block]
    blocks.append(chain.commit(proved=False).block)
    for height, block in enumerate(blocks, 1):
        assert chain.ledger.block(height) == block == chain.ledger.block_by_id(block.id)
    proof = (2, proof_of(blocks[1]))
    assert chain.ledger.proof_at_or_after(1) == chain.ledger.proof_at_or_after(2) == proof
    assert chain.ledger.proof_at_or_after(3) is None


def test_a_block_that_was_only_kept_is_found_by_its_id() -> None:
    chain = Chain()
    block = chain.block_of([])
    batch = WriteBatch()
    chain.ledger.put_block(batch, block)
    chain.store.save(batch)
    assert chain.ledger.block_by_id(block.id) == block
    assert chain.ledger.block(1) is None


@pytest.mark.parametrize("on_disk", [False, True])
def test_blocks_that_can_never_be_committed_go_with_their_height(
    on_disk: bool, tmp_path: Path
) -> None:
    chain = Chain(LmdbStore(tmp_path, CHAIN, 1 << 24) if on_disk else None)
    first = chain.block_of([])
    second = replace(first, height=2, parent_id=first.id, timestamp_ms=2_000)
    rivals = [replace(first, round=round) for round in range(100, 150)]
    writes = WriteBatch()
    for block in (first, second, *rivals):
        chain.ledger.put_block(writes, block)
    chain.store.save(writes)
    chain = Chain(chain.store, chain.rules)  # what was kept before a restart counts as well
    assert chain.commit().block == first
    assert chain.ledger.block(1) == first == chain.ledger.block_by_id(first.id)
    assert chain.ledger.block_by_id(second.id) == second
    assert [chain.ledger.block_by_id(rival.id) for rival in rivals] == [None] * len(rivals)
    chain.commit()
    assert chain.ledger.block_by_id(second.id) is None
    assert chain.store.range(Table.UNCOMMITTED, b"", 1) == []
    chain.store.close()


# --- collections ----------------------------------------------------------------------------


def test_collections_wait_until_a_block_orders_them() -> None:
    chain = Chain()
    waiting, ordered, fetched = (Collection.seal(opaque(number)) for number in (1, 2, 3))
    batch = WriteBatch()
    chain.ledger.put_collection(batch, waiting)
    chain.ledger.put_collection(batch, ordered)
    chain.store.save(batch)
    assert {held.digest for held in chain.ledger.unordered_collections()} == {
        waiting.digest,
        ordered.digest,
    }
    batch = WriteBatch()
    chain.ledger.apply(batch, chain.block_of([ordered, fetched]), None, [ordered, fetched])
    chain.store.save(batch)
    chain = chain.reopen()
    left = chain.ledger.unordered_collections()
    assert [(held.digest, held.data) for held in left] == [(waiting.digest, waiting.data)]
    for collection in (waiting, ordered, fetched):
        assert chain.ledger.collection_data(collection.digest) == collection.data
        read = chain.ledger.collection(collection.digest)
        assert read is not None
        assert read.leaves == collection.leaves
    assert chain.ledger.collection(ZERO_HASH) is None


def test_a_collection_that_is_given_up_goes_unless_it_was_ordered_before() -> None:
    chain = Chain()
    ordered, waiting = Collection.seal(opaque(1)), Collection.seal(opaque(2))
    batch = WriteBatch()
    chain.ledger.apply(batch, chain.block_of([ordered]), None, [ordered])
    for again in (ordered, waiting):
        chain.ledger.put_collection(batch, again)
    chain.store.save(batch)
    batch = WriteBatch()
    for given_up in (ordered, waiting):
        chain.ledger.drop_collection(batch, given_up.digest)
    chain.store.save(batch)
    assert chain.ledger.unordered_collections() == []
    assert chain.ledger.collection_data(ordered.digest) == ordered.data
    assert chain.ledger.collection_data(waiting.digest) is None


def test_a_collection_saved_and_ordered_in_one_batch_does_not_wait() -> None:
    chain = Chain()
    collection = Collection.seal(opaque(1))
    batch = WriteBatch()
    chain.ledger.put_collection(batch, collection)
    chain.ledger.apply(batch, chain.block_of([collection]), None, [collection])
    chain.store.save(batch)
    assert chain.ledger.unordered_collections() == []
    assert all_entries(chain.ledger)[0].transaction == b"transaction 1"


# --- once within the window -----------------------------------------------------------------


def test_a_transaction_counts_once_in_a_block_and_in_a_batch() -> None:
    chain = Chain()
    batch = WriteBatch()
    first = chain.apply(batch, opaque(1, 2, 1), opaque(2, 3))
    second = chain.apply(batch, opaque(3, 4))
    chain.store.save(batch)
    assert first.row.repeated == (2, 3)
    assert second.row.repeated == (0,)
    assert [entry.transaction[-1:] for entry in all_entries(chain.ledger)] == [
        b"1",
        b"2",
        b"3",
        b"4",
    ]


def test_the_same_bytes_in_another_namespace_are_another_transaction() -> None:
    chain = Chain()
    assert chain.commit([(1, b"same"), (2, b"same")]).row.repeated == ()


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize(("distance", "counts"), [(1, False), (WINDOW - 1, False), (WINDOW, True)])
def test_the_duplicate_window_is_exact(reopened: bool, distance: int, counts: bool) -> None:
    chain = Chain()
    chain.commit(opaque(0))
    chain.commit(opaque(1))
    for _ in range(distance - 1):
        chain.commit()
    if reopened:
        chain = chain.reopen()
    assert len(chain.commit(opaque(1)).entries) == counts


def test_a_dropped_repetition_does_not_prolong_the_window() -> None:
    chain = Chain()
    chain.commit(opaque(1))
    for _ in range(WINDOW - 1):
        assert chain.commit(opaque(1)).entries == ()
    assert len(chain.commit(opaque(1)).entries) == 1


def test_a_transaction_ordered_again_after_the_window_is_located_where_it_is_newest() -> None:
    chain = Chain()
    chain.commit(opaque(1))
    for number in range(WINDOW):
        chain.commit(opaque(100 + number))
    chain.commit(opaque(1))
    location = chain.ledger.locate(transaction_id(901, b"transaction 1"))
    assert location is not None
    assert location.height == WINDOW + 2
    assert chain.reopen().ledger.locate(location.id) == location


class Model:
    """The rule in its plainest form."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.heights: dict[bytes, int] = {}
        self.entries: list[tuple[int, int, bytes]] = []

    def commit(self, height: int, contents: list[Transactions]) -> None:
        for namespace, transaction in (item for content in contents for item in content):
            id = transaction_id(namespace, transaction)
            if id not in self.heights or height - self.heights[id] >= self.window:
                self.heights[id] = height
                self.entries.append((height, namespace, transaction))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def shrink(entries: int) -> None:
        monkeypatch.setattr(sequencer.index, "SEGMENT_ENTRIES", entries)

    return shrink


def random_transaction(random_: random.Random) -> tuple[int, bytes]:
    payload = b"%d" % random_.randrange(40)
    shapes = [payload, b"\x02" + payload, legacy(payload), typed(2, payload)]
    return random_.choice([1, 2]), random_.choice(shapes)


@pytest.fixture(params=["spread", "crowded"])
def marks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crowded: one bucket and needles of a byte, so that many marks hint at others' heights."""
    if request.param == "crowded":
        monkeypatch.setattr(sequencer.index, "_BUCKET_MASK", 0)
        monkeypatch.setattr(sequencer.index, "_NEEDLE_BYTES", 1)
        monkeypatch.setattr(sequencer.index, "_MARK_BYTES", 6)


@pytest.mark.usefixtures("marks")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("segment_entries", [1, 3, 8, 10_000])
def test_any_history_is_the_same_with_any_batches_segments_and_crashes(
    small_segments: Callable[[int], None], seed: int, segment_entries: int
) -> None:
    small_segments(segment_entries)
    random_ = random.Random(f"{seed} {segment_entries}")
    chain, model = Chain(), Model(WINDOW)
    steady = Chain()
    batch = WriteBatch()
    for height in range(1, 60):
        contents = [
            [random_transaction(random_) for _ in range(random_.randint(1, 5))]
            for _ in range(random_.randint(0, 3))
        ]
        chain.apply(batch, *contents)
        steady.commit(*contents)
        model.commit(height, contents)
        if random_.random() < 0.4:
            chain.store.save(batch)
            batch = WriteBatch()
            if random_.random() < 0.3:
                chain = chain.reopen()
    chain.store.save(batch)
    assert chain.ledger.head == steady.ledger.head
    check_everything(chain.ledger, model)
    check_everything(chain.reopen().ledger, model)


def check_everything(ledger: Ledger, model: Model) -> None:
    entries = all_entries(ledger)
    assert [(entry.height, entry.namespace, entry.transaction) for entry in entries] == (
        model.entries
    )
    newest = {
        transaction_id(namespace, transaction): position
        for position, (_, namespace, transaction) in enumerate(model.entries)
    }
    for id, position in newest.items():
        location = ledger.locate(id)
        assert location is not None
        height, namespace, transaction = model.entries[position]
        assert (location.id, location.height, location.position) == (id, height, position)
        assert location.namespace == namespace
        assert location.index == position - ledger.first_position(height)
        assert ledger.transaction(location) == transaction
        block = ledger.block(height)
        assert block is not None
        collection = ledger.collection(block.collections[location.place])
        assert collection is not None
        assert collection.leaves[location.collection_index] == id
        if is_ethereum_envelope(transaction):
            assert ledger.locate(ethereum_hash(transaction), namespace) == location


# --- ids, aliases, segments -----------------------------------------------------------------


def test_ethereum_transactions_are_found_by_both_names() -> None:
    chain = Chain()
    raw = typed(2, b"payload")
    chain.commit(opaque(1), [(901, raw)])
    location = chain.ledger.locate(ethereum_hash(raw))
    assert location is not None
    assert location == chain.ledger.locate(transaction_id(901, raw))
    assert location == chain.ledger.locate(ethereum_hash(raw), 901)
    assert (location.height, location.index, location.position) == (1, 1, 1)
    assert (location.place, location.collection_index, location.namespace) == (1, 0, 901)
    assert chain.ledger.transaction(location) == raw
    assert chain.ledger.locate(ethereum_hash(raw), 902) is None


def test_bytes_copied_into_another_namespace_hide_nothing() -> None:
    chain = Chain()
    raw = legacy(b"victim")
    chain.commit([(901, raw)])
    chain.commit([(666, raw)])
    mine, copied = (chain.ledger.locate(ethereum_hash(raw), number) for number in (901, 666))
    assert mine is not None
    assert copied is not None
    assert (mine.height, copied.height) == (1, 2)
    for number, location in ((901, mine), (666, copied)):
        assert chain.reopen().ledger.locate(ethereum_hash(raw), number) == location


def test_other_bytes_have_no_alias() -> None:
    chain = Chain()
    for raw in (b"", b"\x02", b"opaque", legacy(b"x") + b"more", typed(5, b"x"), b"\xf8\x01"):
        chain.commit([(901, raw)])
        assert chain.ledger.locate(ethereum_hash(raw)) is None
        assert chain.ledger.locate(transaction_id(901, raw)) is not None
        assert public_hash(901, raw) == transaction_id(901, raw)
    assert public_hash(901, legacy(b"x")) == ethereum_hash(legacy(b"x"))


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"\xc0", False),
        (b"\xc1\x01", True),
        (b"\xc1\x01\x02", False),
        (b"\xc2\x01", False),
        (b"\xf7" + bytes(55), True),
        (b"\xf8\x38" + bytes(56), True),
        (b"\xf8\x38" + bytes(55), False),
        (b"\xf9\x01\x00" + bytes(256), True),
        (b"\xf9\x01", False),
        (b"\x02\xc1\x01", True),
        (b"\x01\xc0", True),
        (b"\x04\xf8\x38" + bytes(56), True),
        (b"\x05\xc1\x01", False),
        (b"\x00\xc1\x01", False),
        (b"\x02\x02", False),
    ],
)
def test_the_outer_form_of_an_ethereum_transaction(raw: bytes, answer: bool) -> None:
    assert is_ethereum_envelope(raw) is answer


@given(st.binary(max_size=12))
def test_any_bytes_have_an_answer(raw: bytes) -> None:
    assert is_ethereum_envelope(raw) in (True, False)


def test_a_hash_of_another_length_finds_nothing() -> None:
    chain = Chain()
    chain.commit([(901, legacy(b"x"))])
    for wrong in (b"", b"\0" * 31, b"\0" * 33, ethereum_hash(legacy(b"x")) + bytes(8)):
        assert chain.ledger.locate(wrong) is None
        assert not chain.ledger.is_recent(wrong)


def test_recent_means_within_the_window_or_in_memory(
    small_segments: Callable[[int], None],
) -> None:
    small_segments(1)
    chain = Chain()
    raw = typed(1, b"y")
    chain.commit([(901, raw)], opaque(1))
    names = [ethereum_hash(raw), transaction_id(901, raw), transaction_id(901, b"transaction 1")]
    for _ in range(2):
        assert all(chain.ledger.is_recent(name) for name in names)
        assert not chain.ledger.is_recent(ZERO_HASH)
        chain = chain.reopen()
    for _ in range(WINDOW - 1):
        chain.commit()
    assert all(chain.ledger.is_recent(name) for name in names)
    chain.commit()
    for _ in range(2):
        assert not any(chain.ledger.is_recent(name) for name in names)
        assert all(chain.ledger.locate(name) for name in names)
        chain = chain.reopen()


def test_a_miss_in_the_window_reads_nothing() -> None:
    class Counting(MemoryStore):
        reads = 0

        def get(self, table: Table, key: bytes) -> bytes | None:
            Counting.reads += table is Table.TRANSACTIONS
            return super().get(table, key)

        def get_many(self, table: Table, keys: object) -> dict[bytes, bytes]:
            Counting.reads += 1
            return super().get_many(table, keys)  # type: ignore[arg-type]

    chain = Chain(Counting(CHAIN), Rules())
    chain.commit(opaque(*range(20_000)))
    chain.commit(opaque(*range(20_000, 40_000)))
    assert len(chain.store.range(Table.SEGMENTS, b"", 99)) > 0
    assert chain.ledger.locate(ZERO_HASH) is None
    assert Counting.reads == 0


def test_a_segment_is_sorted_and_marked(small_segments: Callable[[int], None]) -> None:
    small_segments(4)
    chain = Chain()
    for height in range(40):
        chain.commit(opaque(*range(height * 10, height * 10 + 10)))
    rows = chain.store.range(Table.TRANSACTIONS, b"", 10_000)
    segments = chain.store.range(Table.SEGMENTS, b"", 10_000)
    assert [key for key, _ in segments] == [
        number.to_bytes(4, "big") for number in range(len(segments))
    ]
    heights = [int.from_bytes(value[1:], "big") for _, value in segments]
    assert heights == sorted(heights)
    for key, value in rows:
        segment = int.from_bytes(key[:4], "big")
        assert segments[segment][1][0] == key[4] >> 4
        assert int.from_bytes(value[:8], "big") <= heights[segment]


def test_what_left_the_window_is_forgotten() -> None:
    chain = Chain(rules=Rules(duplicate_window_heights=2))
    for height in range(100):
        chain.commit([(901, b"x" + os.urandom(8)) for _ in range(20)], [(901, b"%d" % height)])
    chain.ledger._index._sweep(1 << 16)
    assert sum(map(len, chain.ledger._index._marks)) == 2 * 21 * 11


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"\xff" + data[1:]])
def test_what_the_disk_changed_is_a_sentence_and_never_passed_on(
    spoil: Callable[[bytes], bytes],
) -> None:
    chain = Chain()
    block = chain.commit(opaque(1)).block
    batch = WriteBatch()
    for table, key in ((Table.BLOCKS, block.id), (Table.COLLECTIONS, block.collections[0])):
        batch.put(table, key, spoil(chain.store.get(table, key) or b""))
    chain.store.save(batch)
    with pytest.raises(StoreError, match=f"block {block.id.hex()} is damaged on disk"):
        chain.ledger.block_by_id(block.id)
    with pytest.raises(StoreError, match=r"collection \w+ is damaged on disk"):
        chain.ledger.collection(block.collections[0])


# --- rows -----------------------------------------------------------------------------------

NUMBERS = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**64 - 1),
    NUMBERS,
    NUMBERS,
    st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    st.lists(st.tuples(st.binary(min_size=40, max_size=40), st.integers(0, 99)), max_size=4),
)
def test_rows_read_back_what_was_written(
    root: bytes,
    position: int,
    counts: tuple[int, ...],
    repeated: tuple[int, ...],
    ids: list[bytes],
    aliases: list[tuple[bytes, int]],
) -> None:
    row = BlockEntries(root, position, counts, repeated, b"".join(ids), tuple(aliases))
    assert BlockEntries.decode(row.encode()) == row
    assert [row.id(index) for index in range(row.count)] == ids


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_an_index_leads_to_its_place(counts: list[int], data: st.DataObject) -> None:
    places = [(place, index) for place, count in enumerate(counts) for index in range(count)]
    repeated = data.draw(st.sets(st.integers(0, len(places) - 1)))
    row = BlockEntries(ZERO_HASH, 0, tuple(counts), tuple(sorted(repeated)), b"", ())
    kept = [place for ordinal, place in enumerate(places) if ordinal not in repeated]
    assert [row.place(index) for index in range(len(kept))] == kept


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=5)), max_size=6),
    st.integers(0, 2**64 - 1),
)
def test_the_fast_log_root_is_the_plain_one(entries: Transactions, timestamp: int) -> None:
    block = Block(0, 1, 7, ZERO_HASH, genesis_qc(CHAIN), None, (), b"", timestamp, 0)
    root = ZERO_HASH
    for namespace, transaction in entries:
        root = next_log_root(root, LogEntry(7, timestamp, namespace, transaction))
    assert extend_log_root(ZERO_HASH, block, entries) == root


def test_heads_read_back() -> None:
    head = Head(2**64 - 1, b"\2" * 32, 5, b"\3" * 32, 2**63)
    assert Head.decode(head.encode()) == head
    assert len(head.encode()) == 88


# --- on disk --------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Chain]:
    chain = Chain(LmdbStore(tmp_path / "data", CHAIN))
    yield chain
    chain.store.close()


def test_the_log_on_disk_is_the_log_in_memory(
    on_disk: Chain, tmp_path: Path, small_segments: Callable[[int], None]
) -> None:
    small_segments(6)
    memory, model = Chain(), Model(WINDOW)
    random_ = random.Random(1)
    for height in range(1, 40):
        contents = [
            [(901, legacy(b"%d" % number)) for number in random_.choices(range(300), k=9)],
            opaque(*random_.choices(range(300), k=9)),
        ]
        on_disk.commit(*contents)
        memory.commit(*contents)
        model.commit(height, contents)
    assert on_disk.ledger.head == memory.ledger.head
    check_everything(on_disk.ledger, model)
    on_disk.store.close()
    on_disk.store = LmdbStore(tmp_path / "data", CHAIN)
    check_everything(Chain(on_disk.store).ledger, model)
    for table in Table:
        if table is not Table.META:
            assert on_disk.store.range(table, b"", 10_000) == memory.store.range(table, b"", 10_000)


def test_a_located_entry_has_a_path_to_a_digest_of_its_block() -> None:
    chain = Chain()
    chain.commit(opaque(1, 2, 3), opaque(2, 4, 5))
    location = chain.ledger.locate(transaction_id(901, b"transaction 4"))
    assert location is not None
    block = chain.ledger.block(location.height)
    assert block is not None
    digest = block.collections[location.place]
    collection = chain.ledger.collection(digest)
    assert collection is not None
    path = collection.path(location.collection_index)
    assert verify_path(location.id, location.collection_index, collection.count, path, digest)
