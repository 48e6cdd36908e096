"""What members say to each other about rounds, and its canonical bytes.

One byte of kind, then the fields. `decode` is the only door: it returns a message or raises
`InvalidMessage`, never anything else. Signatures are checked later, by those who count them.
"""

from dataclasses import dataclass
from typing import ClassVar

from consensus.codec import (
    IDENTITY_SIGNATURE_BYTES,
    SIGNATURE_BYTES,
    Domain,
    Reader,
    counted,
    decode_whole,
    optional,
    sequence,
    signing_bytes,
    u8,
    u32,
    u64,
)
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
)

MAX_BLOCKS_PER_REPLY = 256
"""Headers in one answer to a `BlockRequest` or `SyncRequest`."""
MAX_CHANGES_PER_REPLY = 8
"""Epochs whose end one `EpochReply` tells."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A leader's block, signed with its identity key (Ed25519)."""

    kind: ClassVar[int] = 1
    block: Block
    signature: bytes

    @staticmethod
    def signed_bytes(chain_id: bytes, block: Block) -> bytes:
        """What the leader signs: the block's id."""
        return signing_bytes(Domain.PROPOSAL, chain_id, block.epoch, block.id)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + self.block.encode() + counted(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "Proposal":
        """Inverse of `encode` after the kind byte."""
        return cls(Block.read(reader), reader.counted(IDENTITY_SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's BLS signature on (round, block id)."""

    kind: ClassVar[int] = 2
    epoch: int
    round: int
    block_id: bytes
    voter: int
    signature: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u8(self.kind)
            + u64(self.epoch)
            + u64(self.round)
            + self.block_id
            + u32(self.voter)
            + counted(self.signature)
        )

    @classmethod
    def read(cls, reader: Reader) -> "Vote":
        """Inverse of `encode` after the kind byte."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.hash(),
            reader.u32(),
            reader.counted(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class CommitVote:
    """A member's BLS signature on a certified block it has locked."""

    kind: ClassVar[int] = 3
    epoch: int
    round: int
    height: int
    block_id: bytes
    next_committee: bytes
    voter: int
    signature: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u8(self.kind)
            + u64(self.epoch)
            + u64(self.round)
            + u64(self.height)
            + self.block_id
            + self.next_committee
            + u32(self.voter)
            + counted(self.signature)
        )

    @classmethod
    def read(cls, reader: Reader) -> "CommitVote":
        """Inverse of `encode` after the kind byte."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.u64(),
            reader.hash(),
            reader.hash(),
            reader.u32(),
            reader.counted(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Certificates:
    """The newest certificates of the sender (E5): an answer to somebody in an older round."""

    kind: ClassVar[int] = 5
    high_qc: QuorumCertificate
    high_tc: TimeoutCertificate | None
    commit: CommitCertificate | None

    def fields(self) -> bytes:
        """Canonical bytes without the kind."""
        return (
            self.high_qc.encode()
            + optional(self.high_tc.encode() if self.high_tc else None)
            + optional(self.commit.encode() if self.commit else None)
        )

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + self.fields()

    @classmethod
    def read(cls, reader: Reader) -> "Certificates":
        """Inverse of `encode` after the kind byte."""
        return cls(
            QuorumCertificate.read(reader),
            reader.optional(TimeoutCertificate.read),
            reader.optional(CommitCertificate.read),
        )


@dataclass(frozen=True, slots=True)
class Timeout:
    """A member gives up on a round; signs the round of its high QC, the certificates ride along."""

    kind: ClassVar[int] = 4
    epoch: int
    round: int
    high_qc_round: int
    voter: int
    signature: bytes
    certificates: Certificates

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u8(self.kind)
            + u64(self.epoch)
            + u64(self.round)
            + u64(self.high_qc_round)
            + u32(self.voter)
            + counted(self.signature)
            + self.certificates.fields()
        )

    @classmethod
    def read(cls, reader: Reader) -> "Timeout":
        """Inverse of `encode` after the kind byte."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.u64(),
            reader.u32(),
            reader.counted(SIGNATURE_BYTES),
            Certificates.read(reader),
        )


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """Send me this block and its ancestors, newest first, down to above `known_height`."""

    kind: ClassVar[int] = 6
    block_id: bytes
    known_height: int

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + self.block_id + u64(self.known_height)

    @classmethod
    def read(cls, reader: Reader) -> "BlockRequest":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.hash(), reader.u64())


