"""Keys that have signed do not start on data that does not know what."""

from pathlib import Path

import pytest

from consensus.safety import SafetyRecord
from sequencer.config import ConfigError
from sequencer.guard import SIGNED_FILE, require_memory
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import META_SAFETY, Table

CHAIN, OTHER = b"c" * 32, b"o" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path


def test_a_first_start_saves_an_empty_record_before_the_keys_remember(home: Path) -> None:
    store = MemoryStore(CHAIN)
    require_memory(home, CHAIN, store, False)
    saved = store.get(Table.META, META_SAFETY)
    assert saved is not None
    assert SafetyRecord.decode(saved) == SafetyRecord.initial(CHAIN)
    assert (home / "keys" / SIGNED_FILE).read_text().split() == [CHAIN.hex()]


def test_a_restart_keeps_its_record(home: Path) -> None:
    store = MemoryStore(CHAIN)
    for _ in range(3):
        require_memory(home, CHAIN, store, False)
    assert (home / "keys" / SIGNED_FILE).read_text().split() == [CHAIN.hex()]


def test_lost_data_is_refused_with_a_sentence(home: Path) -> None:
    require_memory(home, CHAIN, MemoryStore(CHAIN), False)
    with pytest.raises(ConfigError, match=r"may vote twice.*--after-data-loss"):
        require_memory(home, CHAIN, MemoryStore(CHAIN), False)


def test_an_operator_may_take_it_on_once(home: Path) -> None:
    require_memory(home, CHAIN, MemoryStore(CHAIN), False)
    store = MemoryStore(CHAIN)
    require_memory(home, CHAIN, store, True)
    require_memory(home, CHAIN, store, False)


def test_another_chain_is_another_memory(home: Path) -> None:
    require_memory(home, CHAIN, MemoryStore(CHAIN), False)
    require_memory(home, OTHER, MemoryStore(OTHER), False)
    assert len((home / "keys" / SIGNED_FILE).read_text().split()) == 2
