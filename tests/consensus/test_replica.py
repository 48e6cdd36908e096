"""The machine, a message at a time: what a member does, and above all what it cannot be made to do.

Member 0 of four is under test unless said; rounds 1, 2, 3 are led by members 1, 2, 3.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.aggregator import Evidence
from consensus.interface import NoticeKind, Outgoing
from consensus.messages import (
    BlockReply,
    BlockRequest,
    Certificates,
    CommitVote,
    Message,
    Proposal,
    SyncReply,
    SyncRequest,
    Timeout,
    Vote,
)
from consensus.rules import Rules
from consensus.server import MAX_BLOCKS_PER_PERIOD
from consensus.types import MAX_MEMBERS, Block, CommitProof
from tests.consensus.harness import (
    BASE,
    GENESIS,
    GENESIS_QC,
    UNIX_MS,
    Cluster,
    Disk,
    Script,
    Seat,
    digest_of,
    only,
)

FOUR = Script(4)


def commit_chain(seat: Seat, blocks: Sequence[Block]) -> None:
    """Proposals, then the commit certificate of the last block."""
    script = seat.script
    for block in blocks:
        seat.hear(block.author, script.proposal(block))
    last = blocks[-1]
    seat.hear(1, Certificates(script.qc(last), None, script.commit(last)))
    assert seat.replica.head == last


def disk_with(blocks: Sequence[Block], script: Script = FOUR) -> Disk:
    """A member that has committed these blocks, each with a proof of its own."""
    disk = Disk()
    for block in blocks:
        disk.log.append(block)
        disk.blocks[block.id] = block
        disk.proofs[block.height] = proof_of(script, block)
    disk.record = replace(disk.record, high_qc=script.qc(blocks[-1]))
    return disk


def proof_of(script: Script, block: Block) -> CommitProof:
    """A commit certificate as a proof."""
    return CommitProof(script.commit(block), None, None)


# ---------------------------------------------------------------- entering rounds


def test_E1_votes_and_timeouts_below_a_quorum_enter_no_round() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1)
    seat.hear(1, FOUR.vote(1, block), FOUR.timeout(1, 1))
    seat.hear(2, FOUR.vote(2, block))
    assert seat.replica.round == 1


def test_E1_a_quorum_of_votes_enters_the_next_round_even_before_the_proposal() -> None:
    seat = Seat(FOUR)
    for voter in (1, 2, 3):
        seat.hear(voter, FOUR.vote(voter, FOUR.block(1)))
    assert seat.replica.round == 2


def test_E1_a_quorum_of_timeouts_enters_the_next_round() -> None:
    seat = Seat(FOUR)
    for voter in (1, 2, 3):
        seat.hear(voter, FOUR.timeout(voter, 1))
    assert seat.replica.round == 2
    assert NoticeKind.TIMEOUT_CERTIFIED in seat.kinds()


def test_E1_a_certificate_of_a_far_round_is_entered_at_once() -> None:
    seat = Seat(FOUR)
    (block,) = FOUR.chain(900)
    seat.hear(2, Certificates(FOUR.qc(block), None, None))
    assert seat.replica.round == 901


def test_E1_certificates_without_a_quorum_are_refused() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1)
    assert "weight 2" in seat.refuses(2, Certificates(FOUR.qc(block, [1, 2]), None, None))
    thin = FOUR.tc(1, signers=[0, 1])
    assert "weight 2" in seat.refuses(2, Certificates(GENESIS_QC, thin, None))
    assert seat.replica.round == 1


@pytest.mark.parametrize("round", [2, 3])
def test_E2_a_proposal_without_a_certificate_of_the_round_before_is_refused(round: int) -> None:
    seat = Seat(FOUR)
    assert "V2" in seat.refuses(round, FOUR.proposal(FOUR.block(round)))


def test_E2_a_TC_of_another_round_does_not_justify_a_proposal() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(3, tc=FOUR.tc(1))
    assert "V2" in seat.refuses(3, FOUR.proposal(block))


def test_E2_a_QC_below_the_highest_that_the_TC_names_does_not_justify_a_proposal() -> None:
    seat = Seat(FOUR)
    first = FOUR.block(1)
    block = FOUR.block(3, GENESIS, tc=FOUR.tc(2, FOUR.qc(first)))
    assert "V2" in seat.refuses(3, FOUR.proposal(block))


def test_E3_timeouts_of_the_echo_weight_make_me_time_out_once() -> None:
    seat = Seat(FOUR)
    assert not only(Timeout, seat.hear(1, FOUR.timeout(1, 1)))
    (mine,) = only(Timeout, seat.hear(2, FOUR.timeout(2, 1)))
    assert isinstance(mine, Timeout)
    assert mine.round == 1
    assert seat.replica.round == 2, "mine was the third, which makes a quorum"


def test_E3_one_member_that_times_out_twice_is_no_echo() -> None:
    seat = Seat(FOUR)
    timeout = FOUR.timeout(1, 1)
    assert not only(Timeout, seat.hear(1, timeout, timeout))


def test_E3_the_echo_waits_for_more_than_the_faulty_at_seven() -> None:
    script = Script(7)
    seat = Seat(script)
    for voter in (1, 2):
        assert not only(Timeout, seat.hear(voter, script.timeout(voter, 1)))
    assert only(Timeout, seat.hear(3, script.timeout(3, 1)))


def test_E4_the_stored_timeout_is_sent_again_unchanged_every_base_period() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    first = only(Timeout, seat.wait(BASE))
    again = only(Timeout, seat.wait(3 * BASE))
    assert len(first) == 1
    assert again == first * 3


def test_E4_the_period_does_not_grow_with_the_timer() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    for round in range(1, 12):
        seat.hear(1, Certificates(GENESIS_QC, FOUR.tc(round), None))
    assert seat.replica.pacemaker.timer() > 3 * BASE
    seat.wait(seat.replica.deadline - seat.now + seat.replica.pacemaker.timer())
    assert len(only(Timeout, seat.wait(5 * BASE))) >= 5


def test_E4_newer_certificates_go_with_an_old_timeout() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    seat.hear(1, FOUR.proposal(first))
    seat.hear(2, FOUR.proposal(second))
    seat.wait(2 * BASE)
    seat.hear(3, Certificates(GENESIS_QC, None, FOUR.commit(first)))
    newest = Certificates(FOUR.qc(first), None, FOUR.commit(first))
    assert newest in only(Certificates, seat.wait(BASE))


def test_E4_a_link_that_comes_up_hears_what_is_open() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1)
    seat.hear(1, FOUR.proposal(block))
    seat.wait(BASE)
    seat.replica.peer_up(3, seat.instant)
    sent = seat.drain()
    assert all(outgoing.to == 3 for outgoing in sent)
    assert {type(outgoing.message) for outgoing in sent} == {Certificates, Timeout, Vote}


def test_E4_a_lost_vote_and_commit_vote_are_said_again_halfway_and_with_the_timeout() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    seat.hear(1, FOUR.proposal(first))
    sent = seat.hear(2, FOUR.proposal(second))
    said = only(Vote, sent) + only(CommitVote, sent)
    halfway = seat.wait(BASE - 1)
    assert only(Vote, halfway) + only(CommitVote, halfway) == said
    late = seat.wait(BASE + 2)
    assert only(Timeout, late)
    assert only(Vote, late) + only(CommitVote, late) == said


def test_E4_a_leader_offers_its_lost_proposal_again_halfway() -> None:
    seat = Seat(FOUR, me=1)
    (proposal,) = only(Proposal, seat.offer("work"))
    assert only(Proposal, seat.wait(BASE - 1)) == [proposal]


@pytest.mark.parametrize("kind", ["vote", "timeout", "proposal", "certificates"])
def test_E5_a_member_in_an_older_round_is_told_where_I_am(kind: str) -> None:
    seat = Seat(FOUR)
    first, second, third = FOUR.chain(1, 2, 3)
    for block in (first, second, third):
        seat.hear(block.author, FOUR.proposal(block))
    late: dict[str, Message] = {
        "vote": FOUR.vote(2, first),
        "timeout": FOUR.timeout(2, 1),
        "proposal": FOUR.proposal(first),
        "certificates": Certificates(FOUR.qc(first), None, None),
    }
    (answer,) = seat.hear(2, late[kind])
    assert answer.to == 2
    assert answer.message == Certificates(FOUR.qc(second), None, None)


def test_E5_certificates_as_new_as_mine_are_not_answered() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    commit_chain(seat, [first, second])
    mine = Certificates(FOUR.qc(second), None, FOUR.commit(second))
    assert seat.hear(2, mine) == []
    (answer,) = seat.hear(2, replace(mine, commit=FOUR.commit(first)))
    assert answer == Outgoing(2, mine)


def test_E5_answers_are_limited_per_member() -> None:
    seat = Seat(FOUR)
    for block in FOUR.chain(1, 2, 3):
        seat.hear(block.author, FOUR.proposal(block))
    late = FOUR.timeout(2, 1)
    sent = seat.hear(2, *[late] * 50)
    assert len(sent) == 1
    assert len(seat.hear(3, FOUR.timeout(3, 1))) == 1, "another member has its own limit"
    seat.wait(BASE // 4)
    assert len(only(Certificates, seat.hear(2, late))) == 1


def test_E5_a_member_of_my_round_that_missed_the_commit_is_told() -> None:
    seat = Seat(FOUR)
    (block,) = FOUR.chain(1)
    commit_chain(seat, [block])
    (answer,) = seat.hear(3, FOUR.timeout(3, 2, FOUR.qc(block)))
    assert answer == Outgoing(3, Certificates(FOUR.qc(block), None, FOUR.commit(block)))
    behind = Seat(FOUR, me=3)
    behind.hear(1, FOUR.proposal(block))
    behind.hear(0, answer.message)
    assert behind.replica.head == block


def test_E5_an_echo_weight_of_members_beyond_my_window_starts_a_sync() -> None:
    seat = Seat(FOUR)
    far = FOUR.block(500)
    assert not only(SyncRequest, seat.hear(1, FOUR.vote(1, far)))
    assert not only(SyncRequest, seat.hear(1, FOUR.vote(1, far)))
    assert only(SyncRequest, seat.hear(2, FOUR.commit_vote(2, far)))


# ---------------------------------------------------------------- proposing


def test_P1_a_restarted_leader_says_its_old_proposal_again_and_no_other() -> None:
    seat = Seat(FOUR, me=1)
    (proposal,) = only(Proposal, seat.offer("before"))
    seat.start()
    again = only(Proposal, seat.offer("after", "the", "crash"))
    assert again == [proposal]


def test_P1_a_leader_that_crashes_between_save_and_send_says_what_it_saved() -> None:
    seat = Seat(FOUR, me=1)
    seat.payload.add(digest_of("work"))
    seat.replica.collections_arrived(seat.instant)
    (saved,) = only(Proposal, seat.save().messages)
    seat.start()
    assert only(Proposal, seat.offer("more")) == [saved]


def test_P1_a_leader_that_crashes_before_the_save_has_said_nothing_and_is_free() -> None:
    seat = Seat(FOUR, me=1)
    seat.payload.add(digest_of("work"))
    seat.replica.collections_arrived(seat.instant)
    seat.start()
    assert len(only(Proposal, seat.offer("more"))) == 1


def test_P2_a_leader_proposes_at_once_when_there_is_work() -> None:
    seat = Seat(FOUR, me=1)
    (proposal,) = only(Proposal, seat.offer("work"))
    assert isinstance(proposal, Proposal)
    assert proposal.block.collections == (digest_of("work"),)


def test_P2_an_idle_leader_proposes_an_empty_block_after_the_heartbeat() -> None:
    seat = Seat(FOUR, me=1)
    assert not only(Proposal, seat.wait(Rules().idle_heartbeat_ms - 1))
    (proposal,) = only(Proposal, seat.wait(1))
    assert isinstance(proposal, Proposal)
    assert proposal.block.collections == ()


def test_P2_a_block_wanted_to_close_a_batch_is_proposed_in_time() -> None:
    seat = Seat(FOUR, me=1)
    seat.payload.wanted_at = UNIX_MS + 700
    assert not only(Proposal, seat.wait(699))
    assert only(Proposal, seat.wait(1))


def test_P2_an_idle_cluster_burns_no_CPU() -> None:
    cluster = Cluster(4)
    for name in range(10):
        cluster.submit(name)
    cluster.run(1_000)
    before, said = cluster.ticks, len(cluster.journal)
    cluster.run(600_000)
    assert cluster.ticks - before < 400, "a heartbeat every ten seconds and little else"
    assert len(cluster.journal) - said < 60 * 15


def test_P2_a_leader_with_a_fast_clock_does_not_hold_up_the_next() -> None:
    seat = Seat(FOUR, me=2, rules=Rules(min_block_interval_ms=0))
    first = FOUR.block(1, timestamp_ms=UNIX_MS + 1_900)
    seat.hear(1, FOUR.proposal(first))
    seat.offer("work")
    (proposal,) = only(Proposal, seat.hear(1, Certificates(FOUR.qc(first), None, None)))
    assert isinstance(proposal, Proposal)
    assert proposal.block.timestamp_ms == first.timestamp_ms + 1


# ---------------------------------------------------------------- voting


def test_V1_a_proposal_heard_again_gets_no_second_vote() -> None:
    seat = Seat(FOUR)
    proposal = FOUR.proposal(FOUR.block(1))
    assert len(only(Vote, seat.hear(1, proposal))) == 1
    assert not only(Vote, seat.hear(1, proposal))


def test_V1_after_a_restart_the_stored_vote_is_said_and_no_other() -> None:
    seat = Seat(FOUR)
    (vote,) = only(Vote, seat.hear(1, FOUR.proposal(FOUR.block(1))))
    seat.start()
    assert only(Vote, seat.drain()) == [vote]
    other = FOUR.block(1, collections=[digest_of("other")])
    seat.offer("other")
    assert not only(Vote, seat.hear(1, FOUR.proposal(other)))


def test_V1_a_vote_saved_but_not_sent_is_said_after_the_restart() -> None:
    seat = Seat(FOUR)
    seat.replica.step(1, FOUR.proposal(FOUR.block(1)), seat.instant)
    (vote,) = only(Vote, seat.save().messages)
    seat.start()
    assert only(Vote, seat.drain()) == [vote]


def test_V2_a_forged_TC_justifies_nothing() -> None:
    seat = Seat(FOUR)
    good = FOUR.tc(1)
    seat.hear(2, Certificates(GENESIS_QC, good, None))
    forged = replace(good, high_qc_rounds=tuple((index, 0) for index in (0, 1, 3)))
    assert "bad signature" in seat.refuses(2, FOUR.proposal(FOUR.block(2, tc=forged)))


def test_V2_another_TC_of_the_same_round_is_judged_by_what_it_says_itself() -> None:
    """A hider's TC names a low QC; the honest one names a high QC: both may stand in a proposal."""
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    qc = FOUR.qc(first)
    seat.hear(1, FOUR.proposal(first), Certificates(qc, FOUR.tc(2, qc), None))
    low = FOUR.tc(2, GENESIS_QC, [1, 2, 3])
    seat.hear(3, FOUR.proposal(FOUR.block(3, GENESIS, tc=low)))
    assert seat.replica.record.last_voted_round == 3


