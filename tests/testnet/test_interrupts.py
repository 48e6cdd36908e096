"""Ctrl-C, pressed by somebody impatient: commands end in order, once, and leave nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
