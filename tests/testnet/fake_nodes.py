"""Nodes without consensus: they serve the RPC that testnet's clients use, on one common log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from eth_hash.auto import keccak

from sequencer.collection import transaction_id
from sequencer.rpc.limits import Limits
from sequencer.rpc.submit import decode_submission


@dataclass
class FakeLog:
    """Blocks of (namespace, bytes); `paused` keeps what was submitted from being committed."""

    blocks: list[list[tuple[int, bytes]]] = field(default_factory=list)
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    paused: bool = False
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(self, transactions: list[tuple[int, bytes]]) -> None:
        self.waiting += transactions
        await self.commit()

    async def commit(self) -> None:
        if self.paused or not self.waiting:
            return
        async with self.grown:
            self.blocks.append(self.waiting)
            self.waiting = []
            self.grown.notify_all()


@dataclass
class FakeNode:
    """One node on the log; `refusal` is a JSON-RPC error that it answers to every submission.

    With `trouble` it is not ready, and keeps what it accepts to itself.
    """

    log: FakeLog
    url: str = ""
    refusal: dict | None = None
    trouble: str | None = None
    submissions: int = 0
    nonces: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/readyz":
            status = 200 if self.trouble is None else 503
            return web.Response(text=f"{self.trouble or 'ready'}\n", status=status)
        if request.path == "/submit":
            return await self.submit(await request.read())
        if request.method == "GET":
            return await self.subscribe(request)
        call = await request.json()
        answer = {"jsonrpc": "2.0", "id": call["id"]}
        if self.refusal is not None:
            return web.json_response(answer | {"error": self.refusal})
        self.submissions += 1
        if call["method"] == "seq_status":
            return web.json_response(answer | {"result": {"height": len(self.log.blocks)}})
        if call["method"] == "seq_submit":
            namespace, texts = call["params"]
            found = [(namespace, bytes.fromhex(text[2:])) for text in texts]
            await self.take(found)
            return web.json_response(
                answer | {"result": ["0x" + transaction_id(*item).hex() for item in found]}
            )
        assert call["method"] == "eth_sendRawTransaction"
        raw = bytes.fromhex(call["params"][0].removeprefix("0x"))
        await self.take([(int(request.path.rsplit("/", 1)[1]), raw)])
        return web.json_response(answer | {"result": "0x" + keccak(raw).hex()})

    async def take(self, transactions: list[tuple[int, bytes]]) -> None:
        if self.trouble is None:
            await self.log.submit(transactions)

    async def submit(self, body: bytes) -> web.Response:
        if self.refusal is not None:
            return web.json_response({"error": self.refusal}, status=429)
        self.submissions += 1
        found = decode_submission(body, Limits())
        await self.take(found)
        return web.Response(
            body=b"".join(transaction_id(*item) for item in found),
            content_type="application/octet-stream",
        )

    async def subscribe(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        call = await socket.receive_json()
        _, first, namespace = (call["params"] + [None, None])[:3]
        height = len(self.log.blocks) + 1 if first is None else first
        await socket.send_json({"jsonrpc": "2.0", "id": call["id"], "result": "0x1"})
        while not socket.closed:
            async with self.log.grown:
                await self.log.grown.wait_for(lambda at=height: len(self.log.blocks) >= at)
            block = self.log.blocks[height - 1]
            ids = [
                "0x" + transaction_id(*item).hex()
                for item in block
                if namespace is None or item[0] == namespace
            ]
            event = {"height": height, "count": len(block), "transactions": ids}
            message = {"subscription": "0x1", "result": event}
            await socket.send_json(
                {"jsonrpc": "2.0", "method": "seq_subscription", "params": message}
            )
            height += 1
        return socket


@asynccontextmanager
async def fake_nodes(count: int) -> AsyncIterator[list[FakeNode]]:
    """`count` nodes on one log, listening."""
    log = FakeLog()
    runners, nodes = [], []
    try:
        for _ in range(count):
            node = FakeNode(log)
            application = web.Application(client_max_size=1 << 26)
            application.router.add_route("*", "/{path:.*}", node.handle)
            runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
            runners.append(runner)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            node.url = f"http://127.0.0.1:{port}"
            nodes.append(node)
        yield nodes
    finally:
        for runner in runners:
            await runner.cleanup()
