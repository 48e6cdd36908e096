"""One yamux stream as asyncio code sees it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from net.libp2p.errors import StreamEnded
from net.libp2p.framing import Buffer, SendQueue


class StreamOwner(Protocol):
    """What a stream needs of its connection."""

    def schedule_flush(self) -> None:
        """Send what is queued, soon."""
        ...

    def consume(self, stream_id: int, count: int) -> None:
        """Grant the peer as much window again."""
        ...

    def widen(self, stream_id: int, window_bytes: int) -> None:
        """Let the peer send that much ahead."""
        ...

    def reset_stream(self, stream_id: int) -> None:
        """Give up a stream."""
        ...


class Stream:
    """A stream: read by `read_exactly` or by a receiver, written through a queue.

    Bytes that were not read keep the peer's window closed, so a stream holds at most a window.
    """

    def __init__(self, owner: StreamOwner, stream_id: int, priority: int) -> None:
        self.id = stream_id
        self.priority = priority
        """Lower goes out first."""
        self.queue = SendQueue()
        self.is_finishing = False
        self.has_ended = False
        """The peer will send no more; it may still read."""
        self.is_gone = False
        """Over in both directions, or lost with its connection."""
        self.on_gone: Callable[[], None] = lambda: None
        """Called when the stream is gone."""
        self._owner = owner
        self._buffer = bytearray()
        self._receiver: Callable[[memoryview], None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- reading

    async def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes, fewer than the window; StreamEnded if they never come."""
        while len(self._buffer) < count:
            if self.has_ended:
                raise StreamEnded(f"stream {self.id} ended")
            await self._wait()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._owner.consume(self.id, count)
        return data

    async def read_to_end(self, limit: int) -> bytes:
        """Everything until the peer finishes; StreamEnded beyond `limit` bytes."""
        while not self.has_ended:
            if len(self._buffer) > limit:
                raise StreamEnded(f"stream {self.id} sent more than {limit} bytes")
            await self._wait()
        return bytes(self._buffer)

    def receive_with(self, receiver: Callable[[memoryview], None], window_bytes: int) -> None:
        """From now on pass arriving bytes to `receiver`, which has to `consume` them."""
        self._owner.widen(self.id, window_bytes)
        self._receiver = receiver
        if self._buffer:
            receiver(memoryview(bytes(self._buffer)))
            self._buffer.clear()

    def widen(self, window_bytes: int) -> None:
        """Let the peer send `window_bytes` ahead, never less than before."""
        self._owner.widen(self.id, window_bytes)

    def consume(self, count: int) -> None:
        """Say that a receiver has used up `count` bytes."""
        self._owner.consume(self.id, count)

    # -- writing

    def write(self, data: Buffer) -> None:
        """Queue `data`, which must not change any more."""
        self.queue.push(data)
        self._owner.schedule_flush()

    async def drain(self) -> None:
        """Wait until everything queued is sent; StreamEnded if the stream is gone."""
        while self.queue.size and not self.is_gone:
            await self._wait()
        if self.is_gone:
            raise StreamEnded(f"stream {self.id} is gone")

    def finish(self) -> None:
        """Send no more after what is queued."""
        self.is_finishing = True
        self._owner.schedule_flush()

    def reset(self) -> None:
        """Give up the stream in both directions."""
        self._owner.reset_stream(self.id)

    # -- called by the connection

    def on_data(self, data: memoryview) -> None:
        """Bytes arrived, within the window."""
        if self._receiver is not None:
            self._receiver(data)
        else:
            self._buffer += data
            self.wake()

    def on_end(self) -> None:
        """The peer will send no more."""
        self.has_ended = True
        self.wake()

    def on_lost(self) -> None:
        """The stream is over in both directions, or lost with its connection."""
        self.is_gone = True
        self.queue.clear()
        self.on_end()
        self.on_gone()

    def wake(self) -> None:
        """Something changed that a reader or writer may wait for."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
