"""Believe a block from certificates alone: a committee, a chain id, and nothing else.

These checks are the only ones between bytes from a stranger and belief, for a replica as for
somebody who holds a receipt. Each raises `InvalidMessage` with the reason and returns nothing.
A certificate counts only in the epoch of the committee it is checked against.
"""

from collections.abc import Sequence

from consensus.bls import Crypto
from consensus.committee import Committee
from consensus.errors import InvalidMessage
from consensus.types import (
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
    genesis_qc,
    members_of,
)


def verify_qc(
    committee: Committee,
    chain_id: bytes,
    qc: QuorumCertificate,
    crypto: Crypto,
    root: QuorumCertificate | None = None,
) -> None:
    """A quorum voted for this block in this round, or it is the `root` of the epoch.

    Round 0 is the genesis certificate alone.
    """
    if root is not None and qc == root:
        return
    if qc.round == 0:
        _require(qc == genesis_qc(chain_id), "quorum certificate of round 0 is not the genesis one")
        return
    _require(qc.epoch == committee.epoch, "quorum certificate of another epoch")
    message = QuorumCertificate.signed_bytes(chain_id, qc.epoch, qc.round, qc.block_id)
    keys = _quorum_keys(committee, qc.signers)
    _require(
        crypto.verify_aggregate(keys, message, qc.signature),
        "quorum certificate with a bad signature",
    )


def verify_tc(
    committee: Committee,
    chain_id: bytes,
    tc: TimeoutCertificate,
    crypto: Crypto,
    root: QuorumCertificate | None = None,
) -> None:
    """A quorum gave up on this round, and the highest QC that a signer named is there and good."""
    _require(tc.epoch == committee.epoch, "timeout certificate of another epoch")
    groups: dict[int, list[int]] = {}
    previous = -1
    for index, named_round in tc.high_qc_rounds:
        _require(previous < index, "timeout certificate: signers are not ascending")
        _require(named_round < tc.round, "timeout certificate names a round that is not below it")
        groups.setdefault(named_round, []).append(index)
        previous = index
    _require(previous < committee.size, "timeout certificate names a member that does not exist")
    _require_quorum(committee, [index for index, _ in tc.high_qc_rounds])
    _require(tc.high_qc.round == tc.high_qc_round, "timeout certificate without its highest QC")
    signed = [
        (
            [committee.members[index].bls_key for index in groups[named_round]],
            TimeoutCertificate.signed_bytes(chain_id, tc.epoch, tc.round, named_round),
        )
        for named_round in sorted(groups)
    ]
    _require(crypto.verify_groups(signed, tc.signature), "timeout certificate with a bad signature")
    verify_qc(committee, chain_id, tc.high_qc, crypto, root)


def verify_commit(
    committee: Committee, chain_id: bytes, certificate: CommitCertificate, crypto: Crypto
) -> None:
    """A quorum commit-voted this block: it and all its ancestors are final (C1)."""
    _require(certificate.epoch == committee.epoch, "commit certificate of another epoch")
    message = CommitCertificate.signed_bytes(
        chain_id,
        certificate.epoch,
        certificate.round,
        certificate.height,
        certificate.block_id,
        certificate.next_committee,
    )
    keys = _quorum_keys(committee, certificate.signers)
    _require(
        crypto.verify_aggregate(keys, message, certificate.signature),
        "commit certificate with a bad signature",
    )


def verify_commit_proof(
    committee: Committee, chain_id: bytes, proof: CommitProof, crypto: Crypto
) -> None:
    """`proof.block_id` is final, by a commit certificate (C1) or a certified child (C2)."""
    if proof.certificate is not None:
        verify_commit(committee, chain_id, proof.certificate, crypto)
        return
    child, child_qc = proof.child, proof.child_qc
    assert child is not None
    assert child_qc is not None
    _require(child.qc.block_id == child.parent_id, "child does not certify its own parent")
    _require(child_qc.block_id == child.id, "certificate is not the child's")
    _require(child_qc.round == child.round, "certificate is not of the child's round")
    _require(child.round == child.qc.round + 1, "rounds of child and parent are not consecutive")
    _require(child.epoch == child_qc.epoch, "child and its certificate differ in epoch")
    # The quorum that certified the child has checked the child's own certificate (V2).
    verify_qc(committee, chain_id, child_qc, crypto)


def _quorum_keys(committee: Committee, signers: bytes) -> list[bytes]:
    """The BLS keys behind a canonical bitmap that reaches the quorum."""
    _require(len(signers) == (committee.size + 7) // 8, "bitmap does not fit the committee")
    indices = members_of(signers)
    _require(
        not indices or indices[-1] < committee.size, "bitmap names a member that does not exist"
    )
    _require_quorum(committee, indices)
    return [committee.members[index].bls_key for index in indices]


def _require_quorum(committee: Committee, indices: Sequence[int]) -> None:
    weight = committee.weight(indices)
    _require(
        weight >= committee.quorum_weight,
        f"certificate of weight {weight}, a quorum is {committee.quorum_weight}",
    )


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise InvalidMessage(reason)
