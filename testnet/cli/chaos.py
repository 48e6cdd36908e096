"""`testnet chaos`."""

import json
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options


@click.command("chaos")
@options.nodes
@click.option(
    "--duration",
    type=click.FloatRange(5, 86_400),
    default=60.0,
    show_default=True,
    help="Seconds of traffic and faults.",
)
@click.option(
    "--rate", type=click.FloatRange(1, 10_000), default=50.0, show_default=True, help="A second."
)
@options.transaction_bytes
@options.own_l1
@options.data
@options.seed
@click.option("--members", is_flag=True, help="Members join, leave and take new keys meanwhile.")
@options.json_file
def chaos_command(
    nodes: str,
    duration: float,
    rate: float,
    transaction_bytes: int,
    l1: str,
    data: str,
    seed: int,
    members: bool,
    json_file: Path | None,
) -> None:
    """Run real traffic on a new cluster while things go wrong, then check everything.

    The seed draws the faults: nodes killed and restarted, one or all at once, paused, cut off,
    slow; the L1 stalled and reorganised. In the end everything is mended, and the same has to be
    so as after `testnet run`. With --members the committee changes meanwhile, and traffic goes on
    until the last change is complete.

    \b
    Example:  testnet chaos --seed 7 --duration 120
    """
    from testnet.chaos import chaos
    from testnet.churn import RULES
    from testnet.launch import Plan
    from testnet.report import Progress, print_summary
    from testnet.run import Job, run, summary_rows

    options.check_l1(l1, None, data)
    options.check_writable(json_file)
    console = Console()
    with options.workplace(None, console) as place:
        plan = Plan(place, int(nodes), l1, seed, links=True, data=data)
        count = max(4, int(duration * rate))
        job = Job(plan, count, rate, transaction_bytes, chaos(seed, duration))
        if members:
            disturb = chaos(seed, duration, with_members=True)
            job = Job(replace(plan, rules=RULES), 0, rate, transaction_bytes, disturb)
        found = interrupts.run(run(job, Progress(console)))
    print_summary(console, "The L1 and every node hold the same log", summary_rows(found))
    if json_file is not None:
        options.save(json_file, json.dumps(found, indent=2) + "\n")
