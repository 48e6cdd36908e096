"""From a fresh socket to an authenticated, encrypted, multiplexed connection.

multistream selects Noise, Noise proves who is there, multistream inside it selects yamux. Only
Noise is offered, and whoever is not admitted is turned away before a muxer exists.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from net.libp2p import multistream
from net.libp2p.errors import PeerError, Reason, StreamEnded
from net.libp2p.noise import LENGTH_BYTES, NOISE, Noise, SecureChannel
from net.libp2p.yamux import YAMUX
from net.transport import PeerId

MAX_BUFFERED_BYTES = 256 * 1024


class RawStream(asyncio.Protocol):
    """A socket during the handshake: bounded, read by `read_exactly`."""

    def __init__(self, on_connected: Callable[["RawStream"], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.remote = "?"
        """The address at the other end, for logs."""
        self.was_connected = False
        self._on_connected = on_connected
        self._buffer = bytearray()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes; StreamEnded or the PeerError of `fail` if they never come."""
        while len(self._buffer) < count:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def write(self, data: bytes) -> None:
        """Send `data`; a handshake never has more than a few records on the way."""
        assert self.transport is not None
        self.transport.write(data)

    def fail(self, error: Exception) -> None:
        """End the handshake: whoever reads gets `error`; the socket is closed unless released."""
        self._error = self._error or error
        if self.transport is not None:
            self.transport.abort()
        self._wake()

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the socket, and what arrived after the handshake; StreamEnded if it is lost."""
        if self._error is not None:
            raise self._error
        transport, self.transport = self.transport, None
        assert transport is not None
        return transport, bytes(self._buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is connected."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.was_connected = True
        self.remote = str(transport.get_extra_info("peername"))
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes arrived."""
        self._buffer += data
        if len(self._buffer) > MAX_BUFFERED_BYTES:
            self.fail(PeerError(Reason.HANDSHAKE_OVERFLOW))
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is gone."""
        self._error = self._error or StreamEnded("connection lost during the handshake")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A socket whose other end is known, and what arrived beyond the handshake."""

    transport: asyncio.Transport
    channel: SecureChannel
    sealed: bytes
    plain: bytes


async def upgrade_outbound(raw: RawStream, noise: Noise, peer: PeerId) -> Upgraded:
    """Shake hands with `peer`, which we dialled; PeerError or StreamEnded if it fails."""
    secured = _SecuredStream(raw, await secure_outbound(raw, noise, peer))
    if not await multistream.propose(secured, YAMUX):
        raise PeerError(Reason.HANDSHAKE_FAILED, "the other end does not speak yamux")
    return secured.upgraded()


async def secure_outbound(raw: RawStream, noise: Noise, peer: PeerId) -> SecureChannel:
    """The first half of that: `peer` has proved to be there."""
    if not await multistream.propose(raw, NOISE):
        raise PeerError(Reason.HANDSHAKE_FAILED, "the other end does not speak noise")
    return await noise.initiate(raw, peer)


async def upgrade_inbound(
    raw: RawStream, noise: Noise, admit: Callable[[SecureChannel], None]
) -> Upgraded:
    """Shake hands with whoever dialled; PeerError if it breaks a rule, or that of `admit`."""
    await multistream.accept(raw, (NOISE,))
    channel = await noise.respond(raw)
    admit(channel)
    secured = _SecuredStream(raw, channel)
    await multistream.accept(secured, (YAMUX,))
    return secured.upgraded()


class _SecuredStream:
    """The encrypted channel as a byte stream, for the one negotiation inside it."""

    def __init__(self, raw: RawStream, channel: SecureChannel) -> None:
        self._raw = raw
        self._channel = channel
        self._plain = bytearray()

    async def read_exactly(self, count: int) -> bytes:
        while len(self._plain) < count:
            length = await self._raw.read_exactly(LENGTH_BYTES)
            sealed = await self._raw.read_exactly(int.from_bytes(length, "big"))
            plaintexts, _ = self._channel.decoder.decode(memoryview(length + sealed))
            self._plain += b"".join(plaintexts)
        data = bytes(self._plain[:count])
        del self._plain[:count]
        return data

    def write(self, data: bytes) -> None:
        self._raw.write(b"".join(self._channel.encoder.encode(data)))

    def upgraded(self) -> Upgraded:
        transport, sealed = self._raw.release()
        return Upgraded(transport, self._channel, sealed, bytes(self._plain))
