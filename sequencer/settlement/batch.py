"""Batches: a run of log entries, the bytes that carry it, and the header that a committee signs.

Log.  The log is the sequence of ordered transactions after duplicates are dropped.  Its root is a
hash chain over exactly these, so it can be extended entry by entry and commits to the order.

Header.  Fifteen 32-byte big-endian words (the L1 ABI encoding of its fields after a domain tag).
The very bytes of `BatchHeader.encode` are what members sign and what the contract is given; they
are bound to one chain, L1, contract, epoch and place in the log.

Bytes.  One format byte, then the payload, stored (0) or as one zstd frame (1):

    count | heights | timestamps | namespaces | lengths | transactions

`count` and every column entry but the transactions are minimal LEB128 varints of at most 64 bits.
Heights and timestamps are differences from the entry before (the first one from zero): heights
never fall, timestamps never fall, and entries of one height share a timestamp.  A payload has one
encoding only.  Compressors differ between library versions, so the bytes of the frame are not
canonical: what a member checks is that announced bytes decode to its own run of entries.

Everything that comes from outside is bounded before it is believed: a frame must state its size,
and it is decompressed in small steps all the same, because a frame may lie about it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

MAX_CALLDATA_BYTES: Final = 120 * 1024
"""The largest `post_batch` call, in bytes: with its signature it stays below the 128 KiB that
Ethereum nodes accept as one transaction."""

MAX_BATCH_BYTES: Final = MAX_CALLDATA_BYTES - 2048
"""The largest batch in bytes that calldata carries, stored or uncompressed; the rest of the call is
the header, the bitmap, the signature and their ABI lengths (1,028 bytes with up to 256 members)."""

BATCH_OVERHEAD: Final = 1 + 3
"""Bytes of a stored batch beyond those of its entries: format byte and count (below 2**21)."""

GENESIS_LOG_ROOT: Final = bytes(32)
"""The log root before the first entry."""

DOMAIN: Final = b"dseq/batch/1".ljust(32, b"\0")
"""The first word of a header: no other message signed by a member starts like this."""

HEADER_BYTES: Final = 15 * 32

STORED: Final = 0
ZSTD: Final = 1
ZSTD_LEVEL: Final = 3
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
ZSTD_MAX_WINDOW_BYTES: Final = 1 << 21
# 64 bytes hold at most 16 blocks of 128 KiB: a bomb is noticed 2 MiB late at most.
ZSTD_STEP_BYTES: Final = 64

U64_LIMIT: Final = 1 << 64
U256_LIMIT: Final = 1 << 256


class InvalidBatch(ValueError):
    """Bytes that are no batch, or no header of one."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One ordered transaction: where it stands (height, time in ms, namespace) and its bytes."""

    height: int
    timestamp_ms: int
    namespace: int
    transaction: bytes


