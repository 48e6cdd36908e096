"""What the doctor finds out about the other members, and about the data."""

from net.libp2p.identity import multiaddr_of
from net.libp2p.mesh import Mesh
from sequencer.cli.doctor import _check_chains
from tests.net.meshes import LOOPBACK, QUICK, identities

OURS, THEIRS = bytes([1]) * 32, bytes([2]) * 32


async def test_the_doctor_tells_a_node_of_another_chain_from_one_of_ours() -> None:
    first, second = identities(2)
    meshes = [Mesh(first.seed, LOOPBACK, {}, QUICK, OURS)]
    meshes.append(Mesh(second.seed, LOOPBACK, {}, QUICK, THEIRS))
    for mesh in meshes:
        await mesh.start()
    addresses = [multiaddr_of(*mesh.listen_address, mesh.local_peer) for mesh in meshes]
    answering = dict(zip(("alice", "bob"), addresses, strict=True))
    alice, bob = await _check_chains(OURS, answering)
    assert (alice.state, bob.state) == ("ok", "bad")
    assert f"bob at {addresses[1]} is of another chain, {'02' * 8}..: its genesis" in bob.sentence
    for mesh in meshes:
        await mesh.aclose()
