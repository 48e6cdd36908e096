"""Ethereum JSON-RPC over HTTP: one request, one bounded answer, named time-outs, no retries.

Retrying is the poster's business: it knows what a repeated request means.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson

from sequencer.settlement.client import InvalidAnswer, L1Refused, L1Unreachable

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 << 20
"""A page of logs, or a transaction with 120 KiB of calldata in hex, are far below."""
MAX_TEXT = 300
"""Characters of a foreign error message that are kept."""


class RevertedCall(L1Refused):
    """A call that the EVM ended with an error; `data` is what it returned."""

    def __init__(self, message: str, code: int, data: bytes) -> None:
        super().__init__(message, code)
        self.data = data


class JsonRpc:
    """A connection pool to one endpoint. Use it in one event loop and close it there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None
        self._last_id = 0

    async def call(self, method: str, parameters: Sequence[Any]) -> Any:
        """The result. Raises `L1Unreachable`, `L1Refused`, `RevertedCall` or `InvalidAnswer`."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": parameters}
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                body = await self._post(orjson.dumps(request))
        except TimeoutError as error:
            raise L1Unreachable(
                f"the L1 at {self.url} did not answer {method} within {REQUEST_TIMEOUT_S:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise L1Unreachable(f"the L1 at {self.url} is not reachable: {error}") from error
        return self._result(method, body)

    async def _post(self, body: bytes) -> bytes:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        headers = {"content-type": "application/json"}
        async with self._session.post(self.url, data=body, headers=headers) as response:
            found = bytearray()
            async for chunk in response.content.iter_any():
                found += chunk
                if len(found) > MAX_ANSWER_BYTES:
                    raise InvalidAnswer(f"the L1 at {self.url} answers without end")
            if response.status != 200 and not found.lstrip().startswith(b"{"):
                raise L1Unreachable(f"the L1 at {self.url} answers HTTP {response.status}")
            return bytes(found)

    def _result(self, method: str, body: bytes) -> Any:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidAnswer(f"the L1 at {self.url} does not speak JSON-RPC") from error
        if not isinstance(answer, dict):
            raise InvalidAnswer(f"{method}: the L1's answer is no object")
        if answer.get("error") is not None:
            raise _error(method, answer["error"])
        if "result" not in answer:
            raise InvalidAnswer(f"{method}: the L1's answer has neither result nor error")
        return answer["result"]

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _error(method: str, error: Any) -> L1Refused | InvalidAnswer:
    if not isinstance(error, dict):
        return InvalidAnswer(f"{method}: the L1's error is no object")
    code = error.get("code")
    message = str(error.get("message", ""))[:MAX_TEXT]
    number = code if isinstance(code, int) else 0
    data = error.get("data")
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return RevertedCall(message, number, bytes.fromhex(data[2:]))
        except ValueError:
            return InvalidAnswer(f"{method}: the L1's error data is no hex")
    return L1Refused(message, number)
