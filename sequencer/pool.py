"""Collections that are not ordered yet: seal my own, hold everybody's, fetch what is missing.

A pure machine: integers for time (monotonic milliseconds), no I/O. Inputs are what clients submit
and peers send; `take` hands out what has to be saved and sent. Replica and leader look at it
through `holds`, `size`, `select`, `has_work` and `want`.

A collection leaves only when it is committed: one whose block was orphaned is simply ordered by a
later leader. Shares are fair per author, the peer that a collection came from first: each member
has a quota of its own to fill, and `select` gives each author the same bytes of a block. So a
flood displaces nobody but its author. All others share one more quota, of which no guest gets
more than a part: who comes again under another handle has gained nothing. What a block names is
exempt, because it has to be fetched to vote; only what the rules let blocks name bounds it.
"""

from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import chain, filterfalse, islice

from consensus.rules import Rules
from sequencer.collection import COUNT_BYTES, HEADER_BYTES, Collection
from sequencer.limits import PoolLimits
from sequencer.wants import Wants

UNKNOWN_AUTHOR = -1
"""Stands for whoever is neither a member nor connected any more."""
FOLLOWER = -2
"""Stands for me where I am no member."""
GUESTS_AT_LEAST = 4
"""So many guests it takes to fill the quota that they share."""


