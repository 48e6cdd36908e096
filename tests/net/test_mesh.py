"""What a node can rely on: links, channels, order, bounds, and peers that come and go."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from net.libp2p.chain import Chain
from net.libp2p.handshake import RawStream
from net.libp2p.mesh import Mesh
from net.libp2p.options import MeshOptions
from net.transport import MAX_FRAME_BYTES, Channel, Frame, PeerDown, PeerUp
from tests.net.meshes import (
    LOOPBACK,
    QUICK,
    STRANGER,
    assert_linked,
    identities,
    introduce,
    mesh_of,
    take_events,
    take_frames,
    until,
)

MIB = 1 << 20
REPOSITORY = Path(__file__).parents[2]


# -- links


async def test_everybody_hears_everybody_on_both_channels() -> None:
    async with mesh_of(4) as meshes:
        for mesh in meshes:
            for channel in Channel:
                assert mesh.broadcast(channel, mesh.local_peer.encode(), mesh.peers_up) == 3
        for mesh in meshes:
            frames = set(await take_frames(mesh, 6))
            others = {other.local_peer for other in meshes} - {mesh.local_peer}
            assert frames == {
                Frame(peer, channel, peer.encode()) for peer in others for channel in Channel
            }


async def test_the_lower_peer_id_dials_and_the_higher_one_waits() -> None:
    async with mesh_of(2) as [low, high]:
        assert low.statistics()["dials"] >= 1
        assert "dials" not in high.statistics()


async def test_frames_of_all_sizes_arrive_in_order() -> None:
    async with mesh_of(2) as [one, other]:
        sizes = [0, 1, 4, 65_535, 65_536, 300_000, MAX_FRAME_BYTES, 7]
        for size in sizes:
            assert one.send(other.local_peer, Channel.BULK, os.urandom(1) * size)
        frames = await take_frames(other, len(sizes))
        assert [len(frame.payload) for frame in frames] == sizes
        assert all(len(set(frame.payload)) <= 1 for frame in frames)


async def test_a_vote_overtakes_the_megabytes_queued_before_it() -> None:
    async with mesh_of(2) as [one, other]:
        for _ in range(24):
            assert one.send(other.local_peer, Channel.BULK, bytes(1 << 20))
        assert one.send(other.local_peer, Channel.CONTROL, b"vote")
        frames = await take_frames(other, 25)
        assert [frame.channel for frame in frames].index(Channel.CONTROL) < 3


async def test_a_vote_overtakes_the_megabytes_that_wait_for_the_core() -> None:
    async with mesh_of(4) as [core, voter, *others]:
        loud = [voter, *others]
        for _ in range(4):
            for mesh in loud:
                assert mesh.send(core.local_peer, Channel.BULK, bytes(MIB))
        await until(lambda: core.statistics().get("frames_in") == 12)
        assert voter.send(core.local_peer, Channel.CONTROL, b"vote")
        await until(lambda: core.statistics()["frames_in"] == 13)
        first, second = core.drain_events()
        assert first == Frame(voter.local_peer, Channel.CONTROL, b"vote")
        assert isinstance(second, Frame)
        assert second.channel is Channel.BULK  # and no more in this turn
        assert len(await take_frames(core, 11)) == 11


async def test_a_peer_that_is_not_there_is_not_sent_to() -> None:
    async with mesh_of(2) as [one, other]:
        nobody = STRANGER.peer_id
        assert not one.send(nobody, Channel.CONTROL, b"x")
        assert not one.send(one.local_peer, Channel.CONTROL, b"x")
        assert one.broadcast(Channel.CONTROL, b"x", [nobody, other.local_peer]) == 1
        assert one.statistics()["dropped_peer_down"] == 3


async def test_a_frame_above_the_cap_is_our_own_mistake() -> None:
    async with mesh_of(2) as [one, other]:
        with pytest.raises(ValueError, match="exceeds"):
            one.send(other.local_peer, Channel.BULK, bytes(MAX_FRAME_BYTES + 1))


async def test_ping_and_identify_answer() -> None:
    async with mesh_of(2) as [one, other]:
        assert 0 < await one.ping(other.local_peer) < 5
        description = await one.identify(other.local_peer)
        assert "/dsequencer/1/bulk" in description.protocols
        assert description.listen_addresses == (f"/ip4/127.0.0.1/tcp/{other.listen_address[1]}",)
        with pytest.raises(ConnectionError, match="not connected"):
            await one.ping(STRANGER.peer_id)


async def test_a_node_of_another_chain_is_refused_by_both_sides_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = bytes([1]) * 32, bytes([2]) * 32
    chains = dict.fromkeys(identities(3), ours) | {identities(3)[1]: theirs}
    meshes = [Mesh(each.seed, LOOPBACK, {}, QUICK, chain) for each, chain in chains.items()]
    for mesh in meshes:
        await mesh.start()
    introduce(meshes)
    first, other, last = meshes
    await until(lambda: first.other_chains and last.other_chains and len(other.other_chains) == 2)
    assert first.other_chains == last.other_chains == {other.local_peer: "02" * 8}
    assert other.other_chains == dict.fromkeys((first.local_peer, last.local_peer), "01" * 8)
    await until(lambda: first.peers_up == {last.local_peer})
    assert f"{other.local_peer} is of another chain, {'02' * 8}..: its genesis" in caplog.text
    names = ("closed_other_chain", "closed_hung_up")
    await until(lambda: any(other.statistics().get(name) for name in names))
    assert not other.peers_up
    for mesh in meshes:
        await mesh.aclose()


@pytest.mark.parametrize(
    ("spoken", "other"),
    [
        ("/dsequencer/1/0101010101010101/bulk", None),
        ("/ipfs/ping/1.0.0", None),
        ("/dsequencer/1/0202020202020202/bulk", "02" * 8),
        ("/dsequencer/1/control", "unknown"),
        ("/dsequencer/1/\x1b[31mfake line\n/control", "unknown"),
    ],
)
def test_what_a_peer_calls_its_chain_is_an_id_or_nothing(spoken: str, other: str | None) -> None:
    assert Chain(bytes([1]) * 32).told_by(["/ipfs/id/1.0.0", spoken]) == other


async def test_many_pings_leave_no_stream_behind() -> None:
    async with mesh_of(2) as [one, other]:
        for _ in range(QUICK.streams + 10):
            await one.ping(other.local_peer)
            await one.identify(other.local_peer)
        await assert_linked(one, other)


async def test_what_is_queued_comes_in_one_turn() -> None:
    async with mesh_of(2) as [one, other]:
        for number in range(100):
            one.send(other.local_peer, Channel.CONTROL, bytes([number]))
        await until(lambda: other.statistics().get("frames_in") == 100)
        async for events in other.turns():
            assert [event.payload for event in events if isinstance(event, Frame)] == [
                bytes([number]) for number in range(100)
            ]
            break


async def test_whom_the_core_distrusts_within_a_turn_goes_last_in_it() -> None:
    async with mesh_of(3) as [liar, honest, core]:
        for number in range(3):
            liar.send(core.local_peer, Channel.CONTROL, bytes([number]))
        await until(lambda: core.statistics().get("frames_in") == 3)
        for number in range(3, 6):
            honest.send(core.local_peer, Channel.CONTROL, bytes([number]))
        await until(lambda: core.statistics().get("frames_in") == 6)
        taken = []
        async for events in core.turns():
            for event in events:
                if isinstance(event, Frame):
                    taken.append(event.payload[0])
                    if event.sender == liar.local_peer:
                        core.distrust(liar.local_peer)
            if len(taken) == 6:
                break
    assert taken == [0, 3, 4, 5, 1, 2]


# -- bounds


async def test_a_full_queue_refuses_and_counts() -> None:
    async with mesh_of(2, replace(QUICK, send_queue_bytes=1_000_000)) as [one, other]:
        sent = [one.send(other.local_peer, Channel.BULK, bytes(100_000)) for _ in range(20)]
        assert sent.index(False) == 9
        assert one.statistics()["dropped_queue_full"] == 11
        assert one.send(other.local_peer, Channel.CONTROL, b"another channel")
        await take_frames(other, 10)


async def test_a_slow_core_stops_its_peer_and_loses_nothing() -> None:
    options = replace(
        QUICK, receive_window_bytes=4 * MIB, send_queue_bytes=8 * MIB, idle_timeout_s=0.4
    )
    async with mesh_of(2, options) as [one, other]:
        sent, tries = 0, 0
        while tries < 100:  # until nothing has fitted for a while
            if one.send(other.local_peer, Channel.BULK, bytes([sent]) * MIB):
                sent, tries = sent + 1, 0
            else:
                tries += 1
                await asyncio.sleep(0.002)
        assert 11 <= sent <= 13  # what fits into the window and the queue, and a bit on its way
        assert other.statistics()["bytes_in"] < 5 * MIB
        await asyncio.sleep(1.5 * options.idle_timeout_s)
        assert one.peers_up == {other.local_peer}  # slow is not gone: heartbeats pass
        frames = await take_frames(other, sent)
        assert [frame.payload[0] for frame in frames] == list(range(sent))


async def test_of_many_small_frames_only_so_many_are_held_as_objects() -> None:
    async with mesh_of(2, replace(QUICK, inbox_frames=64)) as [one, other]:
        for number in range(3_000):
            one.send(other.local_peer, Channel.CONTROL, bytes([number % 251]))
        await until(lambda: other.statistics().get("frames_in") == 64)
        frames = await take_frames(other, 3_000)
        assert [frame.payload[0] for frame in frames] == [n % 251 for n in range(3_000)]


async def test_a_frame_as_large_as_allowed_fits_behind_one_that_waits_for_the_core() -> None:
    async with mesh_of(2, replace(QUICK, inbox_frames=1)) as [one, other]:
        for _ in range(3):
            assert one.send(other.local_peer, Channel.CONTROL, bytes(MAX_FRAME_BYTES))
        assert len(await take_frames(other, 3)) == 3


# -- coming and going


async def test_a_peer_that_leaves_is_reported_once_and_then_comes_back() -> None:
    async with mesh_of(3) as meshes:
        stays, leaves = meshes[0], meshes[2]
        address = leaves.listen_address
        await leaves.aclose()
        assert await take_events(stays, 1) == [PeerDown(leaves.local_peer, "hung_up")]
        assert stays.peers_up == {meshes[1].local_peer}
        again = meshes[2] = Mesh(identities(3)[2].seed, address, {}, options=QUICK)
        await again.start()
        introduce(meshes)
        assert await take_events(stays, 1) == [PeerUp(again.local_peer)]
        again.drain_events()
        await until(lambda: len(again.peers_up) == 2)
        again.drain_events()
        await assert_linked(stays, again)


async def test_a_peer_is_dialled_until_it_is_there() -> None:
    low, high = identities(2)
    with socket.socket() as reserved:
        reserved.bind(LOOPBACK)
        address = reserved.getsockname()
    early = Mesh(low.seed, LOOPBACK, {high.peer_id: address}, options=QUICK)
    await early.start()
    await until(lambda: early.statistics().get("dial_unreachable", 0) >= 3)
    late = Mesh(high.seed, address, {low.peer_id: early.listen_address}, options=QUICK)
    await late.start()
    started = time.monotonic()
    await until(lambda: early.peers_up and late.peers_up)
    assert time.monotonic() - started < 1
    await early.aclose()
    await late.aclose()


async def test_two_that_dial_each_other_at_once_end_with_one_link() -> None:
    async with mesh_of(2, replace(QUICK, dial_patience_s=0.0)) as [one, other]:
        await until(lambda: one.peers_up and other.peers_up)
        await asyncio.sleep(0.2)
        one.drain_events()
        other.drain_events()
        await assert_linked(one, other)


async def test_of_two_connections_that_crossed_the_one_dialled_by_the_lower_id_stays() -> None:
    async with mesh_of(2) as [low, high]:
        kept = low._links[high.local_peer]
        assert await high._dial(low.local_peer, RawStream()) is None
        assert high.statistics()["dial_replaced"] == 1
        await assert_linked(low, high)
        assert low._links[high.local_peer] is kept


async def test_a_connection_dialled_by_the_higher_id_gives_way_to_one_of_the_lower() -> None:
    lower, higher = identities(2)
    low = Mesh(lower.seed, LOOPBACK, {}, options=QUICK)
    await low.start()
    addresses = {lower.peer_id: low.listen_address}
    high = Mesh(higher.seed, LOOPBACK, addresses, options=replace(QUICK, dial_patience_s=0.0))
    await high.start()
    await until(lambda: low.peers_up and high.peers_up)
    low.set_peers({higher.peer_id: high.listen_address})
    assert await low._dial(higher.peer_id, RawStream()) is low._links[higher.peer_id]
    await until(lambda: lower.peer_id in high._links)
    await until(lambda: not high._links[lower.peer_id].connection.is_dialer)
    await until(lambda: low.peers_up and high.peers_up)
    low.drain_events()
    high.drain_events()
    await assert_linked(low, high)
    await low.aclose()
    await high.aclose()


async def test_a_port_in_use_is_said_plainly() -> None:
    async with mesh_of(1) as [mesh]:
        port = mesh.listen_address[1]
        second = Mesh(identities(2)[1].seed, mesh.listen_address, {})
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: "):
            await second.start()
        await second.aclose()


async def test_six_lives_in_one_process_leave_no_descriptor_and_no_task() -> None:
    async def live() -> None:
        async with mesh_of(3) as meshes:
            await assert_linked(meshes[0], meshes[2])
            meshes[1].set_peers({})

    await live()  # what the first life leaves open is the loop's own
    before = open_descriptors()
    for _ in range(6):
        await live()
    await until(lambda: open_descriptors() == before)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_a_closed_mesh_is_empty_and_may_be_closed_again() -> None:
    async with mesh_of(2) as [one, other]:
        await one.aclose()
        await one.aclose()
        assert one.peers_up == frozenset()
        assert not one.send(other.local_peer, Channel.CONTROL, b"x")


# -- another process: what a signal does to a peer

CHILD = """
import asyncio, sys, uvloop
from net.libp2p.mesh import Mesh
from tests.net.meshes import QUICK, identities

