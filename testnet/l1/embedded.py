"""The embedded L1 as a process: `python -m testnet.l1.embedded --port 8545 --dir l1 --fund 0x...`.

Serves Ethereum's JSON-RPC over HTTP on the loopback interface and mines a block every
`--block-time` seconds. SIGINT and SIGTERM end it; so does SIGKILL, without loss of a block.
"""

import argparse
import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from testnet.l1.chain import EmbeddedChain
from testnet.l1.database import DirectoryInUse
from testnet.l1.errors import (
    INTERNAL_ERROR_CODE,
    INVALID_REQUEST_CODE,
    PARSE_ERROR_CODE,
    RpcError,
)
from testnet.l1.rpc import EthereumRpc, clock

MAX_BODY_BYTES = 4 << 20
MAX_BATCH_REQUESTS = 1_000
FUND_WEI = 10**24
"""What each account named by `--fund` owns at genesis: a million ether."""
DEFAULT_CHAIN_ID = 31_337
START_FAILED = 2
"""Exit code when the process could not start; the reason is on standard error."""


def serve_one(rpc: EthereumRpc, request: Any) -> dict[str, Any]:
    """The answer object to one request object."""
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _failure(None, RpcError("invalid request", INVALID_REQUEST_CODE))
    parameters = request.get("params", [])
    identity = request.get("id")
    if not isinstance(parameters, list):
        return _failure(identity, RpcError("params: list expected", INVALID_REQUEST_CODE))
    try:
        result = rpc.answer(request["method"], parameters)
    except RpcError as error:
        return _failure(identity, error)
    except Exception as error:  # a request must never end the chain; the log says what happened
        print(f"{request['method']} failed: {error!r}", file=sys.stderr, flush=True)
        return _failure(identity, RpcError(f"internal error: {error!r}", INTERNAL_ERROR_CODE))
    return {"jsonrpc": "2.0", "id": identity, "result": result}


def _failure(identity: Any, error: RpcError) -> dict[str, Any]:
    details: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data is not None:
        details["data"] = error.data
    return {"jsonrpc": "2.0", "id": identity, "error": details}


def serve_body(rpc: EthereumRpc, body: bytes) -> Any:
    """The answer to an HTTP body: one request or a batch."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _failure(None, RpcError(f"parse error: {error}", PARSE_ERROR_CODE))
    if not isinstance(request, list):
        return serve_one(rpc, request)
    if not 0 < len(request) <= MAX_BATCH_REQUESTS:
        return _failure(None, RpcError("empty or too large batch", INVALID_REQUEST_CODE))
    return [serve_one(rpc, entry) for entry in request]


def application(rpc: EthereumRpc) -> web.Application:
    """The HTTP application."""

    async def handle(request: web.Request) -> web.Response:
        answer = serve_body(rpc, await request.read())
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    found = web.Application(client_max_size=MAX_BODY_BYTES)
    found.router.add_post("/", handle)
    return found


async def mine_for_ever(chain: EmbeddedChain, rpc: EthereumRpc, block_time_s: float) -> None:
    """A block every `block_time_s`, unless stalled. Late blocks are not made up for."""
    while True:
        await asyncio.sleep(block_time_s)
        if not rpc.stalled:
            chain.mine(clock())


async def run(chain: EmbeddedChain, listener: socket.socket, block_time_s: float) -> None:
    """Serve on a bound socket and mine until a signal asks to end."""
    rpc = EthereumRpc(chain)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = web.AppRunner(application(rpc), access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    host, port = listener.getsockname()
    print(f"embedded L1: chain id {chain.chain_id}, http://{host}:{port}", flush=True)
    miner = asyncio.create_task(mine_for_ever(chain, rpc, block_time_s))
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({miner, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await runner.cleanup()
    if miner.done():
        miner.result()  # mining failed: say why and end
    miner.cancel()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="testnet.l1.embedded", description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int, help="on 127.0.0.1; 0 for a free one")
    place.add_argument("--socket", type=int, metavar="FD", help="inherited, and bound")
    parser.add_argument("--dir", type=Path, required=True, help="where the chain is kept")
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds")
    parser.add_argument("--chain-id", type=int, default=DEFAULT_CHAIN_ID)
    parser.add_argument("--fund", action="append", default=[], metavar="ADDRESS")
    return parser.parse_args(arguments)


def _listener(port: int, inherited: int | None) -> socket.socket:
    if inherited is not None:
        return socket.socket(fileno=inherited)
    return socket.create_server(("127.0.0.1", port))


def main(arguments: list[str]) -> int:
    """Run the process; the exit code says how it ended."""
    options = _parse(arguments)
    try:
        funded = {bytes.fromhex(entry.removeprefix("0x")): FUND_WEI for entry in options.fund}
        chain = EmbeddedChain(options.dir, options.chain_id, funded, clock())
    except (DirectoryInUse, ValueError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return START_FAILED
    try:
        with _listener(options.port, options.socket) as listener:
            asyncio.run(run(chain, listener, options.block_time))
    except OSError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return START_FAILED
    finally:
        chain.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