class PoolFull(Exception):
    """My clients' transactions have nowhere to go for now."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"pool is full, retry after {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


@dataclass(slots=True)
class PoolReady:
    """What a pool wants done: save first, then send."""

    save: list[Collection] = field(default_factory=list)
    """Newly held, not durable yet."""
    broadcast: list[Collection] = field(default_factory=list)
    """Mine, newly sealed."""
    requests: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)
    """(peer, digests it is asked for)."""
    offers: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)
    """(peer, digests it may ask me for)."""
    arrived: list[bytes] = field(default_factory=list)
    """Digests that became held."""


@dataclass(slots=True)
class _Held:
    collection: Collection
    author: int
    sequence: int


@dataclass(slots=True)
class _Allowance:
    bytes_left: int
    refilled_ms: int


class Pool:
    """The uncommitted collections of one node. `me` is its index in the committee, if it has one.

    Peers are known by handles: members by their index, others by numbers above.
    """

    def __init__(
        self, me: int | None, committee_size: int, rules: Rules, limits: PoolLimits
    ) -> None:
        self._me = FOLLOWER if me is None else me
        self._size = committee_size
        self._wants = Wants(self._me, committee_size, limits)
        self._rules = rules
        self._limits = limits
        self._seal_bytes = min(limits.seal_bytes, rules.max_collection_bytes)
        self._peer_bytes = limits.peer_bytes(committee_size)
        self._now = 0
        self._ready = PoolReady()
        self._open: list[tuple[int, bytes]] = []
        self._open_bytes = COUNT_BYTES
        self._seal_at_ms: int | None = None
        self._may_seal_ms = 0
        self._held: dict[bytes, _Held] = {}
        self._by_author: dict[int, dict[bytes, int]] = {}
        self._author_bytes: Counter[int] = Counter()
        self._sequence = 0
        self._committed: dict[bytes, int | None] = {}
        self._committed_at: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self._allowances: dict[int, _Allowance] = {}
        self.dropped = self._wants.dropped
        """What a bound refused, by reason."""

    # clients

    def submit(self, transactions: Sequence[tuple[int, bytes]], now: int) -> None:
        """Take admitted (namespace, bytes) pairs, all of them or none (`PoolFull`)."""
        self._now = now
        added = sum([len(data) for _, data in transactions])
        added += HEADER_BYTES * len(transactions)
        if self.pending_bytes + added > self._limits.max_pending_bytes:
            self.dropped["pool full"] += 1
            raise PoolFull(self._rules.base_timeout_ms)
        if self._open_bytes + added >= self._seal_bytes:
            self._fill(transactions, now)
        else:
            self._open.extend(transactions)
            self._open_bytes += added
        if self._open and self._seal_at_ms is None:
            self._seal_at_ms = max(now, self._may_seal_ms)

    @property
    def pending_bytes(self) -> int:
        """My clients' transactions that are not committed, in bytes."""
        waiting = self._open_bytes if self._open else 0
        return waiting + self._author_bytes[self._me]

    def _fill(self, transactions: Sequence[tuple[int, bytes]], now: int) -> None:
        for transaction in transactions:
            size = len(transaction[1]) + HEADER_BYTES
            if self._open_bytes + size > self._seal_bytes and self._open:
                self._seal(now)
            self._open.append(transaction)
            self._open_bytes += size
        if self._open_bytes >= self._seal_bytes:
            self._seal(now)

    def _seal(self, now: int) -> None:
        collection = Collection.seal(self._open)
        self._open = []
        self._open_bytes = COUNT_BYTES
        self._seal_at_ms = None
        self._may_seal_ms = now + self._limits.seal_ms
        if not self.holds(collection.digest):
            self._hold(collection, self._me)
            self._ready.broadcast.append(collection)

    # peers

    def on_collection(self, sender: int, data: bytes, now: int) -> Collection | None:
        """Hold a peer's collection; None if it is known already or over the peer's quota.

        What a block names is held whatever there is: without it nobody could vote, and nothing
        would make room. `InvalidMessage` for bytes that are no collection.
        """
        self._now = now
        full = self._is_over_quota(sender, len(data))
        if full and not len(self._wants):
            self.dropped["collection over quota"] += 1
            return None
        collection = Collection.decode(data, self._rules)
        if self.holds(collection.digest):
            return None
        if full and not self._wants.is_named(collection.digest):
            self.dropped["collection over quota"] += 1
            return None
        self._hold(collection, sender)
        return collection

    def _is_over_quota(self, sender: int, added: int) -> bool:
        return (
            self._author_bytes[sender] + added > self._peer_bytes
            or len(self._by_author.get(sender, ())) >= self._limits.max_peer_collections
            or (not self._has_own_quota(sender) and self._is_over_shared_quota(sender, added))
        )

    def _has_own_quota(self, author: int) -> bool:
        return author == self._me or 0 <= author < self._size

    def _is_over_shared_quota(self, guest: int, added: int) -> bool:
        """Whether a guest has its part of the quota of all that are no members, or that is full."""
        sharing = [author for author in self._by_author if not self._has_own_quota(author)]
        part = max(self._peer_bytes // GUESTS_AT_LEAST, self._rules.max_collection_bytes)
        count = max(self._limits.max_peer_collections // GUESTS_AT_LEAST, 1)
        return (
            self._author_bytes[guest] + added > part
            or len(self._by_author.get(guest, ())) >= count
            or sum(self._author_bytes[author] for author in sharing) + added > self._peer_bytes
            or sum(len(self._by_author[author]) for author in sharing)
            >= self._limits.max_peer_collections
        )

    def on_request(self, sender: int, digests: Sequence[bytes]) -> list[bytes]:
        """The encoded collections a peer asked for, as far as I hold them and it may have them.

        Committed ones are no longer here: the node finds them in its ledger, within `serve`.
        """
        found = []
        for digest in digests[: self._limits.max_request_digests]:
            held = self._held.get(digest)
            if held is not None and self.serve(sender, len(held.collection.data)):
                found.append(held.collection.data)
        return found

    def serve(self, sender: int, size: int) -> bool:
        """Whether `size` more bytes may go to a peer that asked for them; takes them if so."""
        allowance = self._allowances.get(sender)
        if allowance is None:
            allowance = _Allowance(self._limits.max_reply_bytes, self._now)
            self._allowances[sender] = allowance
        refill = (self._now - allowance.refilled_ms) * self._limits.reply_bytes_per_ms
        allowance.bytes_left = min(self._limits.max_reply_bytes, allowance.bytes_left + refill)
        allowance.refilled_ms = self._now
        if size > allowance.bytes_left:
            self.dropped["request over rate"] += 1
            return False
        allowance.bytes_left -= size
        return True

    def on_offer(self, sender: int, digests: Sequence[bytes], now: int) -> None:
        """Fetch what a peer offers and I lack, within the peer's quota."""
        self._now = now
        full = self._is_over_quota(sender, 0)
        for digest in digests[: self._limits.max_offered]:
            if self.holds(digest):
                continue
            if digest in self._wants:
                self._wants.also_at(digest, sender, now)
                continue
            if full or not self._wants.offered(digest, sender, now):
                self.dropped["offer over quota"] += 1
                return
        self._ask_due(now)

    def offer_to(self, leader: int) -> None:
        """T4, halfway through a round: tell its leader what I hold and nobody has ordered."""
        if leader == self._me:
            return
        digests = []
        for digest, held in self._held.items():
            if held.author != leader:
                digests.append(digest)
            if len(digests) == self._limits.max_offered:
                break
        if digests:
            self._ready.offers.append((leader, tuple(digests)))

    def own(self) -> tuple[bytes, ...]:
        """What my clients sent and nobody has ordered, so many as fit an offer.

        With what is nobody's: after a restart it may be theirs.
        """
        mine = chain(self._by_author.get(self._me, ()), self._by_author.get(UNKNOWN_AUTHOR, ()))
        return tuple(islice(mine, self._limits.max_offered))

    # the replica's view

    def is_named(self, digest: bytes) -> bool:
        """Whether it is being fetched because a block names it."""
        return self._wants.is_named(digest)

    def holds(self, digest: bytes) -> bool:
        """Whether the collection is held, or was committed within the digest window."""
        return digest in self._held or digest in self._committed

    def size(self, digest: bytes) -> int | None:
        """Encoded bytes of a collection; None if it was never held."""
        held = self._held.get(digest)
        return len(held.collection.data) if held else self._committed.get(digest)

    def author(self, digest: bytes) -> int:
        """The handle of whom a collection came from first, `FOLLOWER` or `UNKNOWN_AUTHOR`."""
        held = self._held.get(digest)
        return held.author if held else UNKNOWN_AUTHOR

    def get(self, digest: bytes) -> Collection | None:
        """A collection that is held."""
        held = self._held.get(digest)
        return held.collection if held else None

    def has_work(self) -> bool:
        """Whether something is held and not committed (T4)."""
        return bool(self._held)

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        """What a leader orders: oldest first of each author, each author about the same bytes."""
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

    def want(self, digests: Iterable[bytes], hints: Sequence[int], now: int) -> None:
        """Fetch what a block names: ask `hints` first, then the others in turn, until it comes.

        Only the newest `max_wanted` are remembered, so who still needs one says so again.
        """
        self._now = now
        for digest in digests:
            if not self.holds(digest):
                self._wants.name(digest, hints, now)

    def on_committed(self, height: int, digests: Sequence[bytes]) -> None:
        """Drop what is ordered for good; its digests stay known for the digest window."""
        for digest in digests:
            self._wants.stop(digest)
            held = self._held.pop(digest, None)
            if held is None:
                self._committed.setdefault(digest, None)
                continue
            size = len(held.collection.data)
            self._committed[digest] = size
            del self._by_author[held.author][digest]
            self._author_bytes[held.author] -= size
        self._committed_at.append((height, tuple(digests)))
        while self._committed_at[0][0] + self._rules.digest_window_heights <= height:
            for digest in self._committed_at.popleft()[1]:
                self._committed.pop(digest, None)

    def recover(self, collections: Iterable[Collection], author: int = UNKNOWN_AUTHOR) -> None:
        """After a restart: hold again what an author gave, which was saved and is not ordered.

        Nothing is dropped, for others may rely on it; it fills its author's quota again.
        """
        for collection in collections:
            if not self.holds(collection.digest):
                self._hold(collection, author)
        self._ready.save.clear()

    # who is there

    def begin_epoch(self, me: int | None, committee_size: int, moved: Mapping[int, int]) -> None:
        """Ep4: peers have other handles now; `moved` maps the old ones of those still known.

        Whoever becomes a follower may be the only one that holds a collection, so it is offered
        whosever it was.
        """
        mine, self._me = self._me, FOLLOWER if me is None else me
        self._size = committee_size
        self._peer_bytes = self._limits.peer_bytes(committee_size)
        self._allowances.clear()
        self._wants.begin_epoch(self._me, committee_size, moved)
        self._assign({mine: self._me} if me is None else {**moved, mine: self._me})

    def _assign(self, moved: Mapping[int, int]) -> None:
        """Give what is held to its authors' new handles; what nobody is known for, to nobody."""
        self._by_author.clear()
        self._author_bytes.clear()
        for digest, held in self._held.items():
            held.author = moved.get(held.author, UNKNOWN_AUTHOR)
            size = len(held.collection.data)
            self._by_author.setdefault(held.author, {})[digest] = size
            self._author_bytes[held.author] += size

    def add_source(self, peer: int) -> None:
        """A peer outside the committee that has what was ordered."""
        self._wants.add_source(peer)

    def forget(self, peer: int) -> None:
        """A peer outside the committee is gone; what it gave stays, in the quota of its like."""
        self._wants.remove_source(peer)
        self._allowances.pop(peer, None)
        for digest, size in self._by_author.pop(peer, {}).items():
            self._held[digest].author = UNKNOWN_AUTHOR
            self._by_author.setdefault(UNKNOWN_AUTHOR, {})[digest] = size
            self._author_bytes[UNKNOWN_AUTHOR] += size
        del self._author_bytes[peer]

    # output

    @property
    def deadline(self) -> int | None:
        """When `tick` is due, monotonic milliseconds."""
        times = (self._seal_at_ms, self._wants.deadline)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: int) -> None:
        """Seal what has waited long enough; ask again for what has not come."""
        self._now = now
        if self._seal_at_ms is not None and now >= self._seal_at_ms:
            self._seal(now)
        self._ask_due(now)

    def take(self) -> PoolReady:
        """Everything to do since the last time."""
        taken, self._ready = self._ready, PoolReady()
        return taken

    def _ask_due(self, now: int) -> None:
        self._ready.requests += self._wants.due(now)

    # holding

    def _hold(self, collection: Collection, author: int) -> None:
        digest, size = collection.digest, len(collection.data)
        self._wants.stop(digest)
        self._sequence += 1
        self._held[digest] = _Held(collection, author, self._sequence)
        self._by_author.setdefault(author, {})[digest] = size
        self._author_bytes[author] += size
        self._ready.save.append(collection)
        self._ready.arrived.append(digest)
