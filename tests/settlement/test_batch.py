"""Batches: what is encoded comes back, and nothing else is ever accepted."""

import hashlib
import random
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sequencer.settlement import batch
from sequencer.settlement.batch import (
    BATCH_OVERHEAD,
    GENESIS_LOG_ROOT,
    HEADER_BYTES,
    MAX_BATCH_BYTES,
    MAX_CALLDATA_BYTES,
    BatchHeader,
    InvalidBatch,
    LogEntry,
    decode_batch,
    encode_batch,
    next_log_root,
    uncompressed_size,
)

HEADER = BatchHeader(
    chain_id=b"\x01" * 32,
    l1_chain_id=1337,
    contract=b"\x02" * 20,
    epoch=3,
    number=4,
    previous_log_root=b"\x05" * 32,
    first_position=6,
    last_position=8,
    log_root=b"\x07" * 32,
    data_hash=b"\x08" * 32,
    blob_hashes=bytes(32),
    entry_count=3,
)

u64 = st.integers(0, 2**64 - 1)


@st.composite
def runs(draw: st.DrawFn) -> list[LogEntry]:
    """Any run of entries that a log can hold: blocks of rising height, not falling time."""
    heights = sorted(draw(st.sets(u64, min_size=1, max_size=6)))
    times = sorted(draw(st.lists(u64, min_size=len(heights), max_size=len(heights))))
    entries = []
    for height, timestamp_ms in zip(heights, times, strict=True):
        for _ in range(draw(st.integers(1, 4))):
            transaction = draw(st.binary(max_size=300))
            entries.append(LogEntry(height, timestamp_ms, draw(u64), transaction))
    return entries


def realistic_run(count: int, seed: int = 1) -> list[LogEntry]:
    """Transfers and calls of some 220 bytes with high-entropy signatures, 40 in a block."""
    source = random.Random(seed)
    accounts = [source.randbytes(20) for _ in range(200)]
    tokens = [source.randbytes(20) for _ in range(10)]
    entries = []
    for index in range(count):
        body = b"\x02\xf8\xd1\x82\x05\x39" + source.randrange(5000).to_bytes(2, "big")
        body += b"\x84\x3b\x9a\xca\x00\x84\x77\x35\x94\x00\x83\x01\x86\xa0\x94"
        body += source.choice(tokens) + b"\x80\xb8\x44\xa9\x05\x9c\xbb" + bytes(12)
        body += source.choice(accounts) + source.randrange(10**18).to_bytes(32, "big")
        body += b"\xc0\x80\xa0" + source.randbytes(32) + b"\xa0" + source.randbytes(32)
        entries.append(LogEntry(1000 + index // 40, 1_700_000_000_000 + index // 40 * 250, 7, body))
    return entries


def stored(payload: bytes) -> bytes:
    return b"\x00" + payload


def compressed(payload: bytes) -> bytes:
    return b"\x01" + zstandard.ZstdCompressor(level=3).compress(payload)


def payload_of(entries: list[LogEntry]) -> bytes:
    return batch._encode_payload(entries)


# The log root


def test_the_log_root_is_pinned() -> None:
    root = next_log_root(GENESIS_LOG_ROOT, LogEntry(1, 2, 3, b"transaction"))
    leaf = hashlib.sha256(bytes(7) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"\3" + b"transaction")
    assert root == hashlib.sha256(bytes(32) + leaf.digest()).digest()
    assert root.hex() == "144976fcf51046f713fe7ffc31ed2d425946de9b7bfa584c2a06b302f0a4a16e"


@given(runs(), st.randoms())
def test_the_log_root_commits_to_order_and_every_field(
    entries: list[LogEntry], source: random.Random
) -> None:
    def fold(run: list[LogEntry]) -> bytes:
        root = GENESIS_LOG_ROOT
        for entry in run:
            root = next_log_root(root, entry)
        return root

    shuffled = list(entries)
    source.shuffle(shuffled)
    assert (fold(shuffled) == fold(entries)) == (shuffled == entries)
    spoilt = replace(entries[-1], namespace=entries[-1].namespace ^ 1)
    assert fold([*entries[:-1], spoilt]) != fold(entries)


# The header


def test_the_header_layout_is_pinned() -> None:
    data = HEADER.encode()
    assert len(data) == HEADER_BYTES == 480
    assert data[:32] == b"dseq/batch/1" + bytes(20)
    assert data[96:128] == bytes(12) + b"\x02" * 20
    assert data[128:160] == (3).to_bytes(32, "big")
    assert (
        hashlib.sha256(data).hexdigest()
        == "d001b37b3100bd48e1962fa783cd4891653b15210f6b0cf32c8a1fda919c87c9"
    )


def test_a_header_comes_back() -> None:
    assert BatchHeader.decode(HEADER.encode()) == HEADER


@given(st.binary(max_size=600) | st.binary(min_size=480, max_size=480))
def test_any_bytes_are_a_header_or_invalid(data: bytes) -> None:
    with pytest.raises(InvalidBatch):
        BatchHeader.decode(data)


@given(st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_never_decodes_to_the_same_header(position: int, flip: int) -> None:
    data = bytearray(HEADER.encode())
    data[position] ^= flip
    try:
        header = BatchHeader.decode(bytes(data))
    except InvalidBatch:
        return
    assert header != HEADER
    assert header.encode() == bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": b"\x01" * 31},
        {"contract": b"\x02" * 32},
        {"blob_hashes": b""},
        {"l1_chain_id": 2**256},
        {"l1_chain_id": -1},
        {"number": 0},
        {"number": 2**64},
        {"epoch": 2**64},
        {"epoch": -1},
        {"first_position": 9},
        {"entry_count": 2},
        {"entry_count": 0},
        {"l1_origin": -1},
        {"forced_index": 2**64},
    ],
)
def test_a_header_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidBatch):
        replace(HEADER, **change)  # type: ignore[arg-type]


