"""Saying again what may have been lost: to everybody, to a link that came up, to who is behind.

Rules E4, E5 and what V1 and P1 allow: everything here is on disk, nothing is signed.
"""

from consensus.committer import Committer
from consensus.messages import Certificates
from consensus.outbox import Outbox
from consensus.rules import Rules
from consensus.safety import Safety, newer_tc
from consensus.types import Block, CommitCertificate


class Reminder:
    """Repeats stored messages; a member is answered at most four times a base period."""

    def __init__(
        self,
        me: int | None,
        safety: Safety,
        committer: Committer,
        outbox: Outbox,
        rules: Rules,
    ) -> None:
        self._me = me
        self._safety = safety
        self._committer = committer
        self._out = outbox
        self._answer_ms = rules.base_timeout_ms // 4
        self._answered: dict[int, int] = {}

    def certificates(self) -> Certificates:
        """The newest that I have."""
        record = self._safety.record
        return Certificates(record.high_qc, newer_tc(record), self._committer.certificate)

    def knows_newer_commit(self, theirs: CommitCertificate | None) -> bool:
        """Whether somebody who shows this commit certificate is behind me."""
        mine = self._committer.certificate
        return mine is not None and (theirs is None or theirs.height < mine.height)

    def answer(self, member: int, now: int) -> None:
        """E5: tell a member that is behind where I am."""
        if member != self._me and now >= self._answered.get(member, now):
            self._answered[member] = now + self._answer_ms
            self._out.send(member, self.certificates())

    def answer_older(self, member: int, theirs: Certificates, now: int) -> None:
        """E5: who shows older certificates has just begun the epoch, or missed something."""
        newest = max(theirs.high_qc.round, theirs.high_tc.round if theirs.high_tc else 0)
        if newest + 1 < self._safety.record.round or self.knows_newer_commit(theirs.commit):
            self.answer(member, now)

    def greet(self, member: int, head: Block) -> None:
        """E4: what was sent before the link came up is lost."""
        record = self._safety.record
        self._out.send(member, self.certificates())
        if record.last_timeout is not None and record.last_timeout.round == record.round:
            self._out.send(member, record.last_timeout)
        self.repeat(member, head)

    def repeat(self, to: int | None, head: Block) -> None:
        """V1, P1: the proposal and vote of this round, and the commit vote above the head."""
        record = self._safety.record
        proposal, vote, commit_vote = (
            record.last_proposal,
            record.last_vote,
            record.last_commit_vote,
        )
        if proposal is not None and proposal.block.round == record.round:
            self._out.send(to, proposal)
        if vote is not None and vote.round == record.round:
            self._out.send(to, vote)
        if commit_vote is not None and commit_vote.round > head.round:
            self._out.send(to, commit_vote)
