"""`testnet join`, `leave` and `rotate`: members that come, go and change keys."""

from pathlib import Path

import click

from testnet.cli import options
from testnet.cli.fault import node, tell


@click.command("join")
@click.option(
    "--count", type=click.IntRange(1, 16), default=1, show_default=True, help="How many nodes."
)
@options.directory
def join_command(count: int, directory: Path) -> None:
    """Let new nodes join the committee of the testnet that runs; returns when they vote.

    Each gets a directory, keys and money; then it does what any operator does: sequencer init,
    sequencer start, sequencer join.

    \b
    Example:  testnet join --count 3
    """
    tell(directory, "join", count=count)


@click.command("leave")
@node
@options.directory
def leave_command(node: str, directory: Path) -> None:
    """Let a member leave, and stop its node once the committee does without it.

    \b
    Example:  testnet leave node-0
    """
    tell(directory, "leave", node=node)


@click.command("rotate")
@node
@options.directory
def rotate_command(node: str, directory: Path) -> None:
    """Give a member another BLS key; returns when an epoch begins that names it.

    \b
    Example:  testnet rotate 2
    """
    tell(directory, "rotate", node=node)
