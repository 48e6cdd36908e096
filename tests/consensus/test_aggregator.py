"""Ballots into certificates: who counts, what is verified, and what is evidence."""

from dataclasses import replace

import pytest

from consensus.aggregator import Aggregator, Evidence, content
from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.committee import Committee, Member
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit, verify_qc, verify_tc
from consensus.messages import Certificates, Timeout, Vote
from consensus.types import QuorumCertificate, members_of
from tests.consensus.harness import CHAIN, GENESIS_QC, UNIX_MS, Script, StubCrypto, committee_of

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""Of the BLS groups."""
FOUR = Script(4)
ONE, TWO = FOUR.chain(1, 2)
OTHER = FOUR.block(1, timestamp_ms=UNIX_MS + 5)


class Counting(Aggregator):
    """An aggregator whose verifications are counted."""

    def __init__(self, script: Script = FOUR) -> None:
        self.crypto = StubCrypto()
        super().__init__(script.committee, CHAIN, self.crypto)

    @property
    def checks(self) -> int:
        return self.crypto.checks


def forged(vote: Vote) -> Vote:
    return replace(vote, signature=bytes([7]) * 96)


def test_Q2_a_quorum_is_verified_once_and_not_vote_by_vote() -> None:
    mine = Counting()
    assert mine.add_vote(0, FOUR.vote(0, ONE)) is None
    assert mine.add_vote(1, FOUR.vote(1, ONE)) is None
    assert mine.checks == 0
    qc = mine.add_vote(3, FOUR.vote(3, ONE))
    assert qc == FOUR.qc(ONE, [0, 1, 3])
    assert mine.checks == 1
    verify_qc(FOUR.committee, CHAIN, qc, StubCrypto())
    assert mine.add_vote(2, FOUR.vote(2, ONE)) is None, "once per round"


def test_Q1_a_member_counts_once() -> None:
    mine = Counting()
    for _ in range(5):
        assert mine.add_vote(1, FOUR.vote(1, ONE)) is None
    assert mine.votes.weight(1) == 1


def test_Q1_votes_for_different_blocks_do_not_add_up() -> None:
    mine = Counting()
    mine.add_vote(0, FOUR.vote(0, ONE))
    mine.add_vote(1, FOUR.vote(1, OTHER))
    assert mine.add_vote(2, FOUR.vote(2, ONE)) is None
    assert mine.add_vote(3, FOUR.vote(3, ONE)) == FOUR.qc(ONE, [0, 2, 3])


def test_Q1_a_differing_second_vote_is_evidence_and_the_first_counts() -> None:
    mine = Counting()
    mine.add_vote(1, FOUR.vote(1, ONE))
    mine.add_vote(1, FOUR.vote(1, OTHER))
    (evidence,) = mine.take_evidence()
    assert evidence == Evidence(0, 1, 1, FOUR.vote(1, ONE), FOUR.vote(1, OTHER))
    assert Evidence.decode(evidence.encode()) == evidence
    assert mine.take_evidence() == []
    slot = mine.votes.slots(1)[1]
    assert slot.ballot == FOUR.vote(1, ONE)


def test_Q1_a_differing_second_commit_vote_is_evidence() -> None:
    mine = Counting()
    mine.add_commit_vote(1, FOUR.commit_vote(1, ONE))
    mine.add_commit_vote(1, FOUR.commit_vote(1, OTHER))
    assert [found.member for found in mine.take_evidence()] == [1]


def test_Q1_a_member_is_accused_once_a_round_however_much_it_says() -> None:
    mine = Counting()
    for stamp in range(20):
        mine.add_vote(1, FOUR.vote(1, FOUR.block(1, timestamp_ms=UNIX_MS + stamp)))
    assert len(mine.take_evidence()) == 1


def test_Q1_a_differing_timeout_is_no_evidence() -> None:
    """An honest member that restarts may know a higher QC than its lost timeout said."""
    mine = Counting()
    mine.add_timeout(1, FOUR.timeout(1, 3), GENESIS_QC)
    mine.add_timeout(1, FOUR.timeout(1, 3, FOUR.qc(ONE)), FOUR.qc(ONE))
    assert mine.take_evidence() == []
    ballot = mine.timeouts.slots(3)[1].ballot
    assert isinstance(ballot, Timeout)
    assert ballot.high_qc_round == 0


def test_Q1_equal_opinions_under_other_signature_bytes_are_no_evidence() -> None:
    mine = Counting()
    mine.add_vote(1, forged(FOUR.vote(1, ONE)))
    mine.add_vote(1, FOUR.vote(1, ONE))
    assert mine.take_evidence() == []


def test_Q1_nobody_fills_the_slot_of_another() -> None:
    mine = Counting()
    with pytest.raises(InvalidMessage, match="forged signature of member 2"):
        mine.add_vote(1, forged(FOUR.vote(2, ONE)))
    assert mine.votes.weight(1) == 0
    mine.add_vote(1, FOUR.vote(2, ONE))
    assert mine.votes.weight(1) == 1, "a verified signature counts whoever brings it"


def test_Q1_nobody_makes_evidence_against_another() -> None:
    mine = Counting()
    mine.add_vote(2, FOUR.vote(2, ONE))
    with pytest.raises(InvalidMessage):
        mine.add_vote(1, forged(FOUR.vote(2, OTHER)))
    assert mine.take_evidence() == []


def test_Q1_a_forged_first_vote_makes_no_evidence_out_of_a_good_second_one() -> None:
    mine = Counting()
    mine.add_vote(2, forged(FOUR.vote(2, OTHER)))
    mine.add_vote(2, FOUR.vote(2, ONE))
    assert mine.take_evidence() == []
    assert mine.votes.slots(1)[2].ballot == FOUR.vote(2, ONE)


def test_Q1_a_member_that_does_not_exist_is_refused() -> None:
    vote = replace(FOUR.vote(3, ONE), voter=4)
    with pytest.raises(InvalidMessage, match="no member 4"):
        Counting().add_vote(4, vote)


def test_Q2_a_forged_signature_is_found_and_its_sender_barred() -> None:
    mine = Counting()
    mine.add_vote(0, FOUR.vote(0, ONE))
    mine.add_vote(1, forged(FOUR.vote(1, ONE)))
    assert mine.add_vote(2, FOUR.vote(2, ONE)) is None
    assert sorted(mine.votes.slots(1)) == [0, 2]
    assert mine.add_vote(3, FOUR.vote(3, ONE)) == FOUR.qc(ONE, [0, 2, 3])
    with pytest.raises(InvalidMessage):
        mine.add_vote(1, forged(FOUR.vote(1, TWO)))
    before = mine.checks
    mine.add_vote(1, FOUR.vote(1, TWO))
    assert mine.checks == before + 1, "a barred member's votes are verified one by one"


def test_Q2_bytes_that_are_no_signature_cannot_stop_a_quorum() -> None:
    mine = Counting()
    mine.add_vote(0, FOUR.vote(0, ONE))
    mine.add_vote(1, replace(FOUR.vote(1, ONE), signature=b"short"))
    mine.add_vote(2, FOUR.vote(2, ONE))
    assert mine.add_vote(3, FOUR.vote(3, ONE)) == FOUR.qc(ONE, [0, 2, 3])


def test_Q2_a_good_vote_after_the_forged_one_was_thrown_out_counts() -> None:
    mine = Counting()
    mine.add_vote(0, FOUR.vote(0, ONE))
    mine.add_vote(1, forged(FOUR.vote(1, ONE)))
    mine.add_vote(2, FOUR.vote(2, ONE))
    assert mine.add_vote(1, FOUR.vote(1, ONE)) == FOUR.qc(ONE, [0, 1, 2])


def test_a_commit_certificate_names_round_height_and_block() -> None:
    mine = Counting()
    for voter in (0, 2):
        assert mine.add_commit_vote(voter, FOUR.commit_vote(voter, TWO)) is None
    certificate = mine.add_commit_vote(3, FOUR.commit_vote(3, TWO))
    assert certificate == FOUR.commit(TWO, [0, 2, 3])
    verify_commit(FOUR.committee, CHAIN, certificate, StubCrypto())


def test_a_timeout_certificate_carries_the_highest_QC_that_a_signer_named() -> None:
    mine = Counting()
    qc_one, qc_two = FOUR.qc(ONE), FOUR.qc(TWO)
    assert mine.add_timeout(0, FOUR.timeout(0, 5, qc_one), qc_one) is None
    assert mine.add_timeout(1, FOUR.timeout(1, 5, qc_two), qc_two) is None
    tc = mine.add_timeout(2, FOUR.timeout(2, 5), GENESIS_QC)
    assert tc is not None
    assert tc.high_qc_rounds == ((0, 1), (1, 2), (2, 0))
    assert tc.high_qc == qc_two
    verify_tc(FOUR.committee, CHAIN, tc, StubCrypto())


def test_a_forged_timeout_does_not_raise_what_the_certificate_names() -> None:
    mine = Counting()
    qc = FOUR.qc(TWO)
    liar = replace(FOUR.timeout(1, 5, qc), signature=bytes([7]) * 96)
    mine.add_timeout(0, FOUR.timeout(0, 5), GENESIS_QC)
    mine.add_timeout(1, liar, qc)
    assert mine.add_timeout(2, FOUR.timeout(2, 5), GENESIS_QC) is None
    tc = mine.add_timeout(3, FOUR.timeout(3, 5), GENESIS_QC)
    assert tc is not None
    assert tc.high_qc == GENESIS_QC
    assert [voter for voter, _ in tc.high_qc_rounds] == [0, 2, 3]
    verify_tc(FOUR.committee, CHAIN, tc, StubCrypto())


def test_Q2_members_with_opposite_keys_stop_no_timeout_certificate() -> None:
    """Five honest members and two whose keys and signatures cancel out, real ones."""
    secrets = [new_bls_secret(bytes([number]) * 32) for number in range(1, 7)]
    secrets.append((ORDER - int.from_bytes(secrets[-1], "big")).to_bytes(32, "big"))
    signers = [KeySigner(secret, bytes([n]) * 32) for n, secret in enumerate(secrets)]
    committee = Committee(0, tuple(Member(each.identity, each.bls_key) for each in signers))
    mine, qc = Aggregator(committee, CHAIN, BlsCrypto()), replace(GENESIS_QC, round=9)

    def timeout(voter: int, high: QuorumCertificate) -> Timeout:
        unsigned = Timeout(0, 10, high.round, voter, b"", Certificates(high, None, None))
        return replace(unsigned, signature=signers[voter].sign(content(CHAIN, unsigned)))

    assert mine.add_timeout(5, timeout(5, GENESIS_QC), GENESIS_QC) is None
    assert mine.add_timeout(6, timeout(6, GENESIS_QC), GENESIS_QC) is None
    assert mine.add_timeout(0, timeout(0, qc), qc) is None
    assert mine.add_timeout(1, timeout(1, qc), qc) is None
    tc = mine.add_timeout(2, timeout(2, qc), qc)
    assert tc is not None
    assert tc.high_qc == qc


def test_Q2_a_sum_that_is_bad_though_each_signature_is_good_is_given_up() -> None:
    class Strange(StubCrypto):
        def verify_groups(self, groups: object, signature: bytes) -> bool:
            return False

    mine = Aggregator(FOUR.committee, CHAIN, Strange())
    for voter in range(4):
        assert mine.add_timeout(voter, FOUR.timeout(voter, 5), GENESIS_QC) is None


def test_weights_decide_and_not_heads() -> None:
    heavy = Script(committee_of(4, (1, 1, 1, 7)))
    mine = Counting(heavy)
    block = heavy.block(1)
    for voter in (0, 1, 2):
        assert mine.add_vote(voter, heavy.vote(voter, block)) is None
    qc = mine.add_vote(3, heavy.vote(3, block))
    assert isinstance(qc, QuorumCertificate)
    assert members_of(qc.signers) == [0, 1, 2, 3]


def test_Q3_what_is_over_is_forgotten() -> None:
    mine = Counting()
    for round in range(1, 50):
        block = FOUR.block(round)
        mine.add_vote(1, FOUR.vote(1, block))
        mine.add_commit_vote(1, FOUR.commit_vote(1, block))
        qc = FOUR.qc(FOUR.block(round - 1)) if round > 1 else GENESIS_QC
        mine.add_timeout(1, FOUR.timeout(1, round, qc), qc)
    mine.drop_below(40, 45)
    assert (len(mine.votes), len(mine.timeouts), len(mine.commit_votes)) == (10, 10, 5)
    assert len(mine._carried) == 10
