"""From a transaction's id or alias to its place in the log, and whether it is a repetition.

The newest transactions are in memory, split into `SHARDS` by the first bits of their id. A shard
that has filled up is written as one sorted *segment* and forgotten; shards fill at different times
so that no block pays for all of them. A miss looks into every segment of one shard, which is one
read per `SHARDS * SEGMENT_ENTRIES` transactions of the log.

What has to be fast is the question whether a transaction was seen within the duplicate window. For
every sealed id of the window a bucket, chosen by Python's own keyed hash, holds six bytes of the
id and the number of its segment: a C-speed search of a few hundred bytes says "no" nearly always,
a "maybe" costs one exact read. So the answer is exact and the same on every member, whatever the
buckets hold, and nobody can choose ids that crowd one bucket.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from sequencer.store.schema import Table
from sequencer.store.seam import Store, WriteBatch

SHARDS: Final = 16
SEGMENT_ENTRIES: Final = 8_192
INDEX_BITS: Final = 32
PLACE_BYTES: Final = 12

_BUCKETS: Final = 1 << 16
_BUCKET_MASK: Final = _BUCKETS - 1
_NEEDLE_BYTES: Final = 6
_MARK_BYTES: Final = _NEEDLE_BYTES + 4
_SWEPT_PER_SEGMENT: Final = 512
_SEGMENTS_PER_READ: Final = 64
_ROWS_PER_READ: Final = 4_096
_SEGMENT = Struct(">BQ")

Place = int
"""`height << INDEX_BITS | index`, the index within the entries of the block."""


class RecentIds:
    """Which segments may hold an id, for the segments of the duplicate window."""

    def __init__(self) -> None:
        self.buckets: list[bytes] = [b""] * _BUCKETS
        self._swept = 0

    def add(self, segment: int, ids: Iterable[bytes]) -> None:
        """Note the ids of a segment; segments come in ascending order."""
        buckets, number = self.buckets, segment.to_bytes(4, "big")
        for id in ids:
            bucket = hash(id) & _BUCKET_MASK
            buckets[bucket] += id[:_NEEDLE_BYTES] + number

    def segments(self, id: bytes) -> list[int]:
        """The segments that may hold the id, ascending."""
        marks, needle = self.buckets[hash(id) & _BUCKET_MASK], id[:_NEEDLE_BYTES]
        found = []
        at = marks.find(needle)
        while at >= 0:
            if at % _MARK_BYTES == 0:
                found.append(int.from_bytes(marks[at + _NEEDLE_BYTES : at + _MARK_BYTES], "big"))
            at = marks.find(needle, at + 1)
        return found

    def sweep(self, oldest_segment: int) -> None:
        """Forget what is older in some of the buckets; called once a segment."""
        for bucket in range(self._swept, self._swept + _SWEPT_PER_SEGMENT):
            marks, start = self.buckets[bucket], 0
            while start < len(marks) and (
                int.from_bytes(marks[start + _NEEDLE_BYTES : start + _MARK_BYTES], "big")
                < oldest_segment
            ):
                start += _MARK_BYTES
            if start:
                self.buckets[bucket] = marks[start:]
        self._swept = (self._swept + _SWEPT_PER_SEGMENT) % _BUCKETS


class TransactionIndex:
    """The index over a store; `window_heights` is how long a transaction counts once."""

    def __init__(self, store: Store, window_heights: int, head_height: int) -> None:
        self._store = store
        self._window = window_heights
        self._tails: list[dict[bytes, Place]] = [{} for _ in range(SHARDS)]
        self._segments: list[list[int]] = [[] for _ in range(SHARDS)]
        self._sealed_heights = [0] * SHARDS
        self._live: deque[tuple[int, int]] = deque()
        self._next_segment = 0
        self._recent = RecentIds()
        self._load(head_height)

    @property
    def missing_from(self) -> int:
        """The first height whose ids may be in no segment: `restore` wants them from there on."""
        return min(self._sealed_heights) + 1

    def restore(self, height: int, keys: Iterable[tuple[bytes, int]]) -> None:
        """Remember (id or alias, index) of an old block as far as no segment holds them."""
        for key, index in keys:
            shard = key[0] >> 4
            if height > self._sealed_heights[shard]:
                self._tails[shard][key] = height << INDEX_BITS | index

    def add_block(self, height: int, ids: Sequence[bytes], batch: WriteBatch) -> list[int]:
        """Index a block's ids in order; the ordinals of those that repeat one of the window.

        An id's index in the block counts only the ids before it that are no repetitions.
        """
        tails, buckets = self._tails, self._recent.buckets
        place = height << INDEX_BITS
        repeated = []
        for ordinal, id in enumerate(ids):
            tail = tails[id[0] >> 4]
            if (
                id in tail or id[:_NEEDLE_BYTES] in buckets[hash(id) & _BUCKET_MASK]
            ) and self._repeats(id, height, batch):
                repeated.append(ordinal)
                continue
            tail[id] = place
            place += 1
        return repeated

    def add_aliases(self, height: int, aliases: Iterable[tuple[bytes, int]]) -> None:
        """Index other names of a block's entries: (alias, index)."""
        for alias, index in aliases:
            self._tails[alias[0] >> 4][alias] = height << INDEX_BITS | index

    def seal(self, height: int, batch: WriteBatch) -> None:
        """Write the shards that are full, after the block of this height was added."""
        for shard, tail in enumerate(self._tails):
            if len(tail) >= self._fill(shard):
                self._seal_shard(shard, height, batch)

    def find(self, key: bytes) -> Place | None:
        """Where the transaction with this id or alias stands; the newest place if it has several.

        Reads the store only: blocks whose batch is not saved yet may not be found.
        """
        shard = key[0] >> 4
        place = self._tails[shard].get(key)
        if place is not None:
            return place
        place = self._find_recent(key, None)
        if place is not None:
            return place
        segments = self._segments[shard]
        if self._live:
            segments = segments[: bisect_left(segments, self._live[0][0])]
        for end in range(len(segments), 0, -_SEGMENTS_PER_READ):
            asked = segments[max(0, end - _SEGMENTS_PER_READ) : end]
            found = self._store.get_many(
                Table.TRANSACTIONS, [_segment_key(segment, key) for segment in asked]
            )
            if found:
                return int.from_bytes(found[max(found)], "big")
        return None

    def _repeats(self, id: bytes, height: int, batch: WriteBatch) -> bool:
        place = self._tails[id[0] >> 4].get(id)
        if place is None:
            place = self._find_recent(id, batch)
        return place is not None and height - (place >> INDEX_BITS) < self._window

    def _find_recent(self, key: bytes, batch: WriteBatch | None) -> Place | None:
        """Look into the segments of the window, those of an unsaved batch included."""
        for segment in reversed(self._recent.segments(key)):
            row = _segment_key(segment, key)
            value = batch.get(Table.TRANSACTIONS, row) if batch is not None else None
            if value is None:
                value = self._store.get(Table.TRANSACTIONS, row)
            if value is not None:
                return int.from_bytes(value, "big")
        return None

    def _fill(self, shard: int) -> int:
        """How many entries seal a shard; the first time fewer, which staggers the shards."""
        if self._segments[shard]:
            return SEGMENT_ENTRIES
        return SEGMENT_ENTRIES * (shard + 1) // SHARDS

    def _seal_shard(self, shard: int, height: int, batch: WriteBatch) -> None:
        segment, tail = self._next_segment, self._tails[shard]
        start = segment.to_bytes(4, "big")
        batch.put_many(
            Table.TRANSACTIONS,
            [(start + key, tail[key].to_bytes(PLACE_BYTES, "big")) for key in sorted(tail)],
        )
        batch.put(Table.SEGMENTS, start, _SEGMENT.pack(shard, height))
        self._recent.add(segment, tail)
        self._note_segment(segment, shard, height)
        self._tails[shard] = {}
        self._retire(height)

    def _note_segment(self, segment: int, shard: int, height: int) -> None:
        self._next_segment = segment + 1
        self._segments[shard].append(segment)
        self._sealed_heights[shard] = height
        self._live.append((segment, height))

    def _retire(self, height: int) -> None:
        """Let go of the segments that lie before the window of the next block."""
        while self._live[0][1] + self._window <= height:
            self._live.popleft()
        self._recent.sweep(self._live[0][0])

    def _load(self, head_height: int) -> None:
        start = b""
        while rows := self._store.range(Table.SEGMENTS, start, _ROWS_PER_READ):
            for key, value in rows:
                self._note_segment(int.from_bytes(key, "big"), *_SEGMENT.unpack(value))
            start = rows[-1][0] + b"\0"
        while self._live and self._live[0][1] + self._window <= head_height:
            self._live.popleft()
        for segment, _ in self._live:
            self._recent.add(segment, self._segment_keys(segment))

    def _segment_keys(self, segment: int) -> list[bytes]:
        keys: list[bytes] = []
        prefix = start = segment.to_bytes(4, "big")
        while True:
            rows = self._store.range(Table.TRANSACTIONS, start, _ROWS_PER_READ)
            keys += [key[4:] for key, _ in rows if key.startswith(prefix)]
            if len(rows) < _ROWS_PER_READ or not rows[-1][0].startswith(prefix):
                return keys
            start = rows[-1][0] + b"\0"


def _segment_key(segment: int, key: bytes) -> bytes:
    return segment.to_bytes(4, "big") + key
