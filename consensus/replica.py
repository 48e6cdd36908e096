"""The machine: one member of one epoch.

`step(sender, message, now)` and `tick(now)` change state and never perform anything; `ready()`
takes what has to be done, in this order: save, speak, apply. A message to all comes back to its
own sender through `step`, after the save, like everybody's. `deadline` says when to tick next.

Rules live where they can be read in one piece: signing in `safety`, timers in `pacemaker`, counting
in `aggregator`, ancestry in `blocktree`, fetching in `fetcher`. This module connects them.
"""

import itertools

from consensus.aggregator import Aggregator, Evidence
from consensus.blocktree import BlockTree
from consensus.bls import Crypto, Signer
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.fetcher import Fetcher, is_long
from consensus.interface import (
    History,
    Instant,
    Notice,
    NoticeKind,
    Outgoing,
    Payload,
    Ready,
    Recovered,
)
from consensus.messages import (
    BlockReply,
    BlockRequest,
    Certificates,
    CommitVote,
    Message,
    Proposal,
    SyncReply,
    SyncRequest,
    Timeout,
    Vote,
)
from consensus.ordering import Ordering
from consensus.pacemaker import Pacemaker
from consensus.rules import Rules
from consensus.safety import Refusal, Safety, SafetyRecord, newer_tc
from consensus.server import Server
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
)
from consensus.verifier import Verifier


