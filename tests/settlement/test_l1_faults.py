"""A poster on a real local L1 behind an endpoint that is slow, lies, lags, and goes away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest
import pytest_asyncio

from sequencer.config import L1Config
from sequencer.genesis import L1Settings
from sequencer.settlement.client import L1Mismatch
from sequencer.settlement.derive import derive
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.poster_events import Alarm, AlarmCleared, Final, Posted, PosterSettings
from sequencer.settlement.poster_runner import PosterRunner
from sequencer.settling import Settling, run_poster
from testnet.l1 import L1Handle, find_anvil, launch_l1
from testnet.l1.proxy import SOUND, FaultProxy, ProxyFaults
from tests.sequencer.test_batcher import CHAIN
from tests.sequencer.test_batcher import World as Batchers
from tests.settlement.l1_fixtures import Deployed, MemoryPort
from tests.settlement.test_ethereum_l1 import clock_ms

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCK_S = 0.1
WAIT_S = 30.0
SEND = "eth_sendRawTransaction"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", "anvil"])
async def l1(request, tmp_path_factory) -> AsyncIterator[L1Handle]:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    directory = tmp_path_factory.mktemp(request.param)
    handle = await launch_l1(request.param, directory, block_time_s=BLOCK_S)
    yield handle
    await handle.aclose()


class Posting:
    """A poster that is alone, on an endpoint of its own."""

    first_nonce: int

    def __init__(self, deployed: Deployed, proxy: FaultProxy) -> None:
        self.deployed = deployed
        self.proxy = proxy
        self.port = MemoryPort(deployed.batches)
        self.client = EthereumClient(proxy.url, deployed.contract, deployed.deploy_block)
        self.account = deployed.fresh_account()
        self.start()

    def start(self) -> None:
        """A new process with the old one's disk."""
        self.runner = PosterRunner(
            self.client,
            self.port,
            self.account,
            self.deployed.contract,
            chain_id=self.deployed.chain_id,
            committee_index=0,
            committee_size=1,
            clock_ms=clock_ms,
            settings=PosterSettings(answer_timeout_ms=2_000),
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self.runner.poll_once()
                await asyncio.sleep(BLOCK_S / 4)

    async def until_final(self) -> None:
        """All that is certified is final."""
        final = Final(len(self.deployed.batches))
        await self.until(lambda: final in self.port.notices)

    async def until_happened(self, fault: str, times: int = 3) -> None:
        """The endpoint has misbehaved so many times more."""
        enough = self.proxy.counts[fault] + times
        await self.until(lambda: self.proxy.counts[fault] >= enough)


@pytest_asyncio.fixture(loop_scope="module")
async def posting(l1: L1Handle) -> AsyncIterator[Posting]:
    deployed = await Deployed.create(l1)
    async with FaultProxy(l1.url, seed=3) as proxy:
        found = Posting(deployed, proxy)
        found.first_nonce = await found.client.nonce(found.account.address)
        yield found
        await found.client.aclose()


async def check_posted_once(posting: Posting) -> None:
    """Every batch is on the L1, once, in order, and only what was certified."""
    l1 = posting.deployed.client()
    try:
        accepted = await l1.accepted(0, (await l1.head()).number)
        count = len(posting.deployed.batches)
        assert [batch.number for batch in accepted] == list(range(1, count + 1))
        log = await derive(l1, posting.deployed.source)
        assert log.entries == posting.deployed.entries
        sent = await l1.nonce(posting.account.address) - posting.first_nonce
        assert sent == count, "nothing was sent in vain"
    finally:
        await l1.aclose()


@pytest.mark.parametrize(
    ("fault", "faults"),
    [
        ("down", ProxyFaults(down=True)),
        ("refuse", ProxyFaults(refuse=0.5)),
        ("reset", ProxyFaults(reset=0.5)),
        ("garbage", ProxyFaults(garbage=0.5)),
        ("lag", ProxyFaults(lag_blocks=3)),
        ("lose_answer", ProxyFaults(lose_answer=1.0, only=(SEND,))),
        ("lose_answer", ProxyFaults(lose_answer=0.3)),
        ("garbage", ProxyFaults(garbage=1.0, only=(SEND,))),
        ("reset", ProxyFaults(reset=1.0, only=(SEND,))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_the_endpoint_does_every_batch_is_posted_once(
    posting: Posting, fault: str, faults: ProxyFaults
) -> None:
    posting.proxy.faults = faults
    posting.deployed.certify()
    await posting.until_happened(fault, times=1 if faults.only else 3)
    posting.deployed.certify()
    posting.proxy.faults = SOUND
    await posting.until_final()
    await check_posted_once(posting)


async def test_a_poster_that_dies_before_it_hears_the_answer_sends_nothing_twice(
    posting: Posting,
) -> None:
    posting.proxy.faults = ProxyFaults(lose_answer=1.0, only=(SEND,))
    posting.deployed.certify()
    await posting.until_happened("lose_answer", times=1)
    posting.start()
    posting.deployed.certify()
    posting.proxy.faults = SOUND
    await posting.until_final()
    await check_posted_once(posting)


async def test_a_slow_endpoint_delays_posting_and_does_not_end_it(posting: Posting) -> None:
    posting.proxy.faults = ProxyFaults(delay_s=2 * BLOCK_S)
    posting.deployed.certify()
    await posting.until_final()
    assert not [notice for notice in posting.port.notices if isinstance(notice, Alarm)]
    await check_posted_once(posting)


async def test_an_endpoint_that_is_gone_is_one_alarm_until_it_is_back(posting: Posting) -> None:
    posting.proxy.faults = ProxyFaults(down=True)
    posting.deployed.certify()
    await posting.until_happened("down", times=10)
    posting.proxy.faults = SOUND
    await posting.until(lambda: any(isinstance(n, Posted) for n in posting.port.notices))
    told = [n for n in posting.port.notices if isinstance(n, Alarm | AlarmCleared)]
    assert [type(notice) for notice in told] == [Alarm, AlarmCleared]
    assert {notice.topic for notice in told} == {"l1"}


# a node that starts


class Start:
    """The poster of a node, as the node starts it."""

    def __init__(self, deployed: Deployed, url: str, *, deploy_block: int | None = None) -> None:
        world = Batchers()
        self.settling = Settling(world.batchers[0], world.stores[0], CHAIN, 4, 0)
        setup = SimpleNamespace(chain_id=CHAIN, me=0, committee=SimpleNamespace(size=4))
        block = deployed.deploy_block if deploy_block is None else deploy_block
        l1 = L1Settings(deployed.l1.chain_id, deployed.contract, block, "tag")
        config = L1Config(url=url, poll_ms=20)
        self.task = asyncio.create_task(run_poster(self.settling, setup, l1, config, b"\1" * 32))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.mark.parametrize(
    "faults",
    [
        ProxyFaults(down=True),
        ProxyFaults(refuse=1.0),
        ProxyFaults(garbage=1.0),
        ProxyFaults(lose_answer=1.0),
    ],
    ids=["down", "refused", "garbage", "lost"],
)
async def test_a_node_that_starts_waits_for_its_l1_whatever_it_says(
    l1: L1Handle, faults: ProxyFaults, caplog: pytest.LogCaptureFixture
) -> None:
    deployed = await Deployed.create(l1, CHAIN)
    async with FaultProxy(l1.url, seed=5) as proxy:
        proxy.faults = faults
        start = Start(deployed, proxy.url)
        try:
            await start.until(lambda: proxy.counts["eth_chainId"] >= 20)
            assert list(start.settling.alarms) == ["l1"]
            assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
            proxy.faults = SOUND
            await start.until(lambda: start.settling.status()["l1_head"] is not None)
            status = start.settling.status()
            assert status["alarms"] == {}
            assert status["l1_head"] >= status["l1_final"]
            assert 0 <= status["l1_read_age_ms"] < 1_000 * WAIT_S
            assert (status["wallet_gwei"], len(status["wallet"])) == (0, 42)
        finally:
            await start.end()


async def test_a_node_that_starts_on_the_wrong_contract_ends_with_the_reason(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    start = Start(deployed, l1.url)
    with pytest.raises(L1Mismatch, match="belongs to another chain"):
        await start.until(lambda: False)


async def test_an_l1_that_has_not_come_to_the_contract_yet_is_waited_for(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1, CHAIN)
    deployed.contract = b"\x77" * 20
    start = Start(deployed, l1.url, deploy_block=1 << 40)
    try:
        await start.until(lambda: bool(start.settling.alarms))
        assert "has come to block" in start.settling.alarms["l1"]
    finally:
        await start.end()
    with pytest.raises(L1Mismatch, match="no contract"):
        await Start(deployed, l1.url).until(lambda: False)
