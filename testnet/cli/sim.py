"""`testnet sim`."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options
from testnet.errors import TestnetError

if TYPE_CHECKING:
    from testnet.simulation.campaign import Campaign
    from testnet.simulation.swarm import Outcome, Plan

SECONDS_BETWEEN_LINES = 10
MAX_SEEDS = 10_000_000
MINUTES_HELP = "Go on from the first seed for so long; where --seeds ends does not matter then."
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
        if not seeds:
            self.fail(f"{value!r} holds no seed: it ends before it begins", param, ctx)
        if seeds.stop - seeds.start > MAX_SEEDS:
            self.fail(f"{value!r} holds more than {MAX_SEEDS:,} seeds", param, ctx)
        return seeds


def check_trace(seeds: range) -> None:
    """Refuse to trace more than one seed."""
    if len(seeds) != 1:
        raise click.UsageError("--trace shows one seed; name it with --seed")


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
@click.option("--epochs/--no-epochs", default=None, help="Whether the committee changes.")
@click.option("--trace", is_flag=True, help="Print every message and event (one seed only).")
@click.option("--shrink", is_flag=True, help="Look for a simpler run that fails the same way.")
@click.option("--minutes", type=click.FloatRange(0.1, 10_000), help=MINUTES_HELP)
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
    epochs: bool | None,
    trace: bool,
    shrink: bool,
    minutes: float | None,
    jobs: int,
    json_file: Path | None,
) -> None:
    """Run the production node in a simulated world: virtual time, faults and liars from a seed.

    The seed draws how many nodes there are, who of them lies and how, what the network, the disks
    and the clocks do, and in some runs how the committee changes. Checkers outside the nodes watch
    every message. The same seed is the same run. Exit code 1 if a rule was broken; the seed repeats
    it. SIGINT and SIGTERM end it with a summary of what was covered; nothing is shrunk then.

    \b
    Example:  testnet sim --seeds 0-999
              testnet sim --seed 17 --trace
    """
    from testnet.simulation.campaign import Terms, run_campaign
    from testnet.simulation.roster import ADVERSARIES
    from testnet.simulation.swarm import draw_plan

    if adversary is not None and adversary not in ADVERSARIES:
        known = ", ".join(ADVERSARIES)
        raise click.UsageError(f"there is no --adversary {adversary!r}; there are: {known}")

    def draw(seed: int) -> "Plan":
        return draw_plan(seed, nodes, int(duration * 1_000), adversary, epochs)

    if trace:
        check_trace(seeds)
        if shrink or minutes is not None or json_file is not None:
            raise click.UsageError("--trace goes without --shrink, --minutes and --json")
        _print_trace(draw(seeds.start))
        return
    options.check_writable(json_file)
    terms = Terms(nodes, int(duration * 1_000), adversary, epochs)
    wanted = len(seeds) if minutes is None else None
    campaign = run_campaign(seeds, terms, jobs, minutes, _Progress(wanted))
    if campaign.stopped_by is not None:
        interrupts.be_deaf()
    _report(campaign)
    if shrink and campaign.stopped_by is None:
        for outcome in campaign.broken:
            _print_shrunk(draw(outcome.seed), outcome)
    if json_file is not None:
        described = [_described(outcome) for outcome in campaign.outcomes]
        options.save(json_file, json.dumps(described, indent=2))
    if campaign.broken:
        count = len(campaign.outcomes)
        raise TestnetError(f"{len(campaign.broken)} of {count} seeds broke a rule")
    if campaign.stopped_by is not None:
        raise SystemExit(128 + campaign.stopped_by)


class _Progress:
    """Says how far a campaign is: in place on a terminal, else a line every ten seconds."""

    def __init__(self, wanted: int | None) -> None:
        self._of = "" if wanted is None else f" of {wanted:,}"
        self._console = Console(stderr=True)
        self._said_at = time.monotonic()

    def __call__(self, campaign: "Campaign", outcome: "Outcome") -> None:
        console, now = self._console, time.monotonic()
        if outcome.violation is not None:
            rule, text = outcome.violation
            console.print(f"[red]seed {outcome.seed}[/]: {rule}: {text}", highlight=False)
        done = f"{len(campaign.outcomes):,}{self._of} seeds, {len(campaign.broken)} broke a rule"
        if console.is_terminal:
            console.print(done, end="\r", highlight=False)
        elif now - self._said_at >= SECONDS_BETWEEN_LINES:
            self._said_at = now
            console.print(f"{done}, up to seed {outcome.seed}", highlight=False)


def print_stopped(number: int | None) -> None:
    """Say which signal ended it early, if one did."""
    if number is not None:
        print(f"stopped early by {signal.Signals(number).name}")


def _report(campaign: "Campaign") -> None:
    outcomes, elapsed_s = campaign.outcomes, campaign.elapsed_s
    print_stopped(campaign.stopped_by)
    if not outcomes:
        print("no seed was finished")
        return
    faults: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    virtual_s = sum(outcome.virtual_ms for outcome in outcomes) / 1_000
    print(
        f"{len(outcomes):,} seeds, {virtual_s / 3_600:,.2f} virtual hours in {elapsed_s:.1f} s "
        f"({len(outcomes) / elapsed_s:.1f} seeds/s, {campaign.cpu_s / len(outcomes):.2f} s of CPU "
        f"each), {sum(outcome.transactions for outcome in outcomes):,} transactions ordered, "
        f"{sum(outcome.epochs for outcome in outcomes):,} changes of the committee"
    )
    print(f"the last one: seed {outcomes[-1].seed}")
    print("faults: " + ", ".join(f"{count:,} {name}" for name, count in faults.most_common()))
    slowest = max(outcomes, key=lambda outcome: outcome.settled_ms)
    print(f"slowest to heal: seed {slowest.seed} in {slowest.settled_ms / 1_000:.1f} virtual s")
    for outcome in campaign.broken:
        assert outcome.violation is not None
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
        "epochs": outcome.epochs,
        "faults": dict(outcome.faults),
    }
