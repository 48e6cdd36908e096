"""From a transaction's id or alias to its place in the log, and whether it is a repetition.

Places of the newest transactions are in memory, split into `SHARDS` by the first bits of their
id. A shard that has filled up is written as one sorted *segment* and forgotten; shards fill at
different times so that no block pays for all of them. Whoever is not found costs one read per
segment of one shard, which is one per `SHARDS * SEGMENT_ENTRIES` transactions of the log.

What has to be fast is the question whether a transaction stands in the duplicate window. For
every id of the window a bucket, chosen by Python's own keyed hash, holds six bytes of the id and
its height: a C-speed search of a few hundred bytes says "no" nearly always, a "maybe" costs one
exact read. So the answer is exact and the same on every member, whatever the buckets hold, and
nobody can choose ids that crowd one bucket.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from sequencer.store.schema import Table
from sequencer.store.seam import Store, WriteBatch

SHARDS: Final = 16
SEGMENT_ENTRIES: Final = 8_192
INDEX_BITS: Final = 32
PLACE_BYTES: Final = 12

ID_BYTES: Final = 32

_BUCKETS: Final = 1 << 16
_BUCKET_MASK: Final = _BUCKETS - 1
_NEEDLE_BYTES: Final = 6
_HEIGHT_BYTES: Final = 5
_MARK_BYTES: Final = _NEEDLE_BYTES + _HEIGHT_BYTES
_SWEPT_PER_BLOCK: Final = 8
_SWEPT_PER_ENTRY: Final = 1 / 16
_SEGMENTS_PER_READ: Final = 64
_ROWS_PER_READ: Final = 4_096
_SEGMENT = Struct(">BQ")

Place = int
"""`height << INDEX_BITS | index`, the index within the entries of the block."""


class TransactionIndex:
    """The index over a store whose log has its head at `height`.

    A transaction counts once within `window_heights`.
    """

    def __init__(self, store: Store, window_heights: int, height: int) -> None:
        self._store = store
        self._window = window_heights
        self._height = height
        self._tails: list[dict[bytes, Place]] = [{} for _ in range(SHARDS)]
        self._segments: list[list[int]] = [[] for _ in range(SHARDS)]
        self._last_heights: list[list[int]] = [[0] for _ in range(SHARDS)]
        self._next_segment = 0
        self._marks: list[bytes] = [b""] * _BUCKETS
        self._swept = 0
        self._pruned_to = b""
        self._load_segments()

    @property
    def wanted_from(self) -> int:
        """The first height that `restore` needs after the index was opened."""
        unsealed = min(heights[-1] for heights in self._last_heights) + 1
        return max(1, min(unsealed, self._height - self._window + 1))

    def restore(self, height: int, keys: Sequence[tuple[bytes, int]]) -> None:
        """Take back an old block; `keys` are (id or alias, index) of its entries.

        Blocks come in ascending order, from `wanted_from` on.
        """
        self._mark(height, [key for key, _ in keys])
        for key, index in keys:
            shard = key[0] >> 4
            if height > self._last_heights[shard][-1]:
                self._tails[shard][key] = height << INDEX_BITS | index

    def add_block(self, height: int, ids: Sequence[bytes], batch: WriteBatch) -> list[int]:
        """Index a block's ids in order; the ordinals of those that repeat one of the window.

        An id's index in the block counts only the ids before it that are no repetitions.
        """
        tails, buckets = self._tails, self._marks
        self._height = height
        place, mark = height << INDEX_BITS, height.to_bytes(_HEIGHT_BYTES, "big")
        repeated = []
        for ordinal, id in enumerate(ids):
            bucket = hash(id) & _BUCKET_MASK
            marks, needle = buckets[bucket], id[:_NEEDLE_BYTES]
            if needle in marks and self._find_in_window(id, batch) is not None:
                repeated.append(ordinal)
                continue
            buckets[bucket] = marks + needle + mark
            tails[id[0] >> 4][id] = place
            place += 1
        self._sweep(_SWEPT_PER_BLOCK + int(len(ids) * _SWEPT_PER_ENTRY))
        return repeated

    def add_aliases(self, height: int, aliases: Sequence[tuple[bytes, int]]) -> None:
        """Index other names of the entries of the block just added: (alias, index)."""
        self._mark(height, [alias for alias, _ in aliases])
        for alias, index in aliases:
            self._tails[alias[0] >> 4][alias] = height << INDEX_BITS | index

    def seal(self, height: int, batch: WriteBatch) -> None:
        """Write the shards that are full, after the block of this height was added."""
        for shard, tail in enumerate(self._tails):
            # Fewer entries in its first segment stagger a shard against the others.
            full = 1 if self._segments[shard] else (shard + 1) / SHARDS
            if len(tail) >= SEGMENT_ENTRIES * full:
                self._seal_shard(shard, height, batch)

    def prune(self, height: int, batch: WriteBatch, limit: int) -> None:
        """Forget up to `limit` rows of segments that hold nothing above `height`, oldest first."""
        while limit > 0 and (shard := self._oldest_shard()) is not None:
            if self._last_heights[shard][1] > height:
                return
            segment = self._segments[shard][0].to_bytes(4, "big")
            start = self._pruned_to if self._pruned_to.startswith(segment) else segment
            rows = self._store.range(Table.TRANSACTIONS, start, limit)
            gone = [key for key, _ in rows if key.startswith(segment)]
            for key in gone:
                batch.delete(Table.TRANSACTIONS, key)
            limit -= len(gone)
            if gone:
                self._pruned_to = gone[-1] + b"\0"
            if limit > 0:
                batch.delete(Table.SEGMENTS, segment)
                # The height of what is gone stands for "before the first segment".
                del self._segments[shard][0], self._last_heights[shard][0]

    def _oldest_shard(self) -> int | None:
        filled = [shard for shard in range(SHARDS) if self._segments[shard]]
        return min(filled, key=lambda shard: self._segments[shard][0], default=None)

    def find(self, key: bytes) -> Place | None:
        """Where the transaction with this id or alias stands; the newest place if it has several.

        Reads the store only: blocks whose batch is not saved yet may not be found.
        """
        place = self.find_recent(key)
        if place is not None:
            return place
        shard = key[0] >> 4
        segments = self._segments[shard]
        if _is_marked(key):
            # All the others begin within the window.
            oldest = self._height - self._window
            segments = segments[: bisect_left(self._last_heights[shard], oldest)]
        for end in range(len(segments), 0, -_SEGMENTS_PER_READ):
            asked = segments[max(0, end - _SEGMENTS_PER_READ) : end]
            found = self._store.get_many(
                Table.TRANSACTIONS, [_row(segment, key) for segment in asked]
            )
            if found:
                return int.from_bytes(found[max(found)], "big")
        return None

    def find_recent(self, key: bytes) -> Place | None:
        """The same among what is in memory or in the duplicate window; a miss reads nothing."""
        place = self._tails[key[0] >> 4].get(key)
        return place if place is not None else self._find_in_window(key, None)

    def _find_in_window(self, key: bytes, batch: WriteBatch | None) -> Place | None:
        """Where a key stands in the window, the unsaved segments of `batch` included.

        Marks are hints: a place counts only if it has the height that a mark names.
        """
        shard, oldest = key[0] >> 4, self._height - self._window
        heights = self._last_heights[shard]
        for height in reversed(self._marked_heights(key)):
            if height <= oldest:
                break
            if height > heights[-1]:
                place = self._tails[shard].get(key)
            else:
                segment = self._segments[shard][bisect_left(heights, height, 1) - 1]
                place = self._read(_row(segment, key), batch)
            if place is not None and place >> INDEX_BITS == height:
                return place
        return None

    def _read(self, row: bytes, batch: WriteBatch | None) -> Place | None:
        value = batch.get(Table.TRANSACTIONS, row) if batch is not None else None
        if value is None:
            value = self._store.get(Table.TRANSACTIONS, row)
        return None if value is None else int.from_bytes(value, "big")

    def _mark(self, height: int, keys: Iterable[bytes]) -> None:
        buckets, mark = self._marks, height.to_bytes(_HEIGHT_BYTES, "big")
        for key in filter(_is_marked, keys):
            buckets[hash(key) & _BUCKET_MASK] += key[:_NEEDLE_BYTES] + mark

    def _marked_heights(self, key: bytes) -> list[int]:
        """The heights that may hold a key, ascending."""
        marks, needle = self._marks[hash(key) & _BUCKET_MASK], key[:_NEEDLE_BYTES]
        found = []
        at = marks.find(needle)
        while at >= 0:
            if at % _MARK_BYTES == 0:
                found.append(int.from_bytes(marks[at + _NEEDLE_BYTES : at + _MARK_BYTES], "big"))
            at = marks.find(needle, at + 1)
        return found

    def _sweep(self, count: int) -> None:
        """Forget what has left the window, in the next few buckets."""
        oldest = self._height - self._window
        for bucket in range(self._swept, self._swept + count):
            marks, start = self._marks[bucket & _BUCKET_MASK], 0
            while start < len(marks) and (
                int.from_bytes(marks[start + _NEEDLE_BYTES : start + _MARK_BYTES], "big") <= oldest
            ):
                start += _MARK_BYTES
            if start:
                self._marks[bucket & _BUCKET_MASK] = marks[start:]
        self._swept = (self._swept + count) & _BUCKET_MASK

    def _seal_shard(self, shard: int, height: int, batch: WriteBatch) -> None:
        start, tail = self._next_segment.to_bytes(4, "big"), self._tails[shard]
        batch.put_many(
            Table.TRANSACTIONS,
            [(start + key, tail[key].to_bytes(PLACE_BYTES, "big")) for key in sorted(tail)],
        )
        batch.put(Table.SEGMENTS, start, _SEGMENT.pack(shard, height))
        self._note_segment(self._next_segment, shard, height)
        self._tails[shard] = {}

    def _note_segment(self, segment: int, shard: int, height: int) -> None:
        self._next_segment = segment + 1
        self._segments[shard].append(segment)
        self._last_heights[shard].append(height)

    def _load_segments(self) -> None:
        start = b""
        while rows := self._store.range(Table.SEGMENTS, start, _ROWS_PER_READ):
            for key, value in rows:
                self._note_segment(int.from_bytes(key, "big"), *_SEGMENT.unpack(value))
            start = rows[-1][0] + b"\0"


def _is_marked(key: bytes) -> bool:
    """Ids and plain aliases are; an alias with its namespace is asked for too rarely."""
    return len(key) == ID_BYTES


def _row(segment: int, key: bytes) -> bytes:
    return segment.to_bytes(4, "big") + key
