"""JSON-RPC 2.0: bytes in, bytes out, with geth's codes and sentences; knows nothing of HTTP.

A `Method` is a handler and its arity.  Handlers get the `Caller` and positional parameters, and
return something JSON-able, at once or after awaiting; they refuse with `RpcError`.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from sequencer.history import Pruned
from sequencer.rpc.limits import Limits

if TYPE_CHECKING:
    from sequencer.rpc.websocket import Session

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REFUSED: Final = -32000
UNAVAILABLE: Final = -32002
"""The node cannot take transactions now (EIP-1474, resource unavailable): try again later."""
RESPONSE_TOO_LARGE: Final = -32003
LIMIT_EXCEEDED: Final = -32005
PRUNED: Final = 4_444
"""It was ordered, and this node does not keep it any more (geth's code and sentence)."""
WAIT_TIMEOUT: Final = 4
"""EIP-7966: the transaction was taken and was not ordered in time."""

CALLS_BETWEEN_YIELDS: Final = 16
"""Calls of one batch answered in a row (about a millisecond) before others get the event loop."""

log = logging.getLogger(__name__)


class RpcError(Exception):
    """An answer that is an error: JSON-RPC code, a sentence, and data for programs."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """The `error` member of a response."""
        body = {"code": self.code, "message": self.message}
        return body if self.data is None else {**body, "data": self.data}


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a call came in: the namespace of its path (None at `/`), its WebSocket if any."""

    namespace: int | None = None
    session: "Session | None" = None
    after_answer: list[Callable[[], None]] = field(default_factory=list)
    """What is to be done once the answer is on its way."""


Handler = Callable[..., Any | Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method:
    """A handler with how many parameters it must and may be given."""

    handler: Handler
    required: int = 0
    optional: int = 0
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.handler))

    def check(self, params: Any) -> list[Any]:
        """The parameters as a list of an allowed length.  Raises RpcError."""
        if params is None:
            params = []
        if not isinstance(params, list):
            raise RpcError(INVALID_PARAMS, "non-array args")
        if len(params) < self.required:
            raise RpcError(INVALID_PARAMS, f"missing value for required argument {len(params)}")
        most = self.required + self.optional
        if len(params) > most:
            raise RpcError(INVALID_PARAMS, f"too many arguments, want at most {most}")
        return params


def encode(value: Any) -> bytes:
    """JSON; bytes become 0x hex."""
    return orjson.dumps(value, default=_encode_bytes, option=orjson.OPT_NON_STR_KEYS)


def _encode_bytes(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value).hex()
    raise TypeError(f"{type(value).__name__} is not JSON")


class Dispatcher:
    """Answers request bodies by a table of methods."""

    def __init__(self, methods: Mapping[str, Method], limits: Limits) -> None:
        self.methods = methods
        """The table: what is not in it does not exist."""
        self._limits = limits
        self.calls: dict[str, int] = dict.fromkeys(methods, 0)
        """How often each known method was called."""
        self.errors: dict[int, int] = {}
        """How often each error code was answered."""

    async def answer(self, body: bytes, caller: Caller) -> bytes | None:
        """The response to one body, single or batch; None where nothing may be answered."""
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return self._failure(None, RpcError(PARSE_ERROR, f"parse error: {error}"))
        if isinstance(request, list):
            return await self._answer_batch(request, caller)
        return await self._answer_one(request, caller)

    async def _answer_batch(self, requests: list[Any], caller: Caller) -> bytes | None:
        if not requests:
            return self._failure(None, RpcError(INVALID_REQUEST, "empty batch"))
        if len(requests) > self._limits.batch_calls:
            return self._failure(None, RpcError(INVALID_REQUEST, "batch too large"))
        answers: list[bytes] = []
        size = 0
        for index, request in enumerate(requests):
            if index % CALLS_BETWEEN_YIELDS == CALLS_BETWEEN_YIELDS - 1:
                await asyncio.sleep(0)
            if size > self._limits.response_bytes:
                answer = self._too_large(request)
            else:
                answer = await self._answer_one(request, caller)
            if answer is not None:
                answers.append(answer)
                size += len(answer)
        return b"[" + b",".join(answers) + b"]" if answers else None

    def _too_large(self, request: Any) -> bytes | None:
        if not isinstance(request, dict) or "id" not in request:
            return None
        return self._failure(request["id"], RpcError(RESPONSE_TOO_LARGE, "response too large"))

    async def _answer_one(self, request: Any, caller: Caller) -> bytes | None:
        ident = None
        try:
            if not isinstance(request, dict):
                raise RpcError(INVALID_REQUEST, "invalid request")
            ident = request.get("id")
            if isinstance(ident, dict | list | bool):
                ident = None
                raise RpcError(INVALID_REQUEST, "invalid request")
            result = await self._call(request, caller)
            if "id" not in request:
                return None
            encoded = encode(result)
            if len(encoded) > self._limits.response_bytes:
                raise RpcError(RESPONSE_TOO_LARGE, "response too large")
        except RpcError as error:
            if isinstance(request, dict) and "id" not in request and "method" in request:
                return None
            return self._failure(ident, error)
        return b'{"jsonrpc":"2.0","id":' + orjson.dumps(ident) + b',"result":' + encoded + b"}"

    async def _call(self, request: dict[str, Any], caller: Caller) -> Any:
        name = request.get("method")
        if request.get("jsonrpc") != "2.0" or not isinstance(name, str):
            raise RpcError(INVALID_REQUEST, "invalid request")
        method = self.methods.get(name)
        if method is None:
            raise RpcError(
                METHOD_NOT_FOUND, f"the method {name[:64]} does not exist/is not available"
            )
        params = method.check(request.get("params"))
        self.calls[name] += 1
        try:
            if method.is_async:
                return await method.handler(caller, *params)
            return method.handler(caller, *params)
        except RpcError:
            raise
        except Pruned as pruned:
            raise RpcError(PRUNED, f"pruned history unavailable: {pruned}") from None
        except Exception as error:
            log.exception("%s failed", name)
            raise RpcError(INTERNAL_ERROR, "internal error") from error

    def _failure(self, ident: Any, error: RpcError) -> bytes:
        self.errors[error.code] = self.errors.get(error.code, 0) + 1
        return encode({"jsonrpc": "2.0", "id": ident, "error": error.to_json()})
