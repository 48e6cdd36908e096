"""The L1 client against an endpoint that is absent, wrong, slow, or lies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from eth_hash.auto import keccak

from sequencer.settlement import abi, jsonrpc
from sequencer.settlement.client import (
    CallReverted,
    InvalidAnswer,
    L1Block,
    L1Mismatch,
    L1Refused,
    L1Unreachable,
    SendOutcome,
)
from sequencer.settlement.ethereum import EthereumClient, classify_refusal, fetch_l1_chain_id

CONTRACT = b"\x0d" * 20
DIGEST = b"\xc1" * 32
HASH = "0x" + "ab" * 32
Answer = Callable[[str, list[Any]], Any]


class Refuse(Exception):
    """Answer with this JSON-RPC error."""


class FakeL1:
    """An endpoint whose every answer a test decides: by method, or as raw bytes."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "eth_chainId": "0x1",
            "eth_getCode": "0x6000",
            "eth_call": "0x" + DIGEST.hex(),
            "eth_getBlockByNumber": {
                "number": "0x9",
                "hash": "0x" + "99" * 32,
                "timestamp": "0x1",
                "baseFeePerGas": "0x7",
            },
        }
        self.raw: Callable[[], Awaitable[web.Response]] | None = None
        self.requests: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        if self.raw is not None:
            return await self.raw()
        found = self.answers[body["method"]]
        if isinstance(found, Refuse):
            return web.json_response({"id": body["id"], "error": found.args[0]})
        return web.json_response({"id": body["id"], "result": found})


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[tuple[FakeL1, EthereumClient]]:
    l1 = FakeL1()
    application = web.Application()
    application.router.add_post("/", l1.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = EthereumClient(f"http://127.0.0.1:{port}", CONTRACT, deploy_block=5)
    yield l1, client
    await client.aclose()
    await runner.cleanup()


async def test_check_passes_on_the_right_l1(fake) -> None:
    _, client = fake
    await client.check(1, DIGEST)
    assert await fetch_l1_chain_id(client.url) == 1


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("eth_chainId", "0x5", "has chain id 5, but the genesis names 1"),
        ("eth_getCode", "0x", "there is no contract at 0x0d0d.* on the L1"),
        ("eth_call", "0x" + "ee" * 32, "belongs to another chain: .*eeee.*, the digest of this"),
    ],
)
async def test_check_says_what_does_not_match(fake, method, answer, message) -> None:
    l1, client = fake
    l1.answers[method] = answer
    with pytest.raises(L1Mismatch, match=message):
        await client.check(1, DIGEST)


async def test_an_l1_that_has_not_come_to_the_contract_yet_is_waited_for(fake) -> None:
    l1, client = fake
    l1.answers["eth_getCode"] = "0x"
    l1.answers["eth_getBlockByNumber"]["number"] = "0x4"
    with pytest.raises(L1Unreachable, match=r"has come to block 4, .* in block 5"):
        await client.check(1, DIGEST)


async def test_an_l1_that_is_not_there_is_named() -> None:
    client = EthereumClient("http://127.0.0.1:9", CONTRACT)
    with pytest.raises(L1Unreachable, match=r"127\.0\.0\.1:9 is not reachable"):
        await client.check(1, DIGEST)
    assert (await client.send(b"raw")).outcome is SendOutcome.UNREACHABLE
    await client.aclose()


async def test_an_l1_that_hangs_times_out_by_name(fake, monkeypatch) -> None:
    l1, client = fake
    monkeypatch.setattr(jsonrpc, "REQUEST_TIMEOUT_S", 0.05)

    async def hang() -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    l1.raw = hang
    with pytest.raises(L1Unreachable, match=r"did not answer eth_chainId within 0\.05 s"):
        await client.check(1, DIGEST)


