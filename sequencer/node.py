"""A member: replica, pool, log and batcher as one machine, and the drain that serves them.

Everything that happens goes in through one door (`on_frame`, `submit`, `tick`, ...); `pump` then
does what was decided, in the order that the protocol demands: save, speak, apply.

    save    one durable transaction: safety record, blocks, collections, log, batches; collections
            alone wait for the next thing that is decided, because nothing said depends on them
    speak   messages to others; a message to all comes back to me here, after the save
    apply   committed blocks into the log; their writes are part of the next save

The simulation runs this very class on a store, a network and clocks of its own.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256

from consensus import messages as core
from consensus.committee import Committee
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.interface import Instant, Notice, Ready, Recovered
from consensus.replica import Replica
from consensus.safety import SafetyRecord
from net.transport import PeerId, Transport
from sequencer.applying import Applying
from sequencer.authors import put_collections, recover_collections
from sequencer.batch_votes import Seat
from sequencer.batcher import Batcher, BatcherReady
from sequencer.collection import Collection
from sequencer.epochs import Epochs
from sequencer.guest import Guest
from sequencer.handover import Handover
from sequencer.history import first_record
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.messages import (
    GUESTS_MAY_SAY,
    BatchCertificate,
    BatchRequest,
    BatchVote,
    CollectionData,
    CollectionOffer,
    CollectionRequest,
    NodeMessage,
    decode_frame,
)
from sequencer.payload import NodePayload
from sequencer.peers import Peers
from sequencer.pool import Pool, PoolReady
from sequencer.recovery import open_batcher, recover
from sequencer.setup import Setup
from sequencer.store.schema import META_SAFETY, Table
from sequencer.store.seam import Store, WriteBatch
from sequencer.stored_batch import put_batches
from sequencer.voice import Voice

MAX_UNAPPLIED = 512
"""Committed blocks that may wait for their collections before syncing pauses."""
COLLECTIONS_SAVED_WITHIN_MS = 50
"""How long collections wait at most for a save that is due anyway: a vote (S3), a block, a log."""
MAX_EVIDENCE = 64
"""Pieces of evidence against one member that a run of the node stores; one is enough."""


class Node:
    """One node on one store and one transport: a member in some epochs, a follower in others.

    `on_applied`, `on_certified` and `on_epoch` are called after what they tell is durable;
    `on_commit` asks for the commitments of a closed batch, which the batcher is told.
    `admits` says whether a collection from outside the committee may be ordered.
    """

    def __init__(self, setup: Setup, store: Store, transport: Transport, now: Instant) -> None:
        self.setup = setup
        self._store = store
        self._transport = transport
        self._now = now
        self.ledger = Ledger(store, setup.chain_id, setup.rules)
        saved = store.get(Table.META, META_SAFETY)
        first = first_record(store, setup.chain_id)
        record = SafetyRecord.decode(saved) if saved else first
        self.epochs = Epochs(store, setup.committee, setup.chain_id, setup.crypto, record.epoch)
        self._handover = Handover(self.epochs, setup.rules.base_timeout_ms)
        self.peers = Peers(self.committee, setup.identity, setup.peer_of)
        self.pool = Pool(self.me, self.committee.size, setup.rules, setup.pool_limits)
        self.batcher = open_batcher(setup, self.committee, self._seat_in, store, self.ledger)
        self._applying = Applying(self.ledger, self.pool)
        self._voice = Voice(transport, self.peers, self.epochs)
        self._writes = WriteBatch()
        self._save_by: int | None = None
        self._applied: list[AppliedBlock] = []
        self._begun: list[EpochChange] = []
        self._evidence: Counter[int] = Counter()
        self._guest = Guest(self.pool, self._voice, setup.rules.base_timeout_ms // 2)
        self.on_applied: Callable[[AppliedBlock], None] = _ignore
        self.on_certified: Callable[[int], None] = _ignore
        self.on_epoch: Callable[[EpochChange], None] = _ignore
        self.on_commit: Callable[[int, bytes], None] = _ignore
        self.on_notice: Callable[[Notice], None] = _ignore
        self.on_invalid: Callable[[int, str], None] = _ignore
        self.admits: Callable[[Collection], bool] = lambda collection: True
        recovered = recover(self.ledger, self.epochs, record, setup.rules.digest_window_heights)
        for block in recovered.recent:
            self.pool.on_committed(block)
        recover_collections(self.pool, self.ledger, self.peers)
        self.replica = self._make_replica(recovered)

    # ------------------------------------------------------------------ who I am

    @property
    def committee(self) -> Committee:
        """The committee of the present epoch."""
        return self.epochs.committee

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self.committee.epoch

    @property
    def me(self) -> int | None:
        """My index in the committee; None for a follower."""
        return self.peers.me

    def _make_replica(self, recovered: Recovered) -> Replica:
        """Somebody without the key for this epoch watches like somebody who is no member."""
        setup, seat = self.setup, self._seat_in(self.epoch)
        signer = seat.signer if seat is not None else None
        replica = Replica(
            self.committee,
            self.me if signer is not None else None,
            setup.chain_id,
            setup.rules,
            setup.crypto,
            signer,
            NodePayload(self.pool, self.batcher, self.epochs),
            self.ledger,
            recovered,
            self._now,
        )
        if self.me is not None and signer is None:
            replica.fetcher.remove(self.me)
        return replica

    def _seat_in(self, epoch: int) -> Seat | None:
        """What I am in an epoch that has begun."""
        committee, setup = self.epochs.committee_of(epoch), self.setup
        return Seat.of(committee, setup.identity, setup.signer_for) if committee else None

    # ------------------------------------------------------------------ events

    @property
    def deadline(self) -> int:
        """When to tick next, monotonic milliseconds."""
        times = [self.replica.deadline]
        if self.pool.deadline is not None:
            times.append(self.pool.deadline)
        if self.batcher is not None and self.batcher.deadline is not None:
            times.append(self.batcher.deadline)
        offer_at = self._guest.deadline if self.me is None else None
        others = (self._save_by, self._handover.deadline, offer_at)
        return min(times + [time for time in others if time is not None])

    @property
    def unapplied(self) -> int:
        """Committed blocks that wait for their collections."""
        return len(self._applying.waiting)

    def submit(self, transactions: Sequence[tuple[int, bytes]], now: Instant) -> None:
        """Admitted transactions from a client; `PoolFull` when there is no room."""
        self._now = now
        self.pool.submit(transactions, now.monotonic_ms)

    def on_frame(self, peer: PeerId, frame: bytes, now: Instant) -> None:
        """A frame from a peer; what is wrong with it is counted against that peer."""
        self._now = now
        handle = self.peers.handle(peer)
        if handle is None or self._handover.is_unasked(handle, frame):
            return
        try:
            message = decode_frame(frame)
            if not self._handover.is_for_my_epoch(handle, message, now.monotonic_ms):
                return
            if self.peers.is_member(handle) or isinstance(message, GUESTS_MAY_SAY):
                self._on_message(handle, message)
        except InvalidMessage as error:
            self.on_invalid(handle, str(error))

    def _on_message(self, peer: int, message: NodeMessage | core.Message) -> None:
        now = self._now.monotonic_ms
        match message:
            case CollectionData():
                self._on_collection(peer, message.data)
            case CollectionRequest():
                self._serve_collections(peer, message.digests)
            case CollectionOffer():
                self.pool.on_offer(peer, message.digests, now)
            case BatchVote() | BatchRequest() | BatchCertificate():
                self._on_batch_message(peer, message, now)
            case core.EpochRequest():
                self._handover.on_request(peer, message, now)
            case core.EpochReply():
                self._on_epoch_reply(peer, message)
            case _:
                self.replica.step(peer, message, self._now)

    def _on_collection(self, peer: int, data: bytes) -> None:
        """A guest's own transactions are looked at first; what was ordered is taken as it is."""
        if not self.peers.is_member(peer):
            collection = Collection.decode(data, self.setup.rules)
            if not self.pool.is_named(collection.digest) and not self.admits(collection):
                raise InvalidMessage("a collection from outside the committee is not admitted")
        self.pool.on_collection(peer, data, self._now.monotonic_ms)

    def _on_batch_message(
        self, peer: int, message: BatchVote | BatchRequest | BatchCertificate, now: int
    ) -> None:
        if self.batcher is None:
            return
        match message:
            case BatchVote():
                committee = self.epochs.committee_of(message.epoch)
                if committee is not None and self.peers.seat(peer, committee) != message.voter:
                    raise InvalidMessage(f"batch vote of member {message.voter} from another")
                self.batcher.on_vote(peer, message, now)
            case BatchRequest():
                self.batcher.on_request(peer, message.number, now)
            case BatchCertificate():
                self.batcher.on_certificate(message)

    def _serve_collections(self, member: int, digests: Sequence[bytes]) -> None:
        """Y2: what I hold, and what I have ordered long ago."""
        for data in self.pool.on_request(member, digests):
            self._voice.to_one(member, CollectionData(data))
        for digest in digests:
            if self.pool.get(digest) is None:
                ordered = self.ledger.collection_data(digest)
                if ordered is not None and self.pool.serve(member, len(ordered)):
                    self._voice.to_one(member, CollectionData(ordered))

    def peer_up(self, peer: PeerId, now: Instant) -> None:
        """A link to a peer came up."""
        self._now = now
        handle = self.peers.connected(peer)
        if handle is None:
            return
        if self.me is None and not self.peers.is_member(handle):
            self._add_source(handle)
        self.replica.peer_up(handle, now)

    def _add_source(self, peer: int) -> None:
        """Somebody outside the committee, as I know it, who may have what I lack."""
        self.replica.fetcher.add(peer)
        self.pool.add_source(peer)

    def peer_down(self, peer: PeerId, now: Instant) -> None:
        """The link to a peer is gone."""
        self._now = now
        handle = self.peers.gone(peer)
        if handle is not None:
            self.replica.fetcher.remove(handle)
            self.pool.forget(handle)
            self._handover.forget(handle)
            if self.batcher is not None:
                self.batcher.forget(handle)

    def tick(self, now: Instant) -> None:
        """Time has passed."""
        self._now = now
        self.pool.tick(now.monotonic_ms)
        self.replica.tick(now)
        if self.batcher is not None:
            self.batcher.tick(now.monotonic_ms)
        replica = self.replica
        waiting = replica.epoch_end.last is not None or replica.ended is not None
        waiting = waiting or replica.pacemaker.timed_out
        candidates = self.peers.other_members + self.peers.guests
        self._handover.wait(waiting, candidates, now.monotonic_ms)
        if self.me is None:
            self._guest.tick(now.monotonic_ms)

    # ------------------------------------------------------------------ epochs

    def learn_snapshot(self, committee: Committee, now: Instant) -> None:
        """Ep1: a committee that is final in the registry, of an epoch to come."""
        self._now = now
        self.epochs.learn_snapshot(committee, self._writes)

    def _on_epoch_reply(self, peer: int, reply: core.EpochReply) -> None:
        """Ep4: somebody knows how my epoch ended, so it has the blocks up to there."""
        certificate = self._handover.on_reply(peer, reply)
        if certificate is not None:
            if not self.peers.is_member(peer):
                self._add_source(peer)
            self.replica.learn_end(certificate, self._now)

    def _try_next_epoch(self) -> bool:
        """Ep3, Ep4: once all of the epoch is in the log, hand over to its successor."""
        ended = self.replica.ended
        if ended is None or self.unapplied or self.ledger.head.block_id != ended.block_id:
            return False
        committee = self.epochs.successor(ended)
        if committee is None:
            return False
        self._begin_epoch(EpochChange(ended, self.replica.head, committee))
        return True

    def _begin_epoch(self, change: EpochChange) -> None:
        """Everything is saved with the next drain, before anything of the new epoch is said."""
        before = self.replica
        next_end = self.epochs.begin(change, self._writes)
        record = SafetyRecord(self.epoch, change.root)
        if self.setup.watermarks is not None:
            record = record.raised(self.setup.watermarks)
        self._writes.put(Table.META, META_SAFETY, record.encode())
        moved = self.peers.begin_epoch(self.committee, self._transport.peers_up)
        self.pool.begin_epoch(self.me, self.committee.size, moved)
        self._handover.begin_epoch()
        self._voice.own.clear()
        self._evidence.clear()
        if self.batcher is not None:
            seat = Seat.of(self.committee, self.setup.identity, self.setup.signer_for)
            self.batcher.begin_epoch(seat.committee, seat.me, seat.signer)
        self._begun.append(change)
        recent = before.tree.recent
        recovered = Recovered(record, change.last, None, recent, (), change.root)
        self.replica = self._make_replica(recovered)
        for peer in sorted(self._transport.peers_up):
            self.peer_up(peer, self._now)
        if next_end is not None:
            for guest in self.peers.guests:
                self._add_source(guest)  # some of them are where I am not yet
            self.replica.learn_end(next_end, self._now)

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
        self._voice.payload(collected)
        for outgoing in ready.messages:
            self._voice.say(outgoing)
        for handle, message in self._handover.take():
            self._voice.to_one(handle, message)
        self._voice.batches(batches, self._now.monotonic_ms)
        for number in batches.certified:
            self.on_certified(number)
        for number, data in batches.commit:
            self.on_commit(number, data)
        if self.me is None and collected.broadcast:
            self._guest.offer(self._now.monotonic_ms)

        for notice in ready.notices:
            self.on_notice(notice)
        for member in range(self.committee.size) if ready.offer_all else (ready.offer_to,):
            if member is not None:
                self.pool.offer_to(member)
        self.pool.on_judged(ready.needed, ready.refused, self._now.monotonic_ms)
        self._hear_myself()
        self._applying.waiting.extend(ready.committed)
        if ready.committed:
            self._apply()
        begun = self._try_next_epoch()
        asked = bool(ready.needed) or ready.offer_to is not None or ready.offer_all
        return begun or saved or asked or bool(ready.messages) or bool(ready.committed)

    def _put(self, ready: Ready, collected: PoolReady, batches: BatcherReady) -> None:
        """Everything that has to be durable before anything is said (S1, S3)."""
        writes = self._writes
        if ready.record is not None:
            writes.put(Table.META, META_SAFETY, ready.record.encode())
        for block in ready.blocks:
            self.ledger.put_block(writes, block)
        for evidence in ready.evidence:
            self._evidence[evidence.member] += 1
            if self._evidence[evidence.member] <= MAX_EVIDENCE:
                encoded = evidence.encode()
                writes.put(Table.EVIDENCE, sha256(encoded).digest(), encoded)
        put_collections(writes, collected, self.pool, self.ledger, self.peers)
        put_batches(writes, batches.save)

    def _must_save(self, ready: Ready, batches: BatcherReady) -> bool:
        """Whether something was decided, or collections have waited for that long enough.

        Saving each collection as it comes would cost several syncs a block.
        """
        if ready.record or ready.blocks or ready.evidence or batches.save or self._applied:
            return True
        if self._begun:
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
        begun, self._begun = self._begun, []
        for change in begun:
            self.on_epoch(change)
        return changed

    def _hear_myself(self) -> None:
        for message in self._voice.take_own():
            if self.me is not None:
                self.replica.step(self.me, message, self._now)

    def _apply(self) -> None:
        """Blocks whose payload is here, into the log and into the open batch."""
        now = self._now.monotonic_ms
        for applied in self._applying.apply(self._writes, now):
            self._applied.append(applied)
            if self.batcher is not None:
                self._batch(self.batcher, applied, now)
        self.replica.fetcher.paused = self.unapplied > MAX_UNAPPLIED

    def _batch(self, batcher: Batcher, applied: AppliedBlock, now: int) -> None:
        block = applied.block
        batcher.on_block(
            block.height, block.timestamp_ms, applied.log_entries(), applied.log_root, now
        )
        end = self.replica.epoch_end.last
        if end is not None and end.block.id == block.id:
            batcher.close_epoch(now)


def _ignore(*_: object) -> None:
    """Nobody listens."""
