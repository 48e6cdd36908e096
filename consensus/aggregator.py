"""Votes into certificates, and double votes into evidence.

Rules Q1, Q2, Q3. Signatures are collected unverified from the member that the channel
authenticates, summed when a quorum agrees, and verified once. If the sum is bad, each signature is
verified alone; whoever sent a bad one is barred, which means that its messages are verified one by
one from then on.
"""

from dataclasses import dataclass

from consensus.bls import Crypto
from consensus.codec import Reader, counted, decode_whole, u32, u64
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.messages import CommitVote, Proposal, Timeout, Vote, read_message
from consensus.types import (
    CommitCertificate,
    QuorumCertificate,
    TimeoutCertificate,
    bitmap_of,
)

MAX_EVIDENCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two signed messages of one member that no honest member signs both."""

    epoch: int
    round: int
    member: int
    first: Proposal | Vote | CommitVote
    second: Proposal | Vote | CommitVote

    def encode(self) -> bytes:
        """Canonical bytes."""
        return (
            u64(self.epoch)
            + u64(self.round)
            + u32(self.member)
            + counted(self.first.encode())
            + counted(self.second.encode())
        )

    @classmethod
    def decode(cls, data: bytes) -> "Evidence":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        return decode_whole(data, cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> "Evidence":
        epoch, round, member = reader.u64(), reader.u64(), reader.u32()
        first = decode_whole(reader.counted(MAX_EVIDENCE_BYTES), read_message)
        second = decode_whole(reader.counted(MAX_EVIDENCE_BYTES), read_message)
        if not isinstance(first, Proposal | Vote | CommitVote) or type(first) is not type(second):
            raise InvalidMessage("evidence holds two votes or two proposals")
        assert isinstance(second, Proposal | Vote | CommitVote)
        return cls(epoch, round, member, first, second)


Ballot = Vote | CommitVote | Timeout


def content(chain_id: bytes, ballot: Ballot) -> bytes:
    """The bytes that a ballot's signature covers: equal bytes mean an equal opinion."""
    if isinstance(ballot, Vote):
        return QuorumCertificate.signed_bytes(chain_id, ballot.epoch, ballot.round, ballot.block_id)
    if isinstance(ballot, CommitVote):
        return CommitCertificate.signed_bytes(
            chain_id,
            ballot.epoch,
            ballot.round,
            ballot.height,
            ballot.block_id,
            ballot.next_committee,
        )
    return TimeoutCertificate.signed_bytes(
        chain_id, ballot.epoch, ballot.round, ballot.high_qc_round
    )


@dataclass(slots=True)
class Slot:
    """The one ballot of a member in a round."""

    ballot: Ballot
    content: bytes
    verified: bool
    accused: bool = False


class Tally:
    """The ballots of one kind, a slot per round and member."""

    def __init__(self, committee: Committee, chain_id: bytes, crypto: Crypto) -> None:
        self._committee = committee
        self._chain_id = chain_id
        self._crypto = crypto
        self._rounds: dict[int, dict[int, Slot]] = {}
        self._done: set[int] = set()
        self._barred: set[int] = set()
        self.evidence: list[Evidence] = []

    def __len__(self) -> int:
        return sum(len(slots) for slots in self._rounds.values())

    def slots(self, round: int) -> dict[int, Slot]:
        """The filled slots of a round, by member."""
        return self._rounds.get(round, {})

    def weight(self, round: int) -> int:
        """How much weight has spoken in a round."""
        return self._committee.weight(self.slots(round))

    def named_rounds(self) -> set[int]:
        """The high-QC rounds that the timeouts of this tally name."""
        return {
            slot.ballot.high_qc_round
            for slots in self._rounds.values()
            for slot in slots.values()
            if isinstance(slot.ballot, Timeout)
        }

    def drop_below(self, round: int) -> None:
        """Q3: forget older rounds."""
        for old in [known for known in self._rounds if known < round]:
            del self._rounds[old]
        self._done = {known for known in self._done if known >= round}

    def add(self, sender: int, ballot: Ballot) -> bool:
        """Fill the member's slot; False when that changed nothing. `InvalidMessage` if forged."""
        if ballot.voter >= self._committee.size:
            raise InvalidMessage(f"there is no member {ballot.voter}")
        slots = self._rounds.setdefault(ballot.round, {})
        known = slots.get(ballot.voter)
        signed = content(self._chain_id, ballot)
        if known is not None:
            if known.content == signed:
                return False
            return self._conflict(slots, known, ballot, signed)
        must_verify = sender != ballot.voter or ballot.voter in self._barred
        if must_verify and not self._is_signed(ballot, signed):
            raise InvalidMessage(f"forged signature of member {ballot.voter}")
        slots[ballot.voter] = Slot(ballot, signed, must_verify)
        return True

    def _is_signed(self, ballot: Ballot, signed: bytes) -> bool:
        key = self._committee.members[ballot.voter].bls_key
        return self._crypto.verify(key, signed, ballot.signature)

    def _conflict(self, slots: dict[int, Slot], known: Slot, ballot: Ballot, signed: bytes) -> bool:
        """Q1: the first counts, unless it was forged; two good ones are evidence."""
        if isinstance(ballot, Timeout) or known.accused:
            return False
        if not self._is_signed(ballot, signed):
            raise InvalidMessage(f"forged signature of member {ballot.voter}")
        known.verified = known.verified or self._is_signed(known.ballot, known.content)
        if not known.verified:
            self._barred.add(ballot.voter)
            slots[ballot.voter] = Slot(ballot, signed, True)
            return True
        assert isinstance(known.ballot, Vote | CommitVote)
        known.accused = True
        self.evidence.append(
            Evidence(ballot.epoch, ballot.round, ballot.voter, known.ballot, ballot)
        )
        return False

    def certify(self, round: int, signed: bytes | None = None) -> tuple[list[int], bytes] | None:
        """Q2: signers and verified aggregate of a quorum; once per round.

        All of them said `signed`; where it is None (timeouts) contents may differ.
        """
        if round in self._done:
            return None
        slots = self.slots(round)
        voters = sorted(
            voter for voter, slot in slots.items() if signed is None or slot.content == signed
        )
        while self._committee.is_quorum(voters):
            aggregate = self._crypto.aggregate([slots[voter].ballot.signature for voter in voters])
            if aggregate is not None and self._check_groups(slots, voters, aggregate):
                self._done.add(round)
                return voters, aggregate
            kept = [voter for voter in voters if self._keep_if_signed(slots, voter)]
            if kept == voters:
                return None  # each is good alone: nothing would change
            voters = kept
        return None

    def _check_groups(self, slots: dict[int, Slot], voters: list[int], aggregate: bytes) -> bool:
        groups: dict[bytes, list[bytes]] = {}
        for voter in voters:
            key = self._committee.members[voter].bls_key
            groups.setdefault(slots[voter].content, []).append(key)
        return self._crypto.verify_groups(
            [(keys, signed) for signed, keys in groups.items()], aggregate
        )

    def _keep_if_signed(self, slots: dict[int, Slot], voter: int) -> bool:
        slot = slots[voter]
        if not slot.verified and not self._is_signed(slot.ballot, slot.content):
            self._barred.add(voter)
            del slots[voter]
            return False
        slot.verified = True
        return True


