"""The poster's machine, stage by stage: each edge, each error, both sides of each bound."""

from dataclasses import replace

import pytest

from sequencer.settlement import poster
from sequencer.settlement.account import Fees
from sequencer.settlement.client import Accepted, L1Block, Receipt, SendAnswer, SendOutcome
from sequencer.settlement.poster import CANCEL_GAS, MAX_VERSIONS, Poster
from sequencer.settlement.poster_events import (
    Action,
    Alarm,
    AlarmCleared,
    Answered,
    Final,
    L1View,
    NoVerdict,
    Posted,
    PosterSettings,
    Save,
    Send,
    Sign,
    Signed,
    Simulate,
    Simulated,
    SimulationFailed,
    Stage,
    StageChanged,
    Tell,
    Unposted,
    Unreachable,
)
from sequencer.settlement.poster_state import Flight, Version, decode_state, encode_state
from sequencer.settlement.schedule import posting_order

CHAIN = b"\x01" * 32
SIZE = 4
GWEI = 10**9
GAS = 900_000
SETTINGS = PosterSettings(
    takeover_blocks=3,
    confirmations=2,
    bump_after_blocks=3,
    max_fee_wei=100 * GWEI,
    answer_timeout_ms=1_000,
    head_stall_ms=60_000,
    finality_stall_blocks=50,
)


def block(number: int, fork: int = 0, base_fee: int = GWEI) -> L1Block:
    return L1Block(number, bytes([fork]) + number.to_bytes(31, "big"), number, base_fee)


def tx(name: int) -> bytes:
    return bytes([0xEE]) + name.to_bytes(31, "big")


def accepted(number: int, at: int, fork: int = 0, by: int = 99) -> Accepted:
    place = block(at, fork)
    return Accepted(number, bytes(32), bytes(32), tx(by), place.number, place.block_hash)


def receipt(name: int, at: int, succeeded: bool = True) -> Receipt:
    return Receipt(tx(name), at, block(at).block_hash, succeeded)


def member_of_rank(place: int, number: int = 1) -> int:
    return posting_order(CHAIN, number, SIZE)[place]


def new_poster(place: int = 0, number: int = 1, saved: bytes | None = None) -> Poster:
    """The member that has this rank for batch `number`."""
    member = member_of_rank(place, number)
    return Poster(SETTINGS, chain_id=CHAIN, member=member, size=SIZE, saved=saved)


VIEW = L1View(
    head=block(100),
    final_block=96,
    next_number=1,
    final_next=1,
    accepted=(),
    nonce=5,
    balance=10**18,
    tip=GWEI,
    receipts={},
    certified=0,
)
CERTIFIED = replace(VIEW, certified=1)


def at(view: L1View, number: int, **changes: object) -> L1View:
    """The view with its head at a height."""
    head = block(number, base_fee=view.head.base_fee)
    return replace(view, head=head, final_block=number - 4, **changes)


def acts(actions: list[Action]) -> list[Action]:
    """What reaches outside: neither notices nor savings."""
    return [action for action in actions if not isinstance(action, Tell | Save)]


def told(actions: list[Action]) -> list[object]:
    return [action.notice for action in actions if isinstance(action, Tell)]


def stages(actions: list[Action]) -> list[Stage]:
    return [notice.stage for notice in told(actions) if isinstance(notice, StageChanged)]


MARKET = Fees(3 * GWEI, GWEI)


def version(name: int, fees: Fees = MARKET, cancel: bool = False) -> Version:
    return Version(tx(name), CANCEL_GAS if cancel else GAS, fees, cancel)


def built() -> Poster:
    found = new_poster()
    assert acts(found.step(CERTIFIED, 0)) == [Simulate(1)]
    return found


def simulated() -> Poster:
    found = built()
    assert acts(found.step(Simulated(1, GAS), 0)) == [
        Sign(1, 5, GAS, Fees(3 * GWEI, GWEI), cancel=False)
    ]
    return found


def signed() -> Poster:
    found = simulated()
    assert acts(found.step(Signed(1, 5, version(1)), 0)) == [Send(1, 5, version(1))]
    return found


def sent() -> Poster:
    found = signed()
    actions = found.step(Answered(tx(1), SendAnswer(SendOutcome.ACCEPTED)), 0)
    assert stages(actions) == [Stage.SENT]
    return found


MINED = at(
    CERTIFIED, 101, next_number=2, nonce=6, receipts={tx(1): receipt(1, 101)},
    accepted=(accepted(1, 101, by=1),),
)  # fmt: skip


