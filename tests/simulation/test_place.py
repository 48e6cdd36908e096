"""A machine in the simulation: its clocks, and a process that stands still."""

from dataclasses import replace

import pytest

from consensus.messages import Vote
from consensus.safety import SafetyRecord
from testnet.simulation.checkers import Violation
from testnet.simulation.place import START_UNIX_MS
from testnet.simulation.scenario import ClockJump, Suspend
from testnet.simulation.watcher import Watcher
from testnet.simulation.world import Setup, World


def test_V5_a_vote_for_a_block_ahead_of_the_voters_clock() -> None:
    world = make_world()
    world.run(2_000)
    parent = world.protocol.canonical[-1]
    future = START_UNIX_MS + world.clock.now + world.setup.rules.max_clock_skew_ms
    watcher = Watcher(world.places[1])
    for ahead_ms, round in ((0, 7), (1, 8)):
        block = replace(parent, round=round, timestamp_ms=future + ahead_ms)
        world.protocol.on_block(block)
        vote = Vote(0, round, block.id, 1, bytes(96))
        record = replace(SafetyRecord.initial(world.chain_id), last_vote=vote)
        if ahead_ms:
            with pytest.raises(Violation, match="V5: member 1 voted for a block 2001 ms ahead"):
                watcher._check_clock(record)
        else:
            watcher._check_clock(record)


def make_world(**changes: object) -> World:
    return World(Setup(seed=3, **changes))  # type: ignore[arg-type]


def test_a_fast_clock_and_a_slow_one_differ_by_one_percent() -> None:
    world = make_world(drifts_ppm=(5_000, -5_000))
    started = [place.instant() for place in world.places]
    world.run(100_000)
    elapsed = [
        place.instant().monotonic_ms - before.monotonic_ms
        for place, before in zip(world.places, started, strict=True)
    ]
    assert elapsed == [100_500, 99_500, 100_000, 100_000]
    assert world.places[0].instant().unix_ms - started[0].unix_ms == 100_500


def test_a_node_wakes_when_its_own_clock_says_so() -> None:
    world = make_world(drifts_ppm=(5_000, -5_000, 1, -1))
    for place in world.places:
        for at in (1_000, 1_001, 5_555, 123_457):
            there = place._time_of(at)
            world.clock.now = there
            assert place.instant().monotonic_ms >= at
            world.clock.now = there - 1
            assert place.instant().monotonic_ms < at


def test_a_jump_moves_the_unix_clock_of_one_node_until_it_is_corrected() -> None:
    world = make_world(skews_ms=(0, 300))
    world.perform(ClockJump(1, -60_000))
    assert world.places[1].instant().unix_ms == START_UNIX_MS + 300 - 60_000
    assert world.places[1].instant().monotonic_ms == world.places[0].instant().monotonic_ms
    world.calm()
    assert world.places[1].instant().unix_ms == START_UNIX_MS + 300


def test_a_suspended_node_says_nothing_and_finds_everything_afterwards() -> None:
    world = make_world()
    world.run(100)
    world.perform(Suspend(2, 5_000))
    world.submit(0, 3)
    world.run(4_000)
    assert world.places[2].paused
    assert world.applied_height(0) > 0 == world.applied_height(2)
    world.run(6_000)
    assert not world.places[2].paused
    assert world.applied_height(2) == world.applied_height(0)


def test_a_suspended_node_that_loses_power_starts_anew() -> None:
    world = make_world()
    world.perform(Suspend(2, 5_000))
    world.places[2].arm("now", 1, 100)
    world.run(1_000)
    assert not world.places[2].paused
    assert world.places[2].process is not None
