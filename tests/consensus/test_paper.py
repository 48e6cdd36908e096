"""What other implementations got wrong, each as a test of this one.

Golden scripts at the end: a committee of four, a message at a time, readable as a sequence chart.
"""

from dataclasses import replace

import pytest

from consensus.errors import InvalidMessage
from consensus.interface import NoticeKind
from consensus.messages import (
    BlockReply,
    Certificates,
    CommitVote,
    Message,
    Proposal,
    Timeout,
    Vote,
    decode,
)
from consensus.rules import Rules
from consensus.types import CommitProof
from tests.consensus.harness import (
    BASE,
    GENESIS_QC,
    Cluster,
    Disk,
    Script,
    Seat,
    digest_of,
    only,
)

FOUR = Script(4)


def test_parent_links_alone_commit_nothing() -> None:
    """relab/hotstuff #249: commit on parent links without checking consecutive rounds."""
    seat = Seat(FOUR)
    blocks = FOUR.chain(1, 3, 5, 7, 9)
    for block in blocks:
        seat.hear(block.author, FOUR.proposal(block))
        seat.hear(1, Certificates(FOUR.qc(block), None, None))
    assert seat.log == []


def test_several_pending_ancestors_are_committed_in_order_and_once() -> None:
    """asonnino/hotstuff: B3, B2, B4."""
    seat = Seat(FOUR)
    one, two, three, four, five = FOUR.chain(1, 3, 5, 6, 7)
    for block in (one, two, three, four, five):
        seat.hear(block.author, FOUR.proposal(block))
    assert seat.log == [one, two, three]
    seat.hear(1, Certificates(FOUR.qc(five), None, FOUR.commit(three)))
    seat.hear(2, Certificates(FOUR.qc(five), None, FOUR.commit(five)))
    assert seat.log == [one, two, three, four, five]


def test_a_crash_after_the_save_and_before_the_send_signs_nothing_else() -> None:
    """asonnino #15, Telcoin #964: vote state not persisted, or persisted in the background."""
    seat = Seat(FOUR)
    other = FOUR.block(1, collections=[digest_of("other")])
    seat.payload.add(digest_of("other"))
    seat.replica.step(1, FOUR.proposal(FOUR.block(1)), seat.instant)
    ready = seat.save()
    (lost,) = only(Vote, ready.messages)
    seat.start()
    said = only(Vote, seat.drain() + seat.hear(1, FOUR.proposal(other)) + seat.wait(2 * BASE))
    assert said
    assert all(vote == lost for vote in said)


def test_a_restarted_leader_does_not_propose_twice_in_a_round() -> None:
    cluster = Cluster(4)
    cluster.lost = lambda sender, to, message: isinstance(message, Vote)
    cluster.submit("first")
    cluster.crash(1)
    cluster.restart(1)
    cluster.lost = lambda sender, to, message: False
    for name in range(20):
        cluster.submit(name)
        cluster.run(100)
    cluster.assert_no_contradiction()
    cluster.assert_agreement()
    assert not any(seat.evidence for seat in cluster.seats)


def test_a_commit_vote_after_a_timeout_is_not_freed_by_garbage_collection() -> None:
    """ava-labs/Simplex #280: the flag that forbade it was collected."""
    seat = Seat(FOUR)
    seat.offer("work")
    seat.wait(BASE)
    (block,) = FOUR.chain(1)
    seat.hear(1, FOUR.proposal(block))
    for round in range(1, 3 * Rules().round_window):
        seat.hear(1, FOUR.timeout(1, round, tc=FOUR.tc(round - 1) if round > 1 else None))
    sent = seat.hear(2, Certificates(FOUR.qc(block), None, None))
    sent += seat.wait(BASE)
    assert not only(CommitVote, sent)


def test_a_timeout_certificate_without_its_QC_is_refused() -> None:
    seat = Seat(FOUR)
    (one,) = FOUR.chain(1)
    without = replace(FOUR.tc(2, FOUR.qc(one)), high_qc=GENESIS_QC)
    assert "without its highest QC" in seat.refuses(2, Certificates(GENESIS_QC, without, None))
    assert seat.replica.round == 1


def test_an_absent_field_skips_no_check() -> None:
    """nandatown #191: the lock check was skipped because a field was absent."""
    seat = Seat(FOUR)
    one, two = FOUR.chain(1, 2)
    seat.hear(1, FOUR.proposal(one))
    seat.hear(2, Certificates(FOUR.qc(two), None, None))
    assert "V2" in seat.refuses(1, FOUR.proposal(FOUR.block(5, one)))
    empty = replace(FOUR.tc(4, FOUR.qc(two)), high_qc_rounds=())
    with pytest.raises(InvalidMessage):
        decode(Certificates(FOUR.qc(two), empty, None).encode())