def mined() -> Poster:
    found = sent()
    assert stages(found.step(MINED, 0)) == [Stage.MINED]
    return found


# certified: whose turn it is


def test_nothing_certified_nothing_done() -> None:
    found = new_poster()
    assert acts(found.step(VIEW, 0)) == []
    assert found.stage() is None


@pytest.mark.parametrize("place", range(SIZE))
def test_rank_k_starts_k_takeovers_after_it_first_held_the_certificate(place: int) -> None:
    found = new_poster(place)
    found.step(VIEW, 0)
    turn = 101 + 3 * place
    for height in range(101, turn):
        assert acts(found.step(at(CERTIFIED, height), 0)) == []
        assert found.stage() == (1, Stage.CERTIFIED)
    assert acts(found.step(at(CERTIFIED, turn), 0)) == [Simulate(1)]


def test_the_wait_counts_from_the_acceptance_of_the_batch_before_if_that_is_later() -> None:
    found = new_poster(1, number=2)
    found.step(replace(VIEW, certified=2), 0)
    after = replace(VIEW, certified=2, next_number=2, accepted=(accepted(1, 110),))
    assert acts(found.step(at(after, 112), 0)) == []
    assert acts(found.step(at(after, 113), 0)) == [Simulate(2)]


def test_a_certificate_held_later_than_an_earlier_one_has_its_own_clock() -> None:
    found = new_poster(1, number=2)
    found.step(replace(VIEW, certified=1), 0)
    found.step(at(VIEW, 104, certified=2), 0)
    after = replace(VIEW, certified=3, next_number=2)
    assert acts(found.step(at(after, 106), 0)) == []
    assert acts(found.step(at(after, 107), 0)) == [Simulate(2)]


def test_a_takeover_shorter_than_three_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        PosterSettings(takeover_blocks=2)


# built: the simulation


def test_built_without_an_answer_asks_again_after_the_time_out() -> None:
    found = built()
    assert acts(found.step(at(CERTIFIED, 101), 999)) == []
    assert acts(found.step(at(CERTIFIED, 101), 1_000)) == [Simulate(1)]


def test_already_posted_in_the_pending_state_is_success_of_somebody_else() -> None:
    found = built()
    actions = found.step(SimulationFailed(1, "AlreadyPosted"), 0)
    assert stages(actions) == [Stage.TAKEN_OVER]
    assert not [notice for notice in told(actions) if isinstance(notice, Alarm)]
    assert acts(found.step(CERTIFIED, 0)) == []
    assert acts(found.step(at(CERTIFIED, 101), 0)) == [Simulate(1)]


@pytest.mark.parametrize("event", [SimulationFailed(1, "NotNext"), NoVerdict(1, "no answer")])
def test_no_verdict_or_a_view_behind_is_tried_again_with_the_next_block(event) -> None:
    found = built()
    actions = found.step(event, 0)
    assert stages(actions) == [Stage.ABANDONED]
    assert acts(found.step(CERTIFIED, 0)) == []
    assert acts(found.step(at(CERTIFIED, 101), 0)) == [Simulate(1)]


def test_any_other_refusal_alarms_once_and_leaves_time_to_the_others() -> None:
    found = built()
    first = told(found.step(SimulationFailed(1, "WrongParent"), 0))
    assert Alarm("post", "batch 1 would be refused: WrongParent") in first
    assert acts(found.step(at(CERTIFIED, 102), 0)) == []
    assert acts(found.step(at(CERTIFIED, 103), 0)) == [Simulate(1)]
    again = told(found.step(SimulationFailed(1, "WrongParent"), 0))
    assert not [notice for notice in again if isinstance(notice, Alarm)]
    over = told(found.step(at(CERTIFIED, 104, next_number=2), 0))
    assert AlarmCleared("post") in over


def test_an_l1_too_expensive_is_an_alarm_and_over_when_it_is_cheap() -> None:
    found = new_poster()
    dear = replace(CERTIFIED, head=block(100, base_fee=99 * GWEI + 1))
    found.step(dear, 0)
    actions = found.step(Simulated(1, GAS), 0)
    assert acts(actions) == []
    (alarm,) = [notice for notice in told(actions) if isinstance(notice, Alarm)]
    assert alarm.topic == "fees"
    found.step(at(CERTIFIED, 103), 0)
    assert AlarmCleared("fees") in told(found.step(Simulated(1, GAS), 0))


