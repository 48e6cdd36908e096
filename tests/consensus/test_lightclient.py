"""Certificates are believed only when every part of them is right: each test spoils one part."""

from dataclasses import replace
from hashlib import sha256

import pytest

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.committee import Committee, Member
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit, verify_commit_proof, verify_qc, verify_tc
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
    bitmap_of,
    genesis_block,
    genesis_qc,
)

CHAIN = sha256(b"a chain").digest()
OTHER_CHAIN = sha256(b"another chain").digest()
ZERO = bytes(32)
CRYPTO = BlsCrypto()
SIGNERS = [
    KeySigner(new_bls_secret(bytes([index]) * 32), bytes([index]) * 32) for index in range(5)
]


def committee_of(size: int, epoch: int = 0, weights: tuple[int, ...] = ()) -> Committee:
    return Committee(
        epoch,
        tuple(
            Member(signer.identity, signer.bls_key, weights[index] if weights else 1)
            for index, signer in enumerate(SIGNERS[:size])
        ),
    )


FOUR = committee_of(4)


def signed_by(members: list[int], message: bytes) -> bytes:
    signature = CRYPTO.aggregate([SIGNERS[index].sign(message) for index in members])
    assert signature is not None
    return signature


def make_qc(
    round: int, block_id: bytes, members: list[int], epoch: int = 0, size: int = 4
) -> QuorumCertificate:
    message = QuorumCertificate.signed_bytes(CHAIN, epoch, round, block_id)
    return QuorumCertificate(
        epoch, round, block_id, bitmap_of(members, size), signed_by(members, message)
    )


def make_commit(members: list[int], next_committee: bytes = ZERO) -> CommitCertificate:
    block_id = sha256(b"a block").digest()
    message = CommitCertificate.signed_bytes(CHAIN, 0, 7, 5, block_id, next_committee)
    return CommitCertificate(
        0, 7, 5, block_id, next_committee, bitmap_of(members, 4), signed_by(members, message)
    )


def make_tc(
    round: int, named: dict[int, int], high_qc: QuorumCertificate, epoch: int = 0
) -> TimeoutCertificate:
    signatures = [
        SIGNERS[index].sign(TimeoutCertificate.signed_bytes(CHAIN, epoch, round, high))
        for index, high in named.items()
    ]
    signature = CRYPTO.aggregate(signatures)
    assert signature is not None
    return TimeoutCertificate(epoch, round, tuple(named.items()), signature, high_qc)


def make_block(round: int, height: int, parent: bytes, qc: QuorumCertificate) -> Block:
    return Block(0, round, height, parent, qc, None, (), b"", 1_000 + height, 0)


def chain_of_two(child_round: int = 4) -> tuple[Block, CommitProof]:
    parent = make_block(3, 1, genesis_block(CHAIN).id, genesis_qc(CHAIN))
    child = make_block(child_round, 2, parent.id, make_qc(3, parent.id, [0, 1, 2]))
    return parent, CommitProof(None, child, make_qc(child_round, child.id, [1, 2, 3]))


BLOCK_ID = sha256(b"certified").digest()
GOOD_QC = make_qc(9, BLOCK_ID, [0, 1, 3])


def test_a_qc_of_a_quorum_is_good() -> None:
    verify_qc(FOUR, CHAIN, GOOD_QC, CRYPTO)
    verify_qc(FOUR, CHAIN, make_qc(9, BLOCK_ID, [0, 1, 2, 3]), CRYPTO)


@pytest.mark.parametrize(
    "qc",
    [
        make_qc(9, BLOCK_ID, [0, 1]),
        replace(GOOD_QC, round=8),
        replace(GOOD_QC, block_id=ZERO),
        replace(GOOD_QC, epoch=1),
        replace(GOOD_QC, signers=bitmap_of([0, 1, 2], 4)),
        replace(GOOD_QC, signers=bitmap_of([0, 1, 2, 3], 4)),
        replace(GOOD_QC, signers=GOOD_QC.signers + b"\0"),
        replace(GOOD_QC, signers=b""),
        replace(GOOD_QC, signers=bytes([GOOD_QC.signers[0] | 16])),
        replace(GOOD_QC, signers=bytes([GOOD_QC.signers[0] | 128])),
        replace(GOOD_QC, signature=bytes([0xC0]) + bytes(95)),
        replace(GOOD_QC, signature=bytes(96)),
        replace(GOOD_QC, signature=b""),
        replace(GOOD_QC, signature=make_commit([0, 1, 3]).signature),
    ],
    ids=[
        "too few",
        "other round",
        "other block",
        "other epoch",
        "other signers",
        "a signer more",
        "long bitmap",
        "no bitmap",
        "a bit beyond the committee",
        "the last bit",
        "identity signature",
        "zero signature",
        "no signature",
        "signature of something else",
    ],
)
def test_a_spoilt_qc_is_refused(qc: QuorumCertificate) -> None:
    with pytest.raises(InvalidMessage):
        verify_qc(FOUR, CHAIN, qc, CRYPTO)


