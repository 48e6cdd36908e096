"""`testnet sim`."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from testnet.cli import options
from testnet.errors import TestnetError

if TYPE_CHECKING:
    from testnet.simulation.swarm import Outcome, Plan

MAX_SEEDS = 10_000_000
MAX_SHOWN_LINES = 400
"""Of the trace of a shrunk run: what led to the violation stands at its end."""


class Seeds(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """One seed, or a range of them like 0-999."""

    name = "seeds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> range:
        """The range, both ends included."""
        if isinstance(value, range):
            return value
        first, _, last = str(value).partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            self.fail(f"{value!r} is no seed and no range like 0-999", param, ctx)
        seeds = range(int(first), int(last or first) + 1)
        if not 0 < len(seeds) <= MAX_SEEDS:
            self.fail(f"{value!r} holds no seed, or more than {MAX_SEEDS:,}", param, ctx)
        return seeds


@click.command("sim")
@click.option(
    "--seeds",
    "--seed",
    type=Seeds(),
    default="0-99",
    show_default=True,
    help="One seed, or a range with both ends.",
)
@click.option("--nodes", type=click.IntRange(4, 16), help="Instead of a number drawn by the seed.")
@click.option(
    "--duration",
    type=click.FloatRange(1, 3_600),
    default=20.0,
    show_default=True,
    help="Virtual seconds; faults in the first three quarters, then everything heals.",
)
@click.option("--adversary", metavar="NAME", help="Let the faulty members be of this kind.")
@click.option("--trace", is_flag=True, help="Print every message and event (one seed only).")
@click.option("--shrink", is_flag=True, help="Look for a simpler run that fails the same way.")
@click.option("--minutes", type=click.FloatRange(0.1, 10_000), help="Go on from the first seed.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default=True,
    help="Processes.",
)
@options.json_file
def sim_command(
    seeds: range,
    nodes: int | None,
    duration: float,
    adversary: str | None,
    trace: bool,
    shrink: bool,
    minutes: float | None,
    jobs: int,
    json_file: Path | None,
) -> None:
    """Run the production node in a simulated world: virtual time, faults and liars from a seed.

    The seed draws how many nodes there are, who of them lies and how, what the network, the disks
    and the clocks do. Checkers outside the nodes watch every message. The same seed is the same
    run. Exit code 1 if a rule was broken; the seed repeats it.

    \b
    Example:  testnet sim --seeds 0-999
              testnet sim --seed 17 --trace
    """
    from testnet.simulation.roster import ADVERSARIES
    from testnet.simulation.swarm import draw_plan

    if adversary is not None and adversary not in ADVERSARIES:
        raise TestnetError(f"no adversary {adversary!r}; there are: {', '.join(ADVERSARIES)}")

    def draw(seed: int) -> "Plan":
        return draw_plan(seed, nodes, int(duration * 1_000), adversary)

    if trace:
        if len(seeds) != 1:
            raise TestnetError("--trace shows one seed; name it with --seed")
        _print_trace(draw(seeds.start))
        return
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for some in _in_turn(seeds, minutes, 64 * jobs):
        outcomes += _run_all([draw(seed) for seed in some], jobs, Console(stderr=True))
    broken = [outcome for outcome in outcomes if outcome.violation is not None]
    _report(outcomes, time.monotonic() - started)
    if json_file is not None:
        json_file.write_text(json.dumps([_described(outcome) for outcome in outcomes], indent=2))
    if shrink:
        for outcome in broken:
            _print_shrunk(draw(outcome.seed), outcome)
    if broken:
        raise TestnetError(f"{len(broken)} of {len(outcomes)} seeds broke a rule")


def _in_turn(seeds: range, minutes: float | None, together: int) -> Iterator[range]:
    """The seeds, some at a time; with `minutes`, on from the first one until they are over."""
    if minutes is None:
        yield seeds
        return
    end = time.monotonic() + 60 * minutes
    first = seeds.start
    while time.monotonic() < end:
        yield range(first, first + together)
        first += together


def _run_all(plans: "list[Plan]", jobs: int, console: Console) -> "list[Outcome]":
    from concurrent.futures import ProcessPoolExecutor

    from testnet.simulation.swarm import run_plan

    outcomes = []
    with ProcessPoolExecutor(jobs) as pool, console.status("simulating") as status:
        for outcome in pool.map(run_plan, plans, chunksize=1):
            outcomes.append(outcome)
            status.update(f"{len(outcomes):,} of {len(plans):,} seeds")
            if outcome.violation is not None:
                rule, text = outcome.violation
                console.print(f"[red]seed {outcome.seed}[/]: {rule}: {text}", highlight=False)
    return outcomes


def _report(outcomes: "list[Outcome]", elapsed_s: float) -> None:
    faults: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    virtual_s = sum(outcome.virtual_ms for outcome in outcomes) / 1_000
    print(
        f"{len(outcomes):,} seeds, {virtual_s / 3_600:,.2f} virtual hours in {elapsed_s:.1f} s "
        f"({len(outcomes) / elapsed_s:.1f} seeds/s), "
        f"{sum(outcome.transactions for outcome in outcomes):,} transactions ordered"
    )
    print("faults: " + ", ".join(f"{count:,} {name}" for name, count in faults.most_common()))
    slowest = max(outcomes, key=lambda outcome: outcome.settled_ms)
    print(f"slowest to heal: seed {slowest.seed} in {slowest.settled_ms / 1_000:.1f} virtual s")
    for outcome in outcomes:
        if outcome.violation is not None:
            rule, text = outcome.violation
            print(f"seed {outcome.seed} broke {rule}: {text}")
            print(f"  repeat it with: testnet sim --seed {outcome.seed} --trace")


def _print_trace(plan: "Plan") -> None:
    from testnet.simulation.swarm import run_plan
    from testnet.simulation.trace import Trace

    trace = Trace()
    outcome = run_plan(plan, trace)
    for line in trace.lines:
        print(line)
    print(f"{plan.kind}, digest {trace.digest}")
    if outcome.violation is not None:
        rule, text = outcome.violation
        raise TestnetError(f"seed {plan.seed} broke {rule}: {text}")


def _print_shrunk(plan: "Plan", outcome: "Outcome") -> None:
    from testnet.simulation.swarm import run_plan, shrink
    from testnet.simulation.trace import Trace

    assert outcome.violation is not None
    smaller = shrink(plan, outcome.violation[0])
    print(f"seed {plan.seed}, shrunk from {len(plan.actions)} to {len(smaller.actions)} events:")
    print(f"  {smaller}")
    trace = Trace()
    run_plan(smaller, trace)
    for line in trace.lines[-MAX_SHOWN_LINES:]:
        print(line)


def _described(outcome: "Outcome") -> dict[str, object]:
    return {
        "seed": outcome.seed,
        "violation": outcome.violation,
        "virtual_ms": outcome.virtual_ms,
        "settled_ms": outcome.settled_ms,
        "transactions": outcome.transactions,
        "faults": dict(outcome.faults),
    }
