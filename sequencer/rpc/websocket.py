"""WebSocket connections: the same calls as over HTTP, and subscriptions that never lose a block.

A subscription is a reader of the log with a height of its own: it reads what is there, sends it,
and waits for more.  So it neither skips nor repeats, whatever the speed of the node or of the
client; a client that was cut off asks again from the height after the last one it has.

    seq_subscribe("blocks" | "transactions", from_height = next, namespace = that of the path)
    -> {"method": "seq_subscription", "params": {"subscription": id, "result": one block}}

sends exactly one event for every height, in order, also for those that hold nothing of the
namespace, so a client can check by itself that nothing is missing.  A height that this node does
not keep any more is an error at once, and a subscription that falls behind the pruning ends.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from sequencer.history import Pruned
from sequencer.rpc import params
from sequencer.rpc.bodies import Bodies, Budget
from sequencer.rpc.jsonrpc import (
    INVALID_PARAMS,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    REFUSED,
    Caller,
    Method,
    RpcError,
    encode,
)
from sequencer.rpc.limits import Limits

if TYPE_CHECKING:
    from sequencer.rpc.methods import Rpc

HEARTBEAT_S: Final = 30.0
CALLS_AT_ONCE: Final = 32
"""Calls of one connection that are answered at the same time; further ones wait unread."""

log = logging.getLogger(__name__)

Renderer = Callable[[int], Awaitable[dict[str, Any]]]
"""What is sent about a height."""


class Session:
    """One connection and its subscriptions.

    Whoever sends takes turns, and an event is made in its turn: a connection never has more than
    one message in memory.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        abort: Callable[[], None],
        limits: Limits,
        outgoing: Budget,
    ) -> None:
        self._socket = socket
        self._abort = abort
        self._limits = limits
        self._outgoing = outgoing
        self._turn = asyncio.Lock()
        self._subscriptions: dict[str, asyncio.Task[None]] = {}

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    async def send(self, message: bytes) -> None:
        """Send one text message.  Raises ConnectionError when the client has left."""
        async with self._turn:
            await self._send(message)

    async def _send(self, message: bytes) -> None:
        """A client that takes nothing for `send_s`, or while all are too slow, is cut off."""
        if not self._outgoing.take(len(message)):
            self._abort()
            raise ConnectionResetError("too much is waiting for slow clients")
        try:
            async with asyncio.timeout(self._limits.send_s):
                await self._socket.send_frame(message, WSMsgType.TEXT)
        except TimeoutError:
            self._abort()
            raise ConnectionResetError("the client does not read") from None
        finally:
            self._outgoing.give(len(message))

    def subscribe(
        self, method: str, heights: AsyncIterator[int], render: Renderer, caller: Caller
    ) -> str:
        """Send what `render` makes of `heights`, after this call's answer; returns its id."""
        if len(self._subscriptions) >= self._limits.subscriptions:
            raise RpcError(LIMIT_EXCEEDED, "too many subscriptions on this connection")
        ident = "0x" + secrets.token_hex(16)
        answered = asyncio.Event()
        caller.after_answer.append(answered.set)
        feed = self._feed(method, ident, heights, render, answered)
        self._subscriptions[ident] = asyncio.create_task(feed)
        return ident

    async def _feed(
        self,
        method: str,
        ident: str,
        heights: AsyncIterator[int],
        render: Renderer,
        answered: asyncio.Event,
    ) -> None:
        try:
            await answered.wait()
            async for height in heights:
                async with self._turn:
                    params = {"subscription": ident, "result": await render(height)}
                    note = {"jsonrpc": "2.0", "method": method, "params": params}
                    await self._send(encode(note))
        except ConnectionError:
            self._subscriptions.pop(ident, None)
        except Pruned:
            self._abort()
        except Exception:
            log.exception("a subscription failed")
            self._abort()

    def unsubscribe(self, ident: str) -> bool:
        """End a subscription; False if there is none of this id."""
        task = self._subscriptions.pop(ident, None)
        if task is None:
            return False
        task.cancel()
        return True

    def close(self) -> None:
        """End every subscription."""
        for ident in list(self._subscriptions):
            self.unsubscribe(ident)


