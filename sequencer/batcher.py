"""Committed entries into batches, batches into certificates: a pure machine.

Every member closes the same batches, because the rule looks at committed blocks alone: a batch
ends before the entry that would not fit, and with the block that makes it too old or too long.
Members sign its header and tell everybody; a quorum of signatures is what the L1 verifies.
Votes are repeated until there is a certificate; a vote for a certified batch is answered with it,
which is how a member that was away catches up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from consensus.bls import Crypto, Signer
from consensus.codec import SIGNATURE_BYTES, counted, decode_whole, u64
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.rules import Rules
from consensus.types import MAX_BITMAP_BYTES, bitmap_of, members_of
from sequencer.messages import MAX_HEADER_BYTES, BatchCertificate, BatchVote
from sequencer.settlement.batch import (
    BATCH_OVERHEAD,
    GENESIS_LOG_ROOT,
    MAX_BATCH_BYTES,
    BatchHeader,
    LogEntry,
    encode_batch,
    next_log_root,
    uncompressed_size,
)
from sequencer.store.schema import Table
from sequencer.store.seam import Store, WriteBatch

WINDOW = 256
"""Batches beyond the newest certified run whose votes are kept."""
RESENT_AT_ONCE = 8
"""Votes of the oldest uncertified batches that are repeated together."""
ANSWERS_PER_PERIOD = 64
"""Certificates that one member is sent in one period."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where batches go: they are signed for one chain, one L1 and one contract."""

    chain_id: bytes
    l1_chain_id: int
    contract: bytes


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A closed batch: header and bytes, and the certificate as soon as there is one."""

    header: bytes
    data: bytes
    signers: bytes = b""
    signature: bytes = b""

    @property
    def certified(self) -> bool:
        """Whether a quorum signed it."""
        return bool(self.signature)

    def encode(self) -> bytes:
        """Value in the table of batches."""
        parts = (self.header, self.data, self.signers, self.signature)
        return b"".join(counted(part) for part in parts)

    @classmethod
    def decode(cls, value: bytes) -> "StoredBatch":
        """Inverse of `encode`."""
        return decode_whole(
            value,
            lambda reader: cls(
                reader.counted(MAX_HEADER_BYTES),
                reader.counted(MAX_BATCH_BYTES),
                reader.counted(MAX_BITMAP_BYTES),
                reader.counted(SIGNATURE_BYTES),
            ),
        )


@dataclass(slots=True)
class BatcherReady:
    """What to do: save the batches first, then send."""

    save: list[tuple[int, StoredBatch]] = field(default_factory=list)
    broadcast: list[BatchVote] = field(default_factory=list)
    answers: list[tuple[int, BatchCertificate]] = field(default_factory=list)
    certified: list[int] = field(default_factory=list)


class Batcher:
    """The open batch, the closed ones without a certificate, and the votes for them."""

    def __init__(
        self,
        binding: Binding,
        committee: Committee,
        me: int | None,
        rules: Rules,
        crypto: Crypto,
        signer: Signer | None,
        store: Store,
    ) -> None:
        self._binding = binding
        self._committee = committee
        self._me = me
        self._rules = rules
        self._crypto = crypto
        self._signer = signer
        self._store = store
        self._cap = min(rules.batch_max_bytes, MAX_BATCH_BYTES)
        self._open: list[LogEntry] = []
        self._open_bytes = BATCH_OVERHEAD
        self._log_root = GENESIS_LOG_ROOT
        self._closed_root = GENESIS_LOG_ROOT
        self._position = 0
        self._next_number = 1
        self._uncertified: dict[int, StoredBatch] = {}
        self._votes: dict[int, dict[int, BatchVote]] = {}
        self._answered: dict[int, tuple[int, int]] = {}
        self._resend_at: int | None = None
        self._ready = BatcherReady()
        self._recover()

    # ------------------------------------------------------------------ what others may ask

    @property
    def last_closed(self) -> int:
        """The number of the newest closed batch; 0 before the first."""
        return self._next_number - 1

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
        number = self.last_closed
        certified_in_a_row = 0
        while number > 0 and certified_in_a_row < WINDOW:
            value = self._store.get(Table.BATCHES, u64(number))
            assert value is not None, "closed batches have no gaps"
            batch = StoredBatch.decode(value)
            certified_in_a_row = certified_in_a_row + 1 if batch.certified else 0
            if not batch.certified:
                self._uncertified[number] = batch
                self._resend_at = 0
            number -= 1
        self._uncertified = dict(sorted(self._uncertified.items()))

    def resume(self, entries: Sequence[LogEntry], log_root: bytes) -> None:
        """After a restart: the applied entries from `open_position` on, and the root after them."""
        self._open = list(entries)
        self._open_bytes += sum(uncompressed_size(entry) for entry in entries)
        self._log_root = log_root

    def on_block(
        self,
        height: int,
        timestamp_ms: int,
        entries: Sequence[LogEntry],
        log_root: bytes,
        now: int,
    ) -> None:
        """A block was applied; `log_root` is the one after its last entry."""
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

    def _close(self, now: int) -> None:
        from eth_hash.auto import keccak

        data = encode_batch(self._open)
        number = self._next_number
        header = BatchHeader(
            chain_id=self._binding.chain_id,
            l1_chain_id=self._binding.l1_chain_id,
            contract=self._binding.contract,
            epoch=self._committee.epoch,
            number=number,
            previous_log_root=self._closed_root,
            first_position=self._position,
            last_position=self._position + len(self._open) - 1,
            log_root=self._log_root,
            data_hash=keccak(data),
            blob_hashes=bytes(32),
            entry_count=len(self._open),
        )
        batch = StoredBatch(header.encode(), data)
        self._closed_root = self._log_root
        self._position += len(self._open)
        self._next_number += 1
        self._open = []
        self._open_bytes = BATCH_OVERHEAD
        self._uncertified[number] = batch
        self._ready.save.append((number, batch))
        self._vote(number, batch)
        if self._resend_at is None:
            self._resend_at = now + self._rules.base_timeout_ms
        self._try_certify(number)

    # ------------------------------------------------------------------ votes

    def _vote(self, number: int, batch: StoredBatch) -> None:
        if self._signer is not None and self._me is not None:
            known = self._votes.get(number, {}).get(self._me)
            header_hash = sha256(batch.header).digest()
            if known is None or known.header_hash != header_hash:
                signature = self._signer.sign(batch.header)
                known = BatchVote(number, header_hash, self._me, signature)
                self._votes.setdefault(number, {})[self._me] = known
            self._ready.broadcast.append(known)

    def on_vote(self, sender: int, vote: BatchVote, now: int) -> None:
        """Count a member's vote, or answer it with the certificate. `InvalidMessage` if not its."""
        if vote.voter != sender:
            raise InvalidMessage(f"batch vote of member {vote.voter} from another")
        if vote.number < self._next_number and vote.number not in self._uncertified:
            self._answer(sender, vote.number, now // self._rules.base_timeout_ms)
            return
        if vote.number >= self._next_number + WINDOW:
            return
        self._votes.setdefault(vote.number, {})[sender] = vote
        self._try_certify(vote.number)

    def _answer(self, sender: int, number: int, period: int) -> None:
        batch = self.batch(number)
        last_period, given = self._answered.get(sender, (period, 0))
        given = given if last_period == period else 0
        if batch is not None and batch.certified and given < ANSWERS_PER_PERIOD:
            self._answered[sender] = (period, given + 1)
            certificate = BatchCertificate(number, batch.header, batch.signers, batch.signature)
            self._ready.answers.append((sender, certificate))

    def _try_certify(self, number: int) -> None:
        batch = self._uncertified.get(number)
        if batch is None:
            return
        header_hash = sha256(batch.header).digest()
        votes = self._votes.get(number, {})
        agreeing = sorted(v for v, vote in votes.items() if vote.header_hash == header_hash)
        while self._committee.is_quorum(agreeing):
            signature = self._crypto.aggregate([votes[voter].signature for voter in agreeing])
            if signature is not None and self._is_signed(agreeing, batch.header, signature):
                bitmap = bitmap_of(agreeing, self._committee.size)
                self._certified(number, bitmap, signature)
                return
            forged = [v for v in agreeing if not self._is_good(batch.header, votes[v])]
            for voter in forged:
                del votes[voter]
            agreeing = [voter for voter in agreeing if voter not in forged]

    def _is_good(self, header: bytes, vote: BatchVote) -> bool:
        key = self._committee.members[vote.voter].bls_key
        return self._crypto.verify(key, header, vote.signature)

    def _is_signed(self, members: list[int], header: bytes, signature: bytes) -> bool:
        keys = [self._committee.members[member].bls_key for member in members]
        return self._crypto.verify_aggregate(keys, header, signature)

    def on_certificate(self, certificate: BatchCertificate) -> None:
        """A certificate from somebody who has it already. `InvalidMessage` if it is not one."""
        batch = self._uncertified.get(certificate.number)
        if batch is None or batch.header != certificate.header:
            return
        members = members_of(certificate.signers)
        if len(certificate.signers) != (self._committee.size + 7) // 8 or (
            members and members[-1] >= self._committee.size
        ):
            raise InvalidMessage("batch certificate names members that do not exist")
        if not self._committee.is_quorum(members):
            raise InvalidMessage("batch certificate without a quorum")
        if not self._is_signed(members, batch.header, certificate.signature):
            raise InvalidMessage("batch certificate with a bad signature")
        self._certified(certificate.number, certificate.signers, certificate.signature)

    def _certified(self, number: int, signers: bytes, signature: bytes) -> None:
        batch = self._uncertified.pop(number)
        done = StoredBatch(batch.header, batch.data, signers, signature)
        self._ready.save.append((number, done))
        self._ready.certified.append(number)
        self._votes.pop(number, None)
        if not self._uncertified:
            self._resend_at = None

    def tick(self, now: int) -> None:
        """Repeat the votes for the oldest batches that nobody has certified yet."""
        if self._resend_at is None or now < self._resend_at:
            return
        self._resend_at = now + self._rules.base_timeout_ms
        for number in list(self._uncertified)[:RESENT_AT_ONCE]:
            self._vote(number, self._uncertified[number])


def put_batches(writes: WriteBatch, batches: Sequence[tuple[int, StoredBatch]]) -> None:
    """Save closed or certified batches."""
    for number, batch in batches:
        writes.put(Table.BATCHES, u64(number), batch.encode())
