"""Collections: one encoding, RFC 6962's tree, every bound, and paths that cannot be bent."""

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import InvalidMessage
from consensus.rules import Rules
from sequencer.collection import Collection, merkle_path, transaction_id, verify_path

RULES = Rules()
NAMESPACES = st.integers(0, 2**64 - 1)
TRANSACTIONS = st.lists(st.tuples(NAMESPACES, st.binary(max_size=40)), min_size=1, max_size=40)


def sealed(count: int) -> Collection:
    return Collection.seal([(901, b"transaction %d" % index) for index in range(count)])


def rfc6962(leaves: list[bytes]) -> bytes:
    """The tree hash as the RFC defines it: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + rfc6962(leaves[:split]) + rfc6962(leaves[split:])).digest()


@given(TRANSACTIONS)
def test_decoding_gives_back_what_was_sealed(transactions: list[tuple[int, bytes]]) -> None:
    made = Collection.seal(transactions)
    read = Collection.decode(made.data, RULES)
    assert read.transactions() == transactions
    assert (read.digest, read.data, read.count, read.leaves) == (
        made.digest,
        made.data,
        made.count,
        made.leaves,
    )
    assert list(read.leaves) == [transaction_id(*transaction) for transaction in transactions]


@given(TRANSACTIONS)
def test_the_digest_is_the_tree_of_rfc_6962_and_its_count(
    transactions: list[tuple[int, bytes]],
) -> None:
    made = Collection.seal(transactions)
    top = rfc6962(list(made.leaves))
    assert made.digest == sha256(b"\x02" + made.count.to_bytes(4, "big") + top).digest()


def test_the_bytes_of_a_collection_are_pinned() -> None:
    made = Collection.seal([(901, b"one"), (2**64 - 1, b""), (0, b"three")])
    assert made.data.hex() == (
        "00000003"
        "0000000000000385" + "00000003" + b"one".hex() + "ffffffffffffffff" + "00000000"
        "0000000000000000" + "00000005" + b"three".hex()
    )
    leaf = sha256(b"\x00" + (901).to_bytes(8, "big") + b"one").digest()
    assert made.leaves[0] == transaction_id(901, b"one") == leaf
    assert made.digest.hex() == "2ce62e059273ecfdf766629f44dd3f9c079a5bdb2ec5cc1deb9fc65f54e9b5be"


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_invalid_message(data: bytes) -> None:
    try:
        read = Collection.decode(data, RULES)
    except InvalidMessage:
        return
    assert Collection.seal(read.transactions()).data == data


@given(TRANSACTIONS, st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_never_keeps_the_digest(
    transactions: list[tuple[int, bytes]], place: int, value: int
) -> None:
    made = Collection.seal(transactions)
    changed = bytearray(made.data)
    changed[place % len(changed)] = value
    if bytes(changed) == made.data:
        return
    with contextlib.suppress(InvalidMessage):
        assert Collection.decode(bytes(changed), RULES).digest != made.digest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\0\0\0\1",
        sealed(1).data + b"\0",
        sealed(3).data[:-1],
        b"\0\0\0\2" + sealed(1).data[4:],
        b"\0\0\0\1" + sealed(2).data[4:],
        b"\xff\xff\xff\xff" + sealed(2).data[4:],
        b"\0\0\0\1" + bytes(8) + b"\xff\xff\xff\xff",
    ],
)
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        Collection.decode(data, RULES)


def test_the_bound_on_a_collection_is_exact() -> None:
    data = sealed(10).data
    rules = Rules(max_collection_bytes=len(data), max_transaction_bytes=100)
    assert Collection.decode(data, rules).count == 10
    with pytest.raises(InvalidMessage, match="are allowed"):
        Collection.decode(data, Rules(max_collection_bytes=len(data) - 1))


def test_the_bound_on_a_transaction_is_exact() -> None:
    data = Collection.seal([(1, bytes(50)), (1, bytes(51))]).data
    assert Collection.decode(data, Rules(max_transaction_bytes=51)).count == 2
    with pytest.raises(InvalidMessage, match="transaction of 51 bytes"):
        Collection.decode(data, Rules(max_transaction_bytes=50))


def test_an_empty_collection_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Collection.seal([])


def test_a_leaf_is_never_taken_for_an_inner_node() -> None:
    left, right = sealed(2).leaves
    forged = Collection.seal([(int.from_bytes(left[:8], "big"), left[8:] + right)])
    assert forged.digest != sealed(2).digest


@pytest.mark.parametrize("count", range(1, 34))
def test_every_leaf_has_a_path_that_holds(count: int) -> None:
    made = sealed(count)
    for index in range(count):
        path = made.path(index)
        assert verify_path(made.leaves[index], index, count, path, made.digest)
        assert len(path) <= (count - 1).bit_length()


@given(st.integers(1, 40), st.data())
def test_a_bent_path_does_not_hold(count: int, data: st.DataObject) -> None:
    made = sealed(count)
    index = data.draw(st.integers(0, count - 1))
    other = data.draw(st.integers(-1, count))
    path, leaf = made.path(index), made.leaves[index]
    if other != index:
        assert not verify_path(leaf, other, count, path, made.digest)
    assert not verify_path(leaf, index, count, [*path, leaf], made.digest)
    assert not verify_path(leaf, index, count, path, leaf[::-1])
    assert not verify_path(leaf[::-1], index, count, path, made.digest)
    if path:
        assert not verify_path(leaf, index, count, path[:-1], made.digest)
        bent = list(path)
        bent[data.draw(st.integers(0, len(path) - 1))] = bytes(32)
        assert not verify_path(leaf, index, count, bent, made.digest)


def test_another_count_does_not_move_a_leaf() -> None:
    made = sealed(3)
    assert verify_path(made.leaves[2], 2, 3, made.path(2), made.digest)
    for count in (1, 2, 4, 5, 2**32 - 1, 2**32, 2**70):
        for index in range(4):
            assert not verify_path(made.leaves[2], index, count, made.path(2), made.digest)


def test_a_leaf_outside_the_tree_has_no_path() -> None:
    for index in (-1, 3, 4):
        with pytest.raises(IndexError):
            merkle_path(sealed(3).leaves, index)
