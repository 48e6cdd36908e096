"""`testnet load`."""

from pathlib import Path

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options


@click.command("load")
@options.rate
@click.option(
    "--duration",
    type=click.FloatRange(min=0.1, max=86_400),
    default=10.0,
    show_default=True,
    help="Seconds.",
)
@options.transaction_bytes
@options.seed
@options.directory
def load_command(
    rate: float, duration: float, transaction_bytes: int, seed: int, directory: Path
) -> None:
    """Submit traffic to the testnet that runs in a directory, and wait until it is committed.

    The same mix as `testnet run`: half EIP-1559 transactions through web3.py, half opaque bytes.
    Each load is traffic of its own, whatever was sent before.

    \b
    Example:  testnet load --rate 500 --duration 30
    """
    from testnet.load import load
    from testnet.report import Progress, print_summary
    from testnet.state import Layout, Running

    Running.require(directory)
    specs = Layout.require(directory).specs(directory)
    console = Console()
    found = interrupts.run(load(specs, rate, duration, transaction_bytes, seed, Progress(console)))
    print_summary(console, "Load", found)
