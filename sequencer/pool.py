"""Collections that are not ordered yet: seal my own, hold everybody's, fetch what is missing.

A pure machine: integers for time (monotonic milliseconds), no I/O. Inputs are what clients submit
and peers send; `take` hands out what has to be saved and sent. Replica and leader look at it
through `holds`, `size`, `select`, `has_work` and `need`.

A collection leaves only when it is committed: one whose block was orphaned is simply ordered by a
later leader. Shares are fair per author, the peer that a collection came from first: each has a
quota to fill, and `select` gives each author the same bytes of a block. So a flood displaces
nobody but its author. What a block names is exempt, because it has to be fetched to vote. That
ends when the block is refused, for it names more than the rules let it order, or has lost its
place in the log: what is above its author's quota then goes. Whoever took it from a client still
has it, in a quota of its own.
"""

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from consensus.rules import Rules
from consensus.types import Block
from sequencer.collection import COUNT_BYTES, HEADER_BYTES, Collection
from sequencer.limits import PoolLimits
from sequencer.shelf import FOLLOWER, UNKNOWN_AUTHOR, Shelf
from sequencer.wants import Wants


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
    drop: list[bytes] = field(default_factory=list)
    """Digests that are not held any more, and were not ordered."""


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
        self._wants = Wants(self._me, committee_size, limits)
        self._rules = rules
        self._limits = limits
        self._seal_bytes = min(limits.seal_bytes, rules.max_collection_bytes)
        self._now = 0
        self._ready = PoolReady()
        self._open: list[tuple[int, bytes]] = []
        self._open_bytes = COUNT_BYTES
        self._seal_at_ms: int | None = None
        self._may_seal_ms = 0
        self._shelf = Shelf(self._me, committee_size, rules, limits)
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
        return waiting + self._shelf.bytes_of(self._me)

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
        full = self._shelf.is_over_quota(sender, len(data))
        if full and not len(self._wants):
            self.dropped["collection over quota"] += 1
            return None
        collection = Collection.decode(data, self._rules)
        if self.holds(collection.digest):
            return None
        if full and not self._wants.is_named(collection.digest):
            self.dropped["collection over quota"] += 1
            return None
        if full:
            self._shelf.spare(collection.digest, self._wants.last_named(collection.digest))
        self._hold(collection, sender)
        return collection

    def on_request(self, sender: int, digests: Sequence[bytes]) -> list[bytes]:
        """The encoded collections a peer asked for, as far as I hold them and it may have them.

        Committed ones are no longer here: the node finds them in its ledger, within `serve`.
        """
        found = []
        for digest in digests[: self._limits.max_request_digests]:
            held = self._shelf.get(digest)
            if held is not None and self.serve(sender, len(held.data)):
                found.append(held.data)
        return found

    def serve(self, sender: int, size: int) -> bool:
        """Whether `size` more bytes may go to a peer that asked for them; takes them if so.

        Peers that are no members share one allowance.
        """
        asking = sender if self._shelf.has_own_quota(sender) else UNKNOWN_AUTHOR
        allowance = self._allowances.get(asking)
        if allowance is None:
            allowance = _Allowance(self._limits.max_reply_bytes, self._now)
            self._allowances[asking] = allowance
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
        full = self._shelf.is_over_quota(sender, 0)
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
        for digest, author in self._shelf:
            if author != leader:
                digests.append(digest)
            if len(digests) == self._limits.max_offered:
                break
        if digests:
            self._ready.offers.append((leader, tuple(digests)))

    def own(self) -> tuple[bytes, ...]:
        """What my clients sent and nobody has ordered, so many as fit an offer.

        With what is nobody's: after a restart it may be theirs.
        """
        mine = chain(self._shelf.of(self._me), self._shelf.of(UNKNOWN_AUTHOR))
        return tuple(islice(mine, self._limits.max_offered))

    # the replica's view

    def is_named(self, digest: bytes) -> bool:
        """Whether it is being fetched because a block names it."""
        return self._wants.is_named(digest)

    def holds(self, digest: bytes) -> bool:
        """Whether the collection is held, or was committed within the digest window."""
        return digest in self._shelf or digest in self._committed

    def size(self, digest: bytes) -> int | None:
        """Encoded bytes of a collection; None if it was never held."""
        held = self._shelf.get(digest)
        return len(held.data) if held else self._committed.get(digest)

    def author(self, digest: bytes) -> int:
        """The handle of whom a collection came from first, `FOLLOWER` or `UNKNOWN_AUTHOR`."""
        return self._shelf.author(digest)

    def get(self, digest: bytes) -> Collection | None:
        """A collection that is held."""
        return self._shelf.get(digest)

    def has_work(self) -> bool:
        """Whether something is held and not committed (T4)."""
        return len(self._shelf) > 0

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        """What a leader orders: oldest first of each author, each author about the same bytes."""
        return self._shelf.select(exclude, max_count, max_bytes)

    def need(self, block: Block, now: int) -> int:
        """Fetch and keep what a block names: how much of that is not here.

        Its author is asked first, then the others in turn, until it comes. Only the newest
        `max_wanted` are remembered, so who still needs one says so again.
        """
        self._now = now
        missing = 0
        for digest in block.collections:
            if self._shelf.is_spared(digest):
                self._shelf.spare(digest, block.round)
            elif not self.holds(digest):
                self._wants.name(digest, block.round, block.author, now)
                missing += 1
        return missing

    def on_judged(self, needed: Iterable[Block], refused: Iterable[Block], now: int) -> None:
        """Blocks that need what they name, and some that need it no more."""
        for block in needed:
            self.need(block, now)
        for block in refused:
            for digest in block.collections:
                self._wants.refuse(digest, block.round)

    def on_committed(self, block: Block) -> None:
        """Drop what is ordered for good, and what is above a quota for the sake of a block that
        never will be; what was ordered stays known for the digest window."""
        self._wants.on_committed(block.round)
        self._order(block.height, block.collections)
        self._ready.drop += self._shelf.release_spared(block.round)

    def _order(self, height: int, digests: Sequence[bytes]) -> None:
        for digest in digests:
            self._wants.stop(digest)
            size = self._shelf.release(digest)
            if size is None:
                self._committed.setdefault(digest, None)
            else:
                self._committed[digest] = size
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
        self._allowances.clear()
        self._wants.begin_epoch(self._me, committee_size, moved)
        handles = {mine: self._me} if me is None else {**moved, mine: self._me}
        self._shelf.begin_epoch(self._me, committee_size, handles)

    def add_source(self, peer: int) -> None:
        """A peer outside the committee that has what was ordered."""
        self._wants.add_source(peer)

    def forget(self, peer: int) -> None:
        """A peer outside the committee is gone; what it gave stays, in the quota of its like."""
        self._wants.remove_source(peer)
        self._shelf.forget(peer)

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
        self._wants.stop(collection.digest)
        self._shelf.put(collection, author)
        self._ready.save.append(collection)
        self._ready.arrived.append(collection.digest)
