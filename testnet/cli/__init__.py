"""`testnet`: clusters on this machine.  Exit codes: 0 done, 1 failed (a sentence on standard
error says what), 2 wrong usage, 130 interrupted by SIGINT, 143 by SIGTERM, 129 by SIGHUP.
"""

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from testnet import interrupts
from testnet.errors import TestnetError

COMMANDS: Final = {
    "run": "testnet.cli.run",
    "up": "testnet.cli.up",
    "down": "testnet.cli.up",
    "status": "testnet.cli.up",
    "load": "testnet.cli.load",
    "join": "testnet.cli.membership",
    "leave": "testnet.cli.membership",
    "rotate": "testnet.cli.membership",
    "kill": "testnet.cli.fault",
    "pause": "testnet.cli.fault",
    "resume": "testnet.cli.fault",
    "restart": "testnet.cli.fault",
    "partition": "testnet.cli.fault",
    "heal": "testnet.cli.fault",
    "slow": "testnet.cli.fault",
    "l1": "testnet.cli.fault",
    "chaos": "testnet.cli.chaos",
    "scenario": "testnet.cli.scenario",
    "bench": "testnet.cli.bench",
    "sim": "testnet.cli.sim",
    "sim-l1": "testnet.cli.sim_l1",
    "explore": "testnet.cli.explore",
    "l1-chaos": "testnet.cli.l1_chaos",
}
"""Command to the module that has it: only the one that is asked for is imported."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What writing fails with, without a file's name, where the disk or a limit is full."""


class _LazyGroup(click.Group):
    """Imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_") + "_command"
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a file that cannot be read or written is one sentence, no traceback."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None and error.errno not in NO_ROOM:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            raise TestnetError(f"{where}{error.strerror}") from None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="decentralized-sequencer")
def commands() -> None:
    """Clusters of sequencers on this machine, real and simulated.

    \b
    testnet run              four nodes order and settle real traffic; exit code 0 or 1
    testnet up               a cluster that stays, with a live table; Ctrl-C ends it
    testnet join             a new member for the cluster that runs; also: leave, rotate
    testnet bench            how fast it is
    testnet scenario         named stories of faults, in virtual time or on processes
    testnet sim              thousands of runs in virtual time, faults and liars from a seed
    """


def main(arguments: list[str] | None = None) -> Any:
    """The entry point of `testnet`."""
    interrupts.raise_interrupted()
    try:
        result = commands.main(args=arguments, prog_name="testnet", standalone_mode=False)
        sys.stdout.flush()
        return result
    except SystemExit as ended:
        _leave(ended.code if isinstance(ended.code, int) else 1)
    except click.ClickException as error:
        error.show()
        _leave(error.exit_code)
    except TestnetError as error:
        print(f"error: {error}", file=sys.stderr)
        _leave(1)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
        _leave(1)
    except (click.Abort, KeyboardInterrupt) as error:
        print("interrupted", file=sys.stderr)
        interrupted = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        _leave(getattr(interrupted, "exit_code", 130))


def _leave(exit_code: int) -> NoReturn:
    """End at once: a thread of web3's may wait for ever for what was given up, and Python's own
    way out, which hears signals again, would wait for it.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(exit_code)
