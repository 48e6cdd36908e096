"""A log as one file, so that two of them can be compared byte by byte.

Each entry: `height u64 | timestamp_ms u64 | namespace u64 | length u32 | bytes`, big-endian, in
the order of the log from position 0 on.  What is derived from L1 is a prefix of what nodes export.
"""

from collections.abc import Iterable
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
