"""Who is dialled, where, and what happens when operators move: names are resolved every time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from net.libp2p import dialing
from net.libp2p.dialing import Address, connect, resolve
from net.libp2p.errors import Reason
from net.libp2p.handshake import RawStream
from net.libp2p.identity import multiaddr_of, parse_multiaddr
from net.libp2p.mesh import Mesh
from net.transport import NetworkEvent, PeerId
from tests.net.meshes import LOOPBACK, QUICK, assert_linked, identities, until

LOW, HIGH = identities(2)


@pytest.fixture
async def meshes() -> AsyncIterator[list[Mesh]]:
    """Two that do not know each other, by peer id."""
    made = [Mesh(each.seed, LOOPBACK, {}, options=QUICK) for each in (LOW, HIGH)]
    for mesh in made:
        await mesh.start()
    yield made
    for mesh in made:
        await mesh.aclose()


async def linked(one: Mesh, other: Mesh) -> None:
    await until(lambda: one.peers_up and other.peers_up)
    for mesh in (one, other):
        mesh.drain_events()
    await assert_linked(one, other)


def count(mesh: Mesh, name: str) -> int:
    return mesh.statistics().get(name, 0)


# -- names


@pytest.mark.parametrize("protocol", ["dns", "dns4", "dns6"])
async def test_a_peer_is_dialled_by_name(meshes: list[Mesh], protocol: str) -> None:
    low, high = meshes
    text = f"/{protocol}/localhost/tcp/{high.listen_address[1]}/p2p/{HIGH.peer_id}"
    host, port, peer = parse_multiaddr(text)
    low.set_peers({peer: (host, port)})
    await linked(low, high)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_peer_is_dialled_by_address(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            pytest.skip(f"{host} is not there")
    low, high = (Mesh(each.seed, (host, 0), {}, options=QUICK) for each in (LOW, HIGH))
    await low.start()
    await high.start()
    text = multiaddr_of(*high.listen_address, HIGH.peer_id)
    low.set_peers({HIGH.peer_id: parse_multiaddr(text)[:2]})
    await linked(low, high)
    await low.aclose()
    await high.aclose()


async def test_a_name_is_resolved_at_every_dial(
    meshes: list[Mesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    low, high = meshes
    asked: list[str] = []

    async def moving(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["127.0.0.9" if len(asked) < 4 else "127.0.0.1"]

    monkeypatch.setattr(dialing, "resolve", moving)
    low.set_peers({HIGH.peer_id: ("node.example.org", high.listen_address[1])})
    await linked(low, high)
    assert asked == 4 * ["node.example.org"]
    assert count(low, "dial_unreachable") == 3


async def test_of_several_addresses_one_that_works_is_enough(
    meshes: list[Mesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def several(name: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.8", "127.0.0.1"]

    monkeypatch.setattr(dialing, "resolve", several)
    low, high = meshes
    low.set_peers({HIGH.peer_id: ("node.example.org", high.listen_address[1])})
    await linked(low, high)
    assert count(low, "dials") == 1


async def test_a_name_has_a_bounded_number_of_addresses() -> None:
    assert 1 <= len(await resolve("localhost", 1)) <= dialing.MAX_RESOLVED
    assert await resolve("127.0.0.1", 1) == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..b"])
async def test_what_is_no_name_cannot_be_reached(name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        await connect(RawStream(), (name, 1), 5.0)


# -- addresses that change


async def test_a_new_address_counts_from_the_next_dial_on(meshes: list[Mesh]) -> None:
    low, high = meshes
    low.set_peers({HIGH.peer_id: ("127.0.0.9", 1)})
    await until(lambda: count(low, "dial_unreachable") >= 2)
    low.set_peers({HIGH.peer_id: high.listen_address})
    await linked(low, high)


async def test_a_link_outlives_a_new_address_for_its_peer(meshes: list[Mesh]) -> None:
    low, high = meshes
    known: dict[PeerId, Address | None] = {HIGH.peer_id: high.listen_address}
    low.set_peers(known)
    await linked(low, high)
    links = [mesh._links[peer] for mesh, peer in ((low, HIGH.peer_id), (high, LOW.peer_id))]
    for address in (("127.0.0.9", 1), None, high.listen_address, high.listen_address):
        low.set_peers({HIGH.peer_id: address})
        high.set_peers({LOW.peer_id: address})
        await asyncio.sleep(0)
    await assert_linked(low, high)
    assert links == [low._links[HIGH.peer_id], high._links[LOW.peer_id]]
    assert count(low, "dials") == 1


async def test_who_was_told_an_address_twice_dials_once(meshes: list[Mesh]) -> None:
    low, high = meshes
    for _ in range(5):
        low.set_peers({HIGH.peer_id: high.listen_address, LOW.peer_id: low.listen_address})
    await linked(low, high)
    assert count(low, "dials") == 1


async def test_two_peers_with_one_address_cost_one_of_them_its_link(meshes: list[Mesh]) -> None:
    low, high = meshes
    third = identities(3)[2]
    low.set_peers({third.peer_id: high.listen_address, HIGH.peer_id: high.listen_address})
    await linked(low, high)
    await until(lambda: count(low, "dial_handshake_failed") >= 2)
    assert low.peers_up == {HIGH.peer_id}


async def test_who_is_not_known_any_more_is_not_dialled_any_more(meshes: list[Mesh]) -> None:
    low, _ = meshes
    low.set_peers({HIGH.peer_id: ("127.0.0.9", 1)})
    await until(lambda: count(low, "dials"))
    low.set_peers({})
    await asyncio.sleep(0.01)
    assert not low._dialers
    assert len(low._tasks) == 1  # the heartbeat


# -- who dials


async def test_the_higher_id_dials_when_the_lower_one_does_not(meshes: list[Mesh]) -> None:
    low, high = meshes
    low.set_peers({HIGH.peer_id: ("127.0.0.9", 1)})  # an address that it has left
    high.set_peers({LOW.peer_id: low.listen_address})
    await linked(low, high)
    assert count(high, "dials") == 1
    assert not low._links[HIGH.peer_id].is_guest


async def test_the_higher_id_leaves_it_to_the_lower_one_to_link_again(meshes: list[Mesh]) -> None:
    low, high = meshes
    high._options = replace(QUICK, redial_first_s=0.0)
    low.set_peers({HIGH.peer_id: high.listen_address})
    high.set_peers({LOW.peer_id: low.listen_address})
    await linked(low, high)
    await asyncio.sleep(1.2 * QUICK.dial_patience_s)  # it has seen that it need not dial
    high._links[LOW.peer_id].connection.close(Reason.HUNG_UP)
    await until(lambda: count(low, "links_up") == count(high, "links_up") == 2)
    assert "dials" not in high.statistics()


async def test_a_member_that_nobody_knows_an_address_of_is_no_guest(meshes: list[Mesh]) -> None:
    low, high = meshes
    low.set_peers({HIGH.peer_id: None})
    high.set_peers({LOW.peer_id: low.listen_address})
    await linked(low, high)
    assert not low._links[HIGH.peer_id].is_guest
    assert "dials" not in low.statistics()


async def test_who_is_turned_away_asks_more_and_more_rarely(meshes: list[Mesh]) -> None:
    _, high = meshes
    full = Mesh(identities(3)[2].seed, LOOPBACK, {}, options=replace(QUICK, max_guests=0))
    await full.start()
    high._options = replace(
        QUICK, redial_factor=2.0, redial_cap_s=0.02, redial_unwelcome_cap_s=30.0
    )
    high.set_peers({full.local_peer: full.listen_address})
    await until(lambda: count(full, "refused_too_many_guests") >= 4)
    await asyncio.sleep(0.3)
    assert count(high, "dials") <= 7
    full.set_peers({HIGH.peer_id: high.listen_address})
    await full.aclose()


# -- my own key


async def test_another_process_with_my_key_is_found_and_finds_out(meshes: list[Mesh]) -> None:
    low, high = meshes
    double = Mesh(LOW.seed, LOOPBACK, {}, options=QUICK)
    await double.start()
    heard: list[str] = []
    double.on_own_identity = heard.append
    assert await low.has_double_at(double.listen_address)
    await until(lambda: heard)
    assert "127.0.0.1" in heard[0]
    assert count(double, "refused_own_identity") == 1
    assert not await low.has_double_at(high.listen_address)
    assert not await low.has_double_at(("127.0.0.9", 1))
    await double.aclose()


async def test_i_am_not_my_own_double(meshes: list[Mesh]) -> None:
    low, _ = meshes
    heard: list[str] = []
    low.on_own_identity = heard.append
    assert not await low.has_double_at(low.listen_address)
    await until(lambda: count(low, "refused_myself") == 1)
    low.set_peers({HIGH.peer_id: low.listen_address})  # somebody gave my address for theirs
    await until(lambda: count(low, "dial_handshake_failed") >= 2)
    events: list[NetworkEvent] = low.drain_events()
    assert (heard, events) == ([], [])
