"""What Ethereum clients see: web3.py unchanged, geth's answers, geth's errors."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account
from eth_hash.auto import keccak
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import TimeExhausted, TransactionNotFound, Web3RPCError
from web3.middleware import SignAndSendRawMiddlewareBuilder

from sequencer.collection import transaction_id
from sequencer.config import NamespaceConfig
from sequencer.pool import PoolFull
from sequencer.service import Unready
from tests.sequencer.ordering_node import BLOCK_MS, START_MS, OrderingNode
from tests.sequencer.rpc_fixtures import ACCOUNT, FEE, ROLLUP, Served, hexed, serving, signed


def web3_of(served: Served) -> AsyncWeb3[Any]:
    return AsyncWeb3(AsyncHTTPProvider(f"{served.url}/rollup/{ROLLUP}"))


async def test_web3_sends_a_transaction_and_waits_for_its_receipt() -> None:
    async with serving() as served:
        web3 = web3_of(served)
        assert await web3.eth.chain_id == ROLLUP
        for nonce in range(3):
            assert await web3.eth.get_transaction_count(ACCOUNT.address) == nonce
            raw = signed(nonce)
            tx_hash = await web3.eth.send_raw_transaction(raw)
            assert tx_hash == keccak(raw)
            receipt = await web3.eth.wait_for_transaction_receipt(tx_hash, 5, 0.02)
            assert receipt["status"] == 1
            assert receipt["from"] == ACCOUNT.address
            assert receipt["blockNumber"] == nonce + 1
            shown = await web3.eth.get_transaction(tx_hash)
            assert (shown["nonce"], shown["hash"]) == (nonce, tx_hash)
            assert shown["blockHash"] == receipt["blockHash"]
        block = await web3.eth.get_block("latest", full_transactions=True)
        assert block["number"] == 3
        assert block["timestamp"] == (START_MS + 3 * BLOCK_MS) // 1_000
        assert block["transactions"][0]["from"] == ACCOUNT.address
        assert await web3.eth.get_block(block["hash"]) == await web3.eth.get_block(3)
        await web3.provider.disconnect()


async def test_web3_builds_and_signs_by_itself() -> None:
    async with serving() as served:
        web3 = web3_of(served)
        web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(ACCOUNT), layer=0)
        for value in (1, 2):
            tx_hash = await web3.eth.send_transaction(
                {"from": ACCOUNT.address, "to": ACCOUNT.address, "value": value, "gas": 21_000}
            )
            receipt = await web3.eth.wait_for_transaction_receipt(tx_hash, 5, 0.02)
        assert receipt["transactionIndex"] == 0
        history = await web3.eth.fee_history(4, "latest", [50])
        assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
        assert await web3.eth.gas_price == 0
        await web3.provider.disconnect()


async def test_a_pending_transaction_has_no_receipt_and_no_block() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        web3 = web3_of(served)
        tx_hash = await web3.eth.send_raw_transaction(signed(0))
        shown = await web3.eth.get_transaction(tx_hash)
        assert shown["blockNumber"] is None
        assert await served.call("eth_getTransactionReceipt", hexed(tx_hash)) is None
        with pytest.raises(TimeExhausted):
            await web3.eth.wait_for_transaction_receipt(tx_hash, 0.1, 0.02)
        with pytest.raises(TransactionNotFound):
            await web3.eth.get_transaction(b"\1" * 32)
        assert await web3.eth.get_transaction_count(ACCOUNT.address, "pending") == 1
        assert await web3.eth.get_transaction_count(ACCOUNT.address, "latest") == 0
        served.node.commit()
        assert await web3.eth.get_transaction_count(ACCOUNT.address, "latest") == 1
        await web3.provider.disconnect()


async def test_sending_is_idempotent_by_hash() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        raw = hexed(signed(0))
        first = await served.call("eth_sendRawTransaction", raw)
        assert await served.call("eth_sendRawTransaction", raw) == first
        served.node.commit()
        assert await served.call("eth_sendRawTransaction", raw) == first
        assert len(served.node.submitted) == 1


async def test_the_same_bytes_in_another_namespace_hide_nothing() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        raw = signed(0)
        served.node.commit((5, raw))
        assert await served.call("eth_getTransactionReceipt", hexed(keccak(raw))) is None
        await served.call("eth_sendRawTransaction", hexed(raw))
        served.node.commit()
        receipt = await served.call("eth_getTransactionReceipt", hexed(keccak(raw)))
        assert receipt["blockNumber"] == "0x2"


async def test_a_nonce_in_the_past_is_refused_and_only_that() -> None:
    async with serving() as served:
        await served.call("eth_sendRawTransactionSync", hexed(signed(0)), 2_000)
        await served.call("eth_sendRawTransactionSync", hexed(signed(2)), 2_000)
        assert await served.call("eth_getTransactionCount", ACCOUNT.address, "latest") == "0x1"
        error = await served.refusal("eth_sendRawTransaction", hexed(signed(2, value=9)))
        assert error == {"code": -32000, "message": "nonce too low: next nonce 3, tx nonce 2"}
        await served.call("eth_sendRawTransactionSync", hexed(signed(1)), 2_000)


async def test_nonces_count_what_other_nodes_admitted_and_what_was_before() -> None:
    node = OrderingNode(automatic=False)
    node.commit((ROLLUP, signed(0)), (ROLLUP, b"junk"), (7, signed(5)))
    async with serving(node) as served:
        assert await served.call("eth_getTransactionCount", ACCOUNT.address) == "0x1"
        node.commit((ROLLUP, signed(1)))
        assert await served.call("eth_getTransactionCount", ACCOUNT.address) == "0x2"


async def test_refusals_have_the_sentences_of_geth() -> None:
    node = OrderingNode(n901=NamespaceConfig(policy="ethereum", min_fee_wei=FEE))
    async with serving(node) as served:

        async def refused(raw: bytes) -> str:
            error = await served.refusal("eth_sendRawTransaction", hexed(raw))
            assert error["code"] == -32000
            return str(error["message"])

        assert "invalid chain id for signer" in await refused(signed(0, chain_id=902))
        assert "underpriced" in await refused(signed(0, maxFeePerGas=FEE - 1))
        assert "intrinsic gas too low" in await refused(signed(0, gas=20_999))
        assert "rlp" in await refused(b"\x02\xc1")
        assert await refused(b"")
        assert node.submitted == []
        with pytest.raises(Web3RPCError, match="invalid chain id"):
            await web3_of(served).eth.send_raw_transaction(signed(0, chain_id=902))


async def test_the_fee_floor_is_what_wallets_are_told() -> None:
    async with serving(OrderingNode(n901=NamespaceConfig(min_fee_wei=FEE))) as served:
        assert await served.call("eth_gasPrice") == hex(FEE)
        block = await served.call("eth_getBlockByNumber", "latest", False)
        assert block["baseFeePerGas"] == hex(FEE)
        history = await served.call("eth_feeHistory", "0x1", "latest", [10, 90])
        assert history["baseFeePerGas"] == [hex(FEE)] * 2
        assert history["reward"] == [["0x0", "0x0"]]


async def test_a_full_pool_says_when_to_come_back() -> None:
    async with serving() as served:
        served.node.refuse = PoolFull(250)
        error = await served.refusal("eth_sendRawTransaction", hexed(signed(0)))
        assert error["code"] == -32005
        assert error["data"] == {"retry_after_ms": 250}
        served.node.refuse = Unready("the node is syncing")
        error = await served.refusal("eth_sendRawTransaction", hexed(signed(0)))
        assert (error["code"], error["message"]) == (-32002, "the node is syncing")
        served.node.refuse = None
        await served.call("eth_sendRawTransaction", hexed(signed(0)))


async def test_sending_and_waiting_returns_the_receipt() -> None:
    async with serving() as served:
        receipt = await served.call("eth_sendRawTransactionSync", hexed(signed(0)))
        assert receipt["status"] == "0x1"
        again = await served.call("eth_sendRawTransactionSync", hexed(signed(0)), "0x64")
        assert again == receipt


async def test_waiting_in_vain_ends_with_the_hash_of_what_was_taken() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        raw = signed(0)
        error = await served.refusal("eth_sendRawTransactionSync", hexed(raw), 50)
        assert error["code"] == 4
        assert "wasn't processed in 50 ms" in error["message"]
        assert error["data"] == hexed(keccak(raw))
        assert served.node.submitted == [(ROLLUP, raw)]


async def test_tags_mean_committed_posted_and_final() -> None:
    node = OrderingNode(automatic=False)
    for _ in range(4):
        node.commit((ROLLUP, b"x"))
    node.safe, node.final = 3, 2
    async with serving(node) as served:
        numbers = {
            tag: (await served.call("eth_getBlockByNumber", tag, False))["number"]
            for tag in ("latest", "pending", "safe", "finalized", "earliest", "0x1")
        }
        assert numbers == {
            "latest": "0x4",
            "pending": "0x4",
            "safe": "0x3",
            "finalized": "0x2",
            "earliest": "0x0",
            "0x1": "0x1",
        }
        assert await served.call("eth_getBlockByNumber", "0x5", False) is None
        assert await served.call("eth_getBlockByHash", "0x" + "11" * 32, False) is None
        assert await served.call("eth_blockNumber") == "0x4"
        error = await served.refusal("eth_getBlockByNumber", "newest", False)
        assert error["code"] == -32602


async def test_a_rollup_sees_its_own_transactions_only() -> None:
    node = OrderingNode(automatic=False)
    mine, other = signed(0), signed(0, chain_id=902)
    node.commit((902, other), (ROLLUP, b"opaque"), (902, b"more"), (ROLLUP, mine))
    async with serving(node) as served:
        block = await served.call("eth_getBlockByNumber", "0x1", False)
        assert block["transactions"] == [
            hexed(transaction_id(ROLLUP, b"opaque")),
            hexed(keccak(mine)),
        ]
        full = await served.call("eth_getBlockByNumber", "0x1", True)
        assert [item["transactionIndex"] for item in full["transactions"]] == ["0x0", "0x1"]
        assert full["transactions"][0]["input"] == hexed(b"opaque")
        receipt = await served.call("eth_getTransactionReceipt", hexed(keccak(mine)))
        assert receipt["transactionIndex"] == "0x1"
        assert await served.call("eth_getTransactionByHash", hexed(keccak(other))) is None
        theirs = await served.call(
            "eth_getTransactionByHash", hexed(keccak(other)), path="/rollup/0x386"
        )
        assert theirs["transactionIndex"] == "0x0"


async def test_a_block_is_read_by_tag_number_hash_and_index() -> None:
    node = OrderingNode(automatic=False)
    first, second, other = signed(0), signed(1), signed(0, chain_id=902)
    node.commit((ROLLUP, first), (902, other), (ROLLUP, second))
    async with serving(node) as served:
        block_hash = (await served.call("eth_getBlockByNumber", "latest"))["hash"]
        receipts = [
            await served.call("eth_getTransactionReceipt", hexed(keccak(raw)))
            for raw in (first, second)
        ]
        for name in ("latest", "0x1", 1, block_hash, {"blockHash": block_hash}):
            assert await served.call("eth_getBlockReceipts", name) == receipts
        assert await served.call("eth_getBlockReceipts", {"blockNumber": "0x0"}) == []
        for suffix, name in (("Number", "0x1"), ("Hash", block_hash)):
            count = await served.call(f"eth_getBlockTransactionCountBy{suffix}", name)
            assert count == "0x2"
            assert await served.call(f"eth_getUncleCountByBlock{suffix}", name) == "0x0"
            by_index = f"eth_getTransactionByBlock{suffix}AndIndex"
            found = await served.call(by_index, name, "0x1")
            assert found == await served.call("eth_getTransactionByHash", hexed(keccak(second)))
            assert await served.call(by_index, name, "0x2") is None


async def test_a_block_that_is_not_there_is_null_whatever_is_asked_of_it() -> None:
    async with serving() as served:
        for name in ("0x5", "0x" + "11" * 32):
            for method in (
                "eth_getBlockReceipts",
                "eth_getBlockTransactionCountByNumber",
                "eth_getUncleCountByBlockHash",
            ):
                assert await served.call(method, name) is None
            assert await served.call("eth_getTransactionByBlockHashAndIndex", name, 0) is None
        for wrong in ("newest", "0x" + "11" * 31, {"blockHash": 7}, {}, None, [1]):
            error = await served.refusal("eth_getBlockReceipts", wrong)
            assert error["code"] == -32602


async def test_one_path_per_rollup_in_decimal_or_hex() -> None:
    async with serving() as served:
        for path in ("/rollup/901", "/rollup/0x385", "/rollup/901/"):
            assert await served.call("eth_chainId", path=path) == "0x385"
            assert await served.call("net_version", path=path) == "901"
        error = await served.refusal("eth_chainId", path="/")
        assert error["code"] == -32601
        assert "/rollup/<chain id>" in error["message"]
        assert (await served.call("web3_clientVersion", path="/")).startswith("sequencer/v")


async def test_what_needs_execution_is_refused_without_a_rollup() -> None:
    async with serving() as served:
        for method, given in (
            ("eth_getBalance", [ACCOUNT.address, "latest"]),
            ("eth_call", [{}, "latest"]),
            ("eth_getCode", [ACCOUNT.address, "latest"]),
        ):
            error = await served.refusal(method, *given)
            assert error["code"] == -32601
            assert f"the method {method} does not exist/is not available" in error["message"]
            assert "rollup_rpc" in error["message"]


async def test_what_needs_execution_is_asked_of_the_rollup() -> None:
    asked: list[Any] = []

    async def rollup(request: web.Request) -> web.Response:
        call = await request.json()
        asked.append((call["method"], call["params"]))
        if call["method"] == "eth_call":
            error = {"code": 3, "message": "execution reverted", "data": "0x08"}
            return web.json_response({"jsonrpc": "2.0", "id": call["id"], "error": error})
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": "0x7"})

    application = web.Application()
    application.router.add_post("/", rollup)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    node = OrderingNode(n901=NamespaceConfig(policy="ethereum", rollup_rpc=url))
    async with serving(node) as served:
        assert await served.call("eth_getBalance", ACCOUNT.address, "latest") == "0x7"
        assert await served.call("eth_gasPrice") == "0x7"
        assert await served.call("eth_getTransactionCount", ACCOUNT.address, "latest") == "0x7"
        await served.call("eth_sendRawTransaction", hexed(signed(8)))
        assert await served.call("eth_getTransactionCount", ACCOUNT.address, "pending") == "0x9"
        error = await served.refusal("eth_call", {"to": ACCOUNT.address}, "latest")
        assert error == {"code": 3, "message": "execution reverted", "data": "0x08"}
        assert asked[0] == ("eth_getBalance", [ACCOUNT.address, "latest"])
        await runner.cleanup()
        error = await served.refusal("eth_getBalance", ACCOUNT.address, "latest")
        assert "rollup's own RPC does not answer" in error["message"]


async def test_syncing_is_false_only_when_ready() -> None:
    async with serving() as served:
        assert await served.call("eth_syncing") is False
        served.node.readiness = (False, "syncing")
        assert (await served.call("eth_syncing"))["currentBlock"] == "0x0"


async def test_many_signed_transactions_in_one_batch() -> None:
    account = Account.create()
    raws = [signed(nonce, account=account) for nonce in range(40)]
    calls = [
        {"jsonrpc": "2.0", "id": index, "method": "eth_sendRawTransaction", "params": [hexed(raw)]}
        for index, raw in enumerate(raws)
    ]
    async with serving() as served:
        async with served.session.post(f"{served.url}/rollup/{ROLLUP}", json=calls) as response:
            answers = await response.json()
        assert [item["result"] for item in answers] == [hexed(keccak(raw)) for raw in raws]
        ordered = [
            served.call("seq_getTransaction", hexed(transaction_id(ROLLUP, raw)), 2_000, path="/")
            for raw in raws
        ]
        places = await asyncio.gather(*ordered)
        assert [place["position"] for place in places] == list(range(40))
        assert await served.call("eth_getTransactionCount", account.address) == hex(40)