def test_votes_for_far_future_rounds_exhaust_no_memory() -> None:
    """tendermint #1464 and others."""
    seat = Seat(FOUR)
    for round in range(100, 20_000, 100):
        block = FOUR.block(round)
        for voter in (1, 2, 3):
            seat.hear(voter, FOUR.vote(voter, block), FOUR.commit_vote(voter, block))
    tallies = seat.replica.aggregator
    assert len(tallies.votes) + len(tallies.commit_votes) + len(tallies.timeouts) == 0
    assert len(seat.replica.fetcher) == 0


def test_timeouts_after_a_long_outage_are_capped() -> None:
    cluster = Cluster(4)
    cluster.submit("before")
    cluster.crash(2, 3)
    cluster.submit("during")
    cluster.run(600_000)
    cluster.restart(2, 3)
    cluster.submit("during")
    cluster.run(3 * BASE)
    cluster.assert_agreement()
    assert not any(seat.payload.waiting for seat in cluster.seats)


def test_the_payload_of_an_orphaned_block_is_proposed_again() -> None:
    seat = Seat(FOUR, me=2)
    orphan = FOUR.block(1, collections=[digest_of("precious")])
    seat.offer("precious")
    seat.hear(1, FOUR.proposal(orphan))
    sent = seat.hear(3, Certificates(GENESIS_QC, FOUR.tc(1), None))
    (proposal,) = only(Proposal, sent)
    assert isinstance(proposal, Proposal)
    assert proposal.block.collections == (digest_of("precious"),)
    assert proposal.block.parent_id != orphan.id


def test_one_member_behind_a_stalled_quorum_can_sync() -> None:
    """malachite #971: three of four are needed, one is dead, one is behind."""
    cluster = Cluster(4)
    cluster.crash(3)
    for name in range(6):
        cluster.submit(name)
        cluster.run(2 * BASE)
    cluster.crash(0)
    cluster.submit("stalled", [1, 2])
    cluster.run(20 * BASE)
    stalled_at = len(cluster.seats[1].log)
    cluster.restart(3)
    cluster.submit("stalled", [3])
    cluster.run(10 * BASE)
    cluster.assert_agreement()
    assert len(cluster.seats[3].log) > stalled_at
    assert not cluster.seats[1].payload.waiting


def test_there_is_a_way_back_from_consensus_to_sync_and_again() -> None:
    """cometbft #3372: three times in one life."""
    cluster = Cluster(4)
    for _ in range(3):
        behind = cluster.seats[3]
        cluster.lost = lambda sender, to, message: 3 in (sender, to)
        for index in (0, 1, 2):
            seat = cluster.seats[index]
            tip = seat.log[-1] if seat.log else None
            seat.disk = extended(seat.disk, 300)
            assert tip is None or seat.disk.log[len(seat.log) - 300] == tip
        cluster.crash(0, 1, 2)
        cluster.restart(0, 1, 2)
        cluster.lost = lambda sender, to, message: False
        cluster.connect(0, 3)
        cluster.submit(f"work {len(behind.log)}")
        cluster.run(5 * BASE)
        cluster.assert_agreement()
        assert not behind.replica.fetcher.syncing
        assert not behind.payload.waiting
    assert len(cluster.seats[3].log) > 900


