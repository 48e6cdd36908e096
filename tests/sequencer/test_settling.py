"""What a node remembers of the L1, and what it tells about its batches."""

import logging
from random import Random

import pytest

from consensus.codec import u64
from consensus.committee import Committee
from consensus.epochs import EpochChange
from consensus.types import CommitCertificate, genesis_block
from sequencer.messages import BatchVote
from sequencer.settlement.poster_events import (
    Alarm,
    AlarmCleared,
    Final,
    Posted,
    Stage,
    StageChanged,
    Unposted,
)
from sequencer.settlement.poster_runner import PosterRunner
from sequencer.settlement.schedule import posting_order
from sequencer.settling import Settling
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import WriteBatch
from testnet.l1.simulated import SimulatedAccount, SimulatedL1
from testnet.l1.simulated_client import SimulatedClient
from tests.sequencer.test_batcher import CHAIN, COMMITTEE, SIGNERS, World


def settled(batches: int = 3) -> tuple[World, Settling]:
    """Member 0 of a world with so many certified batches."""
    world = World()
    for step in range(batches):
        world.block(10_000 * step + 1_000, b"a%d" % step, b"b%d" % step)
        world.block(10_000 * step + 3_000)
    world.exchange()
    return world, Settling(world.batchers[0], world.stores[0], CHAIN, 4, 0)


def posted(number: int) -> Posted:
    return Posted(number, bytes([number]) * 32, 100 + number, bytes(32))


def test_certified_batches_are_offered_without_gaps() -> None:
    world, settling = settled()
    assert settling.latest_certified() == 3
    batch = settling.certified(2)
    assert batch is not None
    assert batch.header == world.headers()[1].encode()
    assert settling.certified(4) is None


def test_a_batch_without_a_certificate_is_not_offered() -> None:
    world = World()
    world.block(1_000, b"x")
    world.block(3_000)
    world.save()
    settling = Settling(world.batchers[0], world.stores[0], CHAIN, 4, 0)
    assert settling.latest_certified() == 0
    assert settling.certified(1) is None
    assert settling.state(1) == "closed"


def test_states_follow_the_l1() -> None:
    _, settling = settled()
    settling.notify(posted(1))
    settling.notify(posted(2))
    settling.notify(Final(1))
    assert [settling.state(number) for number in (1, 2, 3)] == ["final", "posted", "certified"]
    described = settling.describe(2)
    assert described is not None
    assert described["l1_transaction"] == "0x" + "02" * 32
    assert described["l1_block"] == 102
    assert settling.unposted == 1


def test_a_reorganisation_takes_a_batch_out_again() -> None:
    _, settling = settled()
    settling.notify(posted(1))
    settling.notify(posted(2))
    settling.notify(Unposted(2))
    assert settling.state(2) == "certified"
    described = settling.describe(2)
    assert described is not None
    assert described["l1_transaction"] is None


def test_what_comes_after_a_batch_that_was_taken_out_is_out_as_well() -> None:
    world, settling = settled()
    for number in (1, 2, 3):
        settling.notify(posted(number))
    settling.notify(Unposted(2))
    described = settling.describe(3)
    assert described is not None
    assert (described["state"], described["l1_transaction"]) == ("certified", None)
    again = Settling(world.open(0), world.stores[0], CHAIN, 4, 0)
    assert again.posted == 1


def test_nothing_is_taken_out_that_was_not_posted(caplog: pytest.LogCaptureFixture) -> None:
    _, settling = settled()
    settling.notify(posted(1))
    settling.notify(Unposted(2))
    assert settling.posted == 1
    assert "reorganisation" not in caplog.text


def test_an_l1_that_is_ahead_of_the_log_says_nothing_about_batches_not_closed_here() -> None:
    _, settling = settled(batches=2)
    for number in (1, 2, 3, 4):
        settling.notify(posted(number))
    settling.notify(Final(3))
    assert (settling.posted_here, settling.final_here, settling.unposted) == (2, 2, 0)
    assert settling.status()["lag"] == 0


def test_takeovers_are_counted_on_both_sides_and_once() -> None:
    _, settling = settled()
    ranks = {number: posting_order(CHAIN, number, 4).index(0) for number in range(1, 40)}
    late = next(number for number, rank in ranks.items() if rank > 0)
    first = next(number for number, rank in ranks.items() if rank == 0 and number > late)
    for number in (late, late, first):
        settling.notify(StageChanged(number, Stage.MINED, b"", ""))
    settling.notify(StageChanged(first + 1, Stage.TAKEN_OVER, b"", ""))
    status = settling.status()
    assert (status["takeovers"], status["overtaken"]) == (1, 1)


def test_the_status_names_the_next_poster_and_my_rank() -> None:
    _, settling = settled()
    status = settling.status()
    order = posting_order(CHAIN, 1, 4)
    assert (status["poster"], status["rank"]) == (order[0], order.index(0))
    assert (status["l1_head"], status["wallet_gwei"]) == (None, None), "no L1 was seen yet"


def test_what_was_told_survives_a_restart() -> None:
    world, settling = settled()
    settling.save(b"poster's state")
    for number in (1, 2):
        settling.notify(posted(number))
    settling.notify(Final(1))
    store = world.stores[0]
    assert isinstance(store, MemoryStore)
    again = Settling(world.open(0), store, CHAIN, 4, 0)
    assert (again.posted, again.final, again.load()) == (2, 1, b"poster's state")