def test_the_fee_at_the_limit_is_still_paid() -> None:
    found = new_poster()
    found.step(replace(CERTIFIED, head=block(100, base_fee=99 * GWEI)), 0)
    assert acts(found.step(Simulated(1, GAS), 0)) == [
        Sign(1, 5, GAS, Fees(100 * GWEI, GWEI), cancel=False)
    ]


@pytest.mark.parametrize(
    ("balance", "enough"), [(GAS * 3 * GWEI - 1, False), (GAS * 3 * GWEI, True)]
)
def test_an_account_that_cannot_pay_is_an_alarm(balance: int, enough: bool) -> None:
    found = new_poster()
    found.step(replace(CERTIFIED, balance=balance), 0)
    actions = found.step(Simulated(1, GAS), 0)
    topics = [notice.topic for notice in told(actions) if isinstance(notice, Alarm)]
    assert (acts(actions) != [], topics) == (enough, [] if enough else ["funds"])


def test_a_batch_accepted_from_another_while_we_simulate_ends_the_attempt() -> None:
    found = built()
    assert stages(found.step(at(CERTIFIED, 101, next_number=2), 0)) == [Stage.TAKEN_OVER]
    assert acts(found.step(Simulated(1, GAS), 0)) == []


def test_an_l1_that_goes_back_behind_our_batch_ends_the_attempt() -> None:
    found = new_poster(0, number=2)
    found.step(replace(VIEW, certified=2, next_number=2), 0)
    assert Stage.ABANDONED in stages(found.step(at(VIEW, 101, certified=2), 0))


# simulated, signed


def test_simulated_without_a_signature_starts_over_after_the_time_out() -> None:
    found = simulated()
    assert acts(found.step(CERTIFIED, 999)) == []
    assert acts(found.step(CERTIFIED, 1_000)) == [Simulate(1)]


def test_a_signature_that_cannot_be_made_ends_the_attempt() -> None:
    found = simulated()
    assert stages(found.step(NoVerdict(1, "not held"), 0)) == [Stage.ABANDONED]


def test_it_is_saved_before_it_is_sent() -> None:
    found = simulated()
    actions = found.step(Signed(1, 5, version(1)), 0)
    assert isinstance(actions[0], Save)
    assert decode_state(actions[0].state) == [Flight(1, 5, [version(1)])]
    assert stages(actions) == [Stage.SIGNED]
    assert acts(actions) == [Send(1, 5, version(1))]


def test_a_late_signature_of_an_attempt_that_ended_is_not_sent() -> None:
    found = simulated()
    found.step(at(CERTIFIED, 101, next_number=2), 0)
    assert acts(found.step(Signed(1, 5, version(1)), 0)) == []


def test_signed_without_an_answer_is_sent_again_after_the_time_out() -> None:
    found = signed()
    assert acts(found.step(CERTIFIED, 999)) == []
    assert acts(found.step(CERTIFIED, 1_000)) == [Send(1, 5, version(1))]
    assert acts(found.step(CERTIFIED, 1_999)) == []


@pytest.mark.parametrize(
    ("outcome", "stage", "alarms"),
    [
        (SendOutcome.ACCEPTED, [Stage.SENT], []),
        (SendOutcome.KNOWN, [Stage.SENT], []),
        (SendOutcome.NONCE_TOO_LOW, [Stage.SENT], []),
        (SendOutcome.UNDERPRICED, [Stage.SENT], []),
        (SendOutcome.UNREACHABLE, [], []),
        (SendOutcome.INSUFFICIENT_FUNDS, [Stage.ABANDONED], ["post"]),
        (SendOutcome.REJECTED, [Stage.ABANDONED], ["post"]),
    ],
)
def test_every_answer_to_the_first_sending(outcome, stage, alarms) -> None:
    found = signed()
    actions = found.step(Answered(tx(1), SendAnswer(outcome, "why")), 0)
    assert stages(actions) == stage
    assert [notice.topic for notice in told(actions) if isinstance(notice, Alarm)] == alarms
    still_flying = stage != [Stage.ABANDONED]
    assert found.watched() == ([tx(1)] if still_flying else [])


def test_unreachable_is_sent_again_with_the_next_block() -> None:
    found = signed()
    found.step(Answered(tx(1), SendAnswer(SendOutcome.UNREACHABLE)), 0)
    assert acts(found.step(at(CERTIFIED, 101), 1)) == [Send(1, 5, version(1))]


