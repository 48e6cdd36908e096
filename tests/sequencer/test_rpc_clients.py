"""What Go and JavaScript clients need of an answer before they go on."""

from typing import Any

import pytest
import rlp
from eth_hash.auto import keccak
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.middleware import SignAndSendRawMiddlewareBuilder
from web3.types import Wei

from sequencer import __version__
from sequencer.config import NamespaceConfig
from tests.sequencer.ordering_node import OrderingNode
from tests.sequencer.rpc_fixtures import ACCOUNT, FEE, ROLLUP, hexed, serving, signed

EMPTY_TRIE = hexed(keccak(rlp.encode(b"")))
ZERO_HASH = "0x" + "00" * 32
ACCESS = [{"address": "0x" + "33" * 20, "storageKeys": ["0x" + "44" * 32] * 2}]


async def test_a_block_has_the_empty_root_exactly_where_the_rollup_has_no_transaction() -> None:
    node = OrderingNode(automatic=False)
    node.commit((902, signed(0, chain_id=902)))
    node.commit((ROLLUP, signed(0)))
    async with serving(node) as served:
        for number, root in (("0x0", EMPTY_TRIE), ("0x1", EMPTY_TRIE), ("0x2", ZERO_HASH)):
            block = await served.call("eth_getBlockByNumber", number, False)
            assert (block["transactionsRoot"], block["receiptsRoot"]) == (root, root)
            assert (block["transactionsRoot"] == EMPTY_TRIE) == (block["transactions"] == [])


async def test_new_heads_have_the_empty_root_too() -> None:
    node = OrderingNode(automatic=False)
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
    async with (
        serving(node) as served,
        served.session.ws_connect(f"{served.url}/rollup/{ROLLUP}") as socket,
    ):
        await socket.send_json(call)
        await socket.receive_json()
        node.commit()
        head = (await socket.receive_json())["params"]["result"]
        assert head["transactionsRoot"] == EMPTY_TRIE


async def test_a_creation_names_its_contract_and_nothing_else_does() -> None:
    node = OrderingNode(automatic=False)
    creation = signed(3, to="", gas=100_000, data=b"\x60\x00")
    node.commit((ROLLUP, creation), (ROLLUP, signed(4)), (ROLLUP, b"opaque"))
    expected = keccak(rlp.encode([bytes.fromhex(ACCOUNT.address[2:]), 3]))[12:]
    async with serving(node) as served:
        receipts = await served.call("eth_getBlockReceipts", "latest")
        assert [r["contractAddress"] for r in receipts] == [hexed(expected), None, None]


async def test_the_effective_price_is_the_floor_and_the_tip_up_to_the_maximum() -> None:
    node = OrderingNode(automatic=False, n901=NamespaceConfig(min_fee_wei=FEE))
    node.commit(
        (ROLLUP, signed(0, maxFeePerGas=3 * FEE, maxPriorityFeePerGas=7)),
        (ROLLUP, signed(1, maxFeePerGas=FEE + 5, maxPriorityFeePerGas=7)),
    )
    async with serving(node) as served:
        receipts = await served.call("eth_getBlockReceipts", "latest")
        assert [int(r["effectiveGasPrice"], 16) - FEE for r in receipts] == [7, 5]


@pytest.mark.parametrize(
    "call",
    [
        {"to": "0x" + "55" * 20},
        {"to": "0x" + "55" * 20, "data": "0x00ff00ff01"},
        {"to": "0x" + "55" * 20, "input": "0x01", "data": "0x01"},
        {"data": "0x" + "60" * 33},
        {"to": None, "input": "0x" + "00" * 64},
        {"to": "0x" + "55" * 20, "accessList": ACCESS},
    ],
)
async def test_the_estimate_is_what_admission_asks_for(call: dict[str, Any]) -> None:
    async with serving() as served:
        gas = int(await served.call("eth_estimateGas", {"from": ACCOUNT.address, **call}), 16)
        fields = {
            "to": call.get("to") or "",
            "data": call.get("data") or call.get("input") or "0x",
            "accessList": call.get("accessList", []),
        }
        error = await served.refusal(
            "eth_sendRawTransaction", hexed(signed(0, gas=gas - 1, **fields))
        )
        assert error["message"] == f"intrinsic gas too low: gas {gas - 1}, minimum needed {gas}"
        await served.call("eth_sendRawTransaction", hexed(signed(0, gas=gas, **fields)))


