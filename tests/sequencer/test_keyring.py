"""A node finds the key that its committee names, and a rotated one without a restart."""

import logging
import os
from pathlib import Path

import orjson
import pytest

from consensus.bls import KeySigner, new_bls_secret, verify_possession
from consensus.committee import Member
from sequencer.config import ConfigError
from sequencer.keyring import KeyRing, make_next_key, stored_key
from sequencer.keys import create_keys, load_keys, show_keys
from sequencer.store.seam import StoreFull
from tests.sequencer.commands import PASSWORD, cheap_keys  # noqa: F401
from tests.sequencer.test_guard import full_disk

CHAIN = b"c" * 32
NEXT = new_bls_secret(b"next" * 8)
NEXT_KEY = KeySigner(NEXT, bytes(32)).bls_key


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_keys(tmp_path, PASSWORD, light=True)
    return tmp_path


def ring(home: Path) -> KeyRing:
    return KeyRing(home, PASSWORD, load_keys(home, PASSWORD), CHAIN)


def named(keys: KeyRing, bls_key: bytes) -> Member:
    """This node as a committee with that key names it."""
    return Member(keys.identity, bls_key, 1)


def present(home: Path) -> bytes:
    return bytes.fromhex(show_keys(home)["bls_key"])


def test_the_present_key_signs(home: Path) -> None:
    keys = ring(home)
    signer = keys.signer_for(named(keys, present(home)))
    assert signer is not None
    assert signer.bls_key == present(home)
    assert not keys.settle(named(keys, present(home)))


def test_keys_that_are_handed_out_are_noted_as_used_for_the_chain(home: Path) -> None:
    keys, noted = ring(home), home / "keys" / "signed-for"
    assert keys.signer_for(named(keys, NEXT_KEY)) is None
    assert not noted.exists()
    for _ in range(2):
        keys.signer_for(named(keys, present(home)))
        ring(home).signer_for(named(keys, present(home)))
    assert noted.read_text().split() == [CHAIN.hex()]


def test_a_key_that_is_made_while_the_node_runs_is_found(home: Path) -> None:
    keys = ring(home)
    make_next_key(home, PASSWORD, NEXT)
    signer = keys.signer_for(named(keys, NEXT_KEY))
    assert signer is not None
    assert (signer.bls_key, signer.identity) == (NEXT_KEY, keys.identity)


def test_once_a_committee_holds_it_the_next_key_is_the_present_one(home: Path) -> None:
    keys, old = ring(home), present(home)
    make_next_key(home, PASSWORD, NEXT)
    assert keys.settle(named(keys, NEXT_KEY))
    assert not (home / "keys" / "bls-next.json").exists()
    assert present(home) == stored_key(home / "keys" / "bls.json") == NEXT_KEY
    assert verify_possession(NEXT_KEY, bytes.fromhex(show_keys(home)["possession"]))
    assert load_keys(home, PASSWORD).bls_secret == NEXT
    assert not keys.settle(named(keys, NEXT_KEY))
    [archived] = (home / "keys" / "archive").iterdir()
    assert stored_key(archived) == old
    assert archived.stat().st_mode & 0o077 == 0


def test_a_rotation_that_the_disk_has_no_room_for_is_a_sentence_and_is_tried_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring(home)
    make_next_key(home, PASSWORD, NEXT)
    keys.signer_for(named(keys, NEXT_KEY))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreFull, match=r"no room left on the disk for .*keys"):
            keys.settle(named(keys, NEXT_KEY))
    again = ring(home)
    assert again.settle(named(again, NEXT_KEY))
    assert present(home) == stored_key(home / "keys" / "bls.json") == NEXT_KEY
    assert not list((home / "keys").glob("*.part"))


def test_an_old_key_still_signs_for_what_an_earlier_committee_left(home: Path) -> None:
    old, keys = present(home), ring(home)
    make_next_key(home, PASSWORD, NEXT)
    keys.settle(named(keys, NEXT_KEY))
    again = ring(home)
    signer = again.signer_for(named(again, old))
    assert signer is not None
    assert signer.bls_key == old


def test_a_key_that_is_not_here_does_not_sign(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ring(home)
    with caplog.at_level(logging.ERROR):
        assert keys.signer_for(named(keys, NEXT_KEY)) is None
    assert NEXT_KEY.hex() in caplog.text
    assert PASSWORD not in caplog.text


def test_a_second_rotation_waits_for_the_first(home: Path) -> None:
    make_next_key(home, PASSWORD, NEXT)
    with pytest.raises(ConfigError, match="under way"):
        make_next_key(home, PASSWORD, NEXT)


def test_another_password_makes_no_next_key(home: Path) -> None:
    with pytest.raises(ConfigError, match="password is wrong"):
        make_next_key(home, "another", NEXT)
    assert not (home / "keys" / "bls-next.json").exists()


def test_a_damaged_keystore_is_no_key(home: Path) -> None:
    keys = ring(home)
    next_file = make_next_key(home, PASSWORD, NEXT)
    store = orjson.loads(next_file.read_bytes())
    store["crypto"]["cipher"]["message"] = "00" * 32
    next_file.write_bytes(orjson.dumps(store))
    assert keys.signer_for(named(keys, NEXT_KEY)) is None
    assert not keys.settle(named(keys, NEXT_KEY))
