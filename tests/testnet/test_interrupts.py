"""Ctrl-C, pressed by somebody impatient: commands end in order, once, and leave nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testnet.errors import TestnetError
from testnet.state import Running, is_starting

ROOT = Path(__file__).parents[2]
MAIN = "from testnet.cli import main; main()"


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, which a terminal would signal
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("command", ["sim", "sim-l1"])
def test_a_campaign_that_is_interrupted_again_and_again_ends_with_a_summary(command):
    process = start(command, "--seeds", "0-9999", "--jobs", "1")
    until(lambda: children(process.pid))
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    said, complaints = process.communicate()
    assert (process.returncode, complaints) == (130, "")
    assert "stopped early by SIGINT" in said


def test_who_is_interrupted_while_a_testnet_comes_up_detached_ends_it(tmp_path):
    place = tmp_path / "place"
    process = start("up", "--detach", "--l1", "none", "--dir", str(place))
    until(lambda: (place / "node-0" / "node.log").exists())
    assert is_starting(place)
    with pytest.raises(TestnetError, match="a testnet is being started or stopped in"):
        Running.require(place)
    os.killpg(process.pid, signal.SIGINT)
    said, complaints = process.communicate(timeout=30)
    assert (process.returncode, said, complaints.strip()) == (130, "", "interrupted")
    assert not is_starting(place)  # neither we nor the one that we started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=str)
def test_an_impatient_interruption_of_a_run_leaves_nothing(tmp_path, number):
    process = start("run", "--l1", "none", TMPDIR=str(tmp_path))
    until(lambda: list(tmp_path.glob("testnet-*/node-0/node.log")))
    while process.poll() is None:
        os.killpg(process.pid, number)
        time.sleep(0.02)
    _, complaints = process.communicate()
    assert (process.returncode, complaints.strip()) == (128 + number, "interrupted")
    assert list(tmp_path.iterdir()) == []
