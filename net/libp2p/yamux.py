"""yamux 1.0.0 as a machine without I/O: bytes in, events out; headers to send as bytes.

Source: https://github.com/hashicorp/yamux/blob/master/spec.md. Every frame has a 12-byte header:
version, type, flags, stream id, length. A stream starts with a SYN (dialler: odd ids, listener:
even ids), each side ends its half with a FIN, and either resets it with an RST. Flow control is
per stream: a side may send as many bytes as the other has granted, 256 KiB to begin with.

The owner of the machine decides when received bytes are used up (`consume`), which is what grants
the peer new window; a slow owner thereby stops the peer instead of growing memory. Pings are
answered here. Whatever the peer may not do raises PeerError, after which the machine is dead.
"""

from dataclasses import dataclass
from struct import Struct

from net.libp2p.errors import PeerError, Reason

YAMUX = "/yamux/1.0.0"
HEADER_BYTES = 12
INITIAL_WINDOW_BYTES = 256 * 1024

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8

_HEADER = Struct(">BBHII")
_MAX_WINDOW = 0xFFFF_FFFF
_GO_AWAY_NORMAL = 0


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream."""

    stream: int


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream; a view into what was passed to `receive`."""

    stream: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class WindowGranted:
    """The peer lets us send more on a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamFinished:
    """The peer will send no more on a stream; it may still read."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer gave up a stream in both directions."""

    stream: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """The peer is about to close the connection."""

    code: int


Event = StreamOpened | DataReceived | WindowGranted | StreamFinished | StreamReset | WentAway


@dataclass(slots=True)
class _Stream:
    send_window: int = INITIAL_WINDOW_BYTES
    receive_window: int = INITIAL_WINDOW_BYTES  # what the peer may still send
    window_size: int = INITIAL_WINDOW_BYTES  # what it may send when all is consumed
    consumed: int = 0  # used up and not granted again yet
    finished_here: bool = False
    finished_there: bool = False


