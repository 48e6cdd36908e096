"""The same stories as in virtual time, on processes, sockets and disks.  Slow, few."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from testnet.report import Progress
from testnet.scenarios.named import SCENARIOS
from testnet.scenarios.real import run_real


def leftovers(directory: Path) -> list[str]:
    """Command lines of processes that name the directory."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        if int(place.name) == os.getpid():
            continue
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "a partition heals",
        "all crash at once and start again",
        "a full disk stops that node, says so, and the others go on",
        "the clock of one node is an hour ahead",
    ],
)
async def test_scenario(name: str, tmp_path: Path) -> None:
    await run_real(SCENARIOS[name], tmp_path, Progress(Console(quiet=True)))
    assert not leftovers(tmp_path)
