"""Getting the blocks that this member lacks: what is missing, and what to make of the answers.

Rules Y1, Y2, C3. `fetcher` decides whom to ask and when; this decides what for.
"""

import itertools

from consensus.blocktree import BlockTree
from consensus.committer import Committer
from consensus.errors import InvalidMessage
from consensus.fetcher import Fetcher, is_long
from consensus.interface import NoticeKind
from consensus.messages import BlockReply, SyncReply
from consensus.outbox import Outbox
from consensus.types import CommitCertificate, QuorumCertificate
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
    ) -> None:
        self._tree = tree
        self._committer = committer
        self._fetcher = fetcher
        self._verifier = verifier
        self._out = outbox

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
        except InvalidMessage:
            self._fetcher.sync_fruitless(sender, now)
            raise
        self._committer.commit_range(blocks, reply.proof)
        self._fetcher.sync_progress(len(blocks), now)
        head = self._tree.head
        if high_qc.round >= head.round and not is_long(reply.head, head.height):
            self._fetcher.end_sync()
