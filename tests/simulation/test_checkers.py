"""The checkers complain about what they are for, and every complaint cites a rule."""

import inspect
import re
from dataclasses import replace

import pytest

from consensus.committee import Committee, Member
from consensus.epochs import EpochChange, attestation, root_qc
from consensus.messages import CommitVote, Proposal, Vote
from consensus.safety import SafetyRecord
from consensus.types import (
    Block,
    CommitCertificate,
    QuorumCertificate,
    TimeoutCertificate,
    genesis_block,
    genesis_qc,
)
from testnet.simulation import checkers, epoch_checker, finality, protocol_checker
from testnet.simulation.checkers import LogChecker, Violation, check_bounded
from testnet.simulation.crypto import StubCrypto, StubSigner
from testnet.simulation.protocol_checker import ProtocolChecker
from testnet.simulation.registry import Registry

CHAIN = bytes(31) + b"\1"
GENESIS = genesis_block(CHAIN)
SIGNERS = [StubSigner(b"%d" % index) for index in range(4)]
COMMITTEE = Committee(0, tuple(Member(item.identity, item.bls_key) for item in SIGNERS))
REGISTRY = Registry(4)
RECORD = replace(
    SafetyRecord.initial(CHAIN),
    last_voted_round=50,
    last_commit_vote_round=50,
    highest_timeout_round=0,
)


def make_checker(honest: tuple[int, ...] = (0, 1, 2)) -> ProtocolChecker:
    checker = ProtocolChecker(REGISTRY, CHAIN, honest, lambda *_: True, 8, StubCrypto())
    for member in honest:
        checker.on_saved(member, RECORD)
    return checker


def make_block(round: int, parent: Block, qc: QuorumCertificate | None = None) -> Block:
    certificate = qc or QuorumCertificate(0, parent.round, parent.id, b"\x07", bytes(96))
    if parent.height == 0:
        certificate = genesis_qc(CHAIN)
    at = parent.timestamp_ms + 1
    author = COMMITTEE.leader(round)
    height = parent.height + 1
    return Block(0, round, height, parent.id, certificate, None, (), b"", at, author)


def vote(checker: ProtocolChecker, member: int, block: Block) -> None:
    checker.on_block(block)
    checker.on_sent(member, Vote(0, block.round, block.id, member, bytes(96)))


def commit_vote(checker: ProtocolChecker, member: int, block: Block) -> None:
    checker.on_sent(
        member,
        CommitVote(0, block.round, block.height, block.id, bytes(32), member, bytes(96)),
    )


def make_final(checker: ProtocolChecker, block: Block) -> None:
    for member in (0, 1):
        vote(checker, member, block)
    for member in (0, 1):
        commit_vote(checker, member, block)


def test_V1_a_second_vote_in_a_round() -> None:
    checker, first = make_checker(), make_block(1, GENESIS)
    vote(checker, 0, first)
    vote(checker, 0, first)
    with pytest.raises(Violation, match="V1"):
        vote(checker, 0, replace(first, timestamp_ms=9))


def test_S1_a_vote_that_no_saved_record_covers() -> None:
    checker = make_checker()
    checker.on_saved(1, replace(RECORD, last_voted_round=50))
    late = Vote(0, 51, bytes(32), 1, bytes(96))
    with pytest.raises(Violation, match="S1"):
        checker.on_sent(1, late)


def test_T1_a_vote_saved_after_a_timeout_for_its_round() -> None:
    checker = make_checker()
    checker.on_saved(0, replace(RECORD, highest_timeout_round=60))
    with pytest.raises(Violation, match="T1"):
        checker.on_saved(0, replace(RECORD, highest_timeout_round=60, last_voted_round=60))


def test_L2_a_watermark_that_falls() -> None:
    checker = make_checker()
    checker.on_saved(0, replace(RECORD, highest_timeout_round=60))
    with pytest.raises(Violation, match="L2"):
        checker.on_saved(0, RECORD)


def test_V2_an_unjustified_block() -> None:
    with pytest.raises(Violation, match="V2"):
        vote(make_checker(), 0, make_block(3, GENESIS))


def test_S3_a_vote_without_the_collection_on_disk() -> None:
    checker = ProtocolChecker(REGISTRY, CHAIN, (0,), lambda *_: False, 8, StubCrypto())
    checker.on_saved(0, RECORD)
    with pytest.raises(Violation, match="S3"):
        vote(checker, 0, replace(make_block(1, GENESIS), collections=(bytes(32),)))


