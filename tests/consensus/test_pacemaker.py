"""Timers: when a round ends that brings nothing, and how soon after a dead leader."""

import pytest

from consensus.pacemaker import PROBE_EVERY, Pacemaker
from consensus.rules import Rules
from tests.consensus.harness import committee_of

RULES = Rules()
BASE, IDLE = RULES.base_timeout_ms, RULES.idle_heartbeat_ms


def pacemaker(size: int = 4, rules: Rules = RULES) -> Pacemaker:
    return Pacemaker(committee_of(size), rules, 1, 0)


def fail_rounds(mine: Pacemaker, until: int, now: int = 0) -> None:
    """Timeout certificates up to this round."""
    while mine.round < until:
        mine.enter(mine.round + 1, True, now)


def fail_leader(mine: Pacemaker, member: int, times: int) -> None:
    """The rounds of one leader fail, those of the others succeed and commit."""
    failed = 0
    while failed < times:
        bad = mine.round % 4 == member
        mine.enter(mine.round + 1, bad, 0)
        mine.committed()
        failed += bad
    while mine.round % 4 != member:
        mine.enter(mine.round + 1, False, 0)


def test_T4_without_work_the_deadline_is_the_heartbeat_plus_the_timer() -> None:
    mine = pacemaker()
    assert mine.deadline == IDLE + BASE
    assert not mine.expired(IDLE + BASE - 1)
    assert mine.expired(IDLE + BASE)


def test_T4_work_shortens_the_deadline() -> None:
    mine = pacemaker()
    mine.work_arrived(500)
    assert mine.deadline == 500 + BASE


def test_T4_work_never_extends_the_deadline() -> None:
    mine = pacemaker()
    mine.work_arrived(IDLE + 500)
    assert mine.deadline == IDLE + BASE
    mine = pacemaker()
    mine.work_arrived(0)
    mine.work_arrived(BASE - 1)
    assert mine.deadline == BASE


def test_T4_rest_lets_the_round_last_until_the_heartbeat() -> None:
    mine = pacemaker()
    mine.work_arrived(100)
    mine.rest()
    assert mine.deadline == IDLE + BASE


def test_T4_rest_does_not_silence_a_member_that_has_timed_out() -> None:
    mine = pacemaker()
    mine.work_arrived(0)
    mine.mark_timed_out(BASE)
    mine.rest()
    assert mine.deadline == 2 * BASE


def test_T4_halfway_is_half_a_timer_before_the_deadline() -> None:
    mine = pacemaker()
    mine.work_arrived(200)
    assert mine.halfway == 200 + BASE // 2


def test_E1_entering_a_round_starts_its_timer() -> None:
    mine = pacemaker()
    mine.work_arrived(0)
    mine.mark_timed_out(BASE)
    mine.enter(2, True, BASE + 7)
    assert (mine.round, mine.entered_at, mine.timed_out) == (2, BASE + 7, False)
    mine.work_arrived(BASE + 7)
    assert mine.deadline == 2 * BASE + 7


def test_E1_rounds_only_rise() -> None:
    mine = pacemaker()
    mine.enter(5, False, 0)
    with pytest.raises(AssertionError):
        mine.enter(5, False, 0)


def test_E4_a_timeout_is_repeated_every_base_period_even_when_the_timer_has_grown() -> None:
    mine = pacemaker()
    fail_rounds(mine, 20)
    assert mine.timer() > 5 * BASE
    mine.mark_timed_out(100_000)
    assert mine.deadline == 100_000 + BASE


@pytest.mark.parametrize(("failures", "percent"), [(0, 100), (1, 100), (3, 100), (4, 150)])
def test_T3_the_timer_grows_after_a_few_failed_rounds(failures: int, percent: int) -> None:
    mine = pacemaker(7)
    fail_rounds(mine, 1 + failures)
    assert mine.timer() == BASE * percent // 100


def test_T3_the_growth_is_capped_however_long_the_outage() -> None:
    mine = pacemaker()
    fail_rounds(mine, 5_000)
    assert mine.timer() == RULES.max_timeout_ms


def test_T3_a_commit_resets_the_growth() -> None:
    mine = pacemaker(7)
    fail_rounds(mine, 8)
    assert mine.timer() > BASE
    mine.committed()
    mine.enter(mine.round + 1, False, 0)
    assert mine.timer() == BASE


def test_T3_more_failures_are_free_where_more_members_may_be_dead() -> None:
    mine = pacemaker(31)
    fail_rounds(mine, 1 + 10)
    assert mine.timer() == BASE
    fail_rounds(mine, 1 + 11)
    assert mine.timer() > BASE


def test_T3_a_timer_that_does_not_grow_costs_no_time_to_compute() -> None:
    mine = pacemaker(rules=Rules(timeout_growth_percent=100))
    fail_rounds(mine, 10_000)
    assert mine.timer() == BASE


def test_T5_a_leader_gets_a_short_timer_after_two_failures_and_not_after_one() -> None:
    mine = pacemaker()
    fail_leader(mine, 3, 1)
    assert mine.timer() == BASE
    mine = pacemaker()
    fail_leader(mine, 3, 2)
    assert mine.timer() <= BASE // 2


def test_T5_one_good_round_restores_the_leader() -> None:
    mine = pacemaker()
    fail_leader(mine, 3, 3)
    mine.enter(mine.round + 1, False, 0)
    fail_leader(mine, 3, 0)
    assert mine.timer() == BASE


def test_T5_the_other_leaders_keep_their_timers() -> None:
    mine = pacemaker()
    fail_leader(mine, 3, 2)
    mine.enter(mine.round + 1, True, 0)
    assert mine.timer() == BASE


def test_T5_a_failing_leader_is_probed_with_a_whole_timer_for_ever() -> None:
    probes = []
    for failures in range(1, 3 * PROBE_EVERY + 1):
        mine = pacemaker()
        mine._leader_failures[3] = failures
        mine.enter(3, False, 0)
        if mine.timer() == BASE:
            probes.append(failures)
    assert probes == [1, 4, 8, 16, 32, 64, 128, 192]


def test_T5_short_is_a_few_times_what_rounds_take_here() -> None:
    mine = pacemaker()
    now = 0
    for _ in range(60):
        mine.work_arrived(now)
        now += 40
        mine.enter(mine.round + 1, False, now)
    mine._leader_failures[mine.round % 4] = 2
    assert 4 * 40 <= mine.timer() <= 4 * 50


def test_T5_after_an_outage_of_all_nobodys_timer_is_short() -> None:
    """When every leader seems dead it is the network: the timers grow instead."""
    mine = pacemaker()
    fail_rounds(mine, 30)
    assert mine.timer() > BASE