# Round trip


@given(runs())
def test_a_run_comes_back(entries: list[LogEntry]) -> None:
    data = encode_batch(entries)
    assert decode_batch(data) == entries
    assert encode_batch(list(entries)) == data
    assert len(data) <= BATCH_OVERHEAD + sum(map(uncompressed_size, entries))


@given(runs())
def test_the_closing_rule_never_underestimates(entries: list[LogEntry]) -> None:
    estimate = BATCH_OVERHEAD + sum(map(uncompressed_size, entries))
    assert len(stored(payload_of(entries))) <= estimate


def test_the_format_is_pinned() -> None:
    entries = [
        LogEntry(300, 1000, 1, b"ab"),
        LogEntry(300, 1000, 2, b""),
        LogEntry(301, 1250, 1, b"c"),
    ]
    assert payload_of(entries).hex() == "03ac020001e80700fa01010201020001616263"
    assert encode_batch(entries) == stored(payload_of(entries))
    repeated = [LogEntry(1, 1, 1, bytes(500))]
    assert encode_batch(repeated)[:5] == b"\x01\x28\xb5\x2f\xfd"


def test_a_full_batch_of_incompressible_bytes_is_stored_within_the_cap() -> None:
    filler = random.Random(1).randbytes(MAX_BATCH_BYTES)
    empty = LogEntry(2**64 - 1, 2**64 - 1, 2**64 - 1, b"")
    room = MAX_BATCH_BYTES - BATCH_OVERHEAD - uncompressed_size(replace(empty, transaction=filler))
    fitting = replace(empty, transaction=filler[: room + len(filler)])
    assert BATCH_OVERHEAD + uncompressed_size(fitting) == MAX_BATCH_BYTES
    data = encode_batch([fitting])
    assert data[0] == batch.STORED
    assert MAX_BATCH_BYTES - 2 <= len(data) <= MAX_BATCH_BYTES
    with pytest.raises(InvalidBatch, match="cap"):
        encode_batch([replace(fitting, transaction=filler)])


def test_a_full_call_fits_its_bound() -> None:
    envelope = 4 + 4 * 32 + (32 + HEADER_BYTES) + (32 + 32) + (32 + 256) + 32
    assert envelope + MAX_BATCH_BYTES <= MAX_CALLDATA_BYTES


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [LogEntry(2, 1, 0, b""), LogEntry(1, 1, 0, b"")],
        [LogEntry(1, 2, 0, b""), LogEntry(2, 1, 0, b"")],
        [LogEntry(1, 1, 0, b""), LogEntry(1, 2, 0, b"")],
        [LogEntry(2**64, 1, 0, b"")],
        [LogEntry(1, -1, 0, b"")],
        [LogEntry(1, 1, 2**64, b"")],
    ],
    ids=["empty", "height falls", "time falls", "two times", "height", "time", "namespace"],
)
def test_a_run_that_no_log_has_is_refused(entries: list[LogEntry]) -> None:
    with pytest.raises(InvalidBatch):
        encode_batch(entries)


# Anything else


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_invalid(data: bytes) -> None:
    for candidate in (data, stored(data), b"\x01\x28\xb5\x2f\xfd" + data, compressed(data)):
        try:
            entries = decode_batch(candidate)
        except InvalidBatch:
            continue
        assert payload_of(entries) == (candidate[1:] if candidate[0] == 0 else data)


@settings(max_examples=300)
@given(runs(), st.data())
def test_spoilt_bytes_decode_or_are_invalid(entries: list[LogEntry], data: st.DataObject) -> None:
    for original in (stored(payload_of(entries)), compressed(payload_of(entries))):
        spoilt = bytearray(original)
        position = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[position] ^= data.draw(st.integers(1, 255))
        try:
            decoded = decode_batch(bytes(spoilt))
        except InvalidBatch:
            continue
        # What is accepted has one payload: the same entries never have two stored forms.
        if original[0] == spoilt[0] == batch.STORED:
            assert decoded != entries
            assert stored(payload_of(decoded)) == bytes(spoilt)


