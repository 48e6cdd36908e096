"""A member that forgot what it signed may sign the opposite: a guard against starting like that.

The data directory holds the safety record. The keys directory remembers for which chains these keys
have a record somewhere; when there is none in the data that a node is started with, it refuses.

A member that moves to another machine takes its memory along as a *protection file*, in the spirit
of EIP-3076: chain, identity, and for an epoch the highest rounds that were signed for. Imported, it
lies beside the keys; nothing that it covers is ever signed again, whatever data the node has.

    {"metadata": {"format": "sequencer-protection", "version": 1, "chain_id": "<hex>"},
     "data": [{"identity": "<hex>", "epochs": [{"epoch": 0, "vote_round": 7, "timeout_round": 5,
                                                "commit_vote_round": 6, "proposal_round": 4}]}]}
"""

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from consensus.safety import SafetyRecord, Watermarks
from sequencer.config import ConfigError, read_bounded
from sequencer.history import first_record
from sequencer.keys import KEYS_DIRECTORY, write_private
from sequencer.store.schema import META_SAFETY, Table
from sequencer.store.seam import Store, StoreError, StoreFull, WriteBatch

SIGNED_FILE = "signed-for"
FORMAT: Final = "sequencer-protection"
VERSION: Final = 1
MAX_EPOCHS: Final = 4_096
"""Epochs in one protection file; only the newest one matters, it covers all before."""

_FIELDS: Final = {
    "epoch": "epoch",
    "vote_round": "voted",
    "timeout_round": "timeout",
    "commit_vote_round": "commit_vote",
    "proposal_round": "proposed",
}
"""Names in the file and in `Watermarks`."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What an identity (32 bytes) must not sign again on a chain (32 bytes)."""

    chain_id: bytes
    identity: bytes
    marks: Watermarks

    def dump(self) -> str:
        """The JSON of a protection file."""
        epoch = {name: getattr(self.marks, field) for name, field in _FIELDS.items()}
        value = {
            "metadata": {"format": FORMAT, "version": VERSION, "chain_id": self.chain_id.hex()},
            "data": [{"identity": self.identity.hex(), "epochs": [epoch]}],
        }
        return json.dumps(value, indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> "Protection":
        """What a protection file says; `ConfigError` with a sentence."""
        try:
            return cls._parse(orjson.loads(read_bounded(path)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"{path} is no protection file; make one: sequencer keys guard export"
            ) from None

    @classmethod
    def _parse(cls, value: Any) -> "Protection":
        metadata, [member] = value["metadata"], value["data"]
        if metadata["format"] != FORMAT or metadata["version"] != VERSION:
            raise ValueError("another format")
        chain_id, identity = _hash(metadata["chain_id"]), _hash(member["identity"])
        return cls(chain_id, identity, _newest(member["epochs"]))


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if len(value) != 32:
        raise ValueError("not 32 bytes")
    return value


def _newest(epochs: Sequence[dict[str, int]]) -> Watermarks:
    """What covers all of the epochs."""
    if not isinstance(epochs, list) or not 1 <= len(epochs) <= MAX_EPOCHS:
        raise ValueError("no epochs, or too many")
    merged = Watermarks(0)
    for epoch in epochs:
        if epoch.keys() != _FIELDS.keys():
            raise ValueError("an epoch has other fields")
        if any(type(number) is not int or number >> 64 for number in epoch.values()):
            raise ValueError("a number has more than 64 bits")
        merged = merged.merged(Watermarks(**{_FIELDS[name]: epoch[name] for name in epoch}))
    return merged


def protection_path(directory: Path, chain_id: bytes) -> Path:
    """Where an imported protection lies in a node's directory."""
    return directory / KEYS_DIRECTORY / f"protection-{chain_id.hex()[:16]}.json"


def imported(directory: Path, chain_id: bytes) -> Watermarks | None:
    """What was imported for a chain; None if nothing ever was. `ConfigError`."""
    path = protection_path(directory, chain_id)
    if not path.exists():
        return None
    protection = Protection.load(path)
    if protection.chain_id != chain_id:
        raise ConfigError(f"{path} is of another chain; move it away")
    return protection.marks


def export_protection(
    directory: Path, chain_id: bytes, identity: bytes, store: Store | None
) -> Protection:
    """What this member must not sign again, from its data and what was imported; `ConfigError`."""
    marks = imported(directory, chain_id)
    saved = store.get(Table.META, META_SAFETY) if store is not None else None
    if saved is not None:
        recorded = Watermarks.of(SafetyRecord.decode(saved))
        marks = recorded if marks is None else marks.merged(recorded)
    if marks is None:
        raise ConfigError(f"{directory} holds no record of what its keys signed")
    return Protection(chain_id, identity, marks)


def import_protection(directory: Path, given: Protection, identity: bytes) -> Watermarks:
    """Put a protection beside the keys of its member, never lowering one that is there.

    The watermarks that hold now. `ConfigError` if it is another member's.
    """
    if given.identity != identity:
        raise ConfigError(
            f"the protection file is of identity {given.identity.hex()}, the keys in {directory} "
            f"are of {identity.hex()}"
        )
    before = imported(directory, given.chain_id)
    marks = given.marks if before is None else given.marks.merged(before)
    merged = Protection(given.chain_id, identity, marks)
    write_private(protection_path(directory, given.chain_id), merged.dump())
    return marks


def require_memory(
    directory: Path, chain_id: bytes, store: Store, after_data_loss: bool
) -> Watermarks | None:
    """Refuse to start keys that have signed for this chain on data that does not know what.

    A first start saves an empty record before the keys are used and remember it, so a crash in
    between is harmless. Returns what was imported and holds in this epoch and every later one.
    `ConfigError` with what to do.
    """
    saved = store.get(Table.META, META_SAFETY)
    marks = imported(directory, chain_id)
    forgotten = saved is None and marks is None
    if forgotten and chain_id.hex() in _signed_for(directory) and not after_data_loss:
        raise ConfigError(
            f"these keys have signed for this chain, but {directory / 'data'} does not know what: "
            "a member that forgot its votes may vote twice, which counts as lying. Restore the "
            "data; or import a protection file (sequencer keys guard import); or, if both are "
            "lost, wait until the other members have committed new blocks and start once with "
            "--after-data-loss"
        )
    record = SafetyRecord.decode(saved) if saved else first_record(store, chain_id)
    raised = record.raised(marks) if marks is not None else record
    if saved is None or raised != record:
        writes = WriteBatch()
        writes.put(Table.META, META_SAFETY, raised.encode())
        store.save(writes)
    return marks


def remember_signing(directory: Path, chain_id: bytes) -> None:
    """Note beside the keys that they sign for this chain; before they do, for the first time.

    The keys of a node that only ever follows remember nothing: it may lose its data.
    `StoreError` where it cannot be noted.
    """
    noted = _signed_for(directory)
    if chain_id.hex() in noted:
        return
    path = directory / KEYS_DIRECTORY / SIGNED_FILE
    with beside_the_keys(path):
        write_private(path, "".join(f"{each}\n" for each in (*noted, chain_id.hex())))


@contextmanager
def beside_the_keys(path: Path) -> Iterator[None]:
    """What a node writes to go on: `StoreFull` or `StoreError` with a sentence if it cannot."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"no room left on the disk for {path}; make room and start again"
            ) from error
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def _signed_for(directory: Path) -> list[str]:
    file = directory / KEYS_DIRECTORY / SIGNED_FILE
    return file.read_text(errors="replace").split() if file.exists() else []
