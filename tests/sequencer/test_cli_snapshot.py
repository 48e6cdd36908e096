"""`sequencer snapshot` and what `init` begins with."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from sequencer.ledger import Ledger
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import Table
from tests.sequencer import certified_chain
from tests.sequencer.certified_chain import CertifiedChain, genesis_with, numbered
from tests.sequencer.commands import good, run, spoil, wrong
from tests.sequencer.test_guard import full_disk

HEIGHTS = 30


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a stopped node whose last block is a second old."""
    started_ms = time.time_ns() // 1_000_000 - 10 * HEIGHTS - 1_000
    monkeypatch.setattr(certified_chain, "START_MS", started_ms)
    directory = tmp_path / "node"
    directory.mkdir()
    genesis = genesis_with()
    (directory / "genesis.json").write_text(genesis.dump())
    chain = CertifiedChain(LmdbStore(directory / "data", genesis.chain_id))
    for height in range(1, HEIGHTS + 1):
        chain.commit(numbered(height))
    chain.store.close()
    return directory


@pytest.fixture
def file(node: Path) -> Path:
    path = node.parent / "snapshot.bin"
    good("snapshot", "create", path, "--dir", node)
    return path


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The files of a directory over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def height_of(directory: Path) -> int:
    genesis = genesis_with()
    store = LmdbStore(directory / "data", genesis.chain_id, read_only=True)
    try:
        return Ledger(store, genesis.chain_id, genesis.rules).head.height
    finally:
        store.close()


def test_a_snapshot_is_made_and_looked_at(node: Path, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.bin"
    made = orjson.loads(good("snapshot", "create", file, "--dir", node, "--json"))
    assert made["height"] == HEIGHTS
    assert made["bytes"] == file.stat().st_size
    assert not file.with_name("snapshot.bin.part").exists()
    assert orjson.loads(good("snapshot", "show", file, "--json")) == made
    checked = good("snapshot", "show", file, "--genesis", node / "genesis.json", "--json")
    found = orjson.loads(checked)
    assert found["proved"] is True
    assert found["height"] == HEIGHTS
    assert found["log_root"] == orjson.loads(good("log", "--dir", node, "--json"))["log_root"]


def test_of_damaged_data_and_on_a_full_disk_there_is_a_sentence_and_nothing_else(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = node.parent / "snapshot.bin"
    with monkeypatch.context() as patched:
        patched.setattr("sequencer.snapshot.create", full_disk)
        said = wrong(1, "snapshot", "create", out, "--dir", node)
        assert said == f"{out} cannot be written: No space left on device"
    spoil(node, Table.BLOCKS)
    said = wrong(1, "snapshot", "create", out, "--dir", node)
    assert "damaged" in said
    assert "see 'The data is lost' in docs/operators.md" in said
    assert {path.name for path in node.parent.iterdir()} == {"node"}


def test_a_damaged_one_is_called_that(file: Path, node: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])
    assert "ends early" in wrong(1, "snapshot", "show", file)
    made = "init", "--genesis", node / "genesis.json", "--dir", node.parent / "new"
    assert "ends early" in wrong(2, *made, "--snapshot", file)
    assert list((node.parent / "new").iterdir()) == []


def test_a_node_begins_with_one(file: Path, node: Path) -> None:
    directory = node.parent / "new"
    genesis = node / "genesis.json"
    said = good("init", "--genesis", genesis, "--dir", directory, "--snapshot", file)
    assert f"its log goes on from height {HEIGHTS}" in said
    assert height_of(directory) == HEIGHTS
    assert sorted(path.name for path in directory.iterdir()) == [
        "data",
        "genesis.json",
        "node.toml",
    ]
    summary = orjson.loads(good("log", "--dir", directory, "--json"))
    assert 1 < summary["first_height"] <= HEIGHTS
    assert "this node keeps the log from height" in wrong(
        2, "log", "--dir", directory, "--blocks", "--from", "1"
    )
    assert f"height={HEIGHTS}" in good("log", "--dir", directory, "--blocks")


def test_a_url_is_as_good_as_a_file(file: Path, node: Path) -> None:
    directory = node.parent / "new"
    directory.mkdir()
    (directory / "genesis.json").write_bytes((node / "genesis.json").read_bytes())
    with served(node.parent) as url:
        missing = wrong(2, "snapshot", "restore", f"{url}/nothing.bin", "--dir", directory)
        assert "cannot fetch" in missing
        assert "404" in missing
        restored = good("snapshot", "restore", f"{url}/snapshot.bin", "--dir", directory, "--json")
    assert orjson.loads(restored)["height"] == HEIGHTS == height_of(directory)


def test_an_old_one_is_refused_unless_it_is_wanted(file: Path, node: Path) -> None:
    directory = node.parent / "new"
    begin = "init", "--genesis", node / "genesis.json", "--dir", directory, "--snapshot", file
    assert "too old" in wrong(2, *begin, "--max-age", "0.000001")
    assert not (directory / "data").exists()
    good(*begin, "--max-age", "1")


def test_a_log_that_is_there_is_not_overwritten(file: Path, node: Path) -> None:
    assert "has a log already" in wrong(2, "snapshot", "restore", file, "--dir", node)
    assert height_of(node) == HEIGHTS


def test_what_a_cut_short_beginning_left_is_no_obstacle(file: Path, node: Path) -> None:
    directory = node.parent / "new"
    (directory / "data.part").mkdir(parents=True)
    (directory / "data.part" / "data.mdb").write_bytes(b"half of something")
    good("init", "--genesis", node / "genesis.json", "--dir", directory, "--snapshot", file)
    assert height_of(directory) == HEIGHTS


def test_beginning_with_the_l1_needs_an_l1_and_a_node(node: Path) -> None:
    begin = "init", "--genesis", node / "genesis.json", "--dir", node.parent / "new", "--from-l1"
    assert "--from-l1 needs --l1 and --node" in wrong(2, *begin)
    nobody = "http://127.0.0.1:1"
    said = wrong(2, *begin, "--l1", nobody, "--node", nobody)
    assert "try again, or name another L1 node" in said
    assert not (node.parent / "new" / "data").exists()


def test_without_a_log_there_is_nothing_to_make_one_of(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_text(genesis_with().dump())
    file = tmp_path / "snapshot.bin"
    assert "no log yet" in wrong(2, "snapshot", "create", file, "--dir", tmp_path)
    assert not file.exists()


@pytest.mark.parametrize(
    ("keep", "state", "sentence"),
    [
        ('"all"', "ok", "the whole log is kept"),
        ("500", "warning", "nothing is known to be final"),
    ],
)
def test_the_doctor_says_what_is_kept(node: Path, keep: str, state: str, sentence: str) -> None:
    directory = node.parent / "new"
    good("init", "--genesis", node / "genesis.json", "--dir", directory)
    toml = (directory / "node.toml").read_text()
    (directory / "node.toml").write_text(toml.replace('keep = "all"', f"keep = {keep}"))
    findings = orjson.loads(run("doctor", "--dir", directory, "--json").stdout)
    found = next(finding for finding in findings if finding["subject"] == "history")
    assert found["state"] == state
    assert sentence in found["sentence"]