def test_a_nonce_used_by_a_forgotten_transaction_is_outbid_with_the_next_block() -> None:
    found = signed()
    found.step(Answered(tx(1), SendAnswer(SendOutcome.UNDERPRICED)), 0)
    (action,) = acts(found.step(at(CERTIFIED, 101), 1))
    assert isinstance(action, Sign)
    assert action.fees.max_fee * 10 >= 3 * GWEI * 11


def test_answers_about_unknown_transactions_are_ignored() -> None:
    assert sent().step(Answered(tx(77), SendAnswer(SendOutcome.REJECTED)), 0) == []


# sent


def test_it_is_sent_again_with_each_block_and_bumped_every_third() -> None:
    found = sent()
    assert acts(found.step(CERTIFIED, 1)) == []
    assert acts(found.step(at(CERTIFIED, 101), 2)) == [Send(1, 5, version(1))]
    assert acts(found.step(at(CERTIFIED, 102), 3)) == [Send(1, 5, version(1))]
    dearer = Fees(3_375_000_000, 1_125_000_000)
    assert acts(found.step(at(CERTIFIED, 103), 4)) == [Sign(1, 5, GAS, dearer, cancel=False)]
    actions = found.step(Signed(1, 5, version(2, dearer)), 4)
    assert isinstance(actions[0], Save)
    assert acts(actions) == [Send(1, 5, version(2, dearer))]
    assert acts(found.step(at(CERTIFIED, 104), 5)) == [Send(1, 5, version(2, dearer))]
    assert found.watched() == [tx(1), tx(2)]


def test_both_fees_rise_to_the_market_if_that_is_more() -> None:
    found = sent()
    spike = replace(at(CERTIFIED, 103), head=block(103, base_fee=20 * GWEI), tip=3 * GWEI)
    assert acts(found.step(spike, 1)) == [Sign(1, 5, GAS, Fees(43 * GWEI, 3 * GWEI), cancel=False)]


def test_at_the_fee_limit_the_old_one_is_sent_again() -> None:
    found = simulated()
    near = version(1, Fees(90 * GWEI, GWEI))
    found.step(Signed(1, 5, near), 0)
    assert acts(found.step(at(CERTIFIED, 103), 1)) == [Send(1, 5, near)]


def test_the_number_of_versions_is_bounded() -> None:
    found = simulated()
    found.step(Signed(1, 5, version(1)), 0)
    height = 100
    for name in range(2, 40):
        height += 3
        (action,) = acts(found.step(at(CERTIFIED, height), height))
        if isinstance(action, Send):
            break
        assert isinstance(action, Sign)
        found.step(Signed(1, 5, version(name, Fees(3 * GWEI + name, GWEI))), height)
    assert len(found.watched()) == MAX_VERSIONS


def test_a_bump_that_the_pool_refuses_falls_back_to_the_old_one() -> None:
    found = sent()
    found.step(at(CERTIFIED, 103), 1)
    dearer = version(2, Fees(4 * GWEI, 2 * GWEI))
    found.step(Signed(1, 5, dearer), 1)
    refused = SendAnswer(SendOutcome.UNDERPRICED)
    assert acts(found.step(Answered(tx(2), refused), 1)) == [Send(1, 5, version(1))]
    assert acts(found.step(Answered(tx(1), SendAnswer(SendOutcome.KNOWN)), 1)) == []


def test_a_refused_bump_does_not_end_the_attempt() -> None:
    found = sent()
    found.step(at(CERTIFIED, 103), 1)
    found.step(Signed(1, 5, version(2, Fees(4 * GWEI, 2 * GWEI))), 1)
    actions = found.step(Answered(tx(2), SendAnswer(SendOutcome.INSUFFICIENT_FUNDS, "poor")), 1)
    assert stages(actions) == []
    assert found.watched() == [tx(1), tx(2)]


def test_any_version_that_is_mined_counts() -> None:
    found = sent()
    found.step(at(CERTIFIED, 103), 1)
    found.step(Signed(1, 5, version(2)), 1)
    view = at(MINED, 104, receipts={tx(1): receipt(1, 104)})
    assert stages(found.step(view, 2)) == [Stage.MINED]


def test_a_nonce_used_by_something_unknown_ends_the_attempt() -> None:
    found = sent()
    actions = found.step(at(CERTIFIED, 101, nonce=6), 1)
    assert stages(actions)[0] is Stage.REPLACED
    assert found.watched() == []


