"""Faults drawn from a seed, on real processes: `testnet run` in bad weather.

The schedule is the seed's; what becomes of it is the machine's.  At most f nodes are disturbed at
a time, but for a restart of all at once; everything is mended in the end, and then the run has to
succeed as any other.  Members may come, go and change keys meanwhile, one change at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from testnet.churn import join_one, leave_one, rotate_one
from testnet.cluster import NodeProcess
from testnet.run import Run

GAP_S: Final = (0.5, 3.0)
"""Between two faults, at least and at most."""
LENGTH_S: Final = (1.0, 6.0)
CHANGE_S: Final = 20.0
"""Between two changes of the committee, about."""
SLOW_S: Final = 0.15
NODE_FAULTS: Final = ("kill", "pause", "partition", "slow", "kill all")
L1_FAULTS: Final = ("l1 stall", "l1 reorg")
MEMBER_CHANGES: Final = ("join", "leave", "rotate")
MIN_MEMBERS: Final = 4
MAX_REORG_BLOCKS: Final = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when, for how long, of what kind, and which nodes (indices) it is about."""

    at_s: float
    length_s: float
    kind: str
    nodes: tuple[int, ...]


def draw_changes(seed: int, duration_s: float) -> list[tuple[float, str]]:
    """What happens to the committee of a seed, and when: as often joins as leaves, and a rotation.

    One waits for the one before, so the last may be late.
    """
    random = Random(f"members {seed}")
    count = max(3, int(duration_s / CHANGE_S))
    kinds = [MEMBER_CHANGES[number % len(MEMBER_CHANGES)] for number in range(count)]
    return [
        (random.uniform(0.8, 1.2) * CHANGE_S * number, kind) for number, kind in enumerate(kinds)
    ]


def draw_faults(seed: int, nodes: int, duration_s: float, with_l1: bool) -> list[Fault]:
    """The faults of a seed, one after the other, all of them over within `duration_s`."""
    random = Random(f"chaos {seed}")
    kinds = NODE_FAULTS + (L1_FAULTS if with_l1 else ())
    tolerated = (nodes - 1) // 3
    faults: list[Fault] = []
    at = random.uniform(*GAP_S)
    while True:
        kind, length = random.choice(kinds), random.uniform(*LENGTH_S)
        count = nodes if kind == "kill all" else random.randint(1, tolerated)
        struck = tuple(sorted(random.sample(range(nodes), count)))
        if at + length > duration_s:
            return faults
        faults.append(Fault(at, length, kind, () if kind in L1_FAULTS else struck))
        at += length + random.uniform(*GAP_S)


def chaos(
    seed: int, duration_s: float, with_members: bool = False
) -> Callable[[Run], Awaitable[None]]:
    """What disturbs a run for `duration_s`, and mends everything."""

    async def disturb(it: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_disturb(it, seed, duration_s))
            if with_members:
                group.create_task(_change_members(it, seed, duration_s))

    return disturb


async def _disturb(it: Run, seed: int, duration_s: float) -> None:
    count, with_l1 = len(it.testnet.cluster.nodes), it.testnet.l1 is not None
    for fault in draw_faults(seed, count, duration_s, with_l1):
        await _until(it, fault.at_s)
        nodes = _struck(it, fault)
        names = ", ".join(node.spec.name for node in nodes)
        _say(it, f"{fault.kind} {names} for {fault.length_s:.1f} s")
        await _strike(it, fault, nodes)
        await asyncio.sleep(fault.length_s)
        await _mend(it, fault, nodes)


async def _change_members(it: Run, seed: int, duration_s: float) -> None:
    for at_s, kind in draw_changes(seed, duration_s):
        await _until(it, at_s)
        present = it.testnet.cluster.present
        if kind == "join":
            _say(it, "a node joins")
            await join_one(it)
        elif kind == "leave" and len(present) > MIN_MEMBERS:
            _say(it, f"{present[0].spec.name} leaves")
            await leave_one(it, present[0])
        else:
            _say(it, f"{present[-1].spec.name} takes a new key")
            await rotate_one(it, present[-1])


async def _until(it: Run, at_s: float) -> None:
    await asyncio.sleep(it.started + at_s - asyncio.get_running_loop().time())


def _say(it: Run, sentence: str) -> None:
    elapsed = asyncio.get_running_loop().time() - it.started
    it.progress.console.print(f"  {elapsed:6.1f} s  {sentence}", highlight=False)


def _struck(it: Run, fault: Fault) -> list[NodeProcess]:
    """Of the nodes that were started and have not left, as many as were drawn; all if all are."""
    present = [node for node in it.testnet.cluster.present if node.process is not None]
    if fault.kind == "kill all":
        return present
    return [present[index % len(present)] for index in fault.nodes]


async def _strike(it: Run, fault: Fault, nodes: list[NodeProcess]) -> None:
    testnet = it.testnet
    numbers = [testnet.cluster.nodes.index(node) for node in nodes]
    if fault.kind in ("kill", "kill all"):
        it.killed.extend(numbers)
        for node in nodes:
            node.kill()
    elif fault.kind == "pause":
        for node in nodes:
            node.pause()
    elif fault.kind == "partition" and testnet.links is not None:
        testnet.links.partition([numbers])
    elif fault.kind == "slow" and testnet.links is not None:
        testnet.links.slow(numbers[0], SLOW_S)
    elif fault.kind == "l1 stall" and testnet.l1 is not None:
        await testnet.l1.stall()
    elif fault.kind == "l1 reorg" and testnet.l1 is not None:
        await testnet.l1.reorg(MAX_REORG_BLOCKS)


async def _mend(it: Run, fault: Fault, nodes: list[NodeProcess]) -> None:
    testnet = it.testnet
    for node in nodes:
        if node.paused:
            node.resume()
        if not node.left:
            node.start()
    if testnet.links is not None:
        testnet.links.heal()
    if fault.kind == "l1 stall" and testnet.l1 is not None:
        await testnet.l1.resume()
