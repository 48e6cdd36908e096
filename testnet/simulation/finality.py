"""What could be certified and final, counted from what honest members say.

Faulty members are counted as if they had signed everything: what *could* be certified must already
obey the rules, so that a violation shows without an adversary clever enough to use it.
A moment is (epoch, round): it rises lexicographically, although a round of an old epoch's suffix
may be one of the next epoch too (Ep4).
"""

from collections.abc import Iterable
from typing import NamedTuple

from consensus.codec import ZERO_HASH, u64
from consensus.epochs import root_qc
from consensus.types import Block, QuorumCertificate, genesis_block
from testnet.simulation.checkers import require
from testnet.simulation.registry import Registry

Moment = tuple[int, int]


class Named(NamedTuple):
    """What a commit vote says: a block, and the committee that follows if it ends the epoch."""

    block: Block
    next_committee: bytes


class Finality:
    """Blocks, and the certificates that honest members have made possible for them."""

    def __init__(
        self, registry: Registry, chain_id: bytes, honest: Iterable[int], window: int
    ) -> None:
        self._registry = registry
        self._honest = set(honest)
        self._window = window
        self.genesis = genesis_block(chain_id)
        self.blocks: dict[bytes, Block] = {self.genesis.id: self.genesis}
        self.certified: dict[Moment, bytes] = {(0, 0): self.genesis.id}
        self.ended: dict[int, bytes] = {}
        """The last block of each epoch that commit votes could have ended (Ep3)."""
        self._finals: dict[Moment, bytes] = {}
        self._ends: dict[bytes, Named | None] = {self.genesis.id: None}
        self._voters: dict[tuple[Moment, bytes], set[int]] = {}
        self._commit_voters: dict[tuple[Moment, bytes, bytes], set[int]] = {}
        self._waiting: list[tuple[Moment, bytes, bool]] = []

    # what the protocol checker reports

    def on_block(self, block: Block) -> None:
        """A block exists, whoever made it."""
        if block.id not in self.blocks:
            self.blocks[block.id] = block
            waiting, self._waiting = self._waiting, []
            for moment, block_id, final in waiting:
                (self._final if final else self._certify)(moment, block_id)

    def on_vote(self, member: int, moment: Moment, block_id: bytes) -> None:
        """An honest member votes for a block."""
        voters = self._voters.setdefault((moment, block_id), set())
        voters.add(member)
        if self._could_be_quorum(voters, moment[0]):
            self._certify(moment, block_id)

    def on_commit_vote(
        self, member: int, moment: Moment, block_id: bytes, next_committee: bytes
    ) -> None:
        """An honest member commit-votes for a block, or for the last one from above it."""
        voters = self._commit_voters.setdefault((moment, block_id, next_committee), set())
        voters.add(member)
        if self._could_be_quorum(voters, moment[0]):
            self._final(moment, block_id)
            if next_committee != ZERO_HASH:
                known = self.ended.setdefault(moment[0], block_id)
                require(known == block_id, "Ep3", "two blocks can end epoch {}", moment[0])

    # what others ask

    def is_root(self, qc: QuorumCertificate) -> bool:
        """Whether it stands for the certificate of the last block before an epoch that began."""
        block = self.blocks.get(qc.block_id)
        if block is None or qc.epoch == 0 or self.ended.get(qc.epoch - 1) != block.id:
            return False
        return qc == root_qc(qc.epoch, block)

    def is_certified(self, qc: QuorumCertificate) -> bool:
        """Whether somebody could have made it."""
        if self.certified.get((qc.epoch, qc.round)) == qc.block_id:
            return True
        block = self.blocks.get(qc.block_id)
        return block is not None and self.is_root(root_qc(qc.epoch, block))

    def is_final(self, block: Block) -> bool:
        """Whether a block or one on top of it is final."""
        if self._finals.get((block.epoch, block.round)) == block.id:
            return True
        return any(self._reaches(self.blocks[final], block) for final in self._finals.values())

    def _reaches(self, walk: Block | None, ancestor: Block) -> bool:
        while walk is not None and walk.height > ancestor.height:
            walk = self.blocks.get(walk.parent_id)
        return walk is not None and walk.id == ancestor.id

    def end_on(self, block: Block) -> Named | None:
        """Ep2, told again: the last block of its epoch on the chain up to this block, if any."""
        above: list[Block] = []
        walk: Block | None = block
        while walk is not None and walk.id not in self._ends:
            above.append(walk)
            walk = self.blocks.get(walk.parent_id)
        end = self._ends[walk.id] if walk is not None else None
        for step in reversed(above):
            below = self.blocks.get(step.parent_id)
            if end is None or below is None or below.epoch != step.epoch:
                end = self._ends_with(step)
            if walk is not None:
                self._ends[step.id] = end
        return end

    def _ends_with(self, block: Block) -> Named | None:
        """Whether the attestations on the way here make a quorum, and this is the last of them."""
        if not block.attestation:
            return None
        named: dict[int, bytes] = {}
        walk: Block | None = block
        while walk is not None and walk.height > block.height - self._window:
            if walk.epoch == block.epoch and walk.attestation:
                named.setdefault(walk.author, walk.attestation)
            walk = self.blocks.get(walk.parent_id)
        members = self._registry.members(block.epoch)
        agreed = [members[seat] for seat, said in named.items() if said == block.attestation]
        if not self._registry.is_quorum(agreed, block.epoch):
            return None
        require(block.attestation[:8] == u64(block.epoch + 1), "Ep2", "attested for another epoch")
        return Named(block, block.attestation[8:])

    def named_by(self, block: Block) -> Named:
        """Ep3: what a commit vote for a block has to say."""
        return self.end_on(block) or Named(block, ZERO_HASH)

    # counting

    def _could_be_quorum(self, voters: Iterable[int], epoch: int) -> bool:
        faulty = [place for place in self._registry.members(epoch) if place not in self._honest]
        return self._registry.is_quorum([*voters, *faulty], epoch)

    def _certify(self, moment: Moment, block_id: bytes) -> None:
        known = self.certified.setdefault(moment, block_id)
        require(known == block_id, "Q1", "two blocks can be certified in {}", moment)
        block = self.blocks.get(block_id)
        if block is None:
            self._waiting.append((moment, block_id, False))
            return
        below = [final for final in self._finals if final <= moment]
        if below:
            self._require_descent(block, self.blocks[self._finals[max(below)]])
        parent = self.blocks.get(block.parent_id)
        if parent is None or parent.epoch != block.epoch or parent.round == 0:
            return  # the last block of an epoch is final by what ended it, perhaps rounds later
        if parent.round + 1 == block.round:
            self._final((parent.epoch, parent.round), self.named_by(parent).block.id)

    def _final(self, moment: Moment, block_id: bytes) -> None:
        if moment in self._finals:
            require(self._finals[moment] == block_id, "C1", "two final blocks in {}", moment)
            return
        block = self.blocks.get(block_id)
        if block is None:
            self._waiting.append((moment, block_id, True))
            return
        self._finals[moment] = block_id
        for above, certified in self.certified.items():
            if above >= moment and certified in self.blocks:
                self._require_descent(self.blocks[certified], block)

    def _require_descent(self, block: Block, ancestor: Block) -> None:
        walk: Block | None = block
        while walk is not None and walk.height > ancestor.height:
            walk = self.blocks.get(walk.parent_id)
        require(
            walk is None or walk.id == ancestor.id,
            "V2",
            "certified block of round {} does not descend from the final one of round {}",
            block.round,
            ancestor.round,
        )
