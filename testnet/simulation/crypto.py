"""Signatures that cost a hash: the same contract as `BlsCrypto`, for nobody to trust.

A signature is the hash of key and message as a number; aggregates are sums modulo 2**256, so they
add up like points: any grouping, any order, and a signer counted twice counts twice.
"""

from collections.abc import Sequence
from hashlib import sha256

from sequencer.settlement.blobs import G1_BYTES, Sidecar, encode_blobs

MODULUS = 2**256
BLS_PREFIX = b"stub".ljust(64, b"\0")
IDENTITY_PREFIX = b"stub".ljust(32, b"\0")


def bls_key(secret: bytes) -> bytes:
    """The public key of a stub secret, 48 bytes."""
    return sha256(b"bls" + secret).digest() + bytes(16)


def identity_key(secret: bytes) -> bytes:
    """The public identity of a stub secret, 32 bytes."""
    return sha256(b"identity" + secret).digest()


def _number(key: bytes, message: bytes) -> int:
    return int.from_bytes(sha256(key + message).digest(), "big")


def _encoded(number: int) -> bytes:
    return BLS_PREFIX + number.to_bytes(32, "big")


class StubSigner:
    """A member's two keys; `secret` is any bytes of its own. The BLS key may rotate."""

    def __init__(self, secret: bytes, rotation: int = 0) -> None:
        self.bls_key = bls_key(secret + b"/%d" % rotation if rotation else secret)
        self.identity = identity_key(secret)

    def sign(self, message: bytes) -> bytes:
        """What stands for a BLS signature, 96 bytes."""
        return _encoded(_number(self.bls_key, message))

    def sign_identity(self, message: bytes) -> bytes:
        """What stands for an Ed25519 signature, 64 bytes."""
        return IDENTITY_PREFIX + sha256(self.identity + message).digest()


class StubCrypto:
    """Checks stub signatures; never raises."""

    def verify_identity(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether an identity signature is good."""
        return signature == IDENTITY_PREFIX + sha256(key + message).digest()

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether one member's signature is good."""
        return signature == _encoded(_number(key, message))

    def verify_aggregate(self, keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        """Whether all these keys signed one message."""
        return self.verify_groups([(keys, message)], signature)

    def verify_groups(
        self, groups: Sequence[tuple[Sequence[bytes], bytes]], signature: bytes
    ) -> bool:
        """Whether each group's keys signed that group's message."""
        if not groups or any(not keys for keys, _ in groups):
            return False
        total = sum([_number(key, message) for keys, message in groups for key in keys])
        return signature == _encoded(total % MODULUS)

    def aggregate(self, signatures: Sequence[bytes]) -> bytes | None:
        """The sum of the signatures; None when one of them is no signature at all."""
        if not signatures:
            return None
        if any(len(item) != 96 or item[:64] != BLS_PREFIX for item in signatures):
            return None
        return _encoded(sum([int.from_bytes(item[64:], "big") for item in signatures]) % MODULUS)


class StubProver:
    """Commitments to blobs that cost a hash: the same contract as `KzgProcess`; proofs are none."""

    async def versioned_hashes(self, data: bytes) -> tuple[bytes, ...]:
        """The versioned hashes of the blobs that carry `data`."""
        return stub_sidecar(data, True).versioned_hashes

    async def sidecar(self, data: bytes, cells: bool) -> Sidecar:
        """Blobs and what stands for their commitments."""
        return stub_sidecar(data, cells)


def stub_sidecar(data: bytes, cells: bool) -> Sidecar:
    """What a `StubProver` answers, at once."""
    blobs = encode_blobs(data)
    commitments = tuple(sha256(blob).digest().ljust(G1_BYTES, b"\0") for blob in blobs)
    return Sidecar(blobs, commitments, (), cells)
