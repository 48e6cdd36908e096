"""A proxy between a node and its L1 that breaks what passes, on request and from a seed.

    delay_s       every call takes so much longer
    down          nobody answers: connections are reset
    refuse        a call is refused: HTTP 503, nothing reaches the L1
    reset         the connection breaks before the call reaches the L1
    lose_answer   the L1 does what it was asked to, and the answer is lost
    garbage       the answer is something else: no JSON, or JSON of a wrong shape
    lag_blocks    the endpoint is so many blocks behind its L1

`faults` may be replaced at any time. What is asked of a lagging endpoint about the newest block is
answered for an older one; it knows no receipts and no logs of the blocks in between.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from testnet.l1.formats import quantity

UPSTREAM_TIMEOUT_S: Final = 30.0
MAX_REQUEST_BYTES: Final = 4 << 20
BLOCK_PARAMETER: Final = {
    "eth_getBlockByNumber": 0,
    "eth_getBalance": 1,
    "eth_getTransactionCount": 1,
    "eth_getCode": 1,
    "eth_call": 1,
}
"""Where a method takes the block that it is about."""

Json = Any
Observer = Callable[[dict[str, Json], bytes | None], Awaitable[None]]
"""(call, answer) as they pass; the answer is None on the way to the L1."""


@dataclass(frozen=True, slots=True)
class ProxyFaults:
    """What is wrong with an endpoint. Probabilities are per call, of 1 in all; they and the delay
    concern the methods in `only`, or all of them if it is empty."""

    delay_s: float = 0.0
    down: bool = False
    refuse: float = 0.0
    reset: float = 0.0
    lose_answer: float = 0.0
    garbage: float = 0.0
    lag_blocks: int = 0
    only: tuple[str, ...] = ()


SOUND: Final = ProxyFaults()

GARBAGE: Final[tuple[Callable[[Json], bytes], ...]] = (
    lambda _: b"<html>502 Bad Gateway</html>",
    lambda _: b"",
    lambda _: b"[]",
    lambda _: b"null",
    lambda number: orjson.dumps({"jsonrpc": "2.0", "id": number}),
    lambda number: orjson.dumps({"jsonrpc": "2.0", "id": number, "result": {"hash": 7}}),
    lambda number: orjson.dumps({"jsonrpc": "2.0", "id": number, "result": "0xzz"}),
    lambda number: orjson.dumps({"jsonrpc": "2.0", "id": number, "result": [[]]}),
    lambda number: orjson.dumps({"jsonrpc": "2.0", "id": number, "error": "no"}),
    lambda number: orjson.dumps(
        {"jsonrpc": "2.0", "id": number, "error": {"code": -32005, "message": "rate limited"}}
    ),
)
"""Answers of broken endpoints and of the machines in front of them; made from a request's id."""


class FaultProxy:
    """Serves the L1 at `upstream` under `url`. Use it in one event loop and close it there."""

    def __init__(self, upstream: str = "", seed: int = 0) -> None:
        self.upstream = upstream
        self.faults = SOUND
        self.counts: Counter[str] = Counter()
        """Faults that happened, by name; and calls, by method."""
        self.url = ""
        self.observer: Observer | None = None
        """Awaited before a call goes to the L1 and before its answer goes to the node."""
        self._random = random.Random(seed)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "FaultProxy":
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    async def start(self) -> str:
        """Serve on a free port of the loopback; the URL."""
        timeout = aiohttp.ClientTimeout(total=UPSTREAM_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout)
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_post("/", self._serve)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self.url

    async def aclose(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        faults, body = self.faults, await request.read()
        call = orjson.loads(body)
        method = str(call["method"])
        self.counts[method] += 1
        if faults.only and method not in faults.only:
            faults = ProxyFaults(down=faults.down, lag_blocks=faults.lag_blocks)
        fault = self._draw(faults)
        if fault:
            self.counts[fault] += 1
        if fault in ("down", "reset"):
            return _reset(request)
        if fault == "refuse":
            return web.Response(status=503, text="overloaded")
        if faults.delay_s:
            self.counts["delay"] += 1
            await asyncio.sleep(faults.delay_s)
        try:
            await self._observe(call, None)
            answer = await self._answer(call, faults.lag_blocks)
            await self._observe(call, answer)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return _reset(request)
        if fault == "lose_answer":
            return _reset(request)
        if fault == "garbage":
            answer = self._random.choice(GARBAGE)(call.get("id"))
        return web.Response(body=answer, content_type="application/json")

    async def _observe(self, call: dict[str, Json], answer: bytes | None) -> None:
        if self.observer is not None:
            await self.observer(call, answer)

    def _draw(self, faults: ProxyFaults) -> str:
        """The fault that befalls the next call, "" for none."""
        if faults.down:
            return "down"
        left = self._random.random()
        for name in ("refuse", "reset", "lose_answer", "garbage"):
            left -= getattr(faults, name)
            if left < 0:
                return name
        return ""

    async def _answer(self, call: dict[str, Json], lag_blocks: int) -> bytes:
        if lag_blocks == 0:
            return await self._post(call)
        head = max(0, int(await self._ask("eth_blockNumber", []), 16) - lag_blocks)
        self.counts["lag"] += 1
        if call["method"] == "eth_blockNumber":
            return orjson.dumps({"jsonrpc": "2.0", "id": call["id"], "result": quantity(head)})
        answer = orjson.loads(await self._post(_as_of(call, head)))
        if "result" in answer:
            answer["result"] = await self._known(call, answer["result"], head)
        return orjson.dumps(answer)

    async def _known(self, call: dict[str, Json], result: Json, head: int) -> Json:
        """What of a result an endpoint knows that has only come to `head`."""
        method = call["method"]
        if method == "eth_getLogs":
            return [log for log in result if int(log["blockNumber"], 16) <= head]
        if not isinstance(result, dict):
            return result
        is_block = method == "eth_getBlockByNumber"
        number = result.get("number" if is_block else "blockNumber")
        if number is None or int(number, 16) <= head:
            return result
        return await self._ask(method, [quantity(head), False]) if is_block else None

    async def _ask(self, method: str, parameters: list[Json]) -> Json:
        body = await self._post({"jsonrpc": "2.0", "id": 0, "method": method, "params": parameters})
        return orjson.loads(body)["result"]

    async def _post(self, call: dict[str, Json]) -> bytes:
        assert self._session is not None
        headers = {"content-type": "application/json"}
        async with self._session.post(
            self.upstream, data=orjson.dumps(call), headers=headers
        ) as response:
            return await response.read()


def _as_of(call: dict[str, Json], head: int) -> dict[str, Json]:
    """The same call about block `head` where it is about the newest one."""
    place = BLOCK_PARAMETER.get(str(call["method"]))
    parameters = list(call.get("params", []))
    if place is None or place >= len(parameters) or parameters[place] != "latest":
        return call
    parameters[place] = quantity(head)
    return {**call, "params": parameters}


def _reset(request: web.Request) -> web.Response:
    """No answer: the connection is cut."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
