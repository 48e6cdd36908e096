"""Subscriptions over WebSocket: every height once, whoever is slow or cut off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from web3 import AsyncWeb3, WebSocketProvider

from sequencer.collection import transaction_id
from sequencer.rpc.limits import Limits
from tests.sequencer.ordering_node import OrderingNode
from tests.sequencer.rpc_fixtures import ROLLUP, Served, hexed, serving, signed


class Socket:
    """A WebSocket to a node that tells answers and events apart."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[Any] = []

    async def call(self, method: str, *params: Any) -> Any:
        await self.socket.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        while True:
            message = orjson.loads((await self.socket.receive(timeout=5)).data)
            if "id" in message:
                return message.get("result", message.get("error"))
            self.events.append(message["params"])

    async def event(self) -> Any:
        if self.events:
            return self.events.pop(0)["result"]
        message = orjson.loads((await self.socket.receive(timeout=5)).data)
        assert "method" in message, message
        return message["params"]["result"]


@asynccontextmanager
async def connected(served: Served, path: str = "/") -> AsyncIterator[Socket]:
    async with served.session.ws_connect(served.url + path) as socket:
        yield Socket(socket)


async def test_every_height_comes_once_from_the_past_into_the_future() -> None:
    node = OrderingNode(automatic=False)
    for number in range(5):
        node.commit((5, bytes([number])))
    async with serving(node) as served, connected(served) as socket:
        await socket.call("seq_subscribe", "blocks", 2)
        for height in range(2, 6):
            event = await socket.event()
            assert event["height"] == height
            assert event["first_position"] == height - 1
            assert event["transactions"] == [hexed(transaction_id(5, bytes([height - 1])))]
        node.commit()
        node.commit((5, b"x"), (6, b"y"))
        assert [(await socket.event())["count"] for _ in range(2)] == [0, 2]


async def test_without_a_height_the_feed_starts_with_the_next_block() -> None:
    node = OrderingNode(automatic=False)
    node.commit((5, b"old"))
    async with serving(node) as served, connected(served) as socket:
        await socket.call("seq_subscribe", "transactions")
        node.commit((5, b"new"))
        event = await socket.event()
        assert event["height"] == 2
        assert event["transactions"] == [
            {
                "id": hexed(transaction_id(5, b"new")),
                "index": 0,
                "position": 1,
                "namespace": 5,
                "transaction": hexed(b"new"),
            }
        ]


async def test_a_namespace_filters_transactions_and_not_heights() -> None:
    node = OrderingNode(automatic=False)
    node.commit((5, b"a"), (ROLLUP, b"b"), (5, b"c"))
    node.commit((5, b"d"))
    async with serving(node) as served:
        async with connected(served) as socket:
            await socket.call("seq_subscribe", "transactions", 1, 5)
            first, second = await socket.event(), await socket.event()
            assert [entry["position"] for entry in first["transactions"]] == [0, 2]
            assert [entry["position"] for entry in second["transactions"]] == [3]
        async with connected(served, f"/rollup/{ROLLUP}") as socket:
            await socket.call("seq_subscribe", "transactions", 1)
            first, second = await socket.event(), await socket.event()
            assert [entry["index"] for entry in first["transactions"]] == [1]
            assert (second["height"], second["transactions"]) == (2, [])


async def test_a_client_that_comes_back_misses_and_repeats_nothing() -> None:
    node = OrderingNode(automatic=False)
    seen: list[int] = []
    async with serving(node) as served:
        for round_number in range(4):
            async with connected(served) as socket:
                await socket.call("seq_subscribe", "blocks", len(seen) + 1)
                for _ in range(3):
                    node.commit((5, len(seen).to_bytes(2, "big")))
                    seen.append((await socket.event())["height"])
            node.commit((5, bytes([round_number, 1, 2])))
        async with connected(served) as socket:
            await socket.call("seq_subscribe", "blocks", len(seen) + 1)
            while len(seen) < node.ledger.head.height:
                seen.append((await socket.event())["height"])
    assert seen == list(range(1, 17))


