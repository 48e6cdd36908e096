"""The TLA+ model in docs/model, where $TLA2TOOLS names TLC's jar: no network is needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "docs" / "model"
JAR = Path(os.environ.get("TLA2TOOLS", "none"))


@pytest.mark.skipif(not JAR.is_file(), reason="$TLA2TOOLS names no tla2tools.jar")
@pytest.mark.skipif(shutil.which("java") is None, reason="there is no java")
def test_tlc_finds_nothing_in_every_order_of_two_rounds_and_something_in_broken_rules() -> None:
    names = ["orders", "fork", "quorum 2f", "T1 commit vote"]
    command = [sys.executable, str(MODEL / "check.py"), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(names)


def test_the_configurations_switch_no_rule_off() -> None:
    for config in MODEL.glob("*.cfg"):
        assert 'Broken = "none"' in config.read_text(encoding="utf-8")
