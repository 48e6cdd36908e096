"""A receipt proves its transaction to whoever has the genesis, and a spoilt one proves nothing."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.codec import ZERO_HASH
from consensus.rules import Rules
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    bitmap_of,
    genesis_qc,
)
from sequencer.collection import Collection, transaction_id
from sequencer.ethereum_hash import ethereum_hash
from sequencer.genesis import Genesis, GenesisMember
from sequencer.ledger import Ledger
from sequencer.receipt import MAX_HEADERS, InvalidReceipt, build_receipt, verify_receipt
from sequencer.store.memory import MemoryStore
from sequencer.store.seam import WriteBatch

SIGNERS = [KeySigner(new_bls_secret(bytes([n + 1]) * 32), bytes([n + 1]) * 32) for n in range(4)]
CRYPTO = BlsCrypto()
RAW = b"\x02\xc3abc"


def genesis_named(name: str) -> Genesis:
    members = [
        GenesisMember(
            f"node{index}",
            signer.identity,
            signer.bls_key,
            signer.prove_possession(),
            f"/ip4/127.0.0.1/tcp/{9000 + index}",
        )
        for index, signer in enumerate(SIGNERS)
    ]
    return Genesis.create(name, members, Rules())


GENESIS = genesis_named("test")
OTHER = genesis_named("other")


def sign(message: bytes, members: list[int]) -> bytes:
    signature = CRYPTO.aggregate([SIGNERS[index].sign(message) for index in members])
    assert signature is not None
    return signature


def certificate(block: Block) -> CommitProof:
    fields = (0, block.round, block.height, block.id, ZERO_HASH)
    message = CommitCertificate.signed_bytes(GENESIS.chain_id, *fields)
    return CommitProof(
        CommitCertificate(*fields, bitmap_of([0, 1, 3], 4), sign(message, [0, 1, 3])), None, None
    )


def qc_of(block: Block) -> QuorumCertificate:
    message = QuorumCertificate.signed_bytes(GENESIS.chain_id, 0, block.round, block.id)
    return QuorumCertificate(
        0, block.round, block.id, bitmap_of([0, 1, 2], 4), sign(message, [0, 1, 2])
    )


def two_chain(block: Block) -> CommitProof:
    child = Block(
        0, block.round + 1, block.height + 1, block.id, qc_of(block), None, (), b"", 9_000, 1
    )
    return CommitProof(None, child, qc_of(child))


Contents = list[list[tuple[int, bytes]]]
Proof = Callable[[Block], CommitProof] | None


def ledger_of(*blocks: tuple[Contents, Proof]) -> Ledger:
    store = MemoryStore(GENESIS.chain_id)
    ledger = Ledger(store, GENESIS.chain_id, GENESIS.rules)
    for contents, prove in blocks:
        collections = [Collection.seal(content) for content in contents]
        head = ledger.head
        block = Block(
            0,
            head.height + 1,
            head.height + 1,
            head.block_id,
            genesis_qc(GENESIS.chain_id),
            None,
            tuple(collection.digest for collection in collections),
            b"",
            1_000 + head.height,
            0,
        )
        batch = WriteBatch()
        ledger.apply(batch, block, prove(block) if prove else None, collections)
        store.save(batch)
    return ledger


def many(count: int) -> list[tuple[int, bytes]]:
    return [(901, b"transaction %d" % number) for number in range(count)]


@cache
def example() -> tuple[Ledger, str]:
    ledger = ledger_of(
        ([many(3)], certificate),
        ([[(7, b"seven")], [*many(2), (901, RAW), *many(9)]], None),
        ([], None),
        ([], certificate),
    )
    receipt = build_receipt(ledger, GENESIS, ethereum_hash(RAW))
    return ledger, json.dumps(receipt)


def fresh() -> dict[str, Any]:
    receipt: dict[str, Any] = json.loads(example()[1])
    return receipt


def refused(receipt: object, genesis: Genesis = GENESIS) -> str:
    with pytest.raises(InvalidReceipt) as raised:
        verify_receipt(receipt, genesis, CRYPTO)
    return str(raised.value)


def test_a_receipt_proves_its_transaction_through_json() -> None:
    proved = verify_receipt(fresh(), GENESIS)
    assert (proved.namespace, proved.transaction) == (901, RAW)
    assert proved.id == transaction_id(901, RAW)
    assert (proved.height, proved.place, proved.collection_index) == (2, 1, 2)
    assert (proved.index, proved.position, proved.timestamp_ms) == (1, 4, 1_001)
    assert len(fresh()["headers"]) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
def test_every_transaction_of_a_log_has_a_receipt(count: int) -> None:
    ledger = ledger_of(([many(count)], two_chain))
    for namespace, transaction in many(count):
        id = transaction_id(namespace, transaction)
        receipt = build_receipt(ledger, GENESIS, id)
        proved = verify_receipt(receipt, GENESIS, CRYPTO)
        assert (proved.id, proved.transaction) == (id, transaction)


def test_what_is_not_in_the_log_has_no_receipt() -> None:
    assert build_receipt(example()[0], GENESIS, ZERO_HASH) is None
    assert build_receipt(example()[0], GENESIS, ethereum_hash(RAW), 902) is None


def test_what_is_not_proved_yet_has_no_receipt() -> None:
    assert build_receipt(ledger_of(([many(1)], None)), GENESIS, transaction_id(*many(1)[0])) is None


def test_what_is_too_far_from_a_proof_has_no_receipt() -> None:
    id = transaction_id(*many(1)[0])
    empty: list[tuple[Contents, Proof]] = [([], None)] * (MAX_HEADERS - 2)
    far = ledger_of(([many(1)], None), *empty, ([], certificate))
    assert len((build_receipt(far, GENESIS, id) or {})["headers"]) == MAX_HEADERS
    too_far = ledger_of(([many(1)], None), *empty, ([], None), ([], certificate))
    assert build_receipt(too_far, GENESIS, id) is None


def test_a_receipt_of_another_chain_is_refused() -> None:
    assert refused(fresh(), OTHER) == "it is of another chain than the genesis"
    assert "bad signature" in refused(fresh() | {"chain_id": OTHER.chain_id.hex()}, OTHER)


def header(index: int) -> Block:
    return Block.decode(bytes.fromhex(fresh()["headers"][index]))


def without_header(index: int) -> list[str]:
    headers: list[str] = fresh()["headers"]
    return headers[:index] + headers[index + 1 :]


SPOILT: dict[str, tuple[dict[str, Any], str]] = {
    "version": ({"version": 2}, "version 2"),
    "version as text": ({"version": "1"}, "version"),
    "namespace": ({"namespace": 902}, "id is not that"),
    "namespace beyond 64 bits": ({"namespace": 1 << 64}, "64 bits"),
    "negative": ({"namespace": -1}, "64 bits"),
    "true for a number": ({"height": True}, "64 bits"),
    "transaction": ({"transaction": (RAW + b"x").hex()}, "id is not that"),
    "transaction no hex": ({"transaction": "xyz"}, "in hex"),
    "id": ({"id": "00" * 32}, "id is not that"),
    "short id": ({"id": "00" * 31}, "32 bytes"),
    "height": ({"height": 3}, "height is not that"),
    "epochs": ({"epochs": [{}]}, "epochs has to be bytes in hex"),
    "epochs no list": ({"epochs": "00"}, "list"),
    "epochs cut": ({"epochs": ["00"]}, "changes of the committee are not proved"),
    "no headers": ({"headers": []}, "no headers"),
    "headers no list": ({"headers": "00"}, "list"),
    "first header missing": ({"headers": without_header(0)}, "height is not that"),
    "middle header missing": ({"headers": without_header(1)}, "not a chain"),
    "last header missing": ({"headers": without_header(2)}, "proof is of another block"),
    "too many headers": ({"headers": fresh()["headers"] * 86}, "at most 256"),
    "header cut": ({"headers": [fresh()["headers"][0][:-2]]}, "early"),
    "another timestamp": (
        {
            "headers": [
                replace(header(0), timestamp_ms=5).encode().hex(),
                *fresh()["headers"][1:],
            ]
        },
        "not a chain",
    ),
    "proof cut": ({"proof": fresh()["proof"][:-2]}, "early"),
    "proof of too few": (
        {"proof": fresh()["proof"].replace("000000010b", "0000000103")},
        "quorum",
    ),
    "proof by others": (
        {"proof": fresh()["proof"].replace("000000010b", "0000000107")},
        "bad signature",
    ),
    "proof empty": ({"proof": ""}, "early"),
    "proof of a child of the last": (
        {"proof": certificate(header(0)).encode().hex()},
        "another block",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_receipt_is_refused(name: str) -> None:
    change, sentence = SPOILT[name]
    assert sentence in refused(fresh() | change)


def test_headers_of_another_epoch_are_refused() -> None:
    later = replace(header(2), epoch=1)
    change = {
        "headers": [*fresh()["headers"][:2], later.encode().hex()],
        "proof": certificate(later).encode().hex(),
    }
    assert "another epoch than its last committee" in refused(fresh() | change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"digest": "00" * 32}, "path does not lead"),
        ({"place": 0}, "does not order"),
        ({"place": 2}, "does not order"),
        ({"index": 3}, "path does not lead"),
        ({"count": 11}, "path does not lead"),
        ({"count": 0}, "path does not lead"),
        ({"path": []}, "path does not lead"),
        ({"path": ["00" * 32] * 33}, "at most 32"),
        ({"path": ["00"]}, "32 bytes"),
        ({"path": None}, "list"),
        ({"more": 1}, "object of"),
    ],
)
def test_a_spoilt_path_is_refused(change: dict[str, Any], sentence: str) -> None:
    receipt = fresh()
    receipt["collection"] |= change
    assert sentence in refused(receipt)


@pytest.mark.parametrize("wrong", [None, [], "", 1, {}, {"version": 1}, fresh() | {"extra": 1}])
def test_what_is_no_receipt_is_refused(wrong: object) -> None:
    assert "has to be an object" in refused(wrong)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        found += [place for key in keys for place in places(value[key], (*path, key))]
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.data(), JSON)
def test_any_change_is_refused_or_changes_nothing_that_is_proved(
    data: st.DataObject, value: object
) -> None:
    receipt = fresh()
    *path, last = data.draw(st.sampled_from(places(receipt)))
    holder = receipt
    for key in path:
        holder = holder[key]
    before = copy.deepcopy(holder[last])
    holder[last] = value
    try:
        proved = verify_receipt(receipt, GENESIS, CRYPTO)
    except InvalidReceipt:
        return
    assert value == before or last in ("index", "position", "settlement")
    assert replace(proved, index=1, position=4) == verify_receipt(fresh(), GENESIS, CRYPTO)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_is_refused(value: object) -> None:
    refused(value)
