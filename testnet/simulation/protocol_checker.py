"""What honest members say, save and commit, held against the rules.

The checker sees every message that an honest member hands to the network, every record it makes
durable and every block it commits, and remembers across crashes. Certificates are counted as if
every faulty member had signed everything: what *could* be certified must already obey the rules,
so that a violation shows without an adversary clever enough to use it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from consensus.bls import Crypto
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit, verify_qc, verify_tc
from consensus.messages import (
    Certificates,
    CommitVote,
    EpochReply,
    Message,
    Proposal,
    Timeout,
    Vote,
)
from consensus.safety import SafetyRecord
from consensus.types import (
    Block,
    CommitCertificate,
    QuorumCertificate,
    TimeoutCertificate,
    members_of,
)
from testnet.simulation.checkers import Violation, require
from testnet.simulation.epoch_checker import EpochChecker, signed_part
from testnet.simulation.finality import Finality, Moment
from testnet.simulation.registry import Registry

Certificate = TypeVar("Certificate", QuorumCertificate, TimeoutCertificate, CommitCertificate)


def is_justified(block: Block) -> bool:
    """E2, V2, told again here so that a mistake in the core's own test cannot hide itself."""
    if block.tc is None:
        return block.round == block.qc.round + 1
    floor = max(named for _, named in block.tc.high_qc_rounds)
    return block.round == block.tc.round + 1 and block.qc.round >= floor


@dataclass(slots=True)
class _Memory:
    """What one honest member has said and saved, ever."""

    record: SafetyRecord | None = None
    voted: dict[Moment, bytes] = field(default_factory=dict)
    commit_voted: dict[Moment, bytes] = field(default_factory=dict)
    proposed: dict[Moment, bytes] = field(default_factory=dict)
    timed_out: dict[Moment, int] = field(default_factory=dict)


