"""Every founder is replaced while clients submit: `testnet run --churn`.

The committee grows from 4 to 7 and shrinks to 5, one member takes a new key, and with every change
a node is killed while one epoch is handed over to the next, each time another kind of node.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from consensus.rules import Rules
from testnet.cluster import NodeProcess
from testnet.errors import TestnetError
from testnet.membership import (
    add_nodes,
    drain,
    look,
    register,
    rotate,
    take_leave,
    wait_follower,
    wait_member,
)
from testnet.run import Run

FOUNDERS: Final = 4
RULES: Final = Rules(batch_max_ms=8_000)
"""Fewer, larger batches: a handover on the L1 waits for all of its epoch."""
QUIET_S: Final = 2.0
"""Traffic between two changes."""
DOWN_S: Final = 3.0
HANDOVER_TIMEOUT_S: Final = 240.0
"""How long a crash waits for the next committee to be fixed; all batches go first."""
DIVERSION_S: Final = 0.5
"""For what clients had sent to a node before they were told to go elsewhere."""
POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """Who joins, leaves and takes another key at once, and who is killed meanwhile, by number."""

    joining: int = 0
    leaving: tuple[int, ...] = ()
    rotating: tuple[int, ...] = ()
    killed: int = 0


CHANGES: Final = (
    Change(joining=3, killed=2),  # 4 to 7; a founder that stays
    Change(joining=1, leaving=(0,), killed=7),  # the one that joins
    Change(joining=1, leaving=(1,), killed=1),  # the one that leaves
    Change(leaving=(2,), rotating=(4,), killed=4),  # to 6; the one with the new key
    Change(leaving=(3,), killed=5),  # to 5; one that stays
)


async def churn(it: Run) -> None:
    """Change the committee step by step, and wait for each step to be complete."""
    if len(it.testnet.specs) != FOUNDERS:
        raise TestnetError(f"--churn begins with {FOUNDERS} nodes")
    for change in CHANGES:
        await asyncio.sleep(QUIET_S)
        await _make(it, change)
        _say(it, await _describe(it))


def _say(it: Run, sentence: str) -> None:
    elapsed = asyncio.get_running_loop().time() - it.started
    it.progress.console.print(f"  {elapsed:6.1f} s  {sentence}", highlight=False, soft_wrap=True)


def _quietly(_: str) -> None:
    """What an operator's command tells is not told again."""


async def _make(it: Run, change: Change) -> None:
    testnet = it.testnet
    nodes = testnet.cluster.nodes
    leaving = [nodes[number] for number in change.leaving]
    rotating = [nodes[number] for number in change.rotating]
    joining = await _add(it, change.joining) if change.joining else []
    _announce(it, {"join": joining, "leave": leaving, "take new keys": rotating})
    work: list[Coroutine[Any, Any, None]] = [
        *(_join(it, node) for node in joining),
        *(leave_one(it, node) for node in leaving),
        *(rotate_one(it, node) for node in rotating),
        _crash(it, nodes[change.killed]),
    ]
    async with asyncio.TaskGroup() as group:
        for item in work:
            group.create_task(item)


def _announce(it: Run, verbs: dict[str, list[NodeProcess]]) -> None:
    said = [
        f"{', '.join(node.spec.name for node in nodes)} {verb if len(nodes) > 1 else verb + 's'}"
        for verb, nodes in verbs.items()
        if nodes
    ]
    _say(it, "; ".join(said).replace("take new keyss", "takes a new key"))


async def _add(it: Run, count: int) -> list[NodeProcess]:
    nodes = await add_nodes(it.testnet, count, _quietly)
    for node in nodes:
        it.watch(it.testnet.cluster.nodes.index(node))
    return nodes


async def join_one(it: Run) -> None:
    """A new node becomes a member, and its log is watched."""
    (node,) = await _add(it, 1)
    await _join(it, node)


async def _join(it: Run, node: NodeProcess) -> None:
    await register(it.testnet, node, _quietly)
    await wait_member(it.testnet, node, _quietly)


async def leave_one(it: Run, node: NodeProcess) -> None:
    """A member leaves; clients go elsewhere before its node is stopped."""
    while not node.is_running:  # noqa: ASYNC110 - a crash that is mended soon
        await asyncio.sleep(POLL_S)
    await take_leave(it.testnet, node, _quietly)
    await wait_follower(it.testnet, node, _quietly)
    it.traffic.away.add(it.testnet.cluster.nodes.index(node))
    await asyncio.sleep(DIVERSION_S)
    await drain(it.testnet, node)
    await node.stop()
    it.testnet.retire(node)


async def rotate_one(it: Run, node: NodeProcess) -> None:
    """A member takes another key."""
    await rotate(it.testnet, node.spec.name, _quietly)


async def _crash(it: Run, victim: NodeProcess) -> None:
    """SIGKILL a node as soon as the members of the next epoch are fixed, and restart it."""
    epoch = await _until_fixed(it)
    number = it.testnet.cluster.nodes.index(victim)
    it.killed.append(number)
    victim.kill()
    _say(it, f"{victim.spec.name} is killed: the members of epoch {epoch} have just been fixed")
    await asyncio.sleep(DOWN_S)
    victim.start()


async def _until_fixed(it: Run) -> int:
    """The next epoch, as soon as a node has seen that its members are fixed."""
    try:
        async with asyncio.timeout(HANDOVER_TIMEOUT_S):
            while True:
                for spec, client in zip(it.testnet.specs, it.testnet.clients, strict=True):
                    standing = await look(client) if spec in it.running else None
                    if standing is not None and standing.pending_epoch > standing.epoch:
                        return standing.pending_epoch
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise TestnetError(
            f"the members of the next epoch were not fixed within {HANDOVER_TIMEOUT_S:g} s"
        ) from None


async def _describe(it: Run) -> str:
    """The newest epoch that a node is in."""
    standings = {
        spec.name: found
        for spec, client in zip(it.testnet.specs, it.testnet.clients, strict=True)
        if spec in it.running and (found := await look(client)) is not None
    }
    epoch = max(standing.epoch for standing in standings.values())
    seats = sorted(
        (standing.index, name)
        for name, standing in standings.items()
        if standing.epoch == epoch and standing.index is not None
    )
    members = ", ".join(name for _, name in seats)
    return f"epoch {epoch}: {members}; {len(it.traffic.accepted)} transactions accepted"
