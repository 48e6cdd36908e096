"""The next block from both sides: when and what a leader makes, and what a voter thinks of it."""

from dataclasses import replace

import pytest

from consensus.blocktree import BlockTree
from consensus.epochs import EpochEnd
from consensus.interface import Instant
from consensus.ordering import Ordering
from consensus.rules import Rules
from consensus.safety import SafetyRecord
from tests.consensus.harness import CHAIN, GENESIS, UNIX_MS, Script, StubPayload, digest_of

FOUR = Script(4)
RULES = Rules()
NOW = Instant(5_000, UNIX_MS + 5_000)


class Desk:
    """An `Ordering` with what it asks."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.payload = StubPayload()
        self.tree = BlockTree(GENESIS, (), rules.digest_window_heights)
        ending = EpochEnd(FOUR.committee, rules.digest_window_heights, (), GENESIS)
        self.ordering = Ordering(rules, self.payload, self.tree, ending, 0)
        self.record = SafetyRecord.initial(CHAIN)

    def propose_at(self, entered_at: int = 4_900) -> int | None:
        return self.ordering.propose_at(self.record, entered_at, NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"height": 0}, "height"),
        ({"height": 2}, "height"),
        ({"timestamp_ms": 0}, "not above the parent's"),
        ({"timestamp_ms": 1}, ""),
        ({"timestamp_ms": NOW.unix_ms + RULES.max_clock_skew_ms}, ""),
        ({"timestamp_ms": NOW.unix_ms + RULES.max_clock_skew_ms + 1}, "future"),
        ({"collections": [digest_of("a"), digest_of("b")]}, ""),
        ({"collections": [digest_of("a"), digest_of("a")]}, "twice"),
        ({"collections": [digest_of("a"), digest_of("big")]}, "bytes"),
        ({"collections": [digest_of("unknown")]}, ""),
    ],
)
def test_V5_a_block_is_judged_by_its_parent_its_clock_and_its_size(
    changes: dict[str, object], reason: str
) -> None:
    desk = Desk()
    desk.payload.add(digest_of("a"))
    desk.payload.add(digest_of("b"))
    desk.payload.add(digest_of("big"), RULES.max_block_bytes)
    refusal = desk.ordering.judge(FOUR.block(1, **changes), [], NOW)  # type: ignore[arg-type]
    if not reason:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.rule == "V5"
        assert reason in refusal.reason


def test_P2_what_a_leader_makes_a_voter_accepts() -> None:
    desk = Desk()
    one = FOUR.block(1, collections=[digest_of("old")], timestamp_ms=NOW.unix_ms + 1_500)
    desk.tree.add(one)
    desk.record = replace(desk.record, high_qc=FOUR.qc(one), high_tc=FOUR.tc(2, FOUR.qc(one)))
    for name in ("old", "new", "newer"):
        desk.payload.add(digest_of(name))
    block = desk.ordering.next_block(desk.record, 3, NOW)
    assert (block.round, block.height, block.parent_id, block.author) == (3, 2, one.id, 3)
    assert block.tc == FOUR.tc(2, FOUR.qc(one))
    assert block.collections == (digest_of("new"), digest_of("newer"))
    assert block.timestamp_ms == one.timestamp_ms + 1
    assert desk.ordering.judge(block, [one], NOW) is None


def test_P2_a_block_is_within_the_limits_of_count_and_bytes() -> None:
    desk = Desk(Rules(max_block_collections=3))
    for name in range(10):
        desk.payload.add(digest_of(name))
    assert len(desk.ordering.next_block(desk.record, 1, NOW).collections) == 3
    desk = Desk()
    for name in range(10):
        desk.payload.add(digest_of(name), RULES.max_block_bytes // 4)
    assert len(desk.ordering.next_block(desk.record, 1, NOW).collections) == 4


def test_P2_work_is_proposed_now_and_nothing_is_proposed_at_the_heartbeat() -> None:
    desk = Desk()
    assert desk.propose_at(4_900) == 4_900 + RULES.idle_heartbeat_ms
    desk.payload.add(digest_of("work"))
    due = desk.propose_at()
    assert due is not None
    assert due <= NOW.monotonic_ms


def test_P2_what_an_ancestor_orders_is_no_work() -> None:
    desk = Desk()
    one = FOUR.block(1, collections=[digest_of("work")])
    desk.tree.add(one)
    desk.record = replace(desk.record, high_qc=FOUR.qc(one))
    desk.payload.add(digest_of("work"))
    assert desk.propose_at(4_900) == max(NOW.monotonic_ms, 4_900 + RULES.base_timeout_ms // 4)


def test_P2_without_the_parent_nothing_is_proposed() -> None:
    desk = Desk()
    desk.record = replace(desk.record, high_qc=FOUR.qc(FOUR.block(1)))
    desk.payload.add(digest_of("work"))
    assert desk.propose_at() is None


def test_P2_a_wanted_block_comes_before_the_heartbeat() -> None:
    desk = Desk()
    desk.payload.wanted_at = NOW.unix_ms + 300
    assert desk.propose_at() == NOW.monotonic_ms + 300
    desk.payload.wanted_at = NOW.unix_ms - 300
    assert desk.propose_at() == NOW.monotonic_ms


@pytest.mark.parametrize(("age", "wait"), [(0, 200), (150, 50), (200, 0), (900, 0), (-1_900, 200)])
def test_P2_the_interval_is_counted_from_the_parent_and_no_clock_extends_it(
    age: int, wait: int
) -> None:
    desk = Desk(Rules(min_block_interval_ms=200))
    one = FOUR.block(1, timestamp_ms=NOW.unix_ms - age)
    desk.tree.add(one)
    desk.record = replace(desk.record, high_qc=FOUR.qc(one))
    desk.payload.add(digest_of("work"))
    assert desk.propose_at(NOW.monotonic_ms) == NOW.monotonic_ms + wait
