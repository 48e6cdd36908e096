"""Keys at rest: both standards, readable by others' software, every failure one sentence."""

import json
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.bls import KeySigner, verify_possession
from net.libp2p.identity import Identity
from sequencer.config import ConfigError
from sequencer.keys import (
    NodeKeys,
    create_keys,
    l1_address,
    load_keys,
    new_keys,
    open_keys,
    public_keys,
    read_keystore,
    show_keys,
)
from sequencer.keystore import KeystoreError, decrypt, encrypt_v3, encrypt_v4

SECRET = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")
PASSWORD = "pässword ½"
KEYS = NodeKeys(SECRET, b"\xff" * 32, b"\7" * 32)


# --- the standards --------------------------------------------------------------------------

EIP_2335_PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"
EIP_2335_SALT = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
SCRYPT = {"dklen": 32, "n": 262144, "p": 1, "r": 8, "salt": EIP_2335_SALT}
PBKDF2 = {"dklen": 32, "c": 262144, "prf": "hmac-sha256", "salt": EIP_2335_SALT}
EIP_2335: dict[str, tuple[dict[str, Any], str, str]] = {
    "scrypt": (
        SCRYPT,
        "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
        "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
    ),
    "pbkdf2": (
        PBKDF2,
        "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
        "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
    ),
}


def eip_2335(function: str) -> dict[str, Any]:
    params, checksum, message = EIP_2335[function]
    iv = {"iv": "264daa3f303d7259501c93d997d84fe6"}
    return {
        "crypto": {
            "kdf": {"function": function, "params": dict(params), "message": ""},
            "checksum": {"function": "sha256", "params": {}, "message": checksum},
            "cipher": {"function": "aes-128-ctr", "params": iv, "message": message},
        },
        "version": 4,
    }


@pytest.mark.parametrize("function", EIP_2335)
def test_the_vectors_of_eip_2335(function: str) -> None:
    assert decrypt(json.dumps(eip_2335(function)), EIP_2335_PASSWORD) == SECRET
    assert decrypt(json.dumps(eip_2335(function)), "testpassword🔑\x7f\x00") == SECRET


def test_others_read_what_is_written() -> None:
    signer = KeySigner(SECRET, bytes(32))
    version4 = json.loads(encrypt_v4(SECRET, "password", signer.bls_key, "votes", light=True))
    assert decode_keyfile_json(version4, b"password") == SECRET
    assert version4["pubkey"] == signer.bls_key.hex()
    version3 = encrypt_v3(SECRET, PASSWORD, l1_address(SECRET), light=True)
    assert decode_keyfile_json(json.loads(version3), PASSWORD.encode()) == SECRET
    assert bytes(Account.decrypt(version3, PASSWORD)) == SECRET


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_what_others_write_is_read(version: int, kdf: str) -> None:
    keystore = create_keyfile_json(
        SECRET,
        b"password",
        version=version,
        kdf=kdf,  # type: ignore[arg-type]
        iterations=2,
    )
    assert decrypt(json.dumps(keystore), "password") == SECRET


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.text(max_size=10).filter(str.isprintable))
def test_any_secret_comes_back_with_its_password_alone(secret: bytes, password: str) -> None:
    for keystore in (
        encrypt_v4(secret, password, b"", "", light=True),
        encrypt_v3(secret, password, bytes(20), light=True),
    ):
        assert decrypt(keystore, password) == secret
        with pytest.raises(KeystoreError, match="the password is wrong"):
            decrypt(keystore, password + "x")


def test_two_keystores_of_one_secret_share_nothing() -> None:
    first, second = (json.loads(encrypt_v4(SECRET, "x", b"", "", light=True)) for _ in range(2))
    for section in ("kdf", "cipher", "checksum"):
        assert first["crypto"][section] != second["crypto"][section]
    assert first["uuid"] != second["uuid"]


def changed(path: str, value: Any) -> str:
    keystore = eip_2335("scrypt")
    *parents, last = path.split(".")
    holder = keystore
    for parent in parents:
        holder = holder[parent]
    holder[last] = value
    return json.dumps(keystore)


@pytest.mark.parametrize(
    ("keystore", "sentence"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"version": 4}', "damaged"),
        ('{"version": 3, "crypto": {}}', "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"version": 1}', "has version 1"),
        (changed("crypto.kdf.function", "bcrypt"), "'bcrypt'"),
        (changed("crypto.kdf.params.n", 1 << 40), "out of bounds"),
        (changed("crypto.kdf.params.n", 3), "damaged"),
        (changed("crypto.kdf.params.r", 1 << 20), "out of bounds"),
        (changed("crypto.kdf.params.p", 0), "out of bounds"),
        (changed("crypto.kdf.params.dklen", 64), "derives 64 bytes"),
        (changed("crypto.kdf.params.salt", "zz"), "damaged"),
        (changed("crypto.kdf.params", None), "damaged"),
        (changed("crypto.cipher.function", "rot13"), "'rot13'"),
        (changed("crypto.cipher.message", ["00"]), "damaged"),
    ],
)
def test_a_spoilt_keystore_is_refused(keystore: str, sentence: str) -> None:
    with pytest.raises(KeystoreError, match=sentence):
        decrypt(keystore, EIP_2335_PASSWORD)