async def test_an_endless_answer_is_cut_off(fake, monkeypatch) -> None:
    l1, client = fake
    monkeypatch.setattr(jsonrpc, "MAX_ANSWER_BYTES", 1_000)

    async def long() -> web.Response:
        return web.Response(body=b" " * 2_000 + b'{"result":"0x1"}')

    l1.raw = long
    with pytest.raises(InvalidAnswer, match="without end"):
        await client.tip()


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"<html>", 200, InvalidAnswer),
        (b"<html>", 502, L1Unreachable),
        (b"[1]", 200, InvalidAnswer),
        (b"{}", 200, InvalidAnswer),
        (b'{"error": 3}', 200, InvalidAnswer),
        (b'{"error": {"code": 3, "message": "x", "data": "0xzz"}}', 200, InvalidAnswer),
        (b'{"error": {"message": "rate limit"}}', 429, L1Refused),
        (b'{"error": {"code": "text"}}', 200, L1Refused),
    ],
)
async def test_what_is_no_json_rpc_is_an_error_of_ours(fake, body, status, error) -> None:
    l1, client = fake

    async def answer() -> web.Response:
        return web.Response(body=body, status=status)

    l1.raw = answer
    with pytest.raises(error):
        await client.tip()


@pytest.mark.parametrize("answer", ["0x", "1", 1, None, [], "0xg", "0x1" + "0" * 40, "-0x1"])
async def test_a_number_that_is_none_or_too_large_is_refused(fake, answer) -> None:
    l1, client = fake
    l1.answers["eth_maxPriorityFeePerGas"] = answer
    with pytest.raises(InvalidAnswer):
        await client.tip()


BLOCK = {"number": "0x7", "hash": HASH, "timestamp": "0x1", "baseFeePerGas": "0x9"}


async def test_a_block_is_read(fake) -> None:
    l1, client = fake
    l1.answers["eth_getBlockByNumber"] = BLOCK
    assert await client.head() == L1Block(7, bytes.fromhex("ab" * 32), 1, 9)
    await client.finalized()
    assert l1.requests[-1]["params"] == ["finalized", False]


async def test_finality_by_depth_asks_for_a_number(fake) -> None:
    l1, client = fake
    l1.answers["eth_getBlockByNumber"] = BLOCK
    deep = EthereumClient(client.url, CONTRACT, finality_depth=3)
    await deep.finalized()
    assert l1.requests[-1]["params"] == ["0x4", False]
    await deep.aclose()


@pytest.mark.parametrize("missing", sorted(BLOCK))
async def test_a_block_with_something_missing_is_refused(fake, missing) -> None:
    l1, client = fake
    l1.answers["eth_getBlockByNumber"] = {k: v for k, v in BLOCK.items() if k != missing}
    with pytest.raises(InvalidAnswer):
        await client.head()


async def test_no_such_block_is_an_error(fake) -> None:
    l1, client = fake
    l1.answers["eth_getBlockByNumber"] = None
    with pytest.raises(InvalidAnswer, match="no finalized block"):
        await client.finalized()


async def test_before_its_deployment_the_contract_is_empty_and_nobody_is_asked(fake) -> None:
    l1, client = fake
    state = await client.contract_state(L1Block(4, bytes(32), 0, 0))
    assert (state.next_number, state.log_root, l1.requests) == (1, bytes(32), [])


def log_of(number: int, block: int, **changes: Any) -> dict[str, Any]:
    found = {
        "address": "0x" + CONTRACT.hex(),
        "topics": ["0x" + abi.batch_posted_topic().hex(), f"0x{number:064x}"],
        "data": "0x" + bytes(7 * 32).hex(),
        "transactionHash": HASH,
        "blockNumber": hex(block),
        "blockHash": HASH,
        "logIndex": "0x0",
    }
    return {**found, **changes}


