"""A served node, and ways to talk to it; import the fixtures you use."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.signers.local import LocalAccount

from sequencer.rpc.limits import Limits
from sequencer.rpc.server import RpcServer
from tests.sequencer.ordering_node import OrderingNode

ROLLUP = 901
ACCOUNT: LocalAccount = Account.from_key("0x" + "42" * 32)
FEE = 10**9


@dataclass
class Served:
    """A node, its server, and a session that talks to it."""

    node: OrderingNode
    server: RpcServer
    url: str
    port: int
    session: aiohttp.ClientSession

    async def answer(self, method: str, *params: Any, path: str = f"/rollup/{ROLLUP}") -> Any:
        """The whole JSON-RPC answer to one call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self.session.post(self.url + path, json=body) as response:
            assert response.status == 200
            return await response.json()

    async def call(self, method: str, *params: Any, path: str = f"/rollup/{ROLLUP}") -> Any:
        """The result of one call."""
        answer = await self.answer(method, *params, path=path)
        assert "error" not in answer, answer
        return answer["result"]

    async def refusal(self, method: str, *params: Any, path: str = f"/rollup/{ROLLUP}") -> Any:
        """The error of one call."""
        answer = await self.answer(method, *params, path=path)
        assert "result" not in answer, answer
        return answer["error"]


@asynccontextmanager
async def serving(
    node: OrderingNode | None = None, limits: Limits | None = None
) -> AsyncIterator[Served]:
    """Serve a node on a free port of the loopback."""
    served_node = node or OrderingNode()
    server = RpcServer(served_node, limits)
    host, port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Served(served_node, server, f"http://{host}:{port}", port, session)
    finally:
        await server.stop()


@contextmanager
def in_background(node: OrderingNode | None = None) -> Iterator[Served]:
    """Serve a node from another thread, for clients that block."""
    started, stop = threading.Event(), asyncio.Event()
    found: list[Served] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with serving(node) as served:
            found.append(served)
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield found[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def signed(
    nonce: int, *, chain_id: int = ROLLUP, account: LocalAccount = ACCOUNT, **fields: Any
) -> bytes:
    """A signed EIP-1559 transfer."""
    transaction = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "to": "0x" + "55" * 20,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": FEE,
        "maxPriorityFeePerGas": 0,
        "data": b"",
        **fields,
    }
    return bytes(account.sign_transaction(transaction).raw_transaction)


def hexed(data: bytes) -> str:
    return "0x" + data.hex()