async def main(peer, port):
    mesh = Mesh(identities(2)[1].seed, ("127.0.0.1", 0), {peer: ("127.0.0.1", port)}, options=QUICK)
    await mesh.start()
    print(mesh.listen_address[1], flush=True)
    async for events in mesh.turns():
        list(events)

uvloop.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def start_child(mesh: Mesh) -> subprocess.Popen[str]:
    """A peer in a process of its own, linked to `mesh`."""
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", CHILD, mesh.local_peer, str(mesh.listen_address[1])],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    line = await asyncio.to_thread(child.stdout.readline)
    mesh.set_peers({identities(2)[1].peer_id: ("127.0.0.1", int(line))})
    await until(lambda: mesh.peers_up)
    mesh.drain_events()
    return child


@pytest.mark.parametrize("is_flooded", [False, True])
async def test_a_paused_peer_is_noticed_and_welcome_again(is_flooded: bool) -> None:
    async with mesh_of(1) as [mesh]:
        child = await start_child(mesh)
        try:
            peer = identities(2)[1].peer_id
            child.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            while is_flooded and mesh.send(peer, Channel.BULK, bytes(1 << 20)):
                pass  # the socket and the queue are full when it is noticed
            assert await take_events(mesh, 1) == [PeerDown(peer, "idle")]
            assert QUICK.idle_timeout_s / 2 < time.monotonic() - stopped < 3
            child.send_signal(signal.SIGCONT)
            assert await take_events(mesh, 1) == [PeerUp(peer)]
        finally:
            child.kill()
            child.wait()


async def test_a_killed_peer_is_noticed_at_once() -> None:
    async with mesh_of(1, MeshOptions()) as [mesh]:
        child = await start_child(mesh)
        child.kill()
        killed = time.monotonic()
        [event] = await take_events(mesh, 1)
        assert isinstance(event, PeerDown)
        assert time.monotonic() - killed < 1
        child.wait()


async def test_our_own_pause_is_not_the_peers_fault() -> None:
    options = replace(QUICK, idle_timeout_s=0.4)
    async with mesh_of(2, options) as [one, other]:
        time.sleep(2 * options.idle_timeout_s)  # noqa: ASYNC251  (the loop is meant to stop)
        await asyncio.sleep(2 * options.heartbeat_s)
        await assert_linked(one, other)
        assert "closed_idle" not in one.statistics()
