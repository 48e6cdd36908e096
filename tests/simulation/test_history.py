"""Nodes that begin with a snapshot, and nodes that forget: the checkers see no difference."""

import pytest

from consensus.rules import Rules
from sequencer.history import Retention, windows
from testnet.simulation.history import begin_with_snapshot
from testnet.simulation.place import Place
from testnet.simulation.scenario import Elect, Submit
from testnet.simulation.world import Setup, World

RULES = Rules(
    base_timeout_ms=200,
    min_block_interval_ms=50,
    idle_heartbeat_ms=1_000,
    duplicate_window_heights=24,
    digest_window_heights=8,
    batch_max_blocks=10,
    batch_max_ms=400,
)
LATE = (4, 5)


def world_of(seed: int) -> World:
    return World(Setup(seed, nodes=6, rules=RULES, founders=(0, 1, 2, 3), absent=LATE))


def load(world: World, until_ms: int) -> None:
    """Work for whoever is up; some of it is handed in again later, to another node."""
    start = world.clock.now
    for step, at in enumerate(range(start + 50, start + until_ms, 60)):
        node = world.random.choice(world.live)
        world.schedule(at, Submit(node, 3, step % 4 == 3))


def prune(place: Place) -> None:
    place.node.ledger.retention = Retention(windows(RULES))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_node_begins_with_a_snapshot_and_becomes_a_member(seed: int) -> None:
    world = world_of(seed)
    load(world, 4_000)
    world.run(5_000)
    late = world.places[4]
    base = begin_with_snapshot(world, late, world.places[seed % 4]).height
    assert base > 0
    late.start()
    load(world, 1_500)
    world.run(8_000)
    assert late.node.ledger.base.height == base
    assert world.applied_height(4) >= world.applied_height(0) - 5 > base
    world.perform(Elect((1, 2, 3, 4)))
    load(world, 1_500)
    world.run(11_000)
    assert world.epoch(4) == 1
    assert late.node.me is not None
    second = world.places[5]
    begin_with_snapshot(world, second, late)
    second.start()
    load(world, 1_500)
    world.run(16_000)
    assert second.node.epoch == 1
    assert late.node.replica.record.last_voted_round > 0
    heads = {world.places[index].node.ledger.head.log_root for index in world.live}
    assert len(heads) == 1
    assert world.is_settled()


@pytest.mark.parametrize("seed", [4])
def test_a_cluster_of_nodes_that_forget_goes_on(seed: int) -> None:
    world = world_of(seed)
    for place in world.places[:4]:
        prune(place)
    load(world, 5_000)
    world.run(2_000)
    world.places[1].crash()
    world.run(3_000)
    world.places[1].start()
    prune(world.places[1])
    world.run(8_000)
    assert world.is_settled()
    ledgers = [place.node.ledger for place in world.places[:4]]
    assert min(ledger.base.height for ledger in ledgers) > 10
    assert len({ledger.head.log_root for ledger in ledgers}) == 1
    late = world.places[4]
    begin_with_snapshot(world, late, world.places[1])
    late.start()
    prune(late)
    load(world, 1_000)
    world.run(12_000)
    assert late.node.ledger.head.log_root == ledgers[0].head.log_root


def test_a_node_that_was_away_too_long_asks_those_who_keep_everything() -> None:
    world = world_of(6)
    world.places[3].crash()
    load(world, 6_000)
    for place in world.places[:2]:
        prune(place)
    world.run(7_000)
    assert world.places[0].node.ledger.base.height > 10
    assert world.places[2].node.ledger.base.height == 0
    world.places[3].start()
    world.run(12_000)
    assert world.places[3].node.ledger.head.log_root == world.places[2].node.ledger.head.log_root


def test_power_cuts_while_it_begins_cost_nothing() -> None:
    world = world_of(7)
    load(world, 3_000)
    world.run(4_000)
    late = world.places[4]
    begin_with_snapshot(world, late, world.places[2])
    for point in ("before save", "after save", "torn save", "torn save kept"):
        late.start()
        late.arm(point, 2, 50)
        load(world, 600)
        world.run(world.clock.now + 1_500)
    late.disarm()
    late.start()
    world.run(world.clock.now + 4_000)
    assert late.node.ledger.head.log_root == world.places[0].node.ledger.head.log_root
