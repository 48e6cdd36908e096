"""Derivation: the ordered log, rebuilt from L1 alone. The inverse of posting, and the last word.

From the contract's events and the inputs of the transactions that caused them, every batch is
checked as if the contract were not to be trusted: header and place, certificate, the bytes against
their hash, positions, and the log root entry by entry. Committees are followed from the genesis on
through the contract's handovers, each with its certificate; a batch is its epoch's committee's, and
only between the two handovers. The L1 endpoint is not trusted either; what it can do is withhold
the newest batches. Bytes that are in blobs come from a beacon node, and have to be the ones that
the transaction and the header name.

Every batch comes with a `Checkpoint`: from there a later run goes on, after it has seen that the L1
still holds the block the batch stands in.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eth_hash.auto import keccak

from consensus.bls import BlsCrypto, Crypto
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit
from sequencer.settlement import abi
from sequencer.settlement.batch import (
    GENESIS_LOG_ROOT,
    MAX_BATCH_BYTES,
    BatchHeader,
    InvalidBatch,
    LogEntry,
    decode_batch,
    next_log_root,
)
from sequencer.settlement.blobs import (
    MAX_BLOB_BATCH_BYTES,
    InvalidBlobs,
    blobs_digest,
    decode_blobs,
)
from sequencer.settlement.client import (
    Accepted,
    Handover,
    InvalidAnswer,
    L1Block,
    SettlementClient,
)
from sequencer.settlement.encoding import compress_signature

if TYPE_CHECKING:
    from sequencer.genesis import Genesis

MAX_SPAN_BLOCKS = 2_000
"""L1 blocks whose events are held in memory at a time."""


class DerivationError(Exception):
    """The L1 does not hold a valid log; the message names the batch and what is wrong with it."""


class Reorganised(DerivationError):
    """The L1 does not hold the block any more at which a checkpoint stands."""


Progress = Callable[[int, int, int], None]
"""Called with: batches derived, the L1 block reached, the last L1 block."""


class BlobSource(Protocol):
    """Where blobs are kept."""

    async def blobs(
        self, place: Accepted, timestamp_s: int, versioned_hashes: Sequence[bytes]
    ) -> tuple[bytes, ...]:
        """These blobs (versioned hashes of 32 bytes), checked against their hashes, of the L1 block
        in which a batch was accepted, made at this time.  Raises `SettlementError`."""
        ...


@dataclass(frozen=True, slots=True)
class Carried:
    """The blobs of a transaction: `versioned_hashes` are what it names."""

    versioned_hashes: tuple[bytes, ...] = ()
    blobs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PostedLog:
    """Which log to derive: the genesis, and where it is posted.

    `committee` is the first one; `chain_id` is the digest of the genesis core (32 bytes),
    `contract` an address of 20 bytes.
    """

    chain_id: bytes
    committee: Committee
    l1_chain_id: int
    contract: bytes
    deploy_block: int

    @classmethod
    def of(cls, genesis: "Genesis") -> "PostedLog":
        """Where the log of this genesis is posted; it names an L1 contract."""
        l1 = genesis.l1
        assert l1 is not None
        return cls(genesis.chain_id, genesis.committee, l1.chain_id, l1.contract, l1.deploy_block)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where the log ends so far: its last batch, and the last entry of that."""

    number: int = 0
    position: int = -1
    log_root: bytes = GENESIS_LOG_ROOT
    height: int = 0
    timestamp_ms: int = 0


