"""Snapshots and handovers: each once, in their place between batches, whoever is dead."""

from dataclasses import replace
from random import Random

import pytest

from consensus.committee import Committee
from sequencer.settlement.account import Fees
from sequencer.settlement.poster_events import PosterSettings
from sequencer.settlement.poster_state import (
    Flight,
    Job,
    Upkeep,
    UpkeepKind,
    Version,
    decode_state,
    encode_state,
    spelled,
)
from sequencer.settlement.poster_turns import HANDOVER_WAITS, Turns, schedule_number
from sequencer.settlement.schedule import posting_order
from tests.settlement.committees import committee
from tests.settlement.test_poster import VIEW, at
from tests.settlement.test_poster_fuzz import (
    BATCHES,
    CHAIN,
    HEAL_BLOCKS_PER_BATCH,
    SETTINGS,
    STEPS,
    World,
    break_something,
)

SNAPSHOT = Upkeep(UpkeepKind.SNAPSHOT, 1)
HANDOVER = Upkeep(UpkeepKind.HANDOVER, 1)
OTHERS = committee(5, 0).members[1:]


def rank_0(job: Upkeep, size: int = 4) -> int:
    return posting_order(CHAIN, schedule_number(job), size)[0]


def turns(member: int = 0) -> Turns:
    return Turns(PosterSettings(takeover_blocks=3), CHAIN, 4, member)


# what waits, in which order


def test_a_due_snapshot_and_a_batch_wait_side_by_side() -> None:
    view = replace(VIEW, certified=1, snapshot_due=True)
    assert turns().waiting(view) == [SNAPSHOT, 1]


def test_the_batches_of_an_epoch_come_before_its_handover() -> None:
    over = replace(VIEW, handover=True, pending_epoch=1, certified=2)
    assert turns().waiting(over) == [1]
    assert turns().waiting(replace(over, next_number=2)) == [2]
    assert turns().waiting(replace(over, next_number=3, next_epoch=1)) == [HANDOVER]
    assert turns().waiting(replace(over, next_number=3, next_epoch=None)) == [HANDOVER]


def test_batches_of_the_next_epoch_come_after_the_handover() -> None:
    ahead = replace(VIEW, certified=1, next_epoch=1)
    assert turns().waiting(ahead) == []
    assert turns().waiting(replace(ahead, handover=True)) == [HANDOVER]
    assert turns().waiting(replace(ahead, epoch=1)) == [1]


def test_a_batch_whose_header_is_too_old_waits_for_a_new_one() -> None:
    assert turns().waiting(replace(VIEW, certified=1, epoch=1, next_epoch=0)) == []


def test_a_handover_waits_for_an_uncertified_batch_but_not_for_ever() -> None:
    found = turns()
    stuck = replace(VIEW, handover=True, pending_epoch=1)
    first = stuck.head.number
    patience = HANDOVER_WAITS * 3
    for height in range(first, first + patience):
        found.look(at(stuck, height))
        assert found.waiting(at(stuck, height)) == []
    found.look(at(stuck, first + patience))
    assert found.waiting(at(stuck, first + patience)) == [HANDOVER]


def test_a_certificate_that_comes_late_still_goes_before_the_handover() -> None:
    found = turns()
    stuck = replace(VIEW, handover=True, pending_epoch=1)
    late = stuck.head.number + 100
    found.look(stuck)
    found.look(at(stuck, late, certified=1))
    assert found.waiting(at(stuck, late, certified=1)) == [1]
    # and the wait begins anew
    found.look(at(stuck, late + 1))
    assert found.waiting(at(stuck, late + 1)) == []


def test_upkeep_is_taken_over_rank_by_rank() -> None:
    due = replace(VIEW, snapshot_due=True)
    order = posting_order(CHAIN, schedule_number(SNAPSHOT), 4)
    for place, member in enumerate(order):
        found = turns(member)
        for height in range(100, 100 + 3 * place):
            found.look(at(due, height))
            assert found.ready(at(due, height)) is None
        found.look(at(due, 100 + 3 * place))
        assert found.ready(at(due, 100 + 3 * place)) == SNAPSHOT


def test_somebody_outside_the_committee_sends_nothing() -> None:
    found = turns(-1)
    view = replace(VIEW, certified=1, snapshot_due=True)
    for height in (100, 10_000):
        found.look(at(view, height))
        assert found.ready(at(view, height)) is None


def test_a_batch_that_lost_its_certificate_counts_from_the_new_one_on() -> None:
    member = posting_order(CHAIN, 1, 4)[1]
    found = turns(member)
    held = replace(VIEW, certified=1)
    for view in (at(held, 100), at(VIEW, 101), at(held, 110)):
        found.look(view)
    assert found.ready(at(held, 112)) is None
    assert found.ready(at(held, 113)) == 1


