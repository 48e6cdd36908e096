"""`testnet l1-chaos`."""

import time
from typing import Any

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options
from testnet.errors import TestnetError


@click.command("l1-chaos")
@click.option(
    "--runs", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many."
)
@options.nodes
@click.option(
    "--duration",
    type=click.FloatRange(5, 86_400),
    default=20.0,
    show_default=True,
    help="Seconds of traffic and faults, for each run.",
)
@click.option(
    "--rate", type=click.FloatRange(1, 10_000), default=30.0, show_default=True, help="A second."
)
@options.transaction_bytes
@options.own_l1
@options.seed
def l1_chaos_command(
    runs: int,
    nodes: str,
    duration: float,
    rate: float,
    transaction_bytes: int,
    l1: str,
    seed: int,
) -> None:
    """Run real traffic on a new cluster while its L1 misbehaves, then check everything.

    The seed draws the faults: the L1 stalls, is reorganised, becomes expensive; nodes see it
    through endpoints that are slow, lossy, lagging, lying or gone; posters are killed when it is
    their turn. Each run takes the next seed. In the end everything is mended, and the same has to
    be so as after `testnet run`. Exit code 1 if a run failed.

    \b
    Example:  testnet l1-chaos --runs 20 --seed 0 --l1 anvil
    """
    console = Console()
    failed: list[str] = []
    for number in range(seed, seed + runs):
        console.print(f"seed {number}", highlight=False)
        started = time.monotonic()
        try:
            found = _run(console, number, int(nodes), l1, duration, rate, transaction_bytes)
        except TestnetError as error:
            failed.append(f"seed {number}: {error}")
            console.print(f"[red]failed[/] {failed[-1]}", highlight=False, soft_wrap=True)
            continue
        console.print(
            f"seed {number}: {found['transactions']} transactions in {found['batches']} batches by "
            f"{found['posters']} posters, {time.monotonic() - started:.0f} s",
            highlight=False,
        )
    console.print(f"{runs - len(failed)} of {runs} runs: every log is the same", highlight=False)
    if failed:
        raise TestnetError(f"{len(failed)} of {runs} runs failed; " + "; ".join(failed))


def _run(
    console: Console, seed: int, nodes: int, l1: str, duration_s: float, rate: float, size: int
) -> dict[str, Any]:
    from testnet.l1_chaos import l1_chaos, proxies, through
    from testnet.launch import Plan
    from testnet.report import Progress
    from testnet.run import Job, run

    async def whole() -> dict[str, Any]:
        async with proxies(nodes, seed) as endpoints:
            with options.workplace(None, console) as place:
                plan = Plan(place, nodes, l1, seed, configure=through(endpoints))
                count = max(4, int(duration_s * rate))
                disturb = l1_chaos(seed, duration_s, endpoints)
                return await run(Job(plan, count, rate, size, disturb), Progress(console))

    return interrupts.run(whole())
