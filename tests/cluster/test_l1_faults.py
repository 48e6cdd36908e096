"""A real cluster whose L1 stands still, whose poster is killed, whose poster is broke."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from rich.console import Console

from sequencer.client import ClientError, Refused
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.client import SendOutcome
from sequencer.settlement.schedule import posting_order
from testnet.audit import derive_log, open_client
from testnet.l1.launch import rpc
from testnet.l1_chaos import proxies, through
from testnet.launch import Plan, Testnet, launch
from testnet.members import member_keys
from testnet.report import Progress
from testnet.workload import OPAQUE_NAMESPACES

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = 5
NODES = 4
MAX_UNPOSTED = 3
WAIT_S = 40.0
LARGE = 90_000
"""Bytes of a transaction that fills a batch: the next one closes it."""


@dataclass
class Place:
    """A cluster that is up, and what was submitted to it."""

    testnet: Testnet
    submitted: list[bytes]
    noise: Random

    async def submit(self, node: int = 0, size: int = LARGE) -> bytes:
        """One transaction, refused at once if it is; its id."""
        data = self.noise.randbytes(size)
        (identity,) = await self.testnet.clients[node].api.submit(
            OPAQUE_NAMESPACES[0], [data], patience_s=0
        )
        self.submitted.append(data)
        return identity

    async def status(self, node: int) -> dict[str, Any]:
        return await self.testnet.clients[node].api.status()

    async def settlements(self) -> list[dict[str, Any]]:
        """What the running nodes say of the L1, in committee order."""
        found = []
        for node, process in enumerate(self.testnet.cluster.nodes):
            if process.is_running:
                found.append((await self.status(node))["settlement"])
        return found

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    if await condition():
                        return
                except ClientError:
                    pass  # a node that is on its way up
                self.testnet.cluster.check()
                await asyncio.sleep(0.1)

    async def until_committed(self, count: int) -> None:
        async def committed() -> bool:
            running = [n for n, p in enumerate(self.testnet.cluster.nodes) if p.is_running]
            return all([(await self.status(n))["transactions"] >= count for n in running])

        await self.until(committed)

    async def until_posted(self) -> None:
        """Everything submitted is in batches, and all of them are posted."""
        await self.until_committed(len(self.submitted))

        async def posted() -> bool:
            client = open_client(self.testnet)
            try:
                accepted = await client.accepted(0, (await client.head()).number)
            finally:
                await client.aclose()
            batch = await self.testnet.clients[0].api.batch(len(accepted))
            if batch is None or batch["last_position"] + 1 < len(self.submitted):
                return False
            return all(item["lag"] == 0 for item in await self.settlements())

        await self.until(posted)

    async def elected(self) -> int:
        """Who posts the next batch."""
        posted = max(item["posted"] for item in await self.settlements())
        return posting_order(self.testnet.genesis.chain_id, posted + 1, NODES)[0]

    async def senders(self) -> list[str]:
        """The accounts whose transactions brought the batches, in order."""
        assert self.testnet.l1 is not None
        client = open_client(self.testnet)
        try:
            accepted = await client.accepted(0, (await client.head()).number)
        finally:
            await client.aclose()
        assert [batch.number for batch in accepted] == list(range(1, len(accepted) + 1))
        calls = [
            await rpc(self.testnet.l1.url, "eth_getTransactionByHash", ["0x" + b.tx_hash.hex()])
            for b in accepted
        ]
        return [call["from"].lower() for call in calls]


def wallet(node: int) -> L1Account:
    return L1Account(member_keys(SEED, node).l1_key, 31_337)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory) -> AsyncIterator[Place]:
    directory = tmp_path_factory.mktemp("l1-faults")
    async with proxies(NODES, SEED) as endpoints:
        plan = Plan(directory, NODES, "embedded", SEED, configure=through(endpoints, MAX_UNPOSTED))
        async with launch(plan, Progress(Console(quiet=True))) as testnet:
            yield Place(testnet, [], Random(SEED))
            await testnet.cluster.stop()


async def test_ordering_goes_on_without_an_l1_up_to_a_bound_and_the_backlog_drains(place) -> None:
    await place.submit()
    await place.until_posted()
    before = len(await place.senders())
    await place.testnet.l1.stall()

    async def fill() -> None:
        for _ in range(4 * MAX_UNPOSTED):
            await place.submit()
            await place.until_committed(len(place.submitted))

    with pytest.raises(Refused) as refusal:
        await fill()
    assert "wait to be posted on the L1, and this node takes on no more than 3" in str(
        refusal.value
    )
    assert refusal.value.retry_after_s is not None
    assert len(place.submitted) > MAX_UNPOSTED + 1, "ordered while nothing could be posted"
    lags = [item["lag"] for item in await place.settlements()]
    assert min(lags) > MAX_UNPOSTED
    assert len(await place.senders()) == before
    await place.testnet.l1.resume()
    await place.until_posted()
    assert len(await place.senders()) > before + MAX_UNPOSTED
    await place.submit(size=100)
    await place.until_posted()


async def test_the_next_in_rank_posts_when_the_elected_poster_is_killed(place) -> None:
    victim = await place.elected()
    before = await place.senders()
    takeovers = sum(item["takeovers"] for item in await place.settlements())
    place.testnet.cluster.nodes[victim].kill()
    other = (victim + 1) % NODES
    await place.submit(other)
    await place.submit(other)

    async def taken_over() -> bool:
        return len(await place.senders()) > len(before)

    await place.until(taken_over)
    sender = (await place.senders())[len(before)]
    assert sender != "0x" + wallet(victim).address.hex()

    async def counted() -> bool:
        return sum(item["takeovers"] for item in await place.settlements()) > takeovers

    await place.until(counted)
    place.testnet.cluster.nodes[victim].start()
    await place.until_posted()


async def test_a_poster_without_money_says_so_and_the_next_in_rank_posts(place) -> None:
    victim = await place.elected()
    broke = wallet(victim)
    client = open_client(place.testnet)
    try:
        head, balance = await client.head(), await client.balance(broke.address)
        fees = Fees(2 * head.base_fee + 10**9, 10**9)
        nonce = await client.nonce(broke.address)
        away = broke.sign(
            nonce=nonce,
            to=b"\x99" * 20,
            data=b"",
            gas=21_000,
            fees=fees,
            value=balance - 21_000 * fees.max_fee,
        )
        assert (await client.send(away.raw)).outcome is SendOutcome.ACCEPTED

        async def spent() -> bool:
            return await client.nonce(broke.address) > nonce

        await place.until(spent)
    finally:
        await client.aclose()
    before = await place.senders()
    await place.submit()
    await place.submit()

    async def told() -> bool:
        alarms = (await place.status(victim))["settlement"]["alarms"]
        return "the L1 account owns" in alarms.get("funds", "")

    await place.until(told)
    await place.until_posted()
    senders = (await place.senders())[len(before) :]
    assert senders
    assert "0x" + broke.address.hex() not in senders


async def test_what_the_l1_does_shows_in_status_and_metrics_and_the_log_derives(place) -> None:
    settlement = (await place.status(1))["settlement"]
    assert settlement["l1_head"] > settlement["l1_final"] > 0
    assert settlement["l1_read_age_ms"] < 1_000 * WAIT_S
    assert settlement["wallet"] == "0x" + wallet(1).address.hex()
    assert settlement["rank"] in range(NODES)
    url = place.testnet.specs[1].rpc_url
    async with aiohttp.ClientSession() as session, session.get(url + "/metrics") as response:
        text = await response.text()
    names = ("batches_lag", "l1_head", "l1_wallet_gwei", "l1_rank", "l1_takeovers", "l1_alarms")
    for name in names:
        assert f"\nsequencer_{name} " in text

    async def final() -> bool:
        return all(item["final"] == item["closed"] for item in await place.settlements())

    await place.until(final)
    derived = await derive_log(place.testnet)
    assert sorted(e.transaction for e in derived.entries) == sorted(place.submitted)
