"""Whole testnets through the command line: real processes, sockets, disks and EVM.  Slow, few."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testnet.state import Running

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "from testnet.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def processes_in(directory: Path) -> list[str]:
    """Command lines that name the directory, ours and zombies aside."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line and int(place.name) != os.getpid():
            found.append(line)
    return found


def until(condition, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_with_a_killed_node_settles_everything_and_leaves_nothing_behind(tmp_path):
    place, summary = tmp_path / "place", tmp_path / "summary.json"
    result = command(
        *("run", "--txs", "160", "--rate", "100", "--kill-one", "--seed", "1"),
        *("--l1", "embedded", "--dir", str(place), "--json", str(summary)),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(summary.read_text())
    assert found["transactions"] == 160
    assert found["killed"] is not None
    assert found["batches"] >= 1
    assert found["receipts"] >= 10
    assert "The L1 and every node hold the same log" in result.stdout
    assert "\x1b" not in result.stdout, "plain where it is no terminal"
    assert not processes_in(tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    command("down", "--dir", str(tmp_path))


def test_a_testnet_that_stays_is_loaded_broken_mended_and_stopped(place):
    here = ("--dir", str(place))
    up = command("up", "--detach", "--l1", "none", *here)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "again" not in up.stderr

    loaded = command("load", "--rate", "100", "--duration", "1", *here)
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert "100 on 4 nodes" in loaded.stdout

    assert command("kill", "2", *here).returncode == 0
    assert command("pause", "node-0", *here).returncode == 0
    rows = json.loads(command("status", "--json", *here).stdout)["nodes"]
    assert [row["state"] for row in rows] == ["paused", "running", "down", "running"]
    assert rows[1]["transactions"] == 100
    assert command("resume", "0", *here).returncode == 0
    assert command("restart", "2", *here).returncode == 0

    again = command("load", "--rate", "100", "--duration", "1", *here)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "100 on 4 nodes" in again.stdout

    down = command("down", *here)
    assert down.returncode == 0
    assert not processes_in(place)
    assert command("down", *here).returncode == 0

    # the same testnet goes on where it stopped
    assert command("up", "--detach", "--l1", "none", *here).returncode == 0
    rows = json.loads(command("status", "--json", *here).stdout)["nodes"]
    assert [row["transactions"] for row in rows] == [200] * 4

    # and a supervisor that is killed takes its nodes with it
    running = Running.require(place)
    os.kill(running.pid, signal.SIGKILL)
    until(lambda: not processes_in(place))
    assert "ended without cleaning up" in command("status", *here).stderr
    assert command("down", *here).returncode == 0
