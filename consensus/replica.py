"""The machine: one member of one epoch.

`step(sender, message, now)` and `tick(now)` change state and never perform anything; `ready()`
takes what has to be done, in this order: save, speak, apply. A message to all comes back to its
own sender through `step`, after the save, like everybody's. `deadline` says when to tick next.

Rules live where they can be read in one piece: signing in `safety`, timers in `pacemaker`, counting
in `aggregator`, ancestry in `blocktree`, fetching in `fetcher`. This module connects them.
"""

import itertools

from consensus import lightclient
from consensus.aggregator import Aggregator, Evidence
from consensus.blocktree import BlockTree
from consensus.bls import Crypto, Signer
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.fetcher import Fetcher
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
from consensus.pacemaker import Pacemaker
from consensus.rules import Rules
from consensus.safety import (
    Refusal,
    Safety,
    SafetyRecord,
    follows_certificates,
    newer_tc,
)
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
)


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
        self._chain_id = chain_id
        self._rules = rules
        self._crypto = crypto
        self._payload = payload
        self._history = history
        self._now = now
        record = recovered.record
        self._record_seen = record
        self.safety = (
            Safety(me, chain_id, signer, record) if me is not None and signer is not None else None
        )
        self.tree = BlockTree(recovered.head, recovered.recent, rules.digest_window_heights)
        self.aggregator = Aggregator(committee, chain_id, crypto)
        self.pacemaker = Pacemaker(committee, rules, record.round, now.monotonic_ms)
        self.fetcher = Fetcher(committee.size, me, rules.base_timeout_ms // 2)
        self.commit_certificate = recovered.head_proof.certificate if recovered.head_proof else None
        self._pending_commit: CommitCertificate | None = None
        self._proposals: dict[int, Proposal] = {}
        self._proposed_round = 0
        self._offered_round = 0
        self._answered: dict[int, int] = {}
        self._verified: dict[tuple[int, bytes], QuorumCertificate] = {}
        self._remember_verified(record.high_qc)
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
        if self._offered_round < self.round and self.pacemaker.working:
            times.append(self.pacemaker.halfway)
        propose_at = self._propose_at()
        if propose_at is not None:
            times.append(propose_at)
        wanted_in = self._wanted_in_ms()
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
        """A message from a member. `InvalidMessage` is the sender's fault and changes nothing."""
        self._now = now
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
                self._on_certificates(sender, message)
            case BlockRequest():
                self._on_block_request(sender, message)
            case BlockReply():
                self._on_block_reply(sender, message)
            case SyncRequest():
                self._on_sync_request(sender, message)
            case SyncReply():
                self._on_sync_reply(sender, message)
        self._advance_work()

    def tick(self, now: Instant) -> None:
        """Time has passed: timers, proposals, requests to repeat."""
        self._now = now
        if self.pacemaker.expired(now.monotonic_ms):
            self._time_out()
        if (
            self._offered_round < self.round
            and self.pacemaker.working
            and now.monotonic_ms >= self.pacemaker.halfway
        ):
            self._offered_round = self.round
            self._ready.offer_to = self.leader
        self._advance_work()
        self._request_missing()

    def collections_arrived(self, now: Instant) -> None:
        """The payload holds more than before: vote or propose if that was what was missing."""
        self._now = now
        self._try_vote()
        self._advance_work()

    def peer_up(self, member: int, now: Instant) -> None:
        """E4: a link came up; what was sent before it did is lost, so say again where I am."""
        self._now = now
        self._send(member, self._certificates())
        record = self.record
        if self.pacemaker.timed_out and record.last_timeout is not None:
            self._send(member, record.last_timeout)
        proposal = record.last_proposal
        if proposal is not None and proposal.block.round == self.round:
            self._send(member, proposal)

    # ------------------------------------------------------------------ starting

    def _resume(self) -> None:
        """After a restart: re-send what stands on disk for this round, sign nothing anew."""
        record = self.record
        now = self._now.monotonic_ms
        if record.highest_timeout_round == self.round:
            self.pacemaker.timed_out = True
            self.pacemaker.deadline = now
        proposal = record.last_proposal
        if proposal is not None and proposal.block.round == self.round:
            self._proposed_round = self.round
            self._send(None, proposal)
        self._after_certificate()
        self._advance_work()

    # ------------------------------------------------------------------ proposals and votes

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        block = proposal.block
        self._check_epoch(block.epoch)
        known = self._proposals.get(block.round)
        if known is not None and known.block.id == block.id:
            self._answer_if_behind(sender, block.round)
            return
        self._check_proposal(proposal)
        self._learn_qc(block.qc)
        if block.tc is not None:
            self._learn_tc(block.tc)
        if block.round < self.round:
            self._answer_if_behind(sender, block.round)
        if known is not None:
            self._equivocation(known, proposal)
            return
        if not self.round - 1 <= block.round <= self.round:
            return
        self._proposals[block.round] = proposal
        self._keep(block)
        self._try_vote()

    def _check_proposal(self, proposal: Proposal) -> None:
        """V2, V4, V5 as far as the block alone tells; then the leader's signature."""
        block = proposal.block
        if block.author >= self.committee.size:
            raise InvalidMessage(f"there is no member {block.author}")
        if block.author != self.committee.leader(block.round):
            raise InvalidMessage(f"member {block.author} does not lead round {block.round}")
        if not follows_certificates(block):
            raise InvalidMessage(f"V2: nothing justifies the block of round {block.round}")
        if block.parent_id != block.qc.block_id:
            raise InvalidMessage("V5: the parent is not the block of the QC")
        if len(block.collections) > self._rules.max_block_collections:
            raise InvalidMessage(f"V5: {len(block.collections)} collections in a block")
        signed = Proposal.signed_bytes(self._chain_id, block)
        key = self.committee.members[block.author].identity
        if not self._crypto.verify_identity(key, signed, proposal.signature):
            raise InvalidMessage(f"forged proposal of member {block.author}")

    def _equivocation(self, known: Proposal, second: Proposal) -> None:
        """V6: two proposals for a round are evidence; the second gets no vote."""
        block = second.block
        self._report_evidence(Evidence(block.epoch, block.round, block.author, known, second))

    def _try_vote(self) -> None:
        """V4, V5: vote for this round's proposal once everything it needs is here."""
        proposal = self._proposals.get(self.round)
        if self.safety is None or proposal is None:
            return
        block = proposal.block
        if self.record.last_voted_round >= block.round:
            return
        chain = self.tree.chain(block.parent_id)
        if chain is None:
            self._want_block(block.parent_id, block.qc)
            return
        refusal = self._judge(block, chain)
        if refusal is not None:
            self._notice(NoticeKind.REFUSED, block, detail=f"{refusal.rule}: {refusal.reason}")
            return
        missing = [digest for digest in block.collections if not self._payload.holds(digest)]
        if missing:
            self._ready.want += [(digest, (block.author,)) for digest in missing]
            return
        vote = self.safety.vote(block)
        if isinstance(vote, Refusal):
            self._notice(NoticeKind.REFUSED, block, detail=f"{vote.rule}: {vote.reason}")
            return
        self._notice(NoticeKind.VOTED, block)
        self._send(None, vote)

    def _judge(self, block: Block, chain: list[Block]) -> Refusal | None:
        """V5: well-formed on top of its ancestors."""
        parent = chain[-1] if chain else self.tree.head
        if block.height != parent.height + 1:
            return Refusal("V5", "the height is not the parent's plus one")
        if block.timestamp_ms <= parent.timestamp_ms:
            return Refusal("V5", "the timestamp is not above the parent's")
        if block.timestamp_ms > self._now.unix_ms + self._rules.max_clock_skew_ms:
            return Refusal("V5", "the timestamp is in the future")
        if self.tree.repeats(block, chain):
            return Refusal("V5", "a collection is ordered twice")
        sizes = [self._payload.size(digest) or 0 for digest in block.collections]
        if sum(sizes) > self._rules.max_block_bytes:
            return Refusal("V5", f"{sum(sizes)} bytes in a block")
        return None

    def _on_vote(self, sender: int, vote: Vote) -> None:
        self._check_epoch(vote.epoch)
        if vote.round < self.round - 1:
            self._answer_if_behind(sender, vote.round)
            return
        if self._in_window(sender, vote.round):
            qc = self.aggregator.add_vote(sender, vote)
            if qc is not None:
                self._remember_verified(qc)
                self._observe_qc(qc)

    def _on_commit_vote(self, sender: int, vote: CommitVote) -> None:
        self._check_epoch(vote.epoch)
        if vote.round <= self.head.round or not self._in_window(sender, vote.round):
            return
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

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self.committee.epoch:
            raise InvalidMessage(f"message of epoch {epoch}, mine is {self.committee.epoch}")

    # ------------------------------------------------------------------ certificates

    def _learn_qc(self, qc: QuorumCertificate) -> QuorumCertificate:
        """Process a QC that somebody sent; the verified one for its block is returned.

        Certificates of one block may differ in their signers. One of them is verified; the others
        say nothing new and their bytes are never passed on.
        """
        known = self._verified.get((qc.round, qc.block_id))
        if known is None:
            lightclient.verify_qc(self.committee, self._chain_id, qc, self._crypto)
            self._remember_verified(qc)
            known = qc
        self._observe_qc(known)
        return known

    def _remember_verified(self, qc: QuorumCertificate) -> None:
        self._verified[qc.round, qc.block_id] = qc

    def _learn_tc(self, tc: TimeoutCertificate) -> None:
        """Every TC is verified: two of one round may differ in what they let a leader do (V2)."""
        if tc != self.record.high_tc:
            lightclient.verify_tc(self.committee, self._chain_id, tc, self._crypto)
            self._remember_verified(tc.high_qc)
        self._observe_tc(tc)

    def _learn_commit(self, certificate: CommitCertificate) -> None:
        if certificate.height <= self.head.height:
            return
        if certificate == self._pending_commit:
            return
        lightclient.verify_commit(self.committee, self._chain_id, certificate, self._crypto)
        self._observe_commit(certificate)

    def _observe_qc(self, qc: QuorumCertificate) -> None:
        """L1: lock first; then the round, the two-chain rule and the commit vote."""
        if qc.round > self.record.high_qc.round:
            self._update_high(qc=qc)
            self._enter(qc.round + 1, by_timeout=False)
        self._try_two_chain(qc)
        if qc == self.record.high_qc:
            self._after_certificate()

    def _observe_tc(self, tc: TimeoutCertificate) -> None:
        self._observe_qc(tc.high_qc)
        known = self.record.high_tc
        if known is None or tc.round > known.round:
            self._update_high(tc=tc)
            if tc.round >= self.round:
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

    def _after_certificate(self) -> None:
        """The newest certified block: commit-vote for it, or fetch what that needs."""
        qc = self.record.high_qc
        if qc.round == 0:
            return
        chain = self.tree.chain(qc.block_id)
        if chain is None:
            self._want_block(qc.block_id, qc)
        elif chain and self.safety is not None:
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
        """C1: commit the block and its ancestors, or fetch what is missing first (C3)."""
        if certificate.height <= self.head.height:
            return
        chain = self.tree.chain(certificate.block_id)
        if chain is None:
            pending = self._pending_commit
            if pending is None or certificate.height > pending.height:
                self._pending_commit = certificate
            self._want_block(certificate.block_id, certificate)
        elif chain:
            self._notice(NoticeKind.COMMIT_CERTIFIED, chain[-1])
            self._commit(certificate.block_id, CommitProof(certificate, None, None))

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
        self.fetcher.forget(self.tree)
        self._drop_old_ballots()

    # ------------------------------------------------------------------ rounds and timeouts

    def _enter(self, round: int, by_timeout: bool) -> None:
        """E1: a QC or TC of the round before has been observed."""
        if round <= self.round:
            return
        self.pacemaker.enter(round, by_timeout, self._now.monotonic_ms, self._has_work())
        self._ready.notices.append(
            Notice(
                NoticeKind.ROUND_ENTERED,
                round,
                member=self.leader,
                detail=("timeout certificate" if by_timeout else "quorum certificate"),
            )
        )
        self._drop_old_ballots()
        self._proposals = {at: p for at, p in self._proposals.items() if at >= round - 1}
        horizon = round - 2 * self._rules.round_window
        self._verified = {key: qc for key, qc in self._verified.items() if key[0] >= horizon}
        self._remember_verified(self.record.high_qc)
        self._try_vote()

    def _drop_old_ballots(self) -> None:
        oldest = self.round - self._rules.round_window
        self.aggregator.drop_below(self.round - 1, max(self.head.round + 1, oldest))

    def _uncommitted_certified(self) -> bool:
        """T4: a certified block, even an empty one, stands above the committed head."""
        return self.record.high_qc.round > self.head.round

    def _has_work(self) -> bool:
        """T4 and P2 mean the same thing by work."""
        seen = self.round in self._proposals
        wanted = self._wanted_in_ms() == 0
        return wanted or seen or self._uncommitted_certified() or self._payload.has_work()

    def _advance_work(self) -> None:
        if self._has_work():
            self.pacemaker.work_arrived(self._now.monotonic_ms)
        else:
            self.pacemaker.rest()
        propose_at = self._propose_at()
        if propose_at is not None and self._now.monotonic_ms >= propose_at:
            self._propose()

    def _time_out(self) -> None:
        """T1, T2, E4: sign a timeout for this round once, then repeat it every base period."""
        self.pacemaker.mark_timed_out(self._now.monotonic_ms)
        if self.safety is None:
            return
        first = self.record.highest_timeout_round < self.round
        timeout = self.safety.timeout(self.round, self.commit_certificate)
        if isinstance(timeout, Refusal):
            self._ready.notices.append(
                Notice(NoticeKind.REFUSED, self.round, detail=f"{timeout.rule}: {timeout.reason}")
            )
            return
        if first:
            self._ready.notices.append(Notice(NoticeKind.TIMED_OUT, self.round, member=self.leader))
        self._send(None, timeout)
        if self._certificates() != timeout.certificates:
            self._send(None, self._certificates())

    def _on_timeout(self, sender: int, timeout: Timeout) -> None:
        self._check_epoch(timeout.epoch)
        carried = timeout.certificates
        self._check_timeout(timeout)
        high_qc = self._learn_qc(carried.high_qc)
        self._on_certificates(sender, carried)
        if timeout.round < self.round:
            self._answer_if_behind(sender, timeout.round)
            return
        if not self._in_window(sender, timeout.round):
            return
        tc = self.aggregator.add_timeout(sender, timeout, high_qc)
        if tc is not None:
            self._ready.notices.append(Notice(NoticeKind.TIMEOUT_CERTIFIED, tc.round))
            self._observe_tc(tc)
        elif timeout.round == self.round and not self.pacemaker.timed_out and self._echoes():
            self._time_out()

    def _echoes(self) -> bool:
        """E3: enough members gave up on my round that an honest one must be among them."""
        return self.aggregator.timeouts.weight(self.round) >= self.committee.echo_weight

    def _check_timeout(self, timeout: Timeout) -> None:
        """T2: the carried QC is the signed one, and it or the TC is of the round before."""
        carried = timeout.certificates
        if carried.high_qc.round != timeout.high_qc_round:
            raise InvalidMessage("T2: the timeout names another QC than it carries")
        if carried.high_qc.round >= timeout.round:
            raise InvalidMessage("T2: the timeout's QC is not below its round")
        tc_round = carried.high_tc.round if carried.high_tc else 0
        if timeout.round - 1 not in (carried.high_qc.round, tc_round):
            raise InvalidMessage("T2: the timeout carries nothing of the round before")

    def _on_certificates(self, sender: int, message: Certificates) -> None:
        self._learn_qc(message.high_qc)
        if message.high_tc is not None and message.high_tc.round >= self.round:
            self._learn_tc(message.high_tc)
        if message.commit is not None:
            self._learn_commit(message.commit)

    def _certificates(self) -> Certificates:
        return Certificates(self.record.high_qc, newer_tc(self.record), self.commit_certificate)

    def _answer_if_behind(self, sender: int, round: int) -> None:
        """E5: tell a member in an older round where I am, at most four times a base period."""
        now = self._now.monotonic_ms
        if round >= self.round or sender == self.me:
            return
        if now < self._answered.get(sender, now):
            return
        self._answered[sender] = now + self._rules.base_timeout_ms // 4
        self._send(sender, self._certificates())

    # ------------------------------------------------------------------ proposing

    def _propose_at(self) -> int | None:
        """P2: when to propose in this round; None when that is not mine to do, or is done."""
        if self.leader != self.me or self._proposed_round >= self.round or self.safety is None:
            return None
        chain = self.tree.chain(self.record.high_qc.block_id)
        if chain is None:
            return None
        entered = self.pacemaker.entered_at
        parent = chain[-1] if chain else self.tree.head
        age = self._now.unix_ms - parent.timestamp_ms
        earliest = self._now.monotonic_ms + max(0, self._rules.min_block_interval_ms - age)
        if self._payload.select(self.tree.ordered(chain), 1, self._rules.max_block_bytes):
            return earliest
        if self._uncommitted_certified():
            return max(earliest, entered + self._rules.base_timeout_ms // 4)
        wanted_in = self._wanted_in_ms()
        heartbeat = entered + self._rules.idle_heartbeat_ms
        if wanted_in is not None:
            heartbeat = min(heartbeat, self._now.monotonic_ms + wanted_in)
        return max(earliest, heartbeat)

    def _wanted_in_ms(self) -> int | None:
        """How long until somebody wants a block, empty or not."""
        wanted_at = self._payload.block_wanted_at()
        return None if wanted_at is None else max(0, wanted_at - self._now.unix_ms)

    def _propose(self) -> None:
        assert self.safety is not None
        assert self.me is not None
        record = self.record
        chain = self.tree.chain(record.high_qc.block_id)
        assert chain is not None
        parent = chain[-1] if chain else self.tree.head
        rules = self._rules
        collections = self._payload.select(
            self.tree.ordered(chain), rules.max_block_collections, rules.max_block_bytes
        )
        block = Block(
            record.epoch,
            self.round,
            parent.height + 1,
            parent.id,
            record.high_qc,
            newer_tc(record),
            collections,
            b"",
            max(self._now.unix_ms, parent.timestamp_ms + 1),
            self.me,
        )
        self._proposed_round = self.round
        proposal = self.safety.propose(block)
        if isinstance(proposal, Refusal):
            self._notice(NoticeKind.REFUSED, block, detail=f"{proposal.rule}: {proposal.reason}")
            return
        self._notice(NoticeKind.PROPOSED, proposal.block)
        self._send(None, proposal)

    # ------------------------------------------------------------------ fetching and serving

    def _keep(self, block: Block) -> bool:
        """Hold a block above the head and have it saved; it may be what others waited for."""
        if not self.tree.add(block):
            return False
        self._ready.blocks.append(block)
        return True

    def _want_block(
        self, block_id: bytes, certificate: QuorumCertificate | CommitCertificate
    ) -> None:
        """Y2: the signers of its certificate have the block; ask them first."""
        missing = self.tree.missing_ancestor(block_id)
        if missing is None:
            return
        if self.tree.conflicts(block_id):
            self._ready.notices.append(
                Notice(
                    NoticeKind.ALARM,
                    certificate.round,
                    detail="V5: a certified block does not extend the committed head",
                )
            )
            return
        self.fetcher.want(missing, certificate.signers, self._now.monotonic_ms)
        self._request_missing()

    def _start_sync(self, why: str) -> None:
        if self.fetcher.start_sync(self._now.monotonic_ms):
            self._ready.notices.append(
                Notice(NoticeKind.SYNCING, self.round, self.head.height, detail=why)
            )
        self._request_missing()

    def _request_missing(self) -> None:
        for to, message in self.fetcher.requests(self._now.monotonic_ms, self.head.height):
            self._send(to, message)

    def _on_block_request(self, sender: int, request: BlockRequest) -> None:
        blocks: list[Block] = []
        wanted = request.block_id
        while len(blocks) < self.fetcher.MAX_SERVED:
            block = self.tree.get(wanted) or self._history.block_by_id(wanted)
            if block is None or block.height <= request.known_height:
                break
            blocks.append(block)
            wanted = block.parent_id
        if blocks:
            self._send(sender, BlockReply(tuple(blocks)))

    def _on_block_reply(self, sender: int, reply: BlockReply) -> None:
        blocks = reply.blocks
        if not blocks or not self.fetcher.received(blocks[0].id):
            return
        for block, parent in itertools.pairwise(blocks):
            if block.parent_id != parent.id or block.height != parent.height + 1:
                raise InvalidMessage("Y2: the blocks of a reply are no chain")
        for block in reversed(blocks):
            self._keep(block)
        oldest = blocks[-1]
        if self.tree.missing_ancestor(oldest.id) is not None and oldest.height > self.head.height:
            self._start_sync("the chain of a certified block is longer than one reply")
        self._after_blocks()

    def _after_blocks(self) -> None:
        """More ancestors are known: try again what waited for them."""
        if self._pending_commit is not None:
            self._observe_commit(self._pending_commit)
        self._try_two_chain(self.record.high_qc)
        self._after_certificate()
        self._try_vote()

    def _on_sync_request(self, sender: int, request: SyncRequest) -> None:
        """Y1, Y2: committed blocks in a bounded range that ends at a proof."""
        found = self._history.proof_at_or_after(request.from_height)
        limit = request.from_height + self.fetcher.MAX_SERVED
        blocks: list[Block] = []
        proof = None
        while found is not None and found[0] < limit:
            proof = found[1]
            for height in range(request.from_height + len(blocks), found[0] + 1):
                block = self._history.block(height)
                if block is None:
                    return
                blocks.append(block)
            found = self._history.proof_at_or_after(found[0] + 1)
        self._send(sender, SyncReply(self.head.height, tuple(blocks), proof))

    def _on_sync_reply(self, sender: int, reply: SyncReply) -> None:
        if not self.fetcher.sync_answered(sender):
            return
        if reply.proof is None or not reply.blocks or reply.blocks[-1].height <= self.head.height:
            self.fetcher.sync_exhausted(self._now.monotonic_ms)
            self._after_blocks()
            return
        blocks = [block for block in reply.blocks if block.height > self.head.height]
        self._check_range(blocks, reply.proof)
        self.tree.clear()
        for block in blocks:
            self._keep(block)
        self._commit(blocks[-1].id, reply.proof)
        self.fetcher.sync_progress(self._now.monotonic_ms)
        self._request_missing()
        self._after_blocks()

    def _check_range(self, blocks: list[Block], proof: CommitProof) -> None:
        parent = self.head
        for block in blocks:
            if block.parent_id != parent.id or block.height != parent.height + 1:
                raise InvalidMessage("Y2: the blocks of a range do not extend my committed head")
            parent = block
        if proof.block_id != parent.id:
            raise InvalidMessage("Y2: the proof of a range is of another block")
        lightclient.verify_commit_proof(self.committee, self._chain_id, proof, self._crypto)

    # ------------------------------------------------------------------ out

    def _send(self, to: int | None, message: Message) -> None:
        self._ready.messages.append(Outgoing(to, message))

    def _notice(self, kind: NoticeKind, block: Block, detail: str = "") -> None:
        self._ready.notices.append(Notice(kind, block.round, block.height, block.author, detail))

    def _report_evidence(self, evidence: Evidence) -> None:
        self._ready.evidence.append(evidence)
        self._ready.notices.append(
            Notice(NoticeKind.EVIDENCE, evidence.round, member=evidence.member)
        )
