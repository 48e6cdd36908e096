"""A node's three secrets in `DIR/keys`: BLS (votes), identity (network), L1 account (posting).

`bls.json` and `identity.json` are EIP-2335 keystores (the second of an Ed25519 seed), `l1.json` is
Web3 secret storage. `public.json` beside them holds what others may know, so that showing it needs
no password.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_bytes
from typing import Final

import orjson
from coincurve import PrivateKey
from eth_hash.auto import keccak

from consensus.bls import KeySigner, new_bls_secret
from net.libp2p.identity import peer_id_from_public_key
from sequencer.config import ConfigError, read_bounded
from sequencer.keystore import KeystoreError, decrypt, encrypt_v3, encrypt_v4
from sequencer.store.directory import sync_directory

KEYS_DIRECTORY: Final = "keys"
BLS_FILE: Final = "bls.json"
IDENTITY_FILE: Final = "identity.json"
L1_FILE: Final = "l1.json"
PUBLIC_FILE: Final = "public.json"


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The secrets, 32 bytes each: BLS scalar, Ed25519 seed, secp256k1 key."""

    bls_secret: bytes = field(repr=False)
    identity_seed: bytes = field(repr=False)
    l1_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What others may know, in hex without 0x but for the L1 address, which has its checksum.

    possession is the proof that goes into a genesis beside the BLS key.
    """

    identity: str
    peer_id: str
    bls_key: str
    possession: str
    l1_address: str


def new_keys() -> NodeKeys:
    """Three fresh secrets from the system's randomness."""
    return NodeKeys(new_bls_secret(token_bytes(32)), token_bytes(32), _new_l1_key())


def public_keys(keys: NodeKeys) -> PublicKeys:
    """What others may know of these secrets; `ConfigError` where one is out of range."""
    try:
        signer = KeySigner(keys.bls_secret, keys.identity_seed)
        possession = signer.prove_possession()
        address = l1_address(keys.l1_key)
    except ValueError as error:
        raise ConfigError(f"a secret is out of range: {error}") from None
    return PublicKeys(
        signer.identity.hex(),
        peer_id_from_public_key(signer.identity),
        signer.bls_key.hex(),
        possession.hex(),
        checksummed(address),
    )


def create_keys(
    directory: Path, password: str, light: bool = False, keys: NodeKeys | None = None
) -> PublicKeys:
    """Write fresh keys, or the ones given, into a node's directory; nothing is overwritten.

    `light` derives the key cheaply: only for throw-away testnets. `ConfigError`.
    """
    secrets = keys if keys is not None else new_keys()
    public = public_keys(secrets)
    place = directory / KEYS_DIRECTORY
    for name in (BLS_FILE, IDENTITY_FILE, L1_FILE):
        if (place / name).exists():
            raise ConfigError(f"{place / name} exists and is not overwritten; move it away first")
    identity, bls = bytes.fromhex(public.identity), bytes.fromhex(public.bls_key)
    address = bytes.fromhex(public.l1_address[2:])
    files = {
        BLS_FILE: encrypt_v4(secrets.bls_secret, password, bls, "sequencer votes", light),
        IDENTITY_FILE: encrypt_v4(
            secrets.identity_seed, password, identity, "sequencer identity (Ed25519 seed)", light
        ),
        L1_FILE: encrypt_v3(secrets.l1_key, password, address, light),
        PUBLIC_FILE: _dump(public),
    }
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in files.items():
            write_private(place / name, text)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written: {error.strerror}") from None
    return public


def load_keys(directory: Path, password: str) -> NodeKeys:
    """The secrets of a node's directory; `ConfigError` names the file and what is wrong."""
    place = directory / KEYS_DIRECTORY
    return NodeKeys(
        *(read_keystore(place / name, password) for name in (BLS_FILE, IDENTITY_FILE, L1_FILE))
    )


def open_keys(directory: Path, password: str) -> NodeKeys:
    """The same for a node that starts: what others may know is written again if it is damaged."""
    keys = load_keys(directory, password)
    try:
        show_keys(directory)
    except ConfigError:
        path = directory / KEYS_DIRECTORY / PUBLIC_FILE
        try:
            write_private(path, _dump(public_keys(keys)))
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return keys


def read_keystore(path: Path, password: str) -> bytes:
    """The 32-byte secret in one keystore file of either kind; `ConfigError`."""
    if not path.exists():
        raise ConfigError(f"{path} is missing; make keys with: sequencer keys new")
    try:
        return decrypt(read_bounded(path), password)
    except KeystoreError as error:
        raise ConfigError(f"{path} cannot be opened: {error}") from None


def show_keys(directory: Path) -> dict[str, str]:
    """The fields of `PublicKeys`, as they were written beside the secrets; `ConfigError`."""
    path = directory / KEYS_DIRECTORY / PUBLIC_FILE
    try:
        found = orjson.loads(read_bounded(path))
        return asdict(PublicKeys(**{str(key): str(value) for key, value in found.items()}))
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged; sequencer start writes it again") from None


def _dump(public: PublicKeys) -> str:
    return json.dumps(asdict(public), indent=2) + "\n"


def l1_address(key: bytes) -> bytes:
    """The 20-byte account of a secp256k1 key; ValueError where it is none."""
    point = PrivateKey(key).public_key.format(compressed=False)
    return bytes(keccak(point[1:])[12:])


def checksummed(address: bytes) -> str:
    """An address as EIP-55 writes it."""
    digits = address.hex()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit
        for digit, nibble in zip(digits, digest, strict=False)
    )


def _new_l1_key() -> bytes:
    return bytes(PrivateKey().secret)


def write_private(path: Path, text: str) -> None:
    """Readable by its owner alone, and whole or as it was; `OSError`."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.rename(path)
    sync_directory(path.parent)
