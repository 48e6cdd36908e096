"""Batches whose bytes are in the blobs of the transaction that posts them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.types import bitmap_of
from sequencer.settlement import abi
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.blobs import blobs_digest
from sequencer.settlement.contracts.evm import Outcome
from tests.settlement.committees import Deployment, sign
from tests.settlement.l1s import ACCOUNTS, Evm, transact, zeros

QUORUM = [0, 1, 2]
HASHES = [bytes([1, number]) * 16 for number in range(1, 8)]


def header_for(contract: Deployment, hashes: Sequence[bytes]) -> BatchHeader:
    return contract.header(blob_hashes=blobs_digest(hashes))


def calldata(header: BatchHeader, blobs: int) -> bytes:
    encoded = header.encode()
    signature = sign(encoded, 4, QUORUM)
    return abi.post_blobs_calldata(encoded, bitmap_of(QUORUM, 4), signature, blobs)


def post(contract: Deployment, data: bytes, hashes: Sequence[bytes]) -> Outcome:
    return transact(contract.evm, contract.address, data, blob_hashes=hashes)


def refusal(contract: Deployment, data: bytes, hashes: Sequence[bytes]) -> str:
    outcome = post(contract, data, hashes)
    assert not outcome.success
    return abi.decode_revert(outcome.output)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_batch_is_posted_in_blobs(evm: Evm, count: int) -> None:
    contract = Deployment(evm, 4)
    hashes = zeros(count).versioned_hashes
    header = header_for(contract, hashes)
    outcome = post(contract, calldata(header, count), hashes)
    assert outcome.success, abi.decode_revert(outcome.output)
    (log,) = outcome.logs
    event = abi.decode_batch_posted(*log)
    assert (event.number, event.blobs, event.data_hash) == (1, count, header.data_hash)
    assert contract.view("next_number") == 2
    assert contract.view("last_log_root").to_bytes(32, "big") == header.log_root
    assert refusal(contract, calldata(header, count), hashes) == "AlreadyPosted"


def test_one_header_is_good_for_blobs_or_calldata(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    hashes = zeros(1).versioned_hashes
    first = header_for(contract, hashes)
    assert contract.send(contract.calldata(first)).success
    second = contract.following(first, b"\0data")
    assert post(contract, calldata(second, 1), hashes).success
    assert contract.view("next_number") == 3


@pytest.mark.parametrize(
    ("signed", "carried", "stated"),
    [
        (HASHES[:1], HASHES[1:2], 1),
        (HASHES[:2], HASHES[1::-1], 2),
        (HASHES[:1], HASHES[:2], 1),
        (HASHES[:1], HASHES[:2], 2),
        (HASHES[:2], HASHES[:1], 2),
        (HASHES[:2], HASHES[:1], 1),
        (HASHES[:3], HASHES[:4], 3),
        ((), HASHES[:1], 1),
    ],
    ids=[
        "another blob",
        "another order",
        "one blob more",
        "one blob more, and counted",
        "one blob less",
        "one blob less, and counted",
        "a fourth blob",
        "no blobs signed",
    ],
)
def test_other_blobs_are_refused(
    embedded: Evm, signed: Sequence[bytes], carried: Sequence[bytes], stated: int
) -> None:
    contract = Deployment(embedded, 4)
    data = calldata(header_for(contract, signed), stated)
    assert refusal(contract, data, carried) == "WrongBlobs"
    assert contract.view("next_number") == 1


def test_without_blobs_there_is_no_batch(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    hashes = zeros(1).versioned_hashes
    for header in (header_for(contract, hashes), contract.header(), header_for(contract, ())):
        assert contract.refusal(calldata(header, 1)) == "WrongBlobs"


def test_counts_beyond_the_bounds_are_refused(embedded: Evm) -> None:
    contract = Deployment(embedded, 4)
    header = header_for(contract, HASHES[:6])
    data = calldata(header, 6)
    at = 4 + 800 - 32
    for count, error in ((0, "WrongBlobs"), (7, "WrongBlobs"), (255, "WrongBlobs"), (256, "")):
        changed = data[:at] + count.to_bytes(32, "big") + data[at + 32 :]
        assert refusal(contract, changed, HASHES[:6]) == error
        with pytest.raises(ValueError, match="canonical"):
            abi.decode_post_blobs(changed)
    assert post(contract, data, HASHES[:6]).success


def test_the_call_is_canonical(embedded: Evm) -> None:
    contract = Deployment(embedded, 4)
    data = calldata(header_for(contract, HASHES[:1]), 1)
    assert refusal(contract, data + b"\0", HASHES[:1]) == "NotCanonical"
    assert refusal(contract, data + bytes(32), HASHES[:1]) == "NotCanonical"
    moved = data[:484] + (832).to_bytes(32, "big") + data[516:804] + bytes(32) + data[804:]
    assert refusal(contract, moved, HASHES[:1]) == "NotCanonical"
    assert not post(contract, data[:-1], HASHES[:1]).success
    assert contract.view("next_number") == 1


def test_the_certificate_is_checked_as_for_calldata(embedded: Evm) -> None:
    contract = Deployment(embedded, 4)
    header = header_for(contract, HASHES[:1])
    data = bytearray(calldata(header, 1))
    data[4 + 9 * 32 + 31] ^= 1  # the log root
    assert refusal(contract, bytes(data), HASHES[:1]) == "InvalidSignature"
    encoded = header.encode()
    few = abi.post_blobs_calldata(encoded, b"\x03", sign(encoded, 4, [0, 1]), 1)
    assert refusal(contract, few, HASHES[:1]) == "NoQuorum"
    ahead = header_for(contract, HASHES[:1])
    late = contract.following(ahead, b"\0data")
    assert refusal(contract, calldata(late, 1), HASHES[:1]) == "NotNext"


def test_any_account_may_post(embedded: Evm) -> None:
    contract = Deployment(embedded, 4)
    header = header_for(contract, HASHES[:2])
    outcome = transact(
        embedded,
        contract.address,
        calldata(header, 2),
        account=ACCOUNTS[5],
        blob_hashes=HASHES[:2],
    )
    assert outcome.success


@given(st.binary(min_size=1, max_size=16), st.integers(1, 6))
def test_a_call_comes_back(bitmap: bytes, blobs: int) -> None:
    header, signature = bytes(480), sign(b"message", 4, [0])
    call = abi.decode_post_blobs(abi.post_blobs_calldata(header, bitmap, signature, blobs))
    assert (call.header, call.bitmap, call.blobs) == (header, bitmap, blobs)


@given(st.binary(max_size=1200))
def test_any_input_is_a_call_or_invalid(data: bytes) -> None:
    for calldata in (data, abi.selector("post_blobs") + data):
        with pytest.raises(ValueError, match=r"canonical|not a call"):
            abi.decode_post_blobs(calldata)
