"""The inbox, where the frames of all peers meet, and the order in which the core gets them.

Every peer has two queues, one a channel, and they stand in lanes: control of the peers I know,
their bulk, control of guests, bulk of guests. Control goes first, so a vote does not wait behind
the megabytes that arrived before it; within a lane the peers take turns, a frame each. A lane
that others overtake too often gets a turn, so none starves. A peer that I know and that sent what
cannot be right stands with the guests for a while: checking what it sends must not delay the rest.

A turn of the core takes little bulk, or what arrives meanwhile would wait for all of it.

What is said about a link stands in the bulk queue behind all frames of its peer, and as long as
it does, everything of that peer queues up there: frames come between `PeerUp` and `PeerDown`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from net.transport import Channel, Frame, NetworkEvent, PeerDown, PeerId, PeerUp

BULK_TURN_BYTES = 1024 * 1024
"""A turn ends when it has taken so many bytes of frames that are not control of those I know."""
MAX_TURN_EVENTS = 65_536
"""A turn of the core takes no more."""
PATIENCE = (0, 64, 64, 64)
"""By lane, how many frames may overtake the one that stands first; nobody overtakes lane 0."""
GUEST_LANES = 2
"""The first lane of guests."""
DISTRUST_S = 30.0
"""How long a peer stands with the guests after each frame that cannot be right."""
EVENT_BYTES = 512
"""What an event costs besides its payload, or strangers could fill memory with empty frames."""


class Source(Protocol):
    """Where frames come from: one channel of one connection."""

    box: "Box"

    def release(self, frame: Frame) -> None:
        """The core has taken a frame that came this way."""
        ...

    def resume(self) -> None:
        """There is room for more."""
        ...


class Box:
    """One channel of one peer, whichever connection it came by.

    Otherwise a peer that connects again and again could fill the inbox of a slow core.
    """

    __slots__ = ("channel", "frames", "is_waiting", "peer", "queue", "size", "source")

    def __init__(self, peer: "Mailbox", channel: Channel) -> None:
        self.peer = peer
        self.channel = channel
        self.frames = 0
        """Frames that the core has not taken, and their bytes."""
        self.size = 0
        self.source: Source | None = None
        """That of the present connection."""
        self.queue: deque[tuple[NetworkEvent, Source | None]] = deque()
        self.is_waiting = False

    @property
    def lane(self) -> int:
        """Where it stands."""
        return GUEST_LANES * (self.peer.is_guest or self.peer.is_distrusted) + self.channel


class Mailbox:
    """What one peer has in here."""

    __slots__ = ("announcements", "boxes", "clock", "distrusted_until", "is_guest", "links", "peer")

    def __init__(self, peer: PeerId, is_guest: bool, clock: Callable[[], float]) -> None:
        self.peer = peer
        self.is_guest = is_guest
        self.clock = clock
        self.distrusted_until: float | None = None
        self.links = 0
        self.announcements = 0  # `PeerUp` and `PeerDown` that wait in the bulk queue
        self.boxes = {channel: Box(self, channel) for channel in Channel}

    @property
    def size(self) -> int:
        """What the events cost that the core has not taken."""
        frames = sum(box.size + EVENT_BYTES * box.frames for box in self.boxes.values())
        return frames + EVENT_BYTES * self.announcements

    @property
    def is_distrusted(self) -> bool:
        """Whether it sent what cannot be right, lately."""
        if self.distrusted_until is not None and self.clock() >= self.distrusted_until:
            self.distrusted_until = None
        return self.distrusted_until is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing needs it any more."""
        return not self.links and not any(box.queue for box in self.boxes.values())