def test_V3_the_QC_of_a_block_is_locked_before_the_vote() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    seat.hear(1, FOUR.proposal(first))
    seat.hear(2, FOUR.proposal(second))
    assert seat.replica.record.last_voted_round == 2
    assert seat.replica.record.high_qc == FOUR.qc(first)


def test_V4_a_vote_waits_for_the_collections_and_asks_for_them() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1, collections=[digest_of("a"), digest_of("b")])
    assert not only(Vote, seat.hear(1, FOUR.proposal(block)))
    assert seat.wanted == [digest_of("a"), digest_of("b")]
    assert not only(Vote, seat.offer("a"))
    assert len(only(Vote, seat.offer("b"))) == 1


def test_V4_a_block_of_a_past_round_gets_no_vote() -> None:
    seat = Seat(FOUR)
    seat.hear(2, Certificates(GENESIS_QC, FOUR.tc(1), None))
    assert not only(Vote, seat.hear(1, FOUR.proposal(FOUR.block(1))))


def test_V4_only_the_leader_may_propose() -> None:
    seat = Seat(FOUR)
    assert "does not lead" in seat.refuses(2, FOUR.proposal(FOUR.block(1, author=2)))
    assert "no member" in seat.refuses(2, FOUR.proposal(FOUR.block(1, author=9), by=2))
    assert "forged" in seat.refuses(2, FOUR.proposal(FOUR.block(1), by=2))


