"""One suite for both signature schemes, so that the cheap one cannot drift from the real one."""

from collections.abc import Callable

import pytest

from consensus.bls import BlsCrypto, Crypto, KeySigner, new_bls_secret
from testnet.simulation.crypto import StubCrypto, StubSigner

AnySigner = KeySigner | StubSigner


def real_signer(index: int) -> KeySigner:
    seed = bytes([index + 1]) * 32
    return KeySigner(new_bls_secret(seed), seed)


def stub_signer(index: int) -> StubSigner:
    return StubSigner(b"%d" % index)


@pytest.fixture(params=["real", "stub"])
def scheme(request: pytest.FixtureRequest) -> tuple[Crypto, Callable[[int], AnySigner]]:
    return (BlsCrypto(), real_signer) if request.param == "real" else (StubCrypto(), stub_signer)


Scheme = tuple[Crypto, Callable[[int], AnySigner]]


def test_sizes_are_those_of_the_wire(scheme: Scheme) -> None:
    signer = scheme[1](0)
    assert (len(signer.bls_key), len(signer.identity)) == (48, 32)
    assert (len(signer.sign(b"m")), len(signer.sign_identity(b"m"))) == (96, 64)


def test_signing_is_deterministic(scheme: Scheme) -> None:
    signer = scheme[1](0)
    assert signer.sign(b"m") == signer.sign(b"m")


def test_a_signature_is_good_for_its_key_and_message_alone(scheme: Scheme) -> None:
    crypto, signer, other = scheme[0], scheme[1](0), scheme[1](1)
    signature = signer.sign(b"m")
    assert crypto.verify(signer.bls_key, b"m", signature)
    assert not crypto.verify(signer.bls_key, b"n", signature)
    assert not crypto.verify(other.bls_key, b"m", signature)


def test_an_identity_signature_is_good_for_its_key_and_message_alone(scheme: Scheme) -> None:
    crypto, signer, other = scheme[0], scheme[1](0), scheme[1](1)
    signature = signer.sign_identity(b"m")
    assert crypto.verify_identity(signer.identity, b"m", signature)
    assert not crypto.verify_identity(signer.identity, b"n", signature)
    assert not crypto.verify_identity(other.identity, b"m", signature)
    assert not crypto.verify_identity(signer.identity, b"m", bytes(64))
    assert not crypto.verify_identity(signer.identity, b"m", b"short")


def test_an_aggregate_is_good_for_exactly_its_signers(scheme: Scheme) -> None:
    crypto, signers = scheme[0], [scheme[1](index) for index in range(4)]
    keys = [signer.bls_key for signer in signers]
    combined = crypto.aggregate([signer.sign(b"m") for signer in signers[:3]])
    assert combined is not None
    assert crypto.verify_aggregate(keys[:3], b"m", combined)
    assert crypto.verify_aggregate([keys[2], keys[0], keys[1]], b"m", combined)
    assert not crypto.verify_aggregate(keys[:2], b"m", combined)
    assert not crypto.verify_aggregate(keys, b"m", combined)
    assert not crypto.verify_aggregate([keys[0], *keys[:3]], b"m", combined)
    assert not crypto.verify_aggregate([], b"m", combined)


def test_a_signer_that_is_counted_twice_counts_twice(scheme: Scheme) -> None:
    crypto, signer = scheme[0], scheme[1](0)
    signature = signer.sign(b"m")
    twice = crypto.aggregate([signature, signature])
    assert twice is not None
    assert not crypto.verify(signer.bls_key, b"m", twice)
    assert crypto.verify_aggregate([signer.bls_key, signer.bls_key], b"m", twice)


def test_groups_with_messages_of_their_own(scheme: Scheme) -> None:
    crypto, signers = scheme[0], [scheme[1](index) for index in range(3)]
    keys = [signer.bls_key for signer in signers]
    signatures = [signers[0].sign(b"m"), signers[1].sign(b"m"), signers[2].sign(b"n")]
    combined = crypto.aggregate(signatures)
    assert combined is not None
    assert crypto.verify_groups([(keys[:2], b"m"), (keys[2:], b"n")], combined)
    assert not crypto.verify_groups([(keys[1:], b"m"), (keys[:1], b"n")], combined)
    assert not crypto.verify_groups([(keys[:2], b"m"), ([], b"n")], combined)
    assert not crypto.verify_groups([], combined)


def test_one_bad_signature_spoils_the_aggregate(scheme: Scheme) -> None:
    crypto, signers = scheme[0], [scheme[1](index) for index in range(3)]
    signatures = [signers[0].sign(b"m"), signers[1].sign(b"m"), signers[2].sign(b"other")]
    combined = crypto.aggregate(signatures)
    assert combined is not None
    assert not crypto.verify_aggregate([signer.bls_key for signer in signers], b"m", combined)


@pytest.mark.parametrize("junk", [b"", b"short", bytes(96), b"\xff" * 96])
def test_junk_is_no_signature_and_raises_nothing(scheme: Scheme, junk: bytes) -> None:
    crypto, signer = scheme[0], scheme[1](0)
    assert not crypto.verify(signer.bls_key, b"m", junk)
    assert crypto.aggregate([signer.sign(b"m"), junk]) is None
