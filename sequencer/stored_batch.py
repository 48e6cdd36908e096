"""A closed batch on disk."""

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.codec import SIGNATURE_BYTES, counted, decode_whole, u64
from consensus.types import MAX_BITMAP_BYTES
from sequencer.messages import MAX_HEADER_BYTES
from sequencer.settlement import blobs
from sequencer.store.schema import Table
from sequencer.store.seam import WriteBatch


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
                reader.counted(blobs.MAX_BLOB_BATCH_BYTES),
                reader.counted(MAX_BITMAP_BYTES),
                reader.counted(SIGNATURE_BYTES),
            ),
        )


def put_batches(writes: WriteBatch, batches: Sequence[tuple[int, StoredBatch]]) -> None:
    """Save closed or certified batches."""
    for number, batch in batches:
        writes.put(Table.BATCHES, u64(number), batch.encode())
