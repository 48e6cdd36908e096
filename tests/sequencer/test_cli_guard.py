"""`sequencer keys guard`: a member's memory, from one machine to another."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from consensus.bls import new_bls_secret
from consensus.safety import EVERY_ROUND, SafetyRecord, Watermarks
from sequencer.config import ConfigError
from sequencer.guard import remember_signing, require_memory
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import META_SAFETY, Table
from sequencer.store.seam import WriteBatch
from tests.sequencer.commands import PASSWORD, cheap_keys, good, wrong  # noqa: F401
from tests.sequencer.ordering_node import genesis_of_one

CHAIN = genesis_of_one().chain_id


def member(directory: Path, seed: str = "07") -> Path:
    """The directory of the only member, or with another seed of somebody else, never started."""
    (directory.parent / "seed").write_text(seed * 32)
    (directory.parent / "bls").write_text(new_bls_secret(b"one" * 11).hex())
    (directory.parent / "genesis.json").write_text(genesis_of_one().dump())
    given = ("--bls", directory.parent / "bls", "--identity", directory.parent / "seed")
    good("init", "--genesis", directory.parent / "genesis.json", "--dir", directory)
    good("keys", "import", "--dir", directory, *given, SEQUENCER_PASSWORD=PASSWORD)
    return directory


def has_signed(directory: Path, **rounds: int) -> None:
    """Leave data behind whose record holds these rounds."""
    store = LmdbStore(directory / "data", CHAIN)
    require_memory(directory, CHAIN, store, False)
    remember_signing(directory, CHAIN)
    writes = WriteBatch()
    record = replace(SafetyRecord.initial(CHAIN), **rounds)  # type: ignore[arg-type]
    writes.put(Table.META, META_SAFETY, record.encode())
    store.save(writes)
    store.close()


def started(directory: Path) -> SafetyRecord:
    """The record that a node of this directory would start with."""
    store = LmdbStore(directory / "data", CHAIN)
    try:
        require_memory(directory, CHAIN, store, False)
        saved = store.get(Table.META, META_SAFETY)
    finally:
        store.close()
    assert saved is not None
    return SafetyRecord.decode(saved)


def test_a_member_moves_and_signs_nothing_that_it_signed(tmp_path: Path) -> None:
    old = member(tmp_path / "old")
    has_signed(old, last_voted_round=12, highest_timeout_round=11)
    text = good("keys", "guard", "export", tmp_path / "moved.json", "--dir", old)
    assert "signed up to round 12 of epoch 0" in text
    assert "never start" in text
    (old / "data").rename(tmp_path / "lost")
    with pytest.raises(ConfigError, match="guard import"):
        started(old)
    text = good("keys", "guard", "import", tmp_path / "moved.json", "--dir", old)
    assert "sign nothing up to round 12 of epoch 0" in text
    assert (started(old).last_voted_round, started(old).highest_timeout_round) == (12, 12)


def test_what_was_imported_can_be_taken_further(tmp_path: Path) -> None:
    home, later = member(tmp_path / "node"), Watermarks(3, voted=40)
    has_signed(home, last_voted_round=12)
    good("keys", "guard", "export", tmp_path / "a.json", "--dir", home)
    moved = orjson.loads((tmp_path / "a.json").read_bytes())
    moved["data"][0]["epochs"][0] |= {"epoch": later.epoch, "vote_round": later.voted}
    (tmp_path / "b.json").write_bytes(orjson.dumps(moved))
    answer = good("keys", "guard", "import", tmp_path / "b.json", "--dir", home, "--json")
    assert orjson.loads(answer)["voted"] == 40
    assert started(home).last_voted_round == EVERY_ROUND
    good("keys", "guard", "import", tmp_path / "a.json", "--dir", home)
    again = orjson.loads(
        good("keys", "guard", "export", tmp_path / "c.json", "--dir", home, "--json")
    )
    assert again["data"][0]["epochs"][0]["epoch"] == 3
    assert again["data"][0]["epochs"][0]["vote_round"] == 40


def test_a_running_node_is_not_exported(tmp_path: Path) -> None:
    home = member(tmp_path / "node")
    has_signed(home)
    store = LmdbStore(home / "data", CHAIN)
    reason = wrong(2, "keys", "guard", "export", tmp_path / "moved.json", "--dir", home)
    store.close()
    assert "in use" in reason
    assert not (tmp_path / "moved.json").exists()


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    home, other = member(tmp_path / "node"), member(tmp_path / "other", "08")
    has_signed(home)
    file = tmp_path / "moved.json"
    assert "no record" in wrong(2, "keys", "guard", "export", file, "--dir", other)
    good("keys", "guard", "export", file, "--dir", home)
    assert "exists" in wrong(2, "keys", "guard", "export", file, "--dir", home)
    assert "of identity" in wrong(2, "keys", "guard", "import", file, "--dir", other)
    moved = orjson.loads(file.read_bytes())
    moved["metadata"]["chain_id"] = "ab" * 32
    file.write_bytes(orjson.dumps(moved))
    assert "protects nothing" in wrong(2, "keys", "guard", "import", file, "--dir", home)
    file.write_text("{}")
    assert "no protection file" in wrong(2, "keys", "guard", "import", file, "--dir", home)
