"""What a block added to the log: which of its transactions survived de-duplication, and the root.

The transactions of a block, collection after collection, are numbered by *ordinal*; its log
entries, those that repeat nothing, by *index*.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, pairwise
from struct import Struct, iter_unpack, pack, unpack_from

from consensus.types import Block
from sequencer.ethereum_hash import ethereum_hash, is_ethereum_envelope
from sequencer.settlement.batch import LogEntry

ID_BYTES = 32
ALIAS_BYTES = 40
_FIXED = Struct(">32sQIIII")


@dataclass(frozen=True, slots=True)
class BlockEntries:
    """The row of a block in the table ENTRIES.

    log_root        after the block's last entry, 32 bytes
    first_position  of its first entry, or of the next one there will be
    counts          transactions in each of its collections
    repeated        ordinals of those that were dropped, ascending
    ids             the entries' ids one behind the other, `ID_BYTES` each
    aliases         (keccak-256 and namespace u64, index) of entries that look like Ethereum's
    """

    log_root: bytes
    first_position: int
    counts: tuple[int, ...]
    repeated: tuple[int, ...]
    ids: bytes
    aliases: tuple[tuple[bytes, int], ...]

    @property
    def count(self) -> int:
        """How many entries the block has."""
        return len(self.ids) // ID_BYTES

    def id(self, index: int) -> bytes:
        """The id of one entry."""
        return self.ids[index * ID_BYTES : (index + 1) * ID_BYTES]

    def place(self, index: int) -> tuple[int, int]:
        """Which collection of the block an entry stands in, and its index there."""
        ordinal = index
        for repeated in self.repeated:
            if repeated > ordinal:
                break
            ordinal += 1
        ends = list(accumulate(self.counts))
        place = bisect_right(ends, ordinal)
        return place, ordinal - (ends[place - 1] if place else 0)

    def keys(self) -> list[tuple[bytes, int]]:
        """Every (id or alias, index) that the index knows the entries by."""
        ids = [(id, index) for index, id in enumerate(self.each_id())]
        return ids + alias_keys(self.aliases)

    def each_id(self) -> list[bytes]:
        """The entries' ids, in order."""
        return [id for (id,) in iter_unpack(f"{ID_BYTES}s", self.ids)]

    def encode(self) -> bytes:
        """Counts first, then the columns."""
        numbers = [*self.counts, *self.repeated, *(index for _, index in self.aliases)]
        return b"".join(
            (
                _FIXED.pack(
                    self.log_root,
                    self.first_position,
                    len(self.counts),
                    len(self.repeated),
                    len(self.aliases),
                    self.count,
                ),
                pack(f">{len(numbers)}I", *numbers),
                self.ids,
                *(alias for alias, _ in self.aliases),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "BlockEntries":
        """Inverse of `encode`, for what the store gave back."""
        log_root, first_position, *sizes = _FIXED.unpack_from(data)
        places, dropped, aliased, count = sizes
        numbers = unpack_from(f">{places + dropped + aliased}I", data, _FIXED.size)
        start = _FIXED.size + 4 * len(numbers)
        end = start + count * ID_BYTES
        bounds = range(end, end + (aliased + 1) * ALIAS_BYTES, ALIAS_BYTES)
        aliases = [data[first:last] for first, last in pairwise(bounds)]
        return cls(
            log_root,
            first_position,
            numbers[:places],
            numbers[places : places + dropped],
            data[start:end],
            tuple(zip(aliases, numbers[places + dropped :], strict=True)),
        )


def alias_keys(aliases: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """Each alias with its namespace, and without: the bytes may stand in several namespaces."""
    return [*aliases, *((alias[:ID_BYTES], index) for alias, index in aliases)]


def extend_log_root(
    log_root: bytes, block: Block, transactions: Sequence[tuple[int, bytes]]
) -> bytes:
    """`sequencer.settlement.batch.next_log_root` over all entries of a block, without objects."""
    prefix = block.height.to_bytes(8, "big") + block.timestamp_ms.to_bytes(8, "big")
    digest = sha256
    namespace, start = -1, b""
    for entry_namespace, transaction in transactions:
        if entry_namespace != namespace:
            namespace = entry_namespace
            start = prefix + namespace.to_bytes(8, "big")
        log_root = digest(log_root + digest(start + transaction).digest()).digest()
    return log_root


def kept(
    transactions: Iterable[tuple[int, bytes]], repeated: Sequence[int]
) -> list[tuple[int, bytes]]:
    """The transactions of all collections of a block but the repeated ordinals."""
    found = list(transactions)
    if repeated:
        dropped = set(repeated)
        found = [item for ordinal, item in enumerate(found) if ordinal not in dropped]
    return found


def aliases_of(transactions: Sequence[tuple[int, bytes]]) -> tuple[tuple[bytes, int], ...]:
    """What `BlockEntries.aliases` holds for these entries."""
    return tuple(
        (ethereum_hash(transaction) + namespace.to_bytes(8, "big"), index)
        for index, (namespace, transaction) in enumerate(transactions)
        if transaction
        and (transaction[0] >= 0xC0 or 1 <= transaction[0] <= 4)
        and is_ethereum_envelope(transaction)
    )


def log_entries(block: Block, transactions: Sequence[tuple[int, bytes]]) -> list[LogEntry]:
    """The entries of a block as settlement takes them."""
    return [
        LogEntry(block.height, block.timestamp_ms, namespace, transaction)
        for namespace, transaction in transactions
    ]
