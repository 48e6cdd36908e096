"""`testnet sim-l1`."""

import os
from collections import Counter
from typing import TYPE_CHECKING

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli.sim import Seeds, check_trace, print_stopped
from testnet.errors import TestnetError

if TYPE_CHECKING:
    from testnet.simulation.settlement import Outcome


@click.command("sim-l1")
@click.option(
    "--seeds",
    "--seed",
    type=Seeds(),
    default="0-199",
    show_default=True,
    help="One seed, or a range with both ends.",
)
@click.option("--trace", is_flag=True, help="Print every message and event (one seed only).")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default=True,
    help="Processes.",
)
def sim_l1_command(seeds: range, trace: bool, jobs: int) -> None:
    """Run whole nodes and their posters on a simulated L1 that does everything an L1 can do.

    The seed draws crashes of nodes and posters, committees that change, and an L1 that stalls,
    reorganises, becomes expensive, loses requests and answers. Then all heals: every committed
    entry has to become final on the L1, once, and the log derived from the L1 has to be the
    committed one. Exit code 1 if a seed broke a rule. SIGINT and SIGTERM end it with a summary.

    \b
    Example:  testnet sim-l1 --seeds 0-199
    """
    from testnet.simulation.campaign import run_all
    from testnet.simulation.settlement import Outcome, run_seed

    if trace:
        check_trace(seeds)
        _print_trace(seeds.start)
        return
    outcomes: list[Outcome] = []
    with Console(stderr=True).status("") as status:

        def take(outcome: Outcome) -> None:
            outcomes.append(outcome)
            status.update(f"{len(outcomes):,} of {len(seeds):,} seeds")
            if outcome.violation is not None:
                print(f"seed {outcome.seed} broke {': '.join(outcome.violation)}")

        stopped_by = run_all(run_seed, seeds, jobs, take)
        if stopped_by is not None:
            interrupts.be_deaf()
    print_stopped(stopped_by)
    _report(outcomes)
    broken = sum(outcome.violation is not None for outcome in outcomes)
    if broken:
        raise TestnetError(f"{broken} of {len(outcomes)} seeds broke a rule")
    if stopped_by is not None:
        raise SystemExit(128 + stopped_by)


def _report(outcomes: "list[Outcome]") -> None:
    faults: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    print(
        f"{len(outcomes):,} seeds, {sum(o.transactions for o in outcomes):,} transactions in "
        f"{sum(o.batches for o in outcomes):,} batches and {sum(o.epochs for o in outcomes):,} "
        "changes of the committee, final on the L1 and derived from it"
    )
    print("faults: " + ", ".join(f"{count:,} {name}" for name, count in faults.most_common()))


def _print_trace(seed: int) -> None:
    from testnet.simulation.settlement import run_seed
    from testnet.simulation.trace import Trace

    trace = Trace()
    outcome = run_seed(seed, trace)
    for line in trace.lines:
        print(line)
    if outcome.violation is not None:
        raise TestnetError(f"seed {seed} broke {': '.join(outcome.violation)}")