class Replica:
    """One member (or, with `me` None, a follower that signs nothing) of one committee."""

    def __init__(
        self,
        committee: Committee,
        me: int | None,
        chain_id: bytes,
        rules: Rules,
        crypto: Crypto,
        signer: Signer | None,
        payload: Payload,
        history: History,
        recovered: Recovered,
        now: Instant,
    ) -> None:
        assert (me is None) == (signer is None)
        self.committee = committee
        self.me = me
        self._rules = rules
        self._payload = payload
        self._now = now
        record = recovered.record
        self._record_seen = record
        self.safety = (
            Safety(me, chain_id, signer, record) if me is not None and signer is not None else None
        )
        self.tree = BlockTree(recovered.head, recovered.recent, rules.digest_window_heights)
        self.aggregator = Aggregator(committee, chain_id, crypto)
        self.verifier = Verifier(committee, chain_id, rules, crypto)
        self.verifier.remember(record.high_qc)
        self._ordering = Ordering(rules, payload, self.tree)
        self._server = Server(self.tree, history, rules.base_timeout_ms)
        self.pacemaker = Pacemaker(committee, rules, record.round, now.monotonic_ms)
        self.fetcher = Fetcher(committee.size, me, rules.base_timeout_ms // 2)
        self.commit_certificate = recovered.head_proof.certificate if recovered.head_proof else None
        self._pending_commit: CommitCertificate | None = None
        self._proposals: dict[int, Proposal] = {}
        self._accused_round = 0
        self._proposed_round = 0
        self._repeated_round = 0
        self._answered: dict[int, int] = {}
        self._last_refused = b""
        self._alarmed = b""
        self._ready = Ready()
        for block in sorted(recovered.uncommitted, key=lambda block: block.height):
            self.tree.add(block)
        self._resume()

    # ------------------------------------------------------------------ what others may ask

    @property
    def record(self) -> SafetyRecord:
        """The newest certificates and everything signed so far."""
        return self.safety.record if self.safety else self._record_seen

    @property
    def round(self) -> int:
        """The round this member is in."""
        return self.pacemaker.round

    @property
    def head(self) -> Block:
        """The committed head (of headers; the log may still wait for collections)."""
        return self.tree.head

    @property
    def leader(self) -> int:
        """The leader of this round."""
        return self.committee.leader(self.round)

    @property
    def deadline(self) -> int:
        """When to tick next, in monotonic milliseconds."""
        times = [self.pacemaker.deadline]
        if self._repeated_round < self.round and self.pacemaker.working:
            times.append(self.pacemaker.halfway)
        propose_at = self._propose_at()
        if propose_at is not None:
            times.append(propose_at)
        wanted_in = self._ordering.wanted_in_ms(self._now)
        if wanted_in is not None and not self.pacemaker.working:
            times.append(self._now.monotonic_ms + wanted_in)
        fetch_at = self.fetcher.deadline
        if fetch_at is not None:
            times.append(fetch_at)
        return max(min(times), self._now.monotonic_ms)

    def ready(self) -> Ready:
        """Take what has to be done now."""
        if self.safety and self.safety.changed:
            self._ready.record = self.safety.record
            self.safety.changed = False
        for evidence in self.aggregator.take_evidence():
            self._report_evidence(evidence)
        taken, self._ready = self._ready, Ready()
        return taken

    # ------------------------------------------------------------------ events

    def step(self, sender: int, message: Message, now: Instant) -> None:
        """A message from a member. `InvalidMessage` is the sender's fault.

        What was verified before the fault was found is kept: it is true whoever sent it.
        """
        self._now = now
        try:
            self._dispatch(sender, message)
        finally:
            self._advance()

    def _dispatch(self, sender: int, message: Message) -> None:
        match message:
            case Proposal():
                self._on_proposal(sender, message)
            case Vote():
                self._on_vote(sender, message)
            case CommitVote():
                self._on_commit_vote(sender, message)
            case Timeout():
                self._on_timeout(sender, message)
            case Certificates():
                self._learn_certificates(message)
            case BlockRequest():
                self._send_reply(sender, self._server.blocks(sender, message, self._clock))
            case BlockReply():
                self._on_block_reply(message)
            case SyncRequest():
                self._send_reply(sender, self._server.committed(sender, message, self._clock))
            case SyncReply():
                self._on_sync_reply(sender, message)

    def tick(self, now: Instant) -> None:
        """Time has passed: timers, proposals, requests to repeat."""
        self._now = now
        if self.pacemaker.expired(self._clock):
            self._time_out()
        halfway = self.pacemaker.working and self._clock >= self.pacemaker.halfway
        if halfway and self._repeated_round < self.round:
            self._repeated_round = self.round
            self._ready.offer_to = self.leader
            self._repeat(None)
        self._try_vote()
        self._advance()

    def collections_arrived(self, now: Instant) -> None:
        """The payload holds more than before: vote or propose if that was what was missing."""
        self._now = now
        self._try_vote()
        self._advance()

    def peer_up(self, member: int, now: Instant) -> None:
        """E4: a link came up; what was sent before it did is lost, so say again where I am."""
        self._now = now
        self._send(member, self._certificates())
        timeout = self.record.last_timeout
        if timeout is not None and timeout.round == self.round:
            self._send(member, timeout)
        self._repeat(member)

    @property
    def _clock(self) -> int:
        return self._now.monotonic_ms

    def _advance(self) -> None:
        """After every event: propose if it is time, ask for what is missing now."""
        if self._has_work():
            self.pacemaker.work_arrived(self._clock)
        else:
            self.pacemaker.rest()
        propose_at = self._propose_at()
        if propose_at is not None and self._clock >= propose_at:
            self._propose()
        self._fetch_missing()

    def _has_work(self) -> bool:
        """T4 and P2 mean the same thing by work."""
        return (
            self.round in self._proposals
            or self.record.high_qc.round > self.head.round
            or self._ordering.wanted_in_ms(self._now) == 0
            or self._payload.has_work()
        )

    def _repeat(self, to: int | None) -> None:
        """V1, P1: say again what stands on disk about what is open; it may have been lost."""
        record = self.record
        if record.last_proposal is not None and record.last_proposal.block.round == self.round:
            self._send(to, record.last_proposal)
        if record.last_vote is not None and record.last_vote.round == self.round:
            self._send(to, record.last_vote)
        commit_vote = record.last_commit_vote
        if commit_vote is not None and commit_vote.round > self.head.round:
            self._send(to, commit_vote)

    def _resume(self) -> None:
        """After a restart: re-send what stands on disk for this round, sign nothing it forbids."""
        if self.record.highest_timeout_round == self.round:
            self.pacemaker.timed_out = True
            self.pacemaker.deadline = self._clock
        proposal = self.record.last_proposal
        if proposal is not None and proposal.block.round == self.round:
            self._proposed_round = self.round
        self._repeat(None)
        self._after_blocks()
        self._advance()

    # ------------------------------------------------------------------ proposals and votes

    def _propose_at(self) -> int | None:
        """P2: when to propose in this round; None when that is not mine to do, or is done."""
        if self.leader != self.me or self._proposed_round >= self.round or self.safety is None:
            return None
        return self._ordering.propose_at(self.record, self.pacemaker.entered_at, self._now)

    def _propose(self) -> None:
        assert self.safety is not None
        assert self.me is not None
        self._proposed_round = self.round
        block = self._ordering.next_block(self.record, self.me, self._now)
        proposal = self.safety.propose(block)
        if isinstance(proposal, Refusal):
            self._refused(block, proposal)
            return
        self._notice(NoticeKind.PROPOSED, proposal.block)
        self._send(None, proposal)

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        block = proposal.block
        self.verifier.check_epoch(block.epoch)
        if block.round < self.round:
            self._answer(sender)
        known = self._proposals.get(block.round)
        if block.round < self.round - 1 or block.round <= self._accused_round:
            return
        if known is not None and known.block.id == block.id:
            return
        self.verifier.check_proposal(proposal)
        self._learn_qc(block.qc)
        if block.tc is not None:
            self._learn_tc(block.tc)
        if known is not None:
            self._equivocation(known, proposal)
        elif block.round >= self.round - 1:
            self._proposals[block.round] = proposal
            self._after_blocks()

    def _equivocation(self, known: Proposal, second: Proposal) -> None:
        """V6: two proposals for a round are evidence, once; the second gets no vote."""
        block = second.block
        self._accused_round = block.round
        self._report_evidence(Evidence(block.epoch, block.round, block.author, known, second))

    def _try_vote(self) -> None:
        """V4, V5: vote for this round's proposal once everything it needs is here."""
        proposal = self._proposals.get(self.round)
        if self.safety is None or proposal is None:
            return
        block = proposal.block
        chain = self.tree.chain(block.parent_id)
        if self.record.last_voted_round >= block.round or chain is None:
            return
        refusal = self._ordering.judge(block, chain, self._now)
        if refusal is not None:
            self._refused(block, refusal)
        if refusal is not None or block.id not in self.tree:
            return
        missing = [digest for digest in block.collections if not self._payload.holds(digest)]
        if missing:
            self._ready.want += [(digest, (block.author,)) for digest in missing]
            return
        vote = self.safety.vote(block)
        if isinstance(vote, Refusal):
            self._refused(block, vote)
            return
        self._notice(NoticeKind.VOTED, block)
        self._send(None, vote)

    def _on_vote(self, sender: int, vote: Vote) -> None:
        self.verifier.check_epoch(vote.epoch)
        if vote.round < self.round - 1:
            self._answer(sender)
        elif self._in_window(sender, vote.round):
            qc = self.aggregator.add_vote(sender, vote)
            if qc is not None:
                self.verifier.remember(qc)
                self._observe_qc(qc)

    def _on_commit_vote(self, sender: int, vote: CommitVote) -> None:
        self.verifier.check_epoch(vote.epoch)
        if vote.round > self.head.round and self._in_window(sender, vote.round):
            certificate = self.aggregator.add_commit_vote(sender, vote)
            if certificate is not None:
                self._observe_commit(certificate)

    def _in_window(self, sender: int, round: int) -> bool:
        """Q3: only rounds near mine are stored; members far ahead mean that I am behind."""
        if round <= self.round + self._rules.round_window:
            return True
        if self.fetcher.ahead(sender, self.committee.weight) >= self.committee.echo_weight:
            self._start_sync("members are beyond my window")
        return False

    # ------------------------------------------------------------------ certificates

    def _certificates(self) -> Certificates:
        return Certificates(self.record.high_qc, newer_tc(self.record), self.commit_certificate)

    def _answer(self, sender: int) -> None:
        """E5: tell a member that is behind where I am, at most four times a base period."""
        if sender == self.me or self._clock < self._answered.get(sender, self._clock):
            return
        self._answered[sender] = self._clock + self._rules.base_timeout_ms // 4
        self._send(sender, self._certificates())

    def _learn_certificates(self, message: Certificates) -> None:
        if message.high_qc.round > min(self.record.high_qc.round, self.head.round):
            self._learn_qc(message.high_qc)
        if message.high_tc is not None and message.high_tc.round >= self.round:
            self._learn_tc(message.high_tc)
        commit = message.commit
        if commit is not None and commit.height > self.head.height:
            self._learn_commit(commit)

    def _learn_qc(self, qc: QuorumCertificate) -> QuorumCertificate:
        known = self.verifier.believe_qc(qc)
        self._observe_qc(known)
        return known

    def _learn_tc(self, tc: TimeoutCertificate) -> None:
        self.verifier.believe_tc(tc)
        self._observe_tc(tc)

    def _learn_commit(self, certificate: CommitCertificate) -> None:
        if certificate != self._pending_commit:
            self.verifier.believe_commit(certificate)
            self._observe_commit(certificate)

    def _observe_qc(self, qc: QuorumCertificate) -> None:
        """L1: lock first; then the round, the two-chain rule and the commit vote."""
        if qc.round > self.record.high_qc.round:
            self._update_high(qc=qc)
            self._enter(qc.round + 1, by_timeout=False)
        self._try_two_chain(qc)
        if qc == self.record.high_qc:
            self._try_commit_vote()

    def _observe_tc(self, tc: TimeoutCertificate) -> None:
        self._observe_qc(tc.high_qc)
        known = self.record.high_tc
        if known is None or tc.round > known.round:
            self._update_high(tc=tc)
            self._enter(tc.round + 1, by_timeout=True)

    def _update_high(
        self, qc: QuorumCertificate | None = None, tc: TimeoutCertificate | None = None
    ) -> None:
        if self.safety is not None:
            if qc is not None:
                self.safety.observe_qc(qc)
            if tc is not None:
                self.safety.observe_tc(tc)
            return
        seen = self._record_seen
        self._record_seen = SafetyRecord(seen.epoch, qc or seen.high_qc, tc or seen.high_tc)

    def _enter(self, round: int, by_timeout: bool) -> None:
        """E1: a QC or TC of the round before has been observed."""
        if round <= self.round:
            return
        self.pacemaker.enter(round, by_timeout, self._clock)
        why = "timeout certificate" if by_timeout else "quorum certificate"
        notice = Notice(NoticeKind.ROUND_ENTERED, round, member=self.leader, detail=why)
        self._ready.notices.append(notice)
        self._drop_old_ballots()
        self._proposals = {at: p for at, p in self._proposals.items() if at >= round - 1}
        self.verifier.forget_below(round - 2 * self._rules.round_window)
        self.verifier.remember(self.record.high_qc)

    def _drop_old_ballots(self) -> None:
        oldest = self.round - self._rules.round_window
        self.aggregator.drop_below(self.round - 1, max(self.head.round + 1, oldest))

    # ------------------------------------------------------------------ committing

    def _try_commit_vote(self) -> None:
        """L1: commit-vote for the newest certified block once its header chain is known."""
        qc = self.record.high_qc
        chain = self.tree.chain(qc.block_id)
        if self.safety is None or not chain:
            return
        vote = self.safety.commit_vote(chain[-1], qc)
        if not isinstance(vote, Refusal):
            self._notice(NoticeKind.COMMIT_VOTED, chain[-1])
            self._send(None, vote)

    def _try_two_chain(self, qc: QuorumCertificate) -> None:
        """C2: a QC for a child one round up commits the parent."""
        child = self.tree.get(qc.block_id)
        if child is None or child.height <= self.head.height + 1:
            return
        parent = self.tree.get(child.parent_id)
        if parent is None or parent.round + 1 != child.round:
            return
        if self.tree.chain(parent.id):
            self._commit(parent.id, CommitProof(None, child, qc))

    def _observe_commit(self, certificate: CommitCertificate) -> None:
        """C1, C3: commit the block and its ancestors, or remember it until they are here."""
        if certificate.height <= self.head.height:
            return
        chain = self.tree.chain(certificate.block_id)
        if chain is not None:
            self._notice(NoticeKind.COMMIT_CERTIFIED, chain[-1])
            self._commit(certificate.block_id, CommitProof(certificate, None, None))
        elif self._pending_commit is None or certificate.height > self._pending_commit.height:
            self._pending_commit = certificate

    def _commit(self, block_id: bytes, proof: CommitProof) -> None:
        blocks = self.tree.commit(block_id)
        if proof.certificate is not None:
            self.commit_certificate = proof.certificate
        self._ready.committed += [(block, None) for block in blocks[:-1]]
        self._ready.committed.append((blocks[-1], proof))
        for block in blocks:
            self._notice(NoticeKind.COMMITTED, block)
        pending = self._pending_commit
        if pending is not None and pending.height <= self.head.height:
            self._pending_commit = None
        self.pacemaker.committed()
        self._drop_old_ballots()

    # ------------------------------------------------------------------ timeouts

    def _time_out(self) -> None:
        """T1, T2, E4: sign a timeout for this round once, then repeat it every base period."""
        self.pacemaker.mark_timed_out(self._clock)
        if self.safety is None:
            return
        first = self.record.highest_timeout_round < self.round
        timeout = self.safety.timeout(self.round, self.commit_certificate)
        if isinstance(timeout, Refusal):
            detail = f"{timeout.rule}: {timeout.reason}"
            self._ready.notices.append(Notice(NoticeKind.REFUSED, self.round, detail=detail))
            return
        self._send(None, timeout)
        if first:
            self._ready.notices.append(Notice(NoticeKind.TIMED_OUT, self.round, member=self.leader))
            return
        self._repeat(None)
        if self._certificates() != timeout.certificates:
            self._send(None, self._certificates())

    def _on_timeout(self, sender: int, timeout: Timeout) -> None:
        self.verifier.check_epoch(timeout.epoch)
        self.verifier.check_timeout(timeout)
        carried = timeout.certificates
        self._learn_certificates(carried)
        if timeout.round < self.round or self._knows_newer_commit(carried.commit):
            self._answer(sender)
        if timeout.round < self.round or not self._in_window(sender, timeout.round):
            return
        high_qc = self._learn_qc(carried.high_qc)
        tc = self.aggregator.add_timeout(sender, timeout, high_qc)
        if tc is not None:
            self._ready.notices.append(Notice(NoticeKind.TIMEOUT_CERTIFIED, tc.round))
            self._observe_tc(tc)
        elif timeout.round == self.round and not self.pacemaker.timed_out and self._echoes():
            self._time_out()

    def _knows_newer_commit(self, theirs: CommitCertificate | None) -> bool:
        mine = self.commit_certificate
        return mine is not None and (theirs is None or theirs.height < mine.height)

    def _echoes(self) -> bool:
        """E3: enough members gave up on my round that an honest one must be among them."""
        return self.aggregator.timeouts.weight(self.round) >= self.committee.echo_weight

    # ------------------------------------------------------------------ fetching

    def _keep(self, block: Block) -> None:
        """Hold a block above the head and have it saved."""
        if not self.tree.has_room():
            self.tree.keep_only(self.record.high_qc.block_id)
        if self.tree.add(block):
            self._ready.blocks.append(block)

    def _after_blocks(self) -> None:
        """More blocks are known: try again what waited for them."""
        for round in sorted(self._proposals):
            block = self._proposals[round].block
            parent = self.tree.get(block.parent_id)
            if parent is not None and block.height == parent.height + 1:
                self._keep(block)
        if self._pending_commit is not None:
            self._observe_commit(self._pending_commit)
        self._try_two_chain(self.record.high_qc)
        self._try_commit_vote()
        self._try_vote()

    def _certified_above(self) -> list[QuorumCertificate | CommitCertificate]:
        """C3: the certificates whose blocks stand, or should stand, above my head."""
        found: list[QuorumCertificate | CommitCertificate] = []
        if self._pending_commit is not None:
            found.append(self._pending_commit)
        proposal = self._proposals.get(self.round)
        parent = [proposal.block.qc] if proposal is not None else []
        return found + [qc for qc in (self.record.high_qc, *parent) if qc.round > self.head.round]

    def _fetch_missing(self) -> None:
        """Y1, Y2: ask for the blocks that stand between my head and what is certified."""
        missing: dict[bytes, bytes] = {}
        for certificate in self._certified_above():
            known = certificate.height if isinstance(certificate, CommitCertificate) else None
            gap = self.tree.gap(certificate.block_id, known)
            if gap is None:
                continue
            if gap.height is not None and gap.height <= self.head.height:
                self._alarm(certificate.block_id)
                continue
            if is_long(gap.height, self.head.height):
                self._start_sync("the chain of a certified block is longer than one reply")
            missing[gap.block_id] = certificate.signers
        self.fetcher.want(missing, self._clock)
        for to, request in self.fetcher.requests(self._clock, self.head.height):
            self._send(to, request)

    def _start_sync(self, why: str) -> None:
        if self.fetcher.start_sync(self._clock):
            notice = Notice(NoticeKind.SYNCING, self.round, self.head.height, detail=why)
            self._ready.notices.append(notice)

    def _on_block_reply(self, reply: BlockReply) -> None:
        """Y2: believed by hash from the block that was asked for; what does not link is dropped."""
        blocks = reply.blocks
        if not blocks or not self.fetcher.is_wanted(blocks[0].id):
            return
        for block, parent in itertools.pairwise(blocks):
            if block.parent_id != parent.id or block.height != parent.height + 1:
                raise InvalidMessage("Y2: the blocks of a reply are no chain")
        for block in reversed(blocks):
            self._keep(block)
        self._after_blocks()

    def _on_sync_reply(self, sender: int, reply: SyncReply) -> None:
        """Y1, Y2: a range on my head and a proof; a late answer is as good as a quick one."""
        if not self.fetcher.syncing:
            return
        blocks = [block for block in reply.blocks if block.height > self.head.height]
        if reply.proof is None or not blocks:
            self.fetcher.sync_fruitless(sender, self._clock)
            return
        try:
            self.verifier.believe_range(self.head, blocks, reply.proof)
        except InvalidMessage:
            self.fetcher.sync_fruitless(sender, self._clock)
            raise
        if not self.tree.has_room(len(blocks)):
            self.tree.clear()
        for block in blocks:
            self._keep(block)
        self._commit(blocks[-1].id, reply.proof)
        self.fetcher.sync_progress(len(blocks), self._clock)
        is_close = not is_long(reply.head, self.head.height)
        if is_close and self.record.high_qc.round >= self.head.round:
            self.fetcher.end_sync()
        self._after_blocks()

    # ------------------------------------------------------------------ out

    def _send(self, to: int | None, message: Message) -> None:
        self._ready.messages.append(Outgoing(to, message))

    def _send_reply(self, to: int, reply: Message | None) -> None:
        if reply is not None:
            self._send(to, reply)

    def _notice(self, kind: NoticeKind, block: Block, detail: str = "") -> None:
        self._ready.notices.append(Notice(kind, block.round, block.height, block.author, detail))

    def _refused(self, block: Block, refusal: Refusal) -> None:
        """Said once for a block, however often it is judged."""
        if block.id != self._last_refused:
            self._last_refused = block.id
            self._notice(NoticeKind.REFUSED, block, f"{refusal.rule}: {refusal.reason}")

    def _alarm(self, block_id: bytes) -> None:
        """V5: more members are faulty than any protocol bears; said once for a block."""
        if block_id != self._alarmed:
            self._alarmed = block_id
            detail = "V5: a certified block does not extend the committed head"
            self._ready.notices.append(Notice(NoticeKind.ALARM, self.round, detail=detail))

    def _report_evidence(self, evidence: Evidence) -> None:
        self._ready.evidence.append(evidence)
        self._ready.notices.append(
            Notice(NoticeKind.EVIDENCE, evidence.round, member=evidence.member)
        )
