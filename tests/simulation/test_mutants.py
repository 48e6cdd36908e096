"""Every rule that is broken is noticed: a net that is not tested is not a net."""

import pytest

from testnet.simulation.mutants import MUTANTS
from testnet.simulation.mutation import Edit, Mutant, Stale, applied
from testnet.simulation.swarm import draw_plan, run_plan

MORE_SEEDS = range(60)
"""Tried after the seeds that are known to show a mutant, should the program have moved on."""


def first_violation(mutant: Mutant) -> str | None:
    with applied(mutant):
        for seed in dict.fromkeys((*mutant.seeds, *MORE_SEEDS)):
            plan = draw_plan(
                seed, mutant.nodes, adversary=mutant.adversary, changing=mutant.changing
            )
            violation = run_plan(plan).violation
            if violation is not None:
                return violation[0]
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda item: f"{item.rule}: {item.name}")
def test_mutant_is_caught(mutant: Mutant) -> None:
    assert first_violation(mutant) is not None


def test_without_a_mutant_the_same_seeds_are_clean() -> None:
    for setting in dict.fromkeys(mutant.setting for mutant in MUTANTS):
        plans = {
            (seed, mutant.nodes, mutant.adversary, mutant.changing)
            for mutant in MUTANTS
            if mutant.setting == setting
            for seed in mutant.seeds[:1]
        }
        with applied(Mutant("", "nothing broken", (), setting=setting)):
            for seed, nodes, adversary, changing in sorted(plans, key=str):
                plan = draw_plan(seed, nodes, adversary=adversary, changing=changing)
                assert run_plan(plan).violation is None, plan


def test_a_mutant_of_code_that_has_changed_fails_loudly() -> None:
    gone = Mutant("V1", "gone", (Edit("consensus.safety:Safety.vote", "no such text", ""),))
    with pytest.raises(Stale), applied(gone):
        pass


def test_the_program_is_whole_again_afterwards() -> None:
    from consensus.safety import Safety

    before = Safety.commit_vote
    broken = next(item for item in MUTANTS if item.name == "a commit vote after a timeout")
    with applied(broken):
        assert Safety.commit_vote is not before
    assert Safety.commit_vote is before
