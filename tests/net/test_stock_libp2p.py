"""Stock libp2p hosts, in processes of their own, and our mesh understand each other.

py-libp2p runs on trio. js-libp2p 3 runs where node.js >= 22 is found (as `node`, or as the
environment variable NODE says) and JS_LIBP2P names a directory with its packages:
`npm install libp2p@3 @libp2p/tcp @libp2p/identify @libp2p/ping @libp2p/crypto
@chainsafe/libp2p-noise @chainsafe/libp2p-yamux @multiformats/multiaddr`.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
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
NODE_MAJOR = 22


class Host:
    """A stock host and what it has said, by the kind of fact."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._facts: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            for kind, value in json.loads(line).items():
                self._facts[kind].put_nowait(value)

    async def hear(self, kind: str) -> Any:
        """The next fact of a kind."""
        async with asyncio.timeout(20):
            return await self._facts[kind].get()

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._listening


def command(kind: str) -> tuple[list[str], Path, Path | None]:
    """How to start a host: the command, where, and what it reads; skips if it is not there."""
    if kind == "py-libp2p":
        return [sys.executable, "-m", "tests.net.stock_peer"], REPOSITORY, None
    modules, node = os.environ.get("JS_LIBP2P"), os.environ.get("NODE") or shutil.which("node")
    if modules is None or node is None:
        pytest.skip("js-libp2p is not there (JS_LIBP2P, NODE)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.strip("v\n").split(".")[0]) < NODE_MAJOR:
        pytest.skip(f"node.js is older than {NODE_MAJOR}")
    script = Path(__file__).with_name("js_peer.mjs")
    return [node, "--input-type=module", "-"], Path(modules), script


@asynccontextmanager
async def stock_host(kind: str, identity: Identity, mesh: Mesh, port: int) -> AsyncIterator[Host]:
    """A stock host that expects `mesh`, and dials it if `port` is not 0."""
    arguments, folder, script = command(kind)
    arguments += [identity.seed.hex(), mesh.local_peer, str(port)]
    stdin = os.open(script or os.devnull, os.O_RDONLY)
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, stdin=stdin, stdout=PIPE, limit=1 << 24
    )
    os.close(stdin)
    host = Host(process)
    try:
        yield host
    finally:
        await host.stop()


@pytest.mark.parametrize("who_dials", ["we", "they"])
@pytest.mark.parametrize("kind", ["py-libp2p", "js-libp2p"])
async def test_ping_identify_and_an_echo(kind: str, who_dials: str) -> None:
    low, high = identities(2)
    us, them = (low, high) if who_dials == "we" else (high, low)
    mesh = Mesh(us.seed, LOOPBACK, {}, options=MeshOptions(idle_timeout_s=20.0))
    await mesh.start()
    mesh.set_peers({them.peer_id: ("127.0.0.1", 1)})
    port = 0 if who_dials == "we" else mesh.listen_address[1]
    try:
        async with stock_host(kind, them, mesh, port) as host:
            mesh.set_peers({them.peer_id: ("127.0.0.1", await host.hear("port"))})
            await check_that_they_ask_us(host, us)
            await check_that_we_ask_them(mesh, them)
            await check_frames_there_and_back(mesh, them, host)
    finally:
        await mesh.aclose()


async def check_that_they_ask_us(host: Host, us: Identity) -> None:
    assert await host.hear("pings") == 2
    key = bytes.fromhex(await host.hear("key"))
    assert peer_id_from_public_key(key[-32:]) == us.peer_id
    assert await host.hear("agent") == "dsequencer/1"


async def check_that_we_ask_them(mesh: Mesh, them: Identity) -> None:
    await until(lambda: mesh.peers_up == {them.peer_id})
    assert await mesh.ping(them.peer_id) > 0
    assert "/ipfs/ping/1.0.0" in (await mesh.identify(them.peer_id)).protocols


async def check_frames_there_and_back(mesh: Mesh, them: Identity, host: Host) -> None:
    """They echo on a stream that they open."""
    frames = [b"a vote", bytes(300_000), b"", b"another"]
    for frame in frames:
        assert mesh.send(them.peer_id, Channel.CONTROL, frame)
    for frame in frames:
        assert bytes.fromhex(await host.hear("frame")) == frame
    echoes = await take_frames(mesh, len(frames))
    assert echoes == [Frame(them.peer_id, Channel.CONTROL, frame) for frame in frames]
    assert mesh.send(them.peer_id, Channel.BULK, b"a block")
    assert bytes.fromhex(await host.hear("frame")) == b"a block"