def next_log_root(previous: bytes, entry: LogEntry) -> bytes:
    """The log root (32 bytes) after `entry`, given the one before it."""
    leaf = hashlib.sha256(
        entry.height.to_bytes(8, "big")
        + entry.timestamp_ms.to_bytes(8, "big")
        + entry.namespace.to_bytes(8, "big")
        + entry.transaction
    ).digest()
    return hashlib.sha256(previous + leaf).digest()


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What the committee signs about one batch.  Raises InvalidBatch on fields out of range.

    chain_id            digest of the genesis core, 32 bytes
    l1_chain_id         EIP-155 id of the L1, u256
    contract            address of the contract, 20 bytes
    epoch               epoch of the committee that signs
    number              1 for the first batch, then rising by one
    previous_log_root   log root before the first entry, 32 bytes
    first_position      position in the log of the first entry (0 for the very first)
    last_position       position of the last entry, inclusive
    log_root            log root after the last entry, 32 bytes
    data_hash           keccak-256 of the batch's bytes
    blob_hashes         keccak-256 over the versioned hashes; zero where only calldata is used
    entry_count         number of entries
    l1_origin           reserved for forced inclusion
    forced_index        reserved for forced inclusion
    """

    chain_id: bytes
    l1_chain_id: int
    contract: bytes
    epoch: int
    number: int
    previous_log_root: bytes
    first_position: int
    last_position: int
    log_root: bytes
    data_hash: bytes
    blob_hashes: bytes
    entry_count: int
    l1_origin: int = 0
    forced_index: int = 0

    def __post_init__(self) -> None:
        for digest in (self.chain_id, self.previous_log_root, self.log_root, self.data_hash):
            _require(len(digest) == 32, "digest is not 32 bytes")
        _require(len(self.blob_hashes) == 32, "digest is not 32 bytes")
        _require(len(self.contract) == 20, "address is not 20 bytes")
        _require(0 <= self.l1_chain_id < U256_LIMIT, "L1 chain id exceeds 256 bits")
        for number in (self.epoch, self.last_position, self.l1_origin, self.forced_index):
            _require(0 <= number < U64_LIMIT, "number exceeds 64 bits")
        _require(1 <= self.number < U64_LIMIT, "batch numbers start at 1")
        _require(0 <= self.first_position <= self.last_position, "positions out of order")
        count = self.last_position - self.first_position + 1
        _require(self.entry_count == count, "entry count differs from the positions")

    def encode(self) -> bytes:
        """The signed bytes: HEADER_BYTES, one 32-byte word a field after the domain tag."""
        words = [
            word if isinstance(word, bytes) else word.to_bytes(32, "big") for word in astuple(self)
        ]
        return DOMAIN + b"".join(word.rjust(32, b"\0") for word in words)

    @classmethod
    def decode(cls, data: bytes) -> "BatchHeader":
        """The header with these signed bytes.  Raises InvalidBatch."""
        _require(len(data) == HEADER_BYTES, "header has the wrong length")
        words = [data[start : start + 32] for start in range(0, HEADER_BYTES, 32)]
        _require(words[0] == DOMAIN, "header has the wrong domain")
        _require(not any(words[3][:12]), "address exceeds 20 bytes")
        return cls(
            chain_id=words[1],
            l1_chain_id=int.from_bytes(words[2], "big"),
            contract=words[3][12:],
            epoch=int.from_bytes(words[4], "big"),
            number=int.from_bytes(words[5], "big"),
            previous_log_root=words[6],
            first_position=int.from_bytes(words[7], "big"),
            last_position=int.from_bytes(words[8], "big"),
            log_root=words[9],
            data_hash=words[10],
            blob_hashes=words[11],
            entry_count=int.from_bytes(words[12], "big"),
            l1_origin=int.from_bytes(words[13], "big"),
            forced_index=int.from_bytes(words[14], "big"),
        )


def uncompressed_size(entry: LogEntry) -> int:
    """Bytes that `entry` adds to a stored batch at most, whatever its neighbours are.

    A batch fits while `BATCH_OVERHEAD + sum(uncompressed_size(entry)) <= MAX_BATCH_BYTES`; a
    transaction that does not fit alone must not be admitted.
    """
    columns = (entry.height, entry.timestamp_ms, entry.namespace, len(entry.transaction))
    return sum(max(1, (value.bit_length() + 6) // 7) for value in columns) + len(entry.transaction)


def encode_batch(entries: Sequence[LogEntry], cap: int = MAX_BATCH_BYTES) -> bytes:
    """The bytes of a batch of one or more entries, compressed where that is smaller.

    Raises InvalidBatch for entries that no log has (falling heights or times, numbers beyond
    64 bits, more than `cap` bytes, packed or not).  The result is decoded again before it is
    returned.
    """
    import zstandard

    payload = _encode_payload(entries)
    _require(1 + len(payload) <= cap, "batch exceeds its cap")
    data = bytes([STORED]) + payload
    frame = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(payload)
    if len(frame) < len(payload):
        data = bytes([ZSTD]) + frame
    assert decode_batch(data, cap) == list(entries), "a batch must decode to what was encoded"
    return data


def decode_batch(data: bytes, cap: int = MAX_BATCH_BYTES) -> list[LogEntry]:
    """The entries of a batch.  Raises InvalidBatch, also above `cap` bytes, packed or not."""
    _require(2 <= len(data) <= cap, "batch is empty or exceeds its cap")
    if data[0] == STORED:
        return _decode_payload(data[1:])
    _require(data[0] == ZSTD, "unknown batch format")
    return _decode_payload(_decompress(data[1:], cap - 1))


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise InvalidBatch(reason)


def _varint(value: int) -> bytes:
    """Minimal LEB128 of an unsigned integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode_payload(entries: Sequence[LogEntry]) -> bytes:
    _require(len(entries) > 0, "a batch holds at least one entry")
    for entry in entries:
        for number in (entry.height, entry.timestamp_ms, entry.namespace):
            _require(0 <= number < U64_LIMIT, "number exceeds 64 bits")
    columns: list[list[int]] = [
        _differences([entry.height for entry in entries]),
        _differences([entry.timestamp_ms for entry in entries]),
        [entry.namespace for entry in entries],
        [len(entry.transaction) for entry in entries],
    ]
    _check_runs(columns[0], columns[1])
    parts = [_varint(len(entries))]
    parts.extend(_varint(value) for column in columns for value in column)
    parts.extend(entry.transaction for entry in entries)
    return b"".join(parts)