def test_L1_a_commit_vote_without_a_certificate() -> None:
    checker, block = make_checker(), make_block(1, GENESIS)
    vote(checker, 0, block)
    with pytest.raises(Violation, match="L1"):
        commit_vote(checker, 0, block)


def test_Q1_two_blocks_that_could_both_be_certified_in_a_round() -> None:
    checker, block = make_checker((0, 1, 2, 3)), make_block(1, GENESIS)
    for member in (0, 1, 2):
        vote(checker, member, block)
    other = make_checker((0, 1))
    vote(other, 0, block)
    with pytest.raises(Violation, match="Q1"):
        vote(other, 1, replace(block, timestamp_ms=9))


def test_a_certificate_beside_a_final_block_shows_before_anybody_commits_it() -> None:
    checker = make_checker()
    final = make_block(1, GENESIS)
    make_final(checker, final)
    low_tc = TimeoutCertificate(0, 1, ((0, 0), (1, 0), (3, 0)), bytes(96), genesis_qc(CHAIN))
    beside = replace(make_block(2, GENESIS), tc=low_tc)
    vote(checker, 0, beside)
    with pytest.raises(Violation, match="does not descend from the final one"):
        vote(checker, 1, beside)


def test_C3_a_commit_that_skips_a_height() -> None:
    checker, first = make_checker(), make_block(1, GENESIS)
    second = make_block(2, first)
    with pytest.raises(Violation, match="C3"):
        checker.on_committed(0, second, GENESIS)


def test_C2_a_commit_of_what_nobody_made_final() -> None:
    with pytest.raises(Violation, match="C2"):
        make_checker().on_committed(0, make_block(1, GENESIS), GENESIS)


def test_C1_two_members_commit_different_blocks() -> None:
    checker, block = make_checker(), make_block(1, GENESIS)
    make_final(checker, block)
    checker.on_committed(0, block, GENESIS)
    with pytest.raises(Violation, match="C1"):
        checker.on_committed(1, replace(block, timestamp_ms=7), GENESIS)


def test_P1_two_proposals_for_a_round() -> None:
    checker, block = make_checker(), make_block(1, GENESIS)
    checker.on_saved(1, replace(RECORD, last_proposal=Proposal(block, bytes(64))))
    with pytest.raises(Violation, match="P1"):
        checker.on_sent(1, Proposal(replace(block, timestamp_ms=8), bytes(64)))


def test_Q1_evidence_against_an_honest_member() -> None:
    make_checker().on_evidence(0, 3)
    with pytest.raises(Violation, match="Q1"):
        make_checker().on_evidence(0, 1)


def elected() -> tuple[ProtocolChecker, Registry, Block]:
    """A checker whose registry names a second committee, and the block that a quorum attests."""
    registry = Registry(5, (0, 1, 2, 3))
    following = registry.elect((1, 2, 3, 4))
    checker = ProtocolChecker(registry, CHAIN, range(5), lambda *_: True, 8, StubCrypto())
    locked = QuorumCertificate(0, 60, bytes(32), b"", b"")
    for member in range(5):
        checker.on_saved(member, replace(RECORD, high_qc=locked))
    last = GENESIS
    for round in (1, 2, 3):
        last = replace(make_block(round, last), attestation=attestation(1, following.digest))
        checker.on_block(last)
        for member in (0, 1, 2):
            vote(checker, member, last)
    return checker, registry, last


def end_vote(member: int, last: Block, digest: bytes) -> CommitVote:
    return CommitVote(0, last.round, last.height, last.id, digest, member, bytes(96))


def test_Ep1_a_member_signs_in_the_seat_of_another() -> None:
    checker, _, last = elected()
    with pytest.raises(Violation, match="Ep1"):
        checker.on_sent(3, Vote(0, 1, last.id, 2, bytes(96)))


def test_Ep5_who_is_no_member_signs() -> None:
    checker, _, last = elected()
    with pytest.raises(Violation, match="Ep5"):
        checker.on_sent(4, Vote(0, 1, last.id, 4, bytes(96)))


def test_Ep2_a_change_that_no_quorum_attested() -> None:
    checker, registry, last = elected()
    short = checker.blocks[last.parent_id]
    signed = CommitCertificate.signed_bytes(
        CHAIN, 0, short.round, short.height, short.id, registry.committees[1].digest
    )
    total = StubCrypto().aggregate([registry.signers[at].sign(signed) for at in (0, 1, 2)])
    assert total is not None
    certificate = CommitCertificate(
        0, short.round, short.height, short.id, registry.committees[1].digest, b"\x07", total
    )
    with pytest.raises(Violation, match="Ep2"):
        checker.epochs.check_change(0, EpochChange(certificate, short, registry.committees[1]))


