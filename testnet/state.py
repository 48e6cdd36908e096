"""What a testnet's directory says about it.

`layout.json` says what a testnet consists of; nodes that join are added to it.
`running.json` is there while a supervisor runs it.  A process is named by its id *and* the moment
it started, since ids are given again: after a crash or a reboot the file is recognised as stale.
From before the first file is written the directory itself is locked, until the process ends.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from testnet.cluster import NodeSpec
from testnet.errors import TestnetError

DEFAULT_DIRECTORY: Final = Path(".testnet")
LAYOUT_FILE: Final = "layout.json"
RUNNING_FILE: Final = "running.json"
LOG_FILE: Final = "testnet.log"
"""Where a detached supervisor writes."""
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """What a testnet consists of.  Ports are on 127.0.0.1."""

    seed: int
    chain_id: str
    """The digest of the genesis core, in hex."""
    nodes: list[dict[str, Any]]
    """`name`, `rpc_port`, `peer_port` of each, the founders first.  Those that joined where there
    are relays have a `front_port`; `left` are those that were stopped for good."""
    l1: dict[str, Any] | None
    """`kind`, `url`, `chain_id`, `contract`; None when there is no L1."""
    links: dict[str, int] | None = None
    """The port of the relay from node a to founder b, as `a-b`; None where there are no relays."""
    version: int = VERSION

    def specs(self, directory: Path) -> list[NodeSpec]:
        """Its nodes, in `directory`."""
        return [
            NodeSpec(node["name"], directory / node["name"], node["rpc_port"], node["peer_port"])
            for node in self.nodes
        ]

    @property
    def ports(self) -> set[int]:
        """All ports that are given to nodes and relays, in use or not."""
        given = {value for node in self.nodes for key, value in node.items() if "port" in key}
        return given | set((self.links or {}).values())

    @property
    def left(self) -> set[str]:
        """The names of nodes that were stopped for good."""
        return {node["name"] for node in self.nodes if node.get("left")}

    def save(self, directory: Path) -> None:
        """Write the file."""
        temporary = directory / (LAYOUT_FILE + ".new")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(directory / LAYOUT_FILE)

    @classmethod
    def load(cls, directory: Path) -> "Layout | None":
        """The layout of the testnet in `directory`; None if there is none there."""
        fields = _read(directory / LAYOUT_FILE, set(cls.__slots__))
        return None if fields is None else cls(**fields)

    @classmethod
    def require(cls, directory: Path) -> "Layout":
        """The layout of the testnet in `directory`.  TestnetError if there is none."""
        layout = cls.load(directory)
        if layout is None:
            raise TestnetError(f"{directory} holds no testnet")
        return layout

    def describe(self, directory: Path) -> list[str]:
        """Where everything is, in lines for people."""
        l1 = self.l1
        where = f"{l1['url']} ({l1['kind']}), contract {l1['contract']}" if l1 else "none"
        url = self.specs(directory)[0].rpc_url
        return [
            f"chain    {self.chain_id}",
            f"L1       {where}",
            f"clients  {url}/rollup/<chain id> for wallets, {url}/submit and seq_* for others",
            f"data     {directory}",
        ]


@dataclass(frozen=True, slots=True)
class Running:
    """Who supervises a testnet, and how to talk to it."""

    pid: int
    started: str
    control_port: int
    control_token: str
    version: int = VERSION

    @property
    def is_alive(self) -> bool:
        """Whether the supervisor still runs."""
        return process_started(self.pid) == self.started != ""

    def save(self, directory: Path) -> None:
        """Write the file, readable by its owner alone: it holds the control token."""
        temporary = directory / (RUNNING_FILE + ".new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(directory / RUNNING_FILE)

    @classmethod
    def load(cls, directory: Path) -> "Running | None":
        """What `directory` says, alive or stale; None if nothing."""
        fields = _read(directory / RUNNING_FILE, set(cls.__slots__))
        return None if fields is None else cls(**fields)

    @classmethod
    def require(cls, directory: Path) -> "Running":
        """The supervisor that runs in `directory`.  TestnetError if none does."""
        running = cls.load(directory)
        if running is None and is_starting(directory):
            raise TestnetError(f"a testnet is being started or stopped in {directory}")
        if running is None:
            raise TestnetError(
                f"no testnet runs in {directory}; start one with: testnet up{naming(directory)}"
            )
        if not running.is_alive:
            raise TestnetError(
                f"the testnet in {directory} is gone: process {running.pid} ended without "
                f"cleaning up; do that with: testnet down{naming(directory)}"
            )
        return running

    @staticmethod
    def remove(directory: Path) -> None:
        """Forget what ran in `directory`."""
        (directory / RUNNING_FILE).unlink(missing_ok=True)


def naming(directory: Path) -> str:
    """What to add to a command that is to mean the testnet in `directory`."""
    return "" if directory == DEFAULT_DIRECTORY else f" --dir {directory}"


@contextmanager
def sole_use(directory: Path) -> Iterator[int]:
    """Keep others from starting a testnet in `directory`, which is made.  TestnetError if one is.

    Yields the descriptor that holds the lock: a child that inherits it holds it on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TestnetError(f"a testnet is being started or stopped in {directory}") from None
        yield descriptor
    finally:
        os.close(descriptor)


def is_starting(directory: Path) -> bool:
    """Whether somebody has the sole use of `directory`."""
    if not directory.exists():
        return False
    try:
        with sole_use(directory):
            return False
    except TestnetError:
        return True


def _read(path: Path, names: set[str]) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TestnetError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise TestnetError(f"{path} cannot be read ({error}); delete it") from None
    if not isinstance(fields, dict) or fields.get("version") != VERSION or set(fields) != names:
        raise TestnetError(f"{path} was written by another version; delete it")
    return fields


def process_started(pid: int) -> str:
    """When a process started, in a form that is only good for comparing; "" if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # a system without /proc: the id has to do
        os.kill(pid, 0)
    except OSError:
        return ""
    return "running"
