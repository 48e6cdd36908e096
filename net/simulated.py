"""A network inside one process: seeded latency, loss, duplication, reordering, partitions.

Implements the transport seam on a scheduler that the simulation owns, so a run is a function of
its seed. `Conditions` may change at any moment and hold for frames sent from then on. Without
reordering a link keeps the order of each channel, as the seam promises; with it, it does not,
which the protocol has to survive too. Two peers are linked if one of them knows the other; whom I
do not know is my guest, and I have so many places for guests and no more.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from net.transport import MAX_FRAME_BYTES, Channel, Frame, NetworkEvent, PeerDown, PeerId, PeerUp


class Clock(Protocol):
    """What the network needs of a scheduler. Times are in milliseconds."""

    now: int

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: object) -> None:
        """Call `action(*arguments)` that much later."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the links behave. Probabilities are per frame, latencies in milliseconds."""

    min_latency_ms: int = 1
    max_latency_ms: int = 10
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """The share of frames that take up to ten times the longest latency and overtake nobody."""


Tap = Callable[[str, PeerId, Channel, bytes], None]
"""Sees every frame that is handed to the network: sending instance, to, channel, payload."""


MAX_GUESTS = 16
GUEST_SILENCE_MS = 30_000
"""A guest that has said nothing for so long gives way when all places are taken."""
REDIAL_MS = 5_000
"""Whoever was turned away tries again after so long."""


class SimulatedNetwork:
    """All links of a simulated cluster; a directed pair in `blocked` carries nothing.

    A peer may be attached more than once, as several instances: what is sent to the peer reaches
    each of them, and each speaks in the peer's name. That is how twins live.
    """

    def __init__(self, clock: Clock, random: Random, max_guests: int = MAX_GUESTS) -> None:
        self.max_guests = max_guests
        self.conditions = Conditions()
        self.blocked: set[tuple[str, str]] = set()
        self.delays_ms: dict[tuple[str, str], int] = {}
        """What a directed pair takes longer than the others."""
        self.counts: Counter[str] = Counter()
        self.taps: list[Tap] = []
        self.filter: Callable[[str, str, bytes], bool] | None = None
        """Where set, a frame passes from instance to instance only if it says so."""
        self._clock = clock
        self._random = random
        self._ends: dict[str, SimulatedTransport] = {}
        self._instances: dict[PeerId, list[str]] = {}
        self._last_arrival: dict[tuple[str, str, Channel], int] = {}
        self._turned_away: set[tuple[str, str]] = set()

    def attach(
        self,
        peer: PeerId,
        on_event: Callable[[NetworkEvent], None],
        instance: str | None = None,
        knows: Iterable[PeerId] | None = None,
    ) -> "SimulatedTransport":
        """Bring a peer up, in place of an instance of the same name; it knows all, or `knows`."""
        name = instance or peer
        self.detach(name, "replaced")
        end = SimulatedTransport(self, peer, name, on_event)
        self._ends[name] = end
        self._instances.setdefault(peer, []).append(name)
        end.set_peers(knows)
        return end

    def detach(self, instance: str, reason: str) -> None:
        """Take an instance down; what is on its way to it is lost."""
        end = self._ends.pop(instance, None)
        if end is None:
            return
        end.closed = True
        self._instances[end.local_peer].remove(instance)
        for other in self._ends.values():
            self._unlink(other, end, reason)

    def acquaint(self, end: "SimulatedTransport") -> None:
        """Whom `end` knows has changed: link what is to be linked, keep what is."""
        while len(guests := end.guests) > self.max_guests:
            self._part(end, end.most_silent(guests))
        for other in list(self._ends.values()):
            self._meet(end, other)

    def _meet(self, one: "SimulatedTransport", other: "SimulatedTransport") -> None:
        if one.local_peer == other.local_peer or other.instance in one.linked:
            return
        if not (one.knows(other.local_peer) or other.knows(one.local_peer)):
            return
        if not (self._make_place(one, other) and self._make_place(other, one)):
            self._turn_away(one, other)
            return
        for end, far in ((one, other), (other, one)):
            end.linked[far.instance] = far.local_peer
            end.heard_at[far.local_peer] = self._clock.now
            self._clock.after(1, end.hear, PeerUp(far.local_peer))

    def _make_place(self, end: "SimulatedTransport", newcomer: "SimulatedTransport") -> bool:
        """Whether `end` may take it in; a guest that has been silent for long goes for it."""
        guests = end.guests
        if end.knows(newcomer.local_peer) or newcomer.local_peer in guests:
            return True
        if len(guests) < self.max_guests:
            return True
        long_ago = self._clock.now - GUEST_SILENCE_MS
        if not any(end.heard_at[guest] <= long_ago for guest in guests):
            return False
        self._part(end, end.most_silent(guests))
        return True

    def _part(self, end: "SimulatedTransport", guest: PeerId) -> None:
        for instance in self._instances[guest]:
            far = self._ends[instance]
            self._unlink(end, far, "too_many_guests")
            self._unlink(far, end, "too_many_guests")
            self._turn_away(end, far)

    def _turn_away(self, one: "SimulatedTransport", other: "SimulatedTransport") -> None:
        pair = (one.instance, other.instance)
        if pair not in self._turned_away:
            self._turned_away.add(pair)
            self._clock.after(REDIAL_MS, self._meet_again, *pair)

    def _meet_again(self, first: str, second: str) -> None:
        self._turned_away.discard((first, second))
        one, other = self._ends.get(first), self._ends.get(second)
        if one is not None and other is not None:
            self._meet(one, other)

    def _unlink(self, end: "SimulatedTransport", far: "SimulatedTransport", reason: str) -> None:
        was_linked = end.linked.pop(far.instance, None) is not None
        if was_linked and far.local_peer not in end.linked.values():
            self._clock.after(1, end.hear, PeerDown(far.local_peer, reason))

    def reconnect(self, first: str, second: str) -> None:
        """Two live instances lose and regain their connection."""
        one, other = self._ends.get(first), self._ends.get(second)
        if one is None or other is None or second not in one.linked:
            return
        for end, far in ((one, other), (other, one)):
            self._clock.after(1, end.hear, PeerDown(far.local_peer, "reset"))
            self._clock.after(2, end.hear, PeerUp(far.local_peer))

    @property
    def now(self) -> int:
        """Milliseconds on the clock of the simulation."""
        return self._clock.now

    @property
    def instances(self) -> list[str]:
        """Who is attached."""
        return list(self._ends)

    def carry(self, end: "SimulatedTransport", to: PeerId, channel: Channel, frame: bytes) -> bool:
        """Send one frame to every instance of a peer; False when none is up."""
        for tap in self.taps:
            tap(end.instance, to, channel, frame)
        arriving = Frame(end.local_peer, channel, frame)
        instances = [each for each in self._instances.get(to, ()) if each in end.linked]
        for instance in instances:
            self._carry(end.instance, instance, arriving)
        return bool(instances)

    def _carry(self, sender: str, to: str, frame: Frame) -> None:
        now, random, conditions = self._clock.now, self._random, self.conditions
        if (sender, to) in self.blocked:
            self.counts["blocked"] += 1
            return
        if self.filter is not None and not self.filter(sender, to, frame.payload):
            self.counts["filtered"] += 1
            return
        if conditions.loss and random.random() < conditions.loss:
            self.counts["lost"] += 1
            return
        longest = conditions.max_latency_ms
        arrival = now + random.randint(conditions.min_latency_ms, longest)
        arrival += self.delays_ms.get((sender, to), 0)
        if conditions.reordering and random.random() < conditions.reordering:
            self.counts["reordered"] += 1
            arrival += random.randint(1, 9 * longest)
        else:
            link = (sender, to, frame.channel)
            arrival = max(arrival, self._last_arrival.get(link, 0))
            self._last_arrival[link] = arrival
        hear = self._ends[to].hear
        self._clock.after(arrival - now, hear, frame)
        if conditions.duplication and random.random() < conditions.duplication:
            self.counts["duplicated"] += 1
            self._clock.after(arrival - now + random.randint(0, 9 * longest), hear, frame)