@pytest.mark.parametrize(
    ("changes", "votes"),
    [
        ({}, 1),
        ({"height": 2}, 0),
        ({"height": 0}, 0),
        ({"timestamp_ms": UNIX_MS + 2_000}, 1),
        ({"timestamp_ms": UNIX_MS + 2_001}, 0),
        ({"timestamp_ms": 1}, 1),
        ({"timestamp_ms": 0}, 0),
        ({"collections": [digest_of("a"), digest_of("b")]}, 1),
        ({"collections": [digest_of("a"), digest_of("a")]}, 0),
        ({"collections": [digest_of("big")]}, 1),
        ({"collections": [digest_of("big"), digest_of("a")]}, 0),
    ],
)
def test_V5_only_a_well_formed_block_gets_a_vote(changes: dict[str, object], votes: int) -> None:
    seat = Seat(FOUR)
    seat.payload.add(digest_of("big"), Rules().max_block_bytes)
    seat.offer("a", "b")
    block = FOUR.block(1, **changes)  # type: ignore[arg-type]
    assert len(only(Vote, seat.hear(1, FOUR.proposal(block)))) == votes


def test_V5_a_block_from_a_fast_clock_gets_its_vote_when_my_clock_has_come_there() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1, timestamp_ms=UNIX_MS + 2_300)
    assert not only(Vote, seat.hear(1, FOUR.proposal(block)))
    assert only(Vote, seat.wait(BASE // 2))


def test_V5_a_refusal_is_told_once() -> None:
    seat = Seat(FOUR)
    seat.hear(1, FOUR.proposal(FOUR.block(1, timestamp_ms=0)))
    seat.offer("a")
    seat.offer("b")
    assert seat.kinds().count(NoticeKind.REFUSED) == 1


def test_V5_a_block_of_another_parent_than_its_QC_is_refused() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1, parent_id=digest_of("elsewhere"))
    assert "V5" in seat.refuses(1, FOUR.proposal(block))


def test_V5_too_many_collections_are_refused() -> None:
    seat = Seat(FOUR, rules=Rules(max_block_collections=2))
    names = [digest_of(name) for name in "abc"]
    assert "V5" in seat.refuses(1, FOUR.proposal(FOUR.block(1, collections=names)))
    seat.offer(*names)
    assert only(Vote, seat.hear(1, FOUR.proposal(FOUR.block(1, collections=names[:2]))))


def test_V5_a_block_of_another_epoch_is_refused() -> None:
    seat = Seat(FOUR)
    block = replace(FOUR.block(1), epoch=1)
    assert "epoch" in seat.refuses(1, FOUR.proposal(block))


def test_V5_a_digest_that_an_uncommitted_or_committed_ancestor_ordered_is_not_ordered_again() -> (
    None
):
    for committed in (False, True):
        seat = Seat(FOUR)
        seat.offer("a")
        first = FOUR.block(1, collections=[digest_of("a")])
        seat.hear(1, FOUR.proposal(first))
        if committed:
            seat.hear(1, Certificates(FOUR.qc(first), None, FOUR.commit(first)))
        second = FOUR.block(2, first, [digest_of("a")])
        assert not only(Vote, seat.hear(2, FOUR.proposal(second)))


def test_V5_the_vote_waits_for_headers_back_to_my_head() -> None:
    seat = Seat(FOUR)
    first, second, third = FOUR.chain(1, 2, 3)
    sent = seat.hear(3, FOUR.proposal(third))
    assert not only(Vote, sent)
    (request,) = only(BlockRequest, sent)
    assert request == BlockRequest(second.id, 0)
    assert len(only(Vote, seat.hear(1, BlockReply((second, first))))) == 1


def test_V5_a_certified_block_off_my_head_raises_an_alarm() -> None:
    seat = Seat(FOUR)
    commit_chain(seat, FOUR.chain(1, 2))
    fork = FOUR.chain(1, 3)
    assert fork[0].id == seat.log[0].id
    stranger = FOUR.block(9, seat.log[0], qc=FOUR.qc(seat.log[0]), tc=FOUR.tc(8, GENESIS_QC))
    seat.hear(1, Certificates(FOUR.qc(stranger), None, None))
    seat.hear(1, BlockReply((stranger,)))
    child = FOUR.block(10, stranger)
    seat.hear(2, Certificates(FOUR.qc(child), None, None))
    seat.hear(2, BlockReply((child, stranger)))
    assert seat.kinds().count(NoticeKind.ALARM) == 1


def test_V6_a_second_proposal_is_evidence_once_and_gets_no_vote() -> None:
    seat = Seat(FOUR)
    seat.offer(*range(30))
    seat.hear(1, FOUR.proposal(FOUR.block(1)))
    for name in range(30):
        other = FOUR.block(1, collections=[digest_of(name)])
        assert not only(Vote, seat.hear(1, FOUR.proposal(other)))
        assert other.id not in seat.replica.tree
    assert len(seat.evidence) == 1
    (found,) = seat.evidence
    assert isinstance(found, Evidence)
    assert found.member == 1
    assert Evidence.decode(found.encode()) == found


def test_V6_the_other_block_is_kept_once_a_certificate_names_it() -> None:
    seat = Seat(FOUR)
    other = FOUR.block(1, timestamp_ms=UNIX_MS + 7)
    seat.hear(1, FOUR.proposal(FOUR.block(1)))
    (request,) = only(BlockRequest, seat.hear(2, Certificates(FOUR.qc(other), None, None)))
    assert request == BlockRequest(other.id, 0)
    assert only(CommitVote, seat.hear(1, BlockReply((other,))))


# ---------------------------------------------------------------- timing out


def test_T1_after_a_timeout_the_round_gets_no_vote_and_no_commit_vote() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    seat.wait(BASE)
    block = FOUR.block(1)
    assert not only(Vote, seat.hear(1, FOUR.proposal(block)))
    assert not only(CommitVote, seat.hear(2, Certificates(FOUR.qc(block), None, None)))
    assert seat.replica.record.high_qc == FOUR.qc(block), "the lock moves all the same"


def test_T1_holds_after_a_restart() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    (timeout,) = only(Timeout, seat.wait(BASE))
    seat.start()
    block = FOUR.block(1)
    sent = seat.hear(1, FOUR.proposal(block))
    assert not only(Vote, sent)
    assert only(Timeout, seat.wait(1)) == [timeout]


def test_T1_a_vote_of_the_round_may_be_said_again_after_its_timeout() -> None:
    seat = Seat(FOUR)
    (vote,) = only(Vote, seat.hear(1, FOUR.proposal(FOUR.block(1))))
    assert vote in only(Vote, seat.wait(2 * BASE))


def test_T2_a_timeout_signs_the_QC_that_it_carries() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    seat.hear(1, FOUR.proposal(first))
    seat.hear(2, FOUR.proposal(second))
    (timeout,) = only(Timeout, seat.wait(BASE))
    assert isinstance(timeout, Timeout)
    assert (timeout.round, timeout.high_qc_round) == (2, 1)
    assert timeout.certificates.high_qc == FOUR.qc(first)


@pytest.mark.parametrize("spoiled", ["names another", "not below", "nothing before"])
def test_T2_a_timeout_that_does_not_carry_what_it_signs_is_refused(spoiled: str) -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    good = FOUR.timeout(1, 3, FOUR.qc(second))
    timeouts = {
        "names another": replace(good, high_qc_round=1),
        "not below": FOUR.timeout(1, 2, FOUR.qc(second)),
        "nothing before": FOUR.timeout(1, 3, FOUR.qc(first)),
    }
    assert "T2" in seat.refuses(1, timeouts[spoiled])
    assert not seat.replica.aggregator.timeouts.slots(3)


def test_T2_a_timeout_with_a_forged_QC_is_refused() -> None:
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    qc = replace(FOUR.qc(first), signature=bytes(96))
    assert "bad signature" in seat.refuses(1, FOUR.timeout(1, 2, qc))
    assert seat.replica.round == 1


def test_T4_work_wakes_an_idle_member_and_rest_lets_it_sleep() -> None:
    seat = Seat(FOUR)
    assert seat.replica.deadline == Rules().idle_heartbeat_ms + BASE
    seat.offer("work")
    assert seat.replica.pacemaker.deadline == BASE
    commit_chain(seat, [FOUR.block(1, collections=[digest_of("work")])])
    assert seat.replica.pacemaker.deadline == Rules().idle_heartbeat_ms + BASE


def test_T4_arriving_work_never_extends_a_deadline() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    seat.wait(BASE - 100)
    seat.offer("more work")
    assert seat.replica.pacemaker.deadline == BASE


def test_T4_halfway_the_collections_are_offered_to_the_leader_once() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    seat.wait(BASE // 2 - 1)
    assert seat.offers == []
    seat.wait(3 * BASE)
    assert seat.offers == [1]


def test_T4_a_certified_block_above_the_head_is_work_even_if_it_is_empty() -> None:
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    seat.hear(1, FOUR.proposal(first), Certificates(FOUR.qc(first), None, None))
    assert seat.replica.pacemaker.deadline == BASE


def test_T4_the_leader_commits_what_is_certified_with_an_empty_block() -> None:
    seat = Seat(FOUR, me=2)
    (first,) = FOUR.chain(1)
    seat.hear(1, FOUR.proposal(first), Certificates(FOUR.qc(first), None, None))
    (proposal,) = only(Proposal, seat.wait(BASE // 4))
    assert isinstance(proposal, Proposal)
    assert proposal.block.parent_id == first.id


def test_T4_a_fault_in_a_message_does_not_put_a_round_with_work_to_sleep() -> None:
    """The proposal's QC opened round 2 before its TC turned out to be forged."""
    seat = Seat(FOUR)
    seat.offer("work")
    first = FOUR.block(1)
    seat.hear(1, FOUR.proposal(first))
    second = FOUR.block(4, first, tc=replace(FOUR.tc(3, FOUR.qc(first)), signature=bytes(96)))
    seat.refuses(0, FOUR.proposal(second))
    assert seat.replica.round == 2
    assert seat.replica.deadline <= BASE


def test_T5_a_dead_leader_costs_one_whole_timeout_and_then_short_ones() -> None:
    cluster = Cluster(4)
    cluster.crash(1)
    done: list[int] = []
    for name in range(60):
        cluster.submit(name)
        cluster.run(50)
        done.append(len(cluster.seats[0].log))
    cluster.run(1_000)
    cluster.assert_agreement()
    assert not cluster.seats[0].payload.waiting
    timeouts = cluster.seats[0].kinds().count(NoticeKind.TIMED_OUT)
    assert timeouts >= 4
    assert cluster.now < 4_001


# ---------------------------------------------------------------- locking and committing


def test_L1_a_QC_is_locked_before_its_block_is_known() -> None:
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    sent = seat.hear(2, Certificates(FOUR.qc(first), None, None))
    assert seat.replica.record.high_qc == FOUR.qc(first)
    assert not only(CommitVote, sent)
    assert len(only(CommitVote, seat.hear(1, BlockReply((first,))))) == 1


def test_L1_a_late_proposal_is_enough_for_the_commit_vote() -> None:
    """The votes overtook the proposal on their way."""
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    for voter in (1, 2, 3):
        seat.hear(voter, FOUR.vote(voter, first))
    assert len(only(CommitVote, seat.hear(1, FOUR.proposal(first)))) == 1


def test_L1_a_commit_vote_is_cast_once() -> None:
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    seat.hear(1, FOUR.proposal(first))
    certificates = Certificates(FOUR.qc(first), None, None)
    assert len(only(CommitVote, seat.hear(1, certificates))) == 1
    assert not only(CommitVote, seat.hear(2, certificates))


def test_L2_the_timeout_watermark_outlives_rounds_ballots_and_restarts() -> None:
    seat = Seat(FOUR)
    seat.offer("work")
    seat.wait(BASE)
    block = FOUR.block(1)
    seat.hear(1, FOUR.proposal(block))
    for round in range(1, 200):
        seat.hear(2, Certificates(GENESIS_QC, FOUR.tc(round), None))
    seat.start()
    late = seat.hear(3, Certificates(FOUR.qc(block), None, None))
    assert not only(CommitVote, late)
    assert seat.replica.record.highest_timeout_round >= 1


def test_C1_a_commit_certificate_commits_all_ancestors_oldest_first_once() -> None:
    seat = Seat(FOUR)
    blocks = FOUR.chain(1, 3, 5, 7)
    for block in blocks:
        seat.hear(block.author, FOUR.proposal(block))
    assert seat.log == []
    certificates = Certificates(GENESIS_QC, None, FOUR.commit(blocks[-1]))
    seat.hear(2, certificates)
    seat.hear(3, certificates)
    seat.hear(3, Certificates(GENESIS_QC, None, FOUR.commit(blocks[1])))
    assert seat.log == blocks


def test_C1_commit_votes_of_a_quorum_commit() -> None:
    seat = Seat(FOUR)
    (block,) = FOUR.chain(1)
    seat.hear(1, FOUR.proposal(block))
    seat.hear(1, FOUR.commit_vote(1, block))
    seat.hear(2, FOUR.commit_vote(2, block))
    assert seat.log == []
    seat.hear(3, FOUR.commit_vote(3, block))
    assert seat.log == [block]


def test_C2_a_QC_for_a_child_one_round_up_commits_the_parent() -> None:
    seat = Seat(FOUR)
    first, second, third = FOUR.chain(1, 2, 3)
    for block in (first, second):
        seat.hear(block.author, FOUR.proposal(block))
    assert seat.log == []
    seat.hear(3, FOUR.proposal(third))
    assert seat.log == [first]


def test_C2_a_QC_for_a_child_two_rounds_up_commits_nothing() -> None:
    seat = Seat(FOUR)
    for block in FOUR.chain(1, 3, 5):
        seat.hear(block.author, FOUR.proposal(block))
    assert seat.log == []


def test_C2_holds_again_after_a_crash_that_lost_the_commit() -> None:
    seat = Seat(FOUR)
    first, second, third = FOUR.chain(1, 2, 3)
    for block in (first, second):
        seat.hear(block.author, FOUR.proposal(block))
    seat.replica.step(3, FOUR.proposal(third), seat.instant)
    seat.save()
    seat.start()
    seat.drain()
    assert seat.log == [first]


def test_C3_a_missing_ancestor_is_fetched_and_never_skipped() -> None:
    seat = Seat(FOUR)
    first, second, third = FOUR.chain(1, 2, 3)
    sent = seat.hear(1, Certificates(FOUR.qc(third), None, FOUR.commit(third)))
    assert seat.log == []
    assert only(BlockRequest, sent) == [BlockRequest(third.id, 0)]
    sent = seat.hear(1, BlockReply((third,)))
    assert seat.log == []
    assert only(BlockRequest, sent) == [BlockRequest(second.id, 0)]
    seat.hear(1, BlockReply((second, first)))
    assert seat.log == [first, second, third]


# ---------------------------------------------------------------- saving


def test_S1_whatever_is_signed_is_in_the_record_of_the_same_drain() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    events: list[tuple[int, Message]] = [
        (1, FOUR.proposal(first)),
        (2, FOUR.proposal(second)),
        (2, Certificates(FOUR.qc(second), None, None)),
        (1, FOUR.timeout(1, 3, FOUR.qc(second))),
        (2, FOUR.timeout(2, 3, FOUR.qc(second))),
    ]
    for sender, message in events:
        seat.replica.step(sender, message, seat.instant)
        ready = seat.save()
        record = seat.disk.record
        for outgoing in ready.messages:
            said = outgoing.message
            if isinstance(said, Vote):
                assert record.last_vote == said
            if isinstance(said, CommitVote):
                assert record.last_commit_vote == said
            if isinstance(said, Timeout):
                assert record.last_timeout == said
            if outgoing.to is None:
                seat.replica.step(0, said, seat.instant)


def test_S1_a_restart_resumes_in_the_round_after_the_higher_certificate() -> None:
    seat = Seat(FOUR)
    (first,) = FOUR.chain(1)
    seat.hear(1, FOUR.proposal(first), Certificates(FOUR.qc(first), None, None))
    seat.hear(1, Certificates(FOUR.qc(first), FOUR.tc(5, FOUR.qc(first)), None))
    seat.start()
    assert seat.replica.round == 6
    assert seat.replica.record.high_tc == FOUR.tc(5, FOUR.qc(first))


def test_S1_all_members_restart_at_once_and_go_on() -> None:
    cluster = Cluster(4)
    for name in range(5):
        cluster.submit(name)
    cluster.lost = lambda sender, to, message: isinstance(message, CommitVote | Vote)
    cluster.submit("lost")
    cluster.run(3 * BASE)
    cluster.lost = lambda sender, to, message: False
    everybody = range(4)
    cluster.crash(*everybody)
    cluster.restart(*everybody)
    cluster.run(3 * BASE)
    cluster.assert_agreement()
    assert all(not seat.payload.waiting for seat in cluster.seats)
    assert all(not seat.evidence for seat in cluster.seats)


def test_S2_vote_and_commit_vote_of_one_event_are_saved_and_sent_together() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    seat.hear(1, FOUR.proposal(first))
    seat.replica.step(2, FOUR.proposal(second), seat.instant)
    ready = seat.replica.ready()
    assert only(Vote, ready.messages)
    assert only(CommitVote, ready.messages)
    assert ready.record is not None
    assert ready.record.last_vote in only(Vote, ready.messages)
    assert ready.record.last_commit_vote in only(CommitVote, ready.messages)
    assert ready.blocks == [second]


def test_S3_the_vote_leaves_only_after_the_payload_says_that_it_holds_the_collections() -> None:
    seat = Seat(FOUR)
    block = FOUR.block(1, collections=[digest_of("a")])
    seat.hear(1, FOUR.proposal(block))
    seat.replica.collections_arrived(seat.instant)
    assert not only(Vote, seat.drain())
    assert only(Vote, seat.offer("a"))


# ---------------------------------------------------------------- bounds


def test_Q3_ballots_far_ahead_are_not_stored() -> None:
    seat = Seat(FOUR)
    window = Rules().round_window
    for round in range(1, 1_000):
        block = FOUR.block(round)
        seat.hear(1, FOUR.vote(1, block), FOUR.commit_vote(1, block))
    assert len(seat.replica.aggregator.votes) == window + 1
    assert len(seat.replica.aggregator.commit_votes) == window + 1


def test_Q3_commit_votes_far_below_my_round_are_not_stored_however_old_my_head_is() -> None:
    seat = Seat(FOUR)
    far = FOUR.block(5_000)
    seat.hear(1, Certificates(FOUR.qc(far), None, None))
    assert seat.replica.round == 5_001
    assert seat.replica.head.round == 0
    for round in range(1, 5_100):
        seat.hear(1, FOUR.commit_vote(1, FOUR.block(round)))
    assert len(seat.replica.aggregator.commit_votes) <= 2 * Rules().round_window + 2


def test_Q3_a_leader_that_lies_about_heights_does_not_fill_the_tree() -> None:
    seat = Seat(FOUR)
    parent = GENESIS
    for round in range(1, 60):
        liar = FOUR.block(round, parent, height=2**60)
        seat.hear(liar.author, FOUR.proposal(liar))
        good = FOUR.block(round, parent)
        seat.hear(good.author, Certificates(FOUR.qc(good), None, None))
        seat.hear(good.author, BlockReply((good,)))
        parent = good
    assert seat.replica.head.height == 58
    assert len(seat.replica.tree) < 5


def test_Q3_a_full_tree_makes_room_for_what_is_certified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consensus.blocktree.MAX_BLOCKS", 20)
    seat = Seat(FOUR)
    for round in range(1, 60):
        block = FOUR.block(round, tc=FOUR.tc(round - 1) if round > 1 else None)
        seat.hear(block.author, FOUR.proposal(block))
    seat.hear(block.author, Certificates(FOUR.qc(block), None, FOUR.commit(block)))
    assert seat.replica.head == block


def test_Q3_old_certificates_are_not_remembered() -> None:
    blocks = FOUR.chain(*range(1, 400))
    seat = Seat(FOUR, disk=disk_with(blocks))
    for block in blocks:
        seat.hear(1, Certificates(FOUR.qc(block), None, None))
        seat.hear(1, FOUR.timeout(1, block.round + 1, FOUR.qc(block)))
    assert len(seat.replica.verifier) < 200


def test_Q3_requests_beyond_a_members_allowance_are_dropped() -> None:
    blocks = FOUR.chain(*range(1, 300))
    seat = Seat(FOUR, disk=disk_with(blocks))
    served = 0
    for _ in range(200):
        for reply in only(SyncReply, seat.hear(1, SyncRequest(1))):
            assert isinstance(reply, SyncReply)
            served += len(reply.blocks)
    assert served <= 20 * 256
    assert only(SyncReply, seat.hear(2, SyncRequest(1))), "another member is served"
    seat.wait(BASE)
    assert only(SyncReply, seat.hear(1, SyncRequest(1))), "and this one again after a while"


def test_Q3_all_guests_together_have_the_allowance_of_one_member() -> None:
    seat = Seat(FOUR, disk=disk_with(FOUR.chain(*range(1, 300))))
    served = 0
    for guest in range(MAX_MEMBERS, MAX_MEMBERS + 100):
        for reply in only(SyncReply, seat.hear(guest, SyncRequest(1))):
            assert isinstance(reply, SyncReply)
            served += len(reply.blocks)
    assert 0 < served <= MAX_BLOCKS_PER_PERIOD
    assert only(SyncReply, seat.hear(2, SyncRequest(1))), "and a member has its own"


def test_Q3_replies_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.server.MAX_REPLY_BYTES", 10_000)
    blocks = FOUR.chain(*range(1, 100))
    seat = Seat(FOUR, disk=disk_with(blocks))
    (ranged,) = only(SyncReply, seat.hear(1, SyncRequest(1)))
    (single,) = only(BlockReply, seat.hear(1, BlockRequest(blocks[-1].id, 0)))
    for reply in (ranged, single):
        assert isinstance(reply, SyncReply | BlockReply)
        assert 1 < len(reply.blocks) < 50
        assert len(reply.encode()) < 12_000


# ---------------------------------------------------------------- sync


def test_Y1_a_member_far_behind_a_moving_cluster_syncs_and_votes_again() -> None:
    blocks = FOUR.chain(*range(1, 1_001))
    cluster = Cluster(4)
    for index in (0, 1, 2):
        cluster.seats[index].disk = disk_with(blocks)
    cluster.crash(0, 1, 2, 3)
    cluster.restart(0, 1, 2)
    for name in range(20):
        cluster.submit(name)
    cluster.restart(3)
    for name in range(20, 40):
        cluster.submit(name)
        cluster.run(50)
    assert cluster.logs()[3] == cluster.logs()[0]
    assert len(cluster.seats[3].log) >= 1_020
    assert [m for sender, m in cluster.journal if sender == 3 and isinstance(m, Vote)]
    assert not cluster.seats[3].replica.fetcher.syncing


@pytest.mark.parametrize("missed", [1, 3, 255, 256, 257, 600])
def test_Y2_a_member_behind_by_any_amount_catches_up(missed: int) -> None:
    blocks = FOUR.chain(*range(1, missed + 1))
    cluster = Cluster(4)
    for index in (0, 1, 2):
        cluster.seats[index].disk = disk_with(blocks)
    cluster.crash(0, 1, 2)
    cluster.restart(0, 1, 2)
    cluster.connect(3, 0)
    cluster.settle()
    cluster.run(50)
    assert cluster.seats[3].log[: len(blocks)] == blocks


def test_Y2_a_reply_that_is_no_chain_does_not_end_the_search() -> None:
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    certificates = Certificates(FOUR.qc(second, [1, 2, 3]), None, None)
    assert len(only(BlockRequest, seat.hear(1, certificates))) == 1
    assert "Y2" in seat.refuses(1, BlockReply((second, FOUR.block(1, timestamp_ms=5))))
    sent = seat.wait(BASE)
    asked = {outgoing.to for outgoing in sent if isinstance(outgoing.message, BlockRequest)}
    assert asked == {2, 3}
    seat.hear(2, BlockReply((second, first)))
    assert second.id in seat.replica.tree


def test_Y2_blocks_that_were_not_asked_for_are_dropped() -> None:
    seat = Seat(FOUR)
    seat.hear(1, BlockReply(tuple(reversed(FOUR.chain(*range(1, 100))))))
    assert len(seat.replica.tree) == 0


def test_Y2_nothing_is_asked_for_once_it_is_not_needed() -> None:
    """The QC of a block came, then the commit of its child: its block is committed, not missing."""
    seat = Seat(FOUR)
    first, second = FOUR.chain(1, 2)
    assert only(BlockRequest, seat.hear(1, Certificates(FOUR.qc(first), None, None)))
    seat.hear(2, Certificates(GENESIS_QC, None, FOUR.commit(second)))
    seat.hear(2, BlockReply((second, first)))
    assert seat.replica.head == second
    assert not only(BlockRequest, seat.wait(60_000))


def test_Y2_a_slow_link_can_be_synced_over() -> None:
    """Answers take longer than the retry: each comes when somebody else has been asked."""
    blocks = FOUR.chain(*range(1, 700))
    server = Seat(FOUR, me=1, disk=disk_with(blocks))
    seat = Seat(FOUR)
    sent = seat.hear(1, Certificates(FOUR.qc(blocks[-1]), None, FOUR.commit(blocks[-1])))
    for _ in range(12):
        requests = only(SyncRequest, sent) + only(BlockRequest, sent)
        sent = seat.wait(BASE)
        for request in requests[:1]:
            (answer,) = server.hear(0, request)
            sent += seat.hear(1, answer.message)
    assert seat.replica.head.height == 699


def test_Y2_a_lying_member_cannot_stop_a_sync() -> None:
    """Member 0, which is asked first, lies; member 1 is honest; member 2 says nothing."""
    blocks = FOUR.chain(*range(1, 700))
    honest = Seat(FOUR, me=1, disk=disk_with(blocks))
    seat = Seat(FOUR, me=3)
    lies = 0
    sent = seat.hear(0, Certificates(FOUR.qc(blocks[-1]), None, FOUR.commit(blocks[-1])))
    for _ in range(20):
        said, sent = sent, []
        for outgoing in said:
            message = outgoing.message
            if outgoing.to == 1:
                for reply in honest.hear(3, message):
                    sent += seat.hear(1, reply.message)
            elif outgoing.to == 0 and isinstance(message, SyncRequest | BlockRequest):
                forged = FOUR.block(700, FOUR.block(5), height=seat.replica.head.height + 1)
                lie = SyncReply(0, (forged,), proof_of(FOUR, forged))
                seat.refuses(
                    0, lie if isinstance(message, SyncRequest) else BlockReply((blocks[-1], forged))
                )
                lies += 1
                sent += seat.drain()
        sent += seat.wait(BASE // 2)
    assert seat.replica.head.height == 699
    assert lies


def test_Y2_a_member_that_gives_crumbs_is_not_asked_again_and_again() -> None:
    blocks = FOUR.chain(*range(1, 700))
    seat = Seat(FOUR)
    sent = seat.hear(1, Certificates(FOUR.qc(blocks[-1]), None, FOUR.commit(blocks[-1])))
    asked: list[int | None] = []
    for _ in range(6):
        (request,) = [o for o in sent if isinstance(o.message, SyncRequest)]
        asked.append(request.to)
        assert isinstance(request.message, SyncRequest)
        crumb = blocks[request.message.from_height - 1]
        reply = SyncReply(699, (crumb,), proof_of(FOUR, crumb))
        assert request.to is not None
        sent = seat.hear(request.to, reply)
    assert len(set(asked)) == 3


def test_Y3_a_member_behind_a_stalled_quorum_catches_up_and_ends_the_stall() -> None:
    """One member is dead, one is 400 blocks behind: nothing moves until that one has synced."""
    cluster = Cluster(4)
    blocks = FOUR.chain(*range(1, 401))
    for index in (0, 1):
        cluster.seats[index].disk = disk_with(blocks)
    cluster.crash(0, 1, 2)
    cluster.restart(0, 1)
    cluster.submit("work")
    cluster.run(10 * BASE)
    cluster.assert_agreement()
    assert len(cluster.seats[3].log) > 400
    assert not cluster.seats[3].payload.waiting


def test_Y3_a_sync_that_finds_nothing_ends_and_blocks_are_fetched_one_by_one() -> None:
    """A chain of 300 certified blocks without one commit: no proof, but every block is there."""
    rounds = range(1, 601, 2)
    blocks = FOUR.chain(*rounds)
    cluster = Cluster(4)
    for index in (0, 1, 2):
        disk = Disk(blocks={block.id: block for block in blocks})
        disk.record = replace(disk.record, high_qc=FOUR.qc(blocks[-1]))
        cluster.seats[index].disk = disk
    cluster.crash(0, 1, 2)
    cluster.restart(0, 1, 2)
    cluster.connect(3, 0)
    cluster.run(20 * BASE)
    cluster.assert_agreement()
    assert len(cluster.seats[3].log) >= len(blocks)


# ---------------------------------------------------------------- whole committees


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 10])
def test_committees_of_any_size_order_everything_without_a_timeout(size: int) -> None:
    cluster = Cluster(size)
    for name in range(10):
        cluster.submit(name)
    cluster.run(BASE // 2)
    cluster.assert_agreement()
    for seat in cluster.seats:
        assert not seat.payload.waiting
        assert NoticeKind.TIMED_OUT not in seat.kinds()
        ordered = [digest for block in seat.log for digest in block.collections]
        assert sorted(ordered) == sorted(digest_of(name) for name in range(10))


@pytest.mark.parametrize(("size", "dead"), [(4, 1), (5, 1), (7, 2), (10, 3)])
def test_committees_live_with_as_many_dead_as_they_bear(size: int, dead: int) -> None:
    cluster = Cluster(size)
    cluster.crash(*range(1, 1 + dead))
    for name in range(20):
        cluster.submit(name)
        cluster.run(200)
    cluster.run(10 * BASE)
    cluster.assert_agreement()
    assert not cluster.seats[0].payload.waiting
    assert all(not seat.evidence for seat in cluster.seats)


def test_a_committee_of_weights_counts_weight_and_not_heads() -> None:
    cluster = Cluster(4, weights=(1, 1, 1, 7))
    cluster.crash(0, 1)
    cluster.submit("work")
    cluster.run(10 * BASE)
    assert not cluster.seats[3].payload.waiting, "8 of 10 are a quorum"
    cluster = Cluster(4, weights=(1, 1, 1, 7))
    cluster.crash(3)
    cluster.submit("work")
    cluster.run(10 * BASE)
    assert cluster.seats[0].log == [], "3 of 10 are none"


def test_a_follower_signs_nothing_and_commits_the_same() -> None:
    follower = Seat(FOUR, me=None)
    blocks = FOUR.chain(1, 2, 3, 4)
    sent: list[Outgoing] = []
    for block in blocks:
        sent += follower.hear(block.author, FOUR.proposal(block))
    sent += follower.wait(20_000)
    assert follower.log == blocks[:2]
    assert not [o for o in sent if isinstance(o.message, Vote | CommitVote | Timeout | Proposal)]
