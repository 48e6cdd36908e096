"""Guests: welcome while there is room, slower than members, and never in a member's way."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from net.libp2p.errors import Reason
from net.libp2p.identity import Identity
from net.libp2p.inbox import EVENT_BYTES
from net.libp2p.mesh import Mesh
from net.libp2p.options import MeshOptions
from net.transport import MAX_FRAME_BYTES, Channel, Frame, PeerDown
from tests.net.intruder import Intruder
from tests.net.meshes import (
    LOOPBACK,
    QUICK,
    assert_linked,
    identities,
    mesh_of,
    take_events,
    take_frames,
    until,
)

GUESTS = identities(8)[2:]
EAGER = replace(QUICK, dial_patience_s=0.0)
KIB = 1024


@asynccontextmanager
async def guest_of(host: Mesh, identity: Identity) -> AsyncIterator[Mesh]:
    """A linked guest."""
    known = {host.local_peer: host.listen_address}
    guest = Mesh(identity.seed, LOOPBACK, known, options=EAGER)
    await guest.start()
    try:
        await until(lambda: guest.peers_up and identity.peer_id in host.peers_up)
        yield guest
    finally:
        await guest.aclose()


@asynccontextmanager
async def host_with(options: MeshOptions) -> AsyncIterator[Mesh]:
    """One mesh, which knows nobody."""
    async with mesh_of(1, options) as [host]:
        yield host


async def test_a_silent_guest_gives_way_when_all_places_are_taken() -> None:
    options = replace(EAGER, max_guests=2, guest_silence_s=0.3)
    async with (
        host_with(options) as host,
        guest_of(host, GUESTS[0]) as silent,
        guest_of(host, GUESTS[1]) as talking,
    ):

        async def talk() -> None:
            while True:
                talking.send(host.local_peer, Channel.CONTROL, b"still here")
                await asyncio.sleep(0.02)

        task = asyncio.ensure_future(talk())
        await asyncio.sleep(1.5 * options.guest_silence_s)
        silent.set_peers({})
        async with guest_of(host, GUESTS[2]) as newcomer:
            assert host.peers_up == {talking.local_peer, newcomer.local_peer}
            assert host.statistics()["closed_too_many_guests"] == 1
        task.cancel()


async def test_a_newcomer_finds_no_place_while_all_guests_talk() -> None:
    async with host_with(replace(EAGER, max_guests=1)) as host, guest_of(host, GUESTS[0]) as one:
        intruder = await Intruder.authenticated(host, GUESTS[1])
        assert await intruder.read_until_closed() == b""
        await until(lambda: host.statistics().get("refused_too_many_guests") == 1)
        assert host.peers_up == {one.local_peer}
        await intruder.close()


async def test_newcomers_who_come_at_once_do_not_get_more_than_the_places_there_are() -> None:
    async with host_with(replace(EAGER, max_guests=2)) as host:
        intruders = await asyncio.gather(
            *(Intruder.authenticated(host, identity) for identity in GUESTS)
        )
        for intruder in intruders:
            intruder.say(b"\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n")
        await until(lambda: host.statistics().get("refused_too_many_guests") == len(GUESTS) - 2)
        assert len(host._links) == 2
        for intruder in intruders:
            await intruder.close()


async def test_a_guest_that_connects_anew_keeps_its_place() -> None:
    async with host_with(replace(EAGER, max_guests=1)) as host:
        first = await Intruder.admitted(host, GUESTS[0])
        await until(lambda: GUESTS[0].peer_id in host._links)
        second = await Intruder.admitted(host, GUESTS[0])
        await until(lambda: host.statistics().get("closed_replaced") == 1)
        assert list(host._links) == [GUESTS[0].peer_id]
        await first.close()
        await second.close()


async def test_the_largest_frames_pass_a_guests_window_one_after_the_other() -> None:
    options = replace(QUICK, guest_bytes_per_s=1e12)
    async with host_with(options) as host, guest_of(host, GUESTS[0]) as guest:
        for _ in range(3):
            assert guest.send(host.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES))
        assert len(await take_frames(host, 3)) == 3
        assert host.send(guest.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES))
        assert not host.send(guest.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES))
        assert len(await take_frames(guest, 1)) == 1


async def test_a_guest_is_heard_at_its_rate() -> None:
    options = replace(QUICK, guest_frames_per_s=100.0, guest_burst_s=0.1)
    async with host_with(options) as host, guest_of(host, GUESTS[0]) as guest:
        started = time.monotonic()
        for number in range(40):
            assert guest.send(host.local_peer, Channel.CONTROL, bytes([number]))
        frames = await take_frames(host, 40)
        assert time.monotonic() - started > 0.25
        assert [frame.payload[0] for frame in frames] == list(range(40))
        host.set_peers({guest.local_peer: None})  # a member is heard at once
        started = time.monotonic()
        for _ in range(1_000):
            assert guest.send(host.local_peer, Channel.CONTROL, b"member")
        await take_frames(host, 1_000)
        assert time.monotonic() - started < 5


async def test_all_guests_together_fill_so_much_of_the_inbox_and_no_more() -> None:
    options = replace(QUICK, guest_inbox_bytes=256 * KIB, guest_frames_per_s=1e9)
    async with (
        host_with(options) as host,
        guest_of(host, GUESTS[0]) as one,
        guest_of(host, GUESTS[1]) as other,
    ):
        await take_events(host, 2)
        for guest in (one, other):
            for _ in range(20):
                assert guest.send(host.local_peer, Channel.BULK, bytes(64 * KIB))
        await until(lambda: host.statistics()["bytes_in"] > 40 * 64 * KIB)
        assert host.statistics()["frames_in"] == 4
        assert len(await take_frames(host, 40)) == 40


async def test_a_frame_of_a_member_does_not_wait_for_those_of_guests() -> None:
    async with mesh_of(2) as [host, member], guest_of(host, GUESTS[0]) as guest:
        await take_events(host, 1)
        for _ in range(50):
            assert guest.send(host.local_peer, Channel.CONTROL, b"noise")
        await until(lambda: host.statistics().get("frames_in") == 50)
        assert member.send(host.local_peer, Channel.BULK, b"collection")
        await until(lambda: host.statistics()["frames_in"] == 51)
        first = host.drain_events(1)
        assert first == [Frame(member.local_peer, Channel.BULK, b"collection")]
        await take_frames(host, 50)
        await assert_linked(host, member)


async def test_a_member_that_becomes_a_guest_is_held_to_its_limits() -> None:
    async with (
        host_with(replace(QUICK, guest_send_queue_bytes=100 * KIB)) as host,
        guest_of(host, GUESTS[0]) as guest,
    ):
        await take_events(host, 1)
        host.set_peers({guest.local_peer: None})
        assert host.send(guest.local_peer, Channel.BULK, bytes(200 * KIB))
        await take_frames(guest, 1)
        host.set_peers({})
        assert not host.send(guest.local_peer, Channel.BULK, bytes(200 * KIB))
        assert host.send(guest.local_peer, Channel.BULK, bytes(50 * KIB))
        assert host.drain_events() == []


async def test_guests_that_come_and_go_leave_nothing_behind() -> None:
    async with host_with(QUICK) as host:
        for identity in GUESTS:
            async with guest_of(host, identity) as guest:
                assert guest.send(host.local_peer, Channel.BULK, b"x")
                await take_frames(host, 1)
            down = (await take_events(host, 1))[-1]
            assert isinstance(down, PeerDown)
            assert down.peer == identity.peer_id
        assert not host._inbox._mailboxes
        assert not host._links


async def test_strangers_who_only_come_and_go_are_let_in_no_more_than_the_core_can_hear() -> None:
    async with host_with(replace(QUICK, guest_inbox_bytes=2 * EVENT_BYTES)) as host:
        async with guest_of(host, GUESTS[0]):
            pass
        await until(lambda: not host.peers_up)
        refused = await Intruder.authenticated(host, GUESTS[1])
        assert await refused.read_until_closed() == b""
        assert host.statistics()["refused_too_many_guests"] == 1
        assert len(await take_events(host, 2)) == 2  # up and down
        async with guest_of(host, GUESTS[1]):
            pass
        await refused.close()


async def test_half_a_frame_of_a_guest_is_forgotten_with_its_connection() -> None:
    async with host_with(QUICK) as host, guest_of(host, GUESTS[0]) as guest:
        assert guest.send(host.local_peer, Channel.CONTROL, b"stays in the inbox")
        link = host._links[guest.local_peer]
        await until(lambda: host.statistics().get("frames_in") == 1)
        link._receivers[Channel.CONTROL].on_data(memoryview(bytes(100_000)))
        guest.set_peers({})
        link.connection.close(Reason.HUNG_UP)
        assert all(each._reader._size == 0 for each in link._receivers.values())
        assert all(each.box.source is None for each in link._receivers.values())
