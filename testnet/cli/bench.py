"""`testnet bench`."""

import json
import tempfile
from pathlib import Path

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options
from testnet.workload import MAX_TRANSACTION_BYTES, MIN_TRANSACTION_BYTES


class _Rates(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Numbers above zero, separated by commas."""

    name = "rates"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers."""
        try:
            rates = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            rates = ()
        if not rates or min(rates) <= 0:
            self.fail(f"{value!r} is no list of rates like 1000,5000", param, ctx)
        return rates


@click.command("bench")
@options.nodes
@click.option(
    "--rate",
    "rates",
    type=_Rates(),
    default="1000",
    show_default=True,
    help="Transactions a second; several, separated by commas, are offered in turn.",
)
@click.option(
    "--duration",
    "seconds",
    type=click.FloatRange(min=1, max=3_600),
    default=20.0,
    show_default=True,
    help="Seconds of each rate, after a warm-up of 3.",
)
@click.option(
    "--tx-size",
    "transaction_bytes",
    type=click.IntRange(MIN_TRANSACTION_BYTES, MAX_TRANSACTION_BYTES),
    default=512,
    show_default=True,
    help="Bytes of a transaction.",
)
@click.option(
    "--l1",
    type=options.L1Kind(urls=False),
    default="none",
    show_default=True,
    help="Post to an L1 as well: embedded, anvil or auto.",
)
@options.seed
@click.option("--crashed", is_flag=True, help="Kill one node before the load starts.")
@click.option(
    "--stop-l1-after",
    "stop_l1_after_s",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Stop the L1's process so far into each rate, and show both rates; less than --duration.",
)
@options.json_file
@click.option(
    "--charts",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw latency.svg and cpu.svg into this directory.",
)
def bench_command(
    nodes: str,
    rates: tuple[float, ...],
    seconds: float,
    transaction_bytes: int,
    l1: str,
    seed: int,
    crashed: bool,
    stop_l1_after_s: float | None,
    json_file: Path | None,
    charts: Path | None,
) -> None:
    """Measure throughput and commit latency of a new cluster of real processes.

    An open loop at fixed rates from a process of its own; latency counts from the moment a
    transaction was due until the client is told that it is committed.

    \b
    Example:  testnet bench --rate 1000,5000,10000,20000 --json bench.json --charts charts
    """
    from testnet.bench import Bench, bench, summary_text, write_charts
    from testnet.launch import Plan
    from testnet.report import Progress

    if stop_l1_after_s is not None and (l1 == "none" or stop_l1_after_s >= seconds):
        raise click.UsageError("--stop-l1-after needs an --l1, and has to be less than --duration")
    if charts is not None:
        charts.mkdir(parents=True, exist_ok=True)
    options.check_writable(json_file)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="testnet-bench-") as place:
        job = Bench(
            Plan(Path(place), int(nodes), l1, seed),
            rates,
            seconds,
            transaction_bytes=transaction_bytes,
            crashed=crashed,
            stop_l1_after_s=stop_l1_after_s,
        )
        found = interrupts.run(bench(job, Progress(console)))
    print(f"\n{summary_text(found)}")
    if json_file is not None:
        options.save(json_file, json.dumps(found, indent=2) + "\n")
    if charts is not None:
        for path in write_charts(found, charts):
            print(f"drew {path}")
