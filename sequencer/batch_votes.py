"""Votes on batches, epoch by epoch, and the certificates they add up to.

A batch is signed by the committee of its header's epoch, which need not be the present one: batches
of the epoch before may still be uncertified when a new one begins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from consensus.bls import Crypto, Signer
from consensus.committee import Committee, Member
from consensus.errors import InvalidMessage
from consensus.types import bitmap_of, members_of
from sequencer.messages import BatchCertificate, BatchVote
from sequencer.settlement.batch import BatchHeader, InvalidBatch


@dataclass(frozen=True, slots=True)
class Seat:
    """What a node is in one epoch: `me` is None for a follower, `signer` without a key."""

    committee: Committee
    me: int | None
    signer: Signer | None

    @classmethod
    def of(
        cls,
        committee: Committee,
        identity: bytes,
        signer_for: Callable[[Member], Signer | None],
    ) -> "Seat":
        """The seat of the node with this identity (32 bytes)."""
        for index, member in enumerate(committee.members):
            if member.identity == identity:
                return cls(committee, index, signer_for(member))
        return cls(committee, None, None)


SeatOf = Callable[[int], Seat | None]
"""An epoch to what this node is in it; None while the epoch is not known here."""


class BatchVotes:
    """Who signed what. `seat_of` is asked for epochs that did not begin since the start."""

    def __init__(self, crypto: Crypto, seat_of: SeatOf) -> None:
        self._crypto = crypto
        self._seat_of = seat_of
        self._seats: dict[int, Seat] = {}
        self._votes: dict[int, dict[int, dict[int, BatchVote]]] = {}

    def sit(self, seat: Seat) -> None:
        """What this node is in an epoch, whatever `seat_of` would say."""
        self._seats[seat.committee.epoch] = seat

    def seat(self, epoch: int) -> Seat | None:
        """What this node is in an epoch."""
        if epoch not in self._seats:
            found = self._seat_of(epoch)
            if found is None:
                return None
            self._seats[epoch] = found
        return self._seats[epoch]

    def of(self, number: int, epoch: int) -> dict[int, BatchVote]:
        """The votes for one batch under one epoch, by voter."""
        return self._votes.get(number, {}).get(epoch, {})

    def numbers(self) -> list[int]:
        """The batches for which votes are kept."""
        return list(self._votes)

    def add(self, vote: BatchVote) -> None:
        """Keep a vote, if its epoch is known; the voter's newest counts."""
        seat = self.seat(vote.epoch)
        if seat is None:
            return
        if vote.voter >= seat.committee.size:
            raise InvalidMessage(f"batch vote of member {vote.voter}, who does not exist")
        self._votes.setdefault(vote.number, {}).setdefault(vote.epoch, {})[vote.voter] = vote

    def forget(self, number: int) -> None:
        """Drop what was kept for a batch."""
        self._votes.pop(number, None)

    def own(self, number: int, epoch: int, header: bytes) -> BatchVote | None:
        """This node's vote for a header, signed once; None where it has no say."""
        seat = self.seat(epoch)
        if seat is None or seat.me is None or seat.signer is None:
            return None
        header_hash = sha256(header).digest()
        known = self.of(number, epoch).get(seat.me)
        if known is None or known.header_hash != header_hash:
            signature = seat.signer.sign(header)
            known = BatchVote(number, epoch, header_hash, seat.me, signature)
            self.add(known)
        return known

    def certificate(self, number: int, epoch: int, header: bytes) -> tuple[bytes, bytes] | None:
        """Bitmap and aggregate signature as soon as a quorum signed; forged votes are dropped."""
        seat = self.seat(epoch)
        if seat is None:
            return None
        committee, header_hash = seat.committee, sha256(header).digest()
        votes = self.of(number, epoch)
        agreeing = sorted(v for v, vote in votes.items() if vote.header_hash == header_hash)
        while committee.is_quorum(agreeing):
            signature = self._crypto.aggregate([votes[voter].signature for voter in agreeing])
            if signature is not None and self._is_signed(committee, agreeing, header, signature):
                return bitmap_of(agreeing, committee.size), signature
            forged = [v for v in agreeing if not self._is_good(committee, header, votes[v])]
            if not forged:
                return None  # each is good alone: nothing would change
            for voter in forged:
                del votes[voter]
            agreeing = [voter for voter in agreeing if voter not in forged]
        return None

    def _is_good(self, committee: Committee, header: bytes, vote: BatchVote) -> bool:
        key = committee.members[vote.voter].bls_key
        return self._crypto.verify(key, header, vote.signature)

    def _is_signed(
        self, committee: Committee, members: Sequence[int], header: bytes, signature: bytes
    ) -> bool:
        keys = [committee.members[member].bls_key for member in members]
        return self._crypto.verify_aggregate(keys, header, signature)

    def check(self, certificate: BatchCertificate, committee: Committee) -> None:
        """`InvalidMessage` unless a quorum of `committee` signed the certificate's header."""
        members = members_of(certificate.signers)
        if len(certificate.signers) != (committee.size + 7) // 8 or (
            members and members[-1] >= committee.size
        ):
            raise InvalidMessage("batch certificate names members that do not exist")
        if not committee.is_quorum(members):
            raise InvalidMessage("batch certificate without a quorum")
        if not self._is_signed(committee, members, certificate.header, certificate.signature):
            raise InvalidMessage("batch certificate with a bad signature")


def header_of(certificate: BatchCertificate) -> BatchHeader:
    """The header that a certificate names; `InvalidMessage` if it is none."""
    try:
        return BatchHeader.decode(certificate.header)
    except InvalidBatch as error:
        raise InvalidMessage(f"batch certificate with a bad header: {error}") from None
