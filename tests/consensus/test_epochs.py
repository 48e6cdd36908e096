"""Where an epoch ends, what is said from there on, and how anybody can follow that."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.committee import Committee
from consensus.epochs import EpochChange, EpochEnd, LastBlock, attestation, follow, root_qc
from consensus.errors import InvalidMessage
from consensus.messages import (
    Certificates,
    CommitVote,
    Proposal,
    SyncReply,
    SyncRequest,
    Timeout,
    Vote,
)
from consensus.rules import Rules
from consensus.safety import Safety, SafetyRecord
from consensus.types import Block, CommitCertificate, CommitProof, bitmap_of
from tests.consensus.harness import (
    CHAIN,
    GENESIS,
    Cluster,
    Script,
    Seat,
    StubCrypto,
    committee_of,
    digest_of,
    only,
)

NEXT = replace(committee_of(5), epoch=1)
OTHER = replace(committee_of(7), epoch=1)
WINDOW = 8


def attesting(script: Script, *said: Committee | None) -> list[Block]:
    """Blocks of rounds in a row whose authors attest these committees, or none."""
    blocks: list[Block] = []
    parent = GENESIS
    for round, committee in enumerate(said, 1):
        data = attestation(1, committee.digest) if committee is not None else b""
        parent = replace(script.block(round, parent), attestation=data)
        blocks.append(parent)
    return blocks


def end_of(blocks: Sequence[Block], window: int = WINDOW) -> LastBlock | None:
    return EpochEnd(committee_of(4), window, (), GENESIS).on(blocks)


def ends_with(script: Script, last: Block, following: Committee) -> EpochChange:
    """The proof that a quorum of the script's committee ended its epoch with `last`."""
    committee = script.committee
    signed = CommitCertificate.signed_bytes(
        CHAIN, committee.epoch, last.round, last.height, last.id, following.digest
    )
    signature = StubCrypto().aggregate([script.signers[at].sign(signed) for at in script.quorum])
    assert signature is not None
    bitmap = bitmap_of(script.quorum, committee.size)
    certificate = CommitCertificate(
        committee.epoch, last.round, last.height, last.id, following.digest, bitmap, signature
    )
    return EpochChange(certificate, last, following)


def proposed(seat: Seat, ms: int = 2_000) -> Block:
    proposal = only(Proposal, seat.wait(ms))[0]
    assert isinstance(proposal, Proposal)
    return proposal.block


def test_Ep1_a_leader_attests_what_is_final_in_the_registry_and_nothing_else() -> None:
    script = Script()
    silent, informed = Seat(script, 1), Seat(script, 1)
    silent.offer("work")
    informed.payload.next = NEXT.digest
    assert proposed(silent).attestation == b""
    assert proposed(informed).attestation == attestation(1, NEXT.digest)


def test_Ep2_the_epoch_ends_with_the_block_that_completes_a_quorum() -> None:
    blocks = attesting(Script(), NEXT, None, NEXT, NEXT, NEXT)
    assert end_of(blocks[:3]) is None
    assert end_of(blocks[:4]) == (blocks[3], NEXT.digest)
    assert end_of(blocks) == (blocks[3], NEXT.digest)


def test_Ep2_an_author_counts_once_with_its_newest_word() -> None:
    assert end_of(attesting(Script(), NEXT, NEXT, None, None, NEXT, NEXT)) is None
    changed = attesting(Script(), NEXT, NEXT, OTHER, None, OTHER, NEXT)
    assert end_of(changed) is None


def test_Ep2_two_committees_share_no_quorum() -> None:
    assert end_of(attesting(Script(), NEXT, OTHER, NEXT, OTHER)) is None


def test_Ep2_attestations_lapse_after_the_window() -> None:
    blocks = attesting(Script(), NEXT, NEXT, None, None, None, None, NEXT)
    assert end_of(blocks, window=7) is not None
    assert end_of(blocks, window=5) is None


