"""When a running node calls itself ready, and how it counts what it lacks."""

from typing import Any

import pytest

from consensus.interface import Instant
from net.transport import PeerId
from sequencer.config import NodeConfig
from sequencer.node import Node
from sequencer.observe import Observer
from sequencer.running import RunningNode
from sequencer.service import Unready
from sequencer.standing import MAX_LAG, REJOIN_LAG, InStep
from testnet.simulation.scenario import Crash, Restart
from testnet.simulation.world import Setup, World

LATE = 3
MISSED_BLOCKS = MAX_LAG + 20


class Rules:
    """What a running node asks of its genesis here."""

    chain_id = bytes(32)

    class rules:
        base_timeout_ms = 1_000

    def name_of(self, identity: bytes) -> str:
        return identity.hex()[:8]


def running(node: Node, world: World) -> RunningNode:
    """As the runtime wires it: it hears of every frame in which nothing was wrong."""
    genesis: Any = Rules()
    made = RunningNode(
        node,
        genesis,
        NodeConfig(),
        Observer(),
        None,
        lambda: node._transport.peers_up,
        lambda: None,
        lambda: Instant(world.clock.now, world.clock.now),
    )
    take = node.on_frame
    refused: list[tuple[int, str]] = []

    def on_frame(peer: PeerId, frame: bytes, now: Instant) -> None:
        before = len(refused)
        take(peer, frame, now)
        if len(refused) == before:
            made.heard(peer, frame)

    node.on_frame = on_frame  # type: ignore[method-assign]
    node.on_invalid = lambda *what: refused.append(what)
    return made


@pytest.fixture
def world() -> World:
    made = World(Setup(seed=7, settles=False))
    made.run(500)
    return made


def test_a_node_is_ready_only_when_it_knows_the_log_and_has_it(world: World) -> None:
    world.perform(Crash(LATE))
    while world.applied_height(0) < MISSED_BLOCKS:
        world.submit(world.clock.now // 20 % LATE, 1)
        world.run(world.clock.now + 20)
    world.perform(Restart(LATE))
    until = world.clock.now + 10_000
    while world.places[LATE].process is None:
        world.run(world.clock.now + 1)
    late = running(world.places[LATE].node, world)
    seen: list[tuple[bool, int]] = []
    assert not late.ready()[0]
    with pytest.raises(Unready, match=r"syncing|has not heard"):
        late.submit([(5, b"x")])
    while not (seen and seen[-1][0]):
        assert world.clock.now < until, late.ready()
        world.run(world.clock.now + 1)
        seen.append((late.ready()[0], late.ledger.head.height))
    assert seen[-1][1] >= MISSED_BLOCKS - REJOIN_LAG
    assert late.status()["reason"] == "in step with the committee"
    late.submit([(5, b"x")])


def test_nobody_who_has_heard_nothing_is_ready_and_an_idle_cluster_is_heard(world: World) -> None:
    world.perform(Crash(LATE))
    world.run(world.clock.now + 100)
    world.network.filter = lambda _from, to, _frame: to != world.places[LATE].name
    world.perform(Restart(LATE))
    while world.places[LATE].process is None:
        world.run(world.clock.now + 1)
    late = running(world.places[LATE].node, world)
    world.run(world.clock.now + 1_000)
    assert len(late.node._transport.peers_up) == LATE
    assert late.ready() == (False, "no member has said yet how far the log is")
    world.perform(Crash(LATE))
    world.network.filter = None
    world.perform(Restart(LATE))
    while world.places[LATE].process is None:
        world.run(world.clock.now + 1)
    late = running(world.places[LATE].node, world)
    world.run(world.clock.now + 1_000)
    assert late.ready() == (True, "in step with the committee")


def test_a_reason_names_those_of_another_chain(world: World) -> None:
    node = world.places[0].node
    alone = running(node, world)
    alone._peers_up = frozenset
    assert alone.ready() == (False, "connected to 0 of 3 other members")
    stranger = node.peers.members[1]
    alone.other_chains = {stranger: "ab" * 8}
    name = alone.name_of(1)
    reason = f"connected to 0 of 3 other members; of another chain, with another genesis: {name}"
    assert alone.ready() == (False, reason)
    assert alone.status()["of_another_chain"] == [name]


def test_a_log_that_lags_a_little_stays_in_step_and_one_that_lost_it_has_to_catch_up() -> None:
    step = InStep()
    lags = (REJOIN_LAG + 1, REJOIN_LAG, MAX_LAG, MAX_LAG + 1, MAX_LAG, REJOIN_LAG)
    assert [step.at(lag) for lag in lags] == [False, True, True, False, False, True]