def test_a_qc_of_another_chain_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        verify_qc(FOUR, OTHER_CHAIN, GOOD_QC, CRYPTO)


def test_the_genesis_qc_is_recognised_by_equality_only() -> None:
    verify_qc(FOUR, CHAIN, genesis_qc(CHAIN), CRYPTO)
    for spoilt in (
        genesis_qc(OTHER_CHAIN),
        replace(genesis_qc(CHAIN), epoch=1),
        replace(genesis_qc(CHAIN), signers=b"\x07"),
        replace(genesis_qc(CHAIN), round=1),
        make_qc(0, BLOCK_ID, [0, 1, 2, 3]),
        make_qc(0, genesis_block(CHAIN).id, [0, 1, 2, 3]),
    ):
        with pytest.raises(InvalidMessage):
            verify_qc(FOUR, CHAIN, spoilt, CRYPTO)


def test_five_members_need_four_signers() -> None:
    five = committee_of(5)
    verify_qc(five, CHAIN, make_qc(9, BLOCK_ID, [0, 1, 2, 3], size=5), CRYPTO)
    with pytest.raises(InvalidMessage, match="weight 3, a quorum is 4"):
        verify_qc(five, CHAIN, make_qc(9, BLOCK_ID, [0, 1, 2], size=5), CRYPTO)


def test_a_quorum_is_counted_by_weight() -> None:
    weighted = committee_of(4, weights=(1, 1, 1, 5))
    verify_qc(weighted, CHAIN, make_qc(9, BLOCK_ID, [0, 3]), CRYPTO)
    with pytest.raises(InvalidMessage, match="weight 3"):
        verify_qc(weighted, CHAIN, make_qc(9, BLOCK_ID, [0, 1, 2]), CRYPTO)


def test_a_qc_belongs_to_its_committee_s_epoch() -> None:
    later = make_qc(9, BLOCK_ID, [0, 1, 2], epoch=2)
    verify_qc(committee_of(4, epoch=2), CHAIN, later, CRYPTO)
    for epoch in (0, 1, 3):
        with pytest.raises(InvalidMessage, match="another epoch"):
            verify_qc(committee_of(4, epoch=epoch), CHAIN, later, CRYPTO)


QC_5 = make_qc(5, BLOCK_ID, [0, 1, 2])
GOOD_TC = make_tc(9, {0: 5, 2: 3, 3: 5}, QC_5)


def test_a_tc_with_its_highest_qc_is_good() -> None:
    verify_tc(FOUR, CHAIN, GOOD_TC, CRYPTO)
    verify_tc(FOUR, CHAIN, make_tc(1, {0: 0, 1: 0, 2: 0}, genesis_qc(CHAIN)), CRYPTO)
    verify_tc(FOUR, CHAIN, make_tc(9, {0: 1, 1: 2, 2: 3, 3: 5}, QC_5), CRYPTO)


@pytest.mark.parametrize(
    "tc",
    [
        make_tc(9, {0: 5, 2: 3}, QC_5),
        make_tc(9, {0: 5, 2: 3, 3: 6}, QC_5),
        make_tc(9, {0: 4, 2: 3, 3: 4}, QC_5),
        make_tc(5, {0: 5, 2: 3, 3: 5}, QC_5),
        make_tc(4, {0: 5, 2: 3, 3: 5}, QC_5),
        replace(GOOD_TC, round=10),
        replace(GOOD_TC, epoch=1),
        replace(GOOD_TC, high_qc=replace(QC_5, signature=GOOD_QC.signature)),
        replace(GOOD_TC, high_qc=make_qc(5, BLOCK_ID, [0, 1])),
        replace(GOOD_TC, signature=QC_5.signature),
        replace(GOOD_TC, high_qc_rounds=((0, 5), (2, 4), (3, 5))),
        replace(GOOD_TC, high_qc_rounds=((0, 5), (1, 3), (3, 5))),
        replace(GOOD_TC, high_qc_rounds=((0, 5), (2, 3), (4, 5))),
        replace(GOOD_TC, high_qc_rounds=((0, 5), (2, 3), (2**32 - 1, 5))),
        replace(GOOD_TC, high_qc_rounds=((0, 5), (0, 5), (0, 5))),
        replace(GOOD_TC, high_qc_rounds=((2, 3), (0, 5), (3, 5))),
    ],
    ids=[
        "too few",
        "highest QC missing",
        "higher QC than named",
        "names its own round",
        "names a later round",
        "other round",
        "other epoch",
        "forged high QC",
        "high QC of too few",
        "other signature",
        "other named round",
        "other signer",
        "a member that does not exist",
        "a huge index",
        "one member three times",
        "not ascending",
    ],
)
def test_a_spoilt_tc_is_refused(tc: TimeoutCertificate) -> None:
    with pytest.raises(InvalidMessage):
        verify_tc(FOUR, CHAIN, tc, CRYPTO)


