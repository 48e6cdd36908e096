"""py-evm's key-value store on LMDB: a block and all it changes is one durable transaction."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
from eth.db.backends.base import BaseAtomicDB

MAP_BYTES = 8 << 30
"""Upper bound of the database; the file is sparse and grows with what is written."""


class DirectoryInUse(Exception):
    """Another embedded L1 holds the directory."""


class LmdbDatabase(BaseAtomicDB):
    """Bytes to bytes. Inside `transaction()` all writes become durable together, or none do.

    One process may hold a directory at a time. For one thread.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise DirectoryInUse(f"another embedded L1 is running in {directory}") from error
        self._environment = lmdb.open(str(directory / "chain"), map_size=MAP_BYTES)
        self._writing: Any = None

    @contextmanager
    def transaction(self) -> Iterator["LmdbDatabase"]:
        """Everything written inside is committed at the end, or dropped if an error leaves it."""
        if self._writing is not None:
            yield self
            return
        with self._environment.begin(write=True) as self._writing:
            try:
                yield self
            finally:
                self._writing = None

    def atomic_batch(self) -> Any:
        """py-evm's name for `transaction`."""
        return self.transaction()

    def __getitem__(self, key: bytes) -> bytes:
        value: bytes | None
        if self._writing is not None:
            value = self._writing.get(key)
        else:
            with self._environment.begin() as reading:
                value = reading.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        with self.transaction():
            self._writing.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        with self.transaction():
            if not self._writing.delete(key):
                raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    def close(self) -> None:
        """Release the files and the directory."""
        self._environment.close()
        os.close(self._lock)
