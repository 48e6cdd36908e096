"""Start a local L1, or use one that runs elsewhere: `launch_l1(kind, directory)`.

Local ones mine every `block_time_s`, keep a log file in `directory`, own the accounts of
`funded_keys`, and end with this process however it ends (on Linux; by `aclose` elsewhere).
"""

import asyncio
import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import aiohttp

KIND_AUTO: Final = "auto"
KIND_EMBEDDED: Final = "embedded"
KIND_ANVIL: Final = "anvil"
DEFAULT_HARDFORK: Final = "osaka"
Kind = Literal["embedded", "anvil", "url"]

DEFAULT_CHAIN_ID = 31_337
FUNDED_ACCOUNTS = 10
FUND_WEI = 10**24
ANVIL_ACCOUNT: Final = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
"""Anvil's first development account."""
MARK_BITS: Final = 48
"""What that account owns, in ether, is drawn: by this we tell our anvil from another's that took
the port in between."""
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
POLL_S = 0.05
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 8_192
_PR_SET_PDEATHSIG = 1


class L1LaunchError(Exception):
    """An L1 could not be started or reached; the message says why and what to do."""


def funded_key(index: int) -> bytes:
    """The private key (32 bytes) of a local L1's funded account. Public knowledge: never real."""
    return hashlib.sha256(b"sequencer testnet L1 account %d" % index).digest()


@dataclass
class L1Handle:
    """A reachable L1. `funded_keys` are private keys of accounts with a million ether each."""

    url: str
    chain_id: int
    kind: Kind
    funded_keys: list[bytes] = field(default_factory=list)
    log_path: Path | None = None
    stalled: bool = False
    """Whether `stall` was the last word."""
    _process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process, for local kinds."""
        return None if self._process is None else self._process.pid

    async def stall(self) -> None:
        """Stop mining (embedded) or stop the process, answers included (anvil)."""
        await _set_stalled(self.kind, self.url, self.pid, True)
        self.stalled = True

    async def resume(self) -> None:
        """The opposite of `stall`."""
        await _set_stalled(self.kind, self.url, self.pid, False)
        self.stalled = False

    async def reorg(self, depth: int) -> None:
        """Replace the last `depth` blocks (at most 3 on embedded)."""
        if self.kind == KIND_ANVIL:
            await rpc(self.url, "anvil_reorg", [depth, []])
        else:
            await rpc(self.url, "testnet_reorg", [depth])

    async def spike(self, base_fee: int) -> None:
        """Set the next block's base fee, in wei."""
        method = (
            "testnet_spike" if self.kind == KIND_EMBEDDED else "anvil_setNextBlockBaseFeePerGas"
        )
        await rpc(self.url, method, [hex(base_fee)])

    async def aclose(self) -> None:
        """End the process if it is ours: ask, then insist."""
        if self._process is not None:
            await _stop(self._process)
            self._process = None


async def launch_l1(
    kind: str,
    directory: Path,
    *,
    port: int | None = None,
    chain_id: int = DEFAULT_CHAIN_ID,
    block_time_s: float = 1.0,
    fund: tuple[str, ...] = (),
    hardfork: str = DEFAULT_HARDFORK,
) -> L1Handle:
    """An L1 of a kind: `auto` (anvil if there is one, else embedded), `embedded`, `anvil` or a URL.

    `fund` names further addresses (0x...) to own a million ether; not for URLs. `hardfork` is what
    an anvil is at. An embedded chain continues from what `directory` holds. Raises `L1LaunchError`.
    """
    if kind.startswith(("http://", "https://")):
        return L1Handle(kind, await _reach(kind), "url")
    anvil = find_anvil() if kind in (KIND_AUTO, KIND_ANVIL) else None
    if kind == KIND_ANVIL and anvil is None:
        raise L1LaunchError(
            "anvil not found: put it on PATH, name it in $ANVIL, run "
            "`npm install @foundry-rs/anvil`, or choose --l1 embedded"
        )
    if kind not in (KIND_AUTO, KIND_ANVIL, KIND_EMBEDDED):
        raise L1LaunchError(f"unknown L1 {kind!r}: auto, embedded, anvil or an http URL")
    keys = [funded_key(index) for index in range(FUNDED_ACCOUNTS)]
    addresses = [*(_address(key) for key in keys), *fund]
    with _listening(port) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if anvil is None:
            handle = L1Handle(url, chain_id, KIND_EMBEDDED, keys)
            command = _embedded_command(directory, listener, chain_id, block_time_s, addresses)
            await _start(handle, command, directory, _answers, listener)
            return handle
        port = listener.getsockname()[1]
    handle = L1Handle(url, chain_id, KIND_ANVIL, keys)
    ether = secrets.randbits(MARK_BITS)
    command = _anvil_command(anvil, port, chain_id, block_time_s, hardfork, ether)

    async def is_ours(url: str) -> bool:
        balance = await rpc(url, "eth_getBalance", [ANVIL_ACCOUNT, "latest"])
        return bool(balance == hex(ether * 10**18))

    await _start(handle, command, directory, is_ours)
    await _fund_anvil(handle, addresses)
    return handle