def test_Ep3_a_commit_vote_on_the_last_block_that_names_no_committee() -> None:
    checker, registry, last = elected()
    checker.on_sent(0, end_vote(0, last, registry.committees[1].digest))
    with pytest.raises(Violation, match="Ep3"):
        checker.on_sent(1, end_vote(1, last, bytes(32)))


def test_Ep3_a_block_of_the_old_epoch_above_its_last_one_in_the_log() -> None:
    checker, _, last = elected()
    above = make_block(4, last)
    checker.on_block(above)
    with pytest.raises(Violation, match="Ep3"):
        checker.epochs.on_logged(0, above, last)


def test_Ep4_a_member_signs_in_an_epoch_that_its_disk_has_left() -> None:
    checker, registry, last = elected()
    for member in (0, 1, 2):
        checker.on_sent(member, end_vote(member, last, registry.committees[1].digest))
    checker.on_saved(1, SafetyRecord(1, root_qc(1, last)))
    with pytest.raises(Violation, match="Ep4"):
        checker.on_sent(1, Vote(0, 4, bytes(32), 1, bytes(96)))


def test_Ep4_an_epoch_that_is_skipped_or_goes_back() -> None:
    for epoch in (2, 0):
        checker, registry, last = elected()
        for member in (0, 1, 2):
            checker.on_sent(member, end_vote(member, last, registry.committees[1].digest))
        if epoch == 0:
            checker.on_saved(1, SafetyRecord(1, root_qc(1, last)))
        with pytest.raises(Violation, match="Ep4"):
            checker.on_saved(1, replace(RECORD, epoch=epoch))


def test_logs_must_be_prefixes_of_each_other_and_hold_nothing_twice() -> None:
    log = LogChecker(5)
    log.on_applied(0, 1, (b"a", b"b"), b"root")
    log.on_applied(1, 1, (b"a", b"b"), b"root")
    with pytest.raises(Violation, match="another log"):
        log.on_applied(2, 1, (b"b", b"a"), b"root")
    with pytest.raises(Violation, match="twice"):
        log.on_applied(0, 2, (b"a",), b"next")


def test_a_transaction_may_return_after_the_duplicate_window() -> None:
    log = LogChecker(2)
    for height, entries in enumerate([(b"a",), (), (b"a",)], start=1):
        log.on_applied(0, height, entries, b"%d" % height)


def test_what_a_member_made_durable_is_missed_until_it_is_ordered() -> None:
    log = LogChecker(5)
    log.on_submitted([b"a", b"b"])
    log.on_saved(0, [b"a", b"from a peer"])
    assert (log.missing([0]), log.missing([1])) == (1, 0)
    log.on_applied(0, 1, (b"a",), b"root")
    assert (log.missing([0]), log.height_of_all([0])) == (0, 1)


def test_Q3_a_container_that_has_grown() -> None:
    log = LogChecker(5)
    assert check_bounded([1, 2, 3], 3, "list") == 3
    with pytest.raises(Violation, match="Q3: list holds 4 items"):
        check_bounded({"deep": [[1, 2, 3, 4]]}, 3, "list")
    assert log.missing([0]) == 0


class _Holder:
    def __init__(self) -> None:
        self.window = [1, 2, 3, 4]


def test_Q3_a_container_with_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Holder, "__module__", "sequencer.holder")
    with pytest.raises(Violation, match=r"Q3: it.window holds 4 items"):
        check_bounded(_Holder(), 3, "it")
    assert check_bounded(_Holder(), 3, "it", {"window": 4}) == 4


def test_every_complaint_cites_a_rule() -> None:
    rooms = (protocol_checker, checkers, epoch_checker, finality)
    source = "".join(inspect.getsource(room) for room in rooms)
    rules = set(re.findall(r'"([A-Z][a-z]?\d|quorum)"', source))
    uncited = re.findall(r'(?:require|Violation)\(\s*"(?![A-Z][a-z]?\d|quorum)', source)
    assert uncited == []
    assert {"V1", "V2", "V3", "V4", "V5", "T1", "T2", "L1", "L2", "P1", "Ld1", "E2", "E4"} <= rules
    assert {"Ep1", "Ep2", "Ep3", "Ep4"} <= rules
    assert {"S1", "S3", "C1", "C2", "C3", "Q1", "Q2", "Q3", "quorum"} <= rules
