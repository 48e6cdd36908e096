"""Faults by hand: `testnet kill|pause|resume|restart NODE` and `testnet l1 VERB`."""

from pathlib import Path
from typing import Any

import click

from testnet import interrupts
from testnet.cli import options

MAX_BASE_FEE_WEI = 10**18
"""An ether a gas: nobody posts for that."""


def tell(directory: Path, verb: str, **arguments: Any) -> None:
    """Have the testnet that runs in a directory do something, and print what it says."""
    from testnet.control import ask
    from testnet.state import Running

    print(interrupts.run(ask(Running.require(directory), verb, _say, **arguments)))


def _say(sentence: str) -> None:
    print(sentence, flush=True)


node = click.argument("node")


@click.command("kill")
@node
@options.directory
def kill_command(node: str, directory: Path) -> None:
    """SIGKILL a node, named like in the table or by its number from 0.

    \b
    Example:  testnet kill 2 && testnet restart 2
    """
    tell(directory, "kill", node=node)


@click.command("pause")
@node
@options.directory
def pause_command(node: str, directory: Path) -> None:
    """SIGSTOP a node: its sockets stay open, but it says nothing.

    \b
    Example:  testnet pause 0
    """
    tell(directory, "pause", node=node)


@click.command("resume")
@node
@options.directory
def resume_command(node: str, directory: Path) -> None:
    """Let a paused node go on.

    \b
    Example:  testnet resume 0
    """
    tell(directory, "resume", node=node)


@click.command("restart")
@node
@options.directory
def restart_command(node: str, directory: Path) -> None:
    """Start a node that is down, or stop and start one that runs; returns when it is ready.

    \b
    Example:  testnet restart 2
    """
    tell(directory, "restart", node=node)


@click.command("partition")
@click.argument("groups", nargs=-1, required=True)
@options.directory
def partition_command(groups: tuple[str, ...], directory: Path) -> None:
    """Cut the links between groups of nodes; nodes of no group form one more.

    Needs `testnet up --links`. Nothing passes a cut link and nobody is told.

    \b
    Example:  testnet partition 0,1 2,3 && testnet heal
    """
    tell(directory, "links", fault="partition", groups=[group.split(",") for group in groups])


@click.command("heal")
@options.directory
def heal_command(directory: Path) -> None:
    """Make all links whole and quick again.

    \b
    Example:  testnet heal
    """
    tell(directory, "links", fault="heal")


@click.command("slow")
@node
@click.option("--delay-ms", type=click.FloatRange(0, 60_000), default=100.0, show_default=True)
@options.directory
def slow_command(node: str, delay_ms: float, directory: Path) -> None:
    """Delay everything from and to a node, each way.  Needs `testnet up --links`.

    \b
    Example:  testnet slow 3 --delay-ms 200
    """
    tell(directory, "links", fault="slow", node=node, delay_ms=delay_ms)


@click.command("l1")
@click.argument("verb", type=click.Choice(("stall", "resume", "reorg", "spike")))
@click.option("--depth", type=click.IntRange(1, 64), help="Blocks to replace (reorg).")
@click.option("--base-fee", type=click.IntRange(1, MAX_BASE_FEE_WEI), help="Wei a gas (spike).")
@options.directory
def l1_command(verb: str, depth: int | None, base_fee: int | None, directory: Path) -> None:
    """Stall the L1, let it go on, replace its last blocks, or make it expensive.

    \b
    Example:  testnet l1 stall; testnet l1 resume; testnet l1 reorg --depth 2
    """
    for option, value, user in (("--depth", depth, "reorg"), ("--base-fee", base_fee, "spike")):
        if value is not None and verb != user:
            raise click.UsageError(f"{option} is for {user}, not for {verb}")
    tell(directory, "l1", fault=verb, depth=depth, base_fee=base_fee)