def _differences(values: list[int]) -> list[int]:
    differences = [after - before for before, after in zip([0, *values], values, strict=False)]
    _require(min(differences) >= 0, "heights and timestamps never fall")
    return differences


def _check_runs(heights: list[int], timestamps: list[int]) -> None:
    """Entries of one block share its timestamp (the first entry has no entry before it)."""
    pairs = list(zip(heights, timestamps, strict=True))[1:]
    _require(all(height or not time for height, time in pairs), "one height, two timestamps")


class _Reader:
    """Reads a payload from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            _require(self.offset < len(self.data), "batch ends early")
            byte = self.data[self.offset]
            self.offset += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            _require(shift < 70, "varint exceeds 64 bits")
        _require(value < U64_LIMIT, "varint exceeds 64 bits")
        _require(byte != 0 or shift == 7, "varint is not minimal")
        return value

    def column(self, count: int) -> list[int]:
        return [self.varint() for _ in range(count)]

    def take(self, length: int) -> bytes:
        _require(length <= len(self.data) - self.offset, "batch ends early")
        self.offset += length
        return self.data[self.offset - length : self.offset]


def _decode_payload(payload: bytes) -> list[LogEntry]:
    reader = _Reader(payload)
    count = reader.varint()
    # An entry takes four bytes at least: the columns below are no longer than the payload.
    _require(1 <= count <= len(payload) // 4, "entry count out of range")
    heights, timestamps, namespaces, lengths = (reader.column(count) for _ in range(4))
    _check_runs(heights, timestamps)
    entries = []
    height = timestamp_ms = 0
    for index in range(count):
        height += heights[index]
        timestamp_ms += timestamps[index]
        transaction = reader.take(lengths[index])
        entries.append(LogEntry(height, timestamp_ms, namespaces[index], transaction))
    _require(max(height, timestamp_ms) < U64_LIMIT, "number exceeds 64 bits")
    _require(reader.offset == len(payload), "bytes after the batch")
    return entries


def _decompress(frame: bytes, cap: int) -> bytes:
    """The content of exactly one zstd frame that states its size, at most `cap` bytes."""
    import zstandard

    _require(frame.startswith(ZSTD_MAGIC), "not a zstd frame")
    try:
        stated = zstandard.get_frame_parameters(frame)
        _require(stated.content_size <= cap, "frame exceeds the cap or states no size")
        _require(not stated.has_checksum and stated.dict_id == 0, "frame has extras")
        stream = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES).decompressobj()
        content = bytearray()
        offset = 0
        while not stream.eof:
            _require(offset < len(frame), "frame ends early")
            content += stream.decompress(frame[offset : offset + ZSTD_STEP_BYTES])
            offset += ZSTD_STEP_BYTES
            _require(len(content) <= stated.content_size, "frame exceeds the size it states")
    except zstandard.ZstdError as error:
        raise InvalidBatch("broken zstd frame") from error
    _require(not stream.unused_data and offset >= len(frame), "bytes after the frame")
    _require(len(content) == stated.content_size, "frame is shorter than it states")
    return bytes(content)