def test_upkeep_has_ranks_of_its_own() -> None:
    jobs: list[Job] = [1, 2, SNAPSHOT, HANDOVER, Upkeep(UpkeepKind.SNAPSHOT, 2)]
    assert len({schedule_number(job) for job in jobs}) == len(jobs)
    assert all(schedule_number(job) < 1 << 64 for job in jobs)


def test_what_is_saved_of_upkeep_comes_back() -> None:
    versions = [Version(b"\x01" * 32, 300_000, Fees(2, 1))]
    jobs: list[Job] = [3, SNAPSHOT, HANDOVER]
    flights = [Flight(job, 7 + i, versions) for i, job in enumerate(jobs)]
    assert decode_state(encode_state(flights)) == flights
    assert decode_state(encode_state(flights).replace(b"snapshot", b"snapshut")) == []
    assert [spelled(flight.job) for flight in flights] == [
        "batch 3",
        "snapshot for epoch 1",
        "handover for epoch 1",
    ]


# on a simulated L1


def changed(world: World) -> None:
    """The membership changes; the members see it final, and end their epoch."""
    world.l1.members = OTHERS
    for _ in range(40):
        world.tick()
        if world.end_epoch():
            return
    raise AssertionError("no snapshot")


def test_one_epoch_follows_the_other_without_a_wasted_transaction() -> None:
    world = World(seed=5)
    world.certified = 2
    changed(world)
    world.certified = 4
    world.until_final(4, 40)
    assert world.l1.head.contract.epoch == 1
    assert world.l1.head.committee == Committee(1, OTHERS)
    assert world.l1.wasted == []
    sent = sum(len(block.transactions) for block in world.l1.chain)
    assert sent == 4 + 2


def test_a_batch_that_is_certified_too_late_goes_under_a_new_head() -> None:
    world = World(seed=5, closed=3)
    changed(world)
    patience = HANDOVER_WAITS * SETTINGS.takeover_blocks
    for _ in range(patience):
        world.tick()
        assert world.l1.head.contract.epoch == 0
    for _ in range(patience):
        world.tick()
    assert world.l1.head.contract.epoch == 1
    world.certified = 3
    world.until_final(3, 40)
    assert {member.heads[3] for member in world.members} == {1}


@pytest.mark.parametrize("restart", [False, True])
def test_a_batch_in_flight_that_gets_a_new_head_is_posted_under_that(restart: bool) -> None:
    world = World(seed=3)
    changed(world)
    world.closed = world.certified = 1
    world.ends[0] = 1
    world.l1.stalled = True
    for _ in range(3):
        world.tick()  # on its way under its old head
    assert len(world.l1.pool) == 1
    world.l1.lose_pool()
    world.l1.stalled = False
    head = world.l1.head
    head.committee, head.pending = Committee(1, OTHERS), None
    head.contract = replace(head.contract, epoch=1)
    if restart:
        for member in world.members:
            member.start()
    for _ in range(3 * HEAL_BLOCKS_PER_BATCH):
        world.tick()
    assert world.l1.final().contract.next_number == 2
    assert {member.heads[1] for member in world.members} == {1}


@pytest.mark.parametrize("job", [SNAPSHOT, HANDOVER])
def test_upkeep_of_a_dead_member_is_taken_over(job: Upkeep) -> None:
    world = World(seed=7)
    if job is HANDOVER:
        changed(world)
    else:
        world.l1.members = OTHERS
    start = world.l1.head.block.number
    world.members[rank_0(job)].alive = False

    def is_done() -> bool:
        head = world.l1.head
        return head.contract.epoch == 1 if job is HANDOVER else head.pending is not None

    while not is_done():
        assert world.l1.head.block.number - start <= SETTINGS.takeover_blocks + 2
        world.tick()


@pytest.mark.parametrize("seed", range(60))
def test_no_upkeep_is_lost_or_doubled_whatever_happens(seed: int) -> None:
    world = World(seed)
    random = Random(f"upkeep {seed}")
    first = world.l1.members
    level = world.random.random()
    for _ in range(STEPS):
        if random.random() < level / 2:
            break_something(world, level)
        if world.closed < BATCHES and random.random() < 0.2:
            world.closed += 1
        if world.certified < world.closed and random.random() < 0.2:
            world.certified += 1
        if random.random() < 0.05:
            world.l1.members = random.choice((first, OTHERS))
        if random.random() < 0.1:
            world.end_epoch()
        world.tick(blocks=0.7)
    world.certified = BATCHES
    world.heal()
    world.until_final(BATCHES, HEAL_BLOCKS_PER_BATCH * BATCHES)
    bound = world.l1.head.block.number + 6 * HEAL_BLOCKS_PER_BATCH
    while not is_kept_up(world):
        assert world.l1.head.block.number <= bound, "no upkeep"
        world.end_epoch()
        world.tick()
    world.tick()


def is_kept_up(world: World) -> bool:
    """The contract is where the members are, and holds who is registered, for good."""
    final = world.l1.final()
    same = final.committee is not None and final.committee.members == world.l1.members
    return same and final.contract.epoch == world.epoch and final.pending is None