@dataclass(frozen=True, slots=True)
class BlockReply:
    """An answer to `BlockRequest`: blocks newest first, each the parent of the one before."""

    kind: ClassVar[int] = 7
    blocks: tuple[Block, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + sequence([block.encode() for block in self.blocks])

    @classmethod
    def read(cls, reader: Reader) -> "BlockReply":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.sequence(Block.read, MAX_BLOCKS_PER_REPLY))


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Send me committed blocks from this height upwards, with a proof for the last of them."""

    kind: ClassVar[int] = 8
    from_height: int

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + u64(self.from_height)

    @classmethod
    def read(cls, reader: Reader) -> "SyncRequest":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.u64())


@dataclass(frozen=True, slots=True)
class SyncReply:
    """Committed blocks, ascending; `proof` is of the last one. Empty when there is nothing newer.

    `head` is the height of the sender's committed head.
    """

    kind: ClassVar[int] = 9
    head: int
    blocks: tuple[Block, ...]
    proof: CommitProof | None

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u8(self.kind)
            + u64(self.head)
            + sequence([block.encode() for block in self.blocks])
            + optional(self.proof.encode() if self.proof else None)
        )

    @classmethod
    def read(cls, reader: Reader) -> "SyncReply":
        """Inverse of `encode` after the kind byte."""
        return cls(
            reader.u64(),
            reader.sequence(Block.read, MAX_BLOCKS_PER_REPLY),
            reader.optional(CommitProof.read),
        )


@dataclass(frozen=True, slots=True)
class EpochRequest:
    """Send me how this epoch ended, and those after it."""

    kind: ClassVar[int] = 10
    epoch: int

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + u64(self.epoch)

    @classmethod
    def read(cls, reader: Reader) -> "EpochRequest":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.u64())


@dataclass(frozen=True, slots=True)
class EpochReply:
    """How epochs in a row ended, oldest first (Ep4)."""

    kind: ClassVar[int] = 11
    changes: tuple[EpochChange, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return u8(self.kind) + sequence([change.encode() for change in self.changes])

    @classmethod
    def read(cls, reader: Reader) -> "EpochReply":
        """Inverse of `encode` after the kind byte."""
        return cls(reader.sequence(EpochChange.read, MAX_CHANGES_PER_REPLY))


Message = (
    Proposal
    | Vote
    | CommitVote
    | Timeout
    | Certificates
    | BlockRequest
    | BlockReply
    | SyncRequest
    | SyncReply
    | EpochRequest
    | EpochReply
)

_KINDS: tuple[type[Message], ...] = (
    Proposal,
    Vote,
    CommitVote,
    Timeout,
    Certificates,
    BlockRequest,
    BlockReply,
    SyncRequest,
    SyncReply,
    EpochRequest,
    EpochReply,
)
_BY_KIND: dict[int, type[Message]] = {message.kind: message for message in _KINDS}
MAX_KIND = max(_BY_KIND)
"""Kinds up to here are the core's; a node numbers its own messages above."""


def epoch_of(message: Message) -> int | None:
    """The epoch that a message belongs to; None for requests and their answers."""
    match message:
        case Proposal():
            return message.block.epoch
        case Certificates():
            return message.high_qc.epoch
        case Vote() | CommitVote() | Timeout():
            return message.epoch
        case _:
            return None


def read_message(reader: Reader) -> Message:
    """One message with its kind byte."""
    kind = reader.u8()
    found = _BY_KIND.get(kind)
    if found is None:
        raise InvalidMessage(f"unknown message kind {kind}")
    return found.read(reader)


def decode(data: bytes) -> Message:
    """The message that fills `data` exactly; `InvalidMessage` on anything else."""
    return decode_whole(data, read_message)
