"""The real signatures: what verifies, what does not, and the same answer from a second library."""

import pytest
from py_arkworks_bls12381 import GT, G1Point, G2Point

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret, verify_aggregate, verify_possession

SIGNERS = [KeySigner(new_bls_secret(bytes([i]) * 32), bytes([i]) * 32) for i in range(1, 5)]
KEYS = [signer.bls_key for signer in SIGNERS]
INFINITY_SIGNATURE = bytes([0xC0]) + bytes(95)
INFINITY_KEY = bytes([0xC0]) + bytes(47)
CRYPTO = BlsCrypto()


def summed(message: bytes, members: list[int]) -> bytes:
    total = CRYPTO.aggregate([SIGNERS[index].sign(message) for index in members])
    assert total is not None
    return total


def test_keys_and_signatures_have_their_sizes() -> None:
    signer = SIGNERS[0]
    assert (len(signer.bls_key), len(signer.sign(b"m")), len(signer.identity)) == (48, 96, 32)
    assert len(signer.sign_identity(b"m")) == 64
    assert len(signer.prove_possession()) == 96


def test_keys_are_the_same_on_every_machine() -> None:
    """EIP-2333 key generation from a fixed seed, pinned."""
    again = KeySigner(new_bls_secret(bytes([1]) * 32), bytes([1]) * 32)
    assert again.bls_key == KEYS[0]
    assert again.sign(b"m") == SIGNERS[0].sign(b"m")


def test_a_signature_is_good_for_its_key_and_message_alone() -> None:
    signature = SIGNERS[0].sign(b"message")
    assert CRYPTO.verify(KEYS[0], b"message", signature)
    assert not CRYPTO.verify(KEYS[1], b"message", signature)
    assert not CRYPTO.verify(KEYS[0], b"another", signature)


def test_an_identity_signature_is_good_for_its_key_and_message_alone() -> None:
    signature = SIGNERS[0].sign_identity(b"message")
    assert CRYPTO.verify_identity(SIGNERS[0].identity, b"message", signature)
    assert not CRYPTO.verify_identity(SIGNERS[1].identity, b"message", signature)
    assert not CRYPTO.verify_identity(SIGNERS[0].identity, b"another", signature)
    assert not CRYPTO.verify_identity(b"no key", b"message", signature)
    assert not CRYPTO.verify_identity(SIGNERS[0].identity, b"message", b"")


def test_a_sum_is_good_for_exactly_its_signers() -> None:
    total = summed(b"m", [0, 1, 2])
    assert CRYPTO.verify_aggregate(KEYS[:3], b"m", total)
    assert verify_aggregate(KEYS[:3], b"m", total)
    assert not CRYPTO.verify_aggregate(KEYS[:2], b"m", total)
    assert not CRYPTO.verify_aggregate(KEYS, b"m", total)
    assert not CRYPTO.verify_aggregate([KEYS[0], KEYS[1], KEYS[3]], b"m", total)


def test_groups_of_different_messages_are_verified_at_once() -> None:
    total = CRYPTO.aggregate([summed(b"a", [0, 1]), summed(b"b", [2])])
    assert total is not None
    assert CRYPTO.verify_groups([(KEYS[:2], b"a"), (KEYS[2:3], b"b")], total)
    assert not CRYPTO.verify_groups([(KEYS[:2], b"b"), (KEYS[2:3], b"a")], total)
    assert not CRYPTO.verify_groups([(KEYS[:2], b"a")], total)


ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


def opposite(secret: bytes) -> KeySigner:
    """The signer whose key is minus that of `secret`: both have good proofs of possession."""
    return KeySigner((ORDER - int.from_bytes(secret, "big")).to_bytes(32, "big"), bytes(32))


def test_keys_that_cancel_out_take_nothing_from_the_others() -> None:
    """Two members that collude can have opposite keys; what the others signed stays good."""
    against = opposite(new_bls_secret(bytes([1]) * 32))
    assert verify_possession(against.bls_key, against.prove_possession())
    pair = [KEYS[0], against.bls_key]
    signatures = [SIGNERS[0].sign(b"low"), against.sign(b"low")]
    signatures += [signer.sign(b"high") for signer in SIGNERS[1:]]
    total = CRYPTO.aggregate(signatures)
    assert total is not None
    assert CRYPTO.verify_groups([(pair, b"low"), (KEYS[1:], b"high")], total)
    assert not CRYPTO.verify_groups([(pair, b"low"), (KEYS[1:], b"other")], total)
    assert not CRYPTO.verify_groups([(pair, b"low")], INFINITY_SIGNATURE)
    assert not CRYPTO.verify_groups([(pair, b"low")], total)
    assert not CRYPTO.verify_aggregate(pair, b"low", SIGNERS[0].sign(b"low"))


@pytest.mark.parametrize(
    "signature", [b"", b"short", bytes(96), b"\xff" * 96, INFINITY_SIGNATURE, bytes(95)]
)
def test_malformed_signatures_are_simply_not_valid(signature: bytes) -> None:
    assert not CRYPTO.verify(KEYS[0], b"m", signature)
    assert not CRYPTO.verify_groups([(KEYS, b"m")], signature)
    assert not verify_aggregate(KEYS, b"m", signature)


@pytest.mark.parametrize("key", [b"", b"short", bytes(48), b"\xff" * 48])
def test_malformed_keys_are_simply_not_valid(key: bytes) -> None:
    signature = SIGNERS[0].sign(b"m")
    assert not CRYPTO.verify(key, b"m", signature)
    assert not verify_aggregate([key], b"m", signature)


def test_nothing_is_signed_by_nobody() -> None:
    assert not CRYPTO.verify_groups([], INFINITY_SIGNATURE)
    assert not CRYPTO.verify_groups([([], b"m")], INFINITY_SIGNATURE)
    assert not CRYPTO.verify_aggregate([], b"m", INFINITY_SIGNATURE)


def test_bytes_that_are_no_signature_cannot_be_summed() -> None:
    assert CRYPTO.aggregate([SIGNERS[0].sign(b"m"), b"short"]) is None
    assert CRYPTO.aggregate([SIGNERS[0].sign(b"m"), b"\xff" * 96]) is None


def test_possession_is_proved_for_ones_own_key_alone() -> None:
    proof = SIGNERS[0].prove_possession()
    assert verify_possession(KEYS[0], proof)
    assert not verify_possession(KEYS[1], proof)
    assert not verify_possession(INFINITY_KEY, INFINITY_SIGNATURE)
    assert not verify_possession(KEYS[0], b"short")
    assert not verify_possession(KEYS[0], SIGNERS[0].sign(KEYS[0])), "a domain of its own"


def test_a_second_library_agrees_on_keys_and_sums() -> None:
    """It parses the same bytes, adds up to the same sum, and finds both keys behind one hash."""
    keys = [G1Point.from_compressed_bytes(key) for key in KEYS[:3]]
    signatures = [G2Point.from_compressed_bytes(SIGNERS[index].sign(b"m")) for index in range(3)]
    total_key, total_signature = keys[0], signatures[0]
    for key, signature in zip(keys[1:], signatures[1:], strict=True):
        total_key, total_signature = total_key + key, total_signature + signature
    assert bytes(total_signature.to_compressed_bytes()) == summed(b"m", [0, 1, 2])
    # e(pk_0, sig_1) = e(pk_1, sig_0), since both are e(G1, H(m)) to the product of the secrets
    left = GT.pairing(keys[0], signatures[1])
    right = GT.pairing(keys[1], signatures[0])
    assert left == right
