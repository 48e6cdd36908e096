"""A stock py-libp2p host, on trio in a process of its own, and our mesh understand each other."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from net.libp2p.identity import Identity, peer_id_from_public_key
from net.libp2p.mesh import Mesh
from net.libp2p.options import MeshOptions
from net.transport import Channel, Frame
from tests.net.meshes import LOOPBACK, identities, take_frames, until

REPOSITORY = Path(__file__).parents[2]


@asynccontextmanager
async def stock_host(identity: Identity, mesh: Mesh, dial: bool) -> AsyncIterator[Process]:
    """A stock host that knows `mesh`, and dials it if asked to."""
    port = str(mesh.listen_address[1] if dial else 0)
    arguments = ["-m", "tests.net.stock_peer", identity.seed.hex(), mesh.local_peer, port]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=REPOSITORY, stdout=PIPE, limit=1 << 24
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def hear(process: Process, key: str) -> Any:
    """What the host has to say of `key`, next."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while line := await process.stdout.readline():
            facts = json.loads(line)
            if key in facts:
                return facts[key]
    raise AssertionError(f"the stock host ended without a word on {key}")


@pytest.mark.parametrize("who_dials", ["we", "they"])
async def test_ping_identify_and_an_echo(who_dials: str) -> None:
    low, high = identities(2)
    us, them = (low, high) if who_dials == "we" else (high, low)
    mesh = Mesh(us.seed, LOOPBACK, {}, options=MeshOptions(idle_timeout_s=20.0))
    await mesh.start()
    mesh.set_peers({them.peer_id: ("127.0.0.1", 1)})
    async with stock_host(them, mesh, who_dials == "they") as process:
        port = await hear(process, "port")
        mesh.set_peers({them.peer_id: ("127.0.0.1", port)})
        # they ask us
        assert await hear(process, "pings") == 2
        key = bytes.fromhex(await hear(process, "key"))
        assert peer_id_from_public_key(key[-32:]) == us.peer_id
        # we ask them
        await until(lambda: mesh.peers_up == {them.peer_id})
        assert await mesh.ping(them.peer_id) > 0
        assert "/ipfs/ping/1.0.0" in (await mesh.identify(them.peer_id)).protocols
        # frames there, and back again on the stream that they open
        frames = [b"a vote", bytes(300_000), b"", b"another"]
        for frame in frames:
            assert mesh.send(them.peer_id, Channel.CONTROL, frame)
        for frame in frames:
            assert bytes.fromhex(await hear(process, "frame")) == frame
        echoes = await take_frames(mesh, len(frames))
        assert echoes == [Frame(them.peer_id, Channel.CONTROL, frame) for frame in frames]
        assert mesh.send(them.peer_id, Channel.BULK, b"a block")
        assert bytes.fromhex(await hear(process, "frame")) == b"a block"
    await mesh.aclose()
