"""Frames survive any cutting of the byte stream, and bounds hold before memory is taken."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.libp2p.errors import PeerError, Reason
from net.libp2p.framing import FrameReader, SendQueue, encode_frame
from net.transport import MAX_FRAME_BYTES

payloads = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 60_000).map(lambda n: bytes([n % 251]) * n)),
    max_size=12,
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in pieces of the given sizes, again and again."""
    pieces, start, turn = [], 0, 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[start : start + size])
        start, turn = start + size, turn + 1
    return pieces


@given(payloads, st.lists(st.integers(1, 40_000), min_size=1, max_size=5))
def test_frames_arrive_whole_however_the_bytes_were_cut(
    frames: list[bytes], sizes: list[int]
) -> None:
    reader, received = FrameReader(), []
    for piece in cut(b"".join(map(encode_frame, frames)), sizes):
        reader.feed(memoryview(piece))
        received += reader.take(1_000)
    assert received == frames


@given(payloads, st.integers(1, 3))
def test_no_more_frames_are_parsed_than_asked_for_and_none_is_lost(
    frames: list[bytes], limit: int
) -> None:
    reader = FrameReader()
    reader.feed(memoryview(b"".join(map(encode_frame, frames))))
    received: list[bytes] = []
    while batch := reader.take(limit):
        assert len(batch) <= limit
        received += batch
    assert received == frames


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    largest = bytes(MAX_FRAME_BYTES)
    reader = FrameReader()
    reader.feed(memoryview(encode_frame(largest)))
    assert reader.take(1) == [largest]
    with pytest.raises(ValueError, match="exceeds"):
        encode_frame(largest + b"x")


def test_a_length_beyond_the_cap_is_refused_before_any_of_the_frame_is_there() -> None:
    reader = FrameReader()
    reader.feed(memoryview((MAX_FRAME_BYTES + 1).to_bytes(4, "big")))
    with pytest.raises(PeerError) as caught:
        reader.take(1)
    assert caught.value.reason is Reason.FRAME_TOO_LARGE


def test_small_pieces_do_not_keep_the_large_records_alive_that_they_came_in() -> None:
    reader, record = FrameReader(), bytearray(65_536)
    for _ in range(10):
        reader.feed(memoryview(record)[:100])
    record.extend(b"x")  # BufferError if a view of it were still held


def test_a_stream_that_is_never_quite_read_up_does_not_grow() -> None:
    reader, wire, received = FrameReader(), encode_frame(b"12345678") * 7, 0
    reader.feed(memoryview(wire[:5]))
    tracemalloc.start()
    for _ in range(3_000):
        reader.feed(memoryview(wire[5:] + wire[:5]))
        received += len(reader.take(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received == 21_000
    assert peak < 50_000


@given(st.lists(st.binary(min_size=1, max_size=50)), st.lists(st.integers(1, 70), min_size=1))
def test_a_send_queue_gives_back_what_it_was_given_in_any_portions(
    pieces: list[bytes], portions: list[int]
) -> None:
    queue, taken, turn = SendQueue(), b"", 0
    for piece in pieces:
        queue.push(piece)
    total = b"".join(pieces)
    while queue.size:
        portion = portions[turn % len(portions)]
        before = queue.size
        part = b"".join(queue.take(portion))
        assert len(part) == min(portion, before)
        assert queue.size == before - len(part)
        taken, turn = taken + part, turn + 1
    assert taken == total
