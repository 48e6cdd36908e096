"""`testnet`: clusters on this machine.  Exit codes: 0 done, 1 failed (a sentence on standard
error says what), 2 wrong usage, 130 interrupted by SIGINT, 143 by SIGTERM.
"""

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any, Final

import click

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
            if error.filename is None:
                raise
            raise TestnetError(f"{error.filename}: {error.strerror}") from None


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


class _Terminated:
    """Handles SIGTERM like the SIGINT of a Ctrl-C, so that nothing is left behind.

    It does what SIGINT would do at that moment; asyncio, for one, then ends its tasks in order.
    """

    def __init__(self) -> None:
        self.exit_code = 128 + signal.SIGINT

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = 128 + number
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # ignored, as for what a script starts in the background
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)


def main(arguments: list[str] | None = None) -> Any:
    """The entry point of `testnet`."""
    terminated = _Terminated()
    signal.signal(signal.SIGTERM, terminated)
    try:
        return commands.main(args=arguments, prog_name="testnet", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TestnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(terminated.exit_code)
