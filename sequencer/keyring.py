"""The BLS keys that a node can vote with: the present one, the next one, and those before.

`sequencer rotate` leaves the next key as `bls-next.json` beside `bls.json` while the node runs. The
node looks for whichever key a committee names when that committee begins, so the new one is found
without a restart. Once a committee holds it, it becomes `bls.json`, and the old keystore goes to
`archive/`, where batches of earlier epochs still find their key.
"""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from consensus.bls import KeySigner
from consensus.committee import Member
from sequencer.config import ConfigError, read_bounded
from sequencer.guard import beside_the_keys, remember_signing
from sequencer.keys import (
    BLS_FILE,
    KEYS_DIRECTORY,
    PUBLIC_FILE,
    NodeKeys,
    public_keys,
    read_keystore,
    write_private,
)
from sequencer.keystore import encrypt_v4
from sequencer.store.directory import sync_directory

NEXT_FILE: Final = "bls-next.json"
ARCHIVE: Final = "archive"
MAX_ARCHIVED: Final = 1_000
"""Old keystores that are looked through for a key."""

logger = logging.getLogger("sequencer")


class KeyRing:
    """Secrets by public key, each opened once; the password is kept for keys that come later.

    Keys that are handed out are noted as used for the chain (see `guard`).
    """

    def __init__(self, directory: Path, password: str, keys: NodeKeys, chain_id: bytes) -> None:
        self._directory = directory
        self._chain_id = chain_id
        self._is_noted = False
        self._password = password
        self._keys = keys
        present = KeySigner(keys.bls_secret, keys.identity_seed)
        self.identity = present.identity
        self._secrets = {present.bls_key: keys.bls_secret}

    @property
    def rotated(self) -> bool:
        """Whether these keys had another BLS key before."""
        return (self._directory / KEYS_DIRECTORY / ARCHIVE).exists()

    def signer_for(self, member: Member) -> KeySigner | None:
        """Who signs for a member with this node's identity; None if its BLS key is not here."""
        assert member.identity == self.identity
        secret = self._secrets.get(member.bls_key) or self._find(member.bls_key)
        if secret is None:
            return None
        self._secrets[member.bls_key] = secret
        if not self._is_noted:
            remember_signing(self._directory, self._chain_id)
            self._is_noted = True
        return KeySigner(secret, self._keys.identity_seed)

    def _find(self, bls_key: bytes) -> bytes | None:
        for path in keystore_paths(self._directory):
            if stored_key(path) != bls_key:
                continue
            try:
                return read_keystore(path, self._password)
            except ConfigError as error:
                logger.error("cannot vote with key %s: %s", bls_key.hex(), error)
        logger.error("the committee names BLS key %s for this node: not in keys", bls_key.hex())
        return None

    def settle(self, member: Member) -> bool:
        """A committee holds this node as `member`: if that is with the next key, it is the present
        one from now on, and the old one is archived. Whether that happened. `StoreError`.
        """
        place = self._directory / KEYS_DIRECTORY
        if stored_key(place / NEXT_FILE) != member.bls_key or self.signer_for(member) is None:
            return False
        secret = self._secrets[member.bls_key]
        public = public_keys(NodeKeys(secret, self._keys.identity_seed, self._keys.l1_key))
        with beside_the_keys(place):
            _archive(place / BLS_FILE)
            write_private(place / PUBLIC_FILE, json.dumps(asdict(public), indent=2) + "\n")
            os.replace(place / NEXT_FILE, place / BLS_FILE)  # last: until then it is tried again
            sync_directory(place)
        return True


def make_next_key(directory: Path, password: str, secret: bytes) -> Path:
    """Write a BLS secret (32 bytes) as the next key; `ConfigError` if there is one already."""
    place = directory / KEYS_DIRECTORY
    path = place / NEXT_FILE
    if path.exists():
        raise ConfigError(f"{path} exists: a rotation is under way")
    read_keystore(place / BLS_FILE, password)  # the same password, or the node cannot open it
    key = KeySigner(secret, bytes(32)).bls_key
    write_private(path, encrypt_v4(secret, password, key, "sequencer votes, next"))
    return path


def keystore_paths(directory: Path) -> list[Path]:
    """The BLS keystores of a node: present, next, then the old ones."""
    place = directory / KEYS_DIRECTORY
    archived = sorted((place / ARCHIVE).glob("bls-*.json"))[:MAX_ARCHIVED]
    return [path for path in (place / BLS_FILE, place / NEXT_FILE, *archived) if path.exists()]


def holds_key(directory: Path, bls_key: bytes) -> bool:
    """Whether a node has the keystore of a BLS key (48 bytes): present, next or old."""
    return any(stored_key(path) == bls_key for path in keystore_paths(directory))


def stored_key(path: Path) -> bytes | None:
    """The public key that a keystore names, 48 bytes; None without one."""
    try:
        return bytes.fromhex(orjson.loads(read_bounded(path))["pubkey"])
    except (ConfigError, ValueError, KeyError, TypeError):
        return None


def _archive(path: Path) -> None:
    """Keep an old keystore under a name of its own."""
    key = stored_key(path)
    kept = path.parent / ARCHIVE / f"bls-{key.hex()[:24] if key else 'unknown'}.json"
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    if not kept.exists():
        os.link(path, kept)
