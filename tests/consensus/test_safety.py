"""Rule tables for `Safety`: what may be signed, on both sides of every boundary."""

from dataclasses import replace

import pytest

from consensus.errors import InvalidMessage
from consensus.messages import Certificates, CommitVote, Proposal, Timeout, Vote
from consensus.safety import (
    EVERY_ROUND,
    Refusal,
    Safety,
    SafetyRecord,
    Watermarks,
    follows_certificates,
    newer_tc,
)
from consensus.types import Block
from tests.consensus.harness import CHAIN, GENESIS_QC, UNIX_MS, Script

FOUR = Script(4)
ME = 0
ONE, TWO, THREE = FOUR.chain(1, 2, 3)
QC_ONE, QC_TWO, QC_THREE = FOUR.qc(ONE), FOUR.qc(TWO), FOUR.qc(THREE)


def safety(**fields: object) -> Safety:
    """A member whose record holds these fields; the rest is as if it had never signed."""
    record = replace(SafetyRecord.initial(CHAIN), **fields)  # type: ignore[arg-type]
    return Safety(ME, CHAIN, FOUR.signers[ME], record)


def rule_of(answer: object) -> str:
    """The rule of a refusal, or nothing."""
    return answer.rule if isinstance(answer, Refusal) else ""


def block_of(round: int) -> Block:
    """A block that a TC of the round before justifies."""
    return FOUR.block(round, tc=FOUR.tc(round - 1))


# ---------------------------------------------------------------- proposals


def test_P1_a_second_proposal_in_a_round_is_the_stored_one() -> None:
    mine = safety()
    first = mine.propose(ONE)
    assert isinstance(first, Proposal)
    assert mine.propose(FOUR.block(1, timestamp_ms=UNIX_MS + 5)) is first
    assert mine.record.last_proposal is first


def test_P1_a_proposal_in_a_lower_round_is_refused() -> None:
    mine = safety(last_proposal=FOUR.proposal(TWO))
    assert rule_of(mine.propose(ONE)) == "P1"
    assert isinstance(mine.propose(THREE), Proposal)


def test_P1_holds_after_the_record_came_back_from_disk() -> None:
    mine = safety()
    first = mine.propose(ONE)
    again = Safety(ME, CHAIN, FOUR.signers[ME], SafetyRecord.decode(mine.record.encode()))
    assert again.propose(FOUR.block(1, timestamp_ms=UNIX_MS + 5)) == first
    assert not again.changed


# ---------------------------------------------------------------- votes


def test_V1_a_vote_is_a_signature_on_round_and_block() -> None:
    mine = safety()
    vote = mine.vote(ONE)
    assert vote == FOUR.vote(ME, ONE)
    assert mine.changed
    assert mine.record.last_voted_round == 1
    assert mine.record.last_vote == vote


def test_V1_second_vote_in_a_round_is_refused() -> None:
    mine = safety()
    mine.vote(ONE)
    assert rule_of(mine.vote(FOUR.block(1, timestamp_ms=UNIX_MS + 5))) == "V1"


def test_V1_asked_again_the_stored_vote_is_returned_and_nothing_changes() -> None:
    mine = safety()
    vote = mine.vote(ONE)
    mine.changed = False
    assert mine.vote(ONE) is vote
    assert not mine.changed


@pytest.mark.parametrize(
    ("last_voted_round", "rule"), [(0, ""), (4, ""), (5, "V1"), (6, "V1"), (2**40, "V1")]
)
def test_V1_votes_are_in_rising_rounds(last_voted_round: int, rule: str) -> None:
    mine = safety(high_tc=FOUR.tc(4), last_voted_round=last_voted_round)
    assert rule_of(mine.vote(block_of(5))) == rule


def test_V1_a_lost_vote_message_does_not_free_the_round() -> None:
    assert rule_of(safety(last_voted_round=1).vote(ONE)) == "V1"


@pytest.mark.parametrize("highest", [0, 4, 5, 6])
def test_T1_a_vote_in_a_round_that_timed_out_is_refused(highest: int) -> None:
    mine = safety(high_tc=FOUR.tc(4), highest_timeout_round=highest)
    assert rule_of(mine.vote(block_of(5))) == ("T1" if highest >= 5 else "")


def test_T1_the_stored_vote_may_be_said_after_the_timeout() -> None:
    mine = safety()
    vote = mine.vote(ONE)
    assert isinstance(mine.timeout(1, None), Timeout)
    assert mine.vote(ONE) is vote