class ProtocolChecker:
    """Rules V, T, L, P, C, S, Q and Ld on what honest members say, save and commit."""

    def __init__(
        self,
        registry: Registry,
        chain_id: bytes,
        honest: Iterable[int],
        has_collection: Callable[[int, bytes], bool],
        digest_window: int,
        crypto: Crypto,
    ) -> None:
        self._registry = registry
        self._chain_id = chain_id
        self._crypto = crypto
        self._good: set[tuple[Moment, bytes]] = set()
        self._members = {member: _Memory() for member in honest}
        self._has_collection = has_collection
        self._window = digest_window
        self.finality = Finality(registry, chain_id, self._members, digest_window)
        self.epochs = EpochChecker(registry, self.finality, chain_id, crypto)
        self.blocks = self.finality.blocks
        self.canonical: list[Block] = [self.finality.genesis]

    # what the simulation reports

    def on_block(self, block: Block) -> None:
        """A block exists, whoever made it."""
        self.finality.on_block(block)

    def on_saved(self, member: int, record: SafetyRecord) -> None:
        """An honest member's record became durable."""
        memory = self._members[member]
        before = memory.record
        memory.record = record
        if before is not None and not self.epochs.on_saved(member, before, record):
            self._check_succession(member, before, record)
        for stored in (record.last_proposal, record.last_vote, record.last_commit_vote):
            if stored is not None:
                self.on_sent(member, stored)

    def _check_succession(self, member: int, before: SafetyRecord, after: SafetyRecord) -> None:
        watermark = before.highest_timeout_round
        for rule, name in (
            ("V1", "last_voted_round"),
            ("L2", "highest_timeout_round"),
            ("L1", "last_commit_vote_round"),
        ):
            old, new = getattr(before, name), getattr(after, name)
            require(new >= old, rule, "{} of member {} fell from {} to {}", name, member, old, new)
        require(
            after.high_qc.round >= before.high_qc.round,
            "S1",
            "member {} forgot the QC of round {}",
            member,
            before.high_qc.round,
        )
        old_tc = before.high_tc.round if before.high_tc else 0
        new_tc = after.high_tc.round if after.high_tc else 0
        require(new_tc >= old_tc, "S1", "member {} forgot the TC of round {}", member, old_tc)
        require(
            after.last_voted_round == before.last_voted_round or after.last_voted_round > watermark,
            "T1",
            "member {} voted in round {} after its timeout for {}",
            member,
            after.last_voted_round,
            watermark,
        )
        require(
            after.last_commit_vote_round == before.last_commit_vote_round
            or after.last_commit_vote_round > watermark,
            "T1",
            "member {} commit-voted in round {} after its timeout for {}",
            member,
            after.last_commit_vote_round,
            watermark,
        )
        timeout = after.last_timeout
        if timeout is not None and after.highest_timeout_round > watermark:
            require(
                timeout.high_qc_round >= before.high_qc.round,
                "T2",
                "member {} timed out in round {} naming QC {} although it holds {}",
                member,
                timeout.round,
                timeout.high_qc_round,
                before.high_qc.round,
            )

    def on_sent(self, member: int, message: Message) -> None:
        """An honest member said something to anybody."""
        memory = self._members[member]
        signed = signed_part(message)
        if isinstance(message, EpochReply):
            for change in message.changes:
                self.epochs.check_change(member, change)
        elif isinstance(message, Certificates):
            self._check_certificates(member, message.high_qc, message.high_tc, message.commit)
        elif isinstance(message, Proposal):
            self.on_block(message.block)
            self._check_certificates(member, message.block.qc, message.block.tc, None)
            seat = self._registry.seat(member, message.block.epoch)
            if message.block.author == seat:
                self._on_proposal(member, memory, message.block)
        elif signed is not None:
            self._on_ballot(member, memory, message, (signed.epoch, signed.round))

    def _on_ballot(self, member: int, memory: _Memory, message: Message, at: Moment) -> None:
        """What is said again unchanged was looked at when it was said first."""
        if isinstance(message, Vote):
            if memory.voted.get(at) != message.block_id:
                self._on_vote(member, memory, message, at)
        elif isinstance(message, CommitVote):
            if memory.commit_voted.get(at) != message.block_id + message.next_committee:
                self._on_commit_vote(member, memory, message, at)
        elif isinstance(message, Timeout) and memory.timed_out.get(at) != message.high_qc_round:
            self._on_timeout(member, memory, message, at)

    def _check_certificates(
        self,
        member: int,
        qc: QuorumCertificate,
        tc: TimeoutCertificate | None,
        commit: CommitCertificate | None,
    ) -> None:
        """Q2: what an honest member passes on is good; a quorum is more than two thirds."""
        epoch = qc.epoch
        if qc.round and not self.finality.is_root(qc):
            self._check_one(member, qc, verify_qc, members_of(qc.signers))
        if tc is not None:
            root = None if tc.high_qc.signers else tc.high_qc
            named = [index for index, _ in tc.high_qc_rounds]
            good = root is None or root.round == 0 or self.finality.is_root(root)
            require(good, "Q2", "member {} passes on a TC without a QC", member)
            self._check_one(member, tc, partial(verify_tc, root=root), named)
        if commit is not None:
            self.epochs.check_commit(member, commit)
            self._check_one(member, commit, verify_commit, members_of(commit.signers))
            require(commit.epoch == epoch, "Ep4", "member {} mixes epochs", member)

    def _check_one(
        self,
        member: int,
        certificate: Certificate,
        verify: Callable[[Committee, bytes, Certificate, Crypto], None],
        signers: list[int],
    ) -> None:
        epoch = certificate.epoch
        known = (epoch, certificate.round), certificate.signature
        if known in self._good:
            return
        require(epoch <= self._registry.newest, "Ep1", "there is no epoch {}", epoch)
        try:
            verify(self._registry.committees[epoch], self._chain_id, certificate, self._crypto)
        except InvalidMessage as reason:
            raise Violation("Q2", f"member {member} passes on a bad {reason}") from reason
        places = self._registry.members(epoch)
        signed = [places[seat] for seat in signers]
        enough = self._registry.is_quorum(signed, epoch)
        require(enough, "quorum", "member {} takes {} for a quorum", member, signed)
        self._good.add(known)

    # what members say

    def _on_proposal(self, member: int, memory: _Memory, block: Block) -> None:
        known = memory.proposed.setdefault((block.epoch, block.round), block.id)
        require(known == block.id, "P1", "member {} proposed twice in {}", member, block.round)
        self.epochs.on_signed(member, memory.record, block)
        leads = self._registry.leader(block.epoch, block.round) == member
        require(leads, "Ld1", "member {} proposed in round {}", member, block.round)
        require(is_justified(block), "E2", "block of round {} is unjustified", block.round)
        record = memory.record
        proposed = record.last_proposal if record is not None else None
        require(
            proposed is not None and proposed.block.round >= block.round,
            "S1",
            "member {} proposed in round {} before saving that",
            member,
            block.round,
        )

    def _on_vote(self, member: int, memory: _Memory, vote: Vote, at: Moment) -> None:
        round = vote.round
        require(at not in memory.voted, "V1", "member {} voted twice in round {}", member, round)
        memory.voted[at] = vote.block_id
        self.epochs.on_signed(member, memory.record, vote)
        record = memory.record
        require(
            record is not None and record.last_voted_round >= round,
            "S1",
            "member {} voted in round {} before saving that",
            member,
            round,
        )
        block = self.blocks.get(vote.block_id)
        if block is not None:
            self._check_voted_block(member, vote, block)
        self.finality.on_vote(member, at, vote.block_id)

    def _check_voted_block(self, member: int, vote: Vote, block: Block) -> None:
        leader = self._registry.committees[vote.epoch].leader(vote.round)
        same = (vote.epoch, vote.round) == (block.epoch, block.round)
        require(same, "V4", "vote of {} names another round", member)
        require(block.author == leader, "V4", "{} voted for a block of no leader", member)
        require(is_justified(block), "V2", "{} voted for an unjustified block", member)
        require(block.parent_id == block.qc.block_id, "V5", "{} voted for a bad parent", member)
        self._check_certificate(member, block.qc)
        record = self._members[member].record
        require(
            record is not None and record.high_qc.round >= block.qc.round,
            "V3",
            "member {} voted in round {} before locking the block's QC",
            member,
            vote.round,
        )
        parent = self.blocks.get(block.parent_id)
        if parent is not None:
            require(block.height == parent.height + 1, "V5", "{} voted: bad height", member)
            require(block.timestamp_ms > parent.timestamp_ms, "V5", "{} voted: bad time", member)
            if parent.epoch == block.epoch and self.finality.end_on(parent) is not None:
                self.epochs.check_suffix(member, block)
        for digest in block.collections:
            require(
                self._has_collection(member, digest),
                "S3",
                "member {} voted in round {} without a collection on disk",
                member,
                vote.round,
            )

    def _check_certificate(self, member: int, qc: QuorumCertificate) -> None:
        known = self.finality.is_certified(qc)
        require(known, "Q2", "member {} believed a QC of round {} nobody made", member, qc.round)

    def _on_commit_vote(self, member: int, memory: _Memory, vote: CommitVote, at: Moment) -> None:
        round = vote.round
        require(at not in memory.commit_voted, "L1", "{} commit-voted twice in {}", member, round)
        memory.commit_voted[at] = vote.block_id + vote.next_committee
        self.epochs.on_signed(member, memory.record, vote)
        record = memory.record
        require(
            record is not None and record.last_commit_vote_round >= round,
            "S1",
            "member {} commit-voted in round {} before saving that",
            member,
            round,
        )
        certified = self.finality.certified.get(at, b"")
        block = self.blocks.get(certified)
        require(
            block is not None or certified == vote.block_id,
            "L1",
            "member {} commit-voted in round {} for a block without a QC",
            member,
            round,
        )
        if block is not None:
            self.epochs.on_commit_vote(member, vote, block)
        self.finality.on_commit_vote(member, at, vote.block_id, vote.next_committee)

    def _on_timeout(self, member: int, memory: _Memory, timeout: Timeout, at: Moment) -> None:
        round, carried = timeout.round, timeout.certificates
        require(
            at not in memory.timed_out,
            "E4",
            "member {} changed its timeout of round {}",
            member,
            round,
        )
        memory.timed_out[at] = timeout.high_qc_round
        self.epochs.on_signed(member, memory.record, timeout)
        self._check_certificates(member, carried.high_qc, carried.high_tc, carried.commit)
        tc_round = carried.high_tc.round if carried.high_tc else 0
        require(
            carried.high_qc.round == timeout.high_qc_round < round,
            "T2",
            "timeout of member {} in round {} names another QC",
            member,
            round,
        )
        require(
            round - 1 in (carried.high_qc.round, tc_round),
            "T2",
            "timeout of member {} for round {} has nothing of the round before",
            member,
            round,
        )
        record = memory.record
        require(
            record is not None and record.highest_timeout_round >= round,
            "S1",
            "member {} timed out in round {} before saving that",
            member,
            round,
        )

    # commits

    def on_committed(self, member: int, block: Block, below: Block) -> None:
        """An honest member committed `block` on top of its head `below`."""
        self.on_block(block)
        require(
            block.height == below.height + 1 and block.parent_id == below.id,
            "C3",
            "member {} committed height {} on top of {}",
            member,
            block.height,
            below.height,
        )
        if block.height < len(self.canonical):
            same = self.canonical[block.height].id == block.id
            require(same, "C1", "member {} committed another block {}", member, block.height)
            return
        tip = self.canonical[-1]
        require(block.parent_id == tip.id, "C1", "member {} left the chain", member)
        self.epochs.on_logged(member, block, tip)
        require(block.timestamp_ms > tip.timestamp_ms, "V5", "time went back at {}", block.height)
        recent = self.canonical[max(0, block.height - self._window + 1) :]
        ordered = {digest for old in recent for digest in old.collections}
        fresh = set(block.collections)
        require(
            len(fresh) == len(block.collections) and not fresh & ordered,
            "V5",
            "block {} orders a collection twice",
            block.height,
        )
        require(
            self.finality.is_final(block),
            "C2",
            "member {} committed height {} which nobody made final",
            member,
            block.height,
        )
        self.canonical.append(block)

    def on_evidence(self, reporter: int, accused: int) -> None:
        """A member holds evidence against another."""
        require(
            accused not in self._members, "Q1", "{} accuses honest member {}", reporter, accused
        )
