"""Whom to ask for what, how often, and when to stop."""

from collections import Counter

from consensus.fetcher import Fetcher, is_long
from consensus.messages import BlockRequest, SyncRequest
from consensus.types import bitmap_of
from tests.consensus.harness import digest_of

RETRY = 500
A, B = digest_of("a"), digest_of("b")


def signers(*members: int) -> bytes:
    return bitmap_of(list(members), 4)


def asked(fetcher: Fetcher, now: int) -> list[int]:
    return [member for member, _ in fetcher.requests(now, 0)]


def test_Y2_signers_are_asked_first_then_everybody_in_turn() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.want({A: signers(0, 2)}, 0)
    assert [asked(mine, now)[0] for now in range(0, 4 * RETRY, RETRY)] == [2, 1, 3, 2]


def test_Y2_a_request_is_repeated_only_after_a_while() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.want({A: signers(1, 2, 3)}, 0)
    assert mine.deadline == 0
    assert len(asked(mine, 0)) == 1
    assert mine.deadline == RETRY
    mine.want({A: signers(1, 2, 3)}, 10)
    assert asked(mine, RETRY - 1) == []


def test_Y2_what_is_no_longer_missing_is_no_longer_asked_for() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.want({A: signers(1), B: signers(1)}, 0)
    mine.want({B: signers(1)}, 0)
    assert [request for _, request in mine.requests(0, 7)] == [BlockRequest(B, 7)]
    mine.want({}, 0)
    assert mine.deadline is None
    assert len(mine) == 0


def test_Y2_not_the_same_signer_is_asked_first_every_time() -> None:
    mine = Fetcher(4, 0, RETRY)
    first = []
    for name in range(6):
        mine.want({digest_of(name): signers(1, 2, 3)}, 0)
        first += asked(mine, 0)
    assert first == [1, 2, 3, 1, 2, 3]


def test_Y1_a_sync_replaces_single_requests() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.want({A: signers(1)}, 0)
    assert mine.start_sync(0)
    mine.want({A: signers(1)}, 0)
    assert [request for _, request in mine.requests(0, 41)] == [SyncRequest(42)]


def test_Y1_a_member_that_does_not_answer_is_passed_over() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    assert [asked(mine, now)[0] for now in range(0, 4 * RETRY, RETRY)] == [1, 2, 3, 1]


def test_Y1_everybody_is_asked_in_turn_however_good_the_answers() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    for now, member in enumerate((1, 2, 3, 1, 2, 3)):
        assert asked(mine, now) == [member]
        mine.sync_progress(member, now)


def test_Y1_whoever_is_slow_is_asked_less_and_less_and_again_when_it_is_not() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    now, turns = 0, Counter[int]()
    for _ in range(300):
        (member,) = asked(mine, now)
        turns[member] += 1
        now += RETRY - 1 if member == 1 else 5
        mine.sync_progress(member, now)
    assert 5 < turns[1] < 15
    assert turns[2] - turns[3] in range(-20, 20)
    while (member := asked(mine, now)[0]) != 1:
        mine.sync_progress(member, now)
    mine.sync_progress(1, now)
    for expected in (2, 3, 1):
        assert asked(mine, now) == [expected]
        mine.sync_progress(expected, now)


def test_Y1_a_late_answer_is_taken_and_its_author_asked_less() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    assert asked(mine, 0) == [1]
    assert asked(mine, RETRY) == [2]
    mine.sync_progress(1, RETRY + 1)
    assert asked(mine, RETRY + 1) == [3]


def test_Y1_a_server_as_slow_as_is_allowed_holds_nobody_up() -> None:
    mine, now, head, tip = Fetcher(4, 0, 5_000), 0, 0, 20_000
    mine.start_sync(0)
    while head < tip and now < 600_000:
        ((member, _),) = mine.requests(now, head)
        before = now
        now += 4_999 if member == 1 else 50
        head += 32 if member == 1 else 256
        tip += 30 * (now - before) // 1_000
        mine.sync_progress(member, now)
    assert head >= tip
    assert now < 60_000


def test_Y1_a_sync_ends_when_nobody_has_more_and_rests() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    for member in (1, 2, 3):
        assert mine.syncing
        assert asked(mine, 0) == [member]
        mine.sync_fruitless(member, 0)
    assert not mine.syncing
    assert not mine.start_sync(RETRY)
    assert mine.start_sync(4 * RETRY)


def test_Y1_only_the_member_that_was_asked_can_have_nothing() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    asked(mine, 0)
    for _ in range(10):
        mine.sync_fruitless(2, 0)
    assert mine.syncing


def test_Y1_a_paused_sync_asks_for_nothing_and_burns_no_time() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.start_sync(0)
    mine.paused = True
    assert mine.deadline is None
    assert asked(mine, 0) == []
    mine.paused = False
    assert asked(mine, 0) == [1]


def test_Y1_alone_there_is_nobody_to_ask() -> None:
    mine = Fetcher(1, 0, RETRY)
    assert not mine.start_sync(0)
    mine.want({A: bitmap_of([0], 1)}, 0)
    assert mine.requests(0, 0) == []
    assert mine.deadline is None


def test_E5_members_ahead_count_once_each() -> None:
    mine = Fetcher(4, 0, RETRY)

    def weight(members: object) -> int:
        return len(list(members))  # type: ignore[call-overload]

    assert mine.ahead(1, weight) == 1
    assert mine.ahead(1, weight) == 1
    assert mine.ahead(2, weight) == 2


def test_one_reply_bridges_256_blocks() -> None:
    assert not is_long(None, 0)
    assert not is_long(266, 10)
    assert is_long(267, 10)


def test_Ep4_who_comes_later_is_asked_too_for_what_the_others_do_not_send() -> None:
    mine = Fetcher(4, 0, RETRY)
    mine.want({A: signers(1, 2)}, 0)
    mine.add(200)
    assert {asked(mine, now)[0] for now in range(0, 4 * RETRY, RETRY)} == {1, 2, 3, 200}
    mine.remove(200)
    assert 200 not in {asked(mine, now)[0] for now in range(4 * RETRY, 8 * RETRY, RETRY)}