def test_a_tc_of_another_chain_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        verify_tc(FOUR, OTHER_CHAIN, GOOD_TC, CRYPTO)


GOOD_COMMIT = make_commit([0, 2, 3])


def test_a_commit_certificate_is_good_alone_and_as_a_proof() -> None:
    verify_commit(FOUR, CHAIN, GOOD_COMMIT, CRYPTO)
    verify_commit_proof(FOUR, CHAIN, CommitProof(GOOD_COMMIT, None, None), CRYPTO)
    verify_commit(FOUR, CHAIN, make_commit([0, 2, 3], next_committee=BLOCK_ID), CRYPTO)


@pytest.mark.parametrize(
    "certificate",
    [
        make_commit([2, 3]),
        replace(GOOD_COMMIT, round=6),
        replace(GOOD_COMMIT, height=6),
        replace(GOOD_COMMIT, epoch=1),
        replace(GOOD_COMMIT, block_id=ZERO),
        replace(GOOD_COMMIT, next_committee=BLOCK_ID),
        replace(GOOD_COMMIT, signers=GOOD_COMMIT.signers + b"\0"),
        replace(GOOD_COMMIT, signers=b"\x1d"),
        replace(GOOD_COMMIT, signers=b"\x0f"),
        replace(GOOD_COMMIT, signature=GOOD_QC.signature),
    ],
)
def test_a_spoilt_commit_certificate_is_refused(certificate: CommitCertificate) -> None:
    with pytest.raises(InvalidMessage):
        verify_commit(FOUR, CHAIN, certificate, CRYPTO)
    with pytest.raises(InvalidMessage):
        verify_commit_proof(FOUR, CHAIN, CommitProof(certificate, None, None), CRYPTO)


def test_a_qc_is_no_commit_certificate() -> None:
    votes = make_qc(7, GOOD_COMMIT.block_id, [0, 2, 3])
    with pytest.raises(InvalidMessage):
        verify_commit(FOUR, CHAIN, replace(GOOD_COMMIT, signature=votes.signature), CRYPTO)


def test_a_certified_child_one_round_up_proves_its_parent() -> None:
    parent, proof = chain_of_two()
    verify_commit_proof(FOUR, CHAIN, proof, CRYPTO)
    assert proof.block_id == parent.id


def test_C2_a_child_two_rounds_up_proves_nothing() -> None:
    with pytest.raises(InvalidMessage, match="consecutive"):
        verify_commit_proof(FOUR, CHAIN, chain_of_two(child_round=5)[1], CRYPTO)


def test_the_quorum_behind_the_child_vouches_for_the_certificate_in_it() -> None:
    """Its voters knew a certificate of that round and block, whatever bytes the leader put in."""
    _, proof = chain_of_two()
    child = proof.child
    assert child is not None
    odd = replace(child, qc=replace(child.qc, signature=bytes(96)))
    verify_commit_proof(FOUR, CHAIN, CommitProof(None, odd, make_qc(4, odd.id, [0, 1, 2])), CRYPTO)


def test_a_spoilt_two_chain_is_refused() -> None:
    _, proof = chain_of_two()
    child, child_qc = proof.child, proof.child_qc
    assert child is not None
    assert child_qc is not None
    stranger = replace(child, parent_id=BLOCK_ID)
    for spoilt in (
        CommitProof(None, replace(child, timestamp_ms=1), child_qc),
        CommitProof(None, child, replace(child_qc, round=5)),
        CommitProof(None, child, make_qc(5, child.id, [0, 1, 2])),
        CommitProof(None, child, make_qc(4, child.id, [0, 1])),
        CommitProof(None, child, make_qc(4, child.id, [0, 1, 2], epoch=1)),
        CommitProof(None, stranger, make_qc(4, stranger.id, [0, 1, 2])),
        CommitProof(None, child, child.qc),
    ):
        with pytest.raises(InvalidMessage):
            verify_commit_proof(FOUR, CHAIN, spoilt, CRYPTO)
