"""Faults of the L1 drawn from a seed, on real processes: `testnet run` on an L1 in bad weather.

Every node sees the L1 through a proxy of its own, which can be slow, lossy, lagging, lying or gone,
while the L1 itself stalls, is reorganised and becomes expensive, and the member whose turn it is to
post is killed. Faults overlap. In the end everything is mended, and then the run has to succeed as
any other: the log derived from the L1 is every node's log, and what was submitted.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Final

from sequencer.client import ClientError
from sequencer.config import NodeConfig
from sequencer.settlement.schedule import posting_order
from testnet.errors import TestnetError
from testnet.faults import l1_fault
from testnet.l1.proxy import SOUND, FaultProxy, ProxyFaults
from testnet.run import Run

GAP_S: Final = (0.2, 2.0)
"""Between the beginnings of two faults; they last longer, so they overlap."""
LENGTH_S: Final = (1.0, 8.0)
KINDS: Final = ("stall", "reorg", "spike", "kill poster", "endpoint", "endpoint", "endpoint")
SEND: Final = ("eth_sendRawTransaction",)
ENDPOINTS: Final = (
    ProxyFaults(delay_s=2.0),
    ProxyFaults(down=True),
    ProxyFaults(refuse=0.3, reset=0.2),
    ProxyFaults(garbage=0.3),
    ProxyFaults(lose_answer=0.3),
    ProxyFaults(lose_answer=1.0, only=SEND),
    ProxyFaults(garbage=1.0, only=SEND),
    ProxyFaults(lag_blocks=1),
    ProxyFaults(lag_blocks=3),
)
MAX_REORG_BLOCKS: Final = 3
SPIKES_GWEI: Final = (3, 40, 400, 1_000)
"""The last is above what a poster pays at most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when, for how long, of what kind; `node` is whose endpoint it is about."""

    at_s: float
    length_s: float
    kind: str
    node: int = 0
    depth: int = 0
    base_fee: int = 0
    endpoint: ProxyFaults = SOUND


def draw_faults(seed: int, nodes: int, duration_s: float) -> list[Fault]:
    """The faults of a seed in the order of their beginning, all of them over in `duration_s`."""
    random = Random(f"l1 chaos {seed}")
    faults: list[Fault] = []
    at = random.uniform(*GAP_S)
    while at < duration_s:
        faults.append(
            Fault(
                at,
                min(random.uniform(*LENGTH_S), duration_s - at),
                random.choice(KINDS),
                random.randrange(nodes),
                random.randint(1, MAX_REORG_BLOCKS),
                random.choice(SPIKES_GWEI) * 10**9,
                random.choice(ENDPOINTS),
            )
        )
        at += random.uniform(*GAP_S)
    return faults


@asynccontextmanager
async def proxies(count: int, seed: int) -> AsyncIterator[list[FaultProxy]]:
    """An endpoint per node, which learns where the L1 is by `through`."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(FaultProxy(seed=seed * count + index))
            for index in range(count)
        ]


def through(
    endpoints: list[FaultProxy], max_unposted_batches: int | None = None
) -> Callable[[int, NodeConfig], NodeConfig]:
    """For `Plan.configure`: every node asks its own proxy."""

    def configure(index: int, config: NodeConfig) -> NodeConfig:
        endpoints[index].upstream = config.l1.url
        l1 = replace(config.l1, url=endpoints[index].url)
        if max_unposted_batches is not None:
            l1 = replace(l1, max_unposted_batches=max_unposted_batches)
        return replace(config, l1=l1)

    return configure


def l1_chaos(
    seed: int, duration_s: float, endpoints: list[FaultProxy]
) -> Callable[[Run], Awaitable[None]]:
    """What disturbs a run for `duration_s`, and mends everything."""

    async def disturb(it: Run) -> None:
        chaos = _Chaos(it, endpoints)
        faults = draw_faults(seed, len(endpoints), duration_s)
        try:
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    group.create_task(chaos.happen(fault))
        except* TestnetError as failed:
            raise failed.exceptions[0] from None
        finally:
            await chaos.mend()

    return disturb


class _Chaos:
    """Faults under way in one run. Of those of one kind that overlap the last to end mends it."""

    def __init__(self, it: Run, endpoints: list[FaultProxy]) -> None:
        self._it = it
        self._endpoints = endpoints
        self._stalls = 0
        self._killing = False
        self._down: int | None = None

    async def happen(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        note = f"  {fault.at_s:6.1f} s  {_spelled(fault)}"
        self._it.progress.console.print(note, highlight=False, soft_wrap=True)
        if fault.kind == "stall":
            await self._stall(fault.length_s)
        elif fault.kind == "kill poster":
            await self._kill_poster(fault.length_s)
        elif fault.kind == "endpoint":
            self._endpoints[fault.node].faults = fault.endpoint
            await asyncio.sleep(fault.length_s)
            self._endpoints[fault.node].faults = SOUND
        elif not self._stalls:  # an L1 that stands still takes no orders
            arguments = {"fault": fault.kind, "depth": fault.depth, "base_fee": fault.base_fee}
            await l1_fault(self._it.testnet.l1, arguments)

    async def _stall(self, length_s: float) -> None:
        l1 = self._it.testnet.l1
        self._stalls += 1
        if self._stalls == 1:
            await l1_fault(l1, {"fault": "stall"})
        await asyncio.sleep(length_s)
        self._stalls -= 1
        if not self._stalls:
            await l1_fault(l1, {"fault": "resume"})

    async def _kill_poster(self, length_s: float) -> None:
        """The member whose turn it is; one at a time, so that a quorum goes on."""
        if self._killing:
            return
        self._killing = True
        nodes = self._it.testnet.cluster.nodes
        self._down = victim = await elected(self._it)
        self._it.killed.append(victim)
        nodes[victim].kill()
        await asyncio.sleep(length_s)
        nodes[victim].start()
        self._down, self._killing = None, False

    async def mend(self) -> None:
        """Nothing is wrong any more."""
        testnet = self._it.testnet
        for endpoint in self._endpoints:
            endpoint.faults = SOUND
        if self._stalls:
            await l1_fault(testnet.l1, {"fault": "resume"})
        if self._down is not None:
            testnet.cluster.nodes[self._down].start()
        await l1_fault(testnet.l1, {"fault": "spike", "base_fee": 10**9})


async def elected(it: Run) -> int:
    """Who posts the next batch, as far as the nodes know."""
    posted = 0
    for client in it.testnet.clients:
        with contextlib.suppress(ClientError):  # it may be down, or on its way up
            settlement = (await client.api.status())["settlement"]
            posted = max(posted, int(settlement["posted"]))
    genesis = it.testnet.genesis
    return posting_order(genesis.chain_id, posted + 1, genesis.committee.size)[0]


def _spelled(fault: Fault) -> str:
    if fault.kind == "reorg":
        return f"reorg of {fault.depth} blocks"
    if fault.kind == "spike":
        return f"base fee of {fault.base_fee // 10**9} gwei"
    lasting = f"for {fault.length_s:.1f} s"
    if fault.kind == "endpoint":
        wrong = [
            f"{item.name}={getattr(fault.endpoint, item.name)}"
            for item in fields(ProxyFaults)
            if getattr(fault.endpoint, item.name) != item.default
        ]
        return f"endpoint of node {fault.node}: {', '.join(wrong)} {lasting}"
    return f"{fault.kind} {lasting}"
