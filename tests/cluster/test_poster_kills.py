"""The elected poster is killed at every boundary of its states, on real processes and L1s.

Its endpoint watches what it asks the L1: at the chosen call the process gets SIGKILL, before the
call reaches the L1 or before the answer reaches the poster. Nothing may be posted twice, nothing
skipped, and nothing of what the next in rank takes over may take longer than its bound.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import pytest
import pytest_asyncio
from rich.console import Console

from sequencer.settlement import abi
from sequencer.settlement.schedule import MIN_TAKEOVER_BLOCKS
from testnet.audit import derive_log, open_client
from testnet.cluster import NodeProcess
from testnet.l1 import find_anvil
from testnet.l1.launch import rpc
from testnet.l1.proxy import FaultProxy
from testnet.l1_chaos import proxies, through
from testnet.launch import Plan, launch
from testnet.report import Progress
from tests.cluster.test_l1_faults import NODES, SEED, Place, wallet

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLACK_BLOCKS = 4
"""Beyond the takeover itself: a batch to be certified, an L1 block to be seen and one to be in."""


@dataclass
class Boundary:
    """A call of the poster, and on which side of the L1 its process dies.

    `posted` says whose transaction brings the batch then: the victim's, or the next in rank's.
    """

    name: str
    method: str
    answered: bool
    posted: str
    receipts: int = 0
    """Receipts that the poster has got before."""
    always: bool = True
    """Also on the embedded L1, which is always there and slower."""
    seen: int = field(default=0, init=False)

    def is_now(self, call: dict[str, Any], answer: bytes | None) -> bool:
        """Whether this is the call."""
        if call["method"] != self.method:
            return False
        if self.method == "eth_call" and not _is_posting(call):
            return False
        if self.method == "eth_getTransactionReceipt":
            got = answer is not None and orjson.loads(answer).get("result") is not None
            if self.receipts > self.seen or (self.answered and not got):
                self.seen += got
                return False
        return self.answered == (answer is not None)


def _is_posting(call: dict[str, Any]) -> bool:
    message, block = call["params"]
    return block == "pending" and message["input"].startswith(
        "0x" + abi.selector("post_batch").hex()
    )


BOUNDARIES = [
    Boundary("built: the simulation is asked for", "eth_call", False, "other"),
    Boundary("built: the simulation is answered", "eth_call", True, "other", always=False),
    Boundary("signed and saved, not sent", "eth_sendRawTransaction", False, "other"),
    Boundary("sent, the answer is lost", "eth_sendRawTransaction", True, "victim"),
    Boundary(
        "sent, not mined as far as it knows", "eth_getTransactionReceipt", False, "victim", 0, False
    ),
    Boundary("mined, not yet told", "eth_getTransactionReceipt", True, "victim", always=False),
    Boundary("mined, not final", "eth_getTransactionReceipt", False, "victim", receipts=1),
]


class Ambush:
    """Kills a node at a boundary, and keeps the call that gave it away from going on."""

    def __init__(self, node: NodeProcess, endpoint: FaultProxy, boundary: Boundary) -> None:
        self._node = node
        self._endpoint = endpoint
        self._boundary = boundary
        self.sprung = asyncio.Event()
        endpoint.observer = self._on_call

    async def _on_call(self, call: dict[str, Any], answer: bytes | None) -> None:
        if not self.sprung.is_set() and self._boundary.is_now(call, answer):
            self._node.kill()
            self._endpoint.observer = None
            self.sprung.set()
            raise OSError("nobody is there any more")


@dataclass
class Battlefield(Place):
    """A cluster whose nodes see the L1 through endpoints that can lie in wait."""

    endpoints: list[FaultProxy] = field(default_factory=list)

    async def head(self) -> int:
        assert self.testnet.l1 is not None
        return int(await rpc(self.testnet.l1.url, "eth_blockNumber", []), 16)

    async def mined(self) -> int:
        """Transactions of members in the L1, good ones and others."""
        client = open_client(self.testnet)
        try:
            return sum([await client.nonce(wallet(node).address) for node in range(NODES)])
        finally:
            await client.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", "anvil"])
async def place(request, tmp_path_factory) -> AsyncIterator[Battlefield]:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    directory = tmp_path_factory.mktemp("poster-kills")
    async with proxies(NODES, SEED) as endpoints:
        plan = Plan(directory, NODES, request.param, SEED, configure=through(endpoints))
        async with launch(plan, Progress(Console(quiet=True))) as testnet:
            yield Battlefield(testnet, [], Random(SEED), endpoints)
            await testnet.cluster.stop()


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=lambda boundary: boundary.name)
async def test_a_poster_killed_at_any_boundary_loses_and_doubles_nothing(
    place: Battlefield, boundary: Boundary
) -> None:
    if not boundary.always and (place.testnet.layout.l1 or {})["kind"] == "embedded":
        pytest.skip("seen on anvil")
    boundary.seen = 0
    victim, before = await place.elected(), await place.senders()
    process = place.testnet.cluster.nodes[victim]
    ambush = Ambush(process, place.endpoints[victim], boundary)
    other = (victim + 1) % NODES
    for _ in range(2):  # the second closes the batch of the first
        await place.submit(other)
    async with asyncio.timeout(30):
        await ambush.sprung.wait()
    at_kill = await place.head()

    async def posted() -> bool:
        return len(await place.senders()) > len(before)

    await place.until(posted)
    took = await place.head() - at_kill
    assert took <= MIN_TAKEOVER_BLOCKS * (1 if boundary.posted == "other" else 0) + SLACK_BLOCKS
    sender = (await place.senders())[len(before)]
    assert (sender == "0x" + wallet(victim).address.hex()) == (boundary.posted == "victim")
    process.start()
    await place.until_posted()


async def test_after_all_that_the_log_on_the_l1_is_what_was_submitted(place: Battlefield) -> None:
    async def final() -> bool:
        return all(item["final"] == item["closed"] for item in await place.settlements())

    await place.submit(size=100)
    await place.until_posted()
    await place.until(final)
    # What was saved and never sent may be in the pool, as far as the poster knows after its
    # restart: its nonce is used up by an empty transaction. No other is paid for in vain.
    cancelled = 1
    assert await place.mined() == len(await place.senders()) + cancelled
    derived = await derive_log(place.testnet)
    assert sorted(e.transaction for e in derived.entries) == sorted(place.submitted)
