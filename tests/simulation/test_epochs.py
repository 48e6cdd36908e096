"""Committees that follow each other: seeds of every kind, and the situations that wedge others."""

from itertools import pairwise
from multiprocessing import get_context

import pytest

from consensus.rules import Rules
from testnet.simulation.process import shared_decoding
from testnet.simulation.roster import ADVERSARIES
from testnet.simulation.scenario import (
    Action,
    Crash,
    CrashAll,
    Elect,
    Heal,
    Partition,
    Restart,
    Submit,
)
from testnet.simulation.swarm import Plan, draw_plan, run_plan
from testnet.simulation.world import Setup, World

SHORT_MS = 8_000
RULES = Rules(base_timeout_ms=200, max_timeout_ms=1_000, idle_heartbeat_ms=60_000)
SEVERAL_ENDS = tuple((at, Elect(members)) for at, members in (
    (1_000, (1, 2, 3, 4)),
    (2_000, (2, 3, 4, 0)),
    (3_000, (0, 1, 2, 3)),
))  # fmt: skip


def world_of(nodes: int, *actions: tuple[int, Action], **setup: object) -> World:
    """A world of some nodes, the first four of which are the committee of the genesis."""
    world = World(
        Setup(seed=3, nodes=nodes, founders=(0, 1, 2, 3), rules=RULES, **setup)  # type: ignore[arg-type]
    )
    for at, action in actions:
        world.schedule(at, action)
    return world


def settle(world: World, after_ms: int, by_ms: int) -> None:
    """All that was saved is in all logs, and everybody is in the newest epoch, by a time."""
    with shared_decoding():
        world.run(after_ms)
        while not world.is_settled():
            states = [(node, world.applied_height(node), world.epoch(node)) for node in world.live]
            assert world.clock.now < by_ms, states
            world.run(world.clock.now + 100)


def load(until_ms: int, *nodes: int, every_ms: int = 100) -> list[tuple[int, Action]]:
    """Clients of these nodes in turn."""
    times = range(50, until_ms, every_ms)
    return [(at, Submit(nodes[turn % len(nodes)])) for turn, at in enumerate(times)]


def violations(plans: list[Plan]) -> list[tuple[int, tuple[str, str] | None]]:
    with get_context("fork").Pool(2) as pool:
        outcomes = pool.map(run_plan, plans, chunksize=2)
    assert sum(outcome.epochs for outcome in outcomes) > len(plans)
    return [(item.seed, item.violation) for item in outcomes if item.violation is not None]


def test_forty_short_seeds_break_no_rule() -> None:
    plans = [draw_plan(seed, None, SHORT_MS, changing=True) for seed in range(40)]
    assert violations(plans) == []


def test_whoever_lies_while_committees_change_breaks_no_rule() -> None:
    names = sorted(ADVERSARIES)
    plans = [draw_plan(at, None, SHORT_MS, name, True) for at, name in enumerate(names, 2_000)]
    assert violations(plans) == []


def test_plans_overlap_by_any_number_of_members_and_by_none() -> None:
    shared = set()
    for seed in range(300):
        committees = draw_plan(seed, 4, changing=True).elections.committees
        for before, after in pairwise(committees):
            shared.add(len(set(before) & set(after)))
    assert shared >= {0, 1, 2, 3, 4}


def test_no_committee_is_short_of_more_members_than_it_can_spare() -> None:
    for seed in range(200):
        plan = draw_plan(seed, changing=True)
        missing = {*plan.faulty, *plan.dead, *plan.elections.unseeing}
        assert min(plan.elections.spare(plan.weights, missing)) >= 0


def test_a_committee_is_replaced_completely_under_load() -> None:
    world = world_of(8, *load(4_000, 0, 5), (1_000, Elect((4, 5, 6, 7))))
    settle(world, 4_000, 8_000)
    assert [world.places[node].node.me for node in range(8)] == [None] * 4 + [0, 1, 2, 3]


def test_five_changes_in_a_row_while_nobody_submits_anything() -> None:
    committees = [(1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)]
    world = world_of(6, *((500, Elect(members)) for members in committees))
    settle(world, 600, 10_000)
    assert world.registry.newest == 5


