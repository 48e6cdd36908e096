"""Points between the two forms, against a second library; whatever is no point is refused."""

from contextlib import suppress

import pytest
from blspy import PopSchemeMPL
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc.bls.point_compression import compress_G1, compress_G2
from py_ecc.fields import optimized_bls12_381_FQ as FQ
from py_ecc.fields import optimized_bls12_381_FQ2 as FQ2

from sequencer.settlement.encoding import (
    compress_key,
    compress_signature,
    expand_key,
    expand_signature,
)

INFINITE_KEY = b"\xc0" + bytes(47)
INFINITE_SIGNATURE = b"\xc0" + bytes(95)
few = settings(max_examples=30, deadline=None)
seeds = st.binary(min_size=32, max_size=32)


@few
@given(seeds)
def test_a_key_comes_back_and_is_that_of_py_ecc(seed: bytes) -> None:
    key = bytes(PopSchemeMPL.key_gen(seed).get_g1())
    expanded = expand_key(key)
    assert len(expanded) == 128
    assert compress_key(expanded) == key
    x, y = (int.from_bytes(expanded[at : at + 64], "big") for at in (0, 64))
    assert int(compress_G1((FQ(x), FQ(y), FQ(1)))).to_bytes(48, "big") == key


@few
@given(seeds, st.binary(max_size=40))
def test_a_signature_comes_back_and_is_that_of_py_ecc(seed: bytes, message: bytes) -> None:
    signature = bytes(PopSchemeMPL.sign(PopSchemeMPL.key_gen(seed), message))
    expanded = expand_signature(signature)
    assert len(expanded) == 256
    assert compress_signature(expanded) == signature
    parts = [int.from_bytes(expanded[at : at + 64], "big") for at in range(0, 256, 64)]
    point = (FQ2(parts[:2]), FQ2(parts[2:]), FQ2([1, 0]))
    assert b"".join(int(z).to_bytes(48, "big") for z in compress_G2(point)) == signature


def test_infinity_is_all_zeros() -> None:
    assert expand_key(INFINITE_KEY) == bytes(128)
    assert compress_key(bytes(128)) == INFINITE_KEY
    assert expand_signature(INFINITE_SIGNATURE) == bytes(256)
    assert compress_signature(bytes(256)) == INFINITE_SIGNATURE


@pytest.mark.parametrize(
    "key",
    [
        b"",
        bytes(47),
        bytes(48),
        b"\xff" * 48,
        b"\xe0" + bytes(47),
        b"\xc0" + bytes(46) + b"\1",
        b"\x80" + bytes(46) + b"\4",
        b"\x80" + bytes(47),
    ],
    ids=lambda key: key[:2].hex() + f"-{len(key)}-" + key[-1:].hex(),
)
def test_bytes_that_are_no_key_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        expand_key(key)


@few
@given(st.binary(min_size=96, max_size=96), st.binary(min_size=48, max_size=48))
def test_any_bytes_expand_and_come_back_or_are_refused(signature: bytes, key: bytes) -> None:
    for data in (signature, b"\x80" + signature[1:], b"\xa0" + bytes(1) + signature[2:]):
        with suppress(ValueError):
            assert compress_signature(expand_signature(data)) == data
    for data in (key, b"\x80" + key[1:], b"\x81" + key[1:]):
        with suppress(ValueError):
            assert compress_key(expand_key(data)) == data


def test_expanded_points_have_one_form() -> None:
    secret = PopSchemeMPL.key_gen(bytes(32))
    key = expand_key(bytes(secret.get_g1()))
    signature = expand_signature(bytes(PopSchemeMPL.sign(secret, b"")))
    modulus = int(
        "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f624"
        "1eabfffeb153ffffb9feffffffffaaab",
        16,
    )
    above = (int.from_bytes(key[:64], "big") + modulus).to_bytes(64, "big")
    for wrong in (key[:-1], key + b"\0", b"\1" + key[1:], above + key[64:], b"\xff" * 128):
        with pytest.raises(ValueError):  # noqa: PT011
            compress_key(wrong)
    for wrong in (signature[:-1], b"\1" + signature[1:], signature[:-1] + b"\0", b"\xff" * 256):
        with pytest.raises(ValueError):  # noqa: PT011
            compress_signature(wrong)
