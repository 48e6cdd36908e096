"""A member: replica, pool, log and batcher as one machine, and the drain that serves them.

Everything that happens goes in through one door (`on_frame`, `submit`, `tick`, ...); `pump` then
does what was decided, in the order that the protocol demands: save, speak, apply.

    save    one durable transaction: safety record, blocks, collections, log, batches; collections
            alone wait for the next thing that is decided, because nothing said depends on them
    speak   messages to others; a message to all comes back to me here, after the save
    apply   committed blocks into the log; their writes are part of the next save

The simulation runs this very class on a store, a network and clocks of its own.
"""

from collections import Counter, deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from hashlib import sha256

from consensus import messages as core
from consensus.bls import Crypto, Signer
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.interface import Instant, Notice, NoticeKind, Outgoing, Ready, Recovered
from consensus.replica import Replica
from consensus.rules import Rules
from consensus.safety import SafetyRecord
from consensus.types import Block, CommitProof
from net.transport import PeerId, Transport
from sequencer.batcher import Batcher, BatcherReady, Binding, put_batches
from sequencer.collection import Collection
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.messages import (
    MAX_DIGESTS,
    BatchCertificate,
    BatchRequest,
    BatchVote,
    CollectionData,
    CollectionOffer,
    CollectionRequest,
    NodeMessage,
    channel_of,
    decode_frame,
)
from sequencer.pool import Pool, PoolLimits, PoolReady
from sequencer.store.schema import META_SAFETY, Table
from sequencer.store.seam import Store, WriteBatch

MAX_UNAPPLIED = 512
"""Committed blocks that may wait for their collections before syncing pauses."""
COLLECTIONS_FETCHED_AHEAD = 64
"""How many that committed blocks name are asked for at once: a node that catches up would wait for
an answer a block otherwise. More would fill the links for longer than the pool waits."""
COLLECTIONS_SAVED_WITHIN_MS = 50
"""How long collections wait at most for a save that is due anyway: a vote (S3), a block, a log."""
MAX_EVIDENCE = 64
"""Pieces of evidence against one member that a run of the node stores; one is enough."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a member is, apart from its state. `peers[i]` is member i's id on the network."""

    chain_id: bytes
    committee: Committee
    me: int
    rules: Rules
    peers: Sequence[PeerId]
    crypto: Crypto
    signer: Signer
    pool_limits: PoolLimits
    binding: Binding | None = None


class _Payload:
    """The replica's view of collections, and of the batch that wants to be closed."""

    def __init__(self, pool: Pool, batcher: Batcher | None) -> None:
        self._pool = pool
        self._batcher = batcher
        self.holds = pool.holds
        self.size = pool.size
        self.has_work = pool.has_work

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        return self._pool.select(exclude, max_count, max_bytes)

    def block_wanted_at(self) -> int | None:
        return self._batcher.block_wanted_at() if self._batcher else None


