"""The proposals of this round and the one before: mine to make, others' to judge and vote for.

Rules P1, P2, V1, V4, V5, V6. What is signed comes from `safety` alone.
"""

from consensus.aggregator import Evidence
from consensus.blocktree import BlockTree
from consensus.committer import Committer
from consensus.interface import Instant, NoticeKind, Payload
from consensus.messages import Proposal
from consensus.ordering import Ordering
from consensus.outbox import Outbox
from consensus.safety import Refusal, Safety
from consensus.types import QuorumCertificate


class Proposals:
    """One proposal a round; `proposed_round` is the last round this member proposed in."""

    def __init__(
        self,
        me: int | None,
        safety: Safety,
        tree: BlockTree,
        ordering: Ordering,
        committer: Committer,
        payload: Payload,
        outbox: Outbox,
    ) -> None:
        self._me = me
        self._safety = safety
        self._tree = tree
        self._ordering = ordering
        self._committer = committer
        self._payload = payload
        self._out = outbox
        self._by_round: dict[int, Proposal] = {}
        self._accused_round = 0
        stored = safety.record.last_proposal
        self.proposed_round = stored.block.round if stored is not None else 0

    def __contains__(self, round: int) -> bool:
        return round in self._by_round

    def parent(self, round: int) -> QuorumCertificate | None:
        """The QC that the proposal of a round stands on."""
        proposal = self._by_round.get(round)
        return proposal.block.qc if proposal is not None else None

    def propose(self, now: Instant) -> None:
        """P1, P2: the block of the round that the record is in."""
        assert self._me is not None
        record = self._safety.record
        self.proposed_round = record.round
        block = self._ordering.next_block(record, self._me, now)
        proposal = self._safety.propose(block)
        if isinstance(proposal, Refusal):
            self._out.refused(block, proposal)
            return
        self._out.ready.needed.append(proposal.block)
        self._out.notice_block(NoticeKind.PROPOSED, proposal.block)
        self._out.send(None, proposal)

    def is_news(self, proposal: Proposal, round: int) -> bool:
        """Whether it is worth looking at for somebody in `round`."""
        block = proposal.block
        if block.round < round - 1 or block.round <= self._accused_round:
            return False
        known = self._by_round.get(block.round)
        return known is None or known.block.id != block.id

    def add(self, proposal: Proposal, round: int) -> bool:
        """Keep a verified proposal; False if it is too old now, or the second of its round (V6)."""
        block = proposal.block
        known = self._by_round.get(block.round)
        if known is not None:
            self._equivocation(known, proposal)
            return False
        if block.round < round - 1:
            return False
        self._by_round[block.round] = proposal
        return True

    def _equivocation(self, known: Proposal, second: Proposal) -> None:
        """V6: two proposals for a round are evidence, once; the second gets no vote."""
        block = second.block
        self._accused_round = block.round
        self._out.evidence(Evidence(block.epoch, block.round, block.author, known, second))

    def keep_blocks(self) -> None:
        """V6: the blocks whose parents are known go into the tree."""
        for proposal in self._by_round.values():
            self._committer.keep_proposed(proposal.block, self._safety.record.high_qc)

    def drop_below(self, round: int) -> None:
        """Q3: forget the proposals of older rounds."""
        self._by_round = {at: kept for at, kept in self._by_round.items() if at >= round}

    def try_vote(self, round: int, now: Instant) -> None:
        """V4, V5: vote for this round's proposal once everything it needs is here."""
        proposal = self._by_round.get(round)
        if self._me is None or proposal is None:
            return
        block = proposal.block
        chain = self._tree.chain(block.parent_id)
        if self._safety.record.last_voted_round >= block.round or chain is None:
            return
        refusal = self._ordering.judge(block, chain, now)
        if refusal is not None:
            self._out.refused(block, refusal)
            self._out.ready.refused.append(block)
        if refusal is not None or block.id not in self._tree:
            return
        self._out.ready.needed.append(block)
        if not all(self._payload.holds(digest) for digest in block.collections):
            return
        vote = self._safety.vote(block)
        if isinstance(vote, Refusal):
            self._out.refused(block, vote)
            return
        self._out.notice_block(NoticeKind.VOTED, block)
        self._out.send(None, vote)
