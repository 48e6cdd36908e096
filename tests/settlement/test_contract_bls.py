"""The contract's BLS module against other libraries, and against a chain that lacks precompiles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from blspy import PopSchemeMPL
from eth_abi.abi import decode, encode
from eth_hash.auto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from sequencer.settlement import abi
from sequencer.settlement.contracts.compile import compile_source
from sequencer.settlement.contracts.evm import LocalEvm
from sequencer.settlement.encoding import expand_signature
from testnet.l1.precompiles import NATIVE_BLS_PRECOMPILES
from tests.settlement.committees import Deployment, secrets
from tests.settlement.l1s import ACCOUNTS, EmbeddedEvm, Evm, address_of, transact

DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"

HARNESS = """
import bls

@view
@external
def hash_to_curve(message: Bytes[480]) -> uint256[8]:
    return bls.hash_to_curve(message, bls.SIGNATURE)

@view
@external
def hash_key_to_curve(key: uint256[4]) -> uint256[8]:
    return bls.hash_to_curve(bls.key_bytes(key), bls.POSSESSION)

@view
@external
def add(first: uint256[4], second: uint256[4]) -> uint256[4]:
    return bls.add(first, second)

@pure
@external
def negative(point: uint256[4]) -> uint256[4]:
    return bls.negative(point)
"""

G1 = "uint256[4]"
SUBGROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Library:
    """The module's functions, each run in a transaction."""

    def __init__(self, evm: Evm) -> None:
        _, bytecode = compile_source(HARNESS, "Harness.vy")
        self.evm = evm
        self.address = transact(evm, b"", bytes.fromhex(bytecode[2:])).created

    def __call__(self, name: str, types: list[str], values: list[Any]) -> bytes:
        selector = keccak(f"{name}({','.join(types)})".encode())[:4]
        outcome = transact(self.evm, self.address, selector + encode(types, values))
        assert outcome.success, abi.decode_revert(outcome.output)
        return outcome.output


@pytest.fixture(scope="module")
def library(embedded: Evm) -> Library:
    return Library(embedded)


def pad(point: bytes) -> bytes:
    return b"".join(bytes(16) + point[at : at + 48] for at in range(0, len(point), 48))


def words(point: G1Point) -> list[int]:
    return list(decode([G1], pad(point.to_xy_bytes_be()))[0])


def multiple(factor: int) -> G1Point:
    return G1Point() * Scalar.from_be_bytes_mod_order(factor.to_bytes(32, "big"))


@few
@given(st.binary(max_size=480))
def test_hash_to_curve_is_that_of_two_libraries(library: Library, message: bytes) -> None:
    ours = library("hash_to_curve", ["bytes"], [message])
    assert ours == pad(G2Point.hash_to_curve(message, DST).to_xy_bytes_be())
    assert ours == expand_signature(bytes(PopSchemeMPL.g2_from_message(message)))


@pytest.mark.parametrize("message", [b"", b"abc", b"q128_" + b"q" * 128, bytes(480)])
def test_hash_to_curve_is_that_of_py_ecc(library: Library, message: bytes) -> None:
    import hashlib

    from py_ecc.bls.hash_to_curve import hash_to_G2
    from py_ecc.optimized_bls12_381.optimized_curve import normalize

    coordinates = normalize(hash_to_G2(message, DST, cast(Any, hashlib.sha256)))
    expected = [int(part).to_bytes(64, "big") for xy in coordinates for part in xy.coeffs]
    assert library("hash_to_curve", ["bytes"], [message]) == b"".join(expected)


@few
@given(st.integers(1, SUBGROUP_ORDER - 1))
def test_a_proof_of_possession_is_about_the_compressed_key(library: Library, secret: int) -> None:
    point = multiple(secret)
    ours = library("hash_key_to_curve", [G1], [words(point)])
    tag = DST.replace(b"SIG", b"POP")
    expected = G2Point.hash_to_curve(point.to_compressed_bytes(), tag)
    assert ours == pad(expected.to_xy_bytes_be())


