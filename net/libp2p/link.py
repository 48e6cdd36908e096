"""The two channels of one peer, and the inbox where the frames of all peers meet.

Each side opens two streams and only writes on them: control, and bulk. A link is up when the
peer has agreed to both. Frames are parsed when the core has room for them: what it has not taken
stays in the streams, whose windows close, so a slow core stops its peers and holds a bounded
amount for each.
"""

import asyncio
from collections import Counter, deque

from net.libp2p import multistream
from net.libp2p.connection import PRIORITY_BULK, PRIORITY_CONTROL, Connection
from net.libp2p.errors import PeerError, Reason
from net.libp2p.framing import PREFIX_BYTES, FrameReader
from net.libp2p.options import MeshOptions
from net.libp2p.stream import Stream
from net.transport import Channel, Frame, NetworkEvent, PeerDown, PeerId, PeerUp

CHANNEL_PROTOCOLS = {
    Channel.CONTROL: "/dsequencer/1/control",
    Channel.BULK: "/dsequencer/1/bulk",
}
_PRIORITIES = {Channel.CONTROL: PRIORITY_CONTROL, Channel.BULK: PRIORITY_BULK}


class Inbox:
    """Events for the core in the order they happened, bounded by each sender's allowance."""

    def __init__(self) -> None:
        self._events: deque[tuple[NetworkEvent, _Receiver | None]] = deque()
        self._accounts: dict[tuple[PeerId, Channel], _Account] = {}
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: NetworkEvent, receiver: "_Receiver | None" = None) -> None:
        """Append an event; `receiver` is told when a frame has been taken."""
        self._events.append((event, receiver))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def account(self, peer: PeerId, channel: Channel) -> "_Account":
        """What a peer has in here on a channel."""
        return self._accounts.setdefault((peer, channel), _Account())

    def drain(self, limit: int) -> list[NetworkEvent]:
        """Remove and return up to `limit` events; their senders may send as much again."""
        taken: list[NetworkEvent] = []
        receivers: dict[_Receiver, None] = {}  # the present ones, of whoever sent the frames
        while self._events and len(taken) < limit:
            event, receiver = self._events.popleft()
            taken.append(event)
            if receiver is not None:
                receivers[receiver.release(event)] = None
        for receiver in receivers:
            receiver.resume()
        return taken

    async def wait(self) -> None:
        """Return when there is an event."""
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class Link:
    """What the mesh holds for one connected peer."""

    def __init__(
        self,
        connection: Connection,
        is_guest: bool,
        inbox: Inbox,
        options: MeshOptions,
        counters: Counter[str],
    ) -> None:
        self.connection = connection
        self.peer = connection.peer
        self.is_guest = is_guest
        self.limits = options.limits(is_guest)
        self.heard_at = asyncio.get_running_loop().time()
        """When the last frame arrived, or the connection began."""
        self.is_up = False
        self.was_up = False
        self._inbox = inbox
        self._options = options
        self._counters = counters
        self._senders: dict[Channel, Stream] = {}
        self._receivers: dict[Channel, _Receiver] = {}

    async def open(self) -> None:
        """Open both channels to the peer; it is up once it has agreed to both."""
        streams = {
            channel: self.connection.open_stream(_PRIORITIES[channel]) for channel in Channel
        }
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s):
                for channel, stream in streams.items():
                    if not await multistream.propose(stream, CHANNEL_PROTOCOLS[channel]):
                        return  # a foreign libp2p peer: it may ping and identify us
        except TimeoutError:
            raise PeerError(Reason.HANDSHAKE_TIMEOUT, "channels were not agreed to") from None
        self._senders = streams
        for stream in streams.values():
            stream.on_gone = self._lose_channel
        self.is_up = self.was_up = True
        self._counters["links_up"] += 1
        self._inbox.put(PeerUp(self.peer))
        for receiver in list(self._receivers.values()):
            receiver.resume()

    def accept(self, channel: Channel, stream: Stream) -> None:
        """Take the peer's stream for a channel; PeerError if it has had one already."""
        if channel in self._receivers:
            raise PeerError(Reason.YAMUX_STREAM, f"a second stream for {channel.name}")
        account = self._inbox.account(self.peer, channel)
        receiver = _Receiver(self, channel, stream, account)
        self._receivers[channel] = receiver
        stream.receive_with(receiver.on_data, self.limits.receive_window_bytes)
        stream.finish()  # the peer writes, we read

    def set_guest(self, is_guest: bool) -> None:
        """From now on hold the peer to the limits of a guest, or of a member.

        Window that was granted cannot be taken back: it shrinks with the next connection.
        """
        if is_guest != self.is_guest:
            self.is_guest = is_guest
            self.limits = self._options.limits(is_guest)
            for receiver in list(self._receivers.values()):
                receiver.widen()

    def send(self, channel: Channel, wire: bytes) -> bool:
        """Queue an encoded frame; False when the queue is full."""
        stream = self._senders[channel]
        if stream.queue.size + len(wire) > self.limits.send_queue_bytes:
            self._counters["dropped_queue_full"] += 1
            return False
        stream.write(wire)
        self._counters["frames_out"] += 1
        return True

    def down(self) -> None:
        """The connection is closed."""
        if self.is_up:
            self.is_up = False
            reason = self.connection.reason or Reason.HUNG_UP
            self._inbox.put(PeerDown(self.peer, reason.value))

    def _lose_channel(self) -> None:
        self.connection.close(Reason.CHANNEL_LOST)  # a new connection brings new channels

    def deliver(self, channel: Channel, payloads: list[bytes], receiver: "_Receiver") -> None:
        """Pass whole frames on to the core."""
        self._counters["frames_in"] += len(payloads)
        self.heard_at = asyncio.get_running_loop().time()
        for payload in payloads:
            self._inbox.put(Frame(self.peer, channel, payload), receiver)


