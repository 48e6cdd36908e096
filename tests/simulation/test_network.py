"""The simulated network keeps the seam's promises, and breaks them where it is asked to."""

from dataclasses import replace
from random import Random

from net.simulated import Conditions, SimulatedNetwork, SimulatedTransport
from net.transport import Channel, Frame, NetworkEvent, PeerDown, PeerUp
from testnet.simulation.scheduler import Scheduler


class Peers:
    """A network with some peers on it, and what each heard."""

    def __init__(self, names: str, conditions: Conditions, seed: int = 1) -> None:
        self.clock = Scheduler()
        self.network = SimulatedNetwork(self.clock, Random(seed))
        self.network.conditions = conditions
        self.heard: dict[str, list[NetworkEvent]] = {}
        self.ends: dict[str, SimulatedTransport] = {}
        for name in names:
            self.attach(name)
        self.clock.run(10)

    def attach(self, peer: str, instance: str | None = None) -> None:
        heard = self.heard.setdefault(instance or peer, [])
        self.ends[instance or peer] = self.network.attach(peer, heard.append, instance)

    def frames(self, name: str) -> list[bytes]:
        return [event.payload for event in self.heard[name] if isinstance(event, Frame)]

    def say(self, count: int = 100) -> list[bytes]:
        said = [b"%d" % number for number in range(count)]
        for frame in said:
            self.ends["a"].send("b", Channel.CONTROL, frame)
        self.clock.run(self.clock.now + 100_000)
        return said


GOOD = Conditions(1, 10)


def test_peers_hear_of_each_other() -> None:
    peers = Peers("abc", GOOD)
    assert set(peers.heard["a"]) == {PeerUp("b"), PeerUp("c")}
    assert peers.ends["a"].peers_up == {"b", "c"}


def test_a_link_keeps_the_order_of_each_channel_and_loses_nothing() -> None:
    peers = Peers("ab", GOOD)
    assert peers.say() == peers.frames("b")


def test_latency_stays_within_its_limits() -> None:
    peers = Peers("ab", Conditions(30, 40))
    begun = peers.clock.now
    peers.ends["a"].send("b", Channel.BULK, b"x")
    peers.clock.run(begun + 29)
    assert peers.frames("b") == []
    peers.clock.run(begun + 40)
    assert peers.frames("b") == [b"x"]


def test_loss_loses_about_its_share() -> None:
    peers = Peers("ab", replace(GOOD, loss=0.5))
    peers.say(1_000)
    assert 400 < len(peers.frames("b")) < 600


def test_duplication_delivers_some_twice() -> None:
    peers = Peers("ab", replace(GOOD, duplication=0.3))
    said = peers.say(1_000)
    assert set(peers.frames("b")) == set(said)
    assert 1_200 < len(peers.frames("b")) < 1_400


def test_reordering_overtakes() -> None:
    peers = Peers("ab", replace(GOOD, reordering=0.3))
    said = peers.say()
    assert sorted(peers.frames("b")) == sorted(said)
    assert peers.frames("b") != said


def test_a_blocked_direction_carries_nothing_and_the_other_does() -> None:
    peers = Peers("ab", GOOD)
    peers.network.blocked.add(("a", "b"))
    assert peers.ends["a"].send("b", Channel.CONTROL, b"lost")
    peers.ends["b"].send("a", Channel.CONTROL, b"back")
    peers.clock.run(1_000)
    assert (peers.frames("b"), peers.frames("a")) == ([], [b"back"])


def test_what_is_on_its_way_to_a_crashed_peer_is_lost() -> None:
    peers = Peers("ab", GOOD)
    peers.ends["a"].send("b", Channel.CONTROL, b"lost")
    peers.network.detach("b", "crashed")
    peers.clock.run(1_000)
    assert peers.frames("b") == []
    assert peers.heard["a"][-1] == PeerDown("b", "crashed")
    assert not peers.ends["a"].send("b", Channel.CONTROL, b"nobody")
    peers.attach("b")
    peers.clock.run(2_000)
    assert peers.heard["a"][-1] == PeerUp("b")
    assert peers.frames("b") == []


def test_both_instances_of_a_peer_hear_and_speak_in_its_name() -> None:
    peers = Peers("ab", GOOD)
    peers.attach("b", "b'")
    peers.clock.run(100)
    peers.ends["a"].send("b", Channel.CONTROL, b"to both")
    peers.ends["b'"].send("a", Channel.CONTROL, b"from the twin")
    peers.clock.run(1_000)
    assert peers.frames("b") == peers.frames("b'") == [b"to both"]
    assert peers.heard["a"][-1] == Frame("b", Channel.CONTROL, b"from the twin")


def test_same_seed_same_deliveries() -> None:
    bad = Conditions(1, 50, 0.2, 0.2, 0.2)
    first, second, third = (Peers("ab", bad, seed) for seed in (1, 1, 2))
    for peers in (first, second, third):
        peers.say()
    assert first.frames("b") == second.frames("b") != third.frames("b")


def test_equal_times_run_in_the_order_they_were_asked_for() -> None:
    clock, ran = Scheduler(), list[int]()
    for number in range(50):
        clock.at(5, ran.append, number)
    clock.at(1, ran.append, -1)
    clock.run(4)
    assert ran == [-1]
    clock.run(5)
    assert ran == [-1, *range(50)]
