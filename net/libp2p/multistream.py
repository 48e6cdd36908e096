"""multistream-select 1.0.0: both ends of a stream agree on the protocol it speaks.

Source: https://github.com/multiformats/multistream-select. A message is a varint length, the
text and a newline. Both ends open with `/multistream/1.0.0`; the dialler then proposes one
protocol at a time, which the listener echoes, or answers with `na`.
"""

from collections.abc import Collection
from typing import Protocol

from net.libp2p.errors import PeerError, Reason

MULTISTREAM = "/multistream/1.0.0"
NOT_AVAILABLE = "na"
MAX_MESSAGE_BYTES = 1_024
MAX_PROPOSALS = 16

_MAX_VARINT_BYTES = 2  # enough for MAX_MESSAGE_BYTES


class ByteStream(Protocol):
    """What negotiation needs of a socket, an encrypted channel or a yamux stream."""

    async def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes; StreamEnded if they never come."""
        ...

    def write(self, data: bytes) -> None:
        """Queue `data`."""
        ...


def encode(text: str) -> bytes:
    """One message: varint length, text, newline."""
    body = text.encode() + b"\n"
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a multistream message of {len(body)} bytes is too long")
    if len(body) < 0x80:
        return bytes((len(body),)) + body
    return bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body


async def read_message(stream: ByteStream) -> str:
    """One message without its newline; PeerError if it is malformed or too long."""
    length = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = (await stream.read_exactly(1))[0]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    if not 1 <= length <= MAX_MESSAGE_BYTES or byte >= 0x80:
        raise _failed(f"message of {length} bytes")
    body = await stream.read_exactly(length)
    if not body.endswith(b"\n"):
        raise _failed("message without newline")
    return body[:-1].decode("utf-8", "replace")


async def propose(stream: ByteStream, protocol: str) -> bool:
    """As dialler, ask for `protocol`: whether the other end speaks it; PeerError on nonsense.

    Greeting and proposal go out at once, which saves a round trip.
    """
    stream.write(encode(MULTISTREAM) + encode(protocol))
    await _read_greeting(stream)
    answer = await read_message(stream)
    if answer not in (protocol, NOT_AVAILABLE):
        raise _failed(f"answered {answer[:64]!r} to {protocol}")
    return answer == protocol


async def accept(stream: ByteStream, protocols: Collection[str]) -> str:
    """As listener, the first proposal that is among `protocols`; PeerError if none comes."""
    stream.write(encode(MULTISTREAM))
    await _read_greeting(stream)
    for _ in range(MAX_PROPOSALS):
        proposal = await read_message(stream)
        if proposal in protocols:
            stream.write(encode(proposal))
            return proposal
        stream.write(encode(NOT_AVAILABLE))
    raise _failed(f"no common protocol in {MAX_PROPOSALS} proposals")


async def _read_greeting(stream: ByteStream) -> None:
    greeting = await read_message(stream)
    if greeting != MULTISTREAM:
        raise _failed(f"greeted with {greeting[:64]!r}")


def _failed(text: str) -> PeerError:
    return PeerError(Reason.NEGOTIATION_FAILED, f"multistream: {text}")
