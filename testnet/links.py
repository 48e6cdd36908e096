"""Links between nodes that can be cut and slowed: a small TCP relay per pair of nodes.

A node reaches another through the relay of the pair, which its genesis names as the other's
address (addresses stand outside the digest of the genesis).  A cut link keeps its connections and
lets nothing through, as a network does that drops packets: nobody is told, and what was sent
arrives when the link heals, unless the nodes gave the connection up meanwhile.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from testnet.errors import TestnetError

CHUNK_BYTES: Final = 64 * 1024
MAX_DELAYED_CHUNKS: Final = 1_024
"""On their way through a slow link, per direction; the sender waits beyond that."""


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
        self.open.set()
        self.back.set()
        self.port = port
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", port)

    def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
class Links:
    """All links of a testnet, keyed by (from, to), as indices of nodes."""

    links: dict[tuple[int, int], Link]

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

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Cut every link between two nodes that are not in one group.

        Nodes that no group names form one more.
        """
        group_of = {node: number for number, group in enumerate(groups) for node in group}
        for (a, b), link in self.links.items():
            for way in (link.open, link.back):
                if group_of.get(a, -1) == group_of.get(b, -1):
                    way.set()
                else:
                    way.clear()

    def one_way(self, sender: int, receiver: int) -> None:
        """Let nothing from one node reach another, on whichever's connection."""
        self.links[sender, receiver].open.clear()
        self.links[receiver, sender].back.clear()

    def slow(self, node: int, delay_s: float) -> None:
        """Delay everything from and to a node by `delay_s` a way; 0 ends it."""
        for pair, link in self.links.items():
            if node in pair:
                link.delay_s = delay_s

    def heal(self) -> None:
        """Open every link and let it be quick."""
        for link in self.links.values():
            link.open.set()
            link.back.set()
            link.delay_s = 0.0

    def close(self) -> None:
        """Drop everything."""
        for link in self.links.values():
            link.close()