def test_a_posted_batch_is_news_once(caplog: pytest.LogCaptureFixture) -> None:
    _, settling = settled()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            settling.notify(posted(1))
    assert len(caplog.records) == 1


def test_every_position_has_its_batch() -> None:
    _, settling = settled()
    assert [settling.number_holding(position) for position in range(7)] == [1, 1, 2, 2, 3, 3, None]
    assert [settling.last_position(number) for number in range(4)] == [-1, 1, 3, 5]


def test_an_alarm_is_told_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    _, settling = settled()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            settling.notify(Alarm("L1 unreachable", "nobody answers"))
        assert settling.status()["alarms"] == {"L1 unreachable": "nobody answers"}
        for _ in range(2):
            settling.notify(AlarmCleared("L1 unreachable"))
    assert [record.message for record in caplog.records] == [
        "L1 unreachable: nobody answers",
        "L1 unreachable: over",
    ]
    assert settling.status()["alarms"] == {}


def test_a_late_certificate_closes_the_gap() -> None:
    world = World()
    for step in range(2):
        world.block(10_000 * step + 1_000, b"x%d" % step)
        world.block(10_000 * step + 3_000)
    votes: list[tuple[int, BatchVote]] = list(world.votes())
    settling = Settling(world.batchers[0], world.stores[0], CHAIN, 4, 0)
    for sender, vote in votes:
        if sender != 0 and vote.number == 2:
            world.batchers[0].on_vote(sender, vote, 0)
    world.save()
    assert settling.latest_certified() == 0
    for sender, vote in votes:
        if sender != 0 and vote.number == 1:
            world.batchers[0].on_vote(sender, vote, 0)
    world.save()
    assert settling.latest_certified() == 2


def test_what_ended_an_epoch_is_found_on_the_disk() -> None:
    world, settling = settled()
    assert settling.handover(0) is None
    last = genesis_block(CHAIN)
    certificate = CommitCertificate(0, 0, 0, last.id, COMMITTEE.digest, b"\x0f", b"s" * 96)
    members = Committee(1, COMMITTEE.members[:3])
    change = EpochChange(certificate, last, members)
    writes = WriteBatch()
    writes.put(Table.EPOCHS, u64(1), change.encode())
    world.stores[0].save(writes)
    assert settling.handover(0) == certificate
    assert settling.handover(1) is None


def test_the_contracts_next_epoch_gives_unposted_batches_new_heads_and_wakes_the_node() -> None:
    world, settling = settled()
    woken = []
    settling.wake = lambda: woken.append(True)
    world.batchers[0].begin_epoch(Committee(1, COMMITTEE.members), 0, SIGNERS[0])
    settling.on_contract(1, 2)
    assert woken
    assert [settling.header_epoch(number) for number in (1, 2, 3, 4)] == [0, 1, 1, None]
    assert settling.latest_certified() == 1
    assert settling.certified(2) is None
    settling.begin_epoch(7, None)
    assert (settling.size, settling.member) == (7, -1)


def test_what_is_posted_and_not_final_is_looked_for_again_after_a_start() -> None:
    """It may have moved to another transaction, and become final, while the node was down."""
    world, settling = settled()
    settling.notify(posted(1))
    assert Settling(world.batchers[0], world.stores[0], CHAIN, 4, 0).posted_since() == 0
    settling.notify(Final(1))
    assert settling.posted_since() is None
    settling.notify(posted(2))
    assert settling.posted_since() == 101


def test_what_the_contract_has_counts_as_certified() -> None:
    """Its certificate may be gone: the L1 has it."""
    world = World()
    for step in range(2):
        world.block(10_000 * step + 1_000, b"x%d" % step)
        world.block(10_000 * step + 3_000)
    world.save()
    settling = Settling(world.batchers[0], world.stores[0], CHAIN, 4, 0)
    assert settling.latest_certified() == 0
    settling.on_contract(0, 2)
    assert settling.latest_certified() == 1


async def test_status_says_what_the_contract_waits_for() -> None:
    _, settling = settled()
    assert settling.status()["contract_epoch"] is None
    l1 = SimulatedL1(Random(1), bytes(20), committee=COMMITTEE)
    l1.members = COMMITTEE.members[:3]
    settling.runner = PosterRunner(
        SimulatedClient(l1, Random(1)),
        settling,
        SimulatedAccount(l1, b"\x01" * 20),
        bytes(20),
        chain_id=CHAIN,
        committee_index=-1,
        committee_size=4,
        clock_ms=lambda: 0,
    )
    await settling.runner.poll_once()
    status = settling.status()
    assert (status["contract_epoch"], status["pending_epoch"]) == (0, None)
    assert status["upkeep"] == "snapshot for epoch 1: due"
    settling.begin_epoch(1, 0)
    await settling.runner.poll_once()
    assert settling.status()["upkeep"] == "snapshot for epoch 1: sent"
    l1.mine()
    await settling.runner.poll_once()
    status = settling.status()
    assert (status["pending_epoch"], status["upkeep"]) == (1, None)
