"""The contract of the transport seam, for every implementation of it.

An implementation comes in by a `Network` that makes transports which know each other and says
how time passes for it; the tests know nothing but the seam.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Protocol

import pytest

from net.libp2p.identity import Identity
from net.libp2p.mesh import Mesh
from net.simulated import SimulatedNetwork, SimulatedTransport
from net.transport import (
    MAX_FRAME_BYTES,
    Channel,
    Frame,
    NetworkEvent,
    PeerDown,
    PeerId,
    PeerUp,
    Transport,
)
from tests.net.meshes import LOOPBACK, QUICK, STRANGER, identities, introduce

MEMBERS = 3
MAX_GUESTS = 2
OPTIONS = replace(QUICK, max_guests=MAX_GUESTS, dial_patience_s=0.05)
PATIENCE_S = 10.0


class Network(Protocol):
    """Transports of one implementation, all of which know each other."""

    async def start(self) -> list[Transport]:
        """MEMBERS transports that are about to find each other."""
        ...

    def drain(self, transport: Transport) -> list[NetworkEvent]:
        """What has happened at a transport since the last call."""
        ...

    async def pass_time(self) -> None:
        """Let a little happen."""
        ...

    async def leave(self, transport: Transport) -> None:
        """Take a transport off the network."""
        ...

    async def join(self, identity: Identity, knows: Iterable[Transport]) -> Transport:
        """A transport that knows these, and nobody knows it."""
        ...

    def set_peers(self, transport: Transport, knows: Iterable[Transport]) -> None:
        """From now on a transport knows these."""
        ...

    async def stop(self) -> None:
        """Release everything."""
        ...


class Libp2pNetwork:
    """The real thing on loopback."""

    def __init__(self) -> None:
        self.meshes: list[Mesh] = []

    async def start(self) -> list[Transport]:
        for identity in identities(MEMBERS):
            mesh = Mesh(identity.seed, LOOPBACK, {}, options=OPTIONS)
            await mesh.start()
            self.meshes.append(mesh)
        introduce(self.meshes)
        return list(self.meshes)

    def drain(self, transport: Transport) -> list[NetworkEvent]:
        assert isinstance(transport, Mesh)
        return transport.drain_events()

    async def pass_time(self) -> None:
        await asyncio.sleep(0.002)

    async def leave(self, transport: Transport) -> None:
        assert isinstance(transport, Mesh)
        await transport.aclose()

    async def join(self, identity: Identity, knows: Iterable[Transport]) -> Transport:
        mesh = Mesh(identity.seed, LOOPBACK, {}, options=OPTIONS)
        await mesh.start()
        self.meshes.append(mesh)
        self.set_peers(mesh, knows)
        return mesh

    def set_peers(self, transport: Transport, knows: Iterable[Transport]) -> None:
        assert isinstance(transport, Mesh)
        known = [peer for peer in knows if isinstance(peer, Mesh)]
        transport.set_peers({peer.local_peer: peer.listen_address for peer in known})

    async def stop(self) -> None:
        for mesh in self.meshes:
            await mesh.aclose()


class HeapClock:
    """Virtual time: actions happen in the order of their times."""

    def __init__(self) -> None:
        self.now = 0
        self._actions: list[tuple[int, int, partial[None]]] = []
        self._count = 0

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: object) -> None:
        self._count += 1
        due = partial(action, *arguments)
        heapq.heappush(self._actions, (self.now + delay_ms, self._count, due))

    def run_until(self, time_ms: int) -> None:
        while self._actions and self._actions[0][0] <= time_ms:
            self.now, _, action = heapq.heappop(self._actions)
            action()
        self.now = time_ms


class FaultlessSimulation:
    """The simulated network under conditions that lose and reorder nothing."""

    def __init__(self) -> None:
        self.clock = HeapClock()
        self.network = SimulatedNetwork(self.clock, Random(1), MAX_GUESTS)
        self.events: dict[PeerId, list[NetworkEvent]] = {}

    async def start(self) -> list[Transport]:
        peers = [identity.peer_id for identity in identities(MEMBERS)]
        self.events = {peer: [] for peer in peers}
        return [self.network.attach(peer, self.events[peer].append, knows=peers) for peer in peers]

    def drain(self, transport: Transport) -> list[NetworkEvent]:
        drained = list(self.events[transport.local_peer])
        self.events[transport.local_peer].clear()
        return drained

    async def pass_time(self) -> None:
        self.clock.run_until(self.clock.now + 1)
        await asyncio.sleep(0)

    async def leave(self, transport: Transport) -> None:
        self.network.detach(transport.local_peer, "left")

    async def join(self, identity: Identity, knows: Iterable[Transport]) -> Transport:
        heard = self.events[identity.peer_id] = []
        known = [peer.local_peer for peer in knows]
        return self.network.attach(identity.peer_id, heard.append, knows=known)

    def set_peers(self, transport: Transport, knows: Iterable[Transport]) -> None:
        assert isinstance(transport, SimulatedTransport)
        transport.set_peers([peer.local_peer for peer in knows])

    async def stop(self) -> None:
        pass


IMPLEMENTATIONS: dict[str, Callable[[], Network]] = {
    "libp2p": Libp2pNetwork,
    "simulated": FaultlessSimulation,
}


class World:
    """A network with all events so far, by transport."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.members: list[Transport] = []
        self.seen: dict[PeerId, list[NetworkEvent]] = {}

    async def until(self, condition: Callable[[], object]) -> None:
        """Let time pass until `condition` holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.network.pass_time()
                self.collect()

    def collect(self) -> None:
        for member in self.members:
            self.seen.setdefault(member.local_peer, []).extend(self.network.drain(member))

    async def join(self, identity: Identity, knows: list[Transport]) -> Transport:
        """A newcomer, unknown to the others."""
        joined = await self.network.join(identity, knows)
        self.seen[joined.local_peer] = []
        self.members.append(joined)
        return joined

    def links(self, member: Transport) -> list[NetworkEvent]:
        """What a member has heard about links."""
        return [each for each in self.seen[member.local_peer] if not isinstance(each, Frame)]

    def frames(self, member: Transport) -> list[Frame]:
        return [each for each in self.seen[member.local_peer] if isinstance(each, Frame)]


@pytest.fixture(params=list(IMPLEMENTATIONS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """MEMBERS transports, all linked."""
    made = World(IMPLEMENTATIONS[request.param]())
    made.members = await made.network.start()
    made.collect()
    await made.until(lambda: all(len(each.peers_up) == MEMBERS - 1 for each in made.members))
    made.collect()
    yield made
    await made.network.stop()


async def test_members_have_different_names_and_see_the_others(world: World) -> None:
    names = {member.local_peer for member in world.members}
    assert len(names) == MEMBERS
    for member in world.members:
        assert member.peers_up == names - {member.local_peer}


async def test_each_peer_is_announced_once(world: World) -> None:
    for member in world.members:
        announced = [e.peer for e in world.seen[member.local_peer] if isinstance(e, PeerUp)]
        assert sorted(announced) == sorted(member.peers_up)


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("size", [0, 1, 1_000, 300_000])
async def test_a_frame_arrives_as_it_was_sent(world: World, channel: Channel, size: int) -> None:
    one, two, _ = world.members
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert one.send(two.local_peer, channel, payload)
    await world.until(lambda: world.frames(two))
    assert world.frames(two) == [Frame(one.local_peer, channel, payload)]


async def test_frames_of_one_channel_keep_their_order(world: World) -> None:
    one, two, _ = world.members
    for number in range(500):
        for channel in Channel:
            assert one.send(two.local_peer, channel, number.to_bytes(2, "big"))
    await world.until(lambda: len(world.frames(two)) == 1_000)
    for channel in Channel:
        numbers = [f.payload for f in world.frames(two) if f.channel == channel]
        assert numbers == sorted(numbers)


async def test_control_does_not_wait_for_all_the_bulk_before_it(world: World) -> None:
    one, two, three = world.members
    for _ in range(32):
        for sender in (two, three):
            assert sender.send(one.local_peer, Channel.BULK, bytes(256 * 1024))
    for sender in (two, three):
        assert sender.send(one.local_peer, Channel.CONTROL, b"vote")
    await world.until(lambda: len(world.frames(one)) == 66)
    channels = [frame.channel for frame in world.frames(one)]
    assert channels.index(Channel.CONTROL) < 48


async def test_a_broadcast_reaches_those_it_names_and_nobody_else(world: World) -> None:
    one, two, three = world.members
    assert one.broadcast(Channel.BULK, b"to all", one.peers_up) == 2
    assert one.broadcast(Channel.BULK, b"to one", [three.local_peer]) == 1
    await world.until(lambda: len(world.frames(three)) == 2 and world.frames(two))
    assert [frame.payload for frame in world.frames(two)] == [b"to all"]
    assert [frame.payload for frame in world.frames(three)] == [b"to all", b"to one"]


async def test_sending_does_not_deliver_at_once(world: World) -> None:
    one, two, _ = world.members
    assert one.send(two.local_peer, Channel.CONTROL, b"x")
    assert not [e for e in world.network.drain(two) if isinstance(e, Frame)]


async def test_nobody_is_not_sent_to(world: World) -> None:
    one, two, _ = world.members
    assert not one.send(STRANGER.peer_id, Channel.CONTROL, b"x")
    assert not one.send(one.local_peer, Channel.CONTROL, b"x")
    peers = [STRANGER.peer_id, one.local_peer, two.local_peer]
    assert one.broadcast(Channel.CONTROL, b"x", peers) == 1


async def test_the_largest_frame_passes_and_a_larger_one_is_a_mistake(world: World) -> None:
    one, two, _ = world.members
    assert one.send(two.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES))
    with pytest.raises(ValueError, match="exceeds"):
        one.send(two.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(ValueError, match="exceeds"):
        one.broadcast(Channel.BULK, bytes(MAX_FRAME_BYTES + 1), [two.local_peer])
    await world.until(lambda: world.frames(two))
    assert len(world.frames(two)[0].payload) == MAX_FRAME_BYTES


async def test_who_leaves_is_reported_once_and_not_sent_to(world: World) -> None:
    one, two, three = world.members
    await world.network.leave(three)
    world.members.remove(three)
    stayed = [one, two]
    await world.until(lambda: all(three.local_peer not in each.peers_up for each in stayed))
    world.collect()
    for member in stayed:
        downs = [e for e in world.seen[member.local_peer] if isinstance(e, PeerDown)]
        assert [down.peer for down in downs] == [three.local_peer]
        assert downs[0].reason
        assert not member.send(three.local_peer, Channel.CONTROL, b"x")
    assert one.send(two.local_peer, Channel.CONTROL, b"still here")
    await world.until(lambda: world.frames(two))


async def test_frames_come_only_between_up_and_down(world: World) -> None:
    one, _, three = world.members
    for number in range(50):
        three.send(one.local_peer, Channel.BULK, bytes([number]) * 1_000)
    await world.until(lambda: world.frames(one))
    await world.network.leave(three)
    world.members.remove(three)
    await world.until(lambda: three.local_peer not in one.peers_up)
    world.collect()
    from_three = [
        type(event)
        for event in world.seen[one.local_peer]
        if (event.sender if isinstance(event, Frame) else event.peer) == three.local_peer
    ]
    assert from_three[0] is PeerUp
    assert from_three[-1] is PeerDown
    assert set(from_three[1:-1]) == {Frame}


# -- guests: whom nobody was told of

OUTSIDERS = identities(MEMBERS + 4)[MEMBERS:]


async def both_hear(world: World, one: Transport, other: Transport) -> None:
    """A frame gets through in both directions."""
    for sender, receiver in ((one, other), (other, one)):
        assert sender.send(receiver.local_peer, Channel.CONTROL, b"hello")
        arrived = Frame(sender.local_peer, Channel.CONTROL, b"hello")
        await world.until(partial(lambda r, f: f in world.frames(r), receiver, arrived))


@pytest.mark.parametrize("identity", [OUTSIDERS[0], STRANGER])
async def test_a_guest_is_linked_with_those_it_knows(world: World, identity: Identity) -> None:
    one, two, three = world.members
    guest = await world.join(identity, [one, two])
    await world.until(lambda: len(guest.peers_up) == 2)
    await world.until(lambda: all(guest.local_peer in each.peers_up for each in (one, two)))
    await both_hear(world, guest, one)
    assert guest.send(two.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES))
    await world.until(lambda: any(len(f.payload) == MAX_FRAME_BYTES for f in world.frames(two)))
    assert guest.local_peer not in three.peers_up
    await world.network.leave(guest)
    world.members.remove(guest)
    await world.until(lambda: guest.local_peer not in one.peers_up)
    world.collect()
    assert isinstance(world.links(one)[-1], PeerDown)


async def test_guests_who_do_not_know_each_other_are_not_linked(world: World) -> None:
    one, _, _ = world.members
    guests = [await world.join(identity, [one]) for identity in OUTSIDERS[:MAX_GUESTS]]
    await world.until(lambda: all(each.peers_up == {one.local_peer} for each in guests))
    assert not guests[0].send(guests[1].local_peer, Channel.CONTROL, b"x")


async def test_a_guest_too_many_finds_no_place_while_members_do(world: World) -> None:
    one, two, three = world.members
    guests = [await world.join(identity, [one]) for identity in OUTSIDERS[:MAX_GUESTS]]
    await world.until(lambda: all(one.local_peer in each.peers_up for each in guests))
    late = await world.join(OUTSIDERS[MAX_GUESTS], [one, two])
    await world.until(lambda: late.local_peer in two.peers_up)
    for _ in range(20):
        await world.network.pass_time()
    assert late.local_peer not in one.peers_up
    assert {two.local_peer, three.local_peer} < one.peers_up
    world.network.set_peers(one, [two, three, late])
    await world.until(lambda: late.local_peer in one.peers_up)
    assert all(each.local_peer in one.peers_up for each in guests)


async def test_who_turns_from_guest_to_member_and_back_keeps_the_link(world: World) -> None:
    one, two, three = world.members
    guest = await world.join(OUTSIDERS[0], [one])
    await world.until(lambda: guest.local_peer in one.peers_up and guest.peers_up)
    world.collect()
    before = world.links(one)
    for known in ([two, three, guest], [two], [guest], [three], [two, three, guest]):
        world.network.set_peers(one, known)
        await world.network.pass_time()
    await both_hear(world, guest, one)
    await both_hear(world, one, three)
    assert world.links(one) == before


async def test_of_too_many_who_are_not_known_any_more_some_go(world: World) -> None:
    one, two, three = world.members
    guests = [await world.join(identity, [one]) for identity in OUTSIDERS[:MAX_GUESTS]]
    await world.until(lambda: all(each.local_peer in one.peers_up for each in guests))
    for other in (two, three):
        world.network.set_peers(other, [])
    world.network.set_peers(one, [])
    await world.until(lambda: len(one.peers_up) == MAX_GUESTS)