@given(runs(), st.data())
def test_cut_or_extended_bytes_are_refused(entries: list[LogEntry], data: st.DataObject) -> None:
    for whole in (stored(payload_of(entries)), compressed(payload_of(entries))):
        with pytest.raises(InvalidBatch):
            decode_batch(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(InvalidBatch):
            decode_batch(whole + data.draw(st.binary(min_size=1, max_size=200)))


@pytest.mark.parametrize(
    "payload",
    [
        "00",
        "018000010100",
        "0101018080808080808080800200",
        "010101808080808080808080800100",
        "0201ffffffffffffffffff01010101010000",
        "020100010101010000",
        "0101010102aa",
        "0101010101aabb",
        "01010101ffffffffffffffffff01aa",
        "ffffffffffffffffff0101010101",
    ],
    ids=[
        "no entry",
        "longer varint",
        "varint of 65 bits",
        "varint of 11 bytes",
        "height beyond 64 bits",
        "two times in one block",
        "transaction cut",
        "a byte too many",
        "length beyond the end",
        "count beyond the end",
    ],
)
def test_a_payload_outside_its_one_form_is_refused(payload: str) -> None:
    for data in (stored(bytes.fromhex(payload)), compressed(bytes.fromhex(payload))):
        with pytest.raises(InvalidBatch):
            decode_batch(data)


def block(kind: int, size: int, content: bytes, last: bool) -> bytes:
    """One zstd block: raw (0) or one byte repeated (1)."""
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def frame(stated: int | None, blocks: bytes, window: int = 0x58) -> bytes:
    """A frame that states (or does not state) a content size, whatever its blocks hold."""
    if stated is None:
        return b"\x28\xb5\x2f\xfd" + bytes([0x00, window]) + blocks
    return b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + stated.to_bytes(8, "little") + blocks


ENTRY = payload_of([LogEntry(1, 1, 1, b"x" * 100)])


def test_a_hand_made_frame_is_read() -> None:
    data = b"\x01" + frame(len(ENTRY), block(0, len(ENTRY), ENTRY, True))
    assert decode_batch(data) == [LogEntry(1, 1, 1, b"x" * 100)]


BOMB = b"".join(block(1, 1 << 17, b"x", False) for _ in range(2400)) + block(1, 1, b"x", True)


@pytest.mark.parametrize(
    "data",
    [
        frame(300 << 20, BOMB),
        frame(len(ENTRY), BOMB),
        frame(MAX_BATCH_BYTES - 1, BOMB),
        frame(None, BOMB),
        frame(None, block(0, len(ENTRY), ENTRY, True)),
        frame(len(ENTRY) + 1, block(0, len(ENTRY), ENTRY, True)),
        frame(len(ENTRY) - 1, block(0, len(ENTRY), ENTRY, True)),
        frame(None, BOMB, window=0xFF),
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + zstandard.compress(ENTRY),
        zstandard.compress(ENTRY) + b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",
        zstandard.compress(ENTRY[:50]) + zstandard.compress(ENTRY[50:]),
        zstandard.ZstdCompressor(write_checksum=True).compress(ENTRY),
        zstandard.ZstdCompressor(write_content_size=False).compress(ENTRY),
    ],
    ids=[
        "states 300 MiB",
        "states little, holds 300 MiB",
        "states the cap, holds 300 MiB",
        "states nothing, holds 300 MiB",
        "states nothing",
        "states a byte more",
        "states a byte less",
        "huge window",
        "skippable frame before",
        "skippable frame after",
        "two frames",
        "checksum",
        "no content size",
    ],
)
def test_a_frame_with_a_trick_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidBatch):
        decode_batch(b"\x01" + data)


def test_a_bomb_costs_little_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(InvalidBatch):
            decode_batch(b"\x01" + frame(MAX_BATCH_BYTES - 1, BOMB))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(BOMB) < 10_000
    assert peak < 8 << 20


def test_the_cap_holds_for_both_forms() -> None:
    entries = [LogEntry(1, 1, 1, bytes(1000))]
    payload = payload_of(entries)
    for data in (stored(payload), compressed(payload)):
        assert decode_batch(data, cap=1 + len(payload)) == entries
        with pytest.raises(InvalidBatch):
            decode_batch(data, cap=len(payload))


def test_realistic_transactions_shrink_to_less_than_half() -> None:
    entries = realistic_run(480)
    raw = sum(len(entry.transaction) for entry in entries)
    data = encode_batch(entries)
    estimate = BATCH_OVERHEAD + sum(map(uncompressed_size, entries))
    # 64 bytes of each are its signature; nothing compresses those.
    assert 64 * len(entries) < len(data) < 110 * len(entries)
    assert estimate < raw + 16 * len(entries)
    assert estimate <= MAX_BATCH_BYTES
