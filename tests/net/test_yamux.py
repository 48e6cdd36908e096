"""The yamux machine against py-libp2p's, against its own bounds, and against nonsense."""

import struct
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.stream_muxer.yamux.yamux import Yamux as StockYamux
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from net.libp2p.errors import PeerError, Reason
from net.libp2p.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    DataReceived,
    Event,
    StreamFinished,
    StreamOpened,
    StreamReset,
    WentAway,
    WindowGranted,
    Yamux,
)

MAX_STREAMS = 64


def machine(is_dialer: bool = False) -> Yamux:
    return Yamux(is_dialer, MAX_STREAMS, 64 * 1024)


def header(kind: int, flags: int, stream: int, length: int, version: int = 0) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream, length)


def data(stream: int, body: bytes, flags: int = 0) -> bytes:
    return header(DATA, flags, stream, len(body)) + body


def headers(pending: bytes) -> list[tuple[int, ...]]:
    """(kind, flags, stream, length) of each queued header."""
    return [each[1:] for each in struct.iter_unpack(">BBHII", pending)]


def reason_of(action: Callable[[], object]) -> Reason:
    with pytest.raises(PeerError) as caught:
        action()
    return caught.value.reason


# -- one rule at a time


def test_a_stream_carries_bytes_both_ways_and_ends_one_half_at_a_time() -> None:
    dialer, listener = machine(True), machine(False)
    stream = dialer.open_stream()
    opened = listener.receive(dialer.take_pending())
    assert opened == [StreamOpened(stream)]
    wire = dialer.data_header(stream, 5) + b"hello"
    assert listener.receive(wire) == [DataReceived(stream, memoryview(b"hello"))]
    dialer.finish(stream)
    assert listener.receive(dialer.take_pending()) == [StreamFinished(stream)]
    wire = listener.take_pending() + listener.data_header(stream, 3) + b"bye"
    assert dialer.receive(wire) == [DataReceived(stream, memoryview(b"bye"))]
    listener.finish(stream)
    assert dialer.receive(listener.take_pending()) == [StreamFinished(stream)]
    assert not dialer.has_stream(stream)
    assert not listener.has_stream(stream)


def test_dialler_opens_odd_streams_and_listener_even_ones() -> None:
    dialer, listener = machine(True), machine(False)
    assert [dialer.open_stream() for _ in range(3)] == [1, 3, 5]
    assert [listener.open_stream() for _ in range(3)] == [2, 4, 6]


def test_pings_are_answered_with_their_value() -> None:
    end = machine()
    assert end.receive(header(PING, SYN, 0, 77) + header(PING, ACK, 0, 78)) == []
    assert headers(end.take_pending()) == [(PING, ACK, 0, 77)]


