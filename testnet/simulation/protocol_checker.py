"""What honest members say, save and commit, held against the rules.

The checker sees every message that an honest member hands to the network, every record it makes
durable and every block it commits, and remembers across crashes. Certificates are counted as if
every faulty member had signed everything: what *could* be certified must already obey the rules,
so that a violation shows without an adversary clever enough to use it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from consensus.bls import Crypto
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit, verify_qc, verify_tc
from consensus.messages import Certificates, CommitVote, Message, Proposal, Timeout, Vote
from consensus.safety import SafetyRecord
from consensus.types import (
    Block,
    CommitCertificate,
    QuorumCertificate,
    TimeoutCertificate,
    genesis_block,
    members_of,
)
from testnet.simulation.checkers import Violation, require

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
    voted: dict[int, bytes] = field(default_factory=dict)
    commit_voted: dict[int, bytes] = field(default_factory=dict)
    proposed: dict[int, bytes] = field(default_factory=dict)
    timed_out: dict[int, int] = field(default_factory=dict)


class ProtocolChecker:
    """Rules V, T, L, P, C, S, Q and Ld on what honest members say, save and commit."""

    def __init__(
        self,
        committee: Committee,
        chain_id: bytes,
        honest: Iterable[int],
        has_collection: Callable[[int, bytes], bool],
        digest_window: int,
        crypto: Crypto,
    ) -> None:
        self._committee = committee
        self._weights = [member.weight for member in committee.members]
        self._chain_id = chain_id
        self._crypto = crypto
        self._good: set[tuple[int, bytes]] = set()
        self._members = {member: _Memory() for member in honest}
        self._faulty = [m for m in range(committee.size) if m not in self._members]
        self._has_collection = has_collection
        self._window = digest_window
        genesis = genesis_block(chain_id)
        self._genesis = genesis
        self.blocks: dict[bytes, Block] = {genesis.id: genesis}
        self._voters: dict[tuple[int, bytes], set[int]] = {}
        self._commit_voters: dict[tuple[int, bytes], set[int]] = {}
        self._certified: dict[int, bytes] = {0: genesis.id}
        self._finals: dict[int, bytes] = {}
        self._waiting: list[tuple[int, bytes, bool]] = []
        self.canonical: list[Block] = [genesis]

    # what the simulation reports

    def on_block(self, block: Block) -> None:
        """A block exists, whoever made it."""
        if block.id not in self.blocks:
            self.blocks[block.id] = block
            waiting, self._waiting = self._waiting, []
            for round, block_id, final in waiting:
                (self._final if final else self._certify)(round, block_id)

    def on_saved(self, member: int, record: SafetyRecord) -> None:
        """An honest member's record became durable."""
        memory = self._members[member]
        before = memory.record
        memory.record = record
        if before is not None:
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
        if isinstance(message, Vote):
            if memory.voted.get(message.round) != message.block_id:
                self._on_vote(member, memory, message)
        elif isinstance(message, CommitVote):
            if memory.commit_voted.get(message.round) != message.block_id:
                self._on_commit_vote(member, memory, message)
        elif isinstance(message, Timeout):
            if memory.timed_out.get(message.round) != message.high_qc_round:
                self._on_timeout(member, memory, message)
        elif isinstance(message, Proposal):
            self.on_block(message.block)
            self._check_certificates(member, message.block.qc, message.block.tc, None)
            if message.block.author == member:
                self._on_proposal(member, memory, message.block)
        elif isinstance(message, Certificates):
            self._check_certificates(member, message.high_qc, message.high_tc, message.commit)

    def _check_certificates(
        self,
        member: int,
        qc: QuorumCertificate,
        tc: TimeoutCertificate | None,
        commit: CommitCertificate | None,
    ) -> None:
        """Q2: what an honest member passes on is good; a quorum is more than two thirds."""
        self._check_one(member, qc, verify_qc, members_of(qc.signers))
        if tc is not None:
            named = [index for index, _ in tc.high_qc_rounds]
            self._check_one(member, tc, verify_tc, named)
        if commit is not None:
            self._check_one(member, commit, verify_commit, members_of(commit.signers))

    def _check_one(
        self,
        member: int,
        certificate: Certificate,
        verify: Callable[[Committee, bytes, Certificate, Crypto], None],
        signers: list[int],
    ) -> None:
        known = certificate.round, certificate.signature
        if known in self._good or certificate.round == 0:
            return
        try:
            verify(self._committee, self._chain_id, certificate, self._crypto)
        except InvalidMessage as reason:
            raise Violation("Q2", f"member {member} passes on a bad {reason}") from reason
        weight = self._weight(signers)
        enough = self._is_quorum(weight)
        require(enough, "quorum", "member {} takes weight {} for a quorum", member, weight)
        self._good.add(known)

    # what members say

    def _on_proposal(self, member: int, memory: _Memory, block: Block) -> None:
        known = memory.proposed.setdefault(block.round, block.id)
        require(known == block.id, "P1", "member {} proposed twice in {}", member, block.round)
        leads = self._committee.leader(block.round) == member
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

    def _on_vote(self, member: int, memory: _Memory, vote: Vote) -> None:
        round = vote.round
        require(round not in memory.voted, "V1", "member {} voted twice in round {}", member, round)
        memory.voted[round] = vote.block_id
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
        voters = self._voters.setdefault((round, vote.block_id), set())
        voters.add(member)
        if self._could_be_quorum(voters):
            self._certify(round, vote.block_id)

    def _check_voted_block(self, member: int, vote: Vote, block: Block) -> None:
        leader = self._committee.leader(vote.round)
        require(vote.round == block.round, "V4", "vote of {} names another round", member)
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
        for digest in block.collections:
            require(
                self._has_collection(member, digest),
                "S3",
                "member {} voted in round {} without a collection on disk",
                member,
                vote.round,
            )

    def _check_certificate(self, member: int, qc: QuorumCertificate) -> None:
        known = qc.round == 0 or self._certified.get(qc.round) == qc.block_id
        require(known, "Q2", "member {} believed a QC of round {} nobody made", member, qc.round)

    def _on_commit_vote(self, member: int, memory: _Memory, vote: CommitVote) -> None:
        round = vote.round
        require(
            round not in memory.commit_voted, "L1", "{} commit-voted twice in {}", member, round
        )
        memory.commit_voted[round] = vote.block_id
        record = memory.record
        require(
            record is not None and record.last_commit_vote_round >= round,
            "S1",
            "member {} commit-voted in round {} before saving that",
            member,
            round,
        )
        require(
            self._certified.get(round) == vote.block_id,
            "L1",
            "member {} commit-voted in round {} for a block without a QC",
            member,
            round,
        )
        block = self.blocks.get(vote.block_id)
        require(
            block is None or (block.height, block.round) == (vote.height, round),
            "L1",
            "commit vote of member {} in round {} names a wrong height",
            member,
            round,
        )
        voters = self._commit_voters.setdefault((round, vote.block_id), set())
        voters.add(member)
        if self._could_be_quorum(voters):
            self._final(round, vote.block_id)

    def _on_timeout(self, member: int, memory: _Memory, timeout: Timeout) -> None:
        round, carried = timeout.round, timeout.certificates
        require(
            round not in memory.timed_out,
            "E4",
            "member {} changed its timeout of round {}",
            member,
            round,
        )
        memory.timed_out[round] = timeout.high_qc_round
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

    # certificates

    def _could_be_quorum(self, voters: Iterable[int]) -> bool:
        return self._is_quorum(self._weight(voters) + self._weight(self._faulty))

    def _weight(self, members: Iterable[int]) -> int:
        """Counted again here, like the quorum: the core's own sums may be what is wrong."""
        return sum(self._weights[member] for member in members)

    def _is_quorum(self, weight: int) -> bool:
        return 3 * weight > 2 * sum(self._weights)

    def _certify(self, round: int, block_id: bytes) -> None:
        known = self._certified.setdefault(round, block_id)
        require(known == block_id, "Q1", "two blocks can be certified in round {}", round)
        block = self.blocks.get(block_id)
        if block is None:
            self._waiting.append((round, block_id, False))
            return
        below = [final for final in self._finals if final <= round]
        if below:
            self._require_descent(block, self.blocks[self._finals[max(below)]])
        parent = self.blocks.get(block.parent_id)
        if parent is not None and parent.round + 1 == round and parent.round > 0:
            self._final(parent.round, parent.id)

    def _final(self, round: int, block_id: bytes) -> None:
        if round in self._finals:
            require(self._finals[round] == block_id, "C1", "two final blocks in round {}", round)
            return
        block = self.blocks.get(block_id)
        if block is None:
            self._waiting.append((round, block_id, True))
            return
        self._finals[round] = block_id
        for above, certified in self._certified.items():
            if above >= round and certified in self.blocks:
                self._require_descent(self.blocks[certified], block)

    def _require_descent(self, block: Block, ancestor: Block) -> None:
        walk: Block | None = block
        while walk is not None and walk.height > ancestor.height:
            walk = self.blocks.get(walk.parent_id)
        require(
            walk is None or walk.id == ancestor.id,
            "V2",
            "certified block of round {} does not descend from the final one of round {}",
            block.round,
            ancestor.round,
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
            self._finals.get(block.round) == block.id or self._is_below_final(block),
            "C2",
            "member {} committed height {} which nobody made final",
            member,
            block.height,
        )
        self.canonical.append(block)

    def _is_below_final(self, block: Block) -> bool:
        """Whether some final block stands on top of this one."""
        for final in self._finals.values():
            walk: Block | None = self.blocks[final]
            while walk is not None and walk.height > block.height:
                walk = self.blocks.get(walk.parent_id)
            if walk is not None and walk.id == block.id:
                return True
        return False

    def on_evidence(self, reporter: int, accused: int) -> None:
        """A member holds evidence against another."""
        require(
            accused not in self._members, "Q1", "{} accuses honest member {}", reporter, accused
        )