async def test_events_are_asked_for_page_by_page_from_the_deployment_on(fake) -> None:
    l1, client = fake
    l1.answers["eth_getLogs"] = []
    await client.accepted(0, 4_100)
    asked = [(r["params"][0]["fromBlock"], r["params"][0]["toBlock"]) for r in l1.requests]
    assert asked == [("0x5", hex(2_004)), (hex(2_005), hex(4_004)), (hex(4_005), hex(4_100))]


async def test_events_come_in_order_of_their_numbers(fake) -> None:
    l1, client = fake
    l1.answers["eth_getLogs"] = [log_of(2, 7), log_of(1, 6)]
    assert [batch.number for batch in await client.accepted(5, 9)] == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        [3],
        [log_of(1, 10)],
        [log_of(1, 6, address="0x" + "11" * 20)],
        [log_of(1, 6, topics=None)],
        [log_of(1, 6, topics=["0x" + keccak(b"other").hex(), HASH])],
        [log_of(1, 6, data="0x")],
        [log_of(1, 6, data="0x" + "00" * 5_000)],
        [log_of(1, 6, transactionHash="0x12")],
        [log_of(1, 6, blockHash=None)],
    ],
)
async def test_events_that_are_not_what_was_asked_for_are_refused(fake, answer) -> None:
    l1, client = fake
    l1.answers["eth_getLogs"] = answer
    with pytest.raises(InvalidAnswer):
        await client.accepted(5, 9)


async def test_a_revert_is_named_and_a_problem_of_the_endpoint_is_none(fake) -> None:
    l1, client = fake
    selector = keccak(b"AlreadyPosted()")[:4].hex()
    l1.answers["eth_call"] = Refuse({"code": 3, "message": "reverted", "data": "0x" + selector})
    with pytest.raises(CallReverted) as refusal:
        await client.simulate(bytes(20), b"", 1)
    assert refusal.value.reason == "AlreadyPosted"
    l1.answers["eth_call"] = Refuse({"code": -32000, "message": "out of gas"})
    with pytest.raises(CallReverted, match="out of gas"):
        await client.simulate(bytes(20), b"", 1)
    l1.answers["eth_call"] = Refuse({"code": -32005, "message": "rate limit exceeded"})
    with pytest.raises(L1Refused, match="rate limit"):
        await client.simulate(bytes(20), b"", 1)


async def test_a_receipt_without_a_block_is_none(fake) -> None:
    l1, client = fake
    l1.answers["eth_getTransactionReceipt"] = {"blockHash": None, "status": "0x1"}
    assert await client.receipt(bytes(32)) is None


async def test_an_input_larger_than_a_transaction_is_refused(fake) -> None:
    l1, client = fake
    l1.answers["eth_getTransactionByHash"] = {"input": "0x" + "00" * (128 * 1024 + 1)}
    with pytest.raises(InvalidAnswer):
        await client.transaction_input(bytes(32))


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("already known", SendOutcome.KNOWN),
        ("transaction already imported", SendOutcome.KNOWN),
        ("AlreadyKnown", SendOutcome.KNOWN),
        ("Known transaction", SendOutcome.KNOWN),
        ("nonce too low: next nonce 4, tx nonce 3", SendOutcome.NONCE_TOO_LOW),
        ("OldNonce", SendOutcome.NONCE_TOO_LOW),
        ("replacement transaction underpriced", SendOutcome.UNDERPRICED),
        ("transaction gas price below minimum: gas tip cap 0", SendOutcome.UNDERPRICED),
        ("max fee per gas less than block base fee", SendOutcome.UNDERPRICED),
        ("insufficient funds for gas * price + value", SendOutcome.INSUFFICIENT_FUNDS),
        ("Insufficient funds for gas * price + value", SendOutcome.INSUFFICIENT_FUNDS),
        ("exceeds block gas limit", SendOutcome.REJECTED),
        ("", SendOutcome.REJECTED),
    ],
)
def test_the_words_of_l1_clients_are_understood(text: str, outcome: SendOutcome) -> None:
    assert classify_refusal(text) is outcome
