"""Canonical bytes: big-endian fixed-width integers, counted lists, nothing optional to write.

Every type has exactly one encoding and `Reader` refuses everything else, so equal values have
equal bytes and equal hashes on every member. All reads are bounded by the buffer, all counts by
the limit their caller names; `InvalidMessage` is the only exception a reader raises.
"""

from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from typing import TypeVar

from consensus.errors import InvalidMessage

T = TypeVar("T")

HASH_BYTES = 32
SIGNATURE_BYTES = 96
IDENTITY_SIGNATURE_BYTES = 64
ZERO_HASH = bytes(HASH_BYTES)
MAX_U64 = 2**64 - 1


class Domain(Enum):
    """What a signature or a hash is about: 16 bytes, never shared by two meanings."""

    BLOCK_ID = b"dseq/block-id/1\0"
    PROPOSAL = b"dseq/proposal/1\0"
    VOTE = b"dseq/vote/1\0\0\0\0\0"
    COMMIT_VOTE = b"dseq/commit/1\0\0\0"
    TIMEOUT = b"dseq/timeout/1\0\0"
    COMMITTEE = b"dseq/members/1\0\0"


def u8(value: int) -> bytes:
    """One byte."""
    return value.to_bytes(1, "big")


def u32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return value.to_bytes(8, "big")


def counted(data: bytes) -> bytes:
    """Bytes behind their length as u32."""
    return u32(len(data)) + data


def sequence(items: list[bytes]) -> bytes:
    """Encoded items behind their count as u32."""
    return u32(len(items)) + b"".join(items)


def optional(encoded: bytes | None) -> bytes:
    """A flag byte, then the value if there is one."""
    return b"\0" if encoded is None else b"\1" + encoded


def signing_bytes(domain: Domain, chain_id: bytes, epoch: int, fields: bytes) -> bytes:
    """The byte string that is signed: domain, chain id (32 bytes), epoch, then the fields."""
    return domain.value + chain_id + u64(epoch) + fields


def hash_bytes(domain: Domain, data: bytes) -> bytes:
    """SHA-256 under a domain of its own."""
    return sha256(domain.value + data).digest()


class Reader:
    """Reads canonical bytes once, front to back."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise InvalidMessage(f"message ends {end - len(self._data)} bytes early")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Four bytes, big-endian."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """Eight bytes, big-endian."""
        return int.from_bytes(self.take(8), "big")

    def hash(self) -> bytes:
        """A 32-byte hash."""
        return self.take(HASH_BYTES)

    def counted(self, limit: int) -> bytes:
        """Bytes behind their length, which may be `limit` at most."""
        size = self.u32()
        if size > limit:
            raise InvalidMessage(f"{size} bytes where {limit} are allowed")
        return self.take(size)

    def rest(self, limit: int) -> bytes:
        """Everything that is left, `limit` bytes at most."""
        size = len(self._data) - self._position
        if size > limit:
            raise InvalidMessage(f"{size} bytes where {limit} are allowed")
        return self.take(size)

    def sequence(self, item: Callable[["Reader"], T], limit: int) -> tuple[T, ...]:
        """A counted list of at most `limit` items."""
        count = self.u32()
        if count > limit:
            raise InvalidMessage(f"{count} items where {limit} are allowed")
        return tuple(item(self) for _ in range(count))

    def optional(self, item: Callable[["Reader"], T]) -> T | None:
        """A value behind a flag byte."""
        flag = self.u8()
        if flag > 1:
            raise InvalidMessage(f"flag byte is {flag}")
        return item(self) if flag else None

    def end(self) -> None:
        """Refuse bytes that nothing has asked for."""
        if self._position != len(self._data):
            raise InvalidMessage(f"{len(self._data) - self._position} bytes too many")


def decode_whole(data: bytes, item: Callable[[Reader], T]) -> T:
    """Read one value that fills the buffer exactly."""
    reader = Reader(data)
    value = item(reader)
    reader.end()
    return value
