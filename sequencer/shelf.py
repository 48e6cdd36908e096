"""The collections that wait to be ordered, by author, and how much of whose may stand here.

Each member has a quota of its own; all others share one more, of which no guest gets more than a
part: who comes again under another handle has gained nothing.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import filterfalse

from consensus.rules import Rules
from sequencer.collection import Collection
from sequencer.limits import PoolLimits

UNKNOWN_AUTHOR = -1
"""Stands for whoever is neither a member nor connected any more."""
FOLLOWER = -2
"""Stands for me where I am no member."""
GUESTS_AT_LEAST = 4
"""So many guests it takes to fill the quota that they share."""


@dataclass(slots=True)
class _Held:
    collection: Collection
    author: int
    sequence: int


class Shelf:
    """What is held, oldest first. Authors are handles: members by their index, others above."""

    def __init__(self, me: int, committee_size: int, rules: Rules, limits: PoolLimits) -> None:
        self._me = me
        self._size = committee_size
        self._rules = rules
        self._limits = limits
        self._peer_bytes = limits.peer_bytes(committee_size)
        self._held: dict[bytes, _Held] = {}
        self._by_author: dict[int, dict[bytes, int]] = {}
        self._bytes: Counter[int] = Counter()
        self._sequence = 0
        self._spared: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._held

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Digests and authors."""
        return ((digest, held.author) for digest, held in self._held.items())

    def get(self, digest: bytes) -> Collection | None:
        """A collection that is held."""
        held = self._held.get(digest)
        return held.collection if held else None

    def author(self, digest: bytes) -> int:
        """Whom a collection came from first; `UNKNOWN_AUTHOR` too if it is not held."""
        held = self._held.get(digest)
        return held.author if held else UNKNOWN_AUTHOR

    def of(self, author: int) -> Iterable[bytes]:
        """The digests of an author's, oldest first."""
        return self._by_author.get(author, ())

    def bytes_of(self, author: int) -> int:
        """Encoded bytes held of an author."""
        return self._bytes[author]

    def put(self, collection: Collection, author: int) -> None:
        """Hold one that is not held."""
        digest, size = collection.digest, len(collection.data)
        self._sequence += 1
        self._held[digest] = _Held(collection, author, self._sequence)
        self._by_author.setdefault(author, {})[digest] = size
        self._bytes[author] += size

    def release(self, digest: bytes) -> int | None:
        """The size of what was held, and is not any more."""
        held = self._held.pop(digest, None)
        if held is None:
            return None
        size = len(held.collection.data)
        self._spared.pop(digest, None)
        del self._by_author[held.author][digest]
        self._bytes[held.author] -= size
        return size

    # quotas

    def has_own_quota(self, author: int) -> bool:
        """Whether it is a member, or me."""
        return author == self._me or 0 <= author < self._size

    def is_over_quota(self, author: int, added: int) -> bool:
        """Whether there is no room for `added` bytes more of an author's."""
        return (
            self._bytes[author] + added > self._peer_bytes
            or len(self._by_author.get(author, ())) >= self._limits.max_peer_collections
            or (not self.has_own_quota(author) and self._is_over_shared_quota(author, added))
        )

    def _is_over_shared_quota(self, guest: int, added: int) -> bool:
        """Whether a guest has its part of the quota of all that are no members, or that is full."""
        sharing = [author for author in self._by_author if not self.has_own_quota(author)]
        part = max(self._peer_bytes // GUESTS_AT_LEAST, self._rules.max_collection_bytes)
        count = max(self._limits.max_peer_collections // GUESTS_AT_LEAST, 1)
        return (
            self._bytes[guest] + added > part
            or len(self._by_author.get(guest, ())) >= count
            or sum(self._bytes[author] for author in sharing) + added > self._peer_bytes
            or sum(len(self._by_author[author]) for author in sharing)
            >= self._limits.max_peer_collections
        )

    def spare(self, digest: bytes, round: int) -> None:
        """It is held above its author's quota, for the sake of the block of a round."""
        self._spared[digest] = max(round, self._spared.get(digest, round))

    def is_spared(self, digest: bytes) -> bool:
        """Whether it is held for the sake of a block alone."""
        return digest in self._spared

    def release_spared(self, below_round: int) -> list[bytes]:
        """Give up what is above a quota for the sake of older blocks alone."""
        released = []
        for digest in [known for known, round in self._spared.items() if round < below_round]:
            del self._spared[digest]
            if self.is_over_quota(self._held[digest].author, 0):
                self.release(digest)
                released.append(digest)
        return released

    # what a leader orders

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        """Oldest first of each author, each author about the same bytes."""
        queues = {
            author: filterfalse(exclude.__contains__, digests)
            for author, digests in self._by_author.items()
        }
        order = []
        for author, queue in queues.items():
            first = next(queue, None)
            if first is not None:
                order.append((0, self._held[first].sequence, author, first))
        heapify(order)
        chosen: list[bytes] = []
        left = max_bytes
        while order and len(chosen) < max_count:
            share, _, author, digest = order[0]
            size = len(self._held[digest].collection.data)
            following = next(queues[author], None)
            if size > left or following is None:
                heappop(order)
            else:
                entry = (share + size, self._held[following].sequence, author, following)
                heapreplace(order, entry)
            if size <= left:
                chosen.append(digest)
                left -= size
        return tuple(chosen)

    # who is there

    def begin_epoch(self, me: int, committee_size: int, moved: Mapping[int, int]) -> None:
        """Authors have other handles now; what nobody is known for is nobody's.

        No block of the last epoch needs anything any more.
        """
        self._me = me
        self._size = committee_size
        self._peer_bytes = self._limits.peer_bytes(committee_size)
        self._spared = dict.fromkeys(self._spared, 0)
        self._by_author.clear()
        self._bytes.clear()
        for digest, held in self._held.items():
            held.author = moved.get(held.author, UNKNOWN_AUTHOR)
            size = len(held.collection.data)
            self._by_author.setdefault(held.author, {})[digest] = size
            self._bytes[held.author] += size

    def forget(self, guest: int) -> None:
        """A guest is gone; what it gave stays, in the quota of its like."""
        for digest, size in self._by_author.pop(guest, {}).items():
            self._held[digest].author = UNKNOWN_AUTHOR
            self._by_author.setdefault(UNKNOWN_AUTHOR, {})[digest] = size
            self._bytes[UNKNOWN_AUTHOR] += size
        del self._bytes[guest]
