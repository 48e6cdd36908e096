"""Committed entries into batches, batches into certificates: a pure machine.

Every member closes the same batches, because the rule looks at committed blocks alone: a batch
ends before the entry that would not fit, and with the block that makes it too old or too long, or
that ends the epoch. Members sign its header and tell everybody; a quorum of signatures is what the
L1 verifies. Votes are repeated until there is a certificate; a vote for a certified batch is
answered with it, which is how a member that was away catches up. Who has no vote asks.

A header names the epoch whose committee signs it. The contract takes certificates of its newest
epoch alone, so when it moves on, batches that it has not taken are *re-headed*: the same fields
with the new epoch, signed by its committee (`on_contract_epoch`). Two headers for one batch harm
nobody: they name the same bytes at the same place, and the contract takes each number once.

Where batches may go into blobs, a header names these as well. Their commitments take long, so
somebody is asked for them (`BatcherReady.commit`, `on_commitments`); nobody signs before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import TypeAlias

from consensus.bls import Crypto, Signer
from consensus.codec import u64
from consensus.committee import Committee
from consensus.rules import Rules
from sequencer.batch_votes import BatchVotes, Seat, SeatOf, header_of
from sequencer.history import beyond
from sequencer.messages import BatchCertificate, BatchVote
from sequencer.settlement import blobs
from sequencer.settlement.batch import (
    BATCH_OVERHEAD,
    GENESIS_LOG_ROOT,
    BatchHeader,
    LogEntry,
    encode_batch,
    next_log_root,
    uncompressed_size,
)
from sequencer.store.schema import Table
from sequencer.store.seam import Store
from sequencer.stored_batch import StoredBatch

WINDOW = 256
"""Batches beyond the newest certified run whose votes are kept; the most that wait for a new
header at a time."""
RESENT_AT_ONCE = 8
"""Votes of the oldest uncertified batches that are repeated together."""
ANSWERS_PER_PERIOD = 64
"""Certificates that one sender is sent in one period."""

NOTHING_HEADED = (0, 1, 0)
"""Epoch, first and last number of the batches whose headers were looked at: none."""

Sender: TypeAlias = int
"""Who a message came from, as the node addresses its answer."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where batches go: they are signed for one chain, one L1 and one contract.

    `data` says where their bytes go, as in the genesis: calldata, blobs, or either.
    """

    chain_id: bytes
    l1_chain_id: int
    contract: bytes
    data: str = blobs.CALLDATA


@dataclass(slots=True)
class BatcherReady:
    """What to do: save the batches first, then send. `requests` are numbers of batches whose
    certificates have to be asked for, of anybody; `commit` the bytes to commit to as blobs."""

    save: list[tuple[int, StoredBatch]] = field(default_factory=list)
    broadcast: list[BatchVote] = field(default_factory=list)
    answers: list[tuple[Sender, BatchCertificate]] = field(default_factory=list)
    certified: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    commit: list[tuple[int, bytes]] = field(default_factory=list)


class Batcher:
    """The open batch, the closed ones without a certificate, and the votes for them.

    `committee`, `me` and `signer` are those of the present epoch, `seat_of` knows older ones.
    """

    def __init__(
        self,
        binding: Binding,
        committee: Committee,
        me: int | None,
        rules: Rules,
        crypto: Crypto,
        signer: Signer | None,
        store: Store,
        seat_of: SeatOf = lambda epoch: None,
    ) -> None:
        self._binding = binding
        self._epoch = committee.epoch
        self._rules = rules
        self._store = store
        self._votes = BatchVotes(crypto, seat_of)
        self._votes.sit(Seat(committee, me, signer))
        self._cap = min(rules.batch_max_bytes, blobs.max_batch_bytes(binding.data))
        self._open: list[LogEntry] = []
        self._open_bytes = BATCH_OVERHEAD
        self._log_root = GENESIS_LOG_ROOT
        self._closed_root = GENESIS_LOG_ROOT
        self._below: bytes | None = None
        self._position = 0
        self._next_number = 1
        self._uncertified: dict[int, StoredBatch] = {}
        self._contract = (0, 1)
        self._headed = NOTHING_HEADED
        self._answered: dict[Sender, tuple[int, int]] = {}
        self._resend_at: int | None = None
        self._ready = BatcherReady()
        self._recover()

    # ------------------------------------------------------------------ what others may ask

    @property
    def last_closed(self) -> int:
        """The number of the newest closed batch; 0 before the first."""
        return self._next_number - 1

    @property
    def epoch(self) -> int:
        """The epoch that batches closed now belong to."""
        return self._epoch

    def certified_up_to(self, after: int) -> int:
        """The highest number up to which all closed batches behind `after` are certified."""
        behind = (number for number in self._uncertified if number > after)
        return min(behind, default=self._next_number) - 1

    @property
    def open_position(self) -> int:
        """The log position of the first entry that no closed batch holds."""
        return self._position

    @property
    def deadline(self) -> int | None:
        """When to tick next, monotonic milliseconds."""
        return self._resend_at

    def block_wanted_at(self) -> int | None:
        """Unix milliseconds at which a block, even an empty one, closes the open batch."""
        return self._open[0].timestamp_ms + self._rules.batch_max_ms if self._open else None

    def batch(self, number: int) -> StoredBatch | None:
        """A closed batch."""
        known = self._uncertified.get(number)
        if known is not None:
            return known
        for decided, batch in reversed(self._ready.save):
            if decided == number:
                return batch
        value = self._store.get(Table.BATCHES, u64(number))
        return StoredBatch.decode(value) if value is not None else None

    def take(self) -> BatcherReady:
        """What has to be done now."""
        taken, self._ready = self._ready, BatcherReady()
        return taken

    # ------------------------------------------------------------------ closing

    def _recover(self) -> None:
        last = self._store.range(Table.BATCHES, b"", 1, reverse=True)
        if last:
            header = BatchHeader.decode(StoredBatch.decode(last[0][1]).header)
            self._log_root = self._closed_root = header.log_root
            self._position = header.last_position + 1
            self._next_number = header.number + 1
        number, certified_in_a_row = self.last_closed, 0
        while certified_in_a_row < WINDOW and (batch := self.batch(number)) is not None:
            certified_in_a_row = certified_in_a_row + 1 if batch.certified else 0
            if not batch.certified:
                self._uncertified[number] = batch
                self._resend_at = 0
                self._want_commitments(number, batch)
            number -= 1
        self._uncertified = dict(sorted(self._uncertified.items()))

    def resume(self, entries: Sequence[LogEntry], log_root: bytes) -> None:
        """After a restart: the applied entries from `open_position` on, and the root after them."""
        self._open = list(entries)
        self._open_bytes += sum(uncompressed_size(entry) for entry in entries)
        self._log_root = log_root if entries else self._closed_root
        # A log that was just founded ends below the newest batch, the next block beyond it.
        self._below = log_root if log_root != self._log_root else None

    def on_block(
        self,
        height: int,
        timestamp_ms: int,
        entries: Sequence[LogEntry],
        log_root: bytes,
        now: int,
    ) -> None:
        """A block was applied; `log_root` is the one after its last entry."""
        if self._below is not None:
            entries, self._below = beyond(entries, self._below, self._closed_root), None
        rooted = 0
        for index, entry in enumerate(entries):
            size = uncompressed_size(entry)
            if self._open_bytes + size > self._cap:
                for before in entries[rooted:index]:
                    self._log_root = next_log_root(self._log_root, before)
                rooted = index
                self._close(now)
            self._open.append(entry)
            self._open_bytes += size
        self._log_root = log_root
        if self._open:
            first = self._open[0]
            old = timestamp_ms - first.timestamp_ms >= self._rules.batch_max_ms
            if old or height - first.height >= self._rules.batch_max_blocks:
                self._close(now)

    def close_epoch(self, now: int) -> None:
        """The epoch's last block was applied: it closes the open batch, if that holds anything."""
        if self._open:
            self._close(now)

    def _close(self, now: int) -> None:
        from eth_hash.auto import keccak

        data = encode_batch(self._open, self._cap)
        number = self._next_number
        header = BatchHeader(
            chain_id=self._binding.chain_id,
            l1_chain_id=self._binding.l1_chain_id,
            contract=self._binding.contract,
            epoch=self._epoch,
            number=number,
            previous_log_root=self._closed_root,
            first_position=self._position,
            last_position=self._position + len(self._open) - 1,
            log_root=self._log_root,
            data_hash=keccak(data),
            blob_hashes=blobs.NO_BLOBS,
            entry_count=len(self._open),
        )
        batch = StoredBatch(header.encode(), data)
        self._closed_root = self._log_root
        self._position += len(self._open)
        self._next_number += 1
        self._open = []
        self._open_bytes = BATCH_OVERHEAD
        self._want_commitments(number, batch)
        self._enter(number, batch)
        if self._resend_at is None:
            self._resend_at = now + self._rules.base_timeout_ms

    def _enter(self, number: int, batch: StoredBatch) -> None:
        """An uncertified batch with a header of its own: save it, and sign it."""
        self._uncertified[number] = batch
        self._ready.save.append((number, batch))
        self._vote(number, batch)
        self._try_certify(number)

    # ------------------------------------------------------------------ blobs

    def _lacks_commitments(self, batch: StoredBatch) -> bool:
        blob_hashes = BatchHeader.decode(batch.header).blob_hashes
        return self._binding.data != blobs.CALLDATA and blob_hashes == blobs.NO_BLOBS

    def _want_commitments(self, number: int, batch: StoredBatch) -> None:
        if self._lacks_commitments(batch):
            self._ready.commit.append((number, batch.data))

    def on_commitments(self, number: int, versioned_hashes: Sequence[bytes]) -> None:
        """The blobs that carry a closed batch, by their versioned hashes (32 bytes each)."""
        batch = self._uncertified.get(number)
        if batch is not None and self._lacks_commitments(batch):
            header = BatchHeader.decode(batch.header)
            header = replace(header, blob_hashes=blobs.blobs_digest(versioned_hashes))
            self._enter(number, StoredBatch(header.encode(), batch.data))

    # ------------------------------------------------------------------ epochs

    def begin_epoch(self, committee: Committee, me: int | None, signer: Signer | None) -> None:
        """Batches closed from now on are this committee's; older ones stay their committee's."""
        self._epoch = committee.epoch
        self._votes.sit(Seat(committee, me, signer))
        self._answered.clear()  # senders have other handles now
        self._rehead()

    def on_contract_epoch(self, epoch: int, next_number: int) -> None:
        """The contract was seen in `epoch`, expecting batch `next_number`."""
        self._contract = (epoch, next_number)
        self._rehead()

    def _rehead(self) -> None:
        """Give batches that the contract has not taken a header that it can still take."""
        epoch, first = self._contract
        if epoch > self._epoch or self._votes.seat(epoch) is None:
            return  # this node has yet to get there
        last = min(self.last_closed, first + WINDOW - 1)
        done_epoch, done_first, done_last = self._headed
        for number in range(first, last + 1):
            if epoch != done_epoch or not done_first <= number <= done_last:
                self._rehead_one(number, epoch)
        self._headed = (epoch, first, last)

    def _rehead_one(self, number: int, epoch: int) -> None:
        batch = self.batch(number)
        if batch is None:
            return  # older than this node's log
        header = BatchHeader.decode(batch.header)
        if header.epoch >= epoch and not batch.certified:
            self._uncertified.setdefault(number, batch)  # too old for the start to look at
        elif header.epoch < epoch:
            batch = StoredBatch(replace(header, epoch=epoch).encode(), batch.data)
            self._resend_at = self._resend_at or 0
            self._enter(number, batch)

    def _is_postable(self, header: BatchHeader) -> bool:
        """Whether the contract has taken the batch, or may take it with this header."""
        epoch, next_number = self._contract
        return header.number < next_number or header.epoch >= epoch

    # ------------------------------------------------------------------ votes

    def _vote(self, number: int, batch: StoredBatch) -> None:
        """Tell everybody that I signed it, if I have a say."""
        vote = self._own_vote(number, batch)
        if vote is not None:
            self._ready.broadcast.append(vote)

    def _own_vote(self, number: int, batch: StoredBatch) -> BatchVote | None:
        if self._lacks_commitments(batch):
            return None
        return self._votes.own(number, _epoch_of(batch), batch.header)

    def on_vote(self, sender: Sender, vote: BatchVote, now: int) -> None:
        """Count a vote, or answer it with the certificate.

        The caller has seen that `sender` is member `vote.voter` of the vote's epoch.
        """
        batch = self._uncertified.get(vote.number)
        if batch is None and vote.number < self._next_number:
            self.on_request(sender, vote.number, now)
        elif vote.number < self._next_number + WINDOW:
            newest = vote.epoch in (self._epoch, self._epoch - 1)
            if newest or (batch is not None and vote.epoch == _epoch_of(batch)):
                self._votes.add(vote)
                self._try_certify(vote.number)

    def on_request(self, sender: Sender, number: int, now: int) -> None:
        """Somebody needs the certificate of a batch."""
        period = now // self._rules.base_timeout_ms
        batch = self.batch(number)
        last_period, given = self._answered.get(sender, (period, 0))
        given = given if last_period == period else 0
        if batch is not None and batch.certified and given < ANSWERS_PER_PERIOD:
            self._answered[sender] = (period, given + 1)
            certificate = BatchCertificate(number, batch.header, batch.signers, batch.signature)
            self._ready.answers.append((sender, certificate))

    def forget(self, sender: Sender) -> None:
        """A peer is gone for good."""
        self._answered.pop(sender, None)

    def _try_certify(self, number: int) -> None:
        batch = self._uncertified.get(number)
        if batch is not None:
            found = self._votes.certificate(number, _epoch_of(batch), batch.header)
            if found is not None:
                self._certified(number, StoredBatch(batch.header, batch.data, *found))

    def on_certificate(self, certificate: BatchCertificate) -> None:
        """A certificate from somebody who has it already. `InvalidMessage` if it is not one.

        It may be for another header of the batch than mine, if that one can be posted.
        """
        batch = self._uncertified.get(certificate.number)
        if batch is None:
            return
        mine, theirs = BatchHeader.decode(batch.header), header_of(certificate)
        if self._lacks_commitments(batch):
            mine = replace(mine, blob_hashes=theirs.blob_hashes)  # a quorum vouches for them
        if mine != replace(theirs, epoch=mine.epoch) or not self._is_postable(theirs):
            return
        seat = self._votes.seat(theirs.epoch)
        if seat is None:
            return
        self._votes.check(certificate, seat.committee)
        if theirs.epoch < self._contract[0]:
            self._headed = NOTHING_HEADED  # the L1 may yet go back to before this batch
        done = (certificate.header, batch.data, certificate.signers, certificate.signature)
        self._certified(certificate.number, StoredBatch(*done))

    def _certified(self, number: int, done: StoredBatch) -> None:
        del self._uncertified[number]
        self._ready.save.append((number, done))
        self._ready.certified.append(number)
        self._votes.forget(number)
        if not self._uncertified:
            self._resend_at = None

    def tick(self, now: int) -> None:
        """Repeat the votes for the oldest batches that nobody has certified yet."""
        if self._resend_at is None or now < self._resend_at:
            return
        self._resend_at = now + self._rules.base_timeout_ms
        for number in nsmallest(RESENT_AT_ONCE, self._uncertified):
            batch = self._uncertified[number]
            if _epoch_of(batch) < self._contract[0] <= self._epoch:
                # Taken by the contract, but its certificate is lost: all meet in the newest epoch.
                self._rehead_one(number, self._contract[0])
            elif self._own_vote(number, batch) is None:
                self._ready.requests.append(number)
            else:
                self._vote(number, batch)


def _epoch_of(batch: StoredBatch) -> int:
    return BatchHeader.decode(batch.header).epoch
