"""All that the signing rules permit in a few rounds, and that it shows if they permit more."""

import pytest
from click.testing import CliRunner

from testnet.cli import commands
from testnet.errors import TestnetError
from testnet.simulation.exploration import Explored, explore_orders, explore_rounds
from testnet.simulation.mutants import MUTANTS
from testnet.simulation.mutation import applied

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def broken(name: str, size: int, rounds: int, orders: bool = False) -> Explored:
    with applied(BY_NAME[name]):
        return (explore_orders if orders else explore_rounds)(size, rounds)


@pytest.mark.parametrize(("size", "rounds"), [(4, 4), (5, 3), (6, 3), (7, 2)])
def test_in_no_run_of_a_few_rounds_are_two_blocks_of_one_chain_final(
    size: int, rounds: int
) -> None:
    found = explore_rounds(size, rounds)
    assert found.violation is None
    assert found.states > 90


def test_in_no_order_of_signatures_either() -> None:
    found = explore_orders(4, 2)
    assert found.violation is None
    assert found.states > 50_000


@pytest.mark.parametrize(
    ("name", "size", "rounds", "steps"),
    [
        ("a second vote in a round", 4, 1, 2),
        ("any QC of any round", 4, 2, 2),
        ("a commit vote after a timeout", 4, 2, 3),
        ("a QC below the TC's highest", 4, 3, 3),
        ("a timeout that names less than the lock", 4, 3, 5),
        ("2f + 1 at n = 5", 5, 1, 2),
    ],
)
def test_a_broken_rule_is_found_with_the_fewest_steps(
    name: str, size: int, rounds: int, steps: int
) -> None:
    found = broken(name, size, rounds)
    assert found.violation is not None
    assert len(found.steps) == steps
    assert broken(name, size, rounds - 1).violation is None


@pytest.mark.parametrize(
    "name", ["a second vote in a round", "any QC of any round", "a commit vote after a timeout"]
)
def test_what_the_rounds_leave_out_makes_no_difference(name: str) -> None:
    assert broken(name, 4, 2, orders=True).violation is not None
    assert broken(name, 4, 2).violation is not None


def test_the_command_tells_how_many_and_how() -> None:
    sound = CliRunner().invoke(commands, ["explore", "--rounds", "2"])
    assert sound.exit_code == 0
    assert "27 states" in sound.output
    with applied(BY_NAME["a second vote in a round"]):
        found = CliRunner().invoke(commands, ["explore", "--rounds", "1"])
    assert "vote for" in found.output
    assert isinstance(found.exception, TestnetError)
    assert "both certified" in str(found.exception)
