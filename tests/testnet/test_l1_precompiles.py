"""The native BLS precompiles against py-evm's own (py_ecc), on good input and bad."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from eth.exceptions import VMError
from eth.precompiles import (
    bls12_g1_add,
    bls12_g1_msm,
    bls12_g2_add,
    bls12_g2_msm,
    bls12_map_fp2_to_g2,
    bls12_map_fp_to_g1,
    bls12_pairing_check,
)
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from testnet.l1 import precompiles
from testnet.l1.precompiles import FIELD_MODULUS, NATIVE_BLS_PRECOMPILES

RANDOM = Random(1)
G1, G2 = G1Point(), G2Point()


@dataclass
class Message:
    data: bytes


@dataclass
class Call:
    """A computation: input, gas charged, output."""

    msg: Message
    gas: int = 0
    output: bytes = field(default=b"unset")

    def consume_gas(self, amount: int, reason: str) -> None:
        self.gas += amount


def run(precompile: Callable[[Any], None], data: bytes) -> tuple[int, bytes] | str:
    """Gas and output, or that it fails."""
    call = Call(Message(data))
    try:
        precompile(call)
    except VMError:
        return "fails"
    return call.gas, call.output


def pad(packed: bytes) -> bytes:
    return b"".join(bytes(16) + packed[at : at + 48] for at in range(0, len(packed), 48))


def g1(factor: int) -> bytes:
    return pad((G1 * Scalar(factor)).to_xy_bytes_be())


def g2(factor: int) -> bytes:
    return pad((G2 * Scalar(factor)).to_xy_bytes_be())


def fp(value: int) -> bytes:
    return value.to_bytes(64, "big")


def off_subgroup_g1() -> bytes:
    """A point on the curve that is not in the subgroup: y^2 = x^3 + 4 with a small x."""
    for x in range(1, 100):
        square = (x**3 + 4) % FIELD_MODULUS
        y = pow(square, (FIELD_MODULUS + 1) // 4, FIELD_MODULUS)
        if y * y % FIELD_MODULUS == square:
            return fp(x) + fp(y)
    raise AssertionError


S1, S2, S3 = (RANDOM.getrandbits(255) for _ in range(3))
ZERO1, ZERO2 = bytes(128), bytes(256)
BIG = fp(FIELD_MODULUS)
WIDE = (1 << 500).to_bytes(64, "big")
OFF = off_subgroup_g1()

CASES = [
    (0x0B, bls12_g1_add, g1(3) + g1(5)),
    (0x0B, bls12_g1_add, g1(3) + ZERO1),
    (0x0B, bls12_g1_add, g1(3) + g1(3)),
    (0x0B, bls12_g1_add, OFF + OFF),
    (0x0B, bls12_g1_add, g1(3)),
    (0x0B, bls12_g1_add, g1(3) + BIG + fp(1)),
    (0x0B, bls12_g1_add, g1(3) + WIDE + fp(1)),
    (0x0B, bls12_g1_add, g1(3) + fp(1) + fp(1)),
    (0x0C, bls12_g1_msm, g1(3) + S1.to_bytes(32, "big")),
    (0x0C, bls12_g1_msm, g1(3) + S1.to_bytes(32, "big") + g1(4) + S2.to_bytes(32, "big")),
    (0x0C, bls12_g1_msm, g1(3) + b"\xff" * 32),
    (0x0C, bls12_g1_msm, OFF + bytes(31) + b"\x01"),
    (0x0C, bls12_g1_msm, b""),
    (0x0C, bls12_g1_msm, g1(3)),
    (0x0D, bls12_g2_add, g2(3) + g2(5)),
    (0x0D, bls12_g2_add, ZERO2 + g2(5)),
    (0x0D, bls12_g2_add, ZERO2 + ZERO2),
    (0x0D, bls12_g2_add, g2(5)[:-1] + bytes([g2(5)[-1] ^ 1]) + ZERO2),
    (0x0E, bls12_g2_msm, g2(3) + S3.to_bytes(32, "big")),
    (0x0E, bls12_g2_msm, g2(3)),
    (0x0F, bls12_pairing_check, g1(2) + g2(3) + pad((-(G1 * Scalar(6))).to_xy_bytes_be()) + g2(1)),
    (0x0F, bls12_pairing_check, g1(2) + g2(3)),
    (0x0F, bls12_pairing_check, ZERO1 + g2(3)),
    (0x0F, bls12_pairing_check, OFF + g2(3)),
    (0x0F, bls12_pairing_check, b""),
    (0x0F, bls12_pairing_check, g1(2) + g2(3)[:-1]),
    (0x10, bls12_map_fp_to_g1, fp(12345)),
    (0x10, bls12_map_fp_to_g1, fp(0)),
    (0x10, bls12_map_fp_to_g1, BIG),
    (0x11, bls12_map_fp2_to_g2, fp(12345) + fp(6789)),
    (0x11, bls12_map_fp2_to_g2, fp(1) + BIG),
    (0x11, bls12_map_fp2_to_g2, fp(1)),
]


@pytest.mark.parametrize(("address", "oracle", "data"), CASES)
def test_native_and_python_agree_on_gas_output_and_failure(address, oracle, data) -> None:
    native = NATIVE_BLS_PRECOMPILES[bytes(19) + bytes([address])]
    assert run(native, data) == run(oracle, data)


def test_a_large_msm_is_discounted_like_the_python_one() -> None:
    one = g1(1) + bytes(32)
    native = Call(Message(one * 130))
    precompiles.g1_msm(native)
    assert native.gas == 130 * 12_000 * 519 // 1_000


def test_a_certificate_takes_milliseconds_not_seconds() -> None:
    data = g1(7) + g2(11) + pad((-(G1 * Scalar(77))).to_xy_bytes_be()) + g2(1)
    start = time.process_time()
    assert run(precompiles.pairing_check, data) == (37_700 + 2 * 32_600, bytes(31) + b"\x01")
    assert time.process_time() - start < 0.25
