"""What a stranger's message must be before anything is believed of it.

Everything here either returns or raises `InvalidMessage`, and changes nothing but the memory of
what was found good. Signatures of single ballots are not checked here: `aggregator` counts first
and verifies once.
"""

from collections.abc import Sequence

from consensus import lightclient
from consensus.bls import Crypto
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.messages import Proposal, Timeout
from consensus.rules import Rules
from consensus.safety import follows_certificates
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
)


class Verifier:
    """Checks of one committee on one chain.

    Certificates of one block may differ in their signers. One of them is verified and remembered;
    the others say nothing new and their bytes are never kept or passed on.
    """

    def __init__(
        self,
        committee: Committee,
        chain_id: bytes,
        rules: Rules,
        crypto: Crypto,
        root: QuorumCertificate,
    ) -> None:
        self._committee = committee
        self._root = root
        self._chain_id = chain_id
        self._rules = rules
        self._crypto = crypto
        self._verified: dict[tuple[int, bytes], QuorumCertificate] = {}
        self._oldest = 0
        self._last_tc: TimeoutCertificate | None = None

    def __len__(self) -> int:
        return len(self._verified)

    def check_epoch(self, epoch: int) -> None:
        """A message counts in its own epoch alone."""
        if epoch != self._committee.epoch:
            raise InvalidMessage(f"message of epoch {epoch}, mine is {self._committee.epoch}")

    def check_proposal(self, proposal: Proposal) -> None:
        """V2, V4, V5 as far as the block alone tells; then the leader's signature."""
        block = proposal.block
        if block.author >= self._committee.size:
            raise InvalidMessage(f"there is no member {block.author}")
        if block.author != self._committee.leader(block.round):
            raise InvalidMessage(f"member {block.author} does not lead round {block.round}")
        if not follows_certificates(block):
            raise InvalidMessage(f"V2: nothing justifies the block of round {block.round}")
        if block.parent_id != block.qc.block_id:
            raise InvalidMessage("V5: the parent is not the block of the QC")
        if len(block.collections) > self._rules.max_block_collections:
            raise InvalidMessage(f"V5: {len(block.collections)} collections in a block")
        signed = Proposal.signed_bytes(self._chain_id, block)
        key = self._committee.members[block.author].identity
        if not self._crypto.verify_identity(key, signed, proposal.signature):
            raise InvalidMessage(f"forged proposal of member {block.author}")

    def check_timeout(self, timeout: Timeout) -> None:
        """T2: the carried QC is the signed one, and it or the TC is of the round before."""
        carried = timeout.certificates
        if carried.high_qc.round != timeout.high_qc_round:
            raise InvalidMessage("T2: the timeout names another QC than it carries")
        if carried.high_qc.round >= timeout.round:
            raise InvalidMessage("T2: the timeout's QC is not below its round")
        tc_round = carried.high_tc.round if carried.high_tc else 0
        if timeout.round - 1 not in (carried.high_qc.round, tc_round):
            raise InvalidMessage("T2: the timeout carries nothing of the round before")

    def believe_qc(self, qc: QuorumCertificate) -> QuorumCertificate:
        """The verified certificate of this round and block: this one, or one known before."""
        known = self._verified.get((qc.round, qc.block_id))
        if known is None:
            lightclient.verify_qc(self._committee, self._chain_id, qc, self._crypto, self._root)
            self.remember(qc)
            known = qc
        return known

    def believe_tc(self, tc: TimeoutCertificate) -> None:
        """Every TC is verified: two of one round may differ in what they let a leader do (V2)."""
        if tc == self._last_tc:
            return
        lightclient.verify_tc(self._committee, self._chain_id, tc, self._crypto, self._root)
        self.remember(tc.high_qc)
        self._last_tc = tc

    def believe_commit(self, certificate: CommitCertificate) -> None:
        """A quorum commit-voted this."""
        lightclient.verify_commit(self._committee, self._chain_id, certificate, self._crypto)

    def believe_range(self, parent: Block, blocks: Sequence[Block], proof: CommitProof) -> None:
        """Y2: committed blocks on top of `parent`, the last of them proved final."""
        for block in blocks:
            if block.parent_id != parent.id or block.height != parent.height + 1:
                raise InvalidMessage("Y2: the blocks of a range do not extend my committed head")
            self.check_epoch(block.epoch)
            parent = block
        if proof.block_id != parent.id:
            raise InvalidMessage("Y2: the proof of a range is of another block")
        lightclient.verify_commit_proof(self._committee, self._chain_id, proof, self._crypto)

    def remember(self, qc: QuorumCertificate) -> None:
        """A QC that is known to be good; very old ones are not worth the memory (Q3)."""
        if qc.round >= self._oldest:
            self._verified[qc.round, qc.block_id] = qc

    def forget_below(self, round: int) -> None:
        """Q3: what is older need not be known by heart."""
        self._oldest = round
        self._verified = {key: qc for key, qc in self._verified.items() if key[0] >= round}
