"""Whatever a peer does wrong costs it its connection, is counted, and touches nobody else.

In every test an honest pair of members stays linked while somebody misbehaves: a stranger, or a
member of the committee, who is allowed to connect.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import pytest

from net.libp2p import multistream
from net.libp2p.connection import Connection
from net.libp2p.errors import PeerError, Reason
from net.libp2p.framing import FrameReader, encode_frame
from net.libp2p.handshake import MAX_BUFFERED_BYTES, RawStream
from net.libp2p.mesh import Mesh
from net.libp2p.stream import Stream
from net.transport import MAX_FRAME_BYTES, Channel, Frame, PeerUp
from tests.net.intruder import Intruder
from tests.net.meshes import (
    LOOPBACK,
    QUICK,
    STRANGER,
    assert_linked,
    identities,
    mesh_of,
    take_events,
    take_frames,
    until,
)

MEMBER = identities(3)[2]
"""Allowed to connect, and dishonest; its id is the highest, so nobody waits for it to listen."""

GREETING = multistream.encode(multistream.MULTISTREAM)
CONTROL = GREETING + multistream.encode("/dsequencer/1/control")
BULK = GREETING + multistream.encode("/dsequencer/1/bulk")
DATA, WINDOW_UPDATE, PING = range(3)
SYN, FIN, RST = 1, 4, 8


def header(kind: int, flags: int, stream: int, length: int, version: int = 0) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream, length)


def data(stream: int, body: bytes, flags: int = 0) -> bytes:
    return header(DATA, flags, stream, len(body)) + body


@pytest.fixture
async def honest() -> AsyncIterator[list[Mesh]]:
    """Two linked members; the first one is attacked. Both must be well in the end."""
    async with mesh_of(2) as meshes:
        one, other = meshes
        addresses = {mesh.local_peer: mesh.listen_address for mesh in meshes}
        with_member = {**addresses, MEMBER.peer_id: ("127.0.0.1", 1)}
        one.set_peers(with_member)
        yield meshes
        while one.drain_events():
            pass  # a turn at a time
        await assert_linked(one, other)
        assert other.local_peer in one.peers_up
        assert "closed_internal" not in one.statistics()
        assert "refused_internal" not in one.statistics()


def count(mesh: Mesh, name: str) -> int:
    return mesh.statistics().get(name, 0)


async def assert_refused(intruder: Intruder, mesh: Mesh, reason: str) -> None:
    """The intruder is hung up on, for that reason."""
    await intruder.read_until_closed()
    await until(lambda: count(mesh, f"refused_{reason}") == 1)
    await intruder.close()


async def assert_closed(intruder: Intruder, mesh: Mesh, reason: str) -> None:
    """The admitted intruder is hung up on, for that reason."""
    await intruder.read_until_closed()
    await until(lambda: count(mesh, f"closed_{reason}") == 1)
    await intruder.close()


# -- before the handshake


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n",
        bytes(1_000),
        b"\xff" * 1_000,
        b"\x16\x03\x01" + bytes(500),
        b"\x13/multistream/9.9.9\n",
    ],
)
async def test_garbage_before_the_handshake(honest: list[Mesh], garbage: bytes) -> None:
    intruder = await Intruder.connect(honest[0])
    intruder.write(garbage)
    await assert_refused(intruder, honest[0], "negotiation_failed")


async def test_a_connection_that_hangs_up_at_once(honest: list[Mesh]) -> None:
    intruder = await Intruder.connect(honest[0])
    await intruder.close()
    await until(lambda: count(honest[0], "refused_hung_up") == 1)


async def test_plaintext_is_not_spoken(honest: list[Mesh]) -> None:
    intruder = await Intruder.connect(honest[0])
    for protocol in ("/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0", "/yamux/1.0.0"):
        intruder.write(GREETING if protocol == "/plaintext/2.0.0" else b"")
        intruder.write(multistream.encode(protocol))
    expected = GREETING + 4 * multistream.encode("na")
    assert await intruder.read_exactly(len(expected)) == expected
    await intruder.close()


async def test_a_silent_connection_and_a_slow_one_are_dropped_in_time(honest: list[Mesh]) -> None:
    silent, slow = [await Intruder.connect(honest[0]) for _ in range(2)]

    async def drip() -> None:
        for byte in GREETING * 100:
            slow.write(bytes([byte]))
            await asyncio.sleep(0.1)

    dripping = asyncio.ensure_future(drip())
    await asyncio.gather(silent.read_until_closed(), slow.read_until_closed())
    await until(lambda: count(honest[0], "refused_handshake_timeout") == 2)
    dripping.cancel()
    await silent.close()
    await slow.close()


async def test_a_flood_before_the_handshake_is_cut_off(honest: list[Mesh]) -> None:
    intruder = await Intruder.connect(honest[0])
    # a Noise message is announced whose bytes never become a whole one
    intruder.write(GREETING + multistream.encode("/noise"))
    await intruder.read_exactly(len(GREETING))
    intruder.write(b"\x03\x00" * (1 << 20))
    await intruder.read_until_closed()
    await until(lambda: sum(refusals(honest[0]).values()) == 1)
    await intruder.close()


async def test_what_waits_unread_during_the_handshake_is_bounded() -> None:
    raw, transport = RawStream(), Mock(spec=asyncio.Transport)
    raw.connection_made(transport)
    raw.data_received(bytes(MAX_BUFFERED_BYTES))
    transport.abort.assert_not_called()
    raw.data_received(b"x")
    transport.abort.assert_called_once()
    with pytest.raises(PeerError) as caught:
        raw.release()
    assert caught.value.reason is Reason.HANDSHAKE_OVERFLOW


def refusals(mesh: Mesh) -> dict[str, int]:
    return {k: v for k, v in mesh.statistics().items() if k.startswith("refused_")}


async def test_many_silent_connections_do_not_keep_a_member_out() -> None:
    options = replace(QUICK, unauthenticated_connections=8, handshake_timeout_s=30.0)
    async with mesh_of(1, options) as [mesh]:
        silent = [await Intruder.connect(mesh) for _ in range(20)]
        mesh.set_peers({STRANGER.peer_id: ("127.0.0.1", 1)})
        member = Mesh(
            STRANGER.seed,
            LOOPBACK,
            {mesh.local_peer: mesh.listen_address},
            options=replace(options, dial_patience_s=0.0),
        )
        await member.start()
        await until(lambda: mesh.peers_up)
        assert count(mesh, "refused_too_many_unauthenticated") >= 12
        await member.aclose()
        for intruder in silent:
            await intruder.close()


# -- during the handshake


@pytest.mark.parametrize("garbage", [b"\x00\x20" + bytes(32), b"\x00\x00", os.urandom(3_000)])
async def test_garbage_instead_of_a_noise_message(honest: list[Mesh], garbage: bytes) -> None:
    intruder = await Intruder.connect(honest[0])
    assert await multistream.propose(intruder, "/noise")
    intruder.write(garbage + bytes(70_000))
    await assert_refused(intruder, honest[0], "handshake_failed")


async def test_garbage_instead_of_the_last_noise_message(honest: list[Mesh]) -> None:
    intruder = await Intruder.connect(honest[0])
    assert await multistream.propose(intruder, "/noise")
    intruder.write(b"\x00\x20" + os.urandom(32))
    length = await intruder.read_exactly(2)
    await intruder.read_exactly(int.from_bytes(length, "big"))
    intruder.write(b"\x00\x80" + os.urandom(128))
    await assert_refused(intruder, honest[0], "handshake_failed")


async def test_who_finds_no_place_is_refused_before_a_muxer_exists() -> None:
    async with mesh_of(1, replace(QUICK, max_guests=0)) as [mesh]:
        intruder = await Intruder.authenticated(mesh, STRANGER)
        assert await intruder.read_until_closed() == b""  # not even a greeting inside the channel
        await until(lambda: count(mesh, "refused_too_many_guests") == 1)
        await intruder.close()


async def test_nobody_connects_as_the_node_itself(honest: list[Mesh]) -> None:
    heard: list[str] = []
    honest[0].on_own_identity = heard.append
    intruder = await Intruder.authenticated(honest[0], identities(2)[0])
    await assert_refused(intruder, honest[0], "own_identity")
    assert heard == [str(intruder.writer.get_extra_info("sockname"))]


async def test_a_listener_who_is_somebody_else_is_not_talked_to() -> None:
    impostors = identities(4)
    async with mesh_of(1) as [mesh]:
        impostor = Mesh(impostors[2].seed, LOOPBACK, {mesh.local_peer: mesh.listen_address})
        await impostor.start()
        mesh.set_peers({impostors[3].peer_id: impostor.listen_address})
        await until(lambda: count(mesh, "dial_handshake_failed") >= 2)
        assert not mesh.peers_up
        await until(lambda: count(impostor, "refused_hung_up") >= 2)
        await impostor.aclose()


# -- after it: a member of the committee misbehaves


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (lambda: header(DATA, 0, 1, 0, version=7), "yamux_version"),
        (lambda: header(9, 0, 1, 0), "yamux_type"),
        (lambda: header(DATA, SYN, 2, 0), "yamux_stream"),
        (lambda: header(DATA, SYN, 1, 0) * 2, "yamux_stream"),
        (lambda: header(WINDOW_UPDATE, SYN, 1, 0) + header(DATA, 0, 1, 1 << 30), "yamux_window"),
        (lambda: b"".join(header(DATA, SYN, 2 * n + 1, 0) for n in range(65)), "too_many_streams"),
        (lambda: b"".join(header(PING, SYN, 0, n) for n in range(6_000)), "control_flood"),
        (lambda: header(3, 0, 0, 0), "hung_up"),
        (lambda: data(1, b"\x03abcdef", SYN), "negotiation_failed"),
        (lambda: data(1, CONTROL, SYN) + data(3, CONTROL, SYN), "yamux_stream"),
    ],
)
async def test_a_member_that_breaks_the_rules_of_yamux(
    honest: list[Mesh], frames: Callable[[], bytes], reason: str
) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    intruder.say(frames())
    await assert_closed(intruder, honest[0], reason)


async def test_a_member_that_sends_garbage_instead_of_records(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    intruder.write(os.urandom(200_000))
    await assert_closed(intruder, honest[0], "bad_record")


async def test_a_member_whose_connection_breaks_in_the_middle_of_a_record(
    honest: list[Mesh],
) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    intruder.write(b"\xff\xff" + bytes(100))
    await intruder.writer.drain()
    await intruder.close()
    await until(lambda: count(honest[0], "closed_hung_up") == 1)


async def answer_channels(intruder: Intruder) -> None:
    """Agree to the two channels that the mesh opens (streams 2 and 4), so that the link is up."""
    await intruder.listen_for(header(WINDOW_UPDATE, SYN, 4, 0))
    intruder.say(data(2, CONTROL) + data(4, BULK))


async def test_a_member_that_announces_a_frame_beyond_the_cap(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    intruder.say(data(1, CONTROL, SYN) + data(1, (MAX_FRAME_BYTES + 1).to_bytes(4, "big")))
    await assert_closed(intruder, honest[0], "frame_too_large")


async def test_frames_cut_byte_by_byte_arrive_whole(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    intruder.say(data(1, CONTROL, SYN))
    for byte in encode_frame(b"a vote") + encode_frame(b""):
        intruder.say(data(1, bytes([byte])))
    frames = await take_frames(honest[0], 2)
    assert frames == [Frame(MEMBER.peer_id, Channel.CONTROL, text) for text in (b"a vote", b"")]
    await intruder.close()


async def test_frames_wait_until_the_link_is_up(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    intruder.say(data(1, CONTROL, SYN) + data(1, encode_frame(b"early")))
    await intruder.listen_for(data(1, CONTROL))
    assert honest[0].drain_events() == []
    await answer_channels(intruder)
    assert await take_events(honest[0], 2) == [
        PeerUp(MEMBER.peer_id),
        Frame(MEMBER.peer_id, Channel.CONTROL, b"early"),
    ]
    await intruder.close()


async def test_half_a_frame_is_never_delivered(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    intruder.say(data(1, CONTROL, SYN) + data(1, encode_frame(b"whole")))
    intruder.say(data(1, encode_frame(b"never whole")[:-1], FIN))
    assert (await take_frames(honest[0], 1))[0].payload == b"whole"
    await intruder.close()
    await until(lambda: count(honest[0], "closed_hung_up") == 1)
    assert not any(isinstance(event, Frame) for event in honest[0].drain_events())


async def test_a_member_that_ignores_its_window_is_cut_off_before_memory_grows(
    honest: list[Mesh],
) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    intruder.say(data(1, BULK, SYN))

    async def push() -> None:
        body = data(1, encode_frame(bytes(60_000)))
        for _ in range(2 * QUICK.receive_window_bytes // 60_000):
            intruder.say(body)
            await intruder.writer.drain()

    pushing = asyncio.ensure_future(push())
    await assert_closed(intruder, honest[0], "yamux_window")
    await asyncio.gather(pushing, return_exceptions=True)
    assert count(honest[0], "bytes_in") < 1.1 * QUICK.receive_window_bytes


async def test_a_member_that_answers_nothing_is_dropped_in_time(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    await assert_closed(intruder, honest[0], "idle")


async def test_a_member_that_talks_but_never_agrees_to_the_channels(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)

    async def chatter() -> None:
        while True:
            intruder.say(header(PING, 2, 0, 0))
            await asyncio.sleep(0.1)

    chattering = asyncio.ensure_future(chatter())
    await assert_closed(intruder, honest[0], "handshake_timeout")
    chattering.cancel()
    assert MEMBER.peer_id not in honest[0].peers_up


async def test_a_member_that_reads_nothing_blocks_only_itself(honest: list[Mesh]) -> None:
    mesh, other = honest
    intruder = await Intruder.admitted(mesh, MEMBER)
    await answer_channels(intruder)
    intruder.say(header(WINDOW_UPDATE, 0, 4, 1 << 31))  # sends us all you have
    await until(lambda: MEMBER.peer_id in mesh.peers_up)
    both = [MEMBER.peer_id, other.local_peer]
    while mesh.broadcast(Channel.BULK, bytes(1 << 20), both) == 2:
        await take_frames(other, 1)
    assert mesh.send(other.local_peer, Channel.BULK, b"still there")
    assert [len(frame.payload) for frame in await take_frames(other, 2)] == [1 << 20, 11]
    assert not mesh.send(MEMBER.peer_id, Channel.BULK, bytes(1 << 20))
    await intruder.close()


async def test_a_socket_that_takes_nothing_is_given_up() -> None:
    options = replace(QUICK, write_timeout_s=0.3)
    async with mesh_of(1, options) as [mesh]:
        mesh.set_peers({MEMBER.peer_id: LOOPBACK})
        intruder = await Intruder.admitted(mesh, MEMBER)
        await answer_channels(intruder)
        intruder.say(header(WINDOW_UPDATE, 0, 4, 1 << 31))
        await until(lambda: mesh.peers_up)

        async def stay_alive() -> None:
            while True:
                intruder.say(header(PING, 2, 0, 0))
                await asyncio.sleep(0.1)

        living = asyncio.ensure_future(stay_alive())
        while mesh.send(MEMBER.peer_id, Channel.BULK, bytes(1 << 20)):
            pass
        await until(lambda: count(mesh, "closed_write_timeout") == 1)
        living.cancel()
        await intruder.close()


async def test_a_member_that_takes_back_a_channel_is_linked_anew_or_not_at_all(
    honest: list[Mesh],
) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    await until(lambda: MEMBER.peer_id in honest[0].peers_up)
    intruder.say(header(DATA, RST, 2, 0))
    await assert_closed(intruder, honest[0], "channel_lost")
    assert MEMBER.peer_id not in honest[0].peers_up


async def test_a_member_that_closes_its_half_of_our_channel_is_still_written_to(
    honest: list[Mesh],
) -> None:
    mesh = honest[0]
    intruder = await Intruder.admitted(mesh, MEMBER)
    await answer_channels(intruder)
    intruder.say(header(DATA, FIN, 2, 0) + header(DATA, FIN, 4, 0))
    await until(lambda: MEMBER.peer_id in mesh.peers_up)
    await asyncio.sleep(0.05)
    before = count(mesh, "bytes_out")
    assert mesh.send(MEMBER.peer_id, Channel.CONTROL, bytes(10_000))
    await until(lambda: count(mesh, "bytes_out") >= before + 10_000)
    await intruder.close()


async def test_a_ping_that_ends_its_half_at_once_is_still_answered(honest: list[Mesh]) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    asked = GREETING + multistream.encode("/ipfs/ping/1.0.0")
    for stream in range(1, 2 * QUICK.streams + 20, 2):
        challenge = os.urandom(32)
        intruder.say(data(stream, asked, SYN) + data(stream, challenge, FIN))
        await intruder.listen_for(challenge)
        await intruder.listen_for(header(DATA, FIN, stream, 0))
    await intruder.close()


async def test_the_newest_connection_of_a_member_counts(honest: list[Mesh]) -> None:
    mesh = honest[0]
    first = await Intruder.admitted(mesh, MEMBER)
    await answer_channels(first)
    await until(lambda: MEMBER.peer_id in mesh.peers_up)
    second = await Intruder.admitted(mesh, MEMBER)
    await assert_closed(first, mesh, "replaced")
    await answer_channels(second)
    await until(lambda: MEMBER.peer_id in mesh.peers_up)
    await second.close()


def mesh_was_up(mesh: Mesh, times: int) -> bool:
    return count(mesh, "links_up") == times


async def test_a_member_that_connects_again_and_again_has_one_share_of_the_inbox() -> None:
    async with mesh_of(1, replace(QUICK, inbox_frames=64)) as [mesh]:
        mesh.set_peers({MEMBER.peer_id: ("127.0.0.1", 1)})
        frames = b"".join(encode_frame(bytes([number])) for number in range(100))
        for turn in range(3):
            intruder = await Intruder.admitted(mesh, MEMBER)
            await answer_channels(intruder)
            intruder.say(data(1, CONTROL, SYN) + data(1, frames))
            await until(lambda: count(mesh, "frames_in") == 64)
            await until(partial(mesh_was_up, mesh, turn + 1))
            intruder.say(header(PING, SYN, 0, turn))
            await intruder.listen_for(header(PING, 2, 0, turn))  # all before it is received
        assert count(mesh, "frames_in") == 64
        received = [frame.payload[0] for frame in await take_frames(mesh, 64 + 100)]
        assert received == [*range(64), *range(100)]
        await intruder.close()


async def test_pings_and_strange_protocols_without_end_cost_only_the_sender(
    honest: list[Mesh],
) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    strange = GREETING + multistream.encode("/strange/1.0.0")
    for number in range(500):
        stream = 2 * number + 1
        intruder.say(data(stream, strange, SYN) + header(DATA, RST, stream, 0))
        if number % 10 == 0:
            await intruder.writer.drain()
            await asyncio.sleep(0)
    await assert_linked(*honest)
    await intruder.close()


async def test_a_mistake_of_ours_costs_one_connection(
    honest: list[Mesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(connection: Connection, stream: Stream) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(honest[0]._handlers, "/faulty/1", fail)
    intruder = await Intruder.admitted(honest[0], MEMBER)
    intruder.say(data(1, GREETING + multistream.encode("/faulty/1"), SYN))
    await assert_closed(intruder, honest[0], "internal")
    honest[0]._counters.clear()


async def test_a_mistake_of_ours_while_receiving_costs_one_connection(
    honest: list[Mesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    intruder = await Intruder.admitted(honest[0], MEMBER)
    await answer_channels(intruder)
    await until(lambda: MEMBER.peer_id in honest[0].peers_up)
    intruder.say(data(1, CONTROL, SYN))
    await intruder.listen_for(data(1, CONTROL))
    with monkeypatch.context() as patch:
        patch.setattr(FrameReader, "feed", lambda reader, data: 1 / 0)
        intruder.say(data(1, encode_frame(b"a vote")))
        await assert_closed(intruder, honest[0], "internal")
    honest[0]._counters.clear()


async def test_random_bytes_inside_the_channel(honest: list[Mesh]) -> None:
    noise = os.urandom(4_000)
    for start in range(0, 4_000, 400):
        intruder = await Intruder.admitted(honest[0], MEMBER)
        intruder.say(noise[start : start + 400])
        await intruder.read_until_closed()
        await intruder.close()
