"""The committed head and the blocks above it that are not committed yet.

Rules C1, C3 and the parts of V5 that need ancestors. Blocks enter when their proposal was checked
or when a certificate names them (V6); they leave when they are committed or can never be.
"""

from collections import ChainMap, deque
from collections.abc import Container, Iterable
from typing import NamedTuple

from consensus.types import Block

MAX_BLOCKS = 4096
"""Q3: uncommitted blocks kept at most; one a round within the window, and fetched ancestors."""


class Gap(NamedTuple):
    """A block that is missing: its id, and its height if a known child tells."""

    block_id: bytes
    height: int | None


class BlockTree:
    """Uncommitted blocks by id, and the digests that recent committed blocks ordered."""

    def __init__(self, head: Block, recent: Iterable[Block], digest_window: int) -> None:
        self.head = head
        self._window = digest_window
        self._blocks: dict[bytes, Block] = {}
        self._recent: deque[Block] = deque()
        self._ordered: dict[bytes, int] = {}
        for block in recent:
            self._remember(block)

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def recent(self) -> tuple[Block, ...]:
        """The last committed blocks, the head included, oldest first."""
        return tuple(self._recent)

    def __contains__(self, block_id: bytes) -> bool:
        return block_id == self.head.id or block_id in self._blocks

    def get(self, block_id: bytes) -> Block | None:
        """An uncommitted block or the committed head."""
        return self.head if block_id == self.head.id else self._blocks.get(block_id)

    def has_room(self, count: int = 1) -> bool:
        """Whether so many blocks more may be kept (Q3)."""
        return len(self._blocks) + count <= MAX_BLOCKS

    def add(self, block: Block) -> bool:
        """Keep a block above the head; False when it is known, too old or there is no room."""
        if block.id in self or block.height <= self.head.height or not self.has_room():
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

    def gap(self, block_id: bytes, height: int | None = None) -> Gap | None:
        """The nearest unknown block at or below this one; None when it is connected.

        `height` is that of the block, if it is known. A gap at the head's height or lower means
        that the block does not extend the head.
        """
        while block_id != self.head.id:
            block = self._blocks.get(block_id)
            if block is None:
                return Gap(block_id, height)
            block_id, height = block.parent_id, block.height - 1
        return None

    def clear(self) -> None:
        """Forget every uncommitted block; certified ones can be fetched again."""
        self._blocks.clear()

    def keep_only(self, block_id: bytes) -> None:
        """Forget all but the known chain below a certified block: the rest holds proposals."""
        kept: dict[bytes, Block] = {}
        while (block := self._blocks.get(block_id)) is not None:
            kept[block_id] = block
            block_id = block.parent_id
        self._blocks = kept

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
        """V5: the digests of the last `window` committed blocks are known by height."""
        self._recent.append(block)
        for digest in block.collections:
            self._ordered[digest] = block.height
        while self._recent[0].height <= block.height - self._window:
            old = self._recent.popleft()
            for digest in old.collections:
                if self._ordered.get(digest) == old.height:
                    del self._ordered[digest]

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

    def ordered(self, chain: Iterable[Block]) -> Container[bytes]:
        """The digests that a block on top of `chain` may not repeat, for asking one by one."""
        return ChainMap(
            {digest: block.height for block in chain for digest in block.collections},
            self._ordered,
        )

    def repeats(self, block: Block, chain: Iterable[Block]) -> bool:
        """V5: whether the block orders a digest twice, or one of its recent ancestors' again.

        Which ancestors are recent depends on heights alone, so all members agree on it.
        """
        mine = set(block.collections)
        if len(mine) != len(block.collections):
            return True
        oldest = block.height - self._window
        if any(
            digest in mine
            for ancestor in chain
            if ancestor.height > oldest
            for digest in ancestor.collections
        ):
            return True
        return any(self._ordered.get(digest, oldest) > oldest for digest in block.collections)
