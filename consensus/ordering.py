"""The next block: when its leader makes it, what stands in it, and how a voter judges it.

Rules P2, V5, Ep2 and Ep3 from both sides, on the same limits. Nothing here signs.
"""

from consensus.blocktree import BlockTree
from consensus.epochs import EpochEnd, attestation, attested
from consensus.interface import Instant, Payload
from consensus.rules import Rules
from consensus.safety import Refusal, SafetyRecord, newer_tc
from consensus.types import Block


class Ordering:
    """What this member would order next on top of its highest QC."""

    def __init__(
        self, rules: Rules, payload: Payload, tree: BlockTree, epoch_end: EpochEnd, me: int | None
    ) -> None:
        self._rules = rules
        self._payload = payload
        self._tree = tree
        self._epoch_end = epoch_end
        self._me = me

    def propose_at(self, record: SafetyRecord, entered_at: int, now: Instant) -> int | None:
        """P2: when the leader of this round proposes; None while it lacks the parent."""
        chain = self._tree.chain(record.high_qc.block_id)
        if chain is None:
            return None
        earliest = self._after_pause(self._parent(chain), entered_at, now)
        if self._epoch_end.on(chain) is not None:
            return max(earliest, entered_at + self._rules.base_timeout_ms // 4)
        if self._attestation_is_due(chain):
            return earliest
        if self._payload.select(self._tree.ordered(chain), 1, self._rules.max_block_bytes):
            return earliest
        if record.high_qc.round > self._tree.head.round or self.change_is_pending():
            return max(earliest, entered_at + self._rules.base_timeout_ms // 4)
        heartbeat = entered_at + self._rules.idle_heartbeat_ms
        wanted_in = self.wanted_in_ms(now)
        if wanted_in is not None:
            heartbeat = min(heartbeat, now.monotonic_ms + wanted_in)
        return max(earliest, heartbeat)

    def change_is_pending(self) -> bool:
        """Ep2, T4: whether the registry names a committee that this epoch has yet to end with."""
        return self._me is not None and self._payload.next_committee() is not None

    def _attestation_is_due(self, chain: list[Block]) -> bool:
        """Ep2: whether the registry names a next committee and no block of mine says so yet."""
        digest = self._payload.next_committee()
        if digest is None or self._me is None:
            return False
        return self._epoch_end.lacks(self._me, digest, chain)

    def _after_pause(self, parent: Block, entered_at: int, now: Instant) -> int:
        """When the interval between blocks is over, whatever the parent's author claims.

        Never later than an interval after entering the round: by a clock that is behind the
        parent's, the parent is not over yet, and that would be so at every look.
        """
        interval = self._rules.min_block_interval_ms
        left = max(0, interval - (now.unix_ms - parent.timestamp_ms))
        return min(now.monotonic_ms + left, entered_at + interval)

    def _parent(self, chain: list[Block]) -> Block:
        return chain[-1] if chain else self._tree.head

    def wanted_in_ms(self, now: Instant) -> int | None:
        """How long until somebody wants a block, empty or not."""
        wanted_at = self._payload.block_wanted_at()
        return None if wanted_at is None else max(0, wanted_at - now.unix_ms)

    def next_block(self, record: SafetyRecord, author: int, now: Instant) -> Block:
        """The block of this round on the highest QC, whose chain is known."""
        chain = self._tree.chain(record.high_qc.block_id)
        assert chain is not None
        parent = self._parent(chain)
        collections, attests = self._contents(record.epoch, chain)
        return Block(
            record.epoch,
            record.round,
            parent.height + 1,
            parent.id,
            record.high_qc,
            newer_tc(record),
            collections,
            attests,
            max(now.unix_ms, parent.timestamp_ms + 1),
            author,
        )

    def _contents(self, epoch: int, chain: list[Block]) -> tuple[tuple[bytes, ...], bytes]:
        """Collections and attestation; neither in a suffix block (Ep3)."""
        if self._epoch_end.on(chain) is not None:
            return (), b""
        rules = self._rules
        collections = self._payload.select(
            self._tree.ordered(chain), rules.max_block_collections, rules.max_block_bytes
        )
        digest = self._payload.next_committee()
        return collections, attestation(epoch + 1, digest) if digest is not None else b""

    def judge(self, block: Block, chain: list[Block], now: Instant) -> Refusal | None:
        """V5: whether the block is well-formed on top of its ancestors."""
        parent = self._parent(chain)
        if self._epoch_end.on(chain) is not None and (block.collections or block.attestation):
            return Refusal("Ep3", "a block above the last one of its epoch is not empty")
        if block.attestation and attested(block) is None:
            return Refusal("Ep2", "what it attests is no committee of the next epoch")
        if block.height != parent.height + 1:
            return Refusal("V5", "the height is not the parent's plus one")
        if block.timestamp_ms <= parent.timestamp_ms:
            return Refusal("V5", "the timestamp is not above the parent's")
        if block.timestamp_ms > now.unix_ms + self._rules.max_clock_skew_ms:
            return Refusal("V5", "the timestamp is in the future")
        if self._tree.repeats(block, chain):
            return Refusal("V5", "a collection is ordered twice")
        sizes = [self._payload.size(digest) or 0 for digest in block.collections]
        if sum(sizes) > self._rules.max_block_bytes:
            return Refusal("V5", f"{sum(sizes)} bytes in a block")
        return None