def find_anvil() -> Path | None:
    """The anvil binary: $ANVIL, PATH, or an npm tree below the current or the home directory.

    The binary itself: npm's wrapper would leave it running when the wrapper is ended.
    """
    named = os.environ.get("ANVIL")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    for root in (Path.cwd(), Path.home()):
        for found in sorted(root.glob("node_modules/@foundry-rs/anvil-*/bin/anvil")):
            if os.access(found, os.X_OK):
                return found
    on_path = shutil.which("anvil")
    return Path(on_path) if on_path else None


@contextlib.contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """A socket that listens on this port, or on a free one."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise L1LaunchError(
                f"port {port} is in use: end what listens there or choose another"
            ) from error
        listener.listen()
        yield listener


def _embedded_command(
    directory: Path, listener: socket.socket, chain_id: int, block_time_s: float, funded: list[str]
) -> list[str]:
    return [
        *(sys.executable, "-m", "testnet.l1.embedded", "--socket", str(listener.fileno())),
        *("--dir", str(directory / "embedded")),
        *("--chain-id", str(chain_id), "--block-time", f"{block_time_s:g}"),
        *(argument for address in funded for argument in ("--fund", address)),
    ]


def _anvil_command(
    anvil: Path, port: int, chain_id: int, block_time_s: float, hardfork: str, ether: int
) -> list[str]:
    return [
        str(anvil),
        *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id)),
        *("--block-time", f"{block_time_s:g}", "--slots-in-an-epoch", "1"),
        *("--hardfork", hardfork, "--accounts", "1", "--balance", str(ether), "--silent"),
    ]


async def _start(
    handle: L1Handle,
    command: list[str],
    directory: Path,
    is_ours: Callable[[str], Awaitable[bool]],
    listener: socket.socket | None = None,
) -> None:
    handle.log_path = log_path = directory / f"l1-{handle.kind}.log"
    with _opened(log_path) as log:
        handle._process = process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(),
            pass_fds=() if listener is None else (listener.fileno(),),
            preexec_fn=_die_with_parent(os.getpid()),
            start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
        )
    if listener is not None:
        listener.close()  # the process has its own now: when it dies, nobody listens
    try:
        await asyncio.wait_for(_until_ready(handle, process, is_ours), START_TIMEOUT_S)
    except TimeoutError as error:
        await handle.aclose()
        raise L1LaunchError(
            f"{handle.kind} L1 did not answer within {START_TIMEOUT_S:g} s; its log {log_path} "
            f"ends:\n{_tail(log_path)}"
        ) from error
    except BaseException:
        await handle.aclose()
        raise


def _opened(log_path: Path) -> BinaryIO:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    return log_path.open("ab")


async def _until_ready(
    handle: L1Handle,
    process: asyncio.subprocess.Process,
    is_ours: Callable[[str], Awaitable[bool]],
) -> None:
    assert handle.log_path is not None
    while True:
        if process.returncode is not None:
            raise L1LaunchError(
                f"{handle.kind} L1 ended at start with exit code {process.returncode}; "
                f"its log {handle.log_path} ends:\n{_tail(handle.log_path)}"
            )
        with contextlib.suppress(aiohttp.ClientError, OSError):
            if await is_ours(handle.url):
                return
        await asyncio.sleep(POLL_S)


async def _answers(url: str) -> bool:
    """For a process that listens on a socket of ours: nobody else can."""
    await rpc(url, "eth_chainId", [])
    return True


async def _fund_anvil(handle: L1Handle, addresses: list[str]) -> None:
    try:
        for address in addresses:
            await rpc(handle.url, "anvil_setBalance", [address, hex(FUND_WEI)])
    except BaseException:
        await handle.aclose()
        raise


async def _reach(url: str) -> int:
    try:
        return int(await rpc(url, "eth_chainId", []), 16)
    except (aiohttp.ClientError, OSError, ValueError, TypeError) as error:
        raise L1LaunchError(f"no Ethereum JSON-RPC at {url}: {error!r}") from error


async def _set_stalled(kind: Kind, url: str, pid: int | None, stalled: bool) -> None:
    if kind == KIND_EMBEDDED:
        await rpc(url, "testnet_stall" if stalled else "testnet_resume", [])
    elif pid is not None:
        os.kill(pid, signal.SIGSTOP if stalled else signal.SIGCONT)
    else:
        raise L1LaunchError(f"cannot stall an L1 that is not ours: {url}")


async def rpc(url: str, method: str, parameters: list[Any]) -> Any:
    """One JSON-RPC call for tests and testnet verbs; raises `L1LaunchError` on an error answer."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, json=body) as response,
    ):
        answer = await response.json(content_type=None)
    if not isinstance(answer, dict) or "result" not in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        reason = error.get("message") if isinstance(error, dict) else None
        raise L1LaunchError(reason or f"{method} at {url} is answered with {answer}")
    return answer["result"]


async def _stop(process: asyncio.subprocess.Process) -> None:
    # A stopped process must wake up to end; in this order, since a signal to a process that has
    # ended would reap it behind asyncio's back.
    for number in (signal.SIGCONT, signal.SIGTERM):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """Ours, with the directory of these packages importable."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _die_with_parent(parent: int) -> Any:
    """Run in the child before exec: the kernel ends it when `parent` dies (Linux)."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)

    def before_exec() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _tail(path: Path) -> str:
    text = path.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:]) or "(empty)"


def _address(key: bytes) -> str:
    from eth_keys.datatypes import PrivateKey

    return str(PrivateKey(key).public_key.to_checksum_address())
