"""The store seam: ordered tables of bytes, and one way to change them.

`save` is atomic and durable when it returns: after a crash at any instant everything saved is
there and nothing of a batch that was not. Reads are synchronous and see what was saved. When a
save fails, nobody knows what a disk still remembers: the node says why, stops, and signs nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sequencer.store.schema import FORMAT_VERSION, META_CHAIN_ID, META_FORMAT, Table

MAX_KEY_BYTES = 64
DAMAGED_ROW = "is damaged on disk; keep it, and see 'The data is lost' in docs/operators.md"
"""What is said of a row that cannot be read."""


class StoreError(Exception):
    """The disk, or what is on it, failed us; the message is a sentence for the operator."""


class StoreFull(StoreError):
    """There is no room left for what had to be saved; nothing of it was."""


class WriteBatch:
    """Changes that belong together, in memory until `Store.save`.

    `changes` maps each table to its keys; the value None means deleted. The last change of a key
    wins.
    """

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: dict[Table, dict[bytes, bytes | None]] = {}

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Set a key (1 to `MAX_KEY_BYTES` bytes)."""
        self.changes.setdefault(table, {})[key] = value

    def put_many(self, table: Table, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many keys of one table."""
        self.changes.setdefault(table, {}).update(pairs)

    def delete(self, table: Table, key: bytes) -> None:
        """Remove a key; nothing happens if it is not there."""
        self.changes.setdefault(table, {})[key] = None

    def get(self, table: Table, key: bytes, beneath: "Store | None" = None) -> bytes | None:
        """What a read after the save would give, with `beneath` as the store that is saved to."""
        changed = self.changes.get(table)
        if changed is not None and key in changed:
            return changed[key]
        return beneath.get(table, key) if beneath is not None else None

    def clear(self) -> None:
        """Forget every change."""
        self.changes.clear()

    def __len__(self) -> int:
        """How many keys change."""
        return sum(len(changed) for changed in self.changes.values())


class Store(Protocol):
    """Ordered tables; one writer, any number of reading threads."""

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        ...

    def get_many(self, table: Table, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are there, with their values, from one instant."""
        ...

    def range(
        self, table: Table, start: bytes, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (key, value): from `start` upwards, or in reverse from `start` downwards.

        `start` itself is included. An empty `start` means the first key, in reverse the last.
        """
        ...

    def save(self, batch: WriteBatch) -> None:
        """Make every change of the batch durable, or none; `StoreFull`, `StoreError`."""
        ...

    def close(self) -> None:
        """Let go of the store; idempotent."""
        ...


def claim(store: Store, chain_id: bytes, where: str) -> None:
    """Mark an empty store as this chain's, or check that it is; `StoreError` with a sentence."""
    version, owner = store.get(Table.META, META_FORMAT), store.get(Table.META, META_CHAIN_ID)
    if version is None and owner is None:
        batch = WriteBatch()
        batch.put(Table.META, META_FORMAT, FORMAT_VERSION.to_bytes(4, "big"))
        batch.put(Table.META, META_CHAIN_ID, chain_id)
        store.save(batch)
        return
    found = int.from_bytes(version or b"", "big")
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{where} has format {found}, this version reads format {FORMAT_VERSION}; "
            "start with an empty data directory and the node will sync"
        )
    if owner != chain_id:
        raise StoreError(
            f"{where} belongs to chain {(owner or b'').hex()}, the genesis is of chain "
            f"{chain_id.hex()}; use the genesis it was made with, or an empty data directory"
        )
