"""A receipt from a later epoch: believed from the genesis alone, through every change between."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from consensus.bls import KeySigner, new_bls_secret
from consensus.codec import ZERO_HASH
from consensus.committee import Committee, Member
from consensus.epochs import EpochChange, root_qc
from consensus.types import Block, CommitCertificate, CommitProof, bitmap_of, genesis_qc
from sequencer.collection import Collection, transaction_id
from sequencer.ledger import Ledger
from sequencer.receipt import InvalidReceipt, build_receipt, verify_receipt
from sequencer.store.memory import MemoryStore
from sequencer.store.seam import WriteBatch
from tests.sequencer.test_receipt import CRYPTO, GENESIS, SIGNERS

STRANGERS = [KeySigner(new_bls_secret(bytes([n]) * 32), bytes([n]) * 32) for n in range(11, 18)]
LINE_UP = [SIGNERS, [*SIGNERS[1:], STRANGERS[0]], STRANGERS]
"""Whose keys form the committees of epochs 0, 1 and 2."""


def committee(epoch: int) -> Committee:
    members = tuple(Member(each.identity, each.bls_key, 1) for each in LINE_UP[epoch])
    return Committee(epoch, members) if epoch else GENESIS.committee


def certified(block: Block, signers: list[KeySigner], following: bytes = ZERO_HASH) -> CommitProof:
    """The commit certificate of a block by all of these."""
    fields = (block.epoch, block.round, block.height, block.id, following)
    message = CommitCertificate.signed_bytes(GENESIS.chain_id, *fields)
    signature = CRYPTO.aggregate([each.sign(message) for each in signers])
    assert signature is not None
    bitmap = bitmap_of(list(range(len(signers))), len(signers))
    return CommitProof(CommitCertificate(*fields, bitmap, signature), None, None)


@cache
def example() -> tuple[Ledger, tuple[EpochChange, ...]]:
    """A log of three epochs, one block each, and how the first two ended."""
    store = MemoryStore(GENESIS.chain_id)
    ledger = Ledger(store, GENESIS.chain_id, GENESIS.rules)
    changes: list[EpochChange] = []
    qc = genesis_qc(GENESIS.chain_id)
    for epoch, signers in enumerate(LINE_UP):
        collection = Collection.seal([(901, b"of epoch %d" % epoch)])
        block = Block(
            epoch,
            epoch + 1,
            epoch + 1,
            ledger.head.block_id,
            qc,
            None,
            (collection.digest,),
            b"",
            1_000 + epoch,
            0,
        )
        following = committee(epoch + 1) if epoch + 1 < len(LINE_UP) else None
        proof = certified(block, signers, following.digest if following else ZERO_HASH)
        batch = WriteBatch()
        ledger.apply(batch, block, proof, [collection])
        store.save(batch)
        if following is not None:
            assert proof.certificate is not None
            changes.append(EpochChange(proof.certificate, block, following))
            qc = root_qc(following.epoch, block)
    return ledger, tuple(changes)


def receipt(epoch: int) -> dict[str, Any]:
    """The receipt of the transaction of an epoch, through JSON."""
    ledger, changes = example()
    found = build_receipt(
        ledger,
        GENESIS,
        transaction_id(901, b"of epoch %d" % epoch),
        None,
        lambda first, most: changes[first : first + most],
    )
    read: dict[str, Any] = json.loads(json.dumps(found))
    return read


def refused(value: object) -> str:
    with pytest.raises(InvalidReceipt) as raised:
        verify_receipt(value, GENESIS, CRYPTO)
    return str(raised.value)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_receipt_carries_the_changes_up_to_its_epoch(epoch: int) -> None:
    found = receipt(epoch)
    assert len(found["epochs"]) == epoch
    proved = verify_receipt(found, GENESIS, CRYPTO)
    assert (proved.epoch, proved.transaction) == (epoch, b"of epoch %d" % epoch)


def test_without_a_change_the_chain_does_not_reach_its_committee() -> None:
    changes = receipt(2)["epochs"]
    assert "certificate of another epoch" in refused(receipt(2) | {"epochs": changes[:1]})
    assert "not proved" in refused(receipt(2) | {"epochs": changes[1:]})
    assert "certificate of another epoch" in refused(receipt(2) | {"epochs": []})


def test_changes_in_another_order_are_refused() -> None:
    assert "not proved" in refused(receipt(2) | {"epochs": receipt(2)["epochs"][::-1]})


def test_a_change_too_many_is_refused() -> None:
    assert "another epoch" in refused(receipt(1) | {"epochs": receipt(2)["epochs"]})


def test_a_committee_that_nobody_named_is_refused() -> None:
    last = example()[1][1]
    forged = replace(last, committee=Committee(2, committee(2).members[:4]))
    epochs = [receipt(2)["epochs"][0], forged.encode().hex()]
    assert "names another committee" in refused(receipt(2) | {"epochs": epochs})


def test_a_change_signed_by_those_who_come_is_refused() -> None:
    first = example()[1][0]
    signed = certified(first.last, STRANGERS[:4], first.committee.digest).certificate
    assert signed is not None
    forged = replace(first, certificate=signed).encode().hex()
    assert "bad signature" in refused(receipt(1) | {"epochs": [forged]})
