"""Faults drawn from a seed, on real processes: `testnet run` in bad weather.

The schedule is the seed's; what becomes of it is the machine's.  At most f nodes are disturbed at
a time, but for a restart of all at once; everything is mended in the end, and then the run has to
succeed as any other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from testnet.run import Run

GAP_S: Final = (0.5, 3.0)
"""Between two faults, at least and at most."""
LENGTH_S: Final = (1.0, 6.0)
SLOW_S: Final = 0.15
NODE_FAULTS: Final = ("kill", "pause", "partition", "slow", "kill all")
L1_FAULTS: Final = ("l1 stall", "l1 reorg")
MAX_REORG_BLOCKS: Final = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when, for how long, of what kind, and which nodes (indices) it is about."""

    at_s: float
    length_s: float
    kind: str
    nodes: tuple[int, ...]


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


def chaos(seed: int, duration_s: float) -> Callable[[Run], Awaitable[None]]:
    """What disturbs a run for `duration_s`, and mends everything."""

    async def disturb(it: Run) -> None:
        count, with_l1 = len(it.testnet.cluster.nodes), it.testnet.l1 is not None
        started = asyncio.get_running_loop().time()
        for fault in draw_faults(seed, count, duration_s, with_l1):
            await asyncio.sleep(started + fault.at_s - asyncio.get_running_loop().time())
            names = ", ".join(it.testnet.specs[index].name for index in fault.nodes)
            it.progress.console.print(
                f"  {fault.at_s:6.1f} s  {fault.kind} {names} for {fault.length_s:.1f} s",
                highlight=False,
            )
            await _strike(it, fault)
            await asyncio.sleep(fault.length_s)
            await _mend(it, fault)

    return disturb


async def _strike(it: Run, fault: Fault) -> None:
    testnet = it.testnet
    nodes = [testnet.cluster.nodes[index] for index in fault.nodes]
    if fault.kind in ("kill", "kill all"):
        it.killed.extend(fault.nodes)
        for node in nodes:
            node.kill()
    elif fault.kind == "pause":
        for node in nodes:
            node.pause()
    elif fault.kind == "partition" and testnet.links is not None:
        testnet.links.partition([fault.nodes])
    elif fault.kind == "slow" and testnet.links is not None:
        testnet.links.slow(fault.nodes[0], SLOW_S)
    elif fault.kind == "l1 stall" and testnet.l1 is not None:
        await testnet.l1.stall()
    elif fault.kind == "l1 reorg" and testnet.l1 is not None:
        await testnet.l1.reorg(MAX_REORG_BLOCKS)


async def _mend(it: Run, fault: Fault) -> None:
    testnet = it.testnet
    for index in fault.nodes:
        node = testnet.cluster.nodes[index]
        if node.paused:
            node.resume()
        node.start()
    if testnet.links is not None:
        testnet.links.heal()
    if fault.kind == "l1 stall" and testnet.l1 is not None:
        await testnet.l1.resume()