def test_Ep2_the_end_is_the_same_whatever_was_committed_when() -> None:
    blocks = attesting(Script(), NEXT, NEXT, None, NEXT, NEXT)
    for committed in range(len(blocks)):
        end = EpochEnd(committee_of(4), WINDOW, (), GENESIS)
        end.committed(blocks[:committed])
        restarted = EpochEnd(
            committee_of(4), WINDOW, blocks[:committed], (GENESIS, *blocks)[committed]
        )
        for one in (end, restarted):
            assert one.on(blocks[committed:]) == (blocks[3], NEXT.digest)


def test_Ep2_weight_makes_the_quorum_and_not_heads() -> None:
    end = EpochEnd(committee_of(4, (1, 1, 1, 9)), WINDOW, (), GENESIS)
    blocks = attesting(Script(), NEXT, NEXT, NEXT)
    assert end.on([replace(block, author=at) for at, block in enumerate(blocks)]) is None
    giant = [replace(blocks[0], author=3)]
    assert end.on(giant) == (giant[0], NEXT.digest)


@pytest.mark.parametrize("data", [attestation(2, NEXT.digest), attestation(0, NEXT.digest), b"x"])
def test_Ep2_nobody_votes_for_what_attests_no_next_epoch(data: bytes) -> None:
    script = Script()
    seat = Seat(script, 0)
    block = replace(script.block(1), attestation=data)
    assert only(Vote, seat.hear(1, script.proposal(block))) == []


def test_Ep2_a_committee_that_waits_is_work_although_no_transaction_does() -> None:
    cluster = Cluster(4, Rules(idle_heartbeat_ms=1_000_000))
    for seat in cluster.seats[1:]:
        seat.payload.next = NEXT.digest
    cluster.run(60_000)
    assert [seat.replica.ended is not None for seat in cluster.seats] == [True] * 4


def test_Ep3_above_the_last_block_leaders_order_nothing_and_it_is_named_by_commit_votes() -> None:
    cluster = Cluster(4)
    for seat in cluster.seats:
        seat.payload.next = NEXT.digest
    for name in range(40):
        cluster.submit(name)
    cluster.run(20_000)
    for seat in cluster.seats:
        ended = seat.replica.ended
        assert ended is not None
        last = seat.log[-1]
        assert (ended.block_id, ended.height) == (last.id, last.height)
        assert ended.next_committee == NEXT.digest
        assert last.attestation
        above = [block for block in seat.disk.blocks.values() if block.height > last.height]
        assert not any(block.collections or block.attestation for block in above)


def last_of(script: Script) -> LastBlock:
    *_, last = attesting(script, NEXT, NEXT, NEXT)
    return LastBlock(last, NEXT.digest)


def test_Ep3_a_commit_vote_above_the_last_block_signs_that_one_and_what_follows() -> None:
    script = Script()
    end = last_of(script)
    above = script.block(4, end.block)
    qc = script.qc(above)
    record = replace(SafetyRecord.initial(CHAIN), high_qc=qc)
    vote = Safety(0, CHAIN, script.signers[0], record).commit_vote(above, qc, end)
    assert isinstance(vote, CommitVote)
    assert (vote.round, vote.height, vote.block_id) == (4, end.block.height, end.block.id)
    assert vote.next_committee == NEXT.digest


def test_Ep3_a_block_above_the_last_one_that_is_not_empty_gets_no_vote() -> None:
    script = Script()
    end = last_of(script)
    for contents, votes in (((), 1), ((digest_of("late"),), 0)):
        seat = Seat(script, 0)
        seat.offer("late")
        parent = GENESIS
        for block in attesting(script, NEXT, NEXT, NEXT):
            seat.hear(block.author, script.proposal(block))
            parent = block
        assert parent == end.block
        above = script.block(4, parent, contents)
        heard = seat.hear(above.author, script.proposal(above))
        assert len(only(Vote, heard)) == votes


def test_Ep3_two_consecutive_blocks_commit_the_last_one_and_end_nothing() -> None:
    script = Script()
    seat = Seat(script, 0)
    blocks = attesting(script, NEXT, NEXT, NEXT)
    above = script.block(4, blocks[-1])
    further = script.block(5, above)
    for block in (*blocks, above, further):
        seat.hear(block.author, script.proposal(block))
    seat.hear(1, Certificates(script.qc(further), None, None))
    assert seat.log == blocks
    assert seat.replica.ended is None


