"""The Python client, async and blocking: waiting, following, and going on when a node fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from eth_hash.auto import keccak

from sequencer.client import ClientError, Refused, SequencerClient, SyncSequencerClient, Unreachable
from sequencer.collection import transaction_id
from sequencer.pool import PoolFull
from sequencer.service import Unready
from tests.sequencer.ordering_node import OrderingNode
from tests.sequencer.rpc_fixtures import ROLLUP, Served, eventually, in_background, serving, signed

NOBODY = "http://127.0.0.1:1"


@asynccontextmanager
async def two_nodes(
    node: OrderingNode | None = None,
) -> AsyncIterator[tuple[Served, Served, SequencerClient]]:
    async with (
        serving(node) as first,
        serving(node) as second,
        SequencerClient([first.url, second.url]) as client,
    ):
        yield first, second, client


async def test_submit_wait_and_look() -> None:
    async with serving() as served, SequencerClient(served.url) as client:
        ids = await client.submit(5, [b"a", b"b"])
        assert ids == [transaction_id(5, body) for body in (b"a", b"b")]
        place = await client.wait(ids[1])
        assert (place["height"], place["index"]) == (1, 1)
        assert (await client.receipt(ids[1]) or {})["height"] == 1
        assert (await client.status())["height"] == 1
        assert (await client.why())["round"] == 2
        assert (await client.committee())["epoch"] == 0
        assert await client.batch(1) is None
        raw = signed(0)
        assert await client.send_raw_transaction(ROLLUP, raw) == keccak(raw)
        assert (await client.wait(keccak(raw)))["namespace"] == ROLLUP
        assert await client.call("eth_chainId", namespace=ROLLUP) == hex(ROLLUP)


async def test_waiting_has_an_end() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served, SequencerClient(served.url) as client:
        with pytest.raises(TimeoutError, match="is not ordered after"):
            await client.wait(b"\1" * 32, timeout_s=0.05)


async def test_waiting_by_an_ethereum_hash_this_node_never_saw() -> None:
    node = OrderingNode(automatic=False)
    async with serving(node) as served, SequencerClient(served.url) as client:
        waiting = asyncio.create_task(client.wait(keccak(signed(0)), 5))
        await eventually(lambda: served.server.rpc.commits.waiting == 1)
        node.commit((ROLLUP, signed(0)))
        assert (await waiting)["height"] == 1


async def test_a_refusal_is_told_and_not_tried_elsewhere() -> None:
    async with two_nodes() as (first, _, client):
        with pytest.raises(Refused, match="oversized") as refused:
            await client.submit(5, [b"x" * 100_001])
        assert refused.value.code == -32000
        assert refused.value.retry_after_s is None
        assert client.url == first.url


async def test_a_full_or_unready_node_is_left_for_another() -> None:
    async with two_nodes() as (first, second, client):
        first.node.refuse = PoolFull(60_000)
        await client.submit(5, [b"a"])
        first.node.refuse = Unready("syncing")
        await client.submit(5, [b"b"])
        assert len(second.node.submitted) == 2


async def test_when_all_are_full_it_waits_as_long_as_told() -> None:
    async with serving() as served, SequencerClient(served.url) as client:
        served.node.refuse = PoolFull(20)
        submitting = asyncio.create_task(client.submit(5, [b"a"]))
        async with asyncio.timeout(5):
            while (
                "-32005" not in str(served.server.rpc.dispatcher.errors) and not submitting.done()
            ):
                await asyncio.sleep(0.01)
                served.node.refuse = None
            assert await submitting
        served.node.refuse = PoolFull(60_000)
        with pytest.raises(Refused, match="full") as refused:
            await client.submit(5, [b"b"], patience_s=0.1)
        assert refused.value.retry_after_s == 60


async def test_a_node_that_is_gone_is_left_for_another() -> None:
    async with serving() as served, SequencerClient([NOBODY, served.url]) as client:
        assert (await client.status())["name"] == "one"
        assert client.url == served.url


async def test_nobody_there_is_said_so() -> None:
    async with SequencerClient([NOBODY]) as client:
        with pytest.raises(Unreachable, match=NOBODY):
            await client.status()
        with pytest.raises(Unreachable):
            async for _ in client.follow("blocks", 1):
                pass


async def test_rubbish_counts_as_no_answer() -> None:
    async def rubbish(_request: web.Request) -> web.Response:
        return web.Response(text="<html>502</html>", status=502)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", rubbish)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with SequencerClient(url) as client:
        with pytest.raises(Unreachable):
            await client.status()
        with pytest.raises(Unreachable):
            await client.submit(5, [b"a"])
    await runner.cleanup()


async def test_following_goes_on_at_another_node_without_a_gap() -> None:
    node = OrderingNode(automatic=False)
    for number in range(10):
        node.commit((5, bytes([number])))
    heights: list[int] = []
    async with two_nodes(node) as (first, second, client), asyncio.timeout(10):
        async for block in client.follow("blocks", 1):
            heights.append(block["height"])
            if len(heights) == 10:
                stopping = asyncio.create_task(first.server.stop())
                node.commit((5, b"later"))
                node.commit()
            if len(heights) == 12:
                break
        await stopping
        assert client.url == second.url
    assert heights == list(range(1, 13))


async def test_following_from_nowhere_starts_at_the_next_block() -> None:
    node = OrderingNode(automatic=False)
    node.commit((5, b"old"))
    async with serving(node) as served, SequencerClient(served.url) as client:
        following = client.follow("transactions", namespace=5)
        waiting = asyncio.ensure_future(anext(following))
        await eventually(lambda: served.server.rpc.dispatcher.calls["seq_subscribe"] == 1)
        node.commit((6, b"not mine"), (5, b"mine"))
        block = await waiting
        assert [entry["transaction"] for entry in block["transactions"]] == ["0x" + b"mine".hex()]
        await following.aclose()  # type: ignore[attr-defined]


async def test_a_node_that_skips_a_height_is_caught() -> None:
    async def liar(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        for height in (1, 3):
            params = {"subscription": "0x1", "result": {"height": height, "transactions": []}}
            await socket.send_json({"method": "seq_subscription", "params": params})
        async for _ in socket:
            pass
        return socket

    application = web.Application()
    application.router.add_get("/", liar)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with SequencerClient(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        with pytest.raises(ClientError, match="sent height 3 after 1"):
            async for _ in client.follow("blocks", 1):
                pass
    await runner.cleanup()


async def test_the_session_is_closed() -> None:
    async with serving() as served:
        client = SequencerClient(served.url)
        await client.status()
        session = client._session
        assert isinstance(session, aiohttp.ClientSession)
        await client.close()
        assert session.closed


def test_the_blocking_client_does_the_same() -> None:
    with in_background() as served, SyncSequencerClient([NOBODY, served.url]) as client:
        ids = client.submit(5, [b"a", b"b"])
        assert client.wait(ids[0])["height"] == 1
        raw = signed(0)
        assert client.send_raw_transaction(ROLLUP, raw) == keccak(raw)
        assert client.wait(keccak(raw))["height"] == 2
        assert (client.receipt(ids[0]) or {})["height"] == 1
        heights = []
        for block in client.follow("blocks", 1):
            heights.append(block["height"])
            if len(heights) == 2:
                break
        assert heights == [1, 2]
        assert client.status()["height"] == 2
        assert (client.why()["round"], client.batch(1)) == (3, None)
        assert client.committee()["epoch"] == 0
        assert client.url == served.url


async def test_why_nobody_answers_is_said_in_a_plain_sentence() -> None:
    async with SequencerClient(NOBODY) as client:
        with pytest.raises(Unreachable) as caught:
            await client.status()
        assert str(caught.value) == f"no node answers at {NOBODY}: Connection refused"