def test_window_is_granted_again_only_for_what_was_consumed() -> None:
    end = machine()
    end.receive(data(1, bytes(INITIAL_WINDOW_BYTES), SYN))
    end.take_pending()
    end.consume(1, INITIAL_WINDOW_BYTES // 8)
    assert end.take_pending() == b""  # too little to be worth a header
    end.consume(1, INITIAL_WINDOW_BYTES // 8)
    grant = INITIAL_WINDOW_BYTES // 4
    assert headers(end.take_pending()) == [(WINDOW_UPDATE, 0, 1, grant)]
    end.receive(data(1, bytes(grant)))
    assert reason_of(lambda: end.receive(data(1, b"x"))) is Reason.YAMUX_WINDOW


def test_a_widened_window_admits_as_much_and_no_more() -> None:
    end = machine()
    end.receive(header(WINDOW_UPDATE, SYN, 1, 0))
    end.widen(1, 1_000_000)
    assert headers(end.take_pending())[-1] == (WINDOW_UPDATE, 0, 1, 1_000_000 - (256 << 10))
    end.receive(data(1, bytes(1_000_000)))
    assert reason_of(lambda: end.receive(data(1, b"x"))) is Reason.YAMUX_WINDOW


def test_a_window_exceeded_is_noticed_at_the_header() -> None:
    wire = header(WINDOW_UPDATE, SYN, 1, 0) + header(DATA, 0, 1, INITIAL_WINDOW_BYTES + 1)
    assert reason_of(lambda: machine().receive(wire)) is Reason.YAMUX_WINDOW


def test_we_never_send_beyond_the_window_we_were_granted() -> None:
    end = machine(True)
    stream = end.open_stream()
    end.data_header(stream, INITIAL_WINDOW_BYTES)
    assert end.send_window(stream) == 0
    assert end.receive(header(WINDOW_UPDATE, ACK, stream, 10)) == [WindowGranted(stream)]
    assert end.send_window(stream) == 10
    for _ in range(3):
        end.receive(header(WINDOW_UPDATE, 0, stream, 0xFFFF_FFFF))
    assert end.send_window(stream) == 0xFFFF_FFFF
    with pytest.raises(AssertionError):
        end.data_header(stream, 1 << 33)


def test_so_many_streams_are_allowed_and_one_more_is_not() -> None:
    end = machine()
    for number in range(MAX_STREAMS):
        end.receive(header(WINDOW_UPDATE, SYN, 2 * number + 1, 0))
    end.open_stream()  # ours do not count
    wire = header(WINDOW_UPDATE, SYN, 2 * MAX_STREAMS + 1, 0)
    assert reason_of(lambda: end.receive(wire)) is Reason.TOO_MANY_STREAMS


def test_streams_that_are_over_make_room_for_new_ones() -> None:
    end = machine()
    for number in range(10 * MAX_STREAMS):
        stream = 2 * number + 1
        if number % 2:
            end.receive(header(DATA, SYN, stream, 0) + header(DATA, RST, stream, 0))
        else:
            end.receive(header(DATA, SYN | FIN, stream, 0))
            end.finish(stream)
        end.take_pending()


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (header(DATA, 0, 1, 0, version=1), Reason.YAMUX_VERSION),
        (header(4, 0, 1, 0), Reason.YAMUX_TYPE),
        (header(DATA, SYN, 0, 0), Reason.YAMUX_STREAM),
        (header(DATA, SYN, 2, 0), Reason.YAMUX_STREAM),  # even ids are the listener's
        (header(DATA, SYN, 1, 0) * 2, Reason.YAMUX_STREAM),
        (header(DATA, SYN | FIN, 1, 0) + data(1, b"x"), Reason.YAMUX_STREAM),
        (header(PING, SYN, 0, 1) * 6_000, Reason.CONTROL_FLOOD),
    ],
)
def test_what_a_peer_may_not_do_is_refused_with_its_reason(wire: bytes, reason: Reason) -> None:
    assert reason_of(lambda: machine().receive(wire)) is reason


def test_data_of_a_stream_we_gave_up_is_skipped() -> None:
    end = machine()
    end.receive(header(DATA, SYN, 1, 0))
    end.reset(1)
    assert headers(end.take_pending())[-1] == (DATA, RST, 1, 0)
    wire = data(1, bytes(1_000)) + header(WINDOW_UPDATE, 0, 1, 5) + header(PING, SYN, 0, 9)
    assert end.receive(wire) == []
    assert headers(end.take_pending()) == [(PING, ACK, 0, 9)]


def test_a_reset_ends_both_halves_and_a_farewell_is_reported() -> None:
    end = machine(True)
    stream = end.open_stream()
    wire = header(DATA, RST, stream, 0) + header(GO_AWAY, 0, 0, 2)
    assert end.receive(wire) == [StreamReset(stream), WentAway(2)]
    assert end.send_window(stream) == 0


# -- any cutting, any bytes

frames = st.lists(
    st.one_of(
        st.tuples(st.just(DATA), st.sampled_from([0, SYN, FIN, RST]), st.integers(0, 9)),
        st.tuples(st.just(WINDOW_UPDATE), st.integers(0, 15), st.integers(0, 9)),
        st.tuples(st.integers(0, 5), st.integers(0, 65_535), st.integers(0, 0xFFFF_FFFF)),
    ),
    max_size=30,
)


def run(wire: bytes, sizes: list[int]) -> tuple[list[Event], bytes, bytes, Reason | None]:
    """Events other than data, the data, what is pending and the error, if any."""
    end, body, start, turn = machine(), b"", 0, 0
    events: list[Event] = []
    try:
        while start < len(wire):
            size = sizes[turn % len(sizes)]
            for event in end.receive(wire[start : start + size]):
                if isinstance(event, DataReceived):
                    body += bytes(event.data)
                else:
                    events.append(event)
            start, turn = start + size, turn + 1
    except PeerError as error:
        return [], b"", b"", error.reason
    return events, body, end.take_pending(), None


