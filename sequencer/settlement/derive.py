"""Derivation: the ordered log, rebuilt from L1 alone. The inverse of posting, and the last word.

From the contract's events and the inputs of the transactions that caused them, every batch is
checked as if the contract were not to be trusted: header and place, certificate of the genesis
committee, the bytes against their hash, positions, and the log root entry by entry. The L1
endpoint is not trusted either; what it can do is withhold the newest batches. Bytes that are in
blobs come from a beacon node, and have to be the ones that the transaction and the header name.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eth_hash.auto import keccak

from consensus.bls import verify_aggregate
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
from sequencer.settlement.client import Accepted, L1Block, SettlementClient
from sequencer.settlement.encoding import compress_signature

if TYPE_CHECKING:
    from sequencer.genesis import Genesis

MAX_SPAN_BLOCKS = 2_000
"""L1 blocks whose events are held in memory at a time."""


class DerivationError(Exception):
    """The L1 does not hold a valid log; the message names the batch and what is wrong with it."""


VerifyAggregate = Callable[[Sequence[bytes], bytes, bytes], bool]
"""(compressed keys, message, compressed signature) to whether all of them signed it."""
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

    `committee_keys` are the members' compressed BLS keys (48 bytes) in committee order, `weights`
    their weights (empty: all 1); `chain_id` is the digest of the genesis core, `contract` an
    address of 20 bytes.
    """

    chain_id: bytes
    committee_keys: tuple[bytes, ...]
    l1_chain_id: int
    contract: bytes
    deploy_block: int
    epoch: int = 0
    weights: tuple[int, ...] = ()

    def weight(self, member: int) -> int:
        """What the signature of a member counts."""
        return self.weights[member] if self.weights else 1

    @classmethod
    def of(cls, genesis: "Genesis") -> "PostedLog":
        """Where the log of this genesis is posted; it names an L1 contract."""
        l1, members = genesis.l1, genesis.committee.members
        assert l1 is not None
        return cls(
            genesis.chain_id,
            tuple(member.bls_key for member in members),
            l1.chain_id,
            l1.contract,
            l1.deploy_block,
            genesis.committee.epoch,
            tuple(member.weight for member in members),
        )

    @property
    def quorum(self) -> int:
        """More than two thirds of all weight."""
        total = sum(self.weight(member) for member in range(len(self.committee_keys)))
        return 2 * total // 3 + 1


@dataclass(frozen=True, slots=True)
class DerivedBatch:
    """A batch that passed every check, and where it stands on the L1."""

    header: BatchHeader
    entries: tuple[LogEntry, ...]
    place: Accepted


@dataclass(frozen=True, slots=True)
class DerivedLog:
    """The whole log: its entries, the root over them, and the headers of its batches."""

    entries: list[LogEntry]
    log_root: bytes
    batches: list[BatchHeader]


@dataclass(frozen=True, slots=True)
class _End:
    """Where the log ends so far."""

    number: int
    position: int
    log_root: bytes
    height: int
    timestamp_ms: int


_START = _End(number=0, position=-1, log_root=GENESIS_LOG_ROOT, height=0, timestamp_ms=0)


async def derive_batches(
    client: SettlementClient,
    source: PostedLog,
    *,
    until: L1Block | None = None,
    verify: VerifyAggregate = verify_aggregate,
    progress: Progress | None = None,
    blobs: BlobSource | None = None,
) -> AsyncIterator[DerivedBatch]:
    """The batches of a log, in order, as they are checked; up to `until` (default: the L1's head).

    Batches that are in blobs are read from `blobs`.  Raises `DerivationError` at the first batch
    that is wrong, `SettlementError` if the L1 fails.
    """
    last = await client.head() if until is None else until
    end = _START
    first = source.deploy_block
    while first <= last.number:
        span_end = min(first + MAX_SPAN_BLOCKS - 1, last.number)
        for place in await client.accepted(first, span_end):
            calldata = await client.transaction_input(place.tx_hash)
            carried = await _carried(client, blobs, place)
            batch = check_batch(source, place, calldata, end, verify, carried)
            end = _end_of(batch)
            yield batch
            if progress is not None:
                progress(end.number, place.block_number, last.number)
        first = span_end + 1
    state = await client.contract_state(last)
    if (state.next_number, state.log_root) != (end.number + 1, end.log_root):
        raise DerivationError(
            f"the events end with batch {end.number}, log root {end.log_root.hex()}, but the "
            f"contract at L1 block {last.number} expects batch {state.next_number} after log root "
            f"{state.log_root.hex()}: the L1 endpoint withholds events, or was reorganised; retry"
        )
    if progress is not None:
        progress(end.number, last.number, last.number)


async def derive(
    client: SettlementClient,
    source: PostedLog,
    *,
    until: L1Block | None = None,
    verify: VerifyAggregate = verify_aggregate,
    progress: Progress | None = None,
    blobs: BlobSource | None = None,
) -> DerivedLog:
    """The whole log at once; see `derive_batches`."""
    log = DerivedLog([], GENESIS_LOG_ROOT, [])
    root = GENESIS_LOG_ROOT
    async for batch in derive_batches(
        client, source, until=until, verify=verify, progress=progress, blobs=blobs
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
    place: Accepted,
    calldata: bytes,
    end: _End,
    verify: VerifyAggregate,
    carried: Carried = Carried(),
) -> DerivedBatch:
    """One posted batch, checked against the end of the log before it."""
    name = f"batch {end.number + 1} (L1 transaction 0x{place.tx_hash.hex()})"
    try:
        call = abi.decode_post_blobs(calldata) if place.blobs else abi.decode_post_batch(calldata)
        header = BatchHeader.decode(call.header)
        signature = compress_signature(call.signature)
    except (ValueError, InvalidBatch) as error:
        raise DerivationError(f"{name}: its input cannot be read: {error}") from error
    _check_header(source, header, place, end, name)
    _check_certificate(source, header, call.bitmap, signature, verify, name)
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
    return DerivedBatch(header, tuple(entries), place)


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
    source: PostedLog, header: BatchHeader, place: Accepted, end: _End, name: str
) -> None:
    expected = (
        ("chain id", header.chain_id, source.chain_id),
        ("L1 chain id", header.l1_chain_id, source.l1_chain_id),
        ("contract", header.contract, source.contract),
        ("epoch", header.epoch, source.epoch),
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
    source: PostedLog,
    header: BatchHeader,
    bitmap: bytes,
    signature: bytes,
    verify: VerifyAggregate,
    name: str,
) -> None:
    size = len(source.committee_keys)
    signers = int.from_bytes(bitmap, "little")
    if len(bitmap) != (size + 7) // 8 or signers >> size:
        raise DerivationError(f"{name}: the bitmap does not fit a committee of {size}")
    signed = [index for index in range(size) if signers >> index & 1]
    weight = sum(source.weight(index) for index in signed)
    if weight < source.quorum:
        raise DerivationError(f"{name}: signers of weight {weight}, {source.quorum} is needed")
    keys = [source.committee_keys[index] for index in signed]
    if not verify(keys, header.encode(), signature):
        raise DerivationError(f"{name}: the committee's signature is not valid")


def _check_entries(header: BatchHeader, entries: Sequence[LogEntry], end: _End, name: str) -> None:
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


def _end_of(batch: DerivedBatch) -> _End:
    last = batch.entries[-1]
    header = batch.header
    return _End(
        header.number, header.last_position, header.log_root, last.height, last.timestamp_ms
    )


def _show(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
