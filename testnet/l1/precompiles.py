"""The EIP-2537 precompiles (0x0b..0x11) on the native `py-arkworks-bls12381` library.

py-evm ships pure-Python ones which take 1.3-2 s for one certificate; these take milliseconds. Gas
is charged as EIP-2537 says (constants from py-evm). A malformed input raises `VMError`, which burns
the gas given to the call and makes it fail, as on any Ethereum client.

Encodings: a field element is 64 bytes big endian of which the first 16 are zero; an Fp2 element is
c0 then c1; a point is x then y, and all zeros is the point at infinity. ADD does no subgroup check,
MSM and PAIRING do.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from eth.exceptions import VMError
from eth.precompiles.bls12_381.constants import (
    BLS12_G1_ADD_GAS,
    BLS12_G1_MSM_GAS,
    BLS12_G2_ADD_GAS,
    BLS12_G2_MSM_GAS,
    BLS12_MAP_FP2_G2_GAS,
    BLS12_MAP_FP_G1_GAS,
    G1_MSM_DISCOUNTS,
    G1_MSM_MAX_DISCOUNT,
    G2_MSM_DISCOUNTS,
    G2_MSM_MAX_DISCOUNT,
    MSM_MULTIPLIER,
)
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

FIELD_BYTES = 64
"""An encoded field element, 16 zero bytes of padding included."""
G1_BYTES = 2 * FIELD_BYTES
G2_BYTES = 4 * FIELD_BYTES
SCALAR_BYTES = 32
PAIR_BYTES = G1_BYTES + G2_BYTES
PAIRING_BASE_GAS = 37_700
PAIRING_PAIR_GAS = 32_600
FIELD_MODULUS = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab",
    16,
)
MEMO_ENTRIES = 256
"""Results remembered: a certificate is checked by each poster's eth_call, then when mined."""

Point = TypeVar("Point", G1Point, G2Point)


class Computation(Protocol):
    """What a precompile sees of py-evm's computation."""

    msg: Any
    output: bytes

    def consume_gas(self, amount: int, reason: str) -> None:
        """Charge `amount` gas or raise OutOfGas."""


def _coordinates(data: bytes) -> bytes:
    """Field elements of 64 bytes each as 48 bytes each, range checked."""
    packed = bytearray()
    for start in range(0, len(data), FIELD_BYTES):
        element = data[start : start + FIELD_BYTES]
        if int.from_bytes(element, "big") >= FIELD_MODULUS:
            raise VMError("coordinate >= field modulus")
        packed += element[16:]
    return bytes(packed)


def _padded(packed: bytes) -> bytes:
    """Field elements of 48 bytes each as 64 bytes each."""
    return b"".join(bytes(16) + packed[start : start + 48] for start in range(0, len(packed), 48))


def _parsed(parse: Callable[[bytes], Point], data: bytes) -> Point:
    try:
        return parse(_coordinates(data))
    except ValueError as error:
        raise VMError(str(error)) from error


def _g1(data: bytes) -> G1Point:
    return _parsed(G1Point.from_xy_bytes_unchecked_be, data)


def _g2(data: bytes) -> G2Point:
    return _parsed(G2Point.from_xy_bytes_unchecked_be, data)


def _in_subgroup(point: Point) -> Point:
    if not point.is_in_subgroup():
        raise VMError("point is not in the prime-order subgroup")
    return point


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@lru_cache(MEMO_ENTRIES)
def _add_g1(data: bytes) -> bytes:
    total = _g1(data[:G1_BYTES]) + _g1(data[G1_BYTES:])
    return _padded(total.to_xy_bytes_be())


@lru_cache(MEMO_ENTRIES)
def _add_g2(data: bytes) -> bytes:
    total = _g2(data[:G2_BYTES]) + _g2(data[G2_BYTES:])
    return _padded(total.to_xy_bytes_be())


@lru_cache(MEMO_ENTRIES)
def _msm_g1(data: bytes) -> bytes:
    pairs = _split(data, G1_BYTES + SCALAR_BYTES)
    points = [_in_subgroup(_g1(pair[:G1_BYTES])) for pair in pairs]
    scalars = [Scalar.from_be_bytes_mod_order(pair[G1_BYTES:]) for pair in pairs]
    return _padded(G1Point.multiexp_unchecked(points, scalars).to_xy_bytes_be())


@lru_cache(MEMO_ENTRIES)
def _msm_g2(data: bytes) -> bytes:
    pairs = _split(data, G2_BYTES + SCALAR_BYTES)
    points = [_in_subgroup(_g2(pair[:G2_BYTES])) for pair in pairs]
    scalars = [Scalar.from_be_bytes_mod_order(pair[G2_BYTES:]) for pair in pairs]
    return _padded(G2Point.multiexp_unchecked(points, scalars).to_xy_bytes_be())


