"""Collections that are being fetched: whom to ask for each, and when to ask the next.

What a block names is asked for until it comes, of everybody in turn, or until none of the blocks
that name it can be ordered any more; what a peer offers is asked of that peer, a few times.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sequencer.limits import PoolLimits

OFFERED_BY_GUESTS = 4
"""All guests together may have made so many times the offers that one peer may."""


@dataclass(slots=True)
class _Wanted:
    peers: list[int]
    next_ask_ms: int
    wait_ms: int
    attempt: int = 0
    offered_by: int | None = None
    rounds: set[int] = field(default_factory=set)
    """Of the blocks that name it."""


class Wants:
    """What is being fetched, by digest. Peers are handles; `me` is not asked."""

    def __init__(self, me: int, committee_size: int, limits: PoolLimits) -> None:
        self._me = me
        self._size = committee_size
        self._limits = limits
        self._sources: list[int] = []
        self._wanted: dict[bytes, _Wanted] = {}
        self._offered: Counter[int] = Counter()
        self.deadline: int | None = None
        """When the next question is due, monotonic milliseconds."""
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._wanted

    def is_named(self, digest: bytes) -> bool:
        """Whether it is being fetched because a block names it."""
        wanted = self._wanted.get(digest)
        return wanted is not None and wanted.offered_by is None

    def name(self, digest: bytes, round: int, author: int, now: int) -> None:
        """The block of a round names it: ask its author first, then the others in turn."""
        if not self.is_named(digest):
            self.stop(digest)
            at = now + self._limits.first_ask_ms
            self._start(digest, _Wanted(self._in_turn(author), at, self._limits.retry_ms))
        self._wanted[digest].rounds.add(round)

    def last_named(self, digest: bytes) -> int:
        """The last round whose block names it; it is named."""
        return max(self._wanted[digest].rounds)

    def refuse(self, digest: bytes, round: int) -> None:
        """The block of a round does not need it any more; others may."""
        if self.is_named(digest):
            self._keep(digest, {named for named in self._wanted[digest].rounds if named != round})

    def on_committed(self, round: int) -> None:
        """What is named by older blocks alone is not needed: they are in the log, or never will."""
        for digest in [known for known in self._wanted if self.is_named(known)]:
            self._keep(digest, {named for named in self._wanted[digest].rounds if named >= round})

    def _keep(self, digest: bytes, rounds: set[int]) -> None:
        self._wanted[digest].rounds = rounds
        if not rounds:
            self.stop(digest)

    def offered(self, digest: bytes, by: int, now: int) -> bool:
        """A peer offers it; False if it has offered too much that has not come."""
        if self._offered[by] >= self._limits.max_offered or self._is_guest_too_many(by):
            return False
        self._offered[by] += 1
        self._start(digest, _Wanted([by], now, 0, offered_by=by))
        return True

    def _is_guest_too_many(self, by: int) -> bool:
        """Whether guests have offered so much that more could displace what blocks name."""
        if by < self._size:
            return False
        offered = sum(count for peer, count in self._offered.items() if peer >= self._size)
        return offered >= OFFERED_BY_GUESTS * self._limits.max_offered

    def also_at(self, digest: bytes, peer: int, now: int) -> None:
        """Somebody says it has what is being fetched: perhaps nobody else has it any more."""
        wanted = self._wanted[digest]
        if peer not in wanted.peers:
            wanted.peers.insert(wanted.attempt % max(1, len(wanted.peers)), peer)
            wanted.next_ask_ms = self.deadline = now

    def stop(self, digest: bytes) -> None:
        """It is here, or not needed any more."""
        wanted = self._wanted.pop(digest, None)
        if wanted is not None and wanted.offered_by is not None:
            self._offered[wanted.offered_by] -= 1
            if not self._offered[wanted.offered_by]:
                del self._offered[wanted.offered_by]
        if not self._wanted:
            self.deadline = None

    def due(self, now: int) -> list[tuple[int, tuple[bytes, ...]]]:
        """The questions to ask now: (peer, digests)."""
        if self.deadline is None or now < self.deadline:
            return []
        asked: dict[int, list[bytes]] = {}
        for digest in [key for key, wanted in self._wanted.items() if now >= wanted.next_ask_ms]:
            self._ask(digest, asked, now)
        times = [wanted.next_ask_ms for wanted in self._wanted.values()]
        self.deadline = min(times) if times else None
        limit = self._limits.max_request_digests
        return [
            (peer, tuple(digests[start : start + limit]))
            for peer, digests in asked.items()
            for start in range(0, len(digests), limit)
        ]

    # who is there

    def begin_epoch(self, me: int, committee_size: int, moved: Mapping[int, int]) -> None:
        """Peers have other handles now; offers are made again by those who have them, and what the
        blocks of the last epoch named is here, or not needed."""
        self._me, self._size = me, committee_size
        self._sources = [moved[source] for source in self._sources if source in moved]
        self._offered.clear()
        self._wanted.clear()
        self.deadline = None

    def add_source(self, peer: int) -> None:
        """A peer outside the committee that has what was ordered."""
        if peer in self._sources:
            return
        self._sources.append(peer)
        for digest, wanted in self._wanted.items():
            if self.is_named(digest):
                wanted.peers.append(peer)

    def remove_source(self, peer: int) -> None:
        """It is gone."""
        if peer in self._sources:
            self._sources.remove(peer)
        for wanted in self._wanted.values():
            if peer in wanted.peers and peer >= self._size:
                wanted.peers.remove(peer)

    def _in_turn(self, author: int) -> list[int]:
        start = max(0, self._me)
        members = [(start + step) % self._size for step in range(self._size)]
        others = [member for member in members if member != self._me] + self._sources
        return sorted(others, key=lambda other: other != author)

    def _start(self, digest: bytes, wanted: _Wanted) -> None:
        if len(self._wanted) >= self._limits.max_wanted:
            self.dropped["wanted over limit"] += 1
            self.stop(next(iter(self._wanted)))
        self._wanted[digest] = wanted
        if self.deadline is None or wanted.next_ask_ms < self.deadline:
            self.deadline = wanted.next_ask_ms

    def _ask(self, digest: bytes, asked: dict[int, list[bytes]], now: int) -> None:
        wanted = self._wanted[digest]
        tired = wanted.offered_by is not None and wanted.attempt >= self._limits.offer_attempts
        if tired or not wanted.peers:
            self.stop(digest)
            return
        asked.setdefault(wanted.peers[wanted.attempt % len(wanted.peers)], []).append(digest)
        wanted.attempt += 1
        wanted.next_ask_ms = now + max(wanted.wait_ms, self._limits.retry_ms)
        if wanted.attempt % len(wanted.peers) == 0:
            wanted.wait_ms = min(2 * wanted.wait_ms, self._limits.max_retry_ms)
