"""The embedded L1 as a client sees it: Ethereum's answers, geth's words, faults on request."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from eth_account import Account

from testnet.l1.chain import EmbeddedChain
from testnet.l1.embedded import serve_body
from testnet.l1.launch import funded_key, launch_l1
from testnet.l1.rpc import EthereumRpc

CHAIN_ID = 1234
ALICE, BOB, POOR = (Account.from_key(funded_key(index)) for index in range(3))
FUNDS = 10**20
SINK = "0x" + "99" * 20
GWEI = 10**9

# Runtime code: with 1 byte of input reverts with it, with 2 bytes logs them with a topic and stores
# 7 at slot 0, else returns its input.
RUNTIME = bytes.fromhex(
    "36600114601b5736600214602857365f5f37365ff3"  # dispatch; return calldata
    "000000000000"
    "5b60015f5f3760015ffd"  # 0x1b: revert(calldata[0:1])
    "000000"
    "5b600760005560025f5f3760aa60025fa100"  # 0x28: store, log1(topic 0xaa, calldata[0:2])
)


@dataclass
class Node:
    """A chain in this process; every block is mined by hand."""

    chain: EmbeddedChain
    rpc: EthereumRpc
    now: int = 1_000_000

    def ask(self, method: str, *parameters: Any) -> Any:
        import orjson

        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}
        answer = serve_body(self.rpc, orjson.dumps(body))
        assert answer["id"] == 7
        return answer["result"] if "result" in answer else answer["error"]

    def mine(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 1
            self.chain.mine(self.now)

    def sign(self, account: Any = ALICE, **changes: Any) -> str:
        fields = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": int(self.ask("eth_getTransactionCount", account.address, "pending"), 16),
            "to": SINK,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 5 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            "data": b"",
        }
        if isinstance(changes.get("to"), str):
            changes["to"] = bytes.fromhex(changes["to"][2:])
        return "0x" + account.sign_transaction(fields | changes).raw_transaction.hex()

    def send(self, account: Any = ALICE, **changes: Any) -> Any:
        return self.ask("eth_sendRawTransaction", self.sign(account, **changes))

    def deploy(self, runtime: bytes = RUNTIME) -> str:
        copy = bytes([0x60, len(runtime), 0x80, 0x60, 0x0A, 0x5F, 0x39, 0x5F, 0xF3, 0x00])
        receipt = self.mined(self.send(to=b"", value=0, gas=500_000, data=copy + runtime))
        assert receipt["status"] == "0x1"
        return receipt["contractAddress"]

    def mined(self, tx_hash: str) -> dict[str, Any]:
        self.mine()
        return self.ask("eth_getTransactionReceipt", tx_hash)


@pytest.fixture
def node(tmp_path: Path):
    funded = {bytes.fromhex(account.address[2:]): FUNDS for account in (ALICE, BOB)}
    chain = EmbeddedChain(tmp_path, CHAIN_ID, funded, now=1_000_000)
    yield Node(chain, EthereumRpc(chain))
    chain.close()


def test_identity(node: Node) -> None:
    assert node.ask("eth_chainId") == hex(CHAIN_ID)
    assert node.ask("net_version") == str(CHAIN_ID)
    assert "py-evm" in node.ask("web3_clientVersion")
    assert node.ask("eth_syncing") is False
    assert int(node.ask("eth_getBalance", ALICE.address, "latest"), 16) == FUNDS


def test_a_transfer_from_pool_to_receipt(node: Node) -> None:
    tx_hash = node.send(value=5)
    pending = node.ask("eth_getTransactionByHash", tx_hash)
    assert (pending["blockHash"], pending["from"], pending["value"]) == (
        None,
        ALICE.address.lower(),
        "0x5",
    )
    assert node.ask("eth_getTransactionReceipt", tx_hash) is None
    assert node.ask("eth_getTransactionCount", ALICE.address, "latest") == "0x0"
    assert node.ask("eth_getTransactionCount", ALICE.address, "pending") == "0x1"
    assert node.ask("eth_getBalance", SINK, "pending") == "0x5"
    receipt = node.mined(tx_hash)
    assert (receipt["status"], receipt["gasUsed"], receipt["blockNumber"]) == (
        "0x1",
        "0x5208",
        "0x1",
    )
    block = node.ask("eth_getBlockByNumber", "latest", True)
    assert block["transactions"][0]["hash"] == tx_hash
    assert node.ask("eth_getBlockByHash", block["hash"], False)["transactions"] == [tx_hash]
    assert node.ask("eth_getBalance", SINK, "0x0") == "0x0"
    assert node.ask("eth_getBalance", SINK, {"blockHash": block["hash"]}) == "0x5"
    assert node.ask("eth_getBlockReceipts", "0x1") == [receipt]
    base_fee = int(block["baseFeePerGas"], 16)
    assert int(receipt["effectiveGasPrice"], 16) == base_fee + GWEI
    spent = FUNDS - int(node.ask("eth_getBalance", ALICE.address), 16)
    assert spent == 5 + 21_000 * (base_fee + GWEI)


def test_tags(node: Node) -> None:
    assert node.ask("eth_getBlockByNumber", "finalized", False)["number"] == "0x0"
    node.mine(10)
    heights = {
        tag: node.ask("eth_getBlockByNumber", tag, False)["number"]
        for tag in ("earliest", "finalized", "safe", "latest")
    }
    assert heights == {"earliest": "0x0", "finalized": "0x6", "safe": "0x6", "latest": "0xa"}
    assert node.ask("eth_getBlockByNumber", "0xb", False) is None
    assert node.ask("eth_getBlockByHash", "0x" + "12" * 32, False) is None
    assert node.ask("eth_blockNumber") == "0xa"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nonce": 0}, "nonce too low: next nonce 1, tx nonce 0"),
        ({"value": FUNDS}, "insufficient funds for gas * price + value: balance"),
        ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas": 60_000_001}, "exceeds block gas limit"),
        ({"gas": 21_016, "data": b"\1"}, "insufficient gas for floor data gas cost: gas 21016"),
        (
            {"maxPriorityFeePerGas": 6 * GWEI},
            "max priority fee per gas higher than max fee per gas",
        ),
        ({"chainId": 5}, "invalid chain id for signer: have 5 want 1234"),
        ({"data": bytes(129 * 1024), "gas": 6 * 10**6}, "oversized data: transaction size"),
    ],
)
def test_what_the_pool_refuses_is_said_in_geths_words(node: Node, changes, words) -> None:
    node.mined(node.send())
    error = node.send(**changes)
    assert error["code"] == -32000
    assert error["message"].startswith(words)


@pytest.mark.parametrize("raw", ["0x", "0x02", "0x02c0", "0xff", "0x" + "c0" * 50, "0x03c0"])
def test_garbage_is_refused(node: Node, raw: str) -> None:
    assert node.ask("eth_sendRawTransaction", raw)["code"] == -32000


def test_the_pool_knows_replaces_and_waits_for_gaps(node: Node) -> None:
    raw = node.sign(nonce=1)
    later = node.ask("eth_sendRawTransaction", raw)
    assert node.ask("eth_sendRawTransaction", raw)["message"] == "already known"
    assert node.ask("eth_getTransactionCount", ALICE.address, "pending") == "0x0"
    node.mine()
    assert node.ask("eth_getTransactionReceipt", later) is None
    for fee, tip in ((5.49, 1.1), (5.5, 1.09)):
        answer = node.send(
            nonce=1, maxFeePerGas=int(fee * GWEI), maxPriorityFeePerGas=int(tip * GWEI)
        )
        assert answer["message"] == "replacement transaction underpriced"
    dearer = node.send(nonce=1, maxFeePerGas=int(5.5 * GWEI), maxPriorityFeePerGas=int(1.1 * GWEI))
    assert node.ask("eth_getTransactionByHash", later) is None
    first = node.send(nonce=0)
    node.mine()
    assert node.ask("eth_getTransactionReceipt", first)["transactionIndex"] == "0x0"
    assert node.ask("eth_getTransactionReceipt", dearer)["transactionIndex"] == "0x1"


def test_the_better_tip_comes_first(node: Node) -> None:
    modest = node.send(ALICE)
    generous = node.send(BOB, maxPriorityFeePerGas=2 * GWEI)
    assert node.mined(modest)["transactionIndex"] == "0x1"
    assert node.ask("eth_getTransactionReceipt", generous)["transactionIndex"] == "0x0"


def test_the_base_fee_falls_when_blocks_are_empty_and_a_spike_delays_the_cheap(node: Node) -> None:
    before = int(node.ask("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    node.mine()
    after = int(node.ask("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    assert after == before - before // 8
    tx_hash = node.send()
    assert node.ask("testnet_spike", hex(50 * GWEI)) is True
    assert node.mined(tx_hash) is None
    head = node.ask("eth_getBlockByNumber", "latest", False)
    assert int(head["baseFeePerGas"], 16) == 50 * GWEI
    history = node.ask("eth_feeHistory", "0x2", "latest", [50])
    assert int(history["baseFeePerGas"][1], 16) == 50 * GWEI
    assert len(history["baseFeePerGas"]) == 3
    node.mine(20)  # it takes 18 empty blocks from 50 to below 5 gwei
    assert node.ask("eth_getTransactionReceipt", tx_hash)["status"] == "0x1"


def test_calls_reverts_and_estimates(node: Node) -> None:
    contract = node.deploy()
    assert node.ask("eth_getCode", contract) == "0x" + RUNTIME.hex()
    call = {"to": contract, "from": ALICE.address}
    assert node.ask("eth_call", {**call, "data": "0x010203"}, "latest") == "0x010203"
    assert node.ask("eth_call", {**call, "input": "0x010203"}, "pending") == "0x010203"
    error = node.ask("eth_call", {**call, "data": "0x42"}, "latest")
    assert error == {"code": 3, "message": "execution reverted", "data": "0x42"}
    assert node.ask("eth_estimateGas", {**call, "data": "0x42"})["code"] == 3
    assert node.ask("eth_call", {**call, "data": "0x010203", "gas": "0x5208"})[
        "message"
    ].startswith("intrinsic gas too low")
    estimate = int(node.ask("eth_estimateGas", {**call, "data": "0x0102"}), 16)
    receipt = node.mined(node.send(to=contract, value=0, data=b"\1\2", gas=estimate))
    assert receipt["status"] == "0x1"
    used = int(receipt["gasUsed"], 16)
    assert used <= estimate <= used * 1.1
    assert node.ask("eth_getStorageAt", contract, "0x0", "latest") == f"0x{7:064x}"
    assert int(node.ask("eth_estimateGas", {"to": SINK, "from": POOR.address}), 16) == 21_000


def test_a_call_changes_nothing(node: Node) -> None:
    contract = node.deploy()
    for tag in ("latest", "pending"):
        node.ask("eth_call", {"to": contract, "data": "0x0102"}, tag)
        assert node.ask("eth_getStorageAt", contract, "0x0", tag) == f"0x{0:064x}"


def test_the_pending_state_holds_what_waits(node: Node) -> None:
    contract = node.deploy()
    node.send(to=contract, value=0, data=b"\1\2", gas=100_000)
    assert node.ask("eth_getStorageAt", contract, "0x0", "latest") == f"0x{0:064x}"
    assert node.ask("eth_getStorageAt", contract, "0x0", "pending") == f"0x{7:064x}"


def test_a_transaction_that_fails_is_mined_with_status_0(node: Node) -> None:
    contract = node.deploy()
    receipt = node.mined(node.send(to=contract, value=0, data=b"\x42", gas=100_000))
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])


def test_logs_by_range_address_topic_and_block(node: Node) -> None:
    contract, other = node.deploy(), node.deploy()
    node.send(to=contract, value=0, data=b"\1\2", gas=100_000)
    receipt = node.mined(node.send(to=other, value=0, data=b"\3\4", gas=100_000))
    node.mine(2)
    topic = f"0x{0xAA:064x}"

    def found(**query: Any) -> list[str]:
        answer = node.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"} | query)
        return [log["data"] for log in answer]

    assert found() == ["0x0102", "0x0304"]
    assert found(address=contract) == ["0x0102"]
    assert found(address=[contract, other], topics=[topic]) == ["0x0102", "0x0304"]
    assert found(topics=[[topic, "0x" + "0" * 64]]) == ["0x0102", "0x0304"]
    assert found(topics=[None]) == ["0x0102", "0x0304"]
    assert found(topics=["0x" + "0" * 64]) == []
    assert found(topics=[topic, topic]) == []
    assert found(fromBlock="0x4") == []
    assert found(toBlock="0x2") == []
    assert found(fromBlock="0x99") == []
    by_block = node.ask("eth_getLogs", {"blockHash": receipt["blockHash"]})
    assert [log["logIndex"] for log in by_block] == ["0x0", "0x1"]
    assert by_block[1] == receipt["logs"][0]


def test_a_reorg_returns_transactions_and_never_reaches_the_finalized_block(node: Node) -> None:
    node.mine(5)
    tx_hash = node.send()
    old = node.mined(tx_hash)
    node.mine()
    assert node.ask("testnet_reorg", 2) != old["blockHash"]
    assert node.ask("eth_blockNumber") == "0x8"
    assert node.ask("eth_getTransactionReceipt", tx_hash) is None
    assert node.ask("eth_getTransactionByHash", tx_hash)["blockHash"] is None
    assert node.ask("eth_getBlockByHash", old["blockHash"], False) is None
    assert node.ask("eth_getTransactionCount", ALICE.address, "latest") == "0x0"
    assert node.mined(tx_hash)["blockNumber"] == "0x9"
    assert node.ask("testnet_reorg", 1, True)  # this time the transaction is lost
    assert node.ask("eth_getTransactionByHash", tx_hash) is None
    assert node.ask("testnet_reorg", 4)["code"] == -32602
    assert node.ask("testnet_reorg", 0)["code"] == -32602


def test_a_chain_continues_where_it_ended(node: Node, tmp_path: Path) -> None:
    contract = node.deploy()
    receipt = node.mined(node.send(to=contract, value=0, data=b"\1\2", gas=100_000))
    node.chain.close()
    chain = EmbeddedChain(tmp_path, CHAIN_ID, {}, now=2_000_000)
    again = Node(chain, EthereumRpc(chain))
    assert again.ask("eth_getTransactionReceipt", receipt["transactionHash"]) == receipt
    assert again.ask("eth_getStorageAt", contract, "0x0", "latest") == f"0x{7:064x}"
    again.mine()
    assert again.ask("eth_blockNumber") == "0x3"


def test_wrong_requests_get_an_answer_that_says_so(node: Node) -> None:
    assert node.ask("eth_mine")["code"] == -32601
    assert node.ask("eth_getBalance")["code"] == -32602
    assert node.ask("eth_getBalance", "0x12")["code"] == -32602
    assert node.ask("eth_getBalance", ALICE.address, "0xzz")["code"] == -32602
    assert node.ask("eth_getBalance", ALICE.address, "0x99")["message"] == "header not found"
    assert node.ask("eth_call", {"to": 3})["code"] == -32602
    assert node.ask("eth_getLogs", {"topics": ["0x1"] * 5})["code"] == -32602
    for body, code in ((b"{", -32700), (b"[]", -32600), (b"3", -32600), (b'{"method":3}', -32600)):
        assert serve_body(node.rpc, body)["error"]["code"] == code
    batch = serve_body(node.rpc, b'[{"id":1,"method":"eth_chainId"},{"id":2,"method":"nope"}]')
    assert [answer["id"] for answer in batch] == [1, 2]
    assert "result" in batch[0]
    assert "error" in batch[1]


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[str]:
    handle = await launch_l1("embedded", tmp_path, chain_id=CHAIN_ID, block_time_s=0.05)
    yield handle.url
    await handle.aclose()


async def test_web3_py_sends_a_transaction_and_calls(running: str) -> None:
    from web3 import AsyncHTTPProvider, AsyncWeb3

    web3 = AsyncWeb3(AsyncHTTPProvider(running))
    try:
        assert await web3.is_connected()
        account = web3.eth.account.from_key(funded_key(0))
        fields = {
            "from": account.address,
            "to": "0x" + "99" * 20,
            "value": 7,
            "nonce": await web3.eth.get_transaction_count(account.address),
            "chainId": await web3.eth.chain_id,
            "gas": 21_000,
            "maxFeePerGas": 2 * await web3.eth.gas_price,
            "maxPriorityFeePerGas": await web3.eth.max_priority_fee,
        }
        fields["gas"] = await web3.eth.estimate_gas(fields)
        signed = account.sign_transaction(fields)
        tx_hash = await web3.eth.send_raw_transaction(signed.raw_transaction)
        receipt = await web3.eth.wait_for_transaction_receipt(
            tx_hash, timeout=10, poll_latency=0.02
        )
        assert receipt["status"] == 1
        block = await web3.eth.get_block("latest", full_transactions=True)
        assert block["number"] >= receipt["blockNumber"]
        assert (await web3.eth.fee_history(2, "latest", [10]))["oldestBlock"] >= 0
    finally:
        await web3.provider.disconnect()


async def test_many_clients_at_once_are_served_over_http(running: str) -> None:
    async with aiohttp.ClientSession() as session:

        async def ask(number: int) -> int:
            body = {"jsonrpc": "2.0", "id": number, "method": "eth_chainId", "params": []}
            async with session.post(running, json=body) as response:
                return (await response.json())["id"]

        assert await asyncio.gather(*map(ask, range(50))) == list(range(50))
