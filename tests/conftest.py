"""How the processes that share the suite divide it."""

from typing import Any

from xdist.scheduler import LoadScopeScheduling

CLUSTER = "tests/cluster/"


class OneClusterAtATime(LoadScopeScheduling):
    """Every test goes to whoever is free, but all of `tests/cluster` to the same process.

    A cluster's own processes are busy enough, and have deadlines; and the tests of a module share
    one cluster, each where the test before has left it.
    """

    def _split_scope(self, nodeid: str) -> str:
        return CLUSTER if nodeid.startswith(CLUSTER) else nodeid


def pytest_xdist_make_scheduler(config: Any, log: Any) -> OneClusterAtATime:
    """A hook of pytest-xdist, called when there are several processes."""
    return OneClusterAtATime(config, log)
