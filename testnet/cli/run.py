"""`testnet run`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from testnet.cli import options


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
@options.json_file
def run_command(
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
    json_file: Path | None,
) -> None:
    """Order and settle real traffic on a new cluster, check everything, and end.

    Makes keys, a genesis, an L1 with the contract, and node processes; submits signed EIP-1559
    transactions and opaque bytes to all of them; waits until all is committed, posted and final;
    rebuilds the log from the L1 alone and compares it with every node's, byte for byte.

    Exit code 0 if all of that is so; 1 with a sentence that says what is not.

    \b
    Example:  testnet run --nodes 7 --kill-one --json summary.json
    """
    # imported here: --help does not wait for it
    from testnet.launch import Plan
    from testnet.report import Progress, print_summary
    from testnet.run import Job, kill_one, run, summary_rows

    console = Console()
    with options.workplace(directory, console) as place:
        plan = Plan(place, int(nodes), l1, seed, l1_key, data=data, hardfork=hardfork)
        job = Job(plan, transactions, rate, transaction_bytes, kill_one if with_kill else None)
        found: dict[str, Any] = asyncio.run(run(job, Progress(console)))
    print_summary(console, "The L1 and every node hold the same log", summary_rows(found))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