class WebSockets:
    """All WebSocket connections of a node."""

    def __init__(self, rpc: "Rpc", bodies: Bodies, limits: Limits) -> None:
        self._rpc = rpc
        self._bodies = bodies
        self._limits = limits
        self._sockets: dict[web.WebSocketResponse, Session] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._sockets)

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open on all of them."""
        return sum(session.subscriptions for session in self._sockets.values())

    async def close(self) -> None:
        """Say good-bye to everybody."""
        for socket, session in list(self._sockets.items()):
            session.close()
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(1):
                    await socket.close(code=WSCloseCode.GOING_AWAY)

    async def serve(self, request: web.BaseRequest, namespace: int | None) -> web.StreamResponse:
        """Talk to one client until it leaves."""
        if len(self._sockets) >= self._limits.websockets:
            return web.Response(status=503, text="too many WebSocket connections\n")
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            max_msg_size=self._limits.websocket_message_bytes,
            compress=False,
        )
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has left")
        session = Session(socket, transport.abort, self._limits, self._bodies.outgoing)
        await socket.prepare(request)
        self._sockets[socket] = session
        try:
            await self._converse(socket, session, namespace)
        finally:
            del self._sockets[socket]
            session.close()
        return socket

    async def _converse(
        self, socket: web.WebSocketResponse, session: Session, namespace: int | None
    ) -> None:
        slots = asyncio.Semaphore(CALLS_AT_ONCE)
        calls: set[asyncio.Task[None]] = set()
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                data = message.data
                body = data.encode() if isinstance(data, str) else data
                if not self._bodies.incoming.take(len(body)):
                    break

                def answered(call: asyncio.Task[None], size: int = len(body)) -> None:
                    calls.discard(call)
                    self._bodies.incoming.give(size)
                    slots.release()

                call = asyncio.create_task(self._answer(body, Caller(namespace, session)))
                calls.add(call)
                call.add_done_callback(answered)
                await slots.acquire()
        finally:
            for call in calls:
                call.cancel()

    async def _answer(self, body: bytes, caller: Caller) -> None:
        assert caller.session is not None
        try:
            answer = await self._rpc.dispatcher.answer(body, caller)
            if answer is not None:
                await caller.session.send(answer)
            for start in caller.after_answer:
                start()
        except ConnectionError:
            return  # the client has left, its reader notices


class Subscriptions:
    """The methods that open and close subscriptions."""

    def __init__(self, rpc: "Rpc") -> None:
        self._rpc = rpc

    def methods(self) -> dict[str, Method]:
        """The part of the method table that is about subscriptions."""
        return {
            "eth_subscribe": Method(self.eth_subscribe, 1, 1),
            "eth_unsubscribe": Method(self.unsubscribe, 1),
            "seq_subscribe": Method(self.seq_subscribe, 1, 2),
            "seq_unsubscribe": Method(self.unsubscribe, 1),
        }

    def eth_subscribe(self, caller: Caller, kind: Any, _options: Any = None) -> str:
        """`newHeads`: the header of every block from now on; the rest needs execution."""
        session = _session(caller)
        if kind != "newHeads":
            raise RpcError(METHOD_NOT_FOUND, f'no "{str(kind)[:32]}" subscription in eth namespace')
        namespace = self._rpc.namespace(caller)
        first = self._rpc.commits.height + 1
        render = self._rpc.views.header_renderer(namespace)
        return session.subscribe("eth_subscription", self._heights(first), render, caller)

    def seq_subscribe(
        self, caller: Caller, kind: Any, from_height: Any = None, namespace: Any = None
    ) -> str:
        """`blocks` or `transactions`, one event per height from `from_height` on."""
        session = _session(caller)
        if kind not in ("blocks", "transactions"):
            raise RpcError(INVALID_PARAMS, 'invalid argument 0: "blocks" or "transactions"')
        first = self._rpc.commits.height + 1
        if from_height is not None:
            first = max(1, params.number(from_height, 1))
            self._rpc.views.require(first)
        only = caller.namespace if namespace is None else params.number(namespace, 2)
        render = self._rpc.views.event_renderer(only, kind == "transactions")
        return session.subscribe("seq_subscription", self._heights(first), render, caller)

    def unsubscribe(self, caller: Caller, ident: Any) -> bool:
        """Whether a subscription of this connection was ended."""
        session = _session(caller)
        if not isinstance(ident, str) or not session.unsubscribe(ident):
            raise RpcError(REFUSED, "subscription not found")
        return True

    async def _heights(self, height: int) -> AsyncIterator[int]:
        while True:
            head = await self._rpc.commits.height_above(height - 1)
            while height <= head:
                yield height
                height += 1


def _session(caller: Caller) -> Session:
    if caller.session is None:
        raise RpcError(METHOD_NOT_FOUND, "notifications not supported")
    return caller.session
