"""A log in a file against the log on the L1: the first byte that differs, and where it stands."""

import os
from pathlib import Path

from consensus.bls import Crypto
from sequencer.logfile import encode_entries, first_difference
from sequencer.settlement.client import L1Block, SettlementClient
from sequencer.settlement.derive import (
    EMPTY_LOG,
    BlobSource,
    DerivationError,
    LogEnd,
    PostedLog,
    Progress,
    derive_batches,
)


class Differs(DerivationError):
    """The file is not the log on the L1 from `byte` on, which is in batch `number`."""

    def __init__(self, path: Path, number: int, byte: int, size: int) -> None:
        what = "ends before it" if byte >= size else "is something else"
        super().__init__(f"{path}: byte {byte}, in batch {number} on the L1, {what}")
        self.number = number
        self.byte = byte


async def compare_with_l1(
    client: SettlementClient,
    source: PostedLog,
    path: Path,
    *,
    until: L1Block | None = None,
    crypto: Crypto | None = None,
    progress: Progress | None = None,
    blobs: BlobSource | None = None,
) -> LogEnd:
    """Derive a log and see that a file, as `sequencer log --export` writes it, begins with it.

    Raises `Differs`, otherwise as `derive_batches`.
    """
    end, offset = EMPTY_LOG, 0
    with path.open("rb") as file:
        async for batch in derive_batches(
            client, source, until=until, crypto=crypto, progress=progress, blobs=blobs
        ):
            expected = encode_entries(batch.entries)
            place = first_difference(expected, file.read(len(expected)))
            if place is not None:
                size = file.seek(0, os.SEEK_END)
                raise Differs(path, batch.header.number, offset + place, size)
            end, offset = batch.checkpoint.end, offset + len(expected)
    return end
