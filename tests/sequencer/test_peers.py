"""Handles: members by index, guests by number, and who keeps what when the committee changes."""

from hashlib import sha256

from consensus.committee import Committee, Member
from consensus.interface import Instant
from consensus.rules import Rules
from consensus.types import MAX_MEMBERS
from sequencer.messages import BatchRequest
from sequencer.peers import MAX_GUESTS, Peers
from testnet.simulation.world import Setup, World


def member(name: str) -> Member:
    return Member(sha256(name.encode()).digest(), sha256(name.encode()).digest() + bytes(16))


def committee(epoch: int, *names: str) -> Committee:
    return Committee(epoch, tuple(member(name) for name in names))


def peers(me: str = "a", *names: str) -> Peers:
    by_identity = {member(name).identity: name for name in "abcdefgh"}
    return Peers(committee(0, *(names or "abcd")), member(me).identity, by_identity.__getitem__)


def test_members_are_known_by_their_index_from_the_start() -> None:
    known = peers("b")
    assert [known.handle(name) for name in "abcd"] == [0, 1, 2, 3]
    assert known.me == 1
    assert known.other_members == [0, 2, 3]
    assert known.guests == []


def test_a_follower_has_no_index() -> None:
    known = peers("e")
    assert known.me is None
    assert known.other_members == [0, 1, 2, 3]


def test_a_guest_has_a_handle_above_all_members_while_it_is_connected() -> None:
    known = peers()
    handle = known.connected("e")
    assert handle is not None
    assert handle >= MAX_MEMBERS
    assert not known.is_member(handle)
    assert known.peer(handle) == "e"
    assert known.gone("e") == handle
    assert known.handle("e") is None
    assert known.peer(handle) is None
    assert known.gone("e") is None


def test_a_member_that_disconnects_stays_a_member() -> None:
    known = peers()
    assert known.gone("c") is None
    assert known.handle("c") == 2


def test_there_are_so_many_guests_and_no_more() -> None:
    known = peers()
    for number in range(MAX_GUESTS):
        assert known.connected(f"guest {number}") is not None
    assert known.connected("one more") is None
    assert known.connected("b") == 1


def test_nobody_is_their_own_guest() -> None:
    assert peers("e").connected("e") is None


def test_Ep4_handles_move_with_the_committee() -> None:
    known = peers("a")
    guest = known.connected("e")
    assert guest is not None
    moved = known.begin_epoch(committee(1, "e", "d", "a"), ["b", "c", "d", "e"])
    assert known.me == 2
    assert [known.handle(name) for name in "eda"] == [0, 1, 2]
    left = [known.handle(name) for name in "bc"]
    assert all(handle is not None and handle >= MAX_MEMBERS for handle in left)
    assert moved == {guest: 0, 3: 1, 0: 2, 1: left[0], 2: left[1]}


def test_Ep4_who_left_and_is_not_connected_is_nobody() -> None:
    known = peers("a")
    known.begin_epoch(committee(1, "a", "d"), ["d"])
    assert known.handle("b") is None


def test_a_seat_in_any_committee_is_found_by_the_peer() -> None:
    known = peers("a")
    known.begin_epoch(committee(1, "d", "a"), ["b", "d"])
    departed = known.handle("b")
    assert departed is not None
    assert known.seat(departed, committee(0, *"abcd")) == 1
    assert known.seat(departed, committee(1, "d", "a")) is None
    assert known.seat(0, committee(0, *"abcd")) == 3
    assert known.seat(0, None) is None


def test_a_node_remembers_nothing_of_what_it_answered_a_guest_that_left() -> None:
    world = World(Setup(seed=7, rules=Rules(batch_max_ms=500)))
    world.submit(0, 1)
    world.run(4_000)
    node, now = world.places[0].node, Instant(4_000, 4_000)
    assert node.batcher is not None
    assert node.batcher.certified_up_to(0) >= 1
    known = len(node.batcher._answered)
    for number in range(50):
        node.peer_up(f"guest {number}", now)
        node.on_frame(f"guest {number}", BatchRequest(1).encode(), now)
        assert len(node.batcher._answered) == known + 1
        node.peer_down(f"guest {number}", now)
    assert len(node.batcher._answered) == known
