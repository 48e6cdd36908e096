"""The two channels of one peer.

Each side opens two streams and only writes on them: control, and bulk. A link is up when the
peer has agreed to both. Frames are parsed when the core has room for them: what it has not taken
stays in the streams, whose windows close, so a slow core stops its peers and holds a bounded
amount for each. A guest is slowed down in the same way to the rate that it is granted.
"""

import asyncio
from collections import Counter

from net.libp2p import multistream
from net.libp2p.chain import Chain
from net.libp2p.connection import PRIORITY_BULK, PRIORITY_CONTROL, Connection
from net.libp2p.errors import PeerError, Reason
from net.libp2p.framing import PREFIX_BYTES, FrameReader
from net.libp2p.inbox import Box, Inbox
from net.libp2p.options import MeshOptions
from net.libp2p.protocols import identify
from net.libp2p.stream import Stream
from net.transport import Channel, Frame, PeerDown, PeerUp

_PARTING_S = 1.0
"""A peer of another chain has so long to find that out as well; then both know why it ends."""
_PRIORITIES = {Channel.CONTROL: PRIORITY_CONTROL, Channel.BULK: PRIORITY_BULK}


class Link:
    """What the mesh holds for one connected peer."""

    def __init__(
        self,
        connection: Connection,
        is_guest: bool,
        inbox: Inbox,
        options: MeshOptions,
        counters: Counter[str],
        chain: Chain,
    ) -> None:
        self.connection = connection
        self.peer = connection.peer
        self.limits = options.limits(is_guest)
        self.heard_at = asyncio.get_running_loop().time()
        """When the last frame arrived, or the connection began."""
        self._ready_at = 0.0  # when a guest may say more
        self.is_up = False
        self.was_up = False
        self._inbox = inbox
        self._mailbox = inbox.open(self.peer, is_guest)
        self._options = options
        self._counters = counters
        self._chain = chain
        self._senders: dict[Channel, Stream] = {}
        self._receivers: dict[Channel, _Receiver] = {}

    @property
    def is_guest(self) -> bool:
        """Whether the peer is held to a guest's limits."""
        return self._mailbox.is_guest

    async def open(self) -> None:
        """Open both channels to the peer; it is up once it has agreed to both."""
        streams = {
            channel: self.connection.open_stream(_PRIORITIES[channel]) for channel in Channel
        }
        other = None
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s):
                for channel, stream in streams.items():
                    if not await multistream.propose(stream, self._chain.protocols[channel]):
                        other = await self._other_chain()
                        break
                else:
                    self._begin(streams)
        except TimeoutError:
            raise PeerError(Reason.HANDSHAKE_TIMEOUT, "channels were not agreed to") from None
        if other is not None:
            await asyncio.sleep(_PARTING_S)
            raise PeerError(Reason.OTHER_CHAIN, f"{other}..: its genesis differs")

    async def _other_chain(self) -> str | None:
        """The chain of a peer that refused a channel; None for a foreign libp2p peer.

        Such a one stays: it may ping and identify us.
        """
        try:
            other = self._chain.told_by((await identify(self.connection)).protocols)
        except PeerError:
            return None
        if other is not None and not self.is_guest:
            self._chain.note(self.peer, other)
        return other

    def _begin(self, streams: dict[Channel, Stream]) -> None:
        """The peer has agreed to both channels."""
        self._chain.others.pop(self.peer, None)
        self._senders = streams
        for stream in streams.values():
            stream.on_gone = self._lose_channel
        self.is_up = self.was_up = True
        self._counters["links_up"] += 1
        self._inbox.announce(self._mailbox, PeerUp(self.peer))
        for receiver in list(self._receivers.values()):
            receiver.resume()

    def accept(self, channel: Channel, stream: Stream) -> None:
        """Take the peer's stream for a channel; PeerError if it has had one already."""
        if channel in self._receivers:
            raise PeerError(Reason.YAMUX_STREAM, f"a second stream for {channel.name}")
        receiver = _Receiver(self, stream, self._mailbox.boxes[channel])
        self._receivers[channel] = receiver
        stream.receive_with(receiver.on_data, self.limits.receive_window_bytes)
        stream.finish()  # the peer writes, we read

    def set_guest(self, is_guest: bool) -> None:
        """From now on hold the peer to the limits of a guest, or of a member.

        Window that was granted cannot be taken back: it shrinks with the next connection.
        """
        if is_guest != self.is_guest:
            self._inbox.set_guest(self._mailbox, is_guest)
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
            self._inbox.announce(self._mailbox, PeerDown(self.peer, reason.value))
        for receiver in self._receivers.values():
            self._inbox.forget(receiver)
            receiver.close()
        self._inbox.close(self._mailbox)

    def _lose_channel(self) -> None:
        self.connection.close(Reason.CHANNEL_LOST)  # a new connection brings new channels

    def deliver(self, payloads: list[bytes], receiver: "_Receiver") -> None:
        """Pass whole frames on to the core."""
        self._counters["frames_in"] += len(payloads)
        self.heard_at = asyncio.get_running_loop().time()
        if self.is_guest:
            self._charge(sum(map(len, payloads)))
        for payload in payloads:
            self._inbox.put(Frame(self.peer, receiver.box.channel, payload), receiver)

    def room_for(self, receiver: "_Receiver") -> int:
        """How many frames of a channel the core is to be given now."""
        box, limits = receiver.box, self.limits
        if not self.is_up or box.size >= limits.receive_window_bytes:
            return 0
        room = limits.inbox_frames - box.frames
        return min(room, self._guest_room(receiver)) if self.is_guest else room

    def _charge(self, size: int) -> None:
        """Count a guest's frame against what it may say in a second."""
        options = self._options
        cost_s = 1 / options.guest_frames_per_s + size / options.guest_bytes_per_s
        self._ready_at = max(self._ready_at, self.heard_at - options.guest_burst_s) + cost_s

    def _guest_room(self, receiver: "_Receiver") -> int:
        """One frame, unless the guest has to wait for the others' or for its own rate."""
        if self._inbox.guest_bytes >= self._options.guest_inbox_bytes:
            self._inbox.stall(receiver)
            return 0
        wait_s = self._ready_at - asyncio.get_running_loop().time()
        if wait_s > 0:
            receiver.resume_after(wait_s)
        return int(wait_s <= 0)


class _Receiver:
    """One channel's frames on their way in, by one connection."""

    def __init__(self, link: Link, stream: Stream, box: Box) -> None:
        self.box = box
        self._link = link
        self._stream = stream
        self._reader = FrameReader()
        self._released_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        box.source = self

    def on_data(self, data: memoryview) -> None:
        """Bytes arrived, within the window."""
        self._reader.feed(data)
        self._parse()

    def release(self, frame: Frame) -> None:
        """The core has taken a frame that came this way."""
        self._released_bytes += PREFIX_BYTES + len(frame.payload)

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

    def close(self) -> None:
        """The connection is closed: what is not a whole frame by now never will be."""
        self._reader = FrameReader()
        if self._timer is not None:
            self._timer.cancel()

    def resume_after(self, wait_s: float) -> None:
        """A guest has said too much: go on in a while."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.resume()

    def _parse(self) -> None:
        while room := self._link.room_for(self):
            payloads = self._reader.take(room)
            if not payloads:
                break
            self._link.deliver(payloads, self)
