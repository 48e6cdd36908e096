"""What to ask others for: single missing blocks, and ranges of committed ones (Y1, Y2, Y3).

A missing block is one that a certificate names, directly or through its descendants; whoever
signed the certificate is asked first, then everybody in turn. Falling behind by more than one
reply starts a range sync: one member at a time is asked for committed blocks above my head, which
needs nobody to make progress meanwhile. Answers are believed only through hashes and proofs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from consensus.blocktree import BlockTree
from consensus.messages import MAX_BLOCKS_PER_REPLY, BlockRequest, SyncRequest
from consensus.types import members_of

MAX_WANTED = 16
"""Q3: missing blocks asked for at a time."""


@dataclass(slots=True)
class Wanted:
    """A missing block: whom to ask next, and when."""

    candidates: list[int]
    attempts: int
    ask_at: int


class Fetcher:
    """Requests under way. Members are asked in turn, again every `retry_ms`."""

    MAX_SERVED = MAX_BLOCKS_PER_REPLY

    def __init__(self, committee_size: int, me: int | None, retry_ms: int) -> None:
        self._others = [index for index in range(committee_size) if index != me]
        self._retry_ms = retry_ms
        self._wanted: dict[bytes, Wanted] = {}
        self._ahead: set[int] = set()
        self._asked: int | None = None
        self._fruitless = 0
        self._sync_at = 0
        self._next_member = (me or 0) % max(1, len(self._others))
        self.syncing = False
        self.paused = False

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def deadline(self) -> int | None:
        """When the next request is due."""
        times = [wanted.ask_at for wanted in self._wanted.values()]
        if self.syncing and not self.paused:
            times.append(self._sync_at)
        return min(times) if times else None

    def want(self, block_id: bytes, signers: bytes, now: int) -> None:
        """Ask for a block until it comes; nothing while a range sync is under way."""
        if self.syncing or block_id in self._wanted or not self._others:
            return
        if len(self._wanted) >= MAX_WANTED:
            del self._wanted[next(iter(self._wanted))]
        first = [index for index in members_of(signers) if index in self._others]
        rest = [index for index in self._others if index not in first]
        self._wanted[block_id] = Wanted(first + rest, 0, now)

    def received(self, block_id: bytes) -> bool:
        """Whether this block was asked for; it no longer is."""
        return self._wanted.pop(block_id, None) is not None

    def forget(self, tree: BlockTree) -> None:
        """Drop requests for blocks that came another way."""
        for block_id in [known for known in self._wanted if known in tree]:
            del self._wanted[block_id]

    def ahead(self, member: int, weight: Callable[[Iterable[int]], int]) -> int:
        """Note a member that is beyond my window; the weight of all such."""
        self._ahead.add(member)
        return weight(sorted(self._ahead))

    def start_sync(self, now: int) -> bool:
        """Begin a range sync; False when one is under way or there is nobody to ask."""
        if self.syncing or not self._others:
            return False
        self.syncing = True
        self._wanted.clear()
        self._ahead.clear()
        self._fruitless = 0
        self._asked = None
        self._sync_at = now
        return True

    def sync_answered(self, member: int) -> bool:
        """Whether this member was the one that was asked."""
        if not self.syncing or self._asked != member:
            return False
        self._asked = None
        self._next_member += 1
        return True

    def sync_progress(self, now: int) -> None:
        """The range was good: ask the same member for the next one at once."""
        self._next_member -= 1
        self._fruitless = 0
        self._sync_at = now

    def sync_exhausted(self, now: int) -> None:
        """The member had nothing for me; done when nobody has."""
        self._fruitless += 1
        self._sync_at = now
        if self._fruitless >= len(self._others):
            self.syncing = False

    def requests(self, now: int, head_height: int) -> list[tuple[int, BlockRequest | SyncRequest]]:
        """What is due now, each for one member."""
        due: list[tuple[int, BlockRequest | SyncRequest]] = []
        for block_id, wanted in self._wanted.items():
            if now >= wanted.ask_at:
                member = wanted.candidates[wanted.attempts % len(wanted.candidates)]
                wanted.attempts += 1
                wanted.ask_at = now + self._retry_ms
                due.append((member, BlockRequest(block_id, head_height)))
        if self.syncing and not self.paused and now >= self._sync_at:
            due.append((self._next_to_ask(), SyncRequest(head_height + 1)))
            self._sync_at = now + self._retry_ms
        return due

    def _next_to_ask(self) -> int:
        if self._asked is not None:
            self._next_member += 1
            self._fruitless += 1
        self._asked = self._others[self._next_member % len(self._others)]
        return self._asked