class Inbox:
    """Events for the core, bounded by each sender's allowance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.guest_bytes = 0
        """What the events of all guests cost that the core has not taken."""
        self._clock = clock
        self._mailboxes: dict[PeerId, Mailbox] = {}
        self._distrusted: dict[PeerId, float] = {}
        self._lanes: tuple[deque[Box], ...] = tuple(deque() for _ in PATIENCE)
        self._overtaken = [0] * len(PATIENCE)
        self._stalled: dict[Source, None] = {}
        self._count = 0
        self._waiter: asyncio.Future[None] | None = None

    # -- links

    def open(self, peer: PeerId, is_guest: bool) -> Mailbox:
        """The mailbox of a peer for one more connection, until `close`."""
        mailbox = self._mailboxes.get(peer)
        if mailbox is None:
            mailbox = self._mailboxes[peer] = Mailbox(peer, is_guest, self._clock)
            mailbox.distrusted_until = self._distrusted.get(peer)
        mailbox.links += 1
        self.set_guest(mailbox, is_guest)
        return mailbox

    def set_guest(self, mailbox: Mailbox, is_guest: bool) -> None:
        """Whether the peer counts as a guest from now on."""
        if mailbox.is_guest != is_guest:
            mailbox.is_guest = is_guest
            self.guest_bytes += mailbox.size if is_guest else -mailbox.size
            for source in self._take_stalled():
                source.resume()

    def close(self, mailbox: Mailbox) -> None:
        """One connection less; what has arrived stays."""
        mailbox.links -= 1
        self._forget_if_over(mailbox)

    def distrust(self, peer: PeerId) -> bool:
        """A peer sent what cannot be right: it stands with the guests, connected anew as well.

        Whether that is news.
        """
        now = self._clock()
        until = now + DISTRUST_S
        self._distrusted = {each: end for each, end in self._distrusted.items() if end > now}
        is_news = peer not in self._distrusted
        self._distrusted[peer] = until
        if peer in self._mailboxes:
            self._mailboxes[peer].distrusted_until = until
        return is_news

    def announce(self, mailbox: Mailbox, event: PeerUp | PeerDown) -> None:
        """The link is up or down; what arrived before is delivered before."""
        control, bulk = mailbox.boxes[Channel.CONTROL], mailbox.boxes[Channel.BULK]
        bulk.queue.extend(control.queue)
        control.queue.clear()
        mailbox.announcements += 1
        self._count_guest(mailbox, EVENT_BYTES)
        self._append(bulk, event, None)

    # -- frames

    def put(self, frame: Frame, source: Source) -> None:
        """A whole frame arrived; its source is told when the core has taken it."""
        box, size = source.box, len(frame.payload)
        box.frames += 1
        box.size += size
        mailbox = box.peer
        if mailbox.is_guest:
            self._count_guest(mailbox, size + EVENT_BYTES)
        self._append(mailbox.boxes[Channel.BULK] if mailbox.announcements else box, frame, source)

    def stall(self, source: Source) -> None:
        """Guests hold too much: resume this one when they hold less."""
        self._stalled[source] = None

    def forget(self, source: Source) -> None:
        """Its connection is closed."""
        self._stalled.pop(source, None)
        if source.box.source is source:
            source.box.source = None

    def drain(self, limit: int) -> list[NetworkEvent]:
        """Remove and return up to `limit` events; their senders may send as much again."""
        return list(self._take(limit, len(PATIENCE)))

    def turn(self) -> Iterator[NetworkEvent]:
        """Remove the events of a turn, each when it is asked for.

        Whoever is distrusted meanwhile loses its place at once, and a turn ends with the first
        event of somebody who stands with the guests: the core does no more for one of them before
        it has looked for others.
        """
        return self._take(MAX_TURN_EVENTS, GUEST_LANES)

    def _take(self, limit: int, until_lane: int) -> Iterator[NetworkEvent]:
        sources: dict[Source, None] = {}  # the present ones, of whoever sent the frames
        bulk_bytes = lane = 0
        try:
            while self._count and limit > 0 and bulk_bytes < BULK_TURN_BYTES and lane < until_lane:
                lane, (event, source) = self._pop()
                limit -= 1
                if source is not None:
                    assert isinstance(event, Frame)
                    bulk_bytes += len(event.payload) if lane else 0
                    self._release(event, source, sources)
                yield event
        finally:
            for each in sources:
                each.resume()

    async def wait(self) -> None:
        """Return when there is an event."""
        while not self._count:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _append(self, box: Box, event: NetworkEvent, source: Source | None) -> None:
        box.queue.append((event, source))
        self._count += 1
        if not box.is_waiting:
            self._stand(box)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stand(self, box: Box) -> None:
        box.is_waiting = True
        self._lanes[box.lane].append(box)

    def _pop(self) -> tuple[int, tuple[NetworkEvent, Source | None]]:
        """The next event and its lane; there is one."""
        while True:
            lane = self._next_lane()
            box = self._lanes[lane].popleft()
            if box.lane > lane:  # it became distrusted, or a guest's, where it stood
                self._lanes[box.lane].append(box)
                continue
            box.is_waiting = len(box.queue) > 1
            if box.is_waiting:
                self._lanes[box.lane].append(box)
            elif not box.queue:
                continue  # it was moved behind an announcement
            item = box.queue.popleft()
            self._count -= 1
            if item[1] is None:
                self._on_announced(box.peer)
            return lane, item

    def _on_announced(self, mailbox: Mailbox) -> None:
        """The core knows; if there is no more of that, control frames may go ahead again."""
        mailbox.announcements -= 1
        self._count_guest(mailbox, -EVENT_BYTES)
        control, bulk = mailbox.boxes[Channel.CONTROL], mailbox.boxes[Channel.BULK]
        if not mailbox.announcements and bulk.queue:
            items = list(bulk.queue)
            control.queue.extend(item for item in items if _is_control(item[0]))
            bulk.queue = deque(item for item in items if not _is_control(item[0]))
            if control.queue and not control.is_waiting:
                self._stand(control)
        self._forget_if_over(mailbox)

    def _next_lane(self) -> int:
        """The first lane where somebody stands, unless one behind it has been patient enough."""
        first = None
        for lane, boxes in enumerate(self._lanes):
            if first is None:
                first = lane if boxes else None
            elif boxes:
                self._overtaken[lane] += 1
                if self._overtaken[lane] > PATIENCE[lane]:
                    first = lane
        assert first is not None
        self._overtaken[first] = 0
        return first

    def _release(self, frame: Frame, source: Source, sources: dict[Source, None]) -> None:
        box, size = source.box, len(frame.payload)
        box.frames -= 1
        box.size -= size
        source.release(frame)
        sources[box.source or source] = None
        mailbox = box.peer
        if mailbox.is_guest:
            self._count_guest(mailbox, -size - EVENT_BYTES)
            sources.update(self._take_stalled())
        if not mailbox.links:
            self._forget_if_over(mailbox)

    def _count_guest(self, mailbox: Mailbox, size: int) -> None:
        if mailbox.is_guest:
            self.guest_bytes += size

    def _take_stalled(self) -> dict[Source, None]:
        stalled, self._stalled = self._stalled, {}
        return stalled

    def _forget_if_over(self, mailbox: Mailbox) -> None:
        if mailbox.is_over:
            self._mailboxes.pop(mailbox.peer, None)


def _is_control(event: NetworkEvent) -> bool:
    return isinstance(event, Frame) and event.channel is Channel.CONTROL