class _Account:
    """What one peer has in the inbox on one channel, whichever connection it came by.

    Otherwise a peer that connects again and again could fill the inbox of a slow core.
    """

    __slots__ = ("frames", "receiver", "size")

    def __init__(self) -> None:
        self.frames = 0
        self.size = 0
        self.receiver: _Receiver | None = None  # that of the present connection


class _Receiver:
    """One channel's frames on their way in, by one connection."""

    def __init__(self, link: Link, channel: Channel, stream: Stream, account: _Account) -> None:
        self._stream = stream
        self._link = link
        self._channel = channel
        self._account = account
        self._reader = FrameReader()
        self._released_bytes = 0
        account.receiver = self

    def on_data(self, data: memoryview) -> None:
        """Bytes arrived, within the window."""
        self._reader.feed(data)
        self._parse()

    def release(self, event: NetworkEvent) -> "_Receiver":
        """The core has taken a frame of this channel; whom to resume for it."""
        assert isinstance(event, Frame)
        self._account.frames -= 1
        self._account.size -= len(event.payload)
        self._released_bytes += PREFIX_BYTES + len(event.payload)
        return self._account.receiver or self

    def resume(self) -> None:
        """Parse what has been waiting, and grant new window for what the core has taken."""
        self._link.connection.guard(self._resume)

    def widen(self) -> None:
        """The peer's limits have changed; what has been granted stays."""
        self._stream.widen(self._link.limits.receive_window_bytes)
        self.resume()

    def _resume(self) -> None:
        if self._link.connection.reason is None:
            released, self._released_bytes = self._released_bytes, 0
            self._stream.consume(released)
            self._parse()

    def _parse(self) -> None:
        account, limits = self._account, self._link.limits
        if self._link.is_up and account.size < limits.receive_window_bytes:
            payloads = self._reader.take(limits.inbox_frames - account.frames)
            account.frames += len(payloads)
            account.size += sum(map(len, payloads))
            if payloads:
                self._link.deliver(self._channel, payloads, self)
