"""The inbox gives control first, lets nobody starve, and never mixes up what a peer has said."""

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from net.libp2p.inbox import (
    BULK_TURN_BYTES,
    DISTRUST_S,
    EVENT_BYTES,
    PATIENCE,
    Box,
    Inbox,
    Mailbox,
)
from net.transport import Channel, Frame, NetworkEvent, PeerDown, PeerUp

CONTROL, BULK = Channel.CONTROL, Channel.BULK


class OpenSource:
    """One channel of a connection, from which everything has been delivered."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.released = 0
        self.resumed = 0
        box.source = self

    def release(self, frame: Frame) -> None:
        self.released += 1

    def resume(self) -> None:
        self.resumed += 1


class Peer:
    """A peer with one connection after the other."""

    def __init__(self, inbox: Inbox, name: str, is_guest: bool = False) -> None:
        self.inbox, self.name, self.is_guest = inbox, name, is_guest
        self.said = 0
        self.mailbox: Mailbox | None = None

    def connect(self) -> None:
        self.mailbox = self.inbox.open(self.name, self.is_guest)
        self.sources = {channel: OpenSource(self.mailbox.boxes[channel]) for channel in Channel}
        self.inbox.announce(self.mailbox, PeerUp(self.name))

    def hang_up(self) -> None:
        assert self.mailbox is not None
        self.inbox.announce(self.mailbox, PeerDown(self.name, "hung_up"))
        self.inbox.close(self.mailbox)
        self.mailbox = None

    def say(self, channel: Channel, size: int = 8) -> None:
        payload = self.said.to_bytes(8, "big").ljust(size, b"\0")
        self.said += 1
        self.inbox.put(Frame(self.name, channel, payload), self.sources[channel])


def linked(inbox: Inbox, name: str, is_guest: bool = False) -> Peer:
    """A peer whose `PeerUp` has been taken."""
    peer = Peer(inbox, name, is_guest)
    peer.connect()
    assert inbox.drain(1) == [PeerUp(name)]
    return peer


def who(events: Iterable[NetworkEvent]) -> list[str]:
    return [event.sender for event in events if isinstance(event, Frame)]


def test_control_goes_before_the_bulk_that_came_earlier() -> None:
    inbox = Inbox()
    loud, voter = linked(inbox, "loud"), linked(inbox, "voter")
    for _ in range(3):
        loud.say(BULK)
    voter.say(CONTROL)
    assert who(inbox.drain(10)) == ["voter", "loud", "loud", "loud"]


def test_peers_take_turns() -> None:
    inbox = Inbox()
    many, few = linked(inbox, "many"), linked(inbox, "few")
    for _ in range(5):
        many.say(CONTROL)
    few.say(CONTROL)
    assert who(inbox.drain(3)) == ["many", "few", "many"]


def test_guests_come_last() -> None:
    inbox = Inbox()
    guest, member = linked(inbox, "guest", True), linked(inbox, "member")
    guest.say(CONTROL)
    member.say(BULK)
    assert who(inbox.drain(2)) == ["member", "guest"]


def test_no_lane_starves_behind_control_without_end() -> None:
    inbox = Inbox()
    voter, guest = linked(inbox, "voter"), linked(inbox, "guest", True)
    for peer, channel in ((voter, BULK), (guest, CONTROL), (guest, BULK)):
        for _ in range(10):
            peer.say(channel)
    taken: list[NetworkEvent] = []
    for _ in range(20 * sum(PATIENCE)):
        voter.say(CONTROL)
        taken += inbox.drain(1)
    turns = Counter((e.sender, e.channel) for e in taken if isinstance(e, Frame))
    assert turns["voter", BULK] == turns["guest", CONTROL] == turns["guest", BULK] == 10


def test_a_turn_ends_with_enough_bulk() -> None:
    inbox = Inbox()
    loud = linked(inbox, "loud")
    for _ in range(3):
        loud.say(BULK, BULK_TURN_BYTES - 1)
    assert len(inbox.drain(10)) == 2
    for _ in range(100):
        loud.say(CONTROL, BULK_TURN_BYTES // 50)
    assert len(inbox.drain(200)) == 101


def test_a_guest_who_had_to_wait_for_others_goes_on() -> None:
    inbox = Inbox()
    one, other = linked(inbox, "one", True), linked(inbox, "other", True)
    one.say(BULK, 1_000)
    inbox.stall(other.sources[BULK])
    assert inbox.guest_bytes == 1_000 + EVENT_BYTES
    inbox.drain(1)
    assert inbox.guest_bytes == 0
    assert other.sources[BULK].resumed == 1


def test_what_counts_as_guests_follows_who_is_one() -> None:
    inbox = Inbox()
    peer = linked(inbox, "peer", True)
    waiting = linked(inbox, "waiting", True)
    peer.say(BULK, 1_000)
    assert peer.mailbox is not None
    inbox.stall(waiting.sources[CONTROL])
    inbox.set_guest(peer.mailbox, False)
    assert inbox.guest_bytes == 0
    assert waiting.sources[CONTROL].resumed == 1
    inbox.set_guest(peer.mailbox, True)
    assert inbox.guest_bytes == 1_000 + EVENT_BYTES
    peer.hang_up()
    assert inbox.guest_bytes == 1_000 + 2 * EVENT_BYTES


def test_control_goes_ahead_again_once_the_core_knows_of_the_link() -> None:
    inbox = Inbox()
    peer = Peer(inbox, "peer")
    peer.connect()
    for channel in (BULK, CONTROL, CONTROL):
        peer.say(channel)
    assert inbox.drain(1) == [PeerUp("peer")]
    peer.say(CONTROL)
    said = [e.payload[7] for e in inbox.drain(9) if isinstance(e, Frame)]
    assert said == [1, 2, 3, 0]


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["connect", "hang up", "turn", CONTROL, BULK, CONTROL, 1, 1, 1, 3]),
    ),
    max_size=150,
)


@given(ACTIONS)
def test_in_any_mixture_each_peer_is_heard_in_order_and_between_up_and_down(
    actions: list[tuple[int, Channel | str | int]],
) -> None:
    inbox = Inbox()
    peers = [Peer(inbox, str(number)) for number in range(2)]
    taken: list[NetworkEvent] = []
    for number, action in actions:
        act(inbox, peers[number], action, taken)
    for peer in peers:
        if peer.mailbox is not None:
            peer.hang_up()
    while events := inbox.drain(7):
        taken += events
    for peer in peers:
        check_story(peer, taken)
    assert inbox.guest_bytes == 0
    assert not inbox._mailboxes


def act(inbox: Inbox, peer: Peer, action: Channel | str | int, taken: list[NetworkEvent]) -> None:
    """Do it, if it can be done now; a number takes so many events."""
    if isinstance(action, int) and not isinstance(action, Channel):
        taken += inbox.drain(action)
    elif action == "turn":
        peer.is_guest = not peer.is_guest
        if peer.mailbox is not None:
            inbox.set_guest(peer.mailbox, peer.is_guest)
    elif action == "connect" and peer.mailbox is None:
        peer.connect()
    elif peer.mailbox is not None and action == "hang up":
        peer.hang_up()
    elif peer.mailbox is not None and isinstance(action, Channel):
        peer.say(action)


def check_story(peer: Peer, taken: list[NetworkEvent]) -> None:
    """All that the peer said was heard, by channel in order, and only while it was up."""
    heard: dict[Channel, list[int]] = {channel: [] for channel in Channel}
    is_up = False
    for event in taken:
        if isinstance(event, Frame):
            if event.sender == peer.name:
                assert is_up
                heard[event.channel].append(int.from_bytes(event.payload[:8], "big"))
        elif event.peer == peer.name:
            assert is_up == isinstance(event, PeerDown)
            is_up = not is_up
    assert not is_up
    for numbers in heard.values():
        assert numbers == sorted(numbers)
    everything = [*heard[CONTROL], *heard[BULK]]
    assert sorted(everything) == list(range(peer.said))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_whoever_sends_what_cannot_be_right_goes_last_for_a_while() -> None:
    clock = Clock()
    inbox = Inbox(clock)
    liar, voter = linked(inbox, "liar"), linked(inbox, "voter")
    assert inbox.distrust("liar")

    def order() -> list[str]:
        for peer in (liar, voter, liar, voter):
            peer.say(CONTROL)
        return who(inbox.drain(10))

    assert order() == ["voter", "voter", "liar", "liar"]
    clock.now += DISTRUST_S / 2
    assert not inbox.distrust("liar"), "no news"
    clock.now += DISTRUST_S / 2
    assert order() == ["voter", "voter", "liar", "liar"]
    clock.now += DISTRUST_S / 2
    assert order() == ["liar", "voter", "liar", "voter"]
    assert inbox.guest_bytes == 0


def test_distrust_outlives_the_connection() -> None:
    inbox = Inbox(Clock())
    liar, voter = linked(inbox, "liar"), linked(inbox, "voter")
    inbox.distrust("liar")
    liar.hang_up()
    assert inbox.drain(1) == [PeerDown("liar", "hung_up")]
    liar.connect()
    assert inbox.drain(1) == [PeerUp("liar")]
    liar.say(CONTROL)
    voter.say(CONTROL)
    assert who(inbox.drain(10)) == ["voter", "liar"]


def test_a_turn_ends_with_the_first_frame_of_somebody_distrusted() -> None:
    """Its frames may be dear to check; what others have sent meanwhile is looked at in between."""
    inbox = Inbox(Clock())
    liar, voter = linked(inbox, "liar"), linked(inbox, "voter")
    for peer in (liar, voter, voter, liar, liar):
        peer.say(CONTROL)
    taken = []
    for event in inbox.turn():
        taken.append(event)
        inbox.distrust("liar")
    assert who(taken) == ["liar", "voter", "voter", "liar"]
    voter.say(CONTROL)
    assert who(inbox.turn()) == ["voter", "liar"]
    assert [peer.sources[CONTROL].resumed > 0 for peer in (liar, voter)] == [True, True]


def test_a_turn_that_is_not_taken_to_its_end_lets_senders_go_on() -> None:
    inbox = Inbox(Clock())
    voter = linked(inbox, "voter")
    voter.say(CONTROL)
    voter.say(CONTROL)
    turn = inbox.turn()
    next(turn)
    turn.close()
    assert voter.sources[CONTROL].resumed == 1
    assert who(inbox.drain(10)) == ["voter"]
