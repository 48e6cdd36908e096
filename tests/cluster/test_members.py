"""A cluster whose committee changes while it runs, by the commands of `testnet`.  Slow, one."""

import json
from pathlib import Path

from tests.cluster.test_testnet import command, place, processes_in, told, until

__all__ = ["place"]

AFTERWARDS = [("left", None, None), *(("running", 2, seat) for seat in range(4))]


def do(place: Path, *arguments: str) -> str:
    result = command(*arguments, "--dir", str(place))
    assert result.exit_code == 0, told(result)
    return result.stdout


def seats(place: Path) -> list[tuple]:
    """State, epoch and seat of each node."""
    found = json.loads(do(place, "status", "--json"))["nodes"]
    return [(row["state"], row["epoch"], row["seat"]) for row in found]


def test_a_node_joins_and_a_founder_leaves(place: Path) -> None:
    do(place, "up", "--nodes", "4", "--l1", "embedded", "--links", "--detach")
    do(place, "load", "--rate", "40", "--duration", "1")
    joined = do(place, "join")
    assert "node-4: has keys and a directory" in joined
    assert "node-4: follower in epoch 0" in joined
    assert "node-4: member 4 of 5 in epoch 1" in joined
    do(place, "partition", "4", "0,1,2,3")
    do(place, "heal")
    do(place, "kill", "node-4")
    left = do(place, "leave", "node-0")
    assert "node-0: has claimed its founder's place" in left
    assert "node-0: is stopped" in left
    do(place, "restart", "node-4")
    until(lambda: seats(place) == AFTERWARDS)
    assert "40 on 4 nodes" in do(place, "load", "--rate", "40", "--duration", "1")

    do(place, "down")
    do(place, "up", "--detach")
    until(lambda: seats(place) == AFTERWARDS)
    do(place, "down")
    assert not processes_in(place)
