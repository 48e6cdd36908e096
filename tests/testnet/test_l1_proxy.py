"""The proxy between a node and its L1: every fault on request, and none without."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from sequencer.settlement.client import InvalidAnswer, L1Refused, L1Unreachable
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.jsonrpc import JsonRpc
from testnet.l1.proxy import GARBAGE, SOUND, FaultProxy, ProxyFaults

HEAD = 10
LATE, EARLY = "0x" + "11" * 32, "0x" + "22" * 32


class Upstream:
    """A chain of ten blocks with a transaction in the last one and one in the first."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        call = await request.json()
        method, parameters = call["method"], call["params"]
        self.calls.append((method, parameters))
        result = getattr(self, method)(*parameters)
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": result})

    def eth_blockNumber(self) -> str:
        return hex(HEAD)

    def eth_getBlockByNumber(self, tag: str, full: bool) -> dict:
        number = {"latest": HEAD, "finalized": HEAD - 1}.get(tag)
        number = int(tag, 16) if number is None else number
        word = "0x" + number.to_bytes(32, "big").hex()
        return {"number": hex(number), "hash": word, "timestamp": "0x1", "baseFeePerGas": "0x7"}

    def eth_getTransactionReceipt(self, tx_hash: str) -> dict:
        number = HEAD if tx_hash == LATE else 1
        word = "0x" + number.to_bytes(32, "big").hex()
        return {"blockNumber": hex(number), "blockHash": word, "status": "0x1"}

    def eth_getLogs(self, query: dict) -> list:
        return [{"blockNumber": "0x1"}, {"blockNumber": hex(HEAD)}]

    def eth_getTransactionCount(self, address: str, tag: str) -> str:
        return "0x5"

    def eth_sendRawTransaction(self, raw: str) -> str:
        return EARLY


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    served = Upstream()
    application = web.Application()
    application.router.add_post("/", served.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield served
    await runner.cleanup()


@pytest_asyncio.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(upstream.url, seed=1) as served:
        yield served


@pytest_asyncio.fixture
async def rpc(proxy: FaultProxy) -> AsyncIterator[JsonRpc]:
    served = JsonRpc(proxy.url)
    yield served
    await served.aclose()


async def test_without_faults_every_answer_passes(proxy: FaultProxy, rpc: JsonRpc) -> None:
    assert await rpc.call("eth_blockNumber", []) == hex(HEAD)
    assert proxy.counts == {"eth_blockNumber": 1}


async def test_a_slow_endpoint_answers_late(proxy: FaultProxy, rpc: JsonRpc) -> None:
    proxy.faults = ProxyFaults(delay_s=0.2)
    started = time.monotonic()
    assert await rpc.call("eth_blockNumber", []) == hex(HEAD)
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    "faults", [ProxyFaults(down=True), ProxyFaults(reset=1.0), ProxyFaults(refuse=1.0)]
)
async def test_a_call_that_is_refused_never_reaches_the_l1(
    upstream: Upstream, proxy: FaultProxy, rpc: JsonRpc, faults: ProxyFaults
) -> None:
    proxy.faults = faults
    with pytest.raises(L1Unreachable):
        await rpc.call("eth_blockNumber", [])
    assert upstream.calls == []
    proxy.faults = SOUND
    assert await rpc.call("eth_blockNumber", []) == hex(HEAD)


async def test_a_lost_answer_is_lost_after_the_l1_did_what_it_was_asked(
    upstream: Upstream, proxy: FaultProxy, rpc: JsonRpc
) -> None:
    proxy.faults = ProxyFaults(lose_answer=1.0, only=("eth_sendRawTransaction",))
    with pytest.raises(L1Unreachable):
        await rpc.call("eth_sendRawTransaction", ["0x00"])
    assert upstream.calls == [("eth_sendRawTransaction", ["0x00"])]
    assert await rpc.call("eth_blockNumber", []) == hex(HEAD)


async def test_an_l1_that_is_gone_is_gone_behind_the_proxy_too(rpc: JsonRpc, proxy) -> None:
    proxy.upstream = "http://127.0.0.1:1"
    with pytest.raises(L1Unreachable):
        await rpc.call("eth_blockNumber", [])


@pytest.mark.parametrize("number", range(len(GARBAGE)))
async def test_garbage_of_every_kind_is_an_error_that_the_client_names(
    proxy: FaultProxy, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testnet.l1.proxy.GARBAGE", (GARBAGE[number],))
    proxy.faults = ProxyFaults(garbage=1.0)
    client = EthereumClient(proxy.url, bytes(20))
    with pytest.raises((InvalidAnswer, L1Refused)):
        await client.head()
    with pytest.raises((InvalidAnswer, L1Refused)):
        await client.nonce(bytes(20))
    await client.aclose()


async def test_a_lagging_endpoint_knows_an_older_head_and_nothing_after_it(
    upstream: Upstream, proxy: FaultProxy, rpc: JsonRpc
) -> None:
    proxy.faults = ProxyFaults(lag_blocks=3)
    client = EthereumClient(proxy.url, bytes(20))
    assert (await client.head()).number == HEAD - 3
    assert (await client.finalized()).number == HEAD - 3, "never beyond its head"
    assert await rpc.call("eth_blockNumber", []) == hex(HEAD - 3)
    assert await client.receipt(bytes.fromhex(LATE[2:])) is None
    early = await client.receipt(bytes.fromhex(EARLY[2:]))
    assert early is not None
    assert await rpc.call("eth_getLogs", [{}]) == [{"blockNumber": "0x1"}]
    await client.nonce(bytes(20))
    assert upstream.calls[-1] == ("eth_getTransactionCount", ["0x" + "00" * 20, hex(HEAD - 3)])
    await client.aclose()


async def test_the_same_seed_draws_the_same_faults(upstream: Upstream) -> None:
    async def drawn(seed: int) -> list[str]:
        found = []
        async with FaultProxy(upstream.url, seed) as proxy:
            proxy.faults = ProxyFaults(refuse=0.3, lose_answer=0.3, garbage=0.2)
            rpc = JsonRpc(proxy.url)
            for _ in range(30):
                try:
                    await rpc.call("eth_blockNumber", [])
                    found.append("")
                except (InvalidAnswer, L1Refused, L1Unreachable) as error:
                    found.append(type(error).__name__)
            await rpc.aclose()
        return found

    assert await drawn(5) == await drawn(5) != await drawn(6)
