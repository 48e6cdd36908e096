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
from click.testing import CliRunner, Result

from testnet.cli import commands
from testnet.state import Running

ROOT = Path(__file__).parents[2]


PROGRAM = [sys.executable, "-c", "from testnet.cli import main; main()"]
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(ROOT))


def command(*arguments: str) -> Result:
    """In this process, which saves imports; nodes and supervisors have their own all the same."""
    return CliRunner(env=ENVIRONMENT).invoke(commands, arguments)


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
    assert result.exit_code == 0, told(result)
    found = json.loads(summary.read_text())
    assert found["transactions"] == 160
    assert found["killed"].startswith("node-")
    assert found["batches"] >= 1
    assert found["receipts"] >= 10
    assert "The L1 and every node hold the same log" in result.stdout
    assert "\x1b" not in result.stdout, "plain where it is no terminal"
    assert not processes_in(tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    command("down", "--dir", str(tmp_path))


def told(result: Result) -> str:
    return f"{result.output}\n{result.exception!r}"


def rows(place: Path) -> list[dict]:
    result = command("status", "--json", "--dir", str(place))
    assert result.exit_code == 0, told(result)
    return json.loads(result.stdout)["nodes"]


def load(place: Path, count: int) -> None:
    result = command("load", "--rate", "100", "--duration", str(count / 100), "--dir", str(place))
    assert result.exit_code == 0, told(result)
    assert f"{count} on 4 nodes" in result.stdout


def test_a_testnet_that_stays_is_loaded_broken_mended_and_stopped(place):
    here = ("--dir", str(place))

    def do(*arguments: str) -> None:
        result = command(*arguments, *here)
        assert result.exit_code == 0, told(result)

    do("up", "--detach", "--links", "--l1", "embedded")
    load(place, 60)

    # one node killed, one paused: too many, so nothing is ordered until they are back
    do("kill", "2")
    do("pause", "node-0")
    assert [row["state"] for row in rows(place)] == ["paused", "running", "down", "running"]
    do("resume", "0")
    do("restart", "2")
    load(place, 60)

    # a partition without a quorum on either side orders nothing; healed, it orders what waited
    do("partition", "0,1", "2,3")
    waiting = subprocess.Popen(
        [*PROGRAM, "load", "--rate", "100", "--duration", "0.6", *here],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.communicate(timeout=4)
    assert {row["transactions"] for row in rows(place)} == {120}
    do("heal")
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, output

    # ordering never waits for the L1, and the backlog is posted when it is back
    do("l1", "stall")
    load(place, 60)
    do("l1", "resume")
    until(lambda: {row["L1 lag"] for row in rows(place)} == {0})

    do("down")
    assert not processes_in(place)
    do("down")

    # the same testnet goes on where it stopped
    do("up", "--detach")
    assert {row["transactions"] for row in rows(place)} == {240}

    # and a supervisor that is killed takes its nodes with it
    os.kill(Running.require(place).pid, signal.SIGKILL)
    until(lambda: not processes_in(place))
    assert "ended without cleaning up" in told(command("status", *here))
    do("down")