async def test_an_estimate_of_what_cannot_be_sent_is_refused() -> None:
    async with serving() as served:
        to = "0x" + "55" * 20
        wrongs: list[Any] = [
            "0x",
            [],
            {"to": "0x55"},
            {"to": to, "data": "0x1"},
            {"to": to, "data": 7},
            {"to": to, "data": "0x01", "input": "0x02"},
            {"to": to, "accessList": [7]},
            {"to": to, "authorizationList": {}},
        ]
        for wrong in wrongs:
            error = await served.refusal("eth_estimateGas", wrong)
            assert error["code"] == -32602
        error = await served.refusal("eth_estimateGas", {"data": "0x" + "00" * 49_153})
        assert "max initcode size exceeded" in error["message"]


async def test_web3_sends_without_being_told_the_gas() -> None:
    async with serving() as served:
        web3 = AsyncWeb3(AsyncHTTPProvider(f"{served.url}/rollup/{ROLLUP}"))
        web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(ACCOUNT), layer=0)
        tx_hash = await web3.eth.send_transaction(
            {"from": ACCOUNT.address, "to": ACCOUNT.address, "value": Wei(1)}
        )
        assert (await web3.eth.wait_for_transaction_receipt(tx_hash, 5, 0.02))["status"] == 1
        await web3.provider.disconnect()


async def test_nonces_are_told_of_the_present_and_of_the_genesis() -> None:
    node = OrderingNode(automatic=False)
    node.commit((ROLLUP, signed(0)))
    node.commit()
    async with serving(node) as served:

        async def count(block: Any) -> Any:
            return await served.call("eth_getTransactionCount", ACCOUNT.address, block)

        for tag in ("latest", "pending", "safe", "finalized", None):
            assert await count(tag) == "0x1"
        genesis = (await served.call("eth_getBlockByNumber", "0x0"))["hash"]
        for first in ("earliest", "0x0", 0, genesis, {"blockHash": genesis}):
            assert await count(first) == "0x0"
        for past in ("0x1", 2, {"blockNumber": "0x1"}):
            error = await served.refusal("eth_getTransactionCount", ACCOUNT.address, past)
            assert (error["code"], "ask for latest" in error["message"]) == (-32000, True)
        error = await served.refusal("eth_getTransactionCount", ACCOUNT.address, "0x9")
        assert (error["code"], error["message"]) == (-32000, "header not found")
        wrongs: list[Any] = ["newest", "0xzz", [], {}, 1.5]
        for wrong in wrongs:
            error = await served.refusal("eth_getTransactionCount", ACCOUNT.address, wrong)
            assert error["code"] == -32602
            assert error["message"].startswith("invalid argument 1")


async def test_bytes_are_read_back_pending_and_ordered() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served:
        raw = signed(0)
        tx_hash = await served.call("eth_sendRawTransaction", hexed(raw))
        assert await served.call("eth_getRawTransactionByHash", tx_hash) == hexed(raw)
        node.commit()
        assert await served.call("eth_getRawTransactionByHash", tx_hash) == hexed(raw)
        assert await served.call("eth_getRawTransactionByHash", ZERO_HASH) is None


async def test_small_questions_of_libraries_are_answered() -> None:
    async with serving() as served:
        assert await served.call("web3_sha3", "0x68656c6c6f") == hexed(keccak(b"hello"))
        assert await served.call("net_peerCount") == "0x0"
        assert (await served.call("web3_clientVersion")).startswith(f"sequencer/v{__version__}/")