@lru_cache(MEMO_ENTRIES)
def _pairing(data: bytes) -> bytes:
    pairs = _split(data, PAIR_BYTES)
    first = [_in_subgroup(_g1(pair[:G1_BYTES])) for pair in pairs]
    second = [_in_subgroup(_g2(pair[G1_BYTES:])) for pair in pairs]
    return int(GT.pairing_check(first, second)).to_bytes(32, "big")


@lru_cache(MEMO_ENTRIES)
def _map_g1(data: bytes) -> bytes:
    return _padded(G1Point.map_from_fp_be(_coordinates(data)).to_xy_bytes_be())


@lru_cache(MEMO_ENTRIES)
def _map_g2(data: bytes) -> bytes:
    return _padded(G2Point.map_from_fp2_be(_coordinates(data)).to_xy_bytes_be())


def _run(computation: Computation, name: str, gas: int, function: Callable[[bytes], bytes]) -> None:
    computation.consume_gas(gas, name)
    computation.output = function(bytes(computation.msg.data))


def _exactly(computation: Computation, size: int, name: str) -> None:
    if len(computation.msg.data) != size:
        raise VMError(f"{name} takes {size} bytes, not {len(computation.msg.data)}")


def _count(computation: Computation, size: int, name: str) -> int:
    length = len(computation.msg.data)
    if length == 0 or length % size:
        raise VMError(f"{name} takes a positive multiple of {size} bytes, not {length}")
    return length // size


def _msm_gas(count: int, each: int, discounts: list[int], largest: int) -> int:
    discount = discounts[count - 1] if count <= len(discounts) else largest
    return count * each * discount // MSM_MULTIPLIER


def g1_add(computation: Computation) -> None:
    """0x0b: two G1 points, 256 bytes, to their sum."""
    _exactly(computation, 2 * G1_BYTES, "G1ADD")
    _run(computation, "G1ADD", BLS12_G1_ADD_GAS, _add_g1)


def g1_msm(computation: Computation) -> None:
    """0x0c: pairs of G1 point and scalar, 160 bytes each, to the sum of the products."""
    count = _count(computation, G1_BYTES + SCALAR_BYTES, "G1MSM")
    gas = _msm_gas(count, BLS12_G1_MSM_GAS, G1_MSM_DISCOUNTS, G1_MSM_MAX_DISCOUNT)
    _run(computation, "G1MSM", gas, _msm_g1)


def g2_add(computation: Computation) -> None:
    """0x0d: two G2 points, 512 bytes, to their sum."""
    _exactly(computation, 2 * G2_BYTES, "G2ADD")
    _run(computation, "G2ADD", BLS12_G2_ADD_GAS, _add_g2)


def g2_msm(computation: Computation) -> None:
    """0x0e: pairs of G2 point and scalar, 288 bytes each, to the sum of the products."""
    count = _count(computation, G2_BYTES + SCALAR_BYTES, "G2MSM")
    gas = _msm_gas(count, BLS12_G2_MSM_GAS, G2_MSM_DISCOUNTS, G2_MSM_MAX_DISCOUNT)
    _run(computation, "G2MSM", gas, _msm_g2)


def pairing_check(computation: Computation) -> None:
    """0x0f: pairs of G1 and G2 point, 384 bytes each, to 1 if their product is one, else 0."""
    count = _count(computation, PAIR_BYTES, "PAIRING_CHECK")
    _run(computation, "PAIRING_CHECK", PAIRING_BASE_GAS + PAIRING_PAIR_GAS * count, _pairing)


def map_fp_to_g1(computation: Computation) -> None:
    """0x10: a field element, 64 bytes, to a G1 point."""
    _exactly(computation, FIELD_BYTES, "MAP_FP_TO_G1")
    _run(computation, "MAP_FP_TO_G1", BLS12_MAP_FP_G1_GAS, _map_g1)


def map_fp2_to_g2(computation: Computation) -> None:
    """0x11: an Fp2 element, 128 bytes, to a G2 point."""
    _exactly(computation, 2 * FIELD_BYTES, "MAP_FP2_TO_G2")
    _run(computation, "MAP_FP2_TO_G2", BLS12_MAP_FP2_G2_GAS, _map_g2)


NATIVE_BLS_PRECOMPILES: dict[bytes, Callable[[Computation], None]] = {
    bytes(19) + bytes([address]): precompile
    for address, precompile in enumerate(
        (g1_add, g1_msm, g2_add, g2_msm, pairing_check, map_fp_to_g1, map_fp2_to_g2), start=0x0B
    )
}
"""20-byte address to precompile, to be merged over py-evm's."""
