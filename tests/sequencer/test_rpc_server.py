"""The HTTP port: paths, the binary body, health, metrics, and a bound on everything."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from eth_hash.auto import keccak

from sequencer.collection import transaction_id
from sequencer.config import NamespaceConfig
from sequencer.pool import PoolFull
from sequencer.receipt import verify_receipt
from sequencer.rpc.limits import Limits
from sequencer.rpc.server import RpcServer
from sequencer.rpc.submit import encode_submission
from sequencer.service import Unready
from tests.sequencer.ordering_node import OrderingNode
from tests.sequencer.rpc_fixtures import ROLLUP, Served, eventually, serving, signed

CALL = {"jsonrpc": "2.0", "id": 1, "method": "web3_clientVersion"}


async def submit(
    served: Served, body: bytes, **headers: str
) -> tuple[int, bytes, "aiohttp.typedefs.LooseHeaders"]:
    async with served.session.post(served.url + "/submit", data=body, headers=headers) as answer:
        return answer.status, await answer.read(), dict(answer.headers)


async def test_a_binary_body_is_taken_whole_and_answered_with_ids() -> None:
    transactions = [(5, b"a"), (2**64 - 1, b"b" * 1_000), (5, b"c")]
    ids = [transaction_id(*entry) for entry in transactions]
    body = encode_submission(transactions)
    async with serving() as served:
        status, answer, _ = await submit(served, body)
        assert (status, answer) == (200, b"".join(ids))
        assert served.node.submitted == transactions
        _, answer, _ = await submit(served, body, Accept="application/json")
        assert orjson.loads(answer) == {"ids": ["0x" + ident.hex() for ident in ids]}
        status, answer, _ = await submit(served, body, Prefer="return=minimal")
        assert (status, answer) == (204, b"")


async def test_a_bad_binary_body_is_refused_whole_and_says_where() -> None:
    async with serving() as served:
        for body, index in (
            (b"", 0),
            (encode_submission([(5, b"a")]) + b"\0", 1),
            (encode_submission([(5, b"a"), (5, b"")]), 1),
            (encode_submission([(5, b"a"), (5, b"x" * 100_001)]), 1),
        ):
            status, answer, _ = await submit(served, body)
            assert status == 400
            assert orjson.loads(answer)["error"]["data"] == {"index": index}
        assert served.node.submitted == []


async def test_the_policy_of_a_namespace_holds_for_every_door() -> None:
    async with serving(OrderingNode(n901=NamespaceConfig(policy="ethereum"))) as served:
        status, answer, _ = await submit(served, encode_submission([(5, b"a"), (ROLLUP, b"b")]))
        assert status == 400
        assert orjson.loads(answer)["error"]["data"] == {"index": 1}
        error = await served.refusal("seq_submit", ROLLUP, ["0x62"], path="/")
        assert error["code"] == -32000
        status, _, _ = await submit(served, encode_submission([(5, b"a"), (ROLLUP, signed(0))]))
        assert status == 200
        assert await served.call("seq_submit", 5, ["0x62"], path="/")


async def test_a_full_pool_is_429_and_an_unready_node_503_with_a_time_to_retry() -> None:
    async with serving() as served:
        served.node.refuse = PoolFull(1_200)
        status, answer, headers = await submit(served, encode_submission([(5, b"a")]))
        assert (status, headers["Retry-After"]) == (429, "2")
        assert orjson.loads(answer)["error"]["data"] == {"retry_after_ms": 1_200}
        served.node.refuse = Unready("syncing")
        status, answer, headers = await submit(served, encode_submission([(5, b"a")]))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert orjson.loads(answer)["error"]["message"] == "syncing"


async def test_health_readiness_status_and_metrics() -> None:
    async with serving() as served:

        async def get(path: str) -> tuple[int, str]:
            async with served.session.get(served.url + path) as answer:
                return answer.status, await answer.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (200, "ready\n")
        served.node.readiness = (False, "syncing, 7 blocks behind")
        assert await get("/readyz") == (503, "syncing, 7 blocks behind\n")
        assert orjson.loads((await get("/status"))[1])["name"] == "one"
        await served.call("eth_chainId")
        await served.refusal("eth_mine")
        metrics = (await get("/metrics"))[1]
        assert "node_up 1.0" in metrics
        assert 'sequencer_rpc_calls_total{method="eth_chainId"} 1.0' in metrics
        assert 'sequencer_rpc_errors_total{code="-32601"} 1.0' in metrics
        assert orjson.loads((await get("/genesis"))[1])["core"]["name"] == "test"


async def test_unknown_paths_and_methods_say_what_there_is() -> None:
    async with serving() as served:
        for method, path, status, hint in (
            ("GET", "/nothing", 404, "/rollup/<chain id>"),
            ("POST", "/rollup/abc", 404, "a number of 64 bits"),
            ("POST", "/rollup/-1", 404, "a number of 64 bits"),
            ("GET", "/", 405, "POST"),
            ("GET", "/submit", 405, "POST"),
            ("DELETE", "/status", 405, "GET"),
        ):
            async with served.session.request(method, served.url + path) as answer:
                assert answer.status == status
                assert hint in (await answer.json())["error"]["message"]


async def test_browsers_may_ask() -> None:
    async with serving() as served:
        async with served.session.options(served.url + "/rollup/901") as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        async with served.session.post(served.url + "/", json=CALL) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_curl_without_a_content_type_is_answered() -> None:
    async with serving() as served:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        data = orjson.dumps(CALL)
        async with served.session.post(served.url, data=data, headers=headers) as answer:
            assert "result" in await answer.json()


@pytest.mark.parametrize("path", ["/", "/rollup/901", "/submit"])
async def test_bodies_above_the_limit_are_refused_before_they_are_read(path: str) -> None:
    limits = Limits(json_body_bytes=1_000, submit_body_bytes=1_000)
    async with serving(limits=limits) as served:
        async with served.session.post(served.url + path, data=b"x" * 1_001) as answer:
            assert answer.status == 413

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"y" * 100

        async with served.session.post(served.url + path, data=endless()) as answer:
            assert answer.status == 413
        async with served.session.post(served.url + "/", json=CALL) as answer:
            assert answer.status == 200


async def test_bodies_together_are_bounded() -> None:
    limits = Limits(incoming_bytes=2_000, body_s=5)
    async with serving(limits=limits) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: 1500\r\n\r\nabc")
        await writer.drain()
        async with asyncio.timeout(5):
            while True:
                async with served.session.post(served.url, data=b"z" * 800) as answer:
                    if answer.status == 503:
                        assert answer.headers["Retry-After"] == "1"
                        break
        writer.close()
        async with asyncio.timeout(5):
            while True:
                async with served.session.post(served.url, data=b"z" * 800) as answer:
                    if answer.status == 200:
                        break
        assert reader is not None


async def test_large_answers_together_are_bounded_and_slow_readers_cut_off() -> None:
    node = OrderingNode(automatic=False)
    node.commit(*[(5, bytes([part]) * 99_000) for part in range(40)])
    body = orjson.dumps({**CALL, "method": "seq_getBlock", "params": [1]})
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(node, Limits(outgoing_bytes=8_000_000, send_s=0.4)) as served:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", served.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1_024)
        writer.write(head + body)
        await reader.readline()
        async with served.session.post(served.url, data=body) as answer:
            assert answer.status == 503
        async with asyncio.timeout(5):
            while True:
                async with served.session.post(served.url, data=body) as answer:
                    if answer.status == 200:
                        assert len((await answer.json())["result"]["transactions"]) == 40
                        break
                await asyncio.sleep(0.02)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(100_000_000)
        writer.close()


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async with serving(limits=Limits(body_s=0.1)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_head_that_does_not_arrive_is_given_up() -> None:
    async with serving(limits=Limits(idle_s=0.2)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST / HTTP/1.1\r\nHost:")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_connections_above_the_limit_are_told_so() -> None:
    async with serving(limits=Limits(connections=2)) as served:
        open_ones = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            assert b"503" in await reader.readline()
            assert b"too many connections" in await reader.read()
        for _, each in [*open_ones, (reader, writer)]:
            each.close()
        async with asyncio.timeout(5):
            while True:
                try:
                    async with served.session.post(served.url, json=CALL) as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.01)


async def test_compressed_bodies_are_not_unpacked() -> None:
    import gzip

    bomb = gzip.compress(b" " * 10_000_000)
    async with serving() as served:
        headers = {"Content-Encoding": "gzip"}
        async with served.session.post(served.url, data=bomb, headers=headers) as answer:
            assert (await answer.json())["error"]["code"] == -32700


async def test_waiting_calls_are_bounded() -> None:
    async with serving(OrderingNode(automatic=False), Limits(waiters=2)) as served:
        wanted = ["0x" + bytes([byte] * 32).hex() for byte in range(3)]
        waiting = [
            asyncio.create_task(served.call("seq_getTransaction", item, 30_000, path="/"))
            for item in wanted[:2]
        ]
        await eventually(lambda: served.server.rpc.commits.waiting == 2)
        error = await served.refusal("seq_getTransaction", wanted[2], 1, path="/")
        assert error["code"] == -32005
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_stopping_ends_what_waits() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        waiting = asyncio.create_task(
            served.call("seq_getTransaction", "0x" + "11" * 32, 60_000, path="/")
        )
        feed = await served.session.ws_connect(served.url)
        await feed.send_json({**CALL, "method": "seq_subscribe", "params": ["blocks", 1]})
        await feed.receive(timeout=5)
        async with asyncio.timeout(5):
            await served.server.stop()
            message = await feed.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            await asyncio.gather(waiting, return_exceptions=True)


async def test_an_address_in_use_leaves_nothing_behind() -> None:
    async with serving() as served:
        node = OrderingNode()
        with pytest.raises(OSError, match="address already in use"):
            await RpcServer(node).start("127.0.0.1", served.port)
        assert node.listeners == 0


async def test_native_methods_answer_about_the_log() -> None:
    node = OrderingNode(automatic=False)
    node.batches[1] = {"number": 1, "state": "posted"}
    async with serving(node) as served:
        ids = await served.call("seq_submit", 5, ["0x61", "0x62"], path="/")
        assert ids == ["0x" + transaction_id(5, body).hex() for body in (b"a", b"b")]
        assert await served.call("seq_submit", 5, ["0x61", "0x62"], path="/") == ids
        assert len(node.submitted) == 2
        assert await served.call("seq_getTransaction", ids[0], path="/") == {"state": "pending"}
        assert await served.call("seq_getReceipt", ids[0], path="/") is None
        node.commit()
        place = await served.call("seq_getTransaction", ids[1], path="/")
        assert (place["state"], place["height"], place["index"]) == ("ordered", 1, 1)
        assert place["settlement"] is None
        node.safe = 1
        place = await served.call("seq_getTransaction", ids[1], path="/")
        assert place["settlement"] == {"batch": 1, "state": "posted"}
        receipt = await served.call("seq_getReceipt", ids[1], path="/")
        assert receipt["settlement"] == {"batch": 1, "state": "posted"}
        unknown = "0x" + "00" * 32
        assert await served.call("seq_getTransaction", unknown, path="/") == {"state": "unknown"}
        assert await served.call("seq_getReceipt", unknown, path="/") is None
        assert (await served.call("seq_getReceipt", ids[0], path="/"))["height"] == 1
        assert (await served.call("seq_getBatch", 1, path="/"))["state"] == "posted"
        assert await served.call("seq_getBatch", "0x2", path="/") is None
        assert (await served.call("seq_committee", path="/"))["epoch"] == 0
        assert (await served.call("seq_status", path="/"))["height"] == 1
        assert (await served.call("seq_why", path="/"))["round"] == 2
        block = await served.call("seq_getBlock", 1, path="/")
        assert [entry["id"] for entry in block["transactions"]] == ids
        assert await served.call("seq_getBlock", 2, path="/") is None


async def test_the_same_signed_bytes_have_a_receipt_in_each_rollup() -> None:
    node, raw = OrderingNode(automatic=False), signed(0)
    node.commit((ROLLUP, raw), (5, raw))
    tx_hash = "0x" + keccak(raw).hex()
    async with serving(node) as served:
        for namespace in (ROLLUP, 5):
            receipt = await served.call("seq_getReceipt", tx_hash, path=f"/rollup/{namespace}")
            assert verify_receipt(receipt, node.genesis).namespace == namespace
            place = await served.call("seq_getTransaction", tx_hash, path=f"/rollup/{namespace}")
            assert place["namespace"] == namespace
        assert await served.call("seq_getReceipt", tx_hash, path="/rollup/6") is None


async def test_what_is_applied_and_not_saved_is_not_there_yet() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served:
        node.commit((5, b"a"))
        unsaved = node.apply([])  # the node tells of it only once it is durable
        assert node.ledger.head.height == unsaved.block.height == 2
        assert await served.call("eth_blockNumber") == "0x1"
        assert await served.call("eth_getBlockByNumber", "0x2", False) is None


@pytest.mark.parametrize("given", [[], ["0x"], "0x61", [7], [None]])
async def test_submitting_something_else_is_refused(given: object) -> None:
    async with serving() as served:
        error = await served.refusal("seq_submit", 5, given, path="/")
        assert error["code"] in (-32602, -32000)
        assert served.node.submitted == []