def extended(disk: Disk, count: int) -> Disk:
    """The same log with more committed blocks on top."""
    head = disk.log[-1]
    first = max(head.round, disk.record.round) + 1
    tc = FOUR.tc(first - 1, FOUR.qc(head))
    parent = FOUR.block(first, head, tc=tc)
    blocks = [parent, *FOUR.chain(*range(first + 1, first + count), parent=parent)]
    grown = Disk(disk.record, dict(disk.blocks), list(disk.log), dict(disk.proofs))
    for block in blocks:
        grown.log.append(block)
        grown.blocks[block.id] = block
    grown.proofs[blocks[-1].height] = CommitProof(FOUR.commit(blocks[-1]), None, None)
    step = 100
    for height in range(head.height + step, blocks[-1].height, step):
        proof = CommitProof(FOUR.commit(grown.log[height]), None, None)
        grown.proofs[height] = proof
    grown.record = replace(disk.record, high_qc=FOUR.qc(blocks[-1]))
    return grown


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
def test_all_restarted_at_once_with_every_message_lost(seen: int) -> None:
    """sebak #828: messages sent before peers connect are lost and nothing re-sends them."""
    cluster = Cluster(4)
    lossy: list[type[Message]] = [Proposal, Vote, CommitVote, Timeout]
    kind = lossy[seen]
    cluster.lost = lambda sender, to, message: isinstance(message, kind)
    cluster.submit("work")
    cluster.run(3 * BASE)
    cluster.lost = lambda sender, to, message: True
    everybody = range(4)
    cluster.crash(*everybody)
    for index in everybody:
        cluster.restart(index)
    cluster.run(BASE // 2)
    cluster.lost = lambda sender, to, message: False
    for left in everybody:
        for right in range(left):
            cluster.connect(left, right)
    cluster.run(4 * BASE)
    cluster.assert_agreement()
    cluster.assert_no_contradiction()
    assert not any(seat.payload.waiting for seat in cluster.seats)


def test_a_TC_is_not_lost_when_all_restart() -> None:
    """Saving only the lock's round deadlocked 237 of 300 modelled restarts."""
    cluster = Cluster(4)
    cluster.crash(1)
    cluster.submit("work")
    cluster.run(BASE + 10)
    rounds = [cluster.seats[index].replica.round for index in (0, 2, 3)]
    assert min(rounds) >= 2
    cluster.crash(0, 2, 3)
    cluster.restart(0, 2, 3)
    assert [cluster.seats[index].replica.round for index in (0, 2, 3)] >= rounds
    cluster.run(5 * BASE)
    assert not cluster.seats[0].payload.waiting


# ---------------------------------------------------------------- golden scripts


def script_of(cluster: Cluster, start: int = 0) -> list[str]:
    """What was said, in order, a line each: who, what, round and parent or certificate round."""
    lines = []
    for sender, message in cluster.journal[start:]:
        match message:
            case Proposal(block):
                tc = f", TC {block.tc.round}" if block.tc else ""
                lines.append(f"{sender} proposes {block.round} on QC {block.qc.round}{tc}")
            case Vote():
                lines.append(f"{sender} votes {message.round}")
            case CommitVote():
                lines.append(f"{sender} commit-votes {message.round}")
            case Timeout():
                lines.append(f"{sender} times out {message.round} at QC {message.high_qc_round}")
            case Certificates():
                high = message.high_tc.round if message.high_tc else message.high_qc.round
                lines.append(f"{sender} shows {high}")
    return lines


def test_golden_one_block_takes_three_message_delays() -> None:
    cluster = Cluster(4)
    cluster.submit("work")
    assert script_of(cluster) == [
        "1 proposes 1 on QC 0",
        "1 votes 1",
        "0 votes 1",
        "2 votes 1",
        "3 votes 1",
        "2 commit-votes 1",
        "3 commit-votes 1",
        "0 commit-votes 1",
        "1 commit-votes 1",
    ]
    assert all(len(seat.log) == 1 for seat in cluster.seats)


def test_golden_a_dead_leader_costs_one_timeout() -> None:
    cluster = Cluster(4)
    cluster.crash(1)
    cluster.submit("work")
    cluster.run(BASE)
    assert script_of(cluster) == [
        "0 times out 1 at QC 0",
        "2 times out 1 at QC 0",
        "3 times out 1 at QC 0",
        "2 proposes 2 on QC 0, TC 1",
        "2 votes 2",
        "0 votes 2",
        "3 votes 2",
        "3 commit-votes 2",
        "0 commit-votes 2",
        "2 commit-votes 2",
    ]


def test_golden_lost_votes_are_said_again_halfway() -> None:
    cluster = Cluster(4)
    cluster.lost = lambda sender, to, message: isinstance(message, Vote)
    cluster.submit("work")
    cluster.lost = lambda sender, to, message: False
    before = len(cluster.journal)
    cluster.run(BASE - 1)
    said = script_of(cluster, before)
    assert [line for line in said if "votes 1" in line and "commit" not in line][:3] == [
        "0 votes 1",
        "1 votes 1",
        "2 votes 1",
    ]
    assert not any("times out" in line for line in said)
    assert all(len(seat.log) == 1 for seat in cluster.seats)


def test_golden_an_equivocating_leader_splits_the_votes_and_costs_one_timeout() -> None:
    cluster = Cluster(4)
    script = cluster.script
    cluster.crash(1)
    cluster.submit("work")
    left = script.proposal(script.block(1))
    right = script.proposal(script.block(1, timestamp_ms=left.block.timestamp_ms + 1))
    for index, proposal in ((0, left), (2, right), (3, right)):
        sent = cluster.seats[index].hear(1, proposal)
        assert len(only(Vote, sent)) == 1
    cluster.seats[0].hear(1, right)
    assert cluster.seats[0].kinds().count(NoticeKind.EVIDENCE) == 1
    cluster.run(2 * BASE)
    cluster.assert_agreement()
    assert cluster.seats[0].log
    assert left.block not in cluster.seats[0].log


def test_golden_a_block_withheld_from_one_is_fetched_and_committed() -> None:
    seat = Seat(FOUR)
    (one,) = FOUR.chain(1)
    for voter in (1, 2, 3):
        seat.hear(voter, FOUR.vote(voter, one))
    for voter in (1, 2, 3):
        seat.hear(voter, FOUR.commit_vote(voter, one))
    assert seat.log == []
    seat.hear(2, BlockReply((one,)))
    assert seat.log == [one]
