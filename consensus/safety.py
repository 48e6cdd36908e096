"""What this member may sign. The only room with the key.

Each method either returns the signed message or a `Refusal` that names the rule. Everything that
a signature depends on stands in one `SafetyRecord` (S1), which has to be on disk before the
message leaves: the driver saves `record` whenever `changed` is true, then sends.

The lock of two-chain HotStuff is the round of the highest QC ever seen, so it needs no field of
its own.
"""

from dataclasses import dataclass, replace

from consensus.bls import Signer
from consensus.codec import ZERO_HASH, Reader, decode_whole, optional, u64
from consensus.epochs import LastBlock
from consensus.errors import InvalidMessage
from consensus.messages import (
    Certificates,
    CommitVote,
    Message,
    Proposal,
    Timeout,
    Vote,
    read_message,
)
from consensus.types import (
    Block,
    CommitCertificate,
    QuorumCertificate,
    TimeoutCertificate,
    genesis_qc,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not signed: a rule of the specification and a sentence."""

    rule: str
    reason: str


EVERY_ROUND = (1 << 64) - 1
"""A watermark that forbids every signature of its kind in its epoch."""


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The highest rounds of one epoch that were signed for, by kind, without what was signed.

    They forbid everything of earlier epochs. This is how a memory moves to another machine.
    """

    epoch: int
    voted: int = 0
    timeout: int = 0
    commit_vote: int = 0
    proposed: int = 0

    @classmethod
    def of(cls, record: "SafetyRecord") -> "Watermarks":
        """Those of a record."""
        proposal = record.last_proposal
        return cls(
            record.epoch,
            record.last_voted_round,
            record.highest_timeout_round,
            record.last_commit_vote_round,
            proposal.block.round if proposal is not None else 0,
        )

    @property
    def highest(self) -> int:
        """The highest round that was signed for, whatever the kind."""
        return max(self.voted, self.timeout, self.commit_vote, self.proposed)

    def merged(self, other: "Watermarks") -> "Watermarks":
        """What forbids all that either of them forbids."""
        if self.epoch != other.epoch:
            return max(self, other, key=lambda marks: marks.epoch)
        return Watermarks(
            self.epoch,
            max(self.voted, other.voted),
            max(self.timeout, other.timeout),
            max(self.commit_vote, other.commit_vote),
            max(self.proposed, other.proposed),
        )


@dataclass(frozen=True, slots=True)
class SafetyRecord:
    """S1: everything a signature of this member ever depended on, in one durable value.

    L2: `highest_timeout_round` is the timeout watermark; nothing lowers or forgets it.
    """

    epoch: int
    high_qc: QuorumCertificate
    high_tc: TimeoutCertificate | None = None
    last_voted_round: int = 0
    highest_timeout_round: int = 0
    last_commit_vote_round: int = 0
    last_vote: Vote | None = None
    last_commit_vote: CommitVote | None = None
    last_proposal: Proposal | None = None
    last_timeout: Timeout | None = None

    @classmethod
    def initial(cls, chain_id: bytes, epoch: int = 0) -> "SafetyRecord":
        """Of a member that has never signed anything."""
        return cls(epoch, genesis_qc(chain_id))

    def raised(self, marks: "Watermarks") -> "SafetyRecord":
        """This record, and nothing will be signed up to the highest round that `marks` name.

        Not by kind: the lock did not move with the marks. A timeout at or below a round that was
        voted in could name a lower QC than the vote relied on; above it, the certificates that let
        this member be there bring a QC that is high enough (L1, T2). Nothing is ever lowered.
        """
        if marks.epoch < self.epoch:
            return self
        floor = marks.highest if marks.epoch == self.epoch else EVERY_ROUND
        return replace(
            self,
            last_voted_round=max(self.last_voted_round, floor),
            highest_timeout_round=max(self.highest_timeout_round, floor),
            last_commit_vote_round=max(self.last_commit_vote_round, floor),
        )

    @property
    def round(self) -> int:
        """The round that the certificates let this member be in."""
        return 1 + max(self.high_qc.round, self.high_tc.round if self.high_tc else 0)

    def encode(self) -> bytes:
        """Canonical bytes."""
        stored: tuple[Message | None, ...] = (
            self.last_vote,
            self.last_commit_vote,
            self.last_proposal,
            self.last_timeout,
        )
        return (
            u64(self.epoch)
            + self.high_qc.encode()
            + optional(self.high_tc.encode() if self.high_tc else None)
            + u64(self.last_voted_round)
            + u64(self.highest_timeout_round)
            + u64(self.last_commit_vote_round)
            + b"".join(optional(message.encode() if message else None) for message in stored)
        )

    @classmethod
    def decode(cls, data: bytes) -> "SafetyRecord":
        """Inverse of `encode`; `InvalidMessage` on anything else."""
        return decode_whole(data, cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> "SafetyRecord":
        epoch = reader.u64()
        high_qc = QuorumCertificate.read(reader)
        high_tc = reader.optional(TimeoutCertificate.read)
        rounds = (reader.u64(), reader.u64(), reader.u64())
        vote, commit_vote, proposal, timeout = (reader.optional(read_message) for _ in range(4))
        if (
            not isinstance(vote, Vote | None)
            or not isinstance(commit_vote, CommitVote | None)
            or not isinstance(proposal, Proposal | None)
            or not isinstance(timeout, Timeout | None)
        ):
            raise InvalidMessage("safety record: a stored message is of another kind")
        return cls(epoch, high_qc, high_tc, *rounds, vote, commit_vote, proposal, timeout)


class Safety:
    """Signs for one member, or refuses. State is `record`; `changed` says it must be saved."""

    def __init__(self, me: int, chain_id: bytes, signer: Signer, record: SafetyRecord) -> None:
        self._me = me
        self._chain_id = chain_id
        self._signer = signer
        self.record = record
        self.changed = False

    def _update(self, record: SafetyRecord) -> None:
        self.record = record
        self.changed = True

    def observe_qc(self, qc: QuorumCertificate) -> None:
        """L1: lock a verified QC, whether or not its block is known."""
        if qc.round > self.record.high_qc.round:
            self._update(replace(self.record, high_qc=qc))

    def observe_tc(self, tc: TimeoutCertificate) -> None:
        """E1: remember a verified TC; its own high QC was observed before."""
        assert self.record.high_qc.round >= tc.high_qc_round
        if self.record.high_tc is None or tc.round > self.record.high_tc.round:
            self._update(replace(self.record, high_tc=tc))

    def propose(self, block: Block) -> Proposal | Refusal:
        """P1: one proposal per round, ever; asked again for a round, the stored one."""
        stored = self.record.last_proposal
        if stored is not None and block.round <= stored.block.round:
            if block.round == stored.block.round:
                return stored
            return Refusal("P1", f"already proposed in round {stored.block.round}")
        if block.round <= self.record.last_voted_round:
            # who leads a round proposes in it before it votes, so that proposal is not remembered
            return Refusal("P1", f"already voted in round {self.record.last_voted_round}")
        signed = Proposal.signed_bytes(self._chain_id, block)
        proposal = Proposal(block, self._signer.sign_identity(signed))
        self._update(replace(self.record, last_proposal=proposal))
        return proposal

    def vote(self, block: Block) -> Vote | Refusal:
        """V1, V2, V3, T1: a vote for a block whose certificates were verified and observed."""
        refusal = self._check_vote(block)
        if refusal is not None:
            return refusal
        record = self.record
        if block.round == record.last_voted_round:
            assert record.last_vote is not None
            return record.last_vote
        signed = QuorumCertificate.signed_bytes(self._chain_id, block.epoch, block.round, block.id)
        vote = Vote(block.epoch, block.round, block.id, self._me, self._signer.sign(signed))
        self._update(replace(record, last_voted_round=block.round, last_vote=vote))
        return vote

    def _check_vote(self, block: Block) -> Refusal | None:
        record = self.record
        if block.epoch != record.epoch:
            return Refusal("V5", f"block of epoch {block.epoch}, I am in {record.epoch}")
        if block.round < record.last_voted_round:
            return Refusal("V1", f"already voted in round {record.last_voted_round}")
        if block.round == record.last_voted_round:
            if record.last_vote is not None and record.last_vote.block_id == block.id:
                return None
            return Refusal("V1", f"already voted for another block in round {block.round}")
        if block.round <= record.highest_timeout_round:
            return Refusal("T1", f"already timed out in round {record.highest_timeout_round}")
        if block.round != record.round:
            return Refusal("V4", f"I am in round {record.round}")
        if not follows_certificates(block):
            return Refusal("V2", "neither a QC nor a TC of the round before justifies the block")
        if record.high_qc.round < block.qc.round:
            return Refusal("V3", "the block's QC has not been processed")
        return None

    def commit_vote(
        self, block: Block, qc: QuorumCertificate, end: LastBlock | None = None
    ) -> CommitVote | Refusal:
        """L1, T1: a commit vote for a block that `qc` certifies and that is locked.

        Ep3: at the `end` of an epoch and above it, it names the last block and what follows.
        """
        record = self.record
        assert qc.block_id == block.id
        assert qc.round == block.round
        if qc.round > record.high_qc.round:
            return Refusal("L1", "the QC is not locked")
        if qc.round <= record.highest_timeout_round:
            return Refusal("T1", f"already timed out in round {record.highest_timeout_round}")
        if qc.round <= record.last_commit_vote_round:
            return Refusal("L1", f"already commit-voted in round {record.last_commit_vote_round}")
        named, next_committee = end if end is not None else (block, ZERO_HASH)
        signed = CommitCertificate.signed_bytes(
            self._chain_id, block.epoch, block.round, named.height, named.id, next_committee
        )
        vote = CommitVote(
            block.epoch,
            block.round,
            named.height,
            named.id,
            next_committee,
            self._me,
            self._signer.sign(signed),
        )
        self._update(replace(record, last_commit_vote_round=block.round, last_commit_vote=vote))
        return vote

    def timeout(self, round: int, commit: CommitCertificate | None) -> Timeout | Refusal:
        """T1, T2: give up on `round`; at the watermark, the stored timeout again."""
        record = self.record
        if round < record.highest_timeout_round:
            return Refusal("T1", f"already timed out in round {record.highest_timeout_round}")
        if round == record.highest_timeout_round:
            stored = record.last_timeout
            if stored is not None and stored.round == round:
                return stored
            return Refusal("T1", f"the timeout of round {round} is not remembered")
        if record.high_qc.round >= round:
            return Refusal("T2", f"the high QC is of round {record.high_qc.round}")
        if record.round != round:
            return Refusal("E1", f"the certificates are of round {record.round - 1}")
        signed = TimeoutCertificate.signed_bytes(
            self._chain_id, record.epoch, round, record.high_qc.round
        )
        timeout = Timeout(
            record.epoch,
            round,
            record.high_qc.round,
            self._me,
            self._signer.sign(signed),
            Certificates(record.high_qc, newer_tc(record), commit),
        )
        self._update(replace(record, highest_timeout_round=round, last_timeout=timeout))
        return timeout


class Follower(Safety):
    """Somebody who watches: keeps the newest certificates, has no key and signs nothing."""

    def __init__(self, record: SafetyRecord) -> None:
        self.record = record
        self.changed = False

    def propose(self, block: Block) -> Proposal | Refusal:
        """Never."""
        return WATCHING

    def vote(self, block: Block) -> Vote | Refusal:
        """Never."""
        return WATCHING

    def commit_vote(
        self, block: Block, qc: QuorumCertificate, end: LastBlock | None = None
    ) -> CommitVote | Refusal:
        """Never."""
        return WATCHING

    def timeout(self, round: int, commit: CommitCertificate | None) -> Timeout | Refusal:
        """Never."""
        return WATCHING


WATCHING = Refusal("V1", "a follower signs nothing")


def newer_tc(record: SafetyRecord) -> TimeoutCertificate | None:
    """The TC if it says more than the high QC does."""
    tc = record.high_tc
    return tc if tc is not None and tc.round > record.high_qc.round else None


def follows_certificates(block: Block) -> bool:
    """V2, E2: the block's QC, or its TC and a QC at least as high, is of the round before."""
    if block.tc is None:
        return block.qc.round + 1 == block.round
    return (
        block.tc.round + 1 == block.round and block.tc.high_qc_round <= block.qc.round < block.round
    )