# mined, final, reorganised


def test_mined_then_final() -> None:
    found = mined()
    later = at(MINED, 104)
    assert acts(found.step(later, 1)) == []
    actions = found.step(at(MINED, 106, final_next=2), 2)
    assert stages(actions) == [Stage.FINAL]
    assert isinstance(actions[0], Save)
    assert decode_state(actions[0].state) == []


def test_the_next_batch_starts_when_the_one_before_is_mined_not_earlier() -> None:
    second = member_of_rank(0, number=2)
    waiting = [Flight(1, 5, [version(1)])]
    found = Poster(SETTINGS, chain_id=CHAIN, member=second, size=SIZE, saved=encode_state(waiting))
    in_flight = replace(VIEW, certified=2, next_number=2)
    actions = acts(found.step(in_flight, 0))
    assert Simulate(2) not in actions
    done = at(MINED, 101, certified=2)
    assert acts(found.step(done, 1)) == [Simulate(2)]


def test_after_a_reorg_the_same_transaction_is_sent_first() -> None:
    found = mined()
    actions = found.step(at(CERTIFIED, 102), 1)
    assert stages(actions) == [Stage.SENT]
    assert acts(actions) == [Send(1, 5, version(1))]


def test_a_reorg_takes_out_several_and_all_are_sent_in_order_of_their_nonces() -> None:
    flights = [Flight(1, 5, [version(1)]), Flight(2, 6, [version(2)])]
    found = Poster(SETTINGS, chain_id=CHAIN, member=0, size=SIZE, saved=encode_state(flights))
    both = {tx(1): receipt(1, 100), tx(2): receipt(2, 101)}
    found.step(at(VIEW, 101, certified=3, next_number=3, nonce=7, receipts=both), 0)
    actions = found.step(at(VIEW, 102, certified=3), 1)
    assert acts(actions) == [Send(1, 5, version(1)), Send(2, 6, version(2))]


def test_saved_transactions_are_sent_again_after_a_restart() -> None:
    found = new_poster(3, saved=encode_state([Flight(1, 5, [version(1), version(2)])]))
    assert found.watched() == [tx(1), tx(2)]
    actions = found.step(CERTIFIED, 0)
    assert acts(actions) == [Send(1, 5, version(2))]
    assert stages(actions) == []


@pytest.mark.parametrize(
    "saved", [b"", b"{", b"[]", b'{"format":2}', b"\xff" * 99, b'{"format":1}']
)
def test_a_damaged_file_is_no_obstacle(saved: bytes) -> None:
    found = new_poster(saved=saved)
    assert acts(found.step(CERTIFIED, 0)) == [Simulate(1)]


def test_own_batches_without_finality_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poster, "MAX_ATTEMPTS", 1)
    found = Poster(
        SETTINGS,
        chain_id=CHAIN,
        member=member_of_rank(0, number=2),
        size=SIZE,
        saved=encode_state([Flight(1, 5, [version(1)])]),
    )
    actions = found.step(at(MINED, 101, certified=2), 0)
    assert acts(actions) == []
    assert "backlog" in [notice.topic for notice in told(actions) if isinstance(notice, Alarm)]


# taken over, reverted


def test_an_overtaken_transaction_in_flight_is_cancelled() -> None:
    found = sent()
    overtaken = at(CERTIFIED, 101, next_number=2)
    (action,) = acts(found.step(overtaken, 1))
    assert isinstance(action, Sign)
    assert (action.cancel, action.gas, action.nonce) == (True, CANCEL_GAS, 5)
    assert action.fees.max_fee * 10 >= 3 * GWEI * 11
    assert action.fees.tip * 10 >= GWEI * 11
    empty = version(2, action.fees, cancel=True)
    assert acts(found.step(Signed(1, 5, empty), 1)) == [Send(1, 5, empty)]
    over = at(overtaken, 102, nonce=6, receipts={tx(2): receipt(2, 102)})
    assert stages(found.step(over, 2)) == [Stage.TAKEN_OVER]


def test_a_late_duplicate_that_was_mined_is_a_takeover() -> None:
    found = sent()
    failed = {tx(1): receipt(1, 101, succeeded=False)}
    actions = found.step(at(CERTIFIED, 101, next_number=2, nonce=6, receipts=failed), 1)
    assert stages(actions) == [Stage.TAKEN_OVER]
    assert not [notice for notice in told(actions) if isinstance(notice, Alarm)]


