"""The HTTP port of a node: bodies in, answers out, everything bounded.

    POST /                     JSON-RPC: seq_* and what needs no namespace
    POST /rollup/<chain id>    JSON-RPC of one namespace, decimal or 0x hex
    GET  on either             the same over WebSocket, with subscriptions
    POST /submit               many transactions in one binary body
    GET  /healthz /readyz /metrics /status /genesis

Answers carry `Access-Control-Allow-Origin: *`: nothing here depends on who asks.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aiohttp import web
from multidict import CIMultiDict

from sequencer.rpc.bodies import Bodies, Refused
from sequencer.rpc.jsonrpc import (
    LIMIT_EXCEEDED,
    UNAVAILABLE,
    Caller,
    RpcError,
    encode,
)
from sequencer.rpc.limits import Limits
from sequencer.rpc.methods import Rpc
from sequencer.rpc.params import parse_number
from sequencer.rpc.submit import take_submission, transaction_ids
from sequencer.rpc.websocket import WebSockets
from sequencer.service import NodeService

JSON: Final = {"Content-Type": "application/json", "Access-Control-Allow-Origin": "*"}
TEXT: Final = {"Content-Type": "text/plain; charset=utf-8", "Access-Control-Allow-Origin": "*"}
METRICS: Final = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
BINARY: Final = {"Content-Type": "application/octet-stream", "Access-Control-Allow-Origin": "*"}
PREFLIGHT: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Accept, Prefer",
    "Access-Control-Max-Age": "600",
}
ROLLUP: Final = "/rollup/"
BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n" + (
    b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)
STOP_GRACE_S: Final = 2.0
OTHER_FILES: Final = 256
"""Open files that are not clients: the store, the other members, the L1, logs."""
WANTED_FILES: Final = 4_096
_SUBMIT_STATUS: Final = {LIMIT_EXCEEDED: 429, UNAVAILABLE: 503}


class Body(NamedTuple):
    """A request whose body has been read."""

    data: bytes
    request: web.BaseRequest


class _TooMany(asyncio.Protocol):
    """What a connection above the limit gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(BUSY)
        transport.close()


