"""A member that votes by the rules and lies to whoever is behind: what sync must not believe (Y2).

Its lies are near the truth: real blocks and real proofs, but not those that were asked for.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from consensus.codec import ZERO_HASH
from consensus.committee import Committee
from consensus.epochs import EpochChange
from consensus.messages import BlockReply, EpochReply, SyncReply
from consensus.types import Block, CommitCertificate, CommitProof
from testnet.simulation.adversaries import Adversary
from testnet.simulation.process import AnyMessage

if TYPE_CHECKING:
    from testnet.simulation.place import Place


class LyingServer(Adversary):
    """Answers who asks for blocks, ranges or ends of epochs with something else, or not at all."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """A lie instead of an answer, three times in four."""
        if not isinstance(message, SyncReply | BlockReply | EpochReply):
            return (message,)
        kind = self.random.randrange(4)
        if kind == 0:
            return (message,)
        return () if kind == 1 else (self._spoiled(message),)

    def _spoiled(self, message: SyncReply | BlockReply | EpochReply) -> AnyMessage:
        if isinstance(message, EpochReply):
            changes = message.changes
            others = tuple(map(self._with_another_committee, changes))
            return EpochReply(self.random.choice((changes[1:], changes[::-1], changes * 2, others)))
        if isinstance(message, BlockReply):
            return BlockReply(self._other(message.blocks))
        ahead = self.random.choice((1, 300, 2**40))
        return self.random.choice(
            (
                replace(message, head=message.head + ahead),
                replace(message, head=message.head + ahead, blocks=(), proof=None),
                replace(message, proof=None),
                replace(message, blocks=self._other(message.blocks)),
                self._forged(message),
            )
        )

    def _forged(self, reply: SyncReply) -> SyncReply:
        """A range that ends in a block of its own, with a certificate for it that nobody signed."""
        if not reply.blocks:
            return reply
        last = replace(reply.blocks[-1], timestamp_ms=reply.blocks[-1].timestamp_ms + 1)
        signature = self.random.randbytes(96)
        certificate = CommitCertificate(
            last.epoch, last.round, last.height, last.id, ZERO_HASH, last.qc.signers, signature
        )
        proof = CommitProof(certificate, None, None)
        return replace(reply, blocks=(*reply.blocks[:-1], last), proof=proof)

    def _with_another_committee(self, change: EpochChange) -> EpochChange:
        fewer = Committee(change.committee.epoch, change.committee.members[1:])
        return replace(change, committee=fewer)

    def _other(self, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        """Too few of them, in another order, twice, or one of them changed."""
        if not blocks:
            return blocks
        at = self.random.randrange(len(blocks))
        changed = replace(blocks[at], timestamp_ms=blocks[at].timestamp_ms + 1)
        return self.random.choice(
            (
                blocks[:-1],
                blocks[1:],
                blocks[::-1],
                blocks * 2,
                (*blocks[:at], changed, *blocks[at + 1 :]),
            )
        )