def test_a_revert_for_another_reason_alarms_when_it_happens_again() -> None:
    found = sent()
    failed = at(CERTIFIED, 101, nonce=6, receipts={tx(1): receipt(1, 101, succeeded=False)})
    actions = found.step(failed, 1)
    assert stages(actions) == [Stage.REVERTED]
    assert not [notice for notice in told(actions) if isinstance(notice, Alarm)]
    assert acts(found.step(at(CERTIFIED, 102, nonce=6), 2)) == [Simulate(1)]
    found.step(Simulated(1, GAS), 2)
    found.step(Signed(1, 6, version(2)), 2)
    again = at(CERTIFIED, 103, nonce=7, receipts={tx(2): receipt(2, 103, succeeded=False)})
    actions = found.step(again, 3)
    assert stages(actions) == [Stage.REVERTED]
    assert "post" in [notice.topic for notice in told(actions) if isinstance(notice, Alarm)]
    assert acts(found.step(at(CERTIFIED, 105, nonce=7), 4)) == []
    assert acts(found.step(at(CERTIFIED, 106, nonce=7), 5)) == [Simulate(1)]


# progress of all batches


def test_posted_is_told_at_the_confirmations_and_final_when_final() -> None:
    found = new_poster(3)
    one = at(VIEW, 101, next_number=2, accepted=(accepted(1, 101),))
    assert told(found.step(one, 0)) == [Unposted(1)], "at the first look: nothing is posted"
    two = told(found.step(at(one, 102), 0))
    assert two == [Posted(1, tx(99), 101, block(101).block_hash)]
    assert told(found.step(at(one, 103), 0)) == []
    assert told(found.step(at(one, 105, final_next=2), 0)) == [Final(1)]
    assert told(found.step(at(one, 106, final_next=2, accepted=()), 0)) == []


def test_what_became_final_between_two_views_is_still_told_as_posted_first() -> None:
    found = new_poster(3)
    found.step(VIEW, 0)
    assert found.window_start == 96
    later = at(VIEW, 120, next_number=2, final_next=2, accepted=(accepted(1, 110),))
    notices = told(found.step(later, 0))
    assert [type(notice) for notice in notices] == [Posted, Final]


def test_a_deep_reorg_takes_posted_back_and_a_new_place_is_told() -> None:
    found = new_poster(3)
    both = (accepted(1, 100), accepted(2, 101))
    found.step(at(VIEW, 102, next_number=3, accepted=both), 0)
    moved = at(VIEW, 103, next_number=3, accepted=(accepted(1, 100), accepted(2, 102, fork=1)))
    notices = told(found.step(moved, 0))
    assert notices == [Unposted(2), Posted(2, tx(99), 102, block(102, 1).block_hash)]
    gone = told(found.step(at(VIEW, 104, next_number=1, accepted=()), 0))
    assert gone == [Unposted(1)]


# an L1 that does not move


def test_a_head_that_stands_still_is_an_alarm_once_and_over_when_it_moves() -> None:
    found = new_poster(3)
    found.step(VIEW, 1_000)
    assert told(found.step(VIEW, 60_999)) == []
    (alarm,) = told(found.step(VIEW, 61_000))
    assert isinstance(alarm, Alarm)
    assert alarm.text == "the L1 head stands at block 100 for 60 s"
    assert told(found.step(VIEW, 62_000)) == []
    assert told(found.step(at(VIEW, 101), 63_000)) == [AlarmCleared("head")]


def test_finality_that_stands_still_is_an_alarm() -> None:
    found = new_poster(3)
    found.step(VIEW, 0)
    stuck = replace(VIEW, head=block(149))
    assert told(found.step(stuck, 1)) == []
    (alarm,) = told(found.step(replace(VIEW, head=block(150)), 2))
    assert isinstance(alarm, Alarm)
    assert alarm.topic == "finality"
    assert told(found.step(at(VIEW, 151), 3)) == [AlarmCleared("finality")]


def test_an_l1_that_cannot_be_read_is_one_alarm_however_it_fails() -> None:
    found = new_poster(3)
    (alarm,) = told(found.step(Unreachable("refused"), 0))
    assert alarm == Alarm("l1", "the L1 cannot be read: refused")
    assert told(found.step(Unreachable("time-out"), 1)) == []
    assert told(found.step(VIEW, 2)) == [AlarmCleared("l1"), Unposted(1)]
