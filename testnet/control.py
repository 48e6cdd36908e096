"""How commands talk to a testnet that runs: JSON lines over a loopback socket.

A request is a line; so is the answer, before which lines may come that say how far it is.

The token in `running.json`, readable by its owner alone, keeps other users of the machine out.
"""

import asyncio
import hmac
import json
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testnet.errors import TestnetError
from testnet.state import Running, is_starting

MAX_LINE_BYTES: Final = 64 * 1024
ANSWER_TIMEOUT_S: Final = 330.0
"""Without a line: a change of members may wait for the L1 that long."""
END_TIMEOUT_S: Final = 45.0
"""For a supervisor to stop its nodes and its L1 before it is killed, and they with it."""
POLL_S: Final = 0.05

Tell = Callable[[str], None]
"""Hears how far it is, a sentence at a time."""
Handler = Callable[[str, dict[str, Any], Tell], Awaitable[Any]]
"""(verb, arguments, tell) to a JSON-able answer; raises TestnetError."""


@dataclass(slots=True)
class ControlServer:
    """Serves `handler` to whoever knows `token`."""

    handler: Handler
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    _server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on a free port of the loopback interface; returns it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_LINE_BYTES)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:

            def tell(sentence: str) -> None:
                writer.write(json.dumps({"progress": sentence}).encode() + b"\n")

            answer = await self._answer(await reader.readline(), tell)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):  # the caller left, or wrote no line
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes, tell: Tell) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb, arguments = str(request["verb"]), dict(request["arguments"])
            if not hmac.compare_digest(str(request["token"]), self.token):
                return {"error": "wrong token"}
        except (ValueError, KeyError, TypeError):
            return {"error": "malformed request"}
        try:
            return {"result": await self.handler(verb, arguments, tell)}
        except TestnetError as error:
            return {"error": str(error)}


async def ask(running: Running, verb: str, tell: Tell = lambda _: None, /, **arguments: Any) -> Any:
    """Tell the testnet that `running` names to do something; its answer.  Raises TestnetError."""
    request = {"token": running.control_token, "verb": verb, "arguments": arguments}
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.control_port)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            while "progress" in (answer := await _line(reader)):
                tell(answer["progress"])
        finally:
            writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise TestnetError(f"the testnet does not answer: {error or 'timeout'}") from None
    if "error" in answer:
        raise TestnetError(answer["error"])
    return answer["result"]


async def _line(reader: asyncio.StreamReader) -> dict[str, Any]:
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        answer = json.loads(await reader.readline() or b"null")
    if not isinstance(answer, dict):
        raise TestnetError("the testnet ended while it was asked")
    return answer


def end(directory: Path) -> str:
    """Stop what runs in `directory`, if anything; what happened, in words.

    What is being started there is stopped when it is up.
    """
    while (running := Running.load(directory)) is None and is_starting(directory):
        time.sleep(POLL_S)
    if running is None:
        return f"no testnet runs in {directory}"
    if not running.is_alive:
        Running.remove(directory)
        return f"the testnet in {directory} was gone already; cleaned up"
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_TIMEOUT_S
    while running.is_alive:
        if time.monotonic() > deadline:
            os.kill(running.pid, signal.SIGKILL)
            Running.remove(directory)
            raise TestnetError(f"it did not stop within {END_TIMEOUT_S:g} s and was killed")
        time.sleep(POLL_S)
    return f"the testnet in {directory} is down; its data is kept"
