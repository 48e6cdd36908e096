"""Epochs: how one committee hands over to the next, and how anybody can follow that.

Rules Ep2, Ep3, Ep4. A member attests the next committee in the blocks it leads; its signature over
the block covers the attestation. Where an epoch ends follows from a block's ancestors alone, so no
rule asks the L1 anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from consensus.bls import Crypto
from consensus.codec import HASH_BYTES, MAX_U64, Reader, counted, decode_whole, sequence, u64
from consensus.committee import Committee, Member
from consensus.errors import InvalidConfiguration, InvalidMessage
from consensus.lightclient import verify_commit
from consensus.types import MAX_MEMBERS, Block, CommitCertificate, QuorumCertificate

KEY_BYTES = 48
IDENTITY_BYTES = 32
MAX_LAST_BLOCK_BYTES = 256 * 1024


def attestation(epoch: int, digest: bytes) -> bytes:
    """What a block carries whose author has seen the committee of `epoch` final in the registry."""
    return u64(epoch) + digest


def attested(block: Block) -> bytes | None:
    """The digest of the next epoch's committee that a block attests; None if it does not."""
    data = block.attestation
    if len(data) != 8 + HASH_BYTES or data[:8] != u64(block.epoch + 1):
        return None
    return data[8:]


class LastBlock(NamedTuple):
    """The block that ends an epoch, and the digest of the committee that follows."""

    block: Block
    next_committee: bytes


class EpochEnd:
    """Ep2: finds the last block of an epoch: the first in whose chain a quorum attests one digest.

    Attestations count for `window` heights, the newest of each author, so that what has to be
    remembered are the recent blocks. `last` is the last block once it is committed.
    """

    def __init__(
        self, committee: Committee, window: int, recent: Iterable[Block], head: Block
    ) -> None:
        self._committee = committee
        self._window = window
        self._attesting: list[Block] = []
        self.last: LastBlock | None = None
        for block in recent:
            if block.epoch == committee.epoch and block.height < head.height:
                self._remember(block)
        if head.epoch == committee.epoch:
            self.committed([head])

    def on(self, chain_above_head: Sequence[Block]) -> LastBlock | None:
        """The last block on a chain of blocks above the committed head, oldest first."""
        if self.last is not None or not any(block.attestation for block in chain_above_head):
            return self.last
        attesting = list(self._attesting)
        for block in chain_above_head:
            if attested(block) is not None:
                attesting.append(block)
                if self._is_last(block, attesting):
                    return LastBlock(block, block.attestation[8:])
        return None

    def lacks(self, member: int, digest: bytes, chain_above_head: Sequence[Block]) -> bool:
        """Whether no attestation of `digest` by this member counts on a chain."""
        height = chain_above_head[-1].height if chain_above_head else 0
        return not any(
            block.author == member and attested(block) == digest
            for block in chain(self._attesting, chain_above_head)
            if block.height > height - self._window
        )

    def committed(self, blocks: Sequence[Block]) -> None:
        """The head has moved; the last of the blocks may be the last of the epoch."""
        self.last = self.on(blocks)
        for block in blocks:
            self._remember(block)

    def _remember(self, block: Block) -> None:
        if attested(block) is not None:
            self._attesting.append(block)
        while self._attesting and self._attesting[0].height <= block.height - self._window:
            self._attesting.pop(0)

    def _is_last(self, block: Block, attesting: Sequence[Block]) -> bool:
        oldest = block.height - self._window
        newest = {before.author: attested(before) for before in attesting if before.height > oldest}
        digest = attested(block)
        return self._committee.is_quorum(
            author for author, named in newest.items() if named == digest
        )


@dataclass(frozen=True, slots=True)
class EpochChange:
    """The proof that an epoch ended with block `last`, and the committee that it named."""

    certificate: CommitCertificate
    last: Block
    committee: Committee

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            self.certificate.encode()
            + counted(self.last.encode())
            + _encode_members(self.committee)
        )

    @classmethod
    def read(cls, reader: Reader) -> "EpochChange":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        certificate = CommitCertificate.read(reader)
        last = Block.decode(reader.counted(MAX_LAST_BLOCK_BYTES))
        if certificate.epoch == MAX_U64:
            raise InvalidMessage("epoch change: there is no epoch after the last")
        return cls(certificate, last, _read_members(reader, certificate.epoch + 1))

    @classmethod
    def decode(cls, data: bytes) -> "EpochChange":
        """One change that fills `data` exactly."""
        return decode_whole(data, cls.read)

    @property
    def root(self) -> QuorumCertificate:
        """What stands for a QC of `last` in the new epoch."""
        return root_qc(self.committee.epoch, self.last)

    def verify(self, committee: Committee, chain_id: bytes, crypto: Crypto) -> None:
        """Ep4: `committee` ended its epoch like this. `InvalidMessage` if it did not."""
        certificate = self.certificate
        if certificate.block_id != self.last.id or certificate.height != self.last.height:
            raise InvalidMessage("epoch change: the certificate is of another block")
        if certificate.next_committee != self.committee.digest:
            raise InvalidMessage("epoch change: the certificate names another committee")
        verify_commit(committee, chain_id, certificate, crypto)


def encode_committee(committee: Committee) -> bytes:
    """Canonical bytes: epoch u64, then the members."""
    return u64(committee.epoch) + _encode_members(committee)


def decode_committee(data: bytes) -> Committee:
    """Inverse of `encode_committee`; `InvalidMessage` on anything else."""
    return decode_whole(data, lambda reader: _read_members(reader, reader.u64()))


def _encode_members(committee: Committee) -> bytes:
    return sequence(
        [member.identity + member.bls_key + u64(member.weight) for member in committee.members]
    )


def _read_members(reader: Reader, epoch: int) -> Committee:
    members = reader.sequence(_read_member, MAX_MEMBERS)
    try:
        return Committee(epoch, members)
    except InvalidConfiguration as error:
        raise InvalidMessage(f"committee of epoch {epoch}: {error}") from None


def _read_member(reader: Reader) -> Member:
    return Member(reader.take(IDENTITY_BYTES), reader.take(KEY_BYTES), reader.u64())


def root_qc(epoch: int, last: Block) -> QuorumCertificate:
    """The certificate of an epoch's root, the last block before it: recognised by equality."""
    return QuorumCertificate(epoch, last.round, last.id, b"", b"")


def follow(
    committee: Committee, chain_id: bytes, changes: Iterable[EpochChange], crypto: Crypto
) -> Committee:
    """The committee after these changes, each verified by the one before it.

    `InvalidMessage` at the first that is not proved.
    """
    for change in changes:
        change.verify(committee, chain_id, crypto)
        committee = change.committee
    return committee