EMPTY_LOG = LogEnd()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a later run needs to go on behind a batch: the end of the log, the committee of the
    contract's epoch, and the batch's place on the L1 (its block, and its event in that)."""

    end: LogEnd
    committee: Committee
    block_number: int
    block_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class DerivedBatch:
    """A batch that passed every check, and where it stands on the L1.

    `committee` is the one that signed it; `data`, `signers` (a bitmap) and `signature` (96 bytes,
    compressed) are what was posted.
    """

    header: BatchHeader
    entries: tuple[LogEntry, ...]
    place: Accepted
    committee: Committee
    data: bytes
    signers: bytes
    signature: bytes

    @property
    def checkpoint(self) -> Checkpoint:
        """Where to go on from here."""
        header, last, place = self.header, self.entries[-1], self.place
        position, log_root = header.last_position, header.log_root
        end = LogEnd(header.number, position, log_root, last.height, last.timestamp_ms)
        return Checkpoint(
            end, self.committee, place.block_number, place.block_hash, place.log_index
        )


@dataclass(frozen=True, slots=True)
class DerivedLog:
    """The whole log: its entries, the root over them, and the headers of its batches."""

    entries: list[LogEntry]
    log_root: bytes
    batches: list[BatchHeader]


async def derive_batches(
    client: SettlementClient,
    source: PostedLog,
    *,
    until: L1Block | None = None,
    start: Checkpoint | None = None,
    crypto: Crypto | None = None,
    progress: Progress | None = None,
    blobs: BlobSource | None = None,
) -> AsyncIterator[DerivedBatch]:
    """The batches of a log, in order, as they are checked; up to `until` (default: the L1's head),
    behind `start` (default: from the genesis on).

    Batches that are in blobs are read from `blobs`.  Raises `DerivationError` at the first batch
    that is wrong, `Reorganised` where `start` is gone, `SettlementError` if the L1 fails.
    """
    last = await client.head() if until is None else until
    if start is not None:
        await check_start(client, start)
    walk = _Walk(source, crypto or BlsCrypto(), start)
    first = source.deploy_block if start is None else start.block_number
    while first <= last.number:
        span_end = min(first + MAX_SPAN_BLOCKS - 1, last.number)
        for event in await _events(client, first, span_end):
            if start is not None and _place(event) <= (start.block_number, start.log_index):
                continue
            if isinstance(event, Handover):
                walk.on_handover(event)
                continue
            calldata = await client.transaction_input(event.tx_hash)
            yield walk.on_batch(event, calldata, await _carried(client, blobs, event))
            if progress is not None:
                progress(walk.end.number, event.block_number, last.number)
        first = span_end + 1
    await _check_end(client, last, walk)
    if progress is not None:
        progress(walk.end.number, last.number, last.number)


async def check_start(client: SettlementClient, start: Checkpoint) -> None:
    """`Reorganised` unless the L1 still holds the checkpoint's block."""
    try:
        found = await client.block(start.block_number)
    except InvalidAnswer:
        found = None
    if found is None or found.block_hash != start.block_hash:
        raise Reorganised(
            f"the L1 was reorganised: batch {start.end.number} stood in its block "
            f"{start.block_number} with hash 0x{start.block_hash.hex()}, which is gone"
        )


async def _check_end(client: SettlementClient, last: L1Block, walk: "_Walk") -> None:
    """The contract has to say the same as its events."""
    state, end, epoch = await client.contract_state(last), walk.end, walk.committee.epoch
    if (state.next_number, state.log_root, state.epoch) != (end.number + 1, end.log_root, epoch):
        raise DerivationError(
            f"the events end with batch {end.number}, log root {end.log_root.hex()}, epoch "
            f"{epoch}, but the contract at L1 block {last.number} expects batch "
            f"{state.next_number} after log root {state.log_root.hex()} in epoch {state.epoch}: "
            "the L1 endpoint withholds events, or was reorganised; retry"
        )


def _place(event: Accepted | Handover) -> tuple[int, int]:
    return event.block_number, event.log_index


async def _events(client: SettlementClient, first: int, last: int) -> Sequence[Accepted | Handover]:
    """Batches and handovers in the order in which they happened."""
    accepted = await client.accepted(first, last)
    handovers = await client.handovers(first, last)
    return sorted([*accepted, *handovers], key=_place) if handovers else accepted


class _Walk:
    """The end of the log and the committee of the contract's epoch, event by event."""

    def __init__(self, source: PostedLog, crypto: Crypto, start: Checkpoint | None) -> None:
        self._source = source
        self._crypto = crypto
        self.end = EMPTY_LOG if start is None else start.end
        self.committee = source.committee if start is None else start.committee

    def on_handover(self, event: Handover) -> None:
        """The present committee has to have certified the next one."""
        following, certificate = event.committee, event.certificate
        name = f"handover to epoch {following.epoch} (L1 transaction 0x{event.tx_hash.hex()})"
        if following.epoch != self.committee.epoch + 1:
            raise DerivationError(f"{name}: it follows epoch {self.committee.epoch}")
        if certificate.next_committee != following.digest:
            raise DerivationError(f"{name}: its members are not those that were certified")
        try:
            verify_commit(self.committee, self._source.chain_id, certificate, self._crypto)
        except InvalidMessage as error:
            raise DerivationError(f"{name}: {error}") from error
        self.committee = following

    def on_batch(self, place: Accepted, calldata: bytes, carried: Carried) -> DerivedBatch:
        """The next batch, checked."""
        batch = check_batch(
            self._source, self.committee, place, calldata, self.end, self._crypto, carried
        )
        self.end = batch.checkpoint.end
        return batch


async def derive(
    client: SettlementClient,
    source: PostedLog,
    *,
    until: L1Block | None = None,
    crypto: Crypto | None = None,
    progress: Progress | None = None,
    blobs: BlobSource | None = None,
) -> DerivedLog:
    """The whole log at once; see `derive_batches`."""
    log = DerivedLog([], GENESIS_LOG_ROOT, [])
    root = GENESIS_LOG_ROOT
    async for batch in derive_batches(
        client, source, until=until, crypto=crypto, progress=progress, blobs=blobs
    ):
        log.entries.extend(batch.entries)
        log.batches.append(batch.header)
        root = batch.header.log_root
    return DerivedLog(log.entries, root, log.batches)


async def _carried(client: SettlementClient, source: BlobSource | None, place: Accepted) -> Carried:
    """The blobs of an accepted batch."""
    if place.blobs == 0:
        return Carried()
    if source is None:
        raise DerivationError(f"batch {place.number} is in blobs, and no beacon endpoint is named")
    hashes = await client.blob_hashes(place.tx_hash)
    found = await source.blobs(place, await client.timestamp_s(place.block_hash), hashes)
    return Carried(hashes, found)


def check_batch(
    source: PostedLog,
    committee: Committee,
    place: Accepted,
    calldata: bytes,
    end: LogEnd,
    crypto: Crypto,
    carried: Carried = Carried(),
) -> DerivedBatch:
    """One posted batch, checked against the end of the log before it and the committee whose epoch
    it was the contract's."""
    name = f"batch {end.number + 1} (L1 transaction 0x{place.tx_hash.hex()})"
    try:
        call = abi.decode_post_blobs(calldata) if place.blobs else abi.decode_post_batch(calldata)
        header = BatchHeader.decode(call.header)
        signature = compress_signature(call.signature)
    except (ValueError, InvalidBatch) as error:
        raise DerivationError(f"{name}: its input cannot be read: {error}") from error
    _check_header(source, committee.epoch, header, place, end, name)
    _check_certificate(committee, header, call.bitmap, signature, crypto, name)
    if isinstance(call, abi.PostBlobsCall):
        data, cap = _data_in_blobs(header, call.blobs, carried, name), MAX_BLOB_BATCH_BYTES
    else:
        data, cap = call.data, MAX_BATCH_BYTES
    if keccak(data) != header.data_hash:
        raise DerivationError(f"{name}: the posted bytes are not those that were signed")
    try:
        entries = decode_batch(data, cap)
    except InvalidBatch as error:
        raise DerivationError(f"{name}: the posted bytes are no batch: {error}") from error
    _check_entries(header, entries, end, name)
    certified = (data, call.bitmap, signature)
    return DerivedBatch(header, tuple(entries), place, committee, *certified)


def _data_in_blobs(header: BatchHeader, count: int, carried: Carried, name: str) -> bytes:
    """The bytes in the blobs of a transaction, which are the blobs that were signed."""
    hashes = carried.versioned_hashes
    if len(hashes) != count or blobs_digest(hashes) != header.blob_hashes:
        raise DerivationError(f"{name}: the transaction's blobs are not those that were signed")
    try:
        return decode_blobs(carried.blobs)
    except InvalidBlobs as error:
        raise DerivationError(f"{name}: its blobs carry no batch: {error}") from error


def _check_header(
    source: PostedLog, epoch: int, header: BatchHeader, place: Accepted, end: LogEnd, name: str
) -> None:
    expected = (
        ("chain id", header.chain_id, source.chain_id),
        ("L1 chain id", header.l1_chain_id, source.l1_chain_id),
        ("contract", header.contract, source.contract),
        ("epoch", header.epoch, epoch),
        ("number", header.number, end.number + 1),
        ("number in the event", place.number, end.number + 1),
        ("previous log root", header.previous_log_root, end.log_root),
        ("first position", header.first_position, end.position + 1),
        ("log root in the event", place.log_root, header.log_root),
        ("data hash in the event", place.data_hash, header.data_hash),
    )
    for field, found, wanted in expected:
        if found != wanted:
            raise DerivationError(f"{name}: {field} is {_show(found)}, not {_show(wanted)}")


def _check_certificate(
    committee: Committee,
    header: BatchHeader,
    bitmap: bytes,
    signature: bytes,
    crypto: Crypto,
    name: str,
) -> None:
    size = committee.size
    signers = int.from_bytes(bitmap, "little")
    if len(bitmap) != (size + 7) // 8 or signers >> size:
        raise DerivationError(f"{name}: the bitmap does not fit a committee of {size}")
    signed = [index for index in range(size) if signers >> index & 1]
    weight = committee.weight(signed)
    if weight < committee.quorum_weight:
        needed = committee.quorum_weight
        raise DerivationError(f"{name}: signers of weight {weight}, {needed} is needed")
    keys = [committee.members[index].bls_key for index in signed]
    if not crypto.verify_aggregate(keys, header.encode(), signature):
        raise DerivationError(f"{name}: the committee's signature is not valid")


def _check_entries(
    header: BatchHeader, entries: Sequence[LogEntry], end: LogEnd, name: str
) -> None:
    if len(entries) != header.entry_count:
        raise DerivationError(
            f"{name}: {len(entries)} entries, the header names {header.entry_count}"
        )
    first = entries[0]
    if first.height < end.height or first.timestamp_ms < end.timestamp_ms:
        raise DerivationError(f"{name}: entry {header.first_position} is older than the one before")
    root = end.log_root
    for entry in entries:
        root = next_log_root(root, entry)
    if root != header.log_root:
        raise DerivationError(
            f"{name}: its entries give log root {root.hex()}, {header.log_root.hex()} was signed"
        )


def _show(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
