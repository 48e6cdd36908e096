"""A node whose wall clock can be moved: `sequencer`, with an offset that SIGUSR1 reads anew.

The offset, in milliseconds, stands in a file of the node's directory. Only Unix time moves, as
when a machine's clock is set: monotonic time, and so every timer, goes on.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from testnet.cluster import NodeSpec, node_command

OFFSET_FILE: Final = "clock-offset-ms"


def adjustable_command(spec: NodeSpec) -> list[str]:
    """The command line of a node whose clock can be moved."""
    program = "from testnet.scenarios.adjustable_clock import main; main()"
    return [program if part.startswith("from ") else part for part in node_command(spec)]


def move_clock(spec: NodeSpec, pid: int | None, by_ms: int) -> None:
    """Move the wall clock of a node by so much, now if it runs, and after every start."""
    file = spec.directory / OFFSET_FILE
    offset = int(file.read_text()) if file.exists() else 0
    file.write_text(str(offset + by_ms))
    if pid is not None:
        os.kill(pid, signal.SIGUSR1)


def main() -> None:
    """Run `sequencer` with the arguments of this process."""
    file = Path(sys.argv[sys.argv.index("--dir") + 1]) / OFFSET_FILE
    true_time_ns = time.time_ns
    offset_ns = 0

    def read(*_: object) -> None:
        nonlocal offset_ns
        with contextlib.suppress(OSError, ValueError):
            offset_ns = int(file.read_text()) * 1_000_000

    def moved_time_ns() -> int:
        return true_time_ns() + offset_ns

    read()
    signal.signal(signal.SIGUSR1, read)
    time.time_ns = moved_time_ns
    time.time = lambda: moved_time_ns() / 1e9
    from sequencer.cli import main as sequencer

    sequencer()