class SimulatedTransport:
    """One peer's end of the simulated network."""

    def __init__(
        self,
        network: SimulatedNetwork,
        peer: PeerId,
        instance: str,
        on_event: Callable[[NetworkEvent], None],
    ) -> None:
        self.closed = False
        self.instance = instance
        self.linked: dict[str, PeerId] = {}
        """The instances at the other ends of my links, and who they are."""
        self.heard_at: dict[PeerId, int] = {}
        self._network = network
        self._peer = peer
        self._on_event = on_event
        self._up: dict[PeerId, None] = {}
        self._known: frozenset[PeerId] | None = None

    def set_peers(self, peers: Iterable[PeerId] | None) -> None:
        """Whom I know from now on, None being everybody. No link is lost; others are guests."""
        self._known = None if peers is None else frozenset(peers)
        self._network.acquaint(self)

    def knows(self, peer: PeerId) -> bool:
        """Whether `peer` is no guest here."""
        return self._known is None or peer in self._known

    @property
    def guests(self) -> list[PeerId]:
        """Who is linked although I do not know it."""
        return [peer for peer in dict.fromkeys(self.linked.values()) if not self.knows(peer)]

    def most_silent(self, peers: Iterable[PeerId]) -> PeerId:
        """Which of some linked peers has said nothing for the longest time."""
        return min(peers, key=lambda peer: self.heard_at[peer])

    @property
    def local_peer(self) -> PeerId:
        """Who I am to the others."""
        return self._peer

    @property
    def peers_up(self) -> frozenset[PeerId]:
        """The peers that can be sent to now."""
        return frozenset(self._up)

    def hear(self, event: NetworkEvent) -> None:
        """An event reaches this end, unless it is closed by now."""
        if self.closed:
            return
        if isinstance(event, PeerUp):
            self._up[event.peer] = None
        elif isinstance(event, PeerDown):
            self._up.pop(event.peer, None)
        else:
            self.heard_at[event.sender] = self._network.now
        self._on_event(event)

    def send(self, peer: PeerId, channel: Channel, frame: bytes) -> bool:
        """Queue a frame; False when the peer is down. ValueError above `MAX_FRAME_BYTES`."""
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes exceeds {MAX_FRAME_BYTES}")
        if self.closed or peer not in self._up:
            return False
        return self._network.carry(self, peer, channel, frame)

    def broadcast(self, channel: Channel, frame: bytes, to: Iterable[PeerId]) -> int:
        """Queue one encoded frame for several peers; how many accepted it."""
        return sum([self.send(peer, channel, frame) for peer in to])
