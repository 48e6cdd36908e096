"""A member that floods real nodes with what cannot be right is heard last, and orders nothing."""

import asyncio
import itertools
from pathlib import Path
from random import Random

import aiohttp
from rich.console import Console

from consensus.messages import Certificates, Timeout
from consensus.types import QuorumCertificate, TimeoutCertificate
from net.libp2p.mesh import Mesh
from net.transport import Channel
from testnet.launch import Plan, Testnet, launch
from testnet.members import member_keys
from testnet.report import Progress
from testnet.workload import OPAQUE_NAMESPACES

SEED = 3
LIAR = 3
WAIT_S = 40.0
FAR_ROUND = 1_000_000


def lies() -> list[bytes]:
    """Timeouts of rounds that nobody has seen, with certificates that nobody has signed."""
    found = []
    for round in range(FAR_ROUND, FAR_ROUND + 500):
        signature = bytes([0xC0]) + bytes(95)  # a point, so that the check goes on
        qc = QuorumCertificate(0, round - 2, bytes([round % 251]) * 32, b"\x07", signature)
        named = tuple((member, round - 4 + member) for member in range(3))
        tc = TimeoutCertificate(0, round - 1, named, signature, qc)
        certificates = Certificates(qc, tc, None)
        found.append(Timeout(0, round, round - 2, LIAR, signature, certificates).encode())
    return found


async def flood(mesh: Mesh) -> None:
    for lie in itertools.cycle(lies()):
        mesh.drain_events()
        for peer in mesh.peers_up:
            mesh.send(peer, Channel.CONTROL, lie)
        await asyncio.sleep(0.001)


async def counted(testnet: Testnet, node: int, name: str) -> float:
    url = testnet.specs[node].rpc_url + "/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"sequencer_{name}"))


async def test_a_flood_of_lies_costs_the_liar_its_place_and_stops_nobody(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "place", 4, "none", SEED)
    async with launch(plan, Progress(Console(quiet=True))) as testnet, asyncio.timeout(WAIT_S):
        testnet.cluster.nodes[LIAR].kill()
        address = "127.0.0.1", testnet.specs[LIAR].peer_port
        chain_id = testnet.genesis.chain_id
        mesh = Mesh(member_keys(SEED, LIAR).identity_seed, address, {}, chain_id=chain_id)
        await mesh.start()  # the others dial it
        flooding = asyncio.create_task(flood(mesh))
        try:
            for node in range(LIAR):
                while await counted(testnet, node, "network_distrusted") < 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            noise = Random(SEED)
            for number in range(1, 6):
                data = noise.randbytes(200)
                await testnet.clients[number % LIAR].api.submit(OPAQUE_NAMESPACES[0], [data])
                client = testnet.clients[0].api
                while (await client.status())["transactions"] < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not flooding.done()
            assert await counted(testnet, 0, 'invalid_messages_total{member="3"}') > 10
        finally:
            flooding.cancel()
            await mesh.aclose()
        await testnet.cluster.stop()
