"""Node processes on this machine: start, watch, hurt and end them.

Each node runs in a session of its own, so a Ctrl-C in the terminal reaches only the testnet,
which then ends its nodes in order.  On Linux the kernel kills a node whose testnet died
(PR_SET_PDEATHSIG), whatever it died of: nothing is ever orphaned.
"""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testnet.errors import TestnetError

STOP_TIMEOUT_S: Final = 15.0
"""How long a node may take to stop by itself before that counts as a failure."""

POLL_S: Final = 0.05

PORT_RANGE: Final = range(20_000, 32_000)
"""Below the range from which Linux takes the ports of outgoing connections: a port that was free
when it was chosen is still free when the node binds it, and again after a restart."""

PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node: its name, its directory, and where it serves clients (URL) and peers (port)."""

    name: str
    directory: Path
    rpc_port: int
    peer_port: int

    @property
    def rpc_url(self) -> str:
        """The base of everything the node serves to clients."""
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def log_file(self) -> Path:
        """Where its stdout and stderr go."""
        return self.directory / "node.log"


def node_command(spec: NodeSpec) -> list[str]:
    """The command line of a real node, run by this very interpreter."""
    return [
        *(sys.executable, "-c", "from sequencer.cli import main; main()", "start"),
        *("--dir", str(spec.directory), "--password-file", str(spec.directory / "password")),
    ]


@dataclass(slots=True)
class NodeProcess:
    """A node and its process, if it has one; `paused` while it is stopped by SIGSTOP."""

    spec: NodeSpec
    command: Callable[[NodeSpec], Sequence[str]] = node_command
    process: subprocess.Popen[bytes] | None = None
    paused: bool = False
    ended: bool = field(default=True)
    """Whether we ended it on purpose; an exit otherwise is a failure."""
    left: bool = False
    """Whether its member has left the committee and it was stopped for good."""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.process.pid if self.process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether its process exists."""
        return self.process is not None and self.process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether it ended without being told to."""
        return self.process is not None and not self.ended and not self.is_running

    def start(self) -> None:
        """Start the process; a node that runs already is left alone."""
        if self.is_running:
            return
        self.spec.directory.mkdir(parents=True, exist_ok=True)
        with self.spec.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command(self.spec)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self.paused = self.ended = self.left = False

    def kill(self) -> None:
        """SIGKILL: the node gets no chance to say goodbye."""
        self.ended = True
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.paused = False

    def pause(self) -> None:
        """SIGSTOP: alive for the kernel and its sockets, dead for everybody else."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def check(self) -> None:
        """Raise TestnetError if the node ended without being told to."""
        if self.failed:
            assert self.process is not None
            raise TestnetError(
                f"{self.spec.name} ended by itself with exit code {self.process.returncode}: "
                f"{self.last_words()} (its log: {self.spec.log_file})"
            )

    def last_words(self) -> str:
        """The last line of its log."""
        with contextlib.suppress(OSError):
            lines = self.spec.log_file.read_bytes()[-4096:].decode(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return "no output"

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM and wait.  TestnetError if it has to be killed or its exit code is not 0."""
        if self.process is None or self.ended:
            return
        self.check()
        self.ended = True
        if self.paused:
            self.resume()
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                while self.is_running:  # noqa: ASYNC110 - processes have no event
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            self.kill()
            raise TestnetError(f"{self.spec.name} did not stop within {timeout_s:g} s") from None
        if self.process.returncode != 0:
            raise TestnetError(
                f"{self.spec.name} stopped with exit code {self.process.returncode}: "
                f"{self.last_words()} (its log: {self.spec.log_file})"
            )

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.is_running:
            self.process.send_signal(number)


@dataclass(slots=True)
class Cluster:
    """The nodes of one testnet: the founders in committee order, then those that joined.

    An async context manager: leaving it kills whatever still runs, so that no way out of a run
    leaves a process behind.  `stop` ends them well.
    """

    nodes: list[NodeProcess]
    command: Callable[[NodeSpec], Sequence[str]] = node_command

    @classmethod
    def of(
        cls, specs: Sequence[NodeSpec], command: Callable[[NodeSpec], Sequence[str]] = node_command
    ) -> "Cluster":
        """A cluster of these nodes, none of them started."""
        return cls([NodeProcess(spec, command) for spec in specs], command)

    def add(self, spec: NodeSpec) -> NodeProcess:
        """One more node, not started."""
        node = NodeProcess(spec, self.command)
        self.nodes.append(node)
        return node

    @property
    def present(self) -> list[NodeProcess]:
        """The nodes that have not left for good."""
        return [node for node in self.nodes if not node.left]

    async def __aenter__(self) -> "Cluster":
        return self

    async def __aexit__(self, *failure: object) -> None:
        for node in self.nodes:
            node.kill()

    def pids(self) -> dict[int, int]:
        """The processes that run, by id, with the number of the node."""
        return {node.pid: number for number, node in enumerate(self.nodes) if node.pid is not None}

    def start(self) -> None:
        """Start all of them but those that have left."""
        for node in self.present:
            node.start()

    def check(self) -> None:
        """Raise TestnetError if any node ended without being told to."""
        for node in self.nodes:
            node.check()

    async def stop(self) -> None:
        """Stop all of them at once.  TestnetError names each that did not end well."""
        results = await asyncio.gather(
            *(node.stop() for node in self.nodes), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        if unexpected := [item for item in failures if not isinstance(item, TestnetError)]:
            raise unexpected[0]
        if failures:
            raise TestnetError("; ".join(str(failure) for failure in failures))

    def find(self, name: str) -> NodeProcess:
        """The node called `name`, or the one with that number, counted from 0."""
        for index, node in enumerate(self.nodes):
            if name in (node.spec.name, str(index)):
                return node
        names = ", ".join(node.spec.name for node in self.nodes)
        raise TestnetError(f"there is no node {name!r}; there are {names}")


def die_with_parent() -> Callable[[], None] | None:
    """What a child does before exec so that it dies with us; None where the kernel cannot."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def free_ports(count: int, taken: Collection[int] = ()) -> list[int]:
    """`count` different ports on 127.0.0.1 that nobody listens on now, none of them `taken`."""
    found: list[int] = []
    # From the system's entropy, not from a run's seed: two runs at once must not collide.
    for port in random.SystemRandom().sample(PORT_RANGE, k=min(len(PORT_RANGE), 64 * count)):
        if port in taken:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise TestnetError(f"no {count} free ports between {PORT_RANGE.start} and {PORT_RANGE.stop}")