@pytest.mark.parametrize("point", ["before save", "after save", "send", "torn save"])
def test_power_fails_at_every_step_around_the_end_of_an_epoch(point: str) -> None:
    for step in range(1, 9):
        crash = [(100, Crash(node, point, step, 1, True)) for node in range(5)]
        world = world_of(5, *crash, *load(3_000, 0, 4), *SEVERAL_ENDS)
        with shared_decoding():
            world.run(3_500)
        assert world.faults[f"crash {point}" if point != "torn save" else point] >= 4
        world.calm()
        settle(world, 3_600, 12_000)


def test_all_power_fails_at_once_while_an_epoch_ends() -> None:
    for at in range(1_000, 1_200, 10):
        world = world_of(5, *load(2_000, 0, 3), SEVERAL_ENDS[0], (at, CrashAll(5)))
        settle(world, 2_000, 8_000)


def test_all_restart_while_an_epoch_ends_and_the_l1_is_away() -> None:
    for later_ms in range(0, 30, 3):
        world = world_of(4, *load(2_000, 0, 3), (1_000, Elect((1, 2, 3, 0))))
        with shared_decoding():
            world.run(1_000)
            while not any(place.is_at_the_end() for place in world.places):
                world.run(world.clock.now + 1)
            world.run(world.clock.now + later_ms)
        for place in world.places:
            place.seen.clear()  # what the registry says is not to be read again
        world.perform(CrashAll(50))
        settle(world, 2_000, 4_000)
        assert [world.epoch(node) for node in range(4)] == [1] * 4


def test_a_node_that_was_away_for_three_epochs_comes_back_to_the_fourth() -> None:
    world = world_of(5, *load(4_000, 1, 2, 3), (500, Crash(0)), *SEVERAL_ENDS, (5_000, Restart(0)))
    with shared_decoding():
        world.run(5_000)
    assert world.epoch(1) == 3
    settle(world, 5_100, 8_000)
    assert world.places[0].node.me == 0


def test_a_node_joins_with_an_empty_disk_after_its_founders_have_gone() -> None:
    world = world_of(9, *load(3_000, 0, 4), (1_000, Elect((4, 5, 6, 7))), absent=(8,))
    settle(world, 3_000, 6_000)
    for founder in range(4):
        world.places[founder].remove()
    world.places[8].start()
    world.perform(Submit(4))
    settle(world, 6_100, 9_000)
    assert world.applied_height(8) == world.applied_height(4) > 0


def test_who_never_sees_the_registry_hears_of_the_next_committee_from_others() -> None:
    blind = Elect((4, 1, 2, 3), (0, 0, 0, None, None))
    world = world_of(5, *load(2_000, 0), (1_000, blind))
    settle(world, 2_000, 5_000)
    assert world.places[4].seen == []
    assert world.places[4].node.me == 0


def test_an_epoch_does_not_end_while_a_quorum_has_not_seen_the_next_committee() -> None:
    half = Elect((4, 1, 2, 3), (0, 0, 3_000, 3_000, 0))
    world = world_of(5, *load(2_000, 0), (1_000, half))
    with shared_decoding():
        world.run(3_900)
    assert [world.epoch(node) for node in range(5)] == [0] * 5
    settle(world, 4_000, 6_000)


def test_a_cut_between_the_old_and_the_new_committee_heals() -> None:
    world = world_of(
        8,
        *load(6_000, 0, 5),
        (1_000, Elect((4, 5, 6, 7))),
        (1_001, Partition(((0, 1, 2, 3), (4, 5, 6, 7)))),
        (4_000, Heal()),
    )
    with shared_decoding():
        world.run(3_900)
    assert {world.epoch(node) for node in range(4, 8)} == {0}
    settle(world, 6_000, 9_000)


def test_what_clients_give_to_followers_is_ordered_across_changes() -> None:
    world = world_of(7, *load(4_000, 4, 5, 6, every_ms=40), *SEVERAL_ENDS)
    settle(world, 4_000, 8_000)
    assert world.log.transactions == len(range(50, 4_000, 40))


def test_the_leaders_above_the_last_block_are_down() -> None:
    for leaders in ((0, 4), (1, 4), (2, 4), (3, 4)):
        world = world_of(
            5,
            *load(3_000, 0, 1, 2, 3),
            *((100, Crash(node, "send", 1, 3_000, True)) for node in leaders),
            (1_000, Elect((4, 3, 2, 1, 0))),
        )
        settle(world, 3_000, 12_000)