@pytest.mark.parametrize(
    ("qc", "tc", "good"),
    [
        (GENESIS_QC, None, False),
        (QC_ONE, None, False),
        (QC_TWO, None, True),
        (QC_THREE, None, False),
        (GENESIS_QC, FOUR.tc(2), True),
        (QC_ONE, FOUR.tc(2), True),
        (QC_TWO, FOUR.tc(2), True),
        (QC_THREE, FOUR.tc(2), False),
        (GENESIS_QC, FOUR.tc(2, QC_ONE), False),
        (QC_ONE, FOUR.tc(2, QC_ONE), True),
        (QC_ONE, FOUR.tc(1), False),
        (QC_ONE, FOUR.tc(3), False),
    ],
)
def test_V2_a_block_of_round_three_follows_from_its_certificates(
    qc: object, tc: object, good: bool
) -> None:
    block = FOUR.block(3, qc=qc, tc=tc)  # type: ignore[arg-type]
    assert follows_certificates(block) == good
    mine = safety(high_qc=QC_TWO)
    assert rule_of(mine.vote(block)) == ("" if good else "V2")


def test_V3_a_block_whose_QC_was_not_processed_is_refused() -> None:
    block = FOUR.block(3, ONE, tc=FOUR.tc(2))
    assert rule_of(safety(high_tc=FOUR.tc(2)).vote(block)) == "V3"
    assert rule_of(safety(high_tc=FOUR.tc(2), high_qc=QC_ONE).vote(block)) == ""


@pytest.mark.parametrize(("tc_round", "rule"), [(3, "V4"), (4, ""), (5, "V4")])
def test_V4_a_vote_is_cast_only_in_the_round_of_my_certificates(tc_round: int, rule: str) -> None:
    mine = safety(high_tc=FOUR.tc(tc_round))
    assert rule_of(mine.vote(block_of(5))) == rule


def test_V4_a_higher_QC_closes_the_round() -> None:
    mine = safety(high_tc=FOUR.tc(1), high_qc=QC_TWO)
    assert rule_of(mine.vote(block_of(2))) == "V4"


def test_V5_a_block_of_another_epoch_is_refused() -> None:
    assert rule_of(safety().vote(replace(ONE, epoch=1))) == "V5"


# ---------------------------------------------------------------- commit votes


def test_L1_a_commit_vote_signs_round_height_and_block() -> None:
    mine = safety(high_qc=QC_TWO)
    vote = mine.commit_vote(TWO, QC_TWO)
    assert vote == FOUR.commit_vote(ME, TWO)
    assert mine.record.last_commit_vote == vote
    assert mine.record.last_commit_vote_round == 2


@pytest.mark.parametrize(("last", "rule"), [(0, ""), (1, ""), (2, "L1"), (3, "L1")])
def test_L1_commit_votes_are_in_rising_rounds(last: int, rule: str) -> None:
    mine = safety(high_qc=QC_TWO, last_commit_vote_round=last)
    assert rule_of(mine.commit_vote(TWO, QC_TWO)) == rule


@pytest.mark.parametrize(("locked", "rule"), [(QC_ONE, "L1"), (QC_TWO, ""), (QC_THREE, "")])
def test_L1_only_what_is_locked_gets_a_commit_vote(locked: object, rule: str) -> None:
    assert rule_of(safety(high_qc=locked).commit_vote(TWO, QC_TWO)) == rule


@pytest.mark.parametrize(("highest", "rule"), [(0, ""), (1, ""), (2, "T1"), (3, "T1")])
def test_T1_a_commit_vote_in_a_round_that_timed_out_is_refused(highest: int, rule: str) -> None:
    mine = safety(high_qc=QC_TWO, highest_timeout_round=highest)
    assert rule_of(mine.commit_vote(TWO, QC_TWO)) == rule


def test_L1_the_lock_only_rises() -> None:
    mine = safety(high_qc=QC_TWO)
    mine.observe_qc(QC_ONE)
    assert mine.record.high_qc == QC_TWO
    assert not mine.changed
    mine.observe_qc(QC_THREE)
    assert mine.record.high_qc == QC_THREE
    assert mine.changed


def test_L2_no_certificate_lowers_the_timeout_watermark() -> None:
    mine = safety()
    mine.timeout(1, None)
    mine.observe_qc(QC_THREE)
    mine.observe_tc(FOUR.tc(9, QC_THREE))
    again = SafetyRecord.decode(mine.record.encode())
    assert again.highest_timeout_round == 1