async def test_a_slow_client_gets_everything_when_it_reads_again() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served, connected(served) as socket:
        await socket.call("seq_subscribe", "transactions", 1)
        for number in range(30):
            node.commit(*[(5, bytes([number, part]) * 10_000) for part in range(4)])
            await asyncio.sleep(0)
        heights = [(await socket.event())["height"] for _ in range(30)]
        assert heights == list(range(1, 31))


async def test_a_client_that_never_reads_is_disconnected() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node, Limits(send_s=0.2)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1_024)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b"101" in await reader.readline()
        subscribe = orjson.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "seq_subscribe", "params": ["transactions", 1]}
        )
        mask = b"\0\0\0\0"
        writer.write(bytes([0x81, 0x80 | len(subscribe)]) + mask + subscribe)
        for number in range(100):
            node.commit(*[(5, bytes([number, part]) * 40_000) for part in range(4)])
        async with asyncio.timeout(10):
            while True:
                async with served.session.get(served.url + "/metrics") as answer:
                    text = await answer.text()
                if "sequencer_rpc_subscriptions 1.0" in text:
                    break
                await asyncio.sleep(0.02)
            while "sequencer_rpc_websockets 0.0" not in text:
                async with served.session.get(served.url + "/metrics") as answer:
                    text = await answer.text()
                await asyncio.sleep(0.05)
        writer.close()


async def test_messages_above_the_limit_end_the_connection() -> None:
    limits = Limits(websocket_message_bytes=1_000)
    async with serving(limits=limits) as served, connected(served) as socket:
        assert await socket.call("web3_clientVersion")
        await socket.socket.send_str("x" * 1_001)
        message = await socket.socket.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_unsubscribing_ends_the_events() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served, connected(served) as socket:
        ident = await socket.call("seq_subscribe", "blocks", 1)
        node.commit()
        await socket.event()
        assert await socket.call("seq_unsubscribe", ident) is True
        node.commit()
        assert (await socket.call("seq_unsubscribe", ident))["message"] == "subscription not found"
        assert socket.events == []


async def test_subscriptions_are_bounded_and_need_a_websocket() -> None:
    async with serving(limits=Limits(subscriptions=2)) as served:
        async with connected(served) as socket:
            for _ in range(2):
                assert isinstance(await socket.call("seq_subscribe", "blocks"), str)
            assert (await socket.call("seq_subscribe", "blocks"))["code"] == -32005
            assert (await socket.call("seq_subscribe", "votes"))["code"] == -32602
        error = await served.refusal("seq_subscribe", "blocks", path="/")
        assert error == {"code": -32601, "message": "notifications not supported"}


async def test_websockets_are_bounded() -> None:
    async with serving(limits=Limits(websockets=1)) as served, connected(served):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await served.session.ws_connect(served.url)
        assert refused.value.status == 503


async def test_calls_on_one_connection_do_not_wait_for_each_other() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served, connected(served, f"/rollup/{ROLLUP}") as socket:
        raw = hexed(signed(0))
        await socket.socket.send_json(
            {"jsonrpc": "2.0", "id": 7, "method": "eth_sendRawTransactionSync", "params": [raw]}
        )
        assert await socket.call("eth_blockNumber") == "0x0"
        node.commit()
        answer = orjson.loads((await socket.socket.receive(timeout=5)).data)
        assert (answer["id"], answer["result"]["status"]) == (7, "0x1")


async def test_ethereum_clients_subscribe_to_heads_and_to_nothing_else() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served, connected(served, f"/rollup/{ROLLUP}") as socket:
        await socket.call("eth_subscribe", "newHeads")
        applied = node.commit((5, b"a"))
        event = await socket.event()
        assert (event["number"], event["hash"]) == ("0x1", hexed(applied.block.id))
        assert "transactions" not in event
        error = await socket.call("eth_subscribe", "logs", {})
        assert error["code"] == -32601
        assert error["message"] == 'no "logs" subscription in eth namespace'


async def test_web3_subscribes_to_heads() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served:
        url = served.url.replace("http", "ws") + f"/rollup/{ROLLUP}"
        async with AsyncWeb3(WebSocketProvider(url)) as web3:
            await web3.eth.subscribe("newHeads")
            node.commit((ROLLUP, signed(0)))
            async with asyncio.timeout(5):
                async for message in web3.socket.process_subscriptions():
                    assert message["result"]["number"] == 1
                    break
