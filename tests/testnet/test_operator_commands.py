"""The `sequencer` commands that look at a node: what they refuse, what is empty."""

from pathlib import Path

import pytest

from sequencer.store.lmdb import LmdbStore
from tests.sequencer.commands import good, run
from tests.sequencer.ordering_node import genesis_of_one


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The directory of a node that has ordered nothing yet."""
    genesis = genesis_of_one()
    (tmp_path / "genesis.json").write_text(genesis.dump())
    LmdbStore(tmp_path / "data", genesis.chain_id).close()
    return tmp_path


@pytest.mark.parametrize("what", ["blocks", "transactions", "batches", "evidence"])
def test_an_empty_list_says_so(stored, what):
    assert good("log", "--dir", stored, f"--{what}") == f"no {what}\n"
    assert good("log", "--dir", stored, f"--{what}", "--json") == "[]\n"


def test_two_lists_at_once_are_refused(stored):
    for also in (["--blocks"], ["--export", stored / "log.bin"]):
        result = run("log", "--dir", stored, "--evidence", *also)
        assert result.exit_code == 2
        assert "one list at a time, or --export" in result.stderr


@pytest.mark.parametrize("url", ["foo", "127.0.0.1:8545", "http://", "http://a:b", "ftp://a"])
def test_what_is_no_url_is_named(url):
    first = "http://127.0.0.1:1"
    for result in (run("status", "--url", first, "--url", url), run("why", SEQUENCER_URL=url)):
        assert result.exit_code == 2
        assert f"{url!r} is no URL like http://127.0.0.1:8545" in result.stderr
