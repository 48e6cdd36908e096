"""Signatures: BLS12-381 for what is aggregated, Ed25519 for what one author signs.

The only importer of the BLS bindings. Scheme: proof of possession, keys in G1 (48 bytes
compressed), signatures in G2 (96), DST `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_`
(draft-irtf-cfrg-bls-signature). `Crypto` is what the machine sees, so that a simulation can give
it cheap signatures; blspy releases the GIL while it verifies.
"""

from collections.abc import Sequence
from typing import Protocol

from blspy import G1Element, G2Element, PopSchemeMPL, PrivateKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_IDENTITY_SIGNATURE = bytes([0xC0]) + bytes(95)
_IDENTITY_KEY = bytes([0xC0]) + bytes(47)
_INFINITY = G1Element()


class Crypto(Protocol):
    """Checks signatures; never raises, malformed input is simply not valid."""

    def verify_identity(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether an Ed25519 signature is good."""
        ...

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether one member's BLS signature is good."""
        ...

    def verify_aggregate(self, keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        """Whether all these keys signed one message."""
        ...

    def verify_groups(
        self, groups: Sequence[tuple[Sequence[bytes], bytes]], signature: bytes
    ) -> bool:
        """Whether each group's keys signed that group's message; messages differ."""
        ...

    def aggregate(self, signatures: Sequence[bytes]) -> bytes | None:
        """The sum of the signatures; None when one of them is no signature at all."""
        ...


class Signer(Protocol):
    """Holds a member's two keys."""

    def sign(self, message: bytes) -> bytes:
        """A BLS signature, 96 bytes."""
        ...

    def sign_identity(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        ...


def verify_aggregate(keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Whether all these BLS keys signed `message`; False for malformed or empty input."""
    if not keys or signature == _IDENTITY_SIGNATURE:
        return False
    try:
        points = [G1Element.from_bytes(key) for key in keys]
        parsed = G2Element.from_bytes(signature)
        return bool(PopSchemeMPL.fast_aggregate_verify(points, message, parsed))
    except (ValueError, RuntimeError):
        return False


def verify_possession(key: bytes, proof: bytes) -> bool:
    """Whether `proof` (96 bytes) shows that its maker holds the secret of `key`."""
    if key == _IDENTITY_KEY:
        return False
    try:
        return bool(PopSchemeMPL.pop_verify(G1Element.from_bytes(key), G2Element.from_bytes(proof)))
    except (ValueError, RuntimeError):
        return False


class BlsCrypto:
    """The real signatures. Keys are checked once (possession) and kept parsed."""

    def __init__(self) -> None:
        self._parsed: dict[bytes, G1Element] = {}
        self._identities: dict[bytes, Ed25519PublicKey] = {}

    def _key(self, key: bytes) -> G1Element:
        found = self._parsed.get(key)
        if found is None:
            if len(self._parsed) > 4096:
                self._parsed.clear()
            found = self._parsed[key] = G1Element.from_bytes(key)
        return found

    def verify_identity(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether an Ed25519 signature is good."""
        try:
            public = self._identities.get(key)
            if public is None:
                if len(self._identities) > 4096:
                    self._identities.clear()
                public = self._identities[key] = Ed25519PublicKey.from_public_bytes(key)
            public.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether one member's BLS signature is good."""
        return self.verify_aggregate([key], message, signature)

    def verify_aggregate(self, keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        """Whether all these keys signed one message."""
        return self.verify_groups([(keys, message)], signature)

    def verify_groups(
        self, groups: Sequence[tuple[Sequence[bytes], bytes]], signature: bytes
    ) -> bool:
        """Whether each group's keys signed that group's message; messages differ."""
        if not groups or any(not keys for keys, _ in groups) or signature == _IDENTITY_SIGNATURE:
            return False
        try:
            parsed = G2Element.from_bytes(signature)
            sums = [(_sum([self._key(key) for key in keys]), message) for keys, message in groups]
            # Keys of members that collude can cancel out, and so do their signatures then.
            pairs = [(key, message) for key, message in sums if key != _INFINITY]
            points, messages = [key for key, _ in pairs], [message for _, message in pairs]
            return bool(pairs and PopSchemeMPL.aggregate_verify(points, messages, parsed))
        except (ValueError, RuntimeError):
            return False

    def aggregate(self, signatures: Sequence[bytes]) -> bytes | None:
        """The sum of the signatures; None when one of them is no signature at all."""
        try:
            parsed = [G2Element.from_bytes(signature) for signature in signatures]
            return bytes(PopSchemeMPL.aggregate(parsed))
        except (ValueError, RuntimeError):
            return None


def _sum(points: Sequence[G1Element]) -> G1Element:
    total = points[0]
    for point in points[1:]:
        total = total + point
    return total


class KeySigner:
    """Signs with a member's real keys; `bls_secret` and `identity_seed` are 32 bytes each."""

    def __init__(self, bls_secret: bytes, identity_seed: bytes) -> None:
        self._bls = PrivateKey.from_bytes(bls_secret)
        self._identity = Ed25519PrivateKey.from_private_bytes(identity_seed)

    def sign(self, message: bytes) -> bytes:
        """A BLS signature, 96 bytes."""
        return bytes(PopSchemeMPL.sign(self._bls, message))

    def sign_identity(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        return self._identity.sign(message)

    def prove_possession(self) -> bytes:
        """The standard proof of possession for the BLS key, 96 bytes."""
        return bytes(PopSchemeMPL.pop_prove(self._bls))

    @property
    def bls_key(self) -> bytes:
        """The public BLS key, 48 bytes."""
        return bytes(self._bls.get_g1())

    @property
    def identity(self) -> bytes:
        """The public identity key, raw 32 bytes."""
        return self._identity.public_key().public_bytes_raw()


def new_bls_secret(seed: bytes) -> bytes:
    """A BLS secret key from at least 32 random bytes (EIP-2333 key generation)."""
    return bytes(PopSchemeMPL.key_gen(seed))