def test_Ep3_the_first_certificate_of_the_last_block_ends_the_epoch_and_all_signing() -> None:
    script = Script()
    seat = Seat(script, 0)
    blocks = attesting(script, NEXT, NEXT, NEXT)
    for block in blocks:
        seat.hear(block.author, script.proposal(block))
    change = ends_with(script, blocks[-1], NEXT)
    seat.hear(1, Certificates(script.qc(blocks[-1]), None, change.certificate))
    assert seat.replica.ended == change.certificate
    assert seat.log == blocks
    above = script.block(4, blocks[-1])
    signed = [*seat.hear(above.author, script.proposal(above)), *seat.wait(60_000)]
    assert not [item for item in signed if isinstance(item.message, Vote | Timeout | CommitVote)]


def test_Ep4_a_chain_of_ends_proves_a_committee() -> None:
    first, second = Script(), Script(NEXT)
    changes = [
        ends_with(first, first.chain(1)[0], NEXT),
        ends_with(second, replace(second.block(2), epoch=1), replace(committee_of(4), epoch=2)),
    ]
    assert follow(first.committee, CHAIN, changes, StubCrypto()) == changes[1].committee
    with pytest.raises(InvalidMessage, match="of another epoch"):
        follow(first.committee, CHAIN, changes[::-1], StubCrypto())


def test_Ep4_an_end_that_is_not_proved_is_not_believed() -> None:
    script = Script()
    change = ends_with(script, script.chain(1)[0], NEXT)
    certificate = change.certificate
    for wrong, reason in (
        (replace(change, committee=OTHER), "another committee"),
        (replace(change, last=script.chain(2)[0]), "another block"),
        (replace(change, certificate=replace(certificate, signers=b"\x03")), "quorum"),
        (replace(change, certificate=replace(certificate, round=2)), "bad signature"),
    ):
        with pytest.raises(InvalidMessage, match=reason):
            follow(script.committee, CHAIN, [wrong], StubCrypto())


def test_Ep3_a_range_that_goes_beyond_the_end_of_its_epoch_is_refused() -> None:
    script = Script()
    blocks = attesting(script, NEXT, NEXT, NEXT)
    above = script.block(4, blocks[-1])
    child = script.block(5, above)
    follower = Seat(script, None)
    assert only(SyncRequest, follower.wait(3_000))
    proof = CommitProof(None, child, script.qc(child))
    assert "Ep3" in follower.refuses(1, SyncReply(4, (*blocks, above), proof))
    assert follower.replica.head.height == 0
    ended = ends_with(script, blocks[-1], NEXT).certificate
    follower.hear(2, SyncReply(4, tuple(blocks), CommitProof(ended, None, None)))
    assert follower.replica.head == blocks[-1]
    assert follower.replica.ended == ended


def test_Ep4_a_new_epoch_begins_in_the_round_after_its_root_with_nothing_signed() -> None:
    last = Script().chain(1)[0]
    record = SafetyRecord(1, root_qc(1, last))
    assert record.round == last.round + 1
    assert record.last_voted_round == record.highest_timeout_round == 0


def test_Ep4_what_is_of_another_epoch_counts_for_nothing() -> None:
    script = Script()
    seat = Seat(script, 0)
    vote = replace(script.vote(1, script.block(1)), epoch=1)
    assert "epoch 1" in seat.refuses(1, vote)


def test_Ep5_who_is_no_member_signs_nothing_and_asks_in_turn() -> None:
    script = Script()
    follower = Seat(script, None)
    block = script.chain(1)[0]
    sent = [*follower.hear(1, script.proposal(block)), *follower.wait(3_000)]
    asked = {item.to for item in sent if isinstance(item.message, SyncRequest)}
    assert {type(item.message) for item in sent} <= {SyncRequest}
    assert asked == {0, 1, 2, 3}