class Yamux:
    """One end of a yamux session."""

    def __init__(self, is_dialer: bool, max_streams: int, max_pending_bytes: int) -> None:
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1 if is_dialer else 2
        self._max_streams = max_streams
        self._max_pending_bytes = max_pending_bytes
        self._pending = bytearray()  # headers to send
        self._partial = b""  # a header that has not arrived completely
        self._body_stream = 0  # where the rest of the current DATA frame belongs
        self._body_left = 0
        self._body_flags = 0

    # -- sending

    def open_stream(self) -> int:
        """Open a stream; its id."""
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = _Stream()
        self._queue(WINDOW_UPDATE, SYN, stream_id, 0)
        return stream_id

    def has_stream(self, stream_id: int) -> bool:
        """Whether a stream is open in at least one direction."""
        return stream_id in self._streams

    def send_window(self, stream_id: int) -> int:
        """How many bytes may be sent on a stream now; 0 if it is gone or finished here."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None or stream.finished_here else stream.send_window

    def data_header(self, stream_id: int, length: int) -> bytes:
        """The header in front of `length` bytes of data, at most `send_window`."""
        stream = self._streams[stream_id]
        assert 0 < length <= stream.send_window
        assert not stream.finished_here
        stream.send_window -= length
        return _HEADER.pack(0, DATA, 0, stream_id, length)

    def finish(self, stream_id: int) -> None:
        """Send no more on a stream; what was sent before still arrives."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.finished_here:
            stream.finished_here = True
            self._queue(DATA, FIN, stream_id, 0)
            self._forget_if_over(stream_id, stream)

    def reset(self, stream_id: int) -> None:
        """Give up a stream in both directions."""
        if self._streams.pop(stream_id, None) is not None:
            self._queue(DATA, RST, stream_id, 0)

    def ping(self, value: int) -> None:
        """Ask the peer for a sign of life; `value` is any 32-bit number."""
        self._queue(PING, SYN, 0, value)

    def go_away(self) -> None:
        """Announce that the connection is about to be closed."""
        self._queue(GO_AWAY, 0, 0, _GO_AWAY_NORMAL)

    @property
    def has_pending(self) -> bool:
        """Whether headers are queued."""
        return bool(self._pending)

    def take_pending(self) -> bytes:
        """The headers queued since the last call, to be sent before any new data."""
        pending = bytes(self._pending)
        self._pending.clear()
        return pending

    # -- receiving

    def widen(self, stream_id: int, window_bytes: int) -> None:
        """Let the peer send `window_bytes` ahead on a stream (never less than before)."""
        stream = self._streams.get(stream_id)
        if stream is not None and window_bytes > stream.window_size:
            stream.consumed += window_bytes - stream.window_size
            stream.window_size = window_bytes
            self._grant(stream_id, stream)

    def consume(self, stream_id: int, count: int) -> None:
        """Say that `count` received bytes are used up, so that the peer may send more."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.consumed += count
            if 4 * stream.consumed >= stream.window_size and not stream.finished_there:
                self._grant(stream_id, stream)

    def receive(self, data: bytes) -> list[Event]:
        """What `data`, the next bytes of the connection, means; PeerError if it is not allowed."""
        events: list[Event] = []
        view = memoryview(data)
        while view:
            if self._body_left:
                view = self._receive_body(view, events)
                continue
            if self._partial or len(view) < HEADER_BYTES:
                missing = HEADER_BYTES - len(self._partial)
                self._partial += view[:missing]
                view = view[missing:]
                if len(self._partial) == HEADER_BYTES:
                    header, self._partial = self._partial, b""
                    self._receive_header(header, events)
                continue
            self._receive_header(view, events)
            view = view[HEADER_BYTES:]
        if len(self._pending) > self._max_pending_bytes:
            raise PeerError(Reason.CONTROL_FLOOD)
        return events

    def _receive_body(self, view: memoryview, events: list[Event]) -> memoryview:
        part = view[: self._body_left]
        self._body_left -= len(part)
        if self._body_stream in self._streams:
            events.append(DataReceived(self._body_stream, part))
            if not self._body_left:
                self._receive_flags(self._body_stream, self._body_flags, events)
        return view[len(part) :]

    def _receive_header(self, header: bytes | memoryview, events: list[Event]) -> None:
        version, kind, flags, stream_id, length = _HEADER.unpack_from(header)
        if version != 0:
            raise PeerError(Reason.YAMUX_VERSION, f"yamux version {version}")
        if kind == DATA:
            self._receive_data(stream_id, flags, length, events)
        elif kind == WINDOW_UPDATE:
            self._receive_window_update(stream_id, flags, length, events)
        elif kind == PING:
            if flags & SYN:
                self._queue(PING, ACK, 0, length)
        elif kind == GO_AWAY:
            events.append(WentAway(length))
        else:
            raise PeerError(Reason.YAMUX_TYPE, f"yamux frame of type {kind}")

    def _receive_data(self, stream_id: int, flags: int, length: int, events: list[Event]) -> None:
        stream = self._stream_of(stream_id, flags, events)
        if stream is not None and length:
            if stream.finished_there:
                raise PeerError(Reason.YAMUX_STREAM, f"data after FIN on stream {stream_id}")
            if length > stream.receive_window:
                excess = length - stream.receive_window
                raise PeerError(Reason.YAMUX_WINDOW, f"{excess} bytes beyond the window")
            stream.receive_window -= length
        # the data of a stream that we gave up meanwhile is on its way: skip it
        self._body_stream, self._body_left, self._body_flags = stream_id, length, flags
        if not length:
            self._receive_flags(stream_id, flags, events)

    def _receive_window_update(
        self, stream_id: int, flags: int, length: int, events: list[Event]
    ) -> None:
        stream = self._stream_of(stream_id, flags, events)
        if stream is not None and length:
            stream.send_window = min(stream.send_window + length, _MAX_WINDOW)
            events.append(WindowGranted(stream_id))
        self._receive_flags(stream_id, flags, events)

    def _receive_flags(self, stream_id: int, flags: int, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or not flags & (FIN | RST):
            return
        if flags & RST:
            del self._streams[stream_id]
            events.append(StreamReset(stream_id))
        elif not stream.finished_there:
            stream.finished_there = True
            events.append(StreamFinished(stream_id))
            self._forget_if_over(stream_id, stream)

    def _stream_of(self, stream_id: int, flags: int, events: list[Event]) -> _Stream | None:
        """The stream a frame belongs to, new if it carries a SYN; None if it is gone."""
        if not flags & SYN:
            return self._streams.get(stream_id)
        if stream_id == 0 or stream_id % 2 == self._next_id % 2 or stream_id in self._streams:
            raise PeerError(Reason.YAMUX_STREAM, f"stream {stream_id} may not be opened")
        if sum(each % 2 == stream_id % 2 for each in self._streams) >= self._max_streams:
            raise PeerError(Reason.TOO_MANY_STREAMS, f"more than {self._max_streams} streams")
        stream = self._streams[stream_id] = _Stream()
        self._queue(WINDOW_UPDATE, ACK, stream_id, 0)
        events.append(StreamOpened(stream_id))
        return stream

    # -- both

    def _grant(self, stream_id: int, stream: _Stream) -> None:
        self._queue(WINDOW_UPDATE, 0, stream_id, stream.consumed)
        stream.receive_window += stream.consumed
        stream.consumed = 0

    def _forget_if_over(self, stream_id: int, stream: _Stream) -> None:
        if stream.finished_here and stream.finished_there:
            del self._streams[stream_id]

    def _queue(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._pending += _HEADER.pack(0, kind, flags, stream_id, length)
