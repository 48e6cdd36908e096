"""Blocks, certificates and the safety record: the values the protocol is about.

All are immutable; `encode` gives the canonical bytes and `read` takes them from a `Reader`.
Sizes: hashes and ids 32 bytes, BLS signatures 96 (G2, compressed), identity signatures 64.
Signers stand in a bitmap: member i is bit `i % 8` of byte `i // 8`.
"""

import itertools
from dataclasses import dataclass, field

from consensus.codec import (
    HASH_BYTES,
    SIGNATURE_BYTES,
    ZERO_HASH,
    Domain,
    Reader,
    counted,
    decode_whole,
    hash_bytes,
    optional,
    sequence,
    signing_bytes,
    u32,
    u64,
)
from consensus.errors import InvalidMessage

MAX_MEMBERS = 128
"""As many as the contract takes."""
MAX_BLOCK_COLLECTIONS = 1024
MAX_BITMAP_BYTES = MAX_MEMBERS // 8
MAX_ATTESTATION_BYTES = 256


def bitmap_of(members: list[int], size: int) -> bytes:
    """The bitmap of these member indices in a committee of `size`."""
    bits = bytearray((size + 7) // 8)
    for index in members:
        bits[index // 8] |= 1 << (index % 8)
    return bytes(bits)


def members_of(bitmap: bytes) -> list[int]:
    """The member indices whose bit is set, ascending."""
    return [
        byte * 8 + bit for byte, value in enumerate(bitmap) for bit in range(8) if value >> bit & 1
    ]


@dataclass(frozen=True, slots=True)
class QuorumCertificate:
    """A quorum voted for one block in one round."""

    epoch: int
    round: int
    block_id: bytes
    signers: bytes
    signature: bytes

    @staticmethod
    def signed_bytes(chain_id: bytes, epoch: int, round: int, block_id: bytes) -> bytes:
        """What each vote in the certificate signs."""
        return signing_bytes(Domain.VOTE, chain_id, epoch, u64(round) + block_id)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u64(self.epoch)
            + u64(self.round)
            + self.block_id
            + counted(self.signers)
            + counted(self.signature)
        )

    @classmethod
    def read(cls, reader: Reader) -> "QuorumCertificate":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.hash(),
            reader.counted(MAX_BITMAP_BYTES),
            reader.counted(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class CommitCertificate:
    """A quorum commit-voted a block: it and all its ancestors are final.

    `next_committee` is the digest of the next epoch's committee at the end of an epoch, else zero.
    """

    epoch: int
    round: int
    height: int
    block_id: bytes
    next_committee: bytes
    signers: bytes
    signature: bytes

    @staticmethod
    def signed_bytes(
        chain_id: bytes, epoch: int, round: int, height: int, block_id: bytes, next_committee: bytes
    ) -> bytes:
        """What each commit vote signs: a fixed layout of 136 bytes that the L1 can rebuild."""
        fields = u64(round) + u64(height) + block_id + next_committee
        return signing_bytes(Domain.COMMIT_VOTE, chain_id, epoch, fields)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u64(self.epoch)
            + u64(self.round)
            + u64(self.height)
            + self.block_id
            + self.next_committee
            + counted(self.signers)
            + counted(self.signature)
        )

    @classmethod
    def read(cls, reader: Reader) -> "CommitCertificate":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.u64(),
            reader.hash(),
            reader.hash(),
            reader.counted(MAX_BITMAP_BYTES),
            reader.counted(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class TimeoutCertificate:
    """A quorum gave up on a round; carries the highest QC any of its signers named.

    `high_qc_rounds` lists (member index, round of its high QC), ascending by index.
    """

    epoch: int
    round: int
    high_qc_rounds: tuple[tuple[int, int], ...]
    signature: bytes
    high_qc: QuorumCertificate

    @staticmethod
    def signed_bytes(chain_id: bytes, epoch: int, round: int, high_qc_round: int) -> bytes:
        """What one timeout signs."""
        return signing_bytes(Domain.TIMEOUT, chain_id, epoch, u64(round) + u64(high_qc_round))

    @property
    def high_qc_round(self) -> int:
        """The highest QC round that a signer named."""
        return max(named for _, named in self.high_qc_rounds)

    def encode(self) -> bytes:
        """Canonical bytes."""
        named = [u32(index) + u64(round) for index, round in self.high_qc_rounds]
        return (
            u64(self.epoch)
            + u64(self.round)
            + sequence(named)
            + counted(self.signature)
            + self.high_qc.encode()
        )

    @classmethod
    def read(cls, reader: Reader) -> "TimeoutCertificate":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        epoch, round = reader.u64(), reader.u64()
        named = reader.sequence(lambda item: (item.u32(), item.u64()), MAX_MEMBERS)
        if not named or any(a[0] >= b[0] for a, b in itertools.pairwise(named)):
            raise InvalidMessage("timeout certificate: signers are not ascending")
        return cls(
            epoch,
            round,
            named,
            reader.counted(SIGNATURE_BYTES),
            QuorumCertificate.read(reader),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """One round's proposal: an ordered list of collection digests behind a certified parent.

    `timestamp_ms` is Unix time. `attestation` is empty but where a member attests a committee.
    `id` covers every field, certificates included.
    """

    epoch: int
    round: int
    height: int
    parent_id: bytes
    qc: QuorumCertificate
    tc: TimeoutCertificate | None
    collections: tuple[bytes, ...]
    attestation: bytes
    timestamp_ms: int
    author: int
    id: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hash_bytes(Domain.BLOCK_ID, self.encode()))

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u64(self.epoch)
            + u64(self.round)
            + u64(self.height)
            + self.parent_id
            + self.qc.encode()
            + optional(self.tc.encode() if self.tc else None)
            + sequence(list(self.collections))
            + counted(self.attestation)
            + u64(self.timestamp_ms)
            + u32(self.author)
        )

    @classmethod
    def read(cls, reader: Reader) -> "Block":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        return cls(
            reader.u64(),
            reader.u64(),
            reader.u64(),
            reader.hash(),
            QuorumCertificate.read(reader),
            reader.optional(TimeoutCertificate.read),
            reader.sequence(Reader.hash, MAX_BLOCK_COLLECTIONS),
            reader.counted(MAX_ATTESTATION_BYTES),
            reader.u64(),
            reader.u32(),
        )

    @classmethod
    def decode(cls, data: bytes) -> "Block":
        """One block that fills `data` exactly."""
        return decode_whole(data, cls.read)


def genesis_block(chain_id: bytes) -> Block:
    """Height 0, round 0: the ancestor of everything, agreed on by its chain id alone."""
    no_qc = QuorumCertificate(0, 0, ZERO_HASH, b"", b"")
    assert len(chain_id) == HASH_BYTES
    return Block(0, 0, 0, chain_id, no_qc, None, (), b"", 0, 0)


def genesis_qc(chain_id: bytes) -> QuorumCertificate:
    """The certificate of the genesis block: no signature, recognised by equality."""
    return QuorumCertificate(0, 0, genesis_block(chain_id).id, b"", b"")


@dataclass(frozen=True, slots=True)
class CommitProof:
    """Why a block is final: a commit certificate (C1), or a child with a QC one round up (C2)."""

    certificate: CommitCertificate | None
    child: Block | None
    child_qc: QuorumCertificate | None

    def __post_init__(self) -> None:
        two_chain = self.child is not None and self.child_qc is not None
        if (self.certificate is not None) == two_chain:
            raise InvalidMessage("a commit proof is a certificate or a certified child, one of two")

    @property
    def block_id(self) -> bytes:
        """The block that is proved final."""
        if self.certificate is not None:
            return self.certificate.block_id
        assert self.child is not None
        return self.child.parent_id

    def encode(self) -> bytes:
        """Canonical bytes."""
        if self.certificate is not None:
            return b"\0" + self.certificate.encode()
        assert self.child is not None
        assert self.child_qc is not None
        return b"\1" + self.child.encode() + self.child_qc.encode()

    @classmethod
    def read(cls, reader: Reader) -> "CommitProof":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        kind = reader.u8()
        if kind == 0:
            return cls(CommitCertificate.read(reader), None, None)
        if kind == 1:
            return cls(None, Block.read(reader), QuorumCertificate.read(reader))
        raise InvalidMessage(f"commit proof of kind {kind}")
