"""Meshes on loopback for tests, and how to wait for what they do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from net.libp2p.identity import Identity
from net.libp2p.mesh import Mesh
from net.libp2p.options import MeshOptions
from net.transport import Channel, Frame, NetworkEvent

LOOPBACK = ("127.0.0.1", 0)
TIMEOUT_S = 10.0

QUICK = replace(
    MeshOptions(),
    heartbeat_s=0.1,
    idle_timeout_s=1.0,
    handshake_timeout_s=1.0,
    dial_patience_s=0.5,
)
"""Everything that production waits seconds for, in fractions of one."""


_POOL = sorted(
    (Identity.from_seed(bytes([number]) * 32) for number in range(1, 17)),
    key=lambda identity: identity.peer_id,
)
STRANGER = _POOL.pop()
"""An identity that is never a member."""


def identities(count: int) -> list[Identity]:
    """So many identities, always the same, by peer id: each dials those after it."""
    return _POOL[:count]


@asynccontextmanager
async def mesh_of(count: int, options: MeshOptions = QUICK) -> AsyncIterator[list[Mesh]]:
    """So many meshes, all linked to each other, whose first events are taken already."""
    meshes = [Mesh(each.seed, LOOPBACK, {}, options=options) for each in identities(count)]
    try:
        for mesh in meshes:
            await mesh.start()
        introduce(meshes)
        await until(lambda: all(len(mesh.peers_up) == count - 1 for mesh in meshes))
        for mesh in meshes:
            mesh.drain_events()
        yield meshes
    finally:
        for mesh in meshes:
            await mesh.aclose()


def introduce(meshes: list[Mesh]) -> None:
    """Tell every mesh where the others listen."""
    addresses = {mesh.local_peer: mesh.listen_address for mesh in meshes}
    for mesh in meshes:
        mesh.set_peers(addresses)


async def until(condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until `condition` holds; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.002)


async def take_events(mesh: Mesh, count: int, timeout_s: float = TIMEOUT_S) -> list[NetworkEvent]:
    """The next `count` events."""
    taken: list[NetworkEvent] = []
    async with asyncio.timeout(timeout_s):
        while len(taken) < count:
            await mesh.wait_event()
            taken += mesh.drain_events(count - len(taken))
    return taken


async def take_frames(mesh: Mesh, count: int, timeout_s: float = TIMEOUT_S) -> list[Frame]:
    """The next `count` frames; other events are skipped."""
    taken: list[Frame] = []
    while len(taken) < count:
        events = await take_events(mesh, 1, timeout_s)
        taken += [event for event in events if isinstance(event, Frame)]
    return taken


async def assert_linked(one: Mesh, other: Mesh) -> None:
    """A frame gets through in both directions."""
    for sender, receiver in ((one, other), (other, one)):
        assert sender.send(receiver.local_peer, Channel.CONTROL, b"are you there")
        [frame] = await take_frames(receiver, 1)
        assert frame == Frame(sender.local_peer, Channel.CONTROL, b"are you there")
