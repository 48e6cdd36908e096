"""A seed is a run: the same lines in the same order, whatever Python's hash seed is."""

import os
import subprocess
import sys

import pytest

from testnet.simulation.swarm import draw_plan, run_plan
from testnet.simulation.trace import Trace

RUN = """
import sys
from testnet.simulation.swarm import draw_plan, run_plan
from testnet.simulation.trace import Trace
for argument in sys.argv[1:]:
    seed, adversary, epochs = argument.split(":")
    trace, ms = Trace(), 20_000 if epochs else 8_000
    run_plan(draw_plan(int(seed), None, ms, adversary or None, bool(epochs) or None), trace)
    print(argument, len(trace.lines), trace.digest)
"""
HARD = ("7::", "11:twins:", "13:hider:", "29:mixture:", "42::", "48:lying server:epochs")


def digests(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", RUN, *HARD]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_hash_seeds_do_not_change_a_run() -> None:
    first = digests("1")
    assert len(first.splitlines()) == len(HARD)
    assert first == digests("2")


@pytest.mark.parametrize("seed", [3, 17])
def test_a_run_can_be_repeated_in_one_process(seed: int) -> None:
    traces = [Trace(), Trace(), Trace()]
    for trace, drawn in zip(traces, (seed, seed, seed + 1), strict=True):
        run_plan(draw_plan(drawn, None, 6_000), trace)
    assert traces[0].lines == traces[1].lines != traces[2].lines
    assert traces[0].digest == traces[1].digest != traces[2].digest