# --- a node's keys --------------------------------------------------------------------------


def test_created_keys_load_with_their_password(tmp_path: Path) -> None:
    public = create_keys(tmp_path, PASSWORD, light=True)
    keys = load_keys(tmp_path, PASSWORD)
    assert public == public_keys(keys)
    signer = KeySigner(keys.bls_secret, keys.identity_seed)
    assert public.bls_key == signer.bls_key.hex()
    assert public.identity == signer.identity.hex()
    assert public.peer_id == Identity.from_seed(keys.identity_seed).peer_id
    assert public.l1_address == Account.from_key(keys.l1_key).address
    assert verify_possession(signer.bls_key, bytes.fromhex(public.possession))


def test_the_standard_cost_is_not_light() -> None:
    standard, light = (
        json.loads(encrypt_v4(SECRET, PASSWORD, b"", "", light=light))["crypto"]["kdf"]["params"]
        for light in (False, True)
    )
    assert (standard["n"], light["n"]) == (1 << 17, 1 << 10)


def test_given_keys_are_imported(tmp_path: Path) -> None:
    create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
    assert load_keys(tmp_path, PASSWORD) == KEYS


def test_fresh_keys_differ() -> None:
    first, second = new_keys(), new_keys()
    assert len({first.bls_secret, second.bls_secret}) == 2
    assert len({first.identity_seed, second.identity_seed}) == 2
    assert len({first.l1_key, second.l1_key}) == 2


def test_public_parts_are_shown_without_a_password(tmp_path: Path) -> None:
    public = create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
    shown = show_keys(tmp_path)
    assert shown["identity"] == public.identity
    assert shown["bls_key"] == public.bls_key
    assert sorted(shown) == ["bls_key", "identity", "l1_address", "peer_id", "possession"]


def test_secrets_are_not_in_any_file_nor_in_a_repr(tmp_path: Path) -> None:
    create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
    text = "".join(file.read_text() for file in (tmp_path / "keys").iterdir()) + repr(KEYS)
    for secret in (KEYS.bls_secret, KEYS.identity_seed, KEYS.l1_key):
        assert secret.hex() not in text
        assert repr(secret) not in text


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
    place = tmp_path / "keys"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o600}
    assert sorted(file.name for file in place.iterdir()) == [
        "bls.json",
        "identity.json",
        "l1.json",
        "public.json",
    ]


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
    (tmp_path / "keys" / "bls.json").unlink()
    with pytest.raises(ConfigError, match=r"identity\.json exists and is not overwritten"):
        create_keys(tmp_path, PASSWORD, light=True)
    assert read_keystore(tmp_path / "keys" / "l1.json", PASSWORD) == KEYS.l1_key


@pytest.mark.parametrize("name", ["bls.json", "identity.json", "l1.json"])
def test_each_failure_is_a_sentence_that_names_the_file(tmp_path: Path, name: str) -> None:
    create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
    file = tmp_path / "keys" / name
    with pytest.raises(ConfigError, match=r"bls\.json cannot be opened: the password is wrong"):
        load_keys(tmp_path, "wrong")
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=f"{name} cannot be opened: it is damaged"):
        load_keys(tmp_path, PASSWORD)
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(ConfigError, match=f"{name} cannot be opened: it is damaged"):
        load_keys(tmp_path, PASSWORD)
    file.unlink()
    with pytest.raises(ConfigError, match=f"{name} is missing; make keys with: sequencer keys new"):
        load_keys(tmp_path, PASSWORD)
    file.mkdir()
    with pytest.raises(ConfigError, match=f"{name} cannot be read"):
        load_keys(tmp_path, PASSWORD)


@pytest.mark.parametrize("text", ["[]", None])
def test_a_node_that_starts_writes_its_public_parts_again(tmp_path: Path, text: str | None) -> None:
    public = create_keys(tmp_path, PASSWORD, light=True)
    file = tmp_path / "keys" / "public.json"
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert open_keys(tmp_path, PASSWORD) == load_keys(tmp_path, PASSWORD)
    assert show_keys(tmp_path) == asdict(public)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": 1}', "\x00"])
def test_damaged_public_parts_are_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"public\.json cannot be read: No such file"):
        show_keys(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "public.json").write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        show_keys(tmp_path)


@pytest.mark.parametrize(
    "keys",
    [
        NodeKeys(b"\xff" * 32, bytes(32), b"\7" * 32),
        NodeKeys(SECRET, bytes(31), b"\7" * 32),
        NodeKeys(SECRET, bytes(32), bytes(32)),
        NodeKeys(SECRET, bytes(32), b"\xff" * 32),
        NodeKeys(b"short", bytes(32), b"\7" * 32),
    ],
)
def test_secrets_out_of_range_are_a_sentence(tmp_path: Path, keys: NodeKeys) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        create_keys(tmp_path, PASSWORD, light=True, keys=keys)
    assert not (tmp_path / "keys").exists()


def test_a_directory_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(ConfigError, match=r"cannot be written"):
        create_keys(tmp_path, PASSWORD, light=True, keys=KEYS)
