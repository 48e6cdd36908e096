"""A client of sequencer nodes: submit, wait, prove, follow; async and blocking, with failover.

    async with SequencerClient(["http://127.0.0.1:8545", "http://127.0.0.1:8546"]) as client:
        ids = await client.submit(901, [b"hello"])
        place = await client.wait(ids[0])
        receipt = await client.receipt(ids[0])
        async for block in client.follow(from_height=place["height"], namespace=901):
            ...

Any node can answer everything, so a call goes to the node that answered last and moves on to the
next one when that does not answer.  Submitting is idempotent: a transaction that two nodes take
is ordered once.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import orjson

from sequencer.rpc.submit import encode_submission

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 20.0
WAIT_STEP_MS: Final = 10_000
"""How long one call waits at a node before it is asked again, perhaps of another node."""
PAUSE_S: Final = 0.2
"""The pause after all nodes failed in turn."""
HEARTBEAT_S: Final = 20.0
MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""One block in hex with what describes it."""
RETRY_CODES: Final = (-32005, -32002)
"""The node is full, or catching up: another node may not be."""


class ClientError(Exception):
    """The nodes did not do what was asked; the message says why."""


class Unreachable(ClientError):
    """None of the nodes answers."""


class Refused(ClientError):
    """A node answered with an error: `code`, and `data` for programs."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    @property
    def retry_after_s(self) -> float | None:
        """How long the node asks to wait before the same call may succeed; None if never."""
        if self.code not in RETRY_CODES:
            return None
        hint = self.data.get("retry_after_ms") if isinstance(self.data, dict) else None
        return (hint if isinstance(hint, int) else 1_000) / 1_000


class SequencerClient:
    """Talks to one or more nodes; use it as an async context manager, or `close` it."""

    def __init__(self, urls: str | Sequence[str], timeout_s: float = CALL_TIMEOUT_S) -> None:
        given = [urls] if isinstance(urls, str) else list(urls)
        if not given:
            raise ValueError("a client needs the URL of at least one node")
        self._urls = [url.rstrip("/") for url in given]
        self._timeout_s = timeout_s
        self._current = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def url(self) -> str:
        """The node that is asked next."""
        return self._urls[self._current]

    async def call(self, method: str, *params: Any, namespace: int | None = None) -> Any:
        """The result of one JSON-RPC call, at `/` or at `/rollup/<namespace>`.

        Raises Refused with the node's error, and Unreachable when no node answers.
        """
        path = "/" if namespace is None else f"/rollup/{namespace}"
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        body = orjson.dumps(request)
        return await self._first_answer(path, body, "application/json", _result)

    async def submit(
        self, namespace: int, transactions: Sequence[bytes], patience_s: float = 30.0
    ) -> list[bytes]:
        """Hand transactions in, all or none; their ids (32 bytes) in the same order.

        While nodes are full it waits as long as they ask for, up to `patience_s` in all.
        """
        body = encode_submission([(namespace, transaction) for transaction in transactions])
        return await self._patiently(
            lambda: self._first_answer("/submit", body, "application/octet-stream", _ids),
            patience_s,
        )

    async def send_raw_transaction(
        self, namespace: int, raw: bytes, patience_s: float = 30.0
    ) -> bytes:
        """Hand in one signed Ethereum transaction; its Ethereum hash (32 bytes)."""
        answer = await self._patiently(
            lambda: self.call("eth_sendRawTransaction", "0x" + raw.hex(), namespace=namespace),
            patience_s,
        )
        return bytes.fromhex(answer.removeprefix("0x"))

    async def wait(self, tx_hash: bytes, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait until a transaction is ordered; where it stands, as `seq_getTransaction` says.

        Raises TimeoutError; Unreachable only if no node answers at the end of that time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            left_ms = max(1, int((end - loop.time()) * 1_000))
            step_ms = min(left_ms, WAIT_STEP_MS)
            try:
                place = await self.call("seq_getTransaction", "0x" + tx_hash.hex(), step_ms)
                if place["state"] == "ordered":
                    return dict(place)
            except Unreachable:
                if loop.time() >= end:
                    raise
                await asyncio.sleep(PAUSE_S)
            if loop.time() >= end:
                raise TimeoutError(f"0x{tx_hash.hex()} is not ordered after {timeout_s:g} s")

    async def receipt(self, tx_hash: bytes, namespace: int | None = None) -> dict[str, Any] | None:
        """The proof that a transaction is in the log, for `verify_receipt`; None if it is not.

        Name the namespace where the bytes of an Ethereum hash may stand in several.
        """
        receipt: dict[str, Any] | None = await self.call(
            "seq_getReceipt", "0x" + tx_hash.hex(), namespace=namespace
        )
        return receipt

    async def status(self) -> dict[str, Any]:
        """What the node says of itself."""
        return dict(await self.call("seq_status"))

    async def why(self) -> dict[str, Any]:
        """Why the log does or does not grow."""
        return dict(await self.call("seq_why"))

    async def committee(self) -> dict[str, Any]:
        """Who orders."""
        return dict(await self.call("seq_committee"))

    async def batch(self, number: int) -> dict[str, Any] | None:
        """A batch and its certificate; None if there is none of this number yet."""
        batch: dict[str, Any] | None = await self.call("seq_getBatch", number)
        return batch

    async def follow(
        self,
        kind: str = "transactions",
        from_height: int | None = None,
        namespace: int | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """The log from `from_height` (default: the next block) on, one event per height, for ever.

        No height is left out and none comes twice, whichever node sends it: when one fails, the
        next one goes on at the height after the last.  Raises Unreachable when all of them fail
        one after the other.
        """
        following = from_height
        failures = 0
        while True:
            try:
                async for event in self._events(kind, following, namespace):
                    failures = 0
                    height = int(event["height"])
                    if following is not None and height != max(1, following):
                        raise ClientError(f"{self.url} sent height {height} after {following - 1}")
                    following = height + 1
                    yield event
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failures += 1
                self._current = (self._current + 1) % len(self._urls)
                if failures >= 2 * len(self._urls):
                    raise Unreachable(_nobody(self._urls, error)) from error
                await asyncio.sleep(PAUSE_S)

    async def _events(
        self, kind: str, from_height: int | None, namespace: int | None
    ) -> AsyncIterator[dict[str, Any]]:
        async with self._open().ws_connect(
            self.url, max_msg_size=MAX_EVENT_BYTES, heartbeat=HEARTBEAT_S
        ) as socket:
            params = [kind, from_height, namespace]
            request = {"jsonrpc": "2.0", "id": 1, "method": "seq_subscribe", "params": params}
            await socket.send_str(orjson.dumps(request).decode())
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                answer = orjson.loads(message.data)
                if "method" in answer:
                    yield answer["params"]["result"]
                else:
                    _unwrap(answer)  # the id of the subscription, or why there is none
        raise aiohttp.ClientError("the node closed the subscription")

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], patience_s: float) -> T:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while True:
            try:
                return await attempt()
            except Refused as refused:
                pause = refused.retry_after_s
                if pause is None or loop.time() + pause > end:
                    raise
                await asyncio.sleep(pause)

    async def _first_answer(
        self, path: str, body: bytes, content_type: str, read: Callable[[int, bytes], T]
    ) -> T:
        """Ask the nodes in turn until one answers with something else than "not now"."""
        failure: ClientError | None = None
        for _ in self._urls:
            try:
                return read(*await self._post(path, body, content_type))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = failure or Unreachable(_nobody(self._urls, error))
            except Refused as refused:
                if refused.retry_after_s is None:
                    raise
                failure = refused
            self._current = (self._current + 1) % len(self._urls)
        assert failure is not None
        raise failure

    async def _post(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        headers = {"Content-Type": content_type}
        async with self._open().post(self.url + path, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session


class SyncSequencerClient:
    """The same for programs without an event loop: every call blocks until it is answered.

    Not for use inside a running event loop, nor from several threads at once.
    """

    def __init__(self, urls: str | Sequence[str], timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._client = SequencerClient(urls, timeout_s)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._run(self._client.close())
        self._runner.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    @property
    def url(self) -> str:
        """The node that is asked next."""
        return self._client.url

    def call(self, method: str, *params: Any, namespace: int | None = None) -> Any:
        """As `SequencerClient.call`."""
        return self._run(self._client.call(method, *params, namespace=namespace))

    def submit(
        self, namespace: int, transactions: Sequence[bytes], patience_s: float = 30.0
    ) -> list[bytes]:
        """As `SequencerClient.submit`."""
        return self._run(self._client.submit(namespace, transactions, patience_s))

    def send_raw_transaction(self, namespace: int, raw: bytes, patience_s: float = 30.0) -> bytes:
        """As `SequencerClient.send_raw_transaction`."""
        return self._run(self._client.send_raw_transaction(namespace, raw, patience_s))

    def wait(self, tx_hash: bytes, timeout_s: float = 30.0) -> dict[str, Any]:
        """As `SequencerClient.wait`."""
        return self._run(self._client.wait(tx_hash, timeout_s))

    def receipt(self, tx_hash: bytes, namespace: int | None = None) -> dict[str, Any] | None:
        """As `SequencerClient.receipt`."""
        return self._run(self._client.receipt(tx_hash, namespace))

    def status(self) -> dict[str, Any]:
        """As `SequencerClient.status`."""
        return self._run(self._client.status())

    def why(self) -> dict[str, Any]:
        """As `SequencerClient.why`."""
        return self._run(self._client.why())

    def committee(self) -> dict[str, Any]:
        """As `SequencerClient.committee`."""
        return self._run(self._client.committee())

    def batch(self, number: int) -> dict[str, Any] | None:
        """As `SequencerClient.batch`."""
        return self._run(self._client.batch(number))

    def follow(
        self,
        kind: str = "transactions",
        from_height: int | None = None,
        namespace: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """As `SequencerClient.follow`."""
        events = self._client.follow(kind, from_height, namespace)
        try:
            while True:
                yield self._run(_next(events))
        finally:
            self._run(_close(events))


async def _next(events: AsyncIterator[T]) -> T:
    return await anext(events)


async def _close(events: Any) -> None:
    await events.aclose()


def _result(status: int, body: bytes) -> Any:
    """The result in a JSON-RPC response.  Raises Refused, and aiohttp's errors for rubbish."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise aiohttp.ClientError(f"HTTP {status} without JSON") from None
    return _unwrap(answer)


def _unwrap(answer: Any) -> Any:
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        code = error.get("code")
        raise Refused(
            code if isinstance(code, int) else 0, str(error.get("message")), error.get("data")
        )
    if not isinstance(answer, dict) or "result" not in answer:
        raise aiohttp.ClientError("the answer is no JSON-RPC response")
    return answer["result"]


def _ids(status: int, body: bytes) -> list[bytes]:
    """The ids in an answer of `/submit`."""
    if status != 200 or len(body) % 32:
        _result(status, body)
    return [body[start : start + 32] for start in range(0, len(body), 32)]


def _nobody(urls: Sequence[str], error: Exception) -> str:
    return f"no node answers at {', '.join(urls)}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Why a node was not reached, in the words of the system where it has words."""
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(
        error, aiohttp.ClientSSLError
    ):
        cause = error.os_error
        if cause.errno and cause.errno > 0:
            return os.strerror(cause.errno)
        return cause.strerror or str(cause)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
