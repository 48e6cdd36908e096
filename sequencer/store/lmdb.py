"""The store on disk: LMDB with full sync, one process at a time.

A save is one write transaction: the commit writes the changed pages, syncs them, writes the new
root and syncs that, so it is durable when it returns and a crash at any instant leaves the root
before or the root after. Keys are put in sorted order, which visits every page once.
"""

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from sequencer.store.directory import sync_directory
from sequencer.store.schema import Table
from sequencer.store.seam import Store, StoreError, StoreFull, WriteBatch, claim

MAP_SIZE_BYTES: Final = 256 << 30
"""Address space, not disk: the file grows as it is written."""

SLACK_PAGES: Final = 256
"""LMDB may count pages at the end of its file that a transaction took, gave back, never wrote."""

LEAST_FREE_BYTES: Final = 64 << 20
"""Below this a write that was cut short was cut by the full disk."""

LOCK_FILE: Final = "in-use"
DATA_FILE: Final = "data.mdb"
READERS_FILE: Final = "lock.mdb"
READERS_BYTES: Final = 8_192
"""What LMDB makes of it for its 126 readers."""
ADVICE: Final = "keep it, and see 'The data is lost' in docs/operators.md"
"""To whose data is damaged: it may hold the only record of what a member signed."""
_DAMAGED: Final = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.VersionMismatchError,
    lmdb.PageNotFoundError,
    lmdb.BadTxnError,  # what follows in a transaction that has met a damaged page
)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")


class LmdbStore(Store):
    """The store in `directory`, made if it is not there; `StoreError` says what is wrong with it.

    `read_only` is for looking at the store of a node that may be running: `save` then raises.
    """

    def __init__(
        self,
        directory: Path,
        chain_id: bytes,
        map_size_bytes: int = MAP_SIZE_BYTES,
        read_only: bool = False,
    ) -> None:
        self._directory = directory
        self._read_only = read_only
        self._env: Any = None
        self._lock = None if read_only else _take_lock(directory)
        try:
            self._env = self._guard(lambda: self._open(map_size_bytes))
            self._guard(self._check_length)
            self._tables = self._guard(self._open_tables)
            claim(self, chain_id, str(directory))
        except BaseException:
            self.close()
            raise

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        try:
            with self._begin(db=self._tables[table]) as transaction:
                found: bytes | None = transaction.get(key)
        except lmdb.Error as error:
            raise self._broken(error) from error
        return found

    def get_many(self, table: Table, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are there, with their values, from one instant."""

        def read() -> dict[bytes, bytes]:
            with self._begin(db=self._tables[table]) as transaction:
                return dict(transaction.cursor().getmulti(keys))

        return self._guard(read)

    def range(
        self, table: Table, start: bytes, limit: int, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (key, value) from `start` on, upwards or in reverse."""

        def read() -> list[tuple[bytes, bytes]]:
            with self._begin(db=self._tables[table]) as transaction:
                cursor = transaction.cursor()
                if not _position(cursor, start, reverse):
                    return []
                items = cursor.iterprev() if reverse else cursor.iternext()
                return [item for item, _ in zip(items, range(limit), strict=False)]

        return self._guard(read)

    def save(self, batch: WriteBatch) -> None:
        """Every change of the batch, synced to the disk, or none of it."""
        self._guard(lambda: self._write(batch))

    def close(self) -> None:
        """Let go of the files; idempotent."""
        env, self._env = self._env, None
        if env is not None:
            env.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _open(self, map_size_bytes: int) -> Any:
        if not self._read_only or (self._directory / DATA_FILE).exists():
            _reserve(self._directory / READERS_FILE, READERS_BYTES)
        env = lmdb.open(
            str(self._directory),
            map_size=map_size_bytes,
            max_dbs=len(Table),
            readonly=self._read_only,
            create=not self._read_only,
            metasync=True,
            sync=True,
        )
        if not self._read_only:
            sync_directory(self._directory)
        return env

    def _check_length(self) -> None:
        """Reading beyond the end of a cut file would kill the process, so look first."""
        pages = self._env.info()["last_pgno"] + 1 - SLACK_PAGES
        have = (self._directory / DATA_FILE).stat().st_size
        if have < pages * self._env.stat()["psize"]:
            raise StoreError(
                f"{self._directory} is damaged: its file was cut to {have} bytes; {ADVICE}"
            )

    def _open_tables(self) -> dict[Table, Any]:
        create = not self._read_only
        return {table: self._env.open_db(table.value, create=create) for table in Table}

    def _write(self, batch: WriteBatch) -> None:
        with self._begin(write=True) as transaction:
            for table, changes in batch.changes.items():
                cursor = transaction.cursor(self._tables[table])
                kept = sorted(item for item in changes.items() if item[1] is not None)
                cursor.putmulti(kept)
                if len(kept) != len(changes):
                    for key, value in changes.items():
                        if value is None and cursor.set_key(key):
                            cursor.delete()

    def _begin(self, **options: Any) -> Any:
        if self._env is None:
            raise StoreError(f"{self._directory} is closed")
        return self._env.begin(**options)

    def _guard(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except (lmdb.Error, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> StoreError:
        """The sentence for what LMDB or the system said."""
        where = self._directory
        if isinstance(error, lmdb.MapFullError):
            return StoreFull(f"{where} has reached its map size; start with a larger one")
        if _is_full(where, str(error)):
            return StoreFull(f"no room left on the disk of {where}; make room and start again")
        if isinstance(error, _DAMAGED):
            return StoreError(f"{where} is damaged ({error}); {ADVICE}")
        return StoreError(f"{where} failed: {error}")


def _is_full(directory: Path, message: str) -> bool:
    """Whether the disk is the reason; LMDB calls a write that was cut short an I/O error."""
    if any(os.strerror(number) in message for number in _FULL):
        return True
    if os.strerror(errno.EIO) not in message:
        return False
    state = os.statvfs(directory)
    free = state.f_bavail * state.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit - (directory / DATA_FILE).stat().st_size)
    return free < LEAST_FREE_BYTES


def _take_lock(directory: Path) -> int:
    """An open file that nobody else holds; the system lets go of it when the process ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{directory} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{directory} is in use by another process") from error
    return descriptor


def _reserve(path: Path, size: int) -> None:
    """LMDB writes its table of readers through memory, where a full disk kills the process."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.EROFS:
            return  # who reads there needs no table
        raise
    try:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _position(cursor: Any, start: bytes, reverse: bool) -> bool:
    """Stand on the first key of a range; False if it is empty."""
    if not start:
        return bool(cursor.last() if reverse else cursor.first())
    if not cursor.set_range(start):
        return bool(reverse and cursor.last())
    if reverse and cursor.key() != start:
        return bool(cursor.prev())
    return True
