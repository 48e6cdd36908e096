"""Links between nodes that can be cut and slowed: a small TCP relay per pair of nodes.

A node reaches another through the relay of the pair, which its genesis names as the other's
address (addresses stand outside the digest of the genesis).  A cut link keeps its connections and
lets nothing through, as a network does that drops packets: nobody is told, and what was sent
arrives when the link heals, unless the nodes gave the connection up meanwhile.

A node that joins later has one address for everybody, that of the registry.  There a `Front` tells
callers apart by the process that a connection comes from.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testnet.errors import TestnetError

CHUNK_BYTES: Final = 64 * 1024
MAX_DELAYED_CHUNKS: Final = 1_024
"""On their way through a slow link, per direction; the sender waits beyond that."""
STRANGER: Final = -1
"""Who calls at a front and is no node of this testnet; it belongs to no group."""


@dataclass(slots=True)
class Link:
    """The relay from one node to another.  `delay_s` is one way.

    `open` lets through what the connecting node says, `back` what it is answered.
    """

    target_port: int
    open: asyncio.Event = field(default_factory=asyncio.Event)
    back: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0
    port: int = 0
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, port: int) -> None:
        """Listen on a port of the loopback interface."""
        self.heal()
        self.port = port
        self._server = await asyncio.start_server(self.relay, "127.0.0.1", port)

    def heal(self) -> None:
        """Let everything through, quickly."""
        self.open.set()
        self.back.set()
        self.delay_s = 0.0

    def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection until one side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        onward = None
        try:
            await self.open.wait()  # nothing of a connection passes a cut link
            await self.back.wait()
            far_reader, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, onward, self.open))
                group.create_task(self._pump(far_reader, writer, self.back))
        except* (OSError, asyncio.CancelledError):
            pass  # one side left: so does the other
        finally:
            self._connections.discard(task)
            for side in (writer, onward):
                if side is not None:
                    side.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event
    ) -> None:
        """Carry bytes one way, each chunk after the delay, while that way is open."""
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_DELAYED_CHUNKS)

        async def take() -> None:
            while data := await reader.read(CHUNK_BYTES):
                await chunks.put((loop.time() + self.delay_s, data))
            await chunks.put((0.0, b""))

        async with asyncio.TaskGroup() as group:
            taking = group.create_task(take())
            while True:
                due, data = await chunks.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await way.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            taking.cancel()
        writer.write_eof()


@dataclass(slots=True)
class Front:
    """The one address of a node that joined: each caller gets the link between the two."""

    link_from: Callable[[int], Link]
    pids: Callable[[], Mapping[int, int]]
    """The processes of the nodes: process id to index."""
    _server: asyncio.Server | None = None

    async def start(self, port: int) -> None:
        """Listen on a port of the loopback interface."""
        self._server = await asyncio.start_server(self._admit, "127.0.0.1", port)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pids = self.pids()
        pid = owner_of(writer.get_extra_info("peername")[1], list(pids))
        await self.link_from(STRANGER if pid is None else pids[pid]).relay(reader, writer)


def owner_of(port: int, pids: Sequence[int]) -> int | None:
    """Which of these processes has the connection from a port of 127.0.0.1; None if none has.

    Only Linux tells (`/proc`).
    """
    here = f"0100007F:{port:04X}"
    with suppress(OSError):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == here and fields[9] != "0":
                return _holder_of(f"socket:[{fields[9]}]", pids)
    return None


def _holder_of(socket: str, pids: Sequence[int]) -> int | None:
    for pid in pids:
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == socket:
                        return pid
    return None


@dataclass(slots=True)
class Links:
    """All links of a testnet, keyed by (from, to), as indices of nodes."""

    links: dict[tuple[int, int], Link]
    _fronts: dict[int, tuple[Front, int]] = field(default_factory=dict)
    """Of each node that joined, with the port where it listens itself."""
    groups: list[list[int]] = field(default_factory=list)
    """What `partition` was told; empty while no link is cut."""
    slowed: dict[int, float] = field(default_factory=dict)
    """The delay of each node that is slow, in seconds."""

    @classmethod
    def between(cls, ports: Sequence[int]) -> "Links":
        """Links between nodes that listen for their peers on these ports; none started."""
        pairs = [(a, b) for a in range(len(ports)) for b in range(len(ports)) if a != b]
        return cls({(a, b): Link(ports[b]) for a, b in pairs})

    async def start(self, ports: dict[tuple[int, int], int]) -> None:
        """Start every link on its port."""
        for pair, link in self.links.items():
            try:
                await link.start(ports[pair])
            except OSError as error:
                raise TestnetError(f"port {ports[pair]} is in use: {error}") from None

    async def join(
        self,
        node: int,
        peer_port: int,
        front_port: int,
        ways: Mapping[int, tuple[int, int]],
        pids: Callable[[], Mapping[int, int]],
    ) -> None:
        """Link a node that joins, or has joined: it is called at `front_port`, and calls each
        founder at the first port of its way, which leads to the second."""

        def link_from(caller: int) -> Link:
            return self._between(caller, node, peer_port)

        front = Front(link_from, pids)
        self._fronts[node] = front, peer_port
        for other in range(node):
            link_from(other)
        for other, (_, port) in self._fronts.items():
            self._between(node, other, port)
        try:
            await front.start(front_port)
            for founder, (port, target) in ways.items():
                await self._between(node, founder, target).start(port)
        except OSError as error:
            raise TestnetError(f"a port of node {node} is in use: {error}") from None

    def _between(self, caller: int, node: int, port: int) -> Link:
        """The link between two nodes, one of which joined."""
        if (caller, node) not in self.links:
            self.links[caller, node] = link = Link(port)
            link.heal()
        return self.links[caller, node]

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Cut every link between two nodes that are not in one group.

        Nodes that no group names form one more.
        """
        self.groups = [list(group) for group in groups]
        group_of = {node: number for number, group in enumerate(groups) for node in group}
        for (a, b), link in self.links.items():
            for way in (link.open, link.back):
                if group_of.get(a, -1) == group_of.get(b, -1):
                    way.set()
                else:
                    way.clear()

    def one_way(self, sender: int, receiver: int) -> None:
        """Let nothing from one node reach another, on whichever's connection."""
        for (caller, node), link in self.links.items():
            if (caller, node) == (sender, receiver):
                link.open.clear()
            elif (caller, node) == (receiver, sender):
                link.back.clear()

    def slow(self, node: int, delay_s: float) -> None:
        """Delay everything from and to a node by `delay_s` a way; 0 ends it."""
        self.slowed = {**self.slowed, node: delay_s}
        for pair, link in self.links.items():
            if node in pair:
                link.delay_s = delay_s

    def heal(self) -> None:
        """Open every link and let it be quick."""
        self.groups, self.slowed = [], {}
        for link in self.links.values():
            link.heal()

    def close(self) -> None:
        """Drop everything."""
        for front, _ in self._fronts.values():
            front.close()
        for link in self.links.values():
            link.close()
