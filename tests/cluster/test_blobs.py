"""A whole testnet that posts in blobs.  Slow; needs anvil, since no other local L1 takes blobs."""

import json
from pathlib import Path

import pytest

from testnet.l1 import find_anvil
from tests.cluster.test_testnet import command, processes_in, told


@pytest.mark.skipif(find_anvil() is None, reason="anvil is neither on PATH nor in an npm tree")
def test_a_run_in_blobs_settles_everything(tmp_path: Path) -> None:
    place, summary = tmp_path / "place", tmp_path / "summary.json"
    result = command(
        *("run", "--txs", "120", "--rate", "100", "--l1", "anvil", "--data", "blobs"),
        *("--dir", str(place), "--json", str(summary)),
    )
    assert result.exit_code == 0, told(result)
    found = json.loads(summary.read_text())
    assert found["l1_blobs"] >= found["batches"] >= 1
    assert "The L1 and every node hold the same log" in result.stdout
    assert not processes_in(tmp_path)
