"""What nodes say to each other beyond the protocol's own messages: collections and batches.

The first byte of every frame is its kind. Kinds up to `consensus.messages.MAX_KIND` are the core's;
those here start at 32. `decode_frame` returns a message of either sort or raises `InvalidMessage`.
"""

from dataclasses import dataclass
from typing import ClassVar

from consensus import messages as core
from consensus.codec import (
    SIGNATURE_BYTES,
    Reader,
    counted,
    decode_whole,
    sequence,
    u8,
    u32,
    u64,
)
from consensus.errors import InvalidMessage
from consensus.types import MAX_BITMAP_BYTES
from net.transport import MAX_FRAME_BYTES, Channel

MAX_DIGESTS = 256
"""Digests in one request or offer."""
MAX_HEADER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class CollectionData:
    """An encoded collection, from its author or on request."""

    kind: ClassVar[int] = 32
    data: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + self.data

    @classmethod
    def read(cls, reader: Reader) -> "CollectionData":
        """Inverse of `encode` after the kind byte: the rest of the frame."""
        return cls(reader.rest(MAX_FRAME_BYTES))


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """Send me these collections."""

    kind: ClassVar[int] = 33
    digests: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + sequence(list(self.digests))

    @classmethod
    def read(cls, reader: Reader) -> "CollectionRequest":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.sequence(Reader.hash, MAX_DIGESTS))


@dataclass(frozen=True, slots=True)
class CollectionOffer:
    """I hold these, and nobody has ordered them (T4)."""

    kind: ClassVar[int] = 34
    digests: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + sequence(list(self.digests))

    @classmethod
    def read(cls, reader: Reader) -> "CollectionOffer":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.sequence(Reader.hash, MAX_DIGESTS))


@dataclass(frozen=True, slots=True)
class BatchVote:
    """A member's BLS signature on the header of a batch; the header is known by its SHA-256.

    `voter` is the member's index in the committee of `epoch`, the header's.
    """

    kind: ClassVar[int] = 35
    number: int
    epoch: int
    header_hash: bytes
    voter: int
    signature: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u8(self.kind)
            + u64(self.number)
            + u64(self.epoch)
            + self.header_hash
            + u32(self.voter)
            + counted(self.signature)
        )

    @classmethod
    def read(cls, reader: Reader) -> "BatchVote":
        """Inverse of `encode` after the kind byte."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.hash(),
            reader.u32(),
            reader.counted(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class BatchCertificate:
    """A quorum signed the header of a batch: what the L1 contract verifies."""

    kind: ClassVar[int] = 36
    number: int
    header: bytes
    signers: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u8(self.kind)
            + u64(self.number)
            + counted(self.header)
            + counted(self.signers)
            + counted(self.signature)
        )

    @classmethod
    def read(cls, reader: Reader) -> "BatchCertificate":
        """Inverse of `encode` after the kind byte."""
        return cls(
            reader.u64(),
            reader.counted(MAX_HEADER_BYTES),
            reader.counted(MAX_BITMAP_BYTES),
            reader.counted(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Send me the certificate of this batch: from those who cannot vote on it."""

    kind: ClassVar[int] = 38
    number: int

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + u64(self.number)

    @classmethod
    def read(cls, reader: Reader) -> "BatchRequest":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.u64())


NodeMessage = (
    CollectionData
    | CollectionRequest
    | CollectionOffer
    | BatchVote
    | BatchCertificate
    | BatchRequest
)

GUESTS_MAY_SAY = (
    core.SyncRequest,
    core.SyncReply,
    core.BlockRequest,
    core.BlockReply,
    core.EpochRequest,
    core.EpochReply,
    CollectionData,
    CollectionRequest,
    CollectionOffer,
    BatchVote,
    BatchRequest,
    BatchCertificate,
)
"""What is heard of peers outside the committee: questions, answers, and offers within a quota."""

_BY_KIND: dict[int, type[NodeMessage]] = {
    message.kind: message
    for message in (
        CollectionData,
        CollectionRequest,
        CollectionOffer,
        BatchVote,
        BatchCertificate,
        BatchRequest,
    )
}
assert min(_BY_KIND) > core.MAX_KIND

_BULK = (CollectionData, core.BlockReply, core.SyncReply)


def channel_of(message: NodeMessage | core.Message) -> Channel:
    """Large answers go beside the votes, not in front of them."""
    return Channel.BULK if isinstance(message, _BULK) else Channel.CONTROL


def decode_frame(frame: bytes) -> NodeMessage | core.Message:
    """The message in a frame; `InvalidMessage` on anything else."""
    if not frame:
        raise InvalidMessage("empty frame")
    found = _BY_KIND.get(frame[0])
    if found is None:
        return core.decode(frame)
    reader_type = found

    def read(reader: Reader) -> NodeMessage:
        reader.u8()
        return reader_type.read(reader)

    return decode_whole(frame, read)
