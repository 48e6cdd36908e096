"""From certificates to committed blocks: each exactly once, oldest first, nothing skipped.

Rules C1, C2, C3, Ep3. Certificates that come here were verified.
"""

from collections.abc import Sequence

from consensus.blocktree import BlockTree
from consensus.codec import ZERO_HASH
from consensus.epochs import EpochEnd
from consensus.interface import NoticeKind
from consensus.outbox import Outbox
from consensus.types import Block, CommitCertificate, CommitProof, QuorumCertificate


class Committer:
    """Moves the head of the tree. `certificate` is the newest that moved it, for others.

    `ended` is the first certificate that names the last block of the epoch.
    """

    def __init__(
        self,
        tree: BlockTree,
        outbox: Outbox,
        epoch_end: EpochEnd,
        certificate: CommitCertificate | None,
    ) -> None:
        self._tree = tree
        self._out = outbox
        self._epoch_end = epoch_end
        self.certificate = certificate
        self.ended: CommitCertificate | None = None
        if certificate is not None and certificate.next_committee != ZERO_HASH:
            self.ended = certificate
        self.pending: CommitCertificate | None = None

    def keep_proposed(self, block: Block, high_qc: QuorumCertificate) -> None:
        """V6, Q3: a proposal on a known parent; a false height would stay in the tree for ever."""
        parent = self._tree.get(block.parent_id)
        if parent is not None and block.height == parent.height + 1:
            self.keep(block, high_qc)

    def keep(self, block: Block, high_qc: QuorumCertificate) -> None:
        """Hold a block above the head and have it saved; room is made at proposals' expense."""
        if not self._tree.has_room():
            self._tree.keep_only(high_qc.block_id)
        self._hold(block)

    def _hold(self, block: Block) -> None:
        if self._tree.add(block):
            self._out.ready.blocks.append(block)

    def observe_qc(self, qc: QuorumCertificate) -> None:
        """C2: a QC for a child exactly one round up commits the parent, up to the epoch's end."""
        child = self._tree.get(qc.block_id)
        if child is None or child.height <= self._tree.head.height + 1:
            return
        parent = self._tree.get(child.parent_id)
        if parent is None or parent.round + 1 != child.round:
            return
        chain = self._tree.chain(parent.id)
        if chain and not self._is_suffix(parent, chain):
            self._commit(parent.id, CommitProof(None, child, qc))

    def _is_suffix(self, block: Block, chain: Sequence[Block]) -> bool:
        """Ep3: whether a block stands above the last one of the epoch."""
        end = self._epoch_end.on(chain)
        return end is not None and block.id != end.block.id

    def is_news(self, certificate: CommitCertificate) -> bool:
        """Whether it is worth verifying."""
        if certificate == self.pending:
            return False
        return certificate.height > self._tree.head.height or self._ends(certificate)

    def _ends(self, certificate: CommitCertificate) -> bool:
        """Ep3: whether it ends the epoch of which C2 has committed the last block."""
        names_head = certificate.block_id == self._tree.head.id
        return names_head and certificate.next_committee != ZERO_HASH and self.ended is None

    def observe_commit(self, certificate: CommitCertificate) -> None:
        """C1, C3: commit the block and its ancestors, or remember it until they are here."""
        if self._ends(certificate):
            self.certificate = self.ended = certificate
        if certificate.height <= self._tree.head.height:
            return
        chain = self._tree.chain(certificate.block_id)
        if chain is not None:
            self._out.notice_block(NoticeKind.COMMIT_CERTIFIED, chain[-1])
            self._commit(certificate.block_id, CommitProof(certificate, None, None))
        elif self.pending is None or certificate.height > self.pending.height:
            self.pending = certificate

    def retry(self) -> None:
        """More ancestors are known."""
        if self.pending is not None:
            self.observe_commit(self.pending)

    def commit_range(self, blocks: Sequence[Block], proof: CommitProof) -> None:
        """Y2: a verified range on top of the head; certified blocks in its way come again."""
        if not self._tree.has_room(len(blocks)):
            self._tree.clear()
        for block in blocks:
            self._hold(block)
        self._commit(blocks[-1].id, proof)

    def _commit(self, block_id: bytes, proof: CommitProof) -> None:
        blocks = self._tree.commit(block_id)
        self._epoch_end.committed(blocks)
        if proof.certificate is not None:
            self.certificate = proof.certificate
            if proof.certificate.next_committee != ZERO_HASH:
                self.ended = proof.certificate
        self._out.ready.committed += [(block, None) for block in blocks[:-1]]
        self._out.ready.committed.append((blocks[-1], proof))
        for block in blocks:
            self._out.notice_block(NoticeKind.COMMITTED, block)
        if self.pending is not None and self.pending.height <= self._tree.head.height:
            self.pending = None
