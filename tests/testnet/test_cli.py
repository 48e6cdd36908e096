"""The command line: help with examples, options that are checked, errors in one sentence."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sequencer.config import ConfigError
from testnet.cli import COMMANDS, commands
from testnet.errors import TestnetError
from testnet.state import LOG_FILE, Layout, Running, process_started

ROOT = Path(__file__).parents[2]
MAIN = "from testnet.cli import main; main()"


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    result = CliRunner().invoke(commands, [name, "--help"])
    assert result.exit_code == 0
    assert f"Example:  testnet {name}" in result.output


def test_help_is_quick_since_nothing_heavy_is_imported():
    script = (
        "import sys; from testnet.cli import commands\n"
        "commands.main(['run', '--help'], standalone_mode=False)\n"
        "heavy = {'web3', 'libp2p', 'eth_account', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--nodes", "5"], "--nodes"),
        (["run", "--l1", "geth"], "none of auto, embedded"),
        (["run", "--data", "blob"], "--data"),
        (["run", "--hardfork", "london"], "--hardfork"),
        (["run", "--txs", "0"], "--txs"),
        (["run", "--rate", "0"], "--rate"),
        (["run", "--tx-size", "1"], "--tx-size"),
        (["run", "--l1-key", "12"], "32 bytes in hex"),
        (["bench", "--rate", "1000,fast"], "list of rates"),
        (["bench", "--rate", "0"], "list of rates"),
        (["run", "--data", "either"], "--data either needs an L1 that takes blobs"),
        (["run", "--data", "blobs", "--l1", "none"], "needs an L1 that takes blobs"),
        (["chaos", "--data", "blobs"], "needs an L1 that takes blobs"),
        (["run", "--l1", "http://127.0.0.1:9"], "--l1-key"),
        (["chaos", "--l1", "http://127.0.0.1:9"], "an L1 of its own"),
        (["run", "--json", "/proc/nowhere/s.json"], "/proc/nowhere/s.json cannot be written: No"),
        (["chaos", "--json", "/proc/s.json"], "/proc/s.json cannot be written"),
        (["bench", "--json", "/proc/s.json"], "/proc/s.json cannot be written"),
        (["sim", "--json", "/proc/s.json"], "/proc/s.json cannot be written"),
        (["sim", "--seeds", "9-1"], "holds no seed: it ends before it begins"),
        (["sim", "--seeds", "0-10000000"], "holds more than 10,000,000 seeds"),
        (["sim", "--adversary", "nobody"], "there are: "),
        (["sim", "--seeds", "1-2", "--trace"], "one seed"),
        (["sim", "--seed", "1", "--trace", "--shrink"], "--trace goes without"),
        (["sim", "--seed", "1", "--trace", "--minutes", "1"], "--trace goes without"),
        (["sim", "--seed", "1", "--trace", "--json", "s.json"], "--trace goes without"),
        (["sim-l1", "--seeds", "1-2", "--trace"], "one seed"),
        (["sim", "--seeds", "all"], "no seed and no range"),
        (["l1", "explode"], "explode"),
        (["l1", "stall", "--depth", "2"], "--depth is for reorg, not for stall"),
        (["l1", "reorg", "--base-fee", "5"], "--base-fee is for spike, not for reorg"),
        (["l1", "spike", "--base-fee", "9" * 84], "--base-fee"),
        (["scenario", ""], "an empty name stands for no scenario"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_is_exit_code_2_says_what_and_makes_nothing(
    arguments, complaint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 2
    assert complaint in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["run", "--dir"], ["up", "--dir"], ["bench", "--charts"]])
def test_a_directory_that_cannot_be_made_is_one_sentence(arguments):
    result = CliRunner().invoke(commands, [*arguments, "/proc/x"])
    assert isinstance(result.exception, TestnetError)
    assert str(result.exception) == "/proc/x: No such file or directory"


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=str
)
def test_a_signal_ends_chaos_with_a_word_and_leaves_nothing(tmp_path, number, exit_code):
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "chaos", "--l1", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    assert "keys and genesis" in process.stdout.readline()
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (said.strip(), process.returncode) == ("interrupted", exit_code)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_one_sentence_and_exit_code_1(tmp_path):
    result = command("status", "--dir", str(tmp_path))
    assert result.returncode == 1
    assert (
        result.stderr
        == f"error: no testnet runs in {tmp_path}; start one with: testnet up --dir {tmp_path}\n"
    )


@pytest.mark.parametrize(
    "arguments", [["status"], ["load"], ["kill", "0"], ["restart", "0"], ["l1", "stall"]]
)
def test_commands_for_a_running_testnet_say_that_there_is_none(tmp_path, arguments):
    result = CliRunner().invoke(commands, [*arguments, "--dir", str(tmp_path)])
    assert isinstance(result.exception, TestnetError)
    assert "no testnet runs in" in str(result.exception)


def test_down_is_idempotent(tmp_path):
    for _ in range(2):
        result = CliRunner().invoke(commands, ["down", "--dir", str(tmp_path)])
        assert result.exit_code == 0
        assert result.output == f"no testnet runs in {tmp_path}\n"


def test_stale_state_is_detected_and_down_cleans_it_up(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    running = Running(process.pid, process_started(process.pid), 1, "t")
    process.communicate(b"\n")
    running.save(tmp_path)
    status = CliRunner().invoke(commands, ["status", "--dir", str(tmp_path)])
    assert "ended without cleaning up" in str(status.exception)
    down = CliRunner().invoke(commands, ["down", "--dir", str(tmp_path)])
    assert down.exit_code == 0
    assert "was gone already" in down.output
    assert Running.load(tmp_path) is None


def test_a_second_up_in_a_directory_is_refused(tmp_path):
    pid = os.getpid()
    Running(pid, process_started(pid), 1, "t").save(tmp_path)
    result = CliRunner().invoke(commands, ["up", "--dir", str(tmp_path)])
    assert f"a testnet runs in {tmp_path} already" in str(result.exception)
    assert f"testnet down --dir {tmp_path}" in str(result.exception)


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("nodes", ["--nodes", "7"]),
        ("l1", ["--l1", "http://127.0.0.1:9"]),
        ("links", ["--links"]),
        ("data", ["--data", "blobs"]),
        ("seed", ["--nodes", "4", "--l1", "none", "--seed", "3"]),
    ],
)
def test_going_on_with_a_testnet_as_it_was_not_made_is_refused(tmp_path, option, arguments):
    nodes = [{"name": f"node-{n}", "rpc_port": 1, "peer_port": 2} for n in range(4)]
    Layout(0, "ab" * 32, nodes, None).save(tmp_path)
    result = CliRunner().invoke(commands, ["up", "--dir", str(tmp_path), *arguments])
    assert f"was made with another --{option}" in str(result.exception)


def test_a_directory_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear to somebody")
    for arguments in (["up", "--fresh"], ["run"]):
        result = CliRunner().invoke(commands, [*arguments, "--dir", str(tmp_path)])
        assert isinstance(result.exception, TestnetError)
        assert "thesis.tex" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_in_the_directory_of_a_testnet_is_refused(tmp_path):
    node = {"name": "node-0", "rpc_port": 20_001, "peer_port": 20_002}
    Layout(0, "ab" * 32, [node], None).save(tmp_path)
    result = CliRunner().invoke(commands, ["run", "--dir", str(tmp_path)])
    assert "holds a testnet already" in str(result.exception)


def test_an_l1_that_is_not_there_is_named(tmp_path):
    where = ["--dir", str(tmp_path / "place"), "--l1-key", "01" * 32]
    result = CliRunner().invoke(commands, ["run", "--l1", "http://127.0.0.1:9", *where])
    assert isinstance(result.exception, TestnetError)
    said = "no Ethereum JSON-RPC at http://127.0.0.1:9; does an L1 run there?"
    assert str(result.exception) == said


def test_a_missing_anvil_is_named(tmp_path):
    place = tmp_path / "place"
    arguments = ["run", "--l1", "anvil", "--dir", str(place), "--json", str(place / "s.json")]
    nowhere = {"ANVIL": str(tmp_path / "nowhere")}
    result = CliRunner().invoke(commands, arguments, env=nowhere)
    assert isinstance(result.exception, TestnetError)
    assert "anvil not found" in str(result.exception)


def test_all_commands_are_click_commands():
    context = click.Context(commands)
    assert all(isinstance(commands.get_command(context, name), click.Command) for name in COMMANDS)


def test_seeds_are_simulated_and_reported(tmp_path):
    summary = tmp_path / "seeds.json"
    arguments = ["--seeds", "1-2", "--nodes", "4", "--duration", "2", "--jobs", "1"]
    result = CliRunner().invoke(commands, ["sim", *arguments, "--json", str(summary)])
    assert result.exit_code == 0, result.output
    assert "2 seeds" in result.output
    assert [outcome["seed"] for outcome in json.loads(summary.read_text())] == [1, 2]


def test_where_nobody_watches_a_line_tells_how_far_the_seeds_are(monkeypatch):
    from testnet.cli import sim

    monkeypatch.setattr(sim, "SECONDS_BETWEEN_LINES", 0)
    arguments = ["--seeds", "1-2", "--nodes", "4", "--duration", "1", "--jobs", "1"]
    result = CliRunner().invoke(commands, ["sim", *arguments])
    assert "1 of 2 seeds, 0 broke a rule, up to seed 1" in result.output
    assert "2 seeds" in result.output


def test_a_trace_is_the_same_every_time():
    arguments = ["sim", "--seed", "1", "--nodes", "4", "--duration", "2", "--trace"]
    first, second = (CliRunner().invoke(commands, arguments) for _ in range(2))
    assert "digest" in first.output
    assert first.output == second.output


def test_a_summary_that_cannot_be_written_hides_no_broken_seed(tmp_path, monkeypatch):
    from testnet.simulation import campaign
    from testnet.simulation.swarm import Outcome

    broken = Outcome(7, ("A1", "two logs"), 1_000, 0, 5, Counter())
    found = campaign.Campaign([broken], elapsed_s=1.0)
    summary = tmp_path / "place" / "s.json"
    summary.parent.mkdir()

    def run_campaign(*_):
        summary.parent.rmdir()
        return found

    monkeypatch.setattr(campaign, "run_campaign", run_campaign)
    result = CliRunner().invoke(commands, ["sim", "--json", str(summary)])
    assert "seed 7 broke A1: two logs" in result.output
    assert str(result.exception) == f"{summary}: No such file or directory"


FULL = Path("/dev/full")
"""Every byte that is written there meets a full disk."""


@pytest.mark.skipif(not FULL.exists(), reason="the kernel has no /dev/full")
@pytest.mark.parametrize("arguments", [["scenario", "--list"], ["--help"]])
def test_an_output_that_is_full_is_one_sentence(arguments):
    with FULL.open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith("No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="the kernel has no /dev/full")
def test_a_summary_meets_a_full_disk_in_one_sentence(tmp_path):
    summary = tmp_path / "s.json"
    summary.symlink_to(FULL)
    arguments = ["--seed", "1", "--nodes", "4", "--duration", "1", "--json", str(summary)]
    result = CliRunner().invoke(commands, ["sim", *arguments])
    assert str(result.exception) == f"{summary}: No space left on device"


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "PLACE: No space left on device"),
        (ConfigError("keys cannot be written"), "keys cannot be written"),
    ],
)
def test_keys_that_cannot_be_written_are_one_sentence(tmp_path, monkeypatch, failure, sentence):
    def make_members(*_):
        raise failure

    monkeypatch.setattr("testnet.launch.make_members", make_members)
    result = CliRunner().invoke(commands, ["run", "--l1", "none", "--dir", str(tmp_path)])
    assert isinstance(result.exception, TestnetError)
    assert str(result.exception) == sentence.replace("PLACE", str(tmp_path))


def test_a_testnet_that_could_write_no_log_says_so(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / LOG_FILE).symlink_to("/dev/null")
    (place / "thesis.tex").write_text("dear to somebody")
    result = CliRunner().invoke(commands, ["up", "--detach", "--l1", "none", "--dir", str(place)])
    log = place / LOG_FILE
    assert str(result.exception) == (
        f"it did not come up; its log {log} is empty; is there room on that disk?"
    )


def test_a_command_that_failed_waits_for_no_thread():
    script = (
        "import threading, testnet.cli as cli\n"
        "from testnet.errors import TestnetError\n"
        "def fail(**_):\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    raise TestnetError('it broke')\n"
        "cli.commands.main = fail\n"
        "cli.main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (result.returncode, result.stderr) == (1, "error: it broke\n")
