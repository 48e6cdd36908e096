"""Questions that need execution, passed on to the rollup's own RPC."""

import asyncio
from typing import Any

import aiohttp
import orjson

from sequencer.rpc.jsonrpc import INTERNAL_ERROR, RESPONSE_TOO_LARGE, RpcError
from sequencer.rpc.limits import Limits

MAX_CONNECTIONS = 64
"""Open connections to all rollups together."""


class Forward:
    """Calls other JSON-RPC servers; one pool of connections, opened at the first call."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def call(self, url: str, method: str, params: list[Any]) -> Any:
        """The result of one call at `url`.

        Raises RpcError: the rollup's own error as it is, or that the rollup did not answer.
        """
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = orjson.loads(await self._post(url, orjson.dumps(request)))
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            reason = f"the rollup's own RPC does not answer: {type(error).__name__}"
            raise RpcError(INTERNAL_ERROR, reason) from error
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise _rollup_error(answer["error"])
        if not isinstance(answer, dict) or "result" not in answer:
            raise RpcError(INTERNAL_ERROR, "the rollup's own RPC answers something else")
        return answer["result"]

    async def _post(self, url: str, body: bytes) -> bytes:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector)
        headers = {"Content-Type": "application/json"}
        async with (
            asyncio.timeout(self._limits.forward_s),
            self._session.post(url, data=body, headers=headers) as answer,
        ):
            data = bytearray()
            async for part in answer.content.iter_any():
                data += part
                if len(data) > self._limits.forward_bytes:
                    raise RpcError(RESPONSE_TOO_LARGE, "the rollup's answer is too large")
            return bytes(data)


def _rollup_error(error: dict[str, Any]) -> RpcError:
    code = error.get("code")
    return RpcError(
        code if isinstance(code, int) else INTERNAL_ERROR,
        str(error.get("message"))[:1_000],
        error.get("data"),
    )
