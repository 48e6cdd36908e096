"""ping and identify: what any libp2p peer may ask of us, and what we may ask of it.

Sources: https://github.com/libp2p/specs/tree/master/ping and .../identify.
"""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from multiaddr import Multiaddr

from net.libp2p import multistream
from net.libp2p.connection import PRIORITY_OTHER, Connection
from net.libp2p.errors import PeerError, Reason
from net.libp2p.identity import Identity, listen_multiaddr
from net.libp2p.stream import Stream

PING = "/ipfs/ping/1.0.0"
IDENTIFY = "/ipfs/id/1.0.0"
PING_BYTES = 32
MAX_IDENTIFY_BYTES = 8 * 1024

_PROTOCOL_VERSION = "ipfs/0.1.0"
_AGENT_VERSION = "dsequencer/1"


@dataclass(frozen=True, slots=True)
class PeerDescription:
    """What a peer tells of itself; nothing of it is to be trusted."""

    agent: str
    protocols: tuple[str, ...]
    listen_addresses: tuple[str, ...]


async def serve_ping(connection: Connection, stream: Stream) -> None:
    """Echo 32 bytes at a time until the peer ends the stream."""
    while True:
        stream.write(await stream.read_exactly(PING_BYTES))
        await stream.drain()


async def ping(connection: Connection) -> float:
    """Round trip to the peer in seconds; PeerError if it does not echo."""
    stream = await _open(connection, PING)
    sent = os.urandom(PING_BYTES)
    start = time.perf_counter()
    stream.write(sent)
    echo = await stream.read_exactly(PING_BYTES)
    elapsed = time.perf_counter() - start
    stream.reset()
    if echo != sent:
        raise PeerError(Reason.NEGOTIATION_FAILED, "ping was answered with other bytes")
    return elapsed


class IdentifyService:
    """Tells peers our key, our addresses and the protocols we speak."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.listen_address: tuple[str, int] | None = None
        self.protocols: Collection[str] = ()

    async def serve(self, connection: Connection, stream: Stream) -> None:
        """Send the message and finish."""
        stream.write(self._message())
        await stream.drain()
        stream.finish()

    def _message(self) -> bytes:
        """The message with its length in front, a varint."""
        from libp2p.crypto.ed25519 import Ed25519PublicKey
        from libp2p.identity.identify.pb.identify_pb2 import Identify
        from libp2p.utils import encode_varint_prefixed

        message = Identify(
            protocol_version=_PROTOCOL_VERSION,
            agent_version=_AGENT_VERSION,
            public_key=Ed25519PublicKey.from_bytes(self._identity.public_key).serialize(),
            protocols=list(self.protocols),
        )
        if self.listen_address is not None:
            address = Multiaddr(listen_multiaddr(*self.listen_address))
            message.listen_addrs.append(address.to_bytes())
        return encode_varint_prefixed(message.SerializeToString())


async def identify(connection: Connection) -> PeerDescription:
    """What the peer tells of itself; PeerError if it is malformed."""
    from google.protobuf.message import DecodeError
    from libp2p.identity.identify.identify import parse_identify_response

    stream = await _open(connection, IDENTIFY)
    encoded = await stream.read_to_end(MAX_IDENTIFY_BYTES)
    stream.finish()
    try:
        message = parse_identify_response(encoded)
        addresses = tuple(str(Multiaddr(address)) for address in message.listen_addrs)
    except (DecodeError, ValueError) as error:
        raise PeerError(Reason.NEGOTIATION_FAILED, f"identify: {error}"[:200]) from None
    return PeerDescription(message.agent_version, tuple(message.protocols), addresses)


async def _open(connection: Connection, protocol: str) -> Stream:
    stream = connection.open_stream(PRIORITY_OTHER)
    if not await multistream.propose(stream, protocol):
        stream.reset()
        raise PeerError(Reason.NEGOTIATION_FAILED, f"the peer does not speak {protocol}")
    return stream