def _files_for_connections() -> int:
    """How many connections this process may have open, its other files set aside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < WANTED_FILES:
        soft = min(WANTED_FILES, hard) if hard != resource.RLIM_INFINITY else WANTED_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, soft - OTHER_FILES)


def response(body: bytes, headers: dict[str, str], status: int = 200) -> web.Response:
    """An answer with exactly these headers."""
    return web.Response(body=body, status=status, headers=CIMultiDict(headers))


class RpcServer:
    """Serves one node on one port, from `start` to `stop`."""

    def __init__(self, service: NodeService, limits: Limits | None = None) -> None:
        self._service = service
        self._limits = limits or Limits()
        self._bodies = Bodies(self._limits)
        self._listener: asyncio.Server | None = None
        self._web: web.Server | None = None
        self._gets: dict[str, Callable[[], web.Response]] = {
            "/healthz": lambda: response(b"ok\n", TEXT),
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/status": lambda: response(encode(service.status()), JSON),
            "/genesis": lambda: response(service.genesis.dump().encode(), JSON),
        }

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address, with the port that was chosen if `port` is 0.

        Raises OSError where the address is not free.
        """
        loop = asyncio.get_running_loop()
        self._most_connections = min(self._limits.connections, _files_for_connections())
        self.rpc = Rpc(self._service, self._limits)
        self._websockets = WebSockets(self.rpc, self._bodies, self._limits)
        self._web = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=self._limits.idle_s,
            lingering_time=1.0,
            auto_decompress=False,
        )
        try:
            self._listener = await loop.create_server(self._accept, host, port, backlog=1_024)
        except OSError:
            await self.rpc.close()
            raise
        bound: tuple[str, int] = self._listener.sockets[0].getsockname()[:2]
        return bound

    async def stop(self) -> None:
        """Stop listening, end subscriptions and waits, close every connection."""
        if self._listener is None or self._web is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        await self._websockets.close()
        await self.rpc.close()
        self._web.pre_shutdown()
        await self._web.shutdown(STOP_GRACE_S)

    def _accept(self) -> asyncio.Protocol:
        assert self._web is not None
        if len(self._web.connections) >= self._most_connections:
            return _TooMany()
        return self._web()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except Refused as refused:
            body = encode({"error": {"code": refused.status, "message": refused.reason}})
            return response(body, {**JSON, **refused.headers}, refused.status)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path, method = request.path, request.method
        if method == "OPTIONS":
            return response(b"", PREFLIGHT, 204)
        if path == "/submit":
            return await self._only_post(request, self._submit)
        if path in self._gets:
            if method not in ("GET", "HEAD"):
                raise Refused(405, f"{path} is read with GET", {"Allow": "GET"})
            return self._gets[path]()
        namespace = self._namespace(path)
        if method == "GET" and "upgrade" in request.headers.get("Connection", "").lower():
            return await self._websockets.serve(request, namespace)
        return await self._only_post(request, lambda body: self._jsonrpc(body, namespace))

    def _namespace(self, path: str) -> int | None:
        if path in ("/", ""):
            return None
        if not path.startswith(ROLLUP):
            raise Refused(404, "no such path; JSON-RPC is at / and at /rollup/<chain id>")
        namespace = parse_number(path[len(ROLLUP) :].rstrip("/"))
        if namespace is None:
            raise Refused(404, "a chain id is a number of 64 bits, decimal or 0x hex")
        return namespace

    async def _only_post(
        self,
        request: web.BaseRequest,
        answer: Callable[[Body], Awaitable[web.Response]],
    ) -> web.Response:
        if request.method != "POST":
            raise Refused(405, "send a POST, or open a WebSocket", {"Allow": "POST, OPTIONS"})
        submit = request.path == "/submit"
        limit = self._limits.submit_body_bytes if submit else self._limits.json_body_bytes
        bodies = self._bodies
        size = bodies.reserve(request, limit)
        try:
            body = Body(await bodies.read(request, limit), request)
            return await bodies.send(request, await answer(body))
        finally:
            bodies.incoming.give(size)

    async def _jsonrpc(self, body: Body, namespace: int | None) -> web.Response:
        answer = await self.rpc.dispatcher.answer(body.data, Caller(namespace))
        return response(answer or b"", JSON)

    async def _submit(self, body: Body) -> web.Response:
        rpc = self.rpc
        try:
            transactions = await take_submission(body.data, rpc.admission, self._limits)
        except RpcError as error:
            return _submit_error(error)
        rpc.submitted(len(transactions), len(body.data))
        headers = body.request.headers
        if "return=minimal" in headers.get("Prefer", ""):
            return response(b"", BINARY, 204)
        ids = await transaction_ids(transactions)
        if "application/json" in headers.get("Accept", ""):
            return response(encode({"ids": ids}), JSON)
        return response(b"".join(ids), BINARY)

    def _readyz(self) -> web.Response:
        ready, reason = self._service.ready()
        return response(reason.encode() + b"\n", TEXT, 200 if ready else 503)

    def _metrics(self) -> web.Response:
        connections = len(self._web.connections) if self._web else 0
        own = self.rpc.metrics(connections, self._websockets)
        return response(self._service.metrics() + own, METRICS)


def _submit_error(error: RpcError) -> web.Response:
    """The HTTP form of an error of `/submit`."""
    headers, status = dict(JSON), _SUBMIT_STATUS.get(error.code, 400)
    retry_ms = (error.data or {}).get("retry_after_ms")
    if retry_ms is not None:
        headers["Retry-After"] = str(-(-retry_ms // 1_000))
    return response(encode({"error": error.to_json()}), headers, status)
