"""One authenticated connection on asyncio: socket <-> records <-> yamux <-> streams.

Receiving happens inside the socket's callback: whole records are decrypted, yamux says what they
mean, streams get their bytes. Sending is collected: whatever was queued on any stream since the
last turn of the loop goes out in one write, control before bulk.

All that a peer can do wrong ends in `guard`, which closes this connection, counts the reason and
lets nothing through to the node.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from net.libp2p import multistream
from net.libp2p.errors import PeerError, Reason, StreamEnded
from net.libp2p.framing import Buffer
from net.libp2p.handshake import Upgraded
from net.libp2p.noise import LENGTH_BYTES, MAX_PLAINTEXT_BYTES, MAX_RECORD_BYTES
from net.libp2p.options import MeshOptions
from net.libp2p.stream import Stream
from net.libp2p.yamux import (
    HEADER_BYTES,
    DataReceived,
    Event,
    StreamFinished,
    StreamOpened,
    StreamReset,
    WentAway,
    WindowGranted,
    Yamux,
)
from net.transport import PeerId

logger = logging.getLogger(__name__)

ProtocolHandler = Callable[["Connection", Stream], Awaitable[None]]

PRIORITY_CONTROL, PRIORITY_OTHER, PRIORITY_BULK = range(3)

# a DATA frame of this size fills one record
_MAX_DATA_BYTES = MAX_PLAINTEXT_BYTES - HEADER_BYTES
_RECEIVE_BUFFER_BYTES = 4 * (LENGTH_BYTES + MAX_RECORD_BYTES)


class Connection(asyncio.BufferedProtocol):
    """An authenticated connection to `peer`."""

    def __init__(
        self,
        upgraded: Upgraded,
        is_dialer: bool,
        handlers: Mapping[str, ProtocolHandler],
        options: MeshOptions,
    ) -> None:
        self.peer: PeerId = upgraded.channel.peer
        self.is_dialer = is_dialer
        self.reason: Reason | None = None
        """Why the connection was closed; None while it is open."""
        self.detail = ""
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is gone."""
        self.on_closed: Callable[[Connection], None] = lambda _: None
        self.bytes_in = self.bytes_out = 0
        self._upgraded = upgraded
        self._transport = upgraded.transport
        self._encoder = upgraded.channel.encoder
        self._decoder = upgraded.channel.decoder
        self._handlers = handlers
        self._options = options
        self._yamux = Yamux(is_dialer, options.streams, options.pending_control_bytes)
        self._streams: dict[int, Stream] = {}
        self._senders: list[Stream] = []  # the same streams, by priority
        self._tasks: set[asyncio.Task[None]] = set()
        self._buffer = memoryview(bytearray(_RECEIVE_BUFFER_BYTES))
        self._buffered = 0
        self._is_flush_scheduled = False
        self._paused_at: float | None = None
        self._heard_at = self._loop.time()

    def start(self) -> None:
        """Take over the socket from the handshake."""
        self._transport.set_write_buffer_limits(high=self._options.write_bytes)
        _limit_unsent(self._transport, self._options.unsent_bytes)
        self._transport.set_protocol(self)
        self.guard(self._receive_leftovers)

    # -- streams

    def open_stream(self, priority: int) -> Stream:
        """Open a stream; the caller has to negotiate its protocol."""
        stream_id = self._yamux.open_stream()
        return self._add_stream(stream_id, priority)

    def consume(self, stream_id: int, count: int) -> None:
        """Grant the peer as much window again."""
        self._yamux.consume(stream_id, count)
        if self._yamux.has_pending:
            self.schedule_flush()

    def widen(self, stream_id: int, window_bytes: int) -> None:
        """Let the peer send that much ahead on a stream."""
        self._yamux.widen(stream_id, window_bytes)
        self.schedule_flush()

    def reset_stream(self, stream_id: int) -> None:
        """Give up a stream in both directions."""
        self._yamux.reset(stream_id)
        self._remove_stream(stream_id)
        self.schedule_flush()

    def spawn(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` under `guard` until it is done or the connection is closed."""
        if self.reason is not None:
            return
        task = self._loop.create_task(self._guarded(action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- life and death

    def beat(self, now: float) -> None:
        """Send a heartbeat, and close the connection if nothing moves any more."""
        if now - self._heard_at > self._options.idle_timeout_s:
            self.close(Reason.IDLE)
        elif self._paused_at is not None and now - self._paused_at > self._options.write_timeout_s:
            self.close(Reason.WRITE_TIMEOUT)
        else:
            self._yamux.ping(int(now) & 0xFFFF_FFFF)
            self.schedule_flush()

    def forgive(self, now: float) -> None:
        """Start the idle time afresh: it was us who slept."""
        self._heard_at = now

    def close(self, reason: Reason, detail: str = "") -> None:
        """Close at once; queued bytes are lost. Only the first reason counts."""
        if self.reason is not None:
            return
        self.reason, self.detail = reason, detail
        self._transport.abort()
        self._end()

    def close_politely(self) -> None:
        """Send what is queued and a farewell, then close; the socket may take a while."""
        if self.reason is not None:
            return
        self._yamux.go_away()
        self.guard(self._flush)
        if self.reason is not None:
            return
        self.reason = Reason.FAREWELL
        self._transport.close()
        self._end()

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait until the socket and all tasks are gone, after `timeout_s` by force."""
        await asyncio.wait((self.closed,), timeout=timeout_s)
        self._transport.abort()
        await self.closed
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def guard(self, action: Callable[[], None]) -> None:
        """Run `action`; whatever goes wrong in it costs this connection and no more."""
        try:
            action()
        except PeerError as error:
            self.close(error.reason, str(error))
        except Exception:
            logger.exception("connection to %s failed", self.peer)
            self.close(Reason.INTERNAL)

    async def _guarded(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except StreamEnded:
            pass
        except PeerError as error:
            self.close(error.reason, str(error))
        except Exception:
            logger.exception("stream of %s failed", self.peer)
            self.close(Reason.INTERNAL)

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for stream_id in list(self._streams):
            self._remove_stream(stream_id)
        self.on_closed(self)

    # -- asyncio: receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio: where to put what arrives; a whole record always has room."""
        return self._buffer[self._buffered :]

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: so many bytes arrived."""
        self._buffered += nbytes
        self.bytes_in += nbytes
        self._heard_at = self._loop.time()
        self.guard(self._receive)

    def eof_received(self) -> None:
        """asyncio: the peer closed its half of the socket; without it there is no connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is gone."""
        if self.reason is None:
            self.reason = Reason.HUNG_UP
            self.detail = str(exc or "")
            self._end()
        if not self.closed.done():
            self.closed.set_result(None)

    def _receive_leftovers(self) -> None:
        for event in self._yamux.receive(self._upgraded.plain):
            self._on_event(event)
        sealed = self._upgraded.sealed
        self._buffer[: len(sealed)] = sealed
        self._buffered = len(sealed)
        self._receive()

    def _receive(self) -> None:
        if self.reason is not None:
            return
        plaintexts, used = self._decoder.decode(self._buffer[: self._buffered])
        rest = self._buffered - used
        if used and rest:
            self._buffer[:rest] = self._buffer[used : self._buffered]
        self._buffered = rest
        for plaintext in plaintexts:
            for event in self._yamux.receive(plaintext):
                self._on_event(event)
        if self._yamux.has_pending:
            self.schedule_flush()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, WentAway):
            raise PeerError(Reason.HUNG_UP, f"went away with code {event.code}")
        if isinstance(event, StreamOpened):
            self.spawn(partial(self._serve, self._add_stream(event.stream, PRIORITY_OTHER)))
            return
        stream = self._streams.get(event.stream)
        if stream is None:
            return
        if isinstance(event, DataReceived):
            stream.on_data(event.data)
        elif isinstance(event, StreamFinished):
            stream.on_end()
            self._remove_if_over(stream)
        elif isinstance(event, StreamReset):
            self._remove_stream(event.stream)
        else:
            assert isinstance(event, WindowGranted)
            self.schedule_flush()

    async def _serve(self, stream: Stream) -> None:
        """Negotiate what a peer's new stream speaks, and speak it."""
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s):
                protocol = await multistream.accept(stream, self._handlers)
            await self._handlers[protocol](self, stream)
        except StreamEnded:
            stream.finish()  # the peer may have ended its half and still wait for an answer
        except TimeoutError:
            stream.reset()

    def _add_stream(self, stream_id: int, priority: int) -> Stream:
        stream = self._streams[stream_id] = Stream(self, stream_id, priority)
        self._senders.append(stream)
        self._senders.sort(key=lambda sender: sender.priority)
        return stream

    def _remove_if_over(self, stream: Stream) -> None:
        if not self._yamux.has_stream(stream.id):
            self._remove_stream(stream.id)

    def _remove_stream(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._senders.remove(stream)
            stream.on_lost()

    # -- asyncio: sending

    def schedule_flush(self) -> None:
        """Send what is queued when the loop turns, all of it in one write."""
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self.guard, self._flush)

    def pause_writing(self) -> None:
        """asyncio: the socket takes no more for now."""
        self._paused_at = self._loop.time()

    def resume_writing(self) -> None:
        """asyncio: the socket takes more again."""
        self._paused_at = None
        self.guard(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        if self._paused_at is not None or self.reason is not None:
            return
        room = self._options.write_bytes
        parts: list[Buffer] = [self._yamux.take_pending()]
        finishing = []
        for stream in self._senders:
            if stream.queue.size:
                room = self._gather(stream, parts, room)
            if stream.is_finishing and not stream.queue.size:
                finishing.append(stream)
        for stream in finishing:
            self._finish(stream)
        parts.append(self._yamux.take_pending())
        if plaintext := b"".join(parts):
            self._write(plaintext)
        if room <= 0:
            self.schedule_flush()

    def _gather(self, stream: Stream, parts: list[Buffer], room: int) -> int:
        """Append what `stream` may send, up to `room` bytes; the room that is left."""
        queue, yamux = stream.queue, self._yamux
        while length := min(queue.size, room, yamux.send_window(stream.id), _MAX_DATA_BYTES):
            parts.append(yamux.data_header(stream.id, length))
            parts += queue.take(length)
            room -= length
        if not queue.size:
            stream.wake()
        return room

    def _finish(self, stream: Stream) -> None:
        stream.is_finishing = False
        self._yamux.finish(stream.id)
        self._remove_if_over(stream)

    def _write(self, plaintext: bytes) -> None:
        records = self._encoder.encode(plaintext)
        self.bytes_out += sum(map(len, records))
        self._transport.writelines(records)


def _limit_unsent(transport: asyncio.Transport, unsent_bytes: int) -> None:
    """Keep a backlog in our queues, where control overtakes bulk, and out of the kernel's."""
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent_bytes)
