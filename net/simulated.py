"""A network inside one process: seeded latency, loss, duplication, reordering, partitions.

Implements the transport seam on a scheduler that the simulation owns, so a run is a function of
its seed. `Conditions` may change at any moment and hold for frames sent from then on. Without
reordering a link keeps the order of each channel, as the seam promises; with it, it does not,
which the protocol has to survive too.
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


class SimulatedNetwork:
    """All links of a simulated cluster; a directed pair in `blocked` carries nothing.

    A peer may be attached more than once, as several instances: what is sent to the peer reaches
    each of them, and each speaks in the peer's name. That is how twins live.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
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

    def attach(
        self, peer: PeerId, on_event: Callable[[NetworkEvent], None], instance: str | None = None
    ) -> "SimulatedTransport":
        """Bring a peer up, in place of an instance of the same name; everybody hears of it."""
        name = instance or peer
        self.detach(name, "replaced")
        end = SimulatedTransport(self, peer, name, on_event)
        others = [other for other in self._ends.values() if other.local_peer != peer]
        self._ends[name] = end
        self._instances.setdefault(peer, []).append(name)
        for other in others:
            self._clock.after(1, end.hear, PeerUp(other.local_peer))
            self._clock.after(1, other.hear, PeerUp(peer))
        return end

    def detach(self, instance: str, reason: str) -> None:
        """Take an instance down; what is on its way to it is lost."""
        end = self._ends.pop(instance, None)
        if end is None:
            return
        end.closed = True
        left = self._instances[end.local_peer]
        left.remove(instance)
        if not left:
            for other in self._ends.values():
                self._clock.after(1, other.hear, PeerDown(end.local_peer, reason))

    def reconnect(self, first: str, second: str) -> None:
        """Two live instances lose and regain their connection."""
        one, other = self._ends.get(first), self._ends.get(second)
        if one is None or other is None:
            return
        for end, far in ((one, other), (other, one)):
            self._clock.after(1, end.hear, PeerDown(far.local_peer, "reset"))
            self._clock.after(2, end.hear, PeerUp(far.local_peer))

    @property
    def instances(self) -> list[str]:
        """Who is attached."""
        return list(self._ends)

    def carry(self, end: "SimulatedTransport", to: PeerId, channel: Channel, frame: bytes) -> bool:
        """Send one frame to every instance of a peer; False when none is up."""
        for tap in self.taps:
            tap(end.instance, to, channel, frame)
        arriving = Frame(end.local_peer, channel, frame)
        instances = self._instances.get(to, ())
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
        self._network = network
        self._peer = peer
        self._on_event = on_event
        self._up: dict[PeerId, None] = {}

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
