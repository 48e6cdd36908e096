"""What a node does not wait for: a sync for every collection, an answer for every missed block."""

import pytest

from sequencer.messages import CollectionData
from sequencer.node import COLLECTIONS_SAVED_WITHIN_MS
from sequencer.store.seam import WriteBatch
from testnet.simulation.process import is_durable, peek
from testnet.simulation.scenario import Crash, Restart
from testnet.simulation.world import Setup, World

MISSED_BLOCKS = 60
SOMEBODY = 3


@pytest.fixture
def world() -> World:
    made = World(Setup(seed=7, settles=False))
    made.run(500)
    return made


def run_until_caught_up(world: World, height: int, limit_ms: int) -> int:
    started = world.clock.now
    while world.applied_height(SOMEBODY) < height:
        assert world.clock.now - started < limit_ms, world.applied_height(SOMEBODY)
        world.run(world.clock.now + 10)
    return world.clock.now - started


def test_collections_of_many_missed_blocks_are_fetched_at_once(world: World) -> None:
    world.perform(Crash(SOMEBODY))
    while world.applied_height(0) < MISSED_BLOCKS:
        world.submit(world.clock.now // 20 % 3, 5)
        world.run(world.clock.now + 20)
    missed = world.applied_height(0)
    world.perform(Restart(SOMEBODY))
    # one at a time it would be at least the pool's 10 ms of patience and a round trip for each
    assert run_until_caught_up(world, missed, 10_000) < 8 * MISSED_BLOCKS


def test_a_collection_alone_is_saved_a_little_later_and_not_with_a_sync_of_its_own(
    world: World,
) -> None:
    world.network.filter = lambda _from, _to, frame: isinstance(
        peek(frame), CollectionData
    )  # nothing is ordered, so nothing else is saved
    saves: list[WriteBatch] = []
    place = world.places[SOMEBODY]
    save = place.disk.save

    def counted(batch: WriteBatch) -> None:
        saves.append(batch)
        save(batch)

    place.disk.save = counted  # type: ignore[method-assign]
    pool = place.node.pool
    before = len(pool._shelf._held)
    for turn in range(8):
        world.submit(turn % SOMEBODY, 1)
        world.run(world.clock.now + 6)
    arrived = list(pool._shelf._held)[before:]
    assert len(arrived) >= 4
    assert len(saves) <= 2
    world.run(world.clock.now + COLLECTIONS_SAVED_WITHIN_MS + 10)
    assert all(is_durable(place.disk, digest) for digest in arrived)


def test_work_that_only_one_member_holds_does_not_wait_behind_a_dead_leader(world: World) -> None:
    leader = world.places[SOMEBODY].node.replica.leader
    holder = (leader + 2) % 4
    world.perform(Crash(leader))
    world.network.filter = lambda _from, _to, frame: not isinstance(peek(frame), CollectionData)
    world.submit(holder, 1)
    world.run(world.clock.now + 50)
    world.network.filter = None
    height = world.applied_height(holder)
    rules = world.places[holder].node.setup.rules
    world.run(world.clock.now + 4 * rules.base_timeout_ms)
    assert 4 * rules.base_timeout_ms < rules.idle_heartbeat_ms
    assert world.applied_height(holder) > height
