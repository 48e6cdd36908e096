"""A peer that speaks the first protocols properly and then whatever a test wants."""

import asyncio
from contextlib import suppress

from net.libp2p import multistream
from net.libp2p.identity import Identity
from net.libp2p.mesh import Mesh
from net.libp2p.noise import NOISE, Noise, SecureChannel
from net.libp2p.yamux import YAMUX


class Intruder:
    """A socket to a mesh, with the handshakes as methods to be called or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.channel: SecureChannel | None = None
        self.heard = b""
        """What the mesh has said inside the encrypted channel."""

    @classmethod
    async def connect(cls, mesh: Mesh) -> "Intruder":
        """A connected socket that has said nothing yet."""
        return cls(*await asyncio.open_connection(*mesh.listen_address))

    @classmethod
    async def authenticated(cls, mesh: Mesh, identity: Identity) -> "Intruder":
        """A peer that has shown its key; no muxer yet."""
        intruder = await cls.connect(mesh)
        assert await multistream.propose(intruder, NOISE)
        intruder.channel = await Noise(identity).initiate(intruder, mesh.local_peer)
        return intruder

    @classmethod
    async def admitted(cls, mesh: Mesh, identity: Identity) -> "Intruder":
        """A peer with a multiplexed connection, to say yamux frames by `say`."""
        intruder = await cls.authenticated(mesh, identity)
        intruder.say(multistream.encode(multistream.MULTISTREAM) + multistream.encode(YAMUX))
        return intruder

    async def read_exactly(self, count: int) -> bytes:
        return await self.reader.readexactly(count)

    def write(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)

    def say(self, plaintext: bytes) -> None:
        """Send bytes inside the encrypted channel."""
        assert self.channel is not None
        self.writer.write(b"".join(self.channel.encoder.encode(plaintext)))

    async def listen_for(self, expected: bytes) -> None:
        """Read records until `expected` has been heard."""
        assert self.channel is not None
        async with asyncio.timeout(5):
            while expected not in self.heard:
                length = await self.reader.readexactly(2)
                sealed = await self.reader.readexactly(int.from_bytes(length, "big"))
                self.heard += self.channel.decoder.decode(memoryview(length + sealed))[0][0]

    async def read_until_closed(self) -> bytes:
        """Everything until the mesh hangs up, which it has to do."""
        received = b""
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                while part := await self.reader.read(65_536):
                    received += part
        return received

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()
