"""The committed head and the blocks above it that are not committed yet.

Rules C1, C3 and the parts of V5 that need ancestors. Blocks enter when their proposal was checked
or when a certificate names them (V6); they leave when they are committed or can never be.
"""

from collections import ChainMap
from collections.abc import Container, Iterable

from consensus.types import Block

MAX_BLOCKS = 4096
"""Q3: uncommitted blocks kept at most; one a round within the window, and fetched ancestors."""


class BlockTree:
    """Uncommitted blocks by id, and the digests that recent committed blocks ordered."""

    def __init__(self, head: Block, recent: Iterable[Block], digest_window: int) -> None:
        self.head = head
        self._window = digest_window
        self._blocks: dict[bytes, Block] = {}
        self._ordered: dict[bytes, int] = {}
        for block in recent:
            self._remember(block)

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, block_id: bytes) -> bool:
        return block_id == self.head.id or block_id in self._blocks

    def get(self, block_id: bytes) -> Block | None:
        """An uncommitted block or the committed head."""
        return self.head if block_id == self.head.id else self._blocks.get(block_id)

    def add(self, block: Block) -> bool:
        """Keep a block above the head; False when it is known, too old or there is no room."""
        if block.id in self or block.height <= self.head.height:
            return False
        if len(self._blocks) >= MAX_BLOCKS:
            return False
        self._blocks[block.id] = block
        return True

    def chain(self, block_id: bytes) -> list[Block] | None:
        """The blocks above the head up to this one, oldest first; None if one is missing.

        An empty list is the head itself.
        """
        found: list[Block] = []
        while block_id != self.head.id:
            block = self._blocks.get(block_id)
            if block is None:
                return None
            found.append(block)
            block_id = block.parent_id
        found.reverse()
        return found

    def clear(self) -> None:
        """Forget every uncommitted block; certified ones can be fetched again."""
        self._blocks.clear()

    def missing_ancestor(self, block_id: bytes) -> bytes | None:
        """The id of the nearest unknown block at or below this one; None when connected."""
        while block_id != self.head.id:
            block = self._blocks.get(block_id)
            if block is None:
                return block_id
            block_id = block.parent_id
        return None

    def conflicts(self, block_id: bytes) -> bool:
        """Whether the known chain below a certified block misses the head (V5: an alarm)."""
        block = self._blocks.get(block_id)
        while block is not None:
            if block.height <= self.head.height + 1:
                return block.parent_id != self.head.id
            block = self._blocks.get(block.parent_id)
        return False

    def commit(self, block_id: bytes) -> list[Block]:
        """C1, C3: make a connected block the head; the newly committed blocks, oldest first."""
        chain = self.chain(block_id)
        assert chain is not None, "commit of a block whose ancestors are missing"
        for block in chain:
            assert block.parent_id == self.head.id
            assert block.height == self.head.height + 1
            self.head = block
            self._remember(block)
        self._drop_dead()
        return chain

    def _remember(self, block: Block) -> None:
        for digest in block.collections:
            self._ordered[digest] = block.height

    def _drop_dead(self) -> None:
        """Forget what is not above the head; keep what may still turn out to descend from it."""
        head = self.head
        kept: dict[bytes, Block] = {}
        for block in sorted(self._blocks.values(), key=lambda block: block.height):
            parent_is_missing = block.parent_id not in self._blocks
            above = block.height > head.height + 1 and parent_is_missing
            if block.parent_id == head.id or block.parent_id in kept or above:
                kept[block.id] = block
        self._blocks = kept
        oldest = head.height - self._window
        self._ordered = {
            digest: height for digest, height in self._ordered.items() if height > oldest
        }

    def ordered(self, chain: Iterable[Block]) -> Container[bytes]:
        """The digests that a block on top of `chain` may not repeat, for asking one by one."""
        return ChainMap(
            {digest: block.height for block in chain for digest in block.collections},
            self._ordered,
        )

    def repeats(self, block: Block, chain: Iterable[Block]) -> bool:
        """V5: whether the block orders a digest twice, or one of its recent ancestors' again."""
        if len(set(block.collections)) != len(block.collections):
            return True
        mine = set(block.collections)
        if any(digest in mine for ancestor in chain for digest in ancestor.collections):
            return True
        oldest = block.height - self._window
        return any(self._ordered.get(digest, oldest) > oldest for digest in mine)