@given(frames, st.data(), st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_what_bytes_mean_does_not_depend_on_how_they_were_cut(
    kinds: list[tuple[int, int, int]], draw: st.DataObject, sizes: list[int]
) -> None:
    wire = b""
    for kind, flags, stream in kinds:
        if kind == DATA:
            wire += data(stream, draw.draw(st.binary(max_size=30)), flags)
        else:
            wire += header(kind, flags, stream, draw.draw(st.integers(0, 1 << 20)))
    assert run(wire, sizes) == run(wire, [len(wire) or 1])


@given(st.binary(max_size=300))
def test_any_bytes_are_understood_or_a_peer_error(wire: bytes) -> None:
    with suppress(PeerError):
        machine().receive(wire)


# -- against py-libp2p


class OurEnd:
    """The machine with queues around it, answering a stock yamux within one trio loop."""

    is_initiator: bool

    def __init__(self, we_dial: bool) -> None:
        self.is_initiator = not we_dial  # how the stock class asks who it is
        self.machine = machine(we_dial)
        self.queues: dict[int, bytearray] = defaultdict(bytearray)
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.opened: list[int] = []
        self.has_finished = trio.Event()
        self.finishing: set[int] = set()
        self._inbound = bytearray()
        self._arrived = trio.Event()

    async def read(self, count: int) -> bytes:
        while not self._inbound:
            self._arrived = trio.Event()
            await self._arrived.wait()
        part = bytes(self._inbound[:count])
        del self._inbound[:count]
        return part

    async def write(self, wire: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for event in self.machine.receive(wire):
            if isinstance(event, StreamOpened):
                self.opened.append(event.stream)
            elif isinstance(event, DataReceived):
                self.received[event.stream] += event.data
                self.machine.consume(event.stream, len(event.data))
            elif isinstance(event, StreamFinished):
                self.has_finished.set()
            else:
                assert isinstance(event, WindowGranted)
        self.flush()

    async def close(self) -> None:
        pass

    def flush(self) -> None:
        out = self.machine.take_pending()
        for stream, queue in self.queues.items():
            while size := min(len(queue), self.machine.send_window(stream), 60_000):
                out += self.machine.data_header(stream, size) + queue[:size]
                del queue[:size]
            if not queue and stream in self.finishing:
                self.finishing.discard(stream)
                self.machine.finish(stream)
        self._inbound += out + self.machine.take_pending()
        self._arrived.set()


async def read_all(stream: YamuxStream) -> bytes:
    received = b""
    with suppress(MuxedStreamEOF):
        while part := await stream.read(65_536):
            received += part
    return received


async def exchange(we_dial: bool, we_open: bool, theirs: list[bytes], ours: list[bytes]) -> None:
    """Open a stream, send both sides' pieces at once, finish, and compare."""
    end = OurEnd(we_dial)
    stock = StockYamux(end, ID(b"peer"), is_initiator=not we_dial)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stock.start)
        await stock.event_started.wait()
        if we_open:
            stream_id = end.machine.open_stream()
            end.flush()
            stream = await stock.accept_stream()
        else:
            stream = await stock.open_stream()
            stream_id = stream.stream_id
        assert isinstance(stream, YamuxStream)
        end.queues[stream_id] += b"".join(ours)
        end.finishing.add(stream_id)

        async def write() -> None:
            for piece in theirs:
                await stream.write(piece)
            await stream.close()

        nursery.start_soon(write)
        end.flush()
        assert await read_all(stream) == b"".join(ours)
        await end.has_finished.wait()
        assert bytes(end.received[stream_id]) == b"".join(theirs)
        assert not end.machine.has_stream(stream_id)
        nursery.cancel_scope.cancel()


pieces = st.lists(
    st.one_of(st.integers(1, 300), st.integers(1, 400_000)).map(lambda n: bytes([n % 255]) * n),
    max_size=4,
)


@given(st.booleans(), st.booleans(), pieces, pieces)
@settings(max_examples=25)
def test_a_stock_yamux_and_ours_carry_each_others_bytes(
    we_dial: bool, we_open: bool, theirs: list[bytes], ours: list[bytes]
) -> None:
    async def limited() -> None:
        with trio.fail_after(10):
            await exchange(we_dial, we_open, theirs, ours)

    trio.run(limited)
