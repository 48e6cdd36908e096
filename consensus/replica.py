"""The machine: one member of one epoch.

`step(sender, message, now)` and `tick(now)` change state and never perform anything; `ready()`
takes what has to be done, in this order: save, speak, apply. A message to all comes back to its
own sender through `step`, after the save, like everybody's. `deadline` says when to tick next.

Rules live where they can be read in one piece. This module connects them, in a message's order:

    verifier    may it be believed         aggregator  ballots into certificates
    ordering    what a good block is       proposals   this round's: made, judged, voted for
    safety      what may be signed; the only key    epochs    where this one ends
    committer   what is final, in order    blocktree   ancestors, and what they ordered
    catchup     what is missing            fetcher     whom to ask, when      server  who asks me
    pacemaker   which round, until when    reminder    what to say again, to whom
"""

from consensus.aggregator import Aggregator
from consensus.blocktree import BlockTree
from consensus.bls import Crypto, Signer
from consensus.catchup import Catchup
from consensus.committee import Committee
from consensus.committer import Committer
from consensus.epochs import EpochEnd
from consensus.fetcher import Fetcher
from consensus.interface import History, Instant, NoticeKind, Payload, Ready, Recovered
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
from consensus.outbox import Outbox
from consensus.pacemaker import Pacemaker
from consensus.proposals import Proposals
from consensus.reminder import Reminder
from consensus.rules import Rules
from consensus.safety import Follower, Refusal, Safety, SafetyRecord
from consensus.server import Server
from consensus.types import (
    Block,
    CommitCertificate,
    QuorumCertificate,
    TimeoutCertificate,
    genesis_qc,
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
        self._out = Outbox()
        record, proof = recovered.record, recovered.head_proof
        root = recovered.root or genesis_qc(chain_id)
        self.safety: Safety = Follower(record)
        if me is not None and signer is not None:
            self.safety = Safety(me, chain_id, signer, record)
        self.pacemaker = Pacemaker(committee, rules, record.round, now.monotonic_ms)
        self.aggregator = Aggregator(committee, chain_id, crypto)
        self.verifier = Verifier(committee, chain_id, rules, crypto, root)
        self.verifier.remember(record.high_qc)
        window = rules.digest_window_heights
        self.tree = BlockTree(recovered.head, recovered.recent, window)
        self.epoch_end = EpochEnd(committee, window, recovered.recent, recovered.head)
        for block in sorted(recovered.uncommitted, key=lambda block: block.height):
            self.tree.add(block)
        certificate = proof.certificate if proof is not None else None
        if certificate is not None and certificate.epoch != committee.epoch:
            certificate = None
        self.committer = Committer(self.tree, self._out, self.epoch_end, certificate)
        self._reminder = Reminder(me, self.safety, self.committer, self._out, rules)
        self.fetcher = Fetcher(committee.size, me, rules.base_timeout_ms // 2)
        self.catchup = Catchup(
            self.tree,
            self.committer,
            self.fetcher,
            self.verifier,
            self._out,
            self.epoch_end,
            rules.base_timeout_ms // 4,
        )
        self._server = Server(self.tree, history, rules.base_timeout_ms)
        self._ordering = Ordering(rules, payload, self.tree, self.epoch_end, me)
        self._proposals = Proposals(
            me, self.safety, self.tree, self._ordering, self.committer, payload, self._out
        )
        self._repeated_round = 0
        self._settled = (self.head.height, self.round)
        self._resume()

    # ------------------------------------------------------------------ what others may ask

    @property
    def record(self) -> SafetyRecord:
        """The newest certificates and everything signed so far."""
        return self.safety.record

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
    def ended(self) -> CommitCertificate | None:
        """Ep3: what ended the epoch: nothing is signed any more, and nothing but requests heard."""
        return self.committer.ended

    @property
    def deadline(self) -> int:
        """When to tick next, in monotonic milliseconds."""
        if self.ended is not None:
            return self._clock + self._rules.idle_heartbeat_ms
        if self.me is None:
            asks_at = self.fetcher.deadline
            follows_at = self.catchup.follow_at
            return max(self._clock, follows_at if asks_at is None else min(asks_at, follows_at))
        working = self.pacemaker.working
        wanted_in = self._ordering.wanted_in_ms(self._now)
        times = (
            self.pacemaker.deadline,
            self.pacemaker.halfway if working and self._repeated_round < self.round else None,
            self._propose_at(),
            self._clock + wanted_in if wanted_in is not None and not working else None,
            self.fetcher.deadline,
        )
        return max(self._clock, min(time for time in times if time is not None))

    def ready(self) -> Ready:
        """Take what has to be done now."""
        for evidence in self.aggregator.take_evidence():
            self._out.evidence(evidence)
        taken = self._out.take()
        if self.safety.changed:
            taken.record = self.safety.record
            self.safety.changed = False
        return taken

    # ------------------------------------------------------------------ events

    def step(self, sender: int, message: Message, now: Instant) -> None:
        """A message from a member. `InvalidMessage` is its fault; what was verified is kept."""
        self._now = now
        if self.ended is not None and not isinstance(message, BlockRequest | SyncRequest):
            return
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
                self._reminder.answer_older(sender, message, self._clock)
            case BlockRequest():
                self._send_reply(sender, self._server.blocks(sender, message, self._clock))
            case BlockReply():
                self.catchup.on_block_reply(message, self.record.high_qc)
                self._after_blocks()
            case SyncRequest():
                self._send_reply(sender, self._server.committed(sender, message, self._clock))
            case SyncReply():
                self.catchup.on_sync_reply(sender, message, self.record.high_qc, self._clock)
                self._after_blocks()

    def tick(self, now: Instant) -> None:
        """Time has passed: timers, proposals, requests to repeat."""
        self._now = now
        if self.ended is not None:
            return
        if self.me is None:
            self.catchup.follow(self._clock)
        elif self.pacemaker.expired(self._clock):
            self._time_out()
        halfway = self.pacemaker.working and self._clock >= self.pacemaker.halfway
        if halfway and self._repeated_round < self.round:
            self._repeated_round = self.round
            self._out.ready.offer_to = self.leader
            self._reminder.repeat(None, self.head)
        self._proposals.try_vote(self.round, self._now)
        self._advance()

    def collections_arrived(self, now: Instant) -> None:
        """The payload holds more than before: vote or propose if that was what was missing."""
        self._now = now
        if self.ended is not None:
            return
        self._proposals.try_vote(self.round, self._now)
        self._advance()

    def peer_up(self, member: int, now: Instant) -> None:
        """E4: a link came up; what was sent before it did is lost, so say again where I am."""
        self._now = now
        self._reminder.greet(member, self.head)

    def learn_end(self, certificate: CommitCertificate, now: Instant) -> None:
        """Ep4: somebody in a later epoch proves how this one ended; the blocks may be missing."""
        self._now = now
        self.verifier.believe_commit(certificate)
        self.committer.observe_commit(certificate)
        self._advance()

    @property
    def _clock(self) -> int:
        return self._now.monotonic_ms

    def _advance(self) -> None:
        """After every event: propose if it is time, ask for what is missing now."""
        self._settle()
        if self.ended is not None:
            return
        if self._has_work():
            self.pacemaker.work_arrived(self._clock)
        else:
            self.pacemaker.rest()
        propose_at = self._propose_at()
        if propose_at is not None and self._clock >= propose_at:
            self._proposals.propose(self._now)
        parent = self._proposals.parent(self.round)
        self.catchup.fetch_missing(self.record.high_qc, parent, self.round, self._clock)

    def _settle(self) -> None:
        """T3, Q3: what a commit or a new round makes superfluous."""
        before, self._settled = self._settled, (self.head.height, self.round)
        if self.head.height > before[0]:
            self.pacemaker.committed()
        if self._settled != before:
            oldest = self.round - self._rules.round_window
            self.aggregator.drop_below(self.round - 1, max(self.head.round + 1, oldest))

    def _has_work(self) -> bool:
        """T4 and P2 mean the same thing by work."""
        return (
            self.round in self._proposals
            or self.record.high_qc.round > self.head.round
            or self.epoch_end.last is not None
            or self._ordering.change_is_pending()
            or self._ordering.wanted_in_ms(self._now) == 0
            or self._payload.has_work()
        )

    def _resume(self) -> None:
        """After a restart: re-send what stands on disk for this round, sign nothing it forbids."""
        if self.record.highest_timeout_round == self.round:
            self.pacemaker.timed_out = True
            self.pacemaker.deadline = self._clock
        self._reminder.repeat(None, self.head)
        self._after_blocks()
        self._advance()

    # ------------------------------------------------------------------ proposals and votes

    def _propose_at(self) -> int | None:
        """P2: when to propose in this round; None when that is not mine to do, or is done."""
        if self.leader != self.me or self._proposals.proposed_round >= self.round:
            return None
        return self._ordering.propose_at(self.record, self.pacemaker.entered_at, self._now)

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        block = proposal.block
        self.verifier.check_epoch(block.epoch)
        if block.round < self.round:
            self._reminder.answer(sender, self._clock)
        if not self._proposals.is_news(proposal, self.round):
            return
        self.verifier.check_proposal(proposal)
        self._learn_qc(block.qc)
        if block.tc is not None:
            self._learn_tc(block.tc)
        if self._proposals.add(proposal, self.round):
            self._after_blocks()

    def _on_vote(self, sender: int, vote: Vote) -> None:
        self.verifier.check_epoch(vote.epoch)
        if vote.round < self.round - 1:
            self._reminder.answer(sender, self._clock)
        elif self._in_window(sender, vote.round):
            qc = self.aggregator.add_vote(sender, vote)
            if qc is not None:
                self.verifier.remember(qc)
                self._observe_qc(qc)

    def _on_commit_vote(self, sender: int, vote: CommitVote) -> None:
        self.verifier.check_epoch(vote.epoch)
        oldest = self.round - self._rules.round_window
        if vote.round > max(self.head.round, oldest - 1) and self._in_window(sender, vote.round):
            certificate = self.aggregator.add_commit_vote(sender, vote)
            if certificate is not None:
                self.committer.observe_commit(certificate)

    def _in_window(self, sender: int, round: int) -> bool:
        """Q3: only rounds near mine are stored; members far ahead mean that I am behind."""
        if round <= self.round + self._rules.round_window:
            return True
        if self.fetcher.ahead(sender, self.committee.weight) >= self.committee.echo_weight:
            self.catchup.start_sync("members are beyond my window", self.round, self._clock)
        return False

    # ------------------------------------------------------------------ certificates

    def _learn_certificates(self, message: Certificates) -> None:
        if message.high_qc.round > min(self.record.high_qc.round, self.head.round):
            self._learn_qc(message.high_qc)
        if message.high_tc is not None and message.high_tc.round >= self.round:
            self._learn_tc(message.high_tc)
        if message.commit is not None and self.committer.is_news(message.commit):
            self.verifier.believe_commit(message.commit)
            self.committer.observe_commit(message.commit)

    def _learn_qc(self, qc: QuorumCertificate) -> QuorumCertificate:
        known = self.verifier.believe_qc(qc)
        self._observe_qc(known)
        return known

    def _learn_tc(self, tc: TimeoutCertificate) -> None:
        self.verifier.believe_tc(tc)
        self._observe_tc(tc)

    def _observe_qc(self, qc: QuorumCertificate) -> None:
        """L1: lock first; then the round, the two-chain rule and the commit vote."""
        if qc.round > self.record.high_qc.round:
            self.safety.observe_qc(qc)
            self._enter(qc.round + 1, by_timeout=False)
        self.committer.observe_qc(qc)
        if qc == self.record.high_qc:
            self._try_commit_vote()

    def _observe_tc(self, tc: TimeoutCertificate) -> None:
        self._observe_qc(tc.high_qc)
        known = self.record.high_tc
        if known is None or tc.round > known.round:
            self.safety.observe_tc(tc)
            self._enter(tc.round + 1, by_timeout=True)

    def _enter(self, round: int, by_timeout: bool) -> None:
        """E1: a QC or TC of the round before has been observed."""
        if round <= self.round:
            return
        self.pacemaker.enter(round, by_timeout, self._clock)
        why = "timeout certificate" if by_timeout else "quorum certificate"
        self._out.notice(NoticeKind.ROUND_ENTERED, round, member=self.leader, detail=why)
        self._proposals.drop_below(round - 1)
        self.verifier.forget_below(round - 2 * self._rules.round_window)
        self.verifier.remember(self.record.high_qc)

    def _try_commit_vote(self) -> None:
        """L1: commit-vote for the newest certified block once its header chain is known."""
        qc = self.record.high_qc
        chain = self.tree.chain(qc.block_id)
        if not chain or self.ended is not None:
            return
        vote = self.safety.commit_vote(chain[-1], qc, self.epoch_end.on(chain))
        if not isinstance(vote, Refusal):
            self._out.notice_block(NoticeKind.COMMIT_VOTED, chain[-1])
            self._out.send(None, vote)

    # ------------------------------------------------------------------ timeouts

    def _time_out(self) -> None:
        """T1, T2, E4, T4: sign a timeout once, repeat it every base period; tell what I hold."""
        self.pacemaker.mark_timed_out(self._clock)
        self._out.ready.offer_all = True
        first = self.record.highest_timeout_round < self.round
        timeout = self.safety.timeout(self.round, self.committer.certificate)
        if isinstance(timeout, Refusal):
            return
        self._out.send(None, timeout)
        if first:
            self._out.notice(NoticeKind.TIMED_OUT, self.round, member=self.leader)
            return
        self._reminder.repeat(None, self.head)
        if self._reminder.certificates() != timeout.certificates:
            self._out.send(None, self._reminder.certificates())

    def _on_timeout(self, sender: int, timeout: Timeout) -> None:
        self.verifier.check_epoch(timeout.epoch)
        self.verifier.check_timeout(timeout)
        carried = timeout.certificates
        self._learn_certificates(carried)
        if timeout.round < self.round or self._reminder.knows_newer_commit(carried.commit):
            self._reminder.answer(sender, self._clock)
        if timeout.round < self.round or not self._in_window(sender, timeout.round):
            return
        high_qc = self._learn_qc(carried.high_qc)
        tc = self.aggregator.add_timeout(sender, timeout, high_qc)
        if tc is not None:
            self._out.notice(NoticeKind.TIMEOUT_CERTIFIED, tc.round)
            self._observe_tc(tc)
        elif timeout.round == self.round and not self.pacemaker.timed_out and self._echoes():
            self._time_out()

    def _echoes(self) -> bool:
        """E3: enough members gave up on my round that an honest one must be among them."""
        return self.aggregator.timeouts.weight(self.round) >= self.committee.echo_weight

    def _after_blocks(self) -> None:
        """More blocks are known: try again what waited for them."""
        self._proposals.keep_blocks()
        self.committer.retry()
        self.committer.observe_qc(self.record.high_qc)
        self._try_commit_vote()
        self._proposals.try_vote(self.round, self._now)

    def _send_reply(self, to: int, reply: Message | None) -> None:
        if reply is not None:
            self._out.send(to, reply)
