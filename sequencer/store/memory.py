"""A store in memory, for simulations and tests, that can fail in the ways a disk does."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from enum import Enum, auto

from sequencer.store.schema import Table
from sequencer.store.seam import MAX_KEY_BYTES, Store, StoreError, StoreFull, WriteBatch, claim


class TornSave(Enum):
    """What a save leaves behind that fails in the middle: all of its batch or nothing."""

    LOST = auto()
    KEPT = auto()


class _Disk:
    """What survives a crash."""

    def __init__(self) -> None:
        self.tables: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}
        self.ordered: dict[Table, list[bytes] | None] = {table: [] for table in Table}
        self.bytes = 0

    def keys(self, table: Table) -> list[bytes]:
        """All keys in order; sorted again only after keys came or went."""
        ordered = self.ordered[table]
        if ordered is None:
            ordered = self.ordered[table] = sorted(self.tables[table])
        return ordered

    def write(self, batch: WriteBatch) -> None:
        for table, changes in batch.changes.items():
            held = self.tables[table]
            for key, value in changes.items():
                assert 1 <= len(key) <= MAX_KEY_BYTES, "keys have a length every store can take"
                before = held.get(key)
                if before is not None:
                    self.bytes -= len(key) + len(before)
                if value is None:
                    held.pop(key, None)
                else:
                    held[key] = value
                    self.bytes += len(key) + len(value)
                if (before is None) != (value is None):
                    self.ordered[table] = None


class MemoryStore(Store):
    """The seam's semantics without a disk; `capacity_bytes` bounds keys and values together."""

    def __init__(self, chain_id: bytes, capacity_bytes: int | None = None) -> None:
        self._disk = _Disk()
        self._capacity_bytes = capacity_bytes
        self._torn: TornSave | None = None
        self._open = True
        self.saves = 0
        claim(self, chain_id, "the store")

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        return self._tables(table).get(key)

    def get_many(self, table: Table, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are there, with their values."""
        held = self._tables(table)
        return {key: held[key] for key in keys if key in held}

    def range(
        self, table: Table, start: bytes, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (key, value) from `start` on, upwards or in reverse."""
        held, keys = self._tables(table), self._disk.keys(table)
        if reverse:
            end = bisect_right(keys, start) if start else len(keys)
            chosen = keys[max(0, end - limit) : end][::-1]
        else:
            first = bisect_left(keys, start)
            chosen = keys[first : first + limit]
        return [(key, held[key]) for key in chosen]

    def save(self, batch: WriteBatch) -> None:
        """Every change, or none; fails as `fail_next_save` asked."""
        self._tables(Table.META)
        torn, self._torn = self._torn, None
        if torn is TornSave.LOST:
            raise StoreError("the disk failed during a save")
        self._check_room(batch)
        self._disk.write(batch)
        self.saves += 1
        if torn is TornSave.KEPT:
            raise StoreError("the disk failed during a save")

    def close(self) -> None:
        """Let go of the store; what was saved can be read through `crash`."""
        self._open = False

    def fail_next_save(self, torn: TornSave) -> None:
        """The next save raises; its batch is wholly lost or wholly kept."""
        self._torn = torn

    def fill(self) -> None:
        """From now on nothing more fits."""
        self._capacity_bytes = self._disk.bytes

    def make_room(self) -> None:
        """From now on everything fits again."""
        self._capacity_bytes = None

    def crash(self) -> "MemoryStore":
        """A store with exactly what was saved; this one is dead from now on."""
        self.close()
        revived = object.__new__(MemoryStore)
        revived._disk = self._disk
        revived._capacity_bytes = self._capacity_bytes
        revived._torn = None
        revived._open = True
        revived.saves = self.saves
        return revived

    def _tables(self, table: Table) -> dict[bytes, bytes]:
        if not self._open:
            raise StoreError("the store is closed")
        return self._disk.tables[table]

    def _check_room(self, batch: WriteBatch) -> None:
        if self._capacity_bytes is None:
            return
        growth = sum(
            len(key) + len(value)
            for changes in batch.changes.values()
            for key, value in changes.items()
            if value is not None
        )
        if growth and self._disk.bytes + growth > self._capacity_bytes:
            raise StoreFull(f"the store is full at {self._capacity_bytes} bytes")