def test_L2_a_crash_right_after_a_timeout_does_not_free_the_commit_vote() -> None:
    """The hider's schedule: time out, crash, then learn the QC of that round."""
    mine = safety(high_qc=QC_ONE)
    assert isinstance(mine.timeout(2, None), Timeout)
    again = Safety(ME, CHAIN, FOUR.signers[ME], SafetyRecord.decode(mine.record.encode()))
    again.observe_qc(QC_TWO)
    assert rule_of(again.commit_vote(TWO, QC_TWO)) == "T1"


# ---------------------------------------------------------------- timeouts


def test_T2_a_timeout_signs_the_round_of_the_QC_that_it_carries() -> None:
    tc = FOUR.tc(4, QC_TWO)
    mine = safety(high_qc=QC_TWO, high_tc=tc)
    commit = FOUR.commit(ONE)
    timeout = mine.timeout(5, commit)
    assert timeout == FOUR.timeout(ME, 5, QC_TWO, tc, commit)
    assert mine.record.highest_timeout_round == 5


def test_T2_a_timeout_names_the_lock_even_if_a_newer_TC_names_less() -> None:
    """The hider's TC shows a low QC; who knows a higher one says so."""
    low = FOUR.tc(4, QC_ONE)
    timeout = safety(high_qc=QC_TWO, high_tc=low).timeout(5, None)
    assert timeout == FOUR.timeout(ME, 5, QC_TWO, low)


@pytest.mark.parametrize(("round", "rule"), [(1, "T2"), (2, "T2"), (3, ""), (4, "E1"), (9, "E1")])
def test_T2_a_timeout_is_for_the_round_after_the_certificates(round: int, rule: str) -> None:
    assert rule_of(safety(high_qc=QC_TWO).timeout(round, None)) == rule


def test_T1_at_the_watermark_the_stored_timeout_is_returned_unchanged() -> None:
    mine = safety()
    timeout = mine.timeout(1, None)
    mine.changed = False
    assert mine.timeout(1, FOUR.commit(ONE)) is timeout
    assert not mine.changed


def test_T1_below_the_watermark_nothing_is_signed() -> None:
    mine = safety(high_qc=QC_ONE, highest_timeout_round=3)
    assert rule_of(mine.timeout(2, None)) == "T1"


def test_T1_voting_and_then_timing_out_is_fine() -> None:
    mine = safety()
    assert isinstance(mine.vote(ONE), Vote)
    assert isinstance(mine.timeout(1, None), Timeout)


# ---------------------------------------------------------------- the record


def test_S1_the_record_survives_its_bytes_in_full() -> None:
    mine = safety(high_qc=QC_TWO)
    tc = FOUR.tc(5, QC_TWO)
    mine.observe_tc(tc)
    mine.propose(FOUR.block(6, TWO, tc=tc, author=ME))
    assert isinstance(mine.vote(FOUR.block(6, TWO, tc=tc)), Vote)
    assert isinstance(mine.commit_vote(TWO, QC_TWO), CommitVote)
    assert isinstance(mine.timeout(6, FOUR.commit(TWO)), Timeout)
    assert SafetyRecord.decode(mine.record.encode()) == mine.record
    assert all(getattr(mine.record, name) for name in SafetyRecord.__slots__ if name != "epoch")


def test_S1_the_round_after_a_restart_follows_the_higher_certificate() -> None:
    assert SafetyRecord.initial(CHAIN).round == 1
    assert safety(high_qc=QC_TWO).record.round == 3
    assert safety(high_qc=QC_TWO, high_tc=FOUR.tc(1)).record.round == 3
    assert safety(high_qc=QC_TWO, high_tc=FOUR.tc(5)).record.round == 6


def test_S1_a_TC_below_the_QC_says_nothing() -> None:
    assert newer_tc(safety(high_qc=QC_TWO, high_tc=FOUR.tc(2)).record) is None
    assert newer_tc(safety(high_qc=QC_TWO, high_tc=FOUR.tc(3)).record) == FOUR.tc(3)


@pytest.mark.parametrize("size", [0, 1, 40, 189])
def test_S1_a_torn_record_is_refused(size: int) -> None:
    encoded = safety(high_qc=QC_TWO).record.encode()
    with pytest.raises(InvalidMessage):
        SafetyRecord.decode(encoded[:size])
    with pytest.raises(InvalidMessage):
        SafetyRecord.decode(encoded + b"\0")


def test_S1_a_record_whose_messages_changed_places_is_refused() -> None:
    vote = FOUR.vote(ME, ONE)
    good = safety(last_vote=vote).record.encode()
    swapped = good.replace(b"\1" + vote.encode() + b"\0", b"\0\1" + vote.encode())
    assert swapped != good
    with pytest.raises(InvalidMessage, match="another kind"):
        SafetyRecord.decode(swapped)


