"""A log as one file, so that two of them can be compared byte by byte.

Each entry: `height u64 | timestamp_ms u64 | namespace u64 | length u32 | bytes`, big-endian, in
the order of the log from position 0 on.  What is derived from L1 is a prefix of what nodes export.
"""

from collections.abc import Iterable, Iterator
from io import BytesIO
from struct import Struct
from typing import IO, Final

from sequencer.settlement.batch import LogEntry

_HEAD: Final = Struct(">QQQI")


def write_entries(file: IO[bytes], entries: Iterable[LogEntry]) -> int:
    """Append entries to an open file; how many."""
    count = 0
    for entry in entries:
        size = len(entry.transaction)
        file.write(_HEAD.pack(entry.height, entry.timestamp_ms, entry.namespace, size))
        file.write(entry.transaction)
        count += 1
    return count


def encode_entries(entries: Iterable[LogEntry]) -> bytes:
    """The bytes of these entries in such a file."""
    buffer = BytesIO()
    write_entries(buffer, entries)
    return buffer.getvalue()


def read_entries(data: bytes) -> Iterator[LogEntry]:
    """The entries in a piece of such a file; `ValueError` names the byte where one is cut off."""
    offset = 0
    while offset < len(data):
        end = offset + _HEAD.size
        if end > len(data):
            raise ValueError(f"the entry at byte {offset} is cut off")
        height, timestamp_ms, namespace, size = _HEAD.unpack(data[offset:end])
        if end + size > len(data):
            raise ValueError(f"the entry at byte {offset} is cut off")
        yield LogEntry(height, timestamp_ms, namespace, data[end : end + size])
        offset = end + size


def first_difference(expected: bytes, found: bytes) -> int | None:
    """The first byte in which two pieces differ, also where one of them ends; None if none."""
    if expected == found:
        return None
    for place, (a, b) in enumerate(zip(expected, found, strict=False)):
        if a != b:
            return place
    return min(len(expected), len(found))
