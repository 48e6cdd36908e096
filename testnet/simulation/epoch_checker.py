"""Rules Ep1 to Ep5, watched from outside: one chain of committees, and nothing out of its epoch."""

from consensus.bls import Crypto
from consensus.codec import ZERO_HASH
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.messages import CommitVote, Proposal, Timeout, Vote
from consensus.safety import SafetyRecord
from consensus.types import Block, CommitCertificate
from testnet.simulation.checkers import Violation, require
from testnet.simulation.finality import Finality
from testnet.simulation.registry import Registry

Signed = Vote | CommitVote | Timeout


class EpochChecker:
    """What the members of changing committees may say, save and put into their logs."""

    def __init__(
        self, registry: Registry, finality: Finality, chain_id: bytes, crypto: Crypto
    ) -> None:
        self._registry = registry
        self._finality = finality
        self._chain_id = chain_id
        self._crypto = crypto
        self._changes: dict[int, tuple[bytes, bytes]] = {}
        self._batches: dict[int, tuple[int, int]] = {}

    @property
    def changes(self) -> int:
        """How many epochs have ended and were followed by another."""
        return len(self._changes)

    def on_signed(self, member: int, record: SafetyRecord | None, message: Signed | Block) -> None:
        """Ep4: a member speaks in the epoch that its disk says it is in, in its own seat.

        Ep5: it has one.
        """
        epoch = message.epoch
        require(
            record is not None and record.epoch == epoch,
            "Ep4",
            "member {} signs in epoch {} while its record is of another",
            member,
            epoch,
        )
        named = message.author if isinstance(message, Block) else message.voter
        seat = self._registry.seat(member, epoch)
        require(
            seat is not None,
            "Ep5",
            "member {} signs in epoch {}, of which it is none",
            member,
            epoch,
        )
        require(
            named == seat,
            "Ep1",
            "member {} signs in epoch {} as number {}, which it is not",
            member,
            epoch,
            named,
        )
        if isinstance(message, Block):
            self._on_proposal(member, message)

    def _on_proposal(self, member: int, block: Block) -> None:
        """Ep2, Ep3 from the side of an honest leader."""
        if block.attestation:
            self._check_digest(member, block.epoch, block.attestation[8:])
        parent = self._finality.blocks.get(block.parent_id)
        if parent is not None and parent.epoch == block.epoch and self._finality.end_on(parent):
            self.check_suffix(member, block)

    def check_suffix(self, member: int, block: Block) -> None:
        """Ep3: nothing is in a block above the last one of its epoch."""
        empty = not block.collections and not block.attestation
        require(empty, "Ep3", "member {} accepts a suffix block that is not empty", member)

    def _check_digest(self, member: int, epoch: int, digest: bytes) -> None:
        known = epoch < self._registry.newest
        require(
            known and self._registry.committees[epoch + 1].digest == digest,
            "Ep1",
            "member {} names a committee after epoch {} that is not in the registry",
            member,
            epoch,
        )

    def on_commit_vote(self, member: int, vote: CommitVote, block: Block) -> None:
        """Ep3: a commit vote on the last block or above it names that one, and who follows."""
        named = self._finality.named_by(block)
        require(
            (vote.block_id, vote.height, vote.next_committee)
            == (named.block.id, named.block.height, named.next_committee),
            "Ep3",
            "commit vote of member {} in round {} names the wrong block or committee",
            member,
            vote.round,
        )
        if vote.next_committee != ZERO_HASH:
            self._check_digest(member, vote.epoch, vote.next_committee)

    def check_commit(self, member: int, certificate: CommitCertificate) -> None:
        """Ep3: a certificate that names another next committee never exists."""
        if certificate.next_committee != ZERO_HASH:
            self._check_digest(member, certificate.epoch, certificate.next_committee)
            require(
                self._finality.ended.get(certificate.epoch) == certificate.block_id,
                "Ep3",
                "member {} believes in an end of epoch {} that nobody made",
                member,
                certificate.epoch,
            )

    def on_saved(self, member: int, before: SafetyRecord, after: SafetyRecord) -> bool:
        """Ep4: the epoch rises, one by one, from a root; whether it is a new one."""
        if after.epoch == before.epoch:
            return False
        require(
            after.epoch == before.epoch + 1,
            "Ep4",
            "member {} went from epoch {} to {}",
            member,
            before.epoch,
            after.epoch,
        )
        require(
            self._finality.is_root(after.high_qc),
            "Ep3",
            "member {} begins epoch {} on a root that nobody made",
            member,
            after.epoch,
        )
        return True

    def check_change(self, member: int, change: EpochChange) -> None:
        """Ep1, Ep4: an end of an epoch that a member believes is proved, and the only one."""
        epoch = change.certificate.epoch
        try:
            change.verify(self._registry.committees[epoch], self._chain_id, self._crypto)
        except InvalidMessage as reason:
            raise Violation("Ep4", f"member {member} ends {epoch} without proof") from reason
        self._check_digest(member, epoch, change.committee.digest)
        known = self._changes.setdefault(epoch, (change.last.id, change.committee.digest))
        require(
            known == (change.last.id, change.committee.digest),
            "Ep1",
            "member {} knows another end of epoch {}",
            member,
            epoch,
        )
        require(
            self._finality.end_on(change.last) == (change.last, change.committee.digest),
            "Ep2",
            "the attestations up to block {} do not end epoch {}",
            change.last.height,
            epoch,
        )

    def on_epoch(self, member: int, change: EpochChange, head: Block) -> None:
        """Ep3: a member has begun an epoch with all of the one before in its log."""
        self.check_change(member, change)
        require(
            head.id == change.last.id,
            "Ep3",
            "member {} begins epoch {} with its log at height {} instead of {}",
            member,
            change.committee.epoch,
            head.height,
            change.last.height,
        )

    def on_logged(self, member: int, block: Block, tip: Block) -> None:
        """Ep3, Ep4: the log goes on in the same epoch, or in the next on top of the last block."""
        end = self._finality.end_on(tip) if tip.height else None
        over = end is not None and end.block.id == tip.id
        require(
            block.epoch == tip.epoch + over,
            "Ep3",
            "member {} has a block of epoch {} on top of one of {}, height {}",
            member,
            block.epoch,
            tip.epoch,
            block.height,
        )

    def on_batch(self, member: int, number: int, epoch: int, span: tuple[int, int]) -> None:
        """Ep3: the positions of batches follow each other."""
        before = self._batches.get(number - 1)
        require(
            before is None or before[1] + 1 == span[0],
            "Ep3",
            "batch {} of member {} in epoch {} does not begin where the one before ended",
            number,
            member,
            epoch,
        )
        self._batches[number] = span


def signed_part(message: object) -> Signed | Block | None:
    """What a member signs with it, if anything."""
    if isinstance(message, Proposal):
        return message.block
    return message if isinstance(message, Signed) else None