@few
@given(st.integers(0, 2**255), st.integers(0, 2**255))
def test_points_are_added(library: Library, first: int, second: int) -> None:
    points = [multiple(first), multiple(second)]
    expected = pad((points[0] + points[1]).to_xy_bytes_be())
    assert library("add", [G1, G1], [words(point) for point in points]) == expected


@few
@given(st.integers(0, 2**255))
def test_a_point_and_its_negative_cancel_out(library: Library, factor: int) -> None:
    point = multiple(factor)
    negative = library("negative", [G1], [words(point)])
    assert negative == pad((-point).to_xy_bytes_be())
    assert library("add", [G1, G1], [words(point), decode([G1], negative)[0]]) == bytes(128)
    assert library("negative", [G1], [decode([G1], negative)[0]]) == pad(point.to_xy_bytes_be())


# A chain without these precompiles, or with others in their place

ADDRESSES = {"MODEXP": 0x05, "G1ADD": 0x0B, "G2ADD": 0x0D, "PAIRING": 0x0F, "MAP_FP2": 0x11}


class Tampered(EmbeddedEvm):
    """py-evm, one of whose precompiles can be made to answer anything."""

    def __init__(self) -> None:
        super().__init__()
        self._address = b""
        self._answer = b""
        from eth.vm.forks.prague.computation import PragueComputation

        real: dict[Any, Any] = {**PragueComputation.get_precompiles(), **NATIVE_BLS_PRECOMPILES}
        wrapped = {address: self._wrap(address, real[address]) for address in real}
        self._evm = LocalEvm([address_of(account) for account in ACCOUNTS], wrapped)

    def _wrap(self, address: bytes, real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(computation: Any) -> Any:
            if address != self._address:
                return real(computation)
            computation.output = self._answer
            return computation

        return run

    @contextmanager
    def answering(self, address: int, answer: bytes) -> Iterator[None]:
        self._address, self._answer = bytes(19) + bytes([address]), answer
        try:
            yield
        finally:
            self._address = b""


@pytest.fixture(scope="module")
def tampered() -> Tampered:
    return Tampered()


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_absent_precompile_verifies_nothing(tampered: Tampered, name: str) -> None:
    """A call of an account without code succeeds and returns nothing."""
    contract = Deployment(tampered, 4)
    calldata = contract.calldata(contract.header())
    error = "InvalidSignature" if name == "PAIRING" else "PrecompileFailed"
    for size in (0, 1, 31) if name == "PAIRING" else (0, 1, 32, 63):
        with tampered.answering(ADDRESSES[name], b"\1" * size):
            assert contract.refusal(calldata) == error
    assert contract.send(calldata).success


def test_the_pairing_must_say_one(tampered: Tampered) -> None:
    contract = Deployment(tampered, 4)
    calldata = contract.calldata(contract.header())
    for answer in (0, 2, 256, 2**255 + 1, 2**256 - 1):
        with tampered.answering(ADDRESSES["PAIRING"], answer.to_bytes(32, "big")):
            assert contract.refusal(calldata) == "InvalidSignature"


def test_no_contract_without_the_precompiles(tampered: Tampered) -> None:
    for address in (0x0B, 0x0C):
        with (
            tampered.answering(address, b""),
            pytest.raises(AssertionError, match="PrecompileFailed"),
        ):
            Deployment(tampered, 4)


def test_a_signature_by_this_scheme_verifies_elsewhere(embedded: Evm) -> None:
    """What the contract accepts is what blspy calls a fast aggregate verification."""
    contract = Deployment(embedded, 7)
    header = contract.header()
    call = abi.decode_post_batch(contract.calldata(header, members=[0, 2, 3, 4, 6]))
    keys = [secrets(7)[member].get_g1() for member in (0, 2, 3, 4, 6)]
    parts = [PopSchemeMPL.sign(secrets(7)[member], call.header) for member in (0, 2, 3, 4, 6)]
    signature = PopSchemeMPL.aggregate(parts)
    assert call.signature == expand_signature(bytes(signature))
    assert PopSchemeMPL.fast_aggregate_verify(keys, call.header, signature)
