"""What a node answers about heights that it does not keep any more."""

import aiohttp
import orjson
import pytest

from consensus.rules import Rules
from sequencer.collection import transaction_id
from sequencer.history import Retention, windows
from sequencer.ledger import Ledger
from sequencer.store.memory import MemoryStore
from tests.sequencer.ordering_node import OrderingNode, genesis_of_one
from tests.sequencer.rpc_fixtures import ROLLUP, Served, serving

RULES = Rules(duplicate_window_heights=10, digest_window_heights=5)
HEIGHTS = 40
PRUNED = 4_444
KEPT_FROM = HEIGHTS - windows(RULES) + 1


def pruned_node() -> OrderingNode:
    node = OrderingNode(automatic=False)
    node.genesis = genesis_of_one(RULES)
    node.store = MemoryStore(node.genesis.chain_id)
    node.ledger = Ledger(node.store, node.genesis.chain_id, RULES)
    node.ledger.retention = Retention(windows(RULES))
    for height in range(1, HEIGHTS + 1):
        node.commit((ROLLUP, b"transaction %d" % height))
    return node


def id_of(height: int) -> str:
    return "0x" + transaction_id(ROLLUP, b"transaction %d" % height).hex()


async def refused(served: Served, method: str, *params: object) -> str:
    error = await served.refusal(method, *params)
    assert error["code"] == PRUNED, error
    assert error["message"].startswith("pruned history unavailable: ")
    return str(error["message"])


async def test_blocks_below_the_base_are_pruned_and_those_above_are_there() -> None:
    async with serving(pruned_node()) as served:
        for height in (1, KEPT_FROM - 1):
            for method in ("eth_getBlockByNumber", "seq_getBlock"):
                said = await refused(served, method, hex(height))
                assert f"from height {KEPT_FROM} on" in said
        for height in (0, KEPT_FROM, HEIGHTS):
            block = await served.call("eth_getBlockByNumber", hex(height), False)
            assert block["number"] == hex(height)
        assert (await served.call("seq_getBlock", KEPT_FROM))["height"] == KEPT_FROM
        assert await served.call("eth_getBlockByNumber", hex(HEIGHTS + 1)) is None


async def test_a_transaction_that_was_pruned_is_not_called_unknown() -> None:
    async with serving(pruned_node()) as served:
        for method in (
            "eth_getTransactionByHash",
            "eth_getTransactionReceipt",
            "seq_getTransaction",
            "seq_getReceipt",
        ):
            assert "it is ordered at height 3" in await refused(served, method, id_of(3))
            assert await served.call(method, id_of(HEIGHTS)) is not None
        assert await served.call("eth_getTransactionReceipt", id_of(HEIGHTS + 9)) is None


async def test_a_pruned_transaction_is_not_taken_a_second_time() -> None:
    node = pruned_node()
    async with serving(node) as served:
        ids = await served.call("seq_submit", ROLLUP, ["0x" + b"transaction 3".hex()])
        assert ids == [id_of(3)]
        assert node.submitted == []


async def test_a_feed_from_below_the_base_is_refused_at_once() -> None:
    async with (
        serving(pruned_node()) as served,
        served.session.ws_connect(f"{served.url}/rollup/{ROLLUP}") as socket,
    ):

        async def subscribe(height: int) -> dict[str, object]:
            request = {"jsonrpc": "2.0", "id": 1, "method": "seq_subscribe"}
            await socket.send_bytes(orjson.dumps(request | {"params": ["blocks", height]}))
            answer: dict[str, object] = orjson.loads((await socket.receive(timeout=5)).data)
            return answer

        error = (await subscribe(KEPT_FROM - 1))["error"]
        assert isinstance(error, dict)
        assert error["code"] == PRUNED
        assert "result" in await subscribe(KEPT_FROM)
        event = orjson.loads((await socket.receive(timeout=5)).data)
        assert event["params"]["result"]["height"] == KEPT_FROM


async def test_a_feed_that_falls_behind_the_pruning_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    node = pruned_node()
    async with serving(node) as served, aiohttp.ClientSession() as session:
        views = served.server.rpc.views
        async with session.ws_connect(f"{served.url}/rollup/{ROLLUP}") as socket:
            body = {"jsonrpc": "2.0", "id": 1, "method": "seq_subscribe"}
            monkeypatch.setattr(node.ledger, "is_pruned", lambda height: height > KEPT_FROM)
            views._views.clear()
            await socket.send_bytes(orjson.dumps(body | {"params": ["blocks", KEPT_FROM]}))
            kinds = [(await socket.receive(timeout=5)).type for _ in range(3)]
            assert kinds[-1] in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