class Node:
    """One member on one store and one transport.

    `on_applied` and `on_certified` are called after what they tell is durable.
    """

    def __init__(self, setup: Setup, store: Store, transport: Transport, now: Instant) -> None:
        self.setup = setup
        self._store = store
        self._transport = transport
        self._now = now
        self._others = [peer for i, peer in enumerate(setup.peers) if i != setup.me]
        self.ledger = Ledger(store, setup.chain_id, setup.rules)
        self.pool = Pool(setup.me, setup.committee.size, setup.rules, setup.pool_limits)
        self.batcher = self._open_batcher()
        self._unapplied: deque[tuple[Block, CommitProof | None]] = deque()
        self._writes = WriteBatch()
        self._save_by: int | None = None
        self._applied: list[AppliedBlock] = []
        self._own: deque[core.Message] = deque()
        self._evidence: Counter[int] = Counter()
        self.invalid: Counter[int] = Counter()
        self.on_applied: Callable[[AppliedBlock], None] = _ignore
        self.on_certified: Callable[[int], None] = _ignore
        self.on_notice: Callable[[Notice], None] = _ignore
        self.on_invalid: Callable[[int, str], None] = _ignore
        recovered = self._recover()
        self.replica = Replica(
            setup.committee,
            setup.me,
            setup.chain_id,
            setup.rules,
            setup.crypto,
            setup.signer,
            _Payload(self.pool, self.batcher),
            self.ledger,
            recovered,
            now,
        )

    # ------------------------------------------------------------------ starting

    def _open_batcher(self) -> Batcher | None:
        setup = self.setup
        if setup.binding is None:
            return None
        batcher = Batcher(
            setup.binding,
            setup.committee,
            setup.me,
            setup.rules,
            setup.crypto,
            setup.signer,
            self._store,
        )
        head = self.ledger.head
        missing = head.next_position - batcher.open_position
        batcher.resume(self.ledger.entries(batcher.open_position, missing), head.log_root)
        return batcher

    def _recover(self) -> Recovered:
        """What the disk remembers; the pool holds again what nobody has ordered."""
        head = self.ledger.head
        head_block = self.ledger.block(head.height)
        assert head_block is not None
        oldest = max(1, head.height - self.setup.rules.digest_window_heights + 1)
        recent = [
            block
            for height in range(oldest, head.height + 1)
            if (block := self.ledger.block(height)) is not None
        ]
        for block in recent:
            self.pool.on_committed(block.height, block.collections)
        self.pool.recover(self.ledger.unordered_collections())
        saved = self._store.get(Table.META, META_SAFETY)
        record = SafetyRecord.decode(saved) if saved else SafetyRecord.initial(self.setup.chain_id)
        proof = self.ledger.proof_at_or_after(head.height)
        return Recovered(
            record,
            head_block,
            proof[1] if proof else None,
            tuple(recent),
            tuple(self._uncommitted_blocks(record, head.height)),
        )

    def _uncommitted_blocks(self, record: SafetyRecord, head_height: int) -> list[Block]:
        """The saved blocks above the head that my certificates and votes refer to."""
        found: dict[bytes, Block] = {}
        starts = [record.high_qc.block_id]
        if record.last_vote is not None:
            starts.append(record.last_vote.block_id)
        for block_id in starts:
            while block_id not in found:
                block = self.ledger.block_by_id(block_id)
                if block is None or block.height <= head_height:
                    break
                found[block_id] = block
                block_id = block.parent_id
        return list(found.values())

    # ------------------------------------------------------------------ events

    @property
    def deadline(self) -> int:
        """When to tick next, monotonic milliseconds."""
        times = [self.replica.deadline]
        if self.pool.deadline is not None:
            times.append(self.pool.deadline)
        if self.batcher is not None and self.batcher.deadline is not None:
            times.append(self.batcher.deadline)
        if self._save_by is not None:
            times.append(self._save_by)
        return min(times)

    @property
    def unapplied(self) -> int:
        """Committed blocks that wait for their collections."""
        return len(self._unapplied)

    def submit(self, transactions: Sequence[tuple[int, bytes]], now: Instant) -> None:
        """Admitted transactions from a client; `PoolFull` when there is no room."""
        self._now = now
        self.pool.submit(transactions, now.monotonic_ms)

    def on_frame(self, member: int, frame: bytes, now: Instant) -> None:
        """A frame from a member; what is wrong with it is counted against that member."""
        self._now = now
        try:
            self._on_message(member, decode_frame(frame))
        except InvalidMessage as error:
            self.invalid[member] += 1
            self.on_invalid(member, str(error))

    def _on_message(self, member: int, message: NodeMessage | core.Message) -> None:
        now = self._now.monotonic_ms
        match message:
            case CollectionData():
                self.pool.on_collection(member, message.data, now)
            case CollectionRequest():
                self._serve_collections(member, message.digests)
            case CollectionOffer():
                self.pool.on_offer(member, message.digests, now)
            case BatchVote():
                if message.voter != member:
                    raise InvalidMessage(f"batch vote of member {message.voter} from another")
                if self.batcher is not None:
                    self.batcher.on_vote(member, message, now)
            case BatchRequest():
                if self.batcher is not None:
                    self.batcher.on_request(member, message.number, now)
            case BatchCertificate():
                if self.batcher is not None:
                    self.batcher.on_certificate(message)
            case _:
                self.replica.step(member, message, self._now)

    def _serve_collections(self, member: int, digests: Sequence[bytes]) -> None:
        """Y2: what I hold, and what I have ordered long ago."""
        for data in self.pool.on_request(member, digests):
            self._send_to(member, CollectionData(data))
        for digest in digests:
            if self.pool.get(digest) is None:
                ordered = self.ledger.collection_data(digest)
                if ordered is not None and self.pool.serve(member, len(ordered)):
                    self._send_to(member, CollectionData(ordered))

    def peer_up(self, member: int, now: Instant) -> None:
        """A link to a member came up."""
        self._now = now
        self.replica.peer_up(member, now)

    def tick(self, now: Instant) -> None:
        """Time has passed."""
        self._now = now
        self.pool.tick(now.monotonic_ms)
        self.replica.tick(now)
        if self.batcher is not None:
            self.batcher.tick(now.monotonic_ms)

    # ------------------------------------------------------------------ save, speak, apply

    def pump(self, now: Instant) -> None:
        """Do everything that was decided, until nothing is left. A failed save is raised."""
        self._now = now
        while self._drain():
            pass

    def _drain(self) -> bool:
        """One round of save, speak, apply; False when there was nothing to do."""
        collected = self.pool.take()
        if collected.arrived:
            self._apply()
            self.replica.collections_arrived(self._now)
        ready = self.replica.ready()
        batches = self.batcher.take() if self.batcher is not None else BatcherReady()

        self._put(ready, collected, batches)
        saved = self._must_save(ready, batches) and self._save()
        self._speak_payload(collected)
        for outgoing in ready.messages:
            self._speak(outgoing)
        self._speak_batches(batches)

        for notice in ready.notices:
            self.on_notice(notice)
            if notice.kind is NoticeKind.TIMED_OUT:
                self._offer_to_all()
        if ready.offer_to is not None:
            self.pool.offer_to(ready.offer_to)
        for digest, hints in ready.want:
            self.pool.want([digest], hints, self._now.monotonic_ms)
        self._hear_myself()
        self._unapplied.extend(ready.committed)
        if ready.committed:
            self._apply()
        asked = bool(ready.want) or ready.offer_to is not None
        return saved or asked or bool(ready.messages) or bool(ready.committed)

    def _offer_to_all(self) -> None:
        """T4: whoever has nothing to order has no timer, and I need their timeouts beside mine."""
        for member in range(self.setup.committee.size):
            self.pool.offer_to(member)

    def _put(self, ready: Ready, collected: PoolReady, batches: BatcherReady) -> None:
        """Everything that has to be durable before anything is said (S1, S3)."""
        writes = self._writes
        if ready.record is not None:
            writes.put(Table.META, META_SAFETY, ready.record.encode())
        for block in ready.blocks:
            writes.put(Table.BLOCKS, block.id, block.encode())
        for evidence in ready.evidence:
            self._evidence[evidence.member] += 1
            if self._evidence[evidence.member] <= MAX_EVIDENCE:
                encoded = evidence.encode()
                writes.put(Table.EVIDENCE, sha256(encoded).digest(), encoded)
        for collection in collected.save:
            self.ledger.put_collection(writes, collection)
        put_batches(writes, batches.save)

    def _must_save(self, ready: Ready, batches: BatcherReady) -> bool:
        """Whether something was decided, or collections have waited for that long enough.

        Saving each collection as it comes would cost several syncs a block.
        """
        if ready.record or ready.blocks or ready.evidence or batches.save or self._applied:
            return True
        if self._save_by is None and len(self._writes):
            self._save_by = self._now.monotonic_ms + COLLECTIONS_SAVED_WITHIN_MS
        return self._save_by is not None and self._now.monotonic_ms >= self._save_by

    def _save(self) -> bool:
        """S2: one durable transaction for all that was decided; then the log's readers may know."""
        changed = bool(len(self._writes))
        if changed:
            self._store.save(self._writes)
            self._writes = WriteBatch()
        self._save_by = None
        applied, self._applied = self._applied, []
        for block in applied:
            self.on_applied(block)
        return changed

    def _speak_payload(self, collected: PoolReady) -> None:
        for collection in collected.broadcast:
            self._send_all(CollectionData(collection.data))
        for member, digests in collected.requests:
            for start in range(0, len(digests), MAX_DIGESTS):
                self._send_to(member, CollectionRequest(digests[start : start + MAX_DIGESTS]))
        for member, digests in collected.offers:
            self._send_to(member, CollectionOffer(digests[:MAX_DIGESTS]))

    def _speak_batches(self, batches: BatcherReady) -> None:
        for vote in batches.broadcast:
            self._send_all(vote)
        for member, certificate in batches.answers:
            self._send_to(member, certificate)
        for number in batches.certified:
            self.on_certified(number)

    def _hear_myself(self) -> None:
        own, self._own = self._own, deque()
        for message in own:
            self.replica.step(self.setup.me, message, self._now)

    def _speak(self, outgoing: Outgoing) -> None:
        if outgoing.to is None:
            self._send_all(outgoing.message)
            self._own.append(outgoing.message)
        elif outgoing.to == self.setup.me:
            self._own.append(outgoing.message)
        else:
            self._send_to(outgoing.to, outgoing.message)

    def _send_all(self, message: NodeMessage | core.Message) -> None:
        self._transport.broadcast(channel_of(message), message.encode(), self._others)

    def _send_to(self, member: int, message: NodeMessage | core.Message) -> None:
        self._transport.send(self.setup.peers[member], channel_of(message), message.encode())

    def _apply(self) -> None:
        """C1, C3: committed blocks into the log, in order, as soon as their payload is here."""
        while self._unapplied:
            block, proof = self._unapplied[0]
            collections = self._collections_of(block)
            if collections is None:
                self._fetch_ahead()
                break
            self._unapplied.popleft()
            applied = self.ledger.apply(self._writes, block, proof, collections)
            self.pool.on_committed(block.height, block.collections)
            self._applied.append(applied)
            if self.batcher is not None:
                self.batcher.on_block(
                    block.height,
                    block.timestamp_ms,
                    applied.log_entries(),
                    applied.log_root,
                    self._now.monotonic_ms,
                )
        self.replica.fetcher.paused = len(self._unapplied) > MAX_UNAPPLIED

    def _fetch_ahead(self) -> None:
        """Ask for what the next committed blocks name; the pool asks for each once."""
        room = COLLECTIONS_FETCHED_AHEAD
        for block, _ in self._unapplied:
            missing = [digest for digest in block.collections if not self.pool.holds(digest)]
            self.pool.want(missing, (block.author,), self._now.monotonic_ms)
            room -= len(missing)
            if room <= 0:
                break

    def _collections_of(self, block: Block) -> list[Collection] | None:
        """What a block orders, None while some of it is not here."""
        found: list[Collection] = []
        for digest in block.collections:
            collection = self.pool.get(digest) or self.ledger.collection(digest)
            if collection is None:
                return None
            found.append(collection)
        return found


def _ignore(*_: object) -> None:
    """Nobody listens."""
