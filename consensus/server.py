"""Blocks for members that miss them: bounded answers to `BlockRequest` and `SyncRequest` (Y2, Y3).

Nothing here waits for progress: what is committed or certified is served as it stands. Each member
gets so many blocks a period; over it, requests are dropped, and an honest member asks another.
"""

from consensus.blocktree import BlockTree
from consensus.interface import History
from consensus.messages import (
    MAX_BLOCKS_PER_REPLY,
    BlockReply,
    BlockRequest,
    SyncReply,
    SyncRequest,
)
from consensus.types import MAX_MEMBERS, Block, CommitProof

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Encoded blocks in one reply: half of what a frame can carry."""
MAX_BLOCKS_PER_PERIOD = 16 * MAX_BLOCKS_PER_REPLY
"""Q3: blocks read in one period for one member, and for all others together."""


class Server:
    """Answers from the block tree and the committed log; `period_ms` renews the allowances."""

    def __init__(self, tree: BlockTree, history: History, period_ms: int) -> None:
        self._tree = tree
        self._history = history
        self._period_ms = period_ms
        self._period_ends = 0
        self._read: dict[int, int] = {}

    def blocks(self, member: int, request: BlockRequest, now: int) -> BlockReply | None:
        """The block and its ancestors down to above the known height; None if not to be had."""
        found: list[Block] = []
        wanted, room = request.block_id, MAX_REPLY_BYTES
        while len(found) < MAX_BLOCKS_PER_REPLY and self._may_read(member, now):
            block = self._tree.get(wanted) or self._history.block_by_id(wanted)
            if block is None or block.height <= request.known_height:
                break
            room -= len(block.encode())
            if found and room < 0:
                break
            found.append(block)
            wanted = block.parent_id
        return BlockReply(tuple(found)) if found else None

    def committed(self, member: int, request: SyncRequest, now: int) -> SyncReply | None:
        """Y1: as many runs of committed blocks, each up to a proof, as fit one reply."""
        if not self._may_read(member, now):
            return None
        blocks: list[Block] = []
        proof: CommitProof | None = None
        room = MAX_REPLY_BYTES
        while (run := self._next_run(member, request.from_height + len(blocks), now)) is not None:
            if blocks and run[0][0].epoch != blocks[0].epoch:
                break  # whoever asks has yet to learn of the next committee
            room -= sum(len(block.encode()) for block in run[0])
            too_many = len(blocks) + len(run[0]) > MAX_BLOCKS_PER_REPLY
            if too_many or (blocks and room < 0):
                break
            blocks += run[0]
            proof = run[1]
        return SyncReply(self._tree.head.height, tuple(blocks), proof)

    def _next_run(
        self, member: int, from_height: int, now: int
    ) -> tuple[list[Block], CommitProof] | None:
        found = self._history.proof_at_or_after(from_height)
        if found is None or found[0] >= from_height + MAX_BLOCKS_PER_REPLY:
            return None
        run: list[Block] = []
        for height in range(from_height, found[0] + 1):
            block = self._history.block(height) if self._may_read(member, now) else None
            if block is None:
                return None
            run.append(block)
        return run, found[1]

    def _may_read(self, member: int, now: int) -> bool:
        """Count one block against the member's allowance, or against that of all guests."""
        asking = min(member, MAX_MEMBERS)
        if now >= self._period_ends:
            self._period_ends = now + self._period_ms
            self._read.clear()
        read = self._read.get(asking, 0)
        if read >= MAX_BLOCKS_PER_PERIOD:
            return False
        self._read[asking] = read + 1
        return True
