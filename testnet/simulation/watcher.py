"""Tells the checkers and the trace what the process at an honest place does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from consensus.epochs import EpochChange
from consensus.interface import Notice, NoticeKind
from consensus.messages import Message
from consensus.safety import SafetyRecord
from consensus.types import Block
from sequencer.block_entries import BlockEntries
from sequencer.collection import Collection
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.settlement.batch import BatchHeader
from testnet.simulation.checkers import Violation, require

if TYPE_CHECKING:
    from testnet.simulation.place import Place


class Watcher:
    """Tells the checkers and the trace what an honest process does."""

    def __init__(self, place: "Place") -> None:
        self._place = place
        self._world = place.world
        self._member = place.index

    def saved(
        self, record: SafetyRecord | None, blocks: Sequence[Block], collections: Sequence[bytes]
    ) -> None:
        """Something became durable."""
        world = self._world
        for block in blocks:
            world.protocol.on_block(block)
        if record is not None:
            world.protocol.on_saved(self._member, record)
            self._check_clock(record)
        for data in collections:
            leaves = Collection.decode(data, world.setup.rules).leaves
            world.log.on_saved(self._member, leaves)

    def _check_clock(self, record: SafetyRecord) -> None:
        """V5: no vote for a block that lies further ahead of the voter's clock than allowed."""
        place, world, vote = self._place, self._world, record.last_vote
        if vote is None or (vote.epoch, vote.round) <= place.voted:
            return
        place.voted = vote.epoch, vote.round
        block = world.protocol.blocks.get(vote.block_id)
        ahead_ms = 0 if block is None else block.timestamp_ms - place.instant().unix_ms
        require(
            ahead_ms <= world.setup.rules.max_clock_skew_ms,
            "V5",
            "member {} voted for a block {} ms ahead of its clock",
            self._member,
            ahead_ms,
        )

    def said(self, message: Message) -> None:
        """A message is about to leave."""
        self._world.protocol.on_sent(self._member, message)

    def applied(self, applied: AppliedBlock) -> None:
        """A block's transactions stand in the log."""
        self._grown(applied.block, applied.row)

    def catch_up(self, ledger: Ledger) -> None:
        """What was saved just before the last crash."""
        for height in range(self._place.head.height + 1, ledger.head.height + 1):
            block, row = ledger.block(height), ledger.block_row(height)
            assert block is not None
            assert row is not None
            self._grown(block, row)

    def begun(self, change: EpochChange) -> None:
        """A new epoch has begun."""
        world, place = self._world, self._place
        world.protocol.epochs.on_epoch(self._member, change, place.head)
        world.note(place.name, f"begins epoch {change.committee.epoch}")

    def _grown(self, block: Block, row: BlockEntries) -> None:
        place, world = self._place, self._world
        world.protocol.on_committed(self._member, block, place.head)
        place.head = block
        ids = tuple([row.id(index) for index in range(row.count)])
        world.log.on_applied(self._member, block.height, ids, row.log_root)
        world.note(place.name, f"commits h{block.height} {block.id.hex()[:6]} with {len(ids)}")

    def noticed(self, notice: Notice) -> None:
        """The core has something to tell."""
        if notice.kind is NoticeKind.EVIDENCE:
            accused = self._world.registry.members(self._place.node.epoch)[notice.member]
            self._world.protocol.on_evidence(self._member, accused)
        if notice.kind is NoticeKind.ALARM:
            raise Violation("V5", f"member {self._member}: {notice.detail}")
        if self._world.trace is not None and notice.kind is not NoticeKind.COMMITTED:
            who = f"of {notice.member} " if notice.member >= 0 else ""
            text = f"* {notice.kind.value} r{notice.round} {who}{notice.detail}"
            self._world.note(self._place.name, text)

    def certified(self, number: int, header: bytes) -> None:
        """A batch has its certificate."""
        world = self._world
        world.log.on_certified(self._member, number, header)
        batch = BatchHeader.decode(header)
        span = batch.first_position, batch.last_position
        world.protocol.epochs.on_batch(self._member, number, batch.epoch, span)
        heights = {world.log.height_at(position) for position in span}
        epochs = {world.protocol.canonical[height].epoch for height in heights}
        # A batch that waited for the L1 has a header of a later epoch than its blocks.
        within = len(epochs) == 1 and max(epochs) <= batch.epoch
        require(within, "Ep3", "batch {} of epoch {} holds {}", number, batch.epoch, epochs)
