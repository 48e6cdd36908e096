"""The `sequencer` command: for operators of nodes and for those who send transactions.

A command's module is imported when the command is used, so `--help` answers at once.
"""

import errno
import importlib
from typing import Any, Final

import click

from sequencer.cli.errors import CommandError, NegativeResult

COMMANDS: Final = {
    "keys": ("sequencer.cli.keys:keys", "Create, import and show a node's keys."),
    "genesis": ("sequencer.cli.genesis:genesis", "Found a network: committee, rules, contract."),
    "init": ("sequencer.cli.node:init", "Prepare a directory for a node of a network."),
    "start": ("sequencer.cli.node:start", "Run a node until it is told to stop."),
    "join": ("sequencer.cli.joining:join", "Become a member of the set."),
    "rotate": ("sequencer.cli.joining:rotate", "Give a member another BLS key."),
    "leave": ("sequencer.cli.joining:leave", "Stop being a member, in order."),
    "exit": ("sequencer.cli.joining:exit_", "Have the stake of a former member paid back."),
    "registry": ("sequencer.cli.registry:registry", "Who is in the set, and who may be."),
    "doctor": ("sequencer.cli.doctor:doctor", "Check a node's directory and surroundings."),
    "status": ("sequencer.cli.ask:status", "How far a running node is."),
    "why": ("sequencer.cli.ask:why", "Why the log does or does not grow."),
    "send": ("sequencer.cli.send:send", "Hand in a transaction."),
    "receipt": ("sequencer.cli.ask:receipt", "Fetch the proof that a transaction is ordered."),
    "verify": ("sequencer.cli.offline:verify", "Check such a proof without any network."),
    "follow": ("sequencer.cli.ask:follow", "Print the ordered feed."),
    "derive": ("sequencer.cli.derive:derive", "Rebuild the log from L1 alone."),
    "snapshot": ("sequencer.cli.snapshot:snapshot", "Make and restore snapshots of the log."),
    "log": ("sequencer.cli.offline:log", "Inspect the log on a node's disk."),
}
"""Name to (module:attribute, what it does in one line)."""


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a file that cannot be read or written is one line, not a traceback."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = error.filename or "what was to be written"
                raise NegativeResult(f"{where}: {error.strerror}") from None
            if error.filename is None:
                raise
            raise CommandError(f"{error.filename}: {error.strerror}") from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`sequencer COMMAND --help` shows a command's options and an example.",
)
@click.version_option(package_name="decentralized-sequencer", prog_name="sequencer")
def main() -> None:
    """A rollup sequencer run by a committee: operate a node, send transactions, check proofs."""
