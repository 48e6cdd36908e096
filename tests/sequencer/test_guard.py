"""Keys that have signed do not start on data that does not know what."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensus.safety import EVERY_ROUND, SafetyRecord, Watermarks
from sequencer.config import ConfigError
from sequencer.guard import (
    SIGNED_FILE,
    Protection,
    export_protection,
    import_protection,
    imported,
    remember_signing,
    require_memory,
)
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import META_FIRST_RECORD, META_SAFETY, Table
from sequencer.store.seam import StoreFull, WriteBatch

CHAIN, OTHER = b"c" * 32, b"o" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path


def start(home: Path, store: MemoryStore, after_data_loss: bool = False) -> None:
    """Start a member, which gets ready to sign."""
    require_memory(home, CHAIN, store, after_data_loss)
    remember_signing(home, CHAIN)


def test_a_first_start_saves_an_empty_record_before_the_keys_remember(home: Path) -> None:
    store = MemoryStore(CHAIN)
    require_memory(home, CHAIN, store, False)
    assert record_in(store) == SafetyRecord.initial(CHAIN)
    assert not (home / "keys" / SIGNED_FILE).exists()
    remember_signing(home, CHAIN)
    assert (home / "keys" / SIGNED_FILE).read_text().split() == [CHAIN.hex()]


def test_a_restart_keeps_its_record(home: Path) -> None:
    store = MemoryStore(CHAIN)
    for _ in range(3):
        start(home, store)
    assert (home / "keys" / SIGNED_FILE).read_text().split() == [CHAIN.hex()]


def test_lost_data_is_refused_with_a_sentence(home: Path) -> None:
    start(home, MemoryStore(CHAIN))
    with pytest.raises(ConfigError, match=r"may vote twice.*--after-data-loss"):
        start(home, MemoryStore(CHAIN))


def test_an_operator_may_take_it_on_once(home: Path) -> None:
    start(home, MemoryStore(CHAIN))
    store = MemoryStore(CHAIN)
    start(home, store, True)
    start(home, store)


def test_who_only_followed_may_lose_its_data(home: Path) -> None:
    for _ in range(2):
        assert require_memory(home, CHAIN, MemoryStore(CHAIN), False) is None


def test_a_line_that_was_cut_off_hides_no_other(home: Path) -> None:
    noted = home / "keys" / SIGNED_FILE
    noted.write_text(OTHER.hex() + "\n" + CHAIN.hex()[:20])
    remember_signing(home, CHAIN)
    assert noted.read_text().splitlines() == [OTHER.hex(), CHAIN.hex()[:20], CHAIN.hex()]


def test_what_cannot_be_noted_is_a_sentence_and_leaves_what_was(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_signing(home, OTHER)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StoreFull, match=r"no room left on the disk for .*signed-for"):
        remember_signing(home, CHAIN)
    assert [path.name for path in (home / "keys").iterdir()] == [SIGNED_FILE]
    assert (home / "keys" / SIGNED_FILE).read_text() == OTHER.hex() + "\n"


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_another_chain_is_another_memory(home: Path) -> None:
    start(home, MemoryStore(CHAIN))
    require_memory(home, OTHER, MemoryStore(OTHER), False)
    remember_signing(home, OTHER)
    assert len((home / "keys" / SIGNED_FILE).read_text().split()) == 2


# ---------------------------------------------------------------- a member that moves

ME, SOMEBODY = b"i" * 32, b"j" * 32
SIGNED = Watermarks(2, voted=7, timeout=5, commit_vote=6, proposed=9)


def with_record(record: SafetyRecord) -> MemoryStore:
    store = MemoryStore(CHAIN)
    writes = WriteBatch()
    writes.put(Table.META, META_SAFETY, record.encode())
    store.save(writes)
    return store


def record_in(store: MemoryStore) -> SafetyRecord:
    saved = store.get(Table.META, META_SAFETY)
    assert saved is not None
    return SafetyRecord.decode(saved)


def test_what_a_record_signed_is_exported_and_read_back(tmp_path: Path, home: Path) -> None:
    record = replace(SafetyRecord.initial(CHAIN, 2), last_voted_round=7, highest_timeout_round=5)
    found = export_protection(home, CHAIN, ME, with_record(record))
    (tmp_path / "moved.json").write_text(found.dump())
    assert Protection.load(tmp_path / "moved.json") == found
    assert found == Protection(CHAIN, ME, Watermarks(2, voted=7, timeout=5))


def test_with_a_protection_a_member_starts_on_empty_data_and_signs_nothing_covered(
    home: Path,
) -> None:
    start(home, MemoryStore(CHAIN))
    import_protection(home, Protection(CHAIN, ME, SIGNED), ME)
    store = MemoryStore(CHAIN)
    assert require_memory(home, CHAIN, store, False) == SIGNED
    record = record_in(store)
    assert record.epoch == 0
    assert record.last_voted_round == record.highest_timeout_round == EVERY_ROUND
    later = SafetyRecord.initial(CHAIN, 2).raised(SIGNED)
    assert (later.last_voted_round, later.highest_timeout_round) == (9, 9)


def test_a_protection_raises_a_record_that_is_there_and_never_lowers_it(home: Path) -> None:
    store = with_record(
        replace(SafetyRecord.initial(CHAIN, 2), last_voted_round=3, highest_timeout_round=12)
    )
    import_protection(home, Protection(CHAIN, ME, SIGNED), ME)
    require_memory(home, CHAIN, store, False)
    record = record_in(store)
    assert (record.last_voted_round, record.highest_timeout_round) == (9, 12)


def test_a_second_import_never_lowers_the_first(home: Path) -> None:
    import_protection(home, Protection(CHAIN, ME, SIGNED), ME)
    for older in (Watermarks(1, 99, 99, 99, 99), Watermarks(2, 1, 6, 1, 1)):
        import_protection(home, Protection(CHAIN, ME, older), ME)
    assert imported(home, CHAIN) == replace(SIGNED, timeout=6)
    exported = export_protection(home, CHAIN, ME, with_record(SafetyRecord.initial(CHAIN)))
    assert exported.marks == replace(SIGNED, timeout=6)


def test_a_protection_of_another_member_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="is of identity"):
        import_protection(home, Protection(CHAIN, SOMEBODY, SIGNED), ME)
    assert imported(home, CHAIN) is None


def test_a_protection_of_another_chain_holds_nothing_back(home: Path) -> None:
    import_protection(home, Protection(OTHER, ME, SIGNED), ME)
    store = MemoryStore(CHAIN)
    assert require_memory(home, CHAIN, store, False) is None
    assert record_in(store) == SafetyRecord.initial(CHAIN)


def test_without_any_memory_there_is_nothing_to_export(home: Path) -> None:
    with pytest.raises(ConfigError, match="no record"):
        export_protection(home, CHAIN, ME, MemoryStore(CHAIN))


SPOILED: dict[str, Callable[[Any], object]] = {
    "another format": lambda v: v["metadata"].update(format="eip-3076"),
    "another version": lambda v: v["metadata"].update(version=2),
    "a short chain id": lambda v: v["metadata"].update(chain_id="00"),
    "two members": lambda v: v["data"].append(v["data"][0]),
    "no epochs": lambda v: v["data"][0].update(epochs=[]),
    "too many epochs": lambda v: v["data"][0].update(epochs=v["data"][0]["epochs"] * 4_097),
    "a round below zero": lambda v: v["data"][0]["epochs"][0].update(vote_round=-1),
    "a round beyond 64 bits": lambda v: v["data"][0]["epochs"][0].update(vote_round=1 << 64),
    "a round that is true": lambda v: v["data"][0]["epochs"][0].update(vote_round=True),
    "a field too few": lambda v: v["data"][0]["epochs"][0].pop("vote_round"),
    "no metadata": lambda v: v.pop("metadata"),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_protection_file_is_one_sentence(
    tmp_path: Path, spoil: Callable[[Any], object]
) -> None:
    value = json.loads(Protection(CHAIN, ME, SIGNED).dump())
    spoil(value)
    file = tmp_path / "moved.json"
    file.write_text(json.dumps(value))
    with pytest.raises(ConfigError, match="is no protection file"):
        Protection.load(file)


def test_no_json_is_no_protection_file(tmp_path: Path) -> None:
    (tmp_path / "moved.json").write_bytes(b"\xff{")
    with pytest.raises(ConfigError, match="is no protection file"):
        Protection.load(tmp_path / "moved.json")


def test_a_log_that_begins_above_the_genesis_has_a_first_record_of_its_own(home: Path) -> None:
    store, first = MemoryStore(CHAIN), replace(SafetyRecord.initial(CHAIN), epoch=3)
    writes = WriteBatch()
    writes.put(Table.META, META_FIRST_RECORD, first.encode())
    store.save(writes)
    require_memory(home, CHAIN, store, False)
    assert store.get(Table.META, META_SAFETY) == first.encode()


def test_a_snapshot_is_no_memory_of_what_was_signed(home: Path) -> None:
    start(home, MemoryStore(CHAIN))
    store = MemoryStore(CHAIN)
    writes = WriteBatch()
    writes.put(Table.META, META_FIRST_RECORD, SafetyRecord.initial(CHAIN).encode())
    store.save(writes)
    with pytest.raises(ConfigError, match="may vote twice"):
        require_memory(home, CHAIN, store, False)


def test_with_a_snapshot_comes_what_was_signed_before(home: Path) -> None:
    start(home, MemoryStore(CHAIN))
    marks = Watermarks(3, voted=77, timeout=5, commit_vote=6, proposed=4)
    import_protection(home, Protection(CHAIN, b"i" * 32, marks), b"i" * 32)
    store, first = MemoryStore(CHAIN), replace(SafetyRecord.initial(CHAIN), epoch=3)
    writes = WriteBatch()
    writes.put(Table.META, META_FIRST_RECORD, first.encode())
    store.save(writes)
    require_memory(home, CHAIN, store, False)
    saved = SafetyRecord.decode(store.get(Table.META, META_SAFETY) or b"")
    assert saved.last_voted_round == 77
    assert saved.high_qc == first.high_qc
