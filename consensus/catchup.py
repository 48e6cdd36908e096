"""Getting the blocks that this member lacks: what is missing, and what to make of the answers.

Rules Y1, Y2, C3. `fetcher` decides whom to ask and when; this decides what for.
"""

import itertools

from consensus.blocktree import BlockTree
from consensus.committer import Committer
from consensus.epochs import EpochEnd
from consensus.errors import InvalidMessage
from consensus.fetcher import Fetcher, is_long
from consensus.interface import NoticeKind
from consensus.messages import BlockReply, SyncReply
from consensus.outbox import Outbox
from consensus.types import Block, CommitCertificate, QuorumCertificate
from consensus.verifier import Verifier


class Catchup:
    """Feeds the tree and the committer from the answers of others."""

    def __init__(
        self,
        tree: BlockTree,
        committer: Committer,
        fetcher: Fetcher,
        verifier: Verifier,
        outbox: Outbox,
        epoch_end: EpochEnd,
        follow_ms: int,
    ) -> None:
        self._tree = tree
        self._epoch_end = epoch_end
        self._committer = committer
        self._fetcher = fetcher
        self._verifier = verifier
        self._out = outbox
        self._follow_ms = follow_ms
        self.follow_at = 0
        self.behind = 0
        """Heights that the last who answered was ahead of me."""

    def fetch_missing(
        self, high_qc: QuorumCertificate, parent: QuorumCertificate | None, round: int, now: int
    ) -> None:
        """C3, Y2: ask for the blocks between my head and what is certified above it.

        That is the newest commit, the lock, and the parent of this round's proposal. What they
        name at or below the head is committed, or dead.
        """
        head = self._tree.head
        missing: dict[bytes, bytes] = {}
        for certificate in (self._committer.pending, high_qc, parent):
            if certificate is None or certificate.round <= head.round:
                continue
            known = certificate.height if isinstance(certificate, CommitCertificate) else None
            gap = self._tree.gap(certificate.block_id, known)
            if gap is None:
                continue
            if gap.height is not None and gap.height <= head.height:
                self._out.alarm(round, certificate.block_id)
                continue
            if is_long(gap.height, head.height):
                self.start_sync("a certified chain is longer than one reply", round, now)
            missing[gap.block_id] = certificate.signers
        self._fetcher.want(missing, now)
        for to, request in self._fetcher.requests(now, head.height):
            self._out.send(to, request)

    def follow(self, now: int) -> None:
        """Ep5: whoever hears no proposals asks one after the other for what is newer."""
        if now >= self.follow_at:
            self.follow_at = now + self._follow_ms
            self._fetcher.start_sync(now)

    def start_sync(self, why: str, round: int, now: int) -> None:
        """Y1: fall back to asking for committed ranges."""
        if self._fetcher.start_sync(now):
            height = self._tree.head.height
            self._out.notice(NoticeKind.SYNCING, round, height=height, detail=why)

    def on_block_reply(self, reply: BlockReply, high_qc: QuorumCertificate) -> None:
        """Y2: believed by hash from the block that was asked for, or not at all."""
        blocks = reply.blocks
        if not blocks or not self._fetcher.is_wanted(blocks[0].id):
            return
        for block, parent in itertools.pairwise(blocks):
            if block.parent_id != parent.id or block.height != parent.height + 1:
                raise InvalidMessage("Y2: the blocks of a reply are no chain")
        for block in reversed(blocks):
            self._committer.keep(block, high_qc)

    def _check_end(self, blocks: list[Block]) -> None:
        """Ep3: no quorum vouches that a block above the last one of its epoch is in the log."""
        end = self._epoch_end.on(blocks)
        if end is not None and end.block.id != blocks[-1].id:
            raise InvalidMessage("Ep3: a range goes beyond the end of its epoch")

    def on_sync_reply(
        self, sender: int, reply: SyncReply, high_qc: QuorumCertificate, now: int
    ) -> None:
        """Y1, Y2: a range on my head and a proof; a late answer is as good as a quick one."""
        if not self._fetcher.syncing:
            return
        blocks = [block for block in reply.blocks if block.height > self._tree.head.height]
        if reply.proof is None or not blocks:
            self._fetcher.sync_fruitless(sender, now)
            return
        try:
            self._verifier.believe_range(self._tree.head, blocks, reply.proof)
            self._check_end(blocks)
        except InvalidMessage:
            self._fetcher.sync_fruitless(sender, now)
            raise
        self._committer.commit_range(blocks, reply.proof)
        self._fetcher.sync_progress(sender, now)
        head = self._tree.head
        self.behind = max(0, reply.head - head.height)
        reachable = high_qc.round >= head.round and not is_long(reply.head, head.height)
        if reachable or (self._fetcher.following and self.behind == 0):
            self._fetcher.end_sync()
