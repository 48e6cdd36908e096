"""Whole nodes on a simulated L1: short runs of some seeds; `testnet sim-l1` does hundreds."""

import pytest

from testnet.simulation.settlement import run_seed
from testnet.simulation.trace import Trace

MOVED_WHILE_DOWN = 228
"""A batch is taken out, posted again by another, and final, before its node is back."""


@pytest.mark.parametrize("seed", [*range(20), MOVED_WHILE_DOWN])
def test_whatever_the_l1_does_the_derived_log_is_the_committed_one(seed: int) -> None:
    outcome = run_seed(seed)
    assert outcome.violation is None
    assert outcome.transactions > 0
    assert outcome.batches > 0


def test_the_same_seed_is_the_same_run() -> None:
    first, second = Trace(), Trace()
    assert run_seed(3, first) == run_seed(3, second)
    assert first.digest == second.digest
