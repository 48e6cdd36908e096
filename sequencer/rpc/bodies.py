"""Bodies of requests and answers: read in time, sent in time, and never too many at once."""

import asyncio
from typing import Final

from aiohttp import web

from sequencer.rpc.limits import Limits

SMALL_BYTES: Final = 64 * 1024
"""Answers up to here are not counted: a connection's own buffer holds them."""


class Refused(Exception):
    """An HTTP answer other than 200: status, a sentence, and headers to add."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class Budget:
    """Bytes that may be in memory at the same time, for all connections together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0

    def take(self, size: int) -> bool:
        """Count `size` bytes in; False, and nothing is counted, where that is too much."""
        if self._used + size > self._most:
            return False
        self._used += size
        return True

    def give(self, size: int) -> None:
        """Count them out again."""
        self._used -= size


class Bodies:
    """Reads request bodies and sends large answers under two budgets."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.incoming = Budget(limits.incoming_bytes)
        self.outgoing = Budget(limits.outgoing_bytes)

    def reserve(self, request: web.BaseRequest, limit: int) -> int:
        """Account for a body before a byte of it is read; returns the bytes reserved.

        Raises Refused.  Give them back when the request is answered.
        """
        size = request.content_length
        if size is None:
            size = limit if request.body_exists else 0
        if size > limit:
            raise Refused(413, f"content length too large ({size}>{limit})")
        if not self.incoming.take(size):
            raise _busy()
        return size

    async def read(self, request: web.BaseRequest, limit: int) -> bytes:
        """The body of a request, at most `limit` bytes within `body_s`.  Raises Refused."""
        content = request.content
        if content.is_eof():
            return _bounded(content.read_nowait(-1), limit)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for part in content.iter_any():
                    parts.append(_bounded(part, limit - size))
                    size += len(part)
        except TimeoutError:
            seconds = self._limits.body_s
            raise Refused(408, f"the body did not arrive within {seconds:g} s") from None
        return b"".join(parts)

    async def send(self, request: web.BaseRequest, answer: web.Response) -> web.Response:
        """Send a large answer to the end, or give the client up after `send_s`.

        Small ones are left to the caller, which writes them at once.  Raises Refused.
        """
        size = len(answer.body) if isinstance(answer.body, bytes) else 0
        if size <= SMALL_BYTES:
            return answer
        if not self.outgoing.take(size):
            raise _busy()
        try:
            async with asyncio.timeout(self._limits.send_s):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read") from None
        finally:
            self.outgoing.give(size)
        return answer


def _busy() -> Refused:
    return Refused(503, "too many requests at once, try again", {"Retry-After": "1"})


def _bounded(part: bytes, room: int) -> bytes:
    if len(part) > room:
        raise Refused(413, "content length too large")
    return part
