"""Keys and signatures as the L1 precompiles of EIP-2537 want them.

A field element is 64 big-endian bytes (16 of them zero), a G1 point x || y (128 bytes), a G2
point x.c0 || x.c1 || y.c0 || y.c1 (256 bytes); infinity is all zeros.  The other form is the
compressed one of the BLS scheme: 48 bytes for a key in G1, 96 for a signature in G2.

Every function checks that its point is on the curve and in the subgroup, and raises ValueError
for anything else.
"""

from typing import Final

from py_arkworks_bls12381 import G1Point, G2Point

COMPRESSED_KEY_BYTES: Final = 48
COMPRESSED_SIGNATURE_BYTES: Final = 96
KEY_BYTES: Final = 128
SIGNATURE_BYTES: Final = 256

_COORDINATE_BYTES: Final = 48
_PADDING: Final = bytes(16)


def expand_key(compressed: bytes) -> bytes:
    """A 48-byte key as 128 bytes."""
    _require(len(compressed) == COMPRESSED_KEY_BYTES, "a compressed key has 48 bytes")
    point = G1Point.from_compressed_bytes(compressed)
    # The binding takes several encodings of infinity; there is one.
    _require(point.to_compressed_bytes() == compressed, "key is not canonical")
    return _pad(point.to_xy_bytes_be())


def compress_key(expanded: bytes) -> bytes:
    """A 128-byte key as 48 bytes."""
    _require(len(expanded) == KEY_BYTES, "an expanded key has 128 bytes")
    point = G1Point.from_xy_bytes_be(_strip(expanded))
    _require(_pad(point.to_xy_bytes_be()) == expanded, "key is not canonical")
    return point.to_compressed_bytes()


def expand_signature(compressed: bytes) -> bytes:
    """A 96-byte signature as 256 bytes."""
    _require(len(compressed) == COMPRESSED_SIGNATURE_BYTES, "a compressed signature has 96 bytes")
    point = G2Point.from_compressed_bytes(compressed)
    _require(point.to_compressed_bytes() == compressed, "signature is not canonical")
    return _pad(point.to_xy_bytes_be())


def compress_signature(expanded: bytes) -> bytes:
    """A 256-byte signature as 96 bytes."""
    _require(len(expanded) == SIGNATURE_BYTES, "an expanded signature has 256 bytes")
    point = G2Point.from_xy_bytes_be(_strip(expanded))
    _require(_pad(point.to_xy_bytes_be()) == expanded, "signature is not canonical")
    return point.to_compressed_bytes()


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def _pad(point: bytes) -> bytes:
    coordinates = range(0, len(point), _COORDINATE_BYTES)
    return b"".join(_PADDING + point[at : at + _COORDINATE_BYTES] for at in coordinates)


def _strip(point: bytes) -> bytes:
    elements = [point[at : at + 64] for at in range(0, len(point), 64)]
    _require(all(element[:16] == _PADDING for element in elements), "coordinate exceeds 48 bytes")
    return b"".join(element[16:] for element in elements)
