"""One cluster at a time, and all tests of a module on the same one."""

import fcntl
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """Fails if another of the processes that share the suite runs tests of this folder."""
    shared = tmp_path_factory.getbasetemp().parent
    path = shared / "clusters" if worker_id != "master" else tmp_path_factory.mktemp("clusters")
    path.mkdir(exist_ok=True)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
