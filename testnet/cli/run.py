"""`testnet run`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options

CHURN_RATE = 30.0


@click.command("run")
@options.nodes
@click.option(
    "--txs",
    "transactions",
    type=click.IntRange(4, 1_000_000),
    default=400,
    show_default=True,
    help="How many transactions: half EIP-1559, half opaque bytes.",
)
@options.rate
@options.transaction_bytes
@options.l1
@options.l1_key
@options.data
@options.hardfork
@options.seed
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything here (an empty directory).  Without it a directory that is deleted.",
)
@click.option(
    "--kill-one", "with_kill", is_flag=True, help="SIGKILL one node mid-run and restart it later."
)
@click.option(
    "--churn",
    "with_churn",
    is_flag=True,
    help="4, then 7, then 5 members, every founder replaced, a crash with each change, under load.",
)
@options.json_file
@click.pass_context
def run_command(
    context: click.Context,
    nodes: str,
    transactions: int,
    rate: float,
    transaction_bytes: int,
    l1: str,
    l1_key: bytes | None,
    data: str,
    hardfork: str,
    seed: int,
    directory: Path | None,
    with_kill: bool,
    with_churn: bool,
    json_file: Path | None,
) -> None:
    """Order and settle real traffic on a new cluster, check everything, and end.

    Makes keys, a genesis, an L1 with the contract, and node processes; submits signed EIP-1559
    transactions and opaque bytes to all of them; waits until all is committed, posted and final;
    rebuilds the log from the L1 alone and compares it with every node's, byte for byte.

    With --churn clients submit for as long as it takes to replace all the founders, --rate is 30 by
    default, and nodes that left have to hold the beginning of the same log.

    Exit code 0 if all of that is so; 1 with a sentence that says what is not.

    \b
    Example:  testnet run --nodes 7 --kill-one --json summary.json
    """
    # imported here: --help does not wait for it
    from testnet.churn import RULES, churn
    from testnet.launch import Plan
    from testnet.report import Progress, print_summary
    from testnet.run import Job, kill_one, run, summary_rows

    def given(name: str) -> bool:
        return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT

    if with_churn and (with_kill or given("transactions")):
        raise click.UsageError("--churn decides itself who is killed and how long it takes")
    options.check_l1(l1, l1_key, data)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    options.check_writable(json_file)
    console = Console()
    with options.workplace(directory, console) as place:
        plan = Plan(place, int(nodes), l1, seed, l1_key, data=data, hardfork=hardfork)
        job = Job(plan, transactions, rate, transaction_bytes, kill_one if with_kill else None)
        if with_churn:
            plan = replace(plan, rules=RULES)
            job = Job(plan, 0, rate if given("rate") else CHURN_RATE, transaction_bytes, churn)
        found: dict[str, Any] = interrupts.run(run(job, Progress(console)))
    print_summary(console, "The L1 and every node hold the same log", summary_rows(found))
    if json_file is not None:
        options.save(json_file, json.dumps(found, indent=2) + "\n")