def test_S1_every_signature_verifies_and_every_refusal_leaves_the_record_alone() -> None:
    mine = safety(high_qc=QC_TWO, highest_timeout_round=7, last_voted_round=7)
    before = mine.record
    for answer in (mine.vote(THREE), mine.commit_vote(TWO, QC_TWO), mine.timeout(3, None)):
        assert isinstance(answer, Refusal)
        assert answer.reason
    assert mine.record is before
    assert not mine.changed


def test_E1_a_TC_is_remembered_only_if_it_is_newer() -> None:
    mine = safety(high_tc=FOUR.tc(5))
    mine.observe_tc(FOUR.tc(4))
    assert not mine.changed
    mine.observe_tc(FOUR.tc(6))
    assert mine.record.high_tc == FOUR.tc(6)


def test_E1_a_TC_whose_QC_was_not_observed_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        safety().observe_tc(FOUR.tc(5, QC_TWO))


def test_a_timeout_carries_certificates_of_its_record() -> None:
    timeout = safety().timeout(1, None)
    assert isinstance(timeout, Timeout)
    assert timeout.certificates == Certificates(GENESIS_QC, None, None)


# ---------------------------------------------------------------- a memory that moved


def moved(marks: Watermarks, **fields: object) -> Safety:
    """A member with these fields whose record was raised to watermarks without messages."""
    mine = safety(**fields)
    mine.record = mine.record.raised(marks)
    return mine


@pytest.mark.parametrize("kind", ["voted", "timeout", "commit_vote", "proposed"])
def test_S1_a_watermark_forbids_every_kind_up_to_it_and_nothing_above(kind: str) -> None:
    mine = moved(Watermarks(0, **{kind: 2}), high_qc=QC_ONE)
    answers = (mine.propose(TWO), mine.vote(TWO), mine.timeout(2, None))
    assert [rule_of(answer) for answer in answers] == ["P1", "V1", "T1"]
    mine.observe_qc(QC_TWO)
    assert isinstance(mine.commit_vote(TWO, QC_TWO), Refusal)
    assert isinstance(mine.propose(THREE), Proposal)
    assert isinstance(mine.vote(THREE), Vote)
    mine.observe_qc(QC_THREE)
    assert isinstance(mine.commit_vote(THREE, QC_THREE), CommitVote)
    assert isinstance(mine.timeout(4, None), Timeout)


def test_T2_a_timeout_that_would_name_a_lower_QC_than_the_vote_relied_on_is_refused() -> None:
    """It voted in round 2 on the QC of round 1, moved, and comes to round 2 by a TC alone."""
    mine = moved(Watermarks(0, voted=2), high_tc=FOUR.tc(1))
    assert mine.record.round == 2
    assert rule_of(mine.timeout(2, None)) == "T1"


def test_S1_watermarks_of_a_later_epoch_forbid_this_one() -> None:
    mine = moved(Watermarks(4, voted=1), high_qc=QC_ONE)
    answers = (mine.propose(TWO), mine.vote(TWO), mine.commit_vote(ONE, QC_ONE))
    assert [rule_of(answer) for answer in answers] == ["P1", "V1", "T1"]
    assert rule_of(mine.timeout(2, None)) == "T1"
    assert SafetyRecord.decode(mine.record.encode()).highest_timeout_round == EVERY_ROUND


def test_S1_watermarks_of_an_earlier_epoch_and_lower_ones_change_nothing() -> None:
    record = replace(SafetyRecord.initial(CHAIN, 4), last_voted_round=5, highest_timeout_round=6)
    assert record.raised(Watermarks(3, 9, 9, 9, 9)) == record
    raised = record.raised(Watermarks(4, voted=4))
    assert (raised.last_voted_round, raised.highest_timeout_round) == (5, 6)


def test_S1_the_watermarks_of_a_record_are_what_was_signed() -> None:
    mine = safety()
    mine.propose(ONE)
    mine.vote(ONE)
    mine.observe_qc(QC_ONE)
    mine.commit_vote(ONE, QC_ONE)
    mine.timeout(2, None)
    assert Watermarks.of(mine.record) == Watermarks(0, 1, 2, 1, 1)


def test_S1_merged_watermarks_forbid_what_either_forbids() -> None:
    one, other = Watermarks(2, 5, 1, 7, 0), Watermarks(2, 4, 3, 8, 9)
    assert one.merged(other) == other.merged(one) == Watermarks(2, 5, 3, 8, 9)
    assert one.merged(Watermarks(3)) == Watermarks(3).merged(one) == Watermarks(3)
