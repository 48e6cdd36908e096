"""Seeds of every kind run without a violation; the long swarm is `testnet sim`."""

from collections import Counter
from multiprocessing import get_context

import pytest

from testnet.simulation.roster import ADVERSARIES
from testnet.simulation.scenario import ClockJump, Submit, Suspend
from testnet.simulation.swarm import Outcome, Plan, draw_plan, run_plan, shrink

SHORT_MS = 8_000


def run_all(plans: list[Plan]) -> list[Outcome]:
    with get_context("fork").Pool(2) as pool:
        return pool.map(run_plan, plans, chunksize=4)


def violations(outcomes: list[Outcome]) -> list[tuple[int, tuple[str, str]]]:
    return [(item.seed, item.violation) for item in outcomes if item.violation is not None]


def test_a_hundred_and_fifty_short_seeds_break_no_rule_and_are_of_every_kind() -> None:
    plans = [draw_plan(seed, None, SHORT_MS, changing=False) for seed in range(150)]
    outcomes = run_all(plans)
    assert violations(outcomes) == []
    assert {plan.nodes for plan in plans} == {4, 5, 7, 10}
    assert {plan.adversary for plan in plans} == {None, *ADVERSARIES}
    faults = sum((outcome.faults for outcome in outcomes), Counter[str]())
    for kind in ("Partition", "OneWay", "CrashAll", "Reconnect", "Weather", "Suspend", "ClockJump"):
        assert faults[kind] > 20, kind
    for kind in ("crash before save", "crash after save", "crash send", "torn save"):
        assert faults[kind] > 3, kind
    for kind in ("lost", "duplicated", "reordered", "blocked", "filtered"):
        assert faults[kind] > 100, kind
    assert all(outcome.transactions > 0 for outcome in outcomes)


@pytest.mark.parametrize("adversary", sorted(ADVERSARIES))
def test_as_many_liars_as_are_tolerated_break_nothing(adversary: str) -> None:
    plans = [draw_plan(1_000 + nodes, nodes, SHORT_MS, adversary, False) for nodes in (4, 5, 7)]
    assert violations([run_plan(plan) for plan in plans]) == []


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert draw_plan(5) == draw_plan(5) != draw_plan(6)


@pytest.mark.parametrize("nodes", [4, 5, 7, 10])
def test_never_more_are_faulty_or_dead_than_a_quorum_can_spare(nodes: int) -> None:
    plans = [draw_plan(seed, nodes, changing=False) for seed in range(200)]
    left = []
    for plan in plans:
        assert not set(plan.faulty) & set(plan.dead)
        missing = {*plan.faulty, *plan.dead}
        left += plan.elections.spare(plan.weights, missing)
    assert min(left) == 0
    assert sum(spare == 0 for spare in left) > 30


def test_stakes_are_equal_unequal_and_one_of_just_under_a_third() -> None:
    plans = [draw_plan(seed, changing=False) for seed in range(200)]
    equal = sum(len(set(plan.weights)) == 1 for plan in plans)
    giants = [plan for plan in plans if 3 * max(plan.weights) + 2 >= sum(plan.weights) > 6]
    assert 60 < equal < 140
    assert {plan.nodes for plan in giants} == {4, 5, 7, 10}
    assert all(3 * max(plan.weights) < sum(plan.weights) for plan in plans)
    assert any(plan.weights.index(max(plan.weights)) in plan.faulty for plan in giants)


def test_clocks_drift_and_jump_and_processes_stand_still() -> None:
    plans = [draw_plan(seed) for seed in range(200)]
    drifts = [drift for plan in plans for drift in plan.drifts_ppm]
    assert 9_000 < max(drifts) - min(drifts) <= 10_000
    jumps = [{a.node for _, a in plan.actions if isinstance(a, ClockJump)} for plan in plans]
    assert sum(bool(nodes) for nodes in jumps) > 30
    assert max(len(nodes) for nodes in jumps) == 1
    assert sum(any(isinstance(a, Suspend) for _, a in plan.actions) for plan in plans) > 30


def test_a_failing_plan_is_shortened_to_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_with_two_submissions(plan: Plan) -> Outcome:
        enough = sum(isinstance(action, Submit) for _, action in plan.actions) >= 2
        return Outcome(plan.seed, ("V1", "twice") if enough else None, 0, 0, 0, Counter())

    monkeypatch.setattr("testnet.simulation.swarm.run_plan", fails_with_two_submissions)
    shortened = shrink(draw_plan(0), "V1", attempts=500)
    assert len(shortened.actions) == 2