class Aggregator:
    """The three tallies of an epoch."""

    def __init__(self, committee: Committee, chain_id: bytes, crypto: Crypto) -> None:
        self._committee = committee
        self._chain_id = chain_id
        self.votes = Tally(committee, chain_id, crypto)
        self.commit_votes = Tally(committee, chain_id, crypto)
        self.timeouts = Tally(committee, chain_id, crypto)
        self._carried: dict[int, QuorumCertificate] = {}

    def add_vote(self, sender: int, vote: Vote) -> QuorumCertificate | None:
        """A new QC if this vote completes one."""
        if not self.votes.add(sender, vote):
            return None
        made = self.votes.certify(vote.round, content(self._chain_id, vote))
        if made is None:
            return None
        bitmap = bitmap_of(made[0], self._committee.size)
        return QuorumCertificate(vote.epoch, vote.round, vote.block_id, bitmap, made[1])

    def add_commit_vote(self, sender: int, vote: CommitVote) -> CommitCertificate | None:
        """A new commit certificate if this vote completes one."""
        if not self.commit_votes.add(sender, vote):
            return None
        made = self.commit_votes.certify(vote.round, content(self._chain_id, vote))
        if made is None:
            return None
        return CommitCertificate(
            vote.epoch,
            vote.round,
            vote.height,
            vote.block_id,
            vote.next_committee,
            bitmap_of(made[0], self._committee.size),
            made[1],
        )

    def add_timeout(
        self, sender: int, timeout: Timeout, high_qc: QuorumCertificate
    ) -> TimeoutCertificate | None:
        """A new TC if this timeout completes one; `high_qc` is verified and of the named round."""
        assert high_qc.round == timeout.high_qc_round
        if not self.timeouts.add(sender, timeout):
            return None
        self._carried[high_qc.round] = high_qc
        made = self.timeouts.certify(timeout.round)
        if made is None:
            return None
        voters, signature = made
        named = tuple((voter, self._named_round(timeout.round, voter)) for voter in voters)
        highest = max(round for _, round in named)
        high_qc = self._carried[highest]
        return TimeoutCertificate(timeout.epoch, timeout.round, named, signature, high_qc)

    def _named_round(self, round: int, voter: int) -> int:
        ballot = self.timeouts.slots(round)[voter].ballot
        assert isinstance(ballot, Timeout)
        return ballot.high_qc_round

    def take_evidence(self) -> list[Evidence]:
        """Evidence found since the last call."""
        found: list[Evidence] = []
        for tally in (self.votes, self.commit_votes):
            found += tally.evidence
            tally.evidence = []
        return found

    def drop_below(self, round: int, commit_vote_round: int) -> None:
        """Q3: forget ballots that can no longer matter."""
        self.votes.drop_below(round)
        self.timeouts.drop_below(round)
        self.commit_votes.drop_below(commit_vote_round)
        named = self.timeouts.named_rounds()
        self._carried = {at: qc for at, qc in self._carried.items() if at in named}
