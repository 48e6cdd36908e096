"""The pool seals, holds, shares fairly, fetches, and stays within every bound."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from time import perf_counter

import pytest

from consensus.errors import InvalidMessage
from consensus.rules import Rules
from consensus.types import Block, genesis_qc
from sequencer.collection import Collection
from sequencer.limits import PoolLimits
from sequencer.pool import Pool, PoolFull

RULES = Rules()
LIMITS = PoolLimits(seal_ms=5)
ME = 0


def make_pool(
    me: int = 0, size: int = 4, limits: PoolLimits = LIMITS, rules: Rules = RULES
) -> Pool:
    return Pool(me, size, rules, limits)


def make_collection(name: int, size: int = 100, count: int = 1) -> Collection:
    return Collection.seal([(901, bytes([name, item]) + bytes(size - 2)) for item in range(count)])


def naming(
    digests: Iterable[bytes], author: int = 1, height: int = 1, round: int | None = None
) -> Block:
    """A block that orders these collections; its round is its height if it is not given."""
    names, at = tuple(digests), height if round is None else round
    return Block(0, at, height, bytes(32), genesis_qc(bytes(32)), None, names, b"", 0, author)


# sealing


def test_first_transaction_after_idleness_is_sealed_without_waiting() -> None:
    pool = make_pool()
    pool.submit([(901, b"first")], now=1_000)
    assert pool.deadline == 1_000
    pool.tick(1_000)
    ready = pool.take()
    assert [item.transactions() for item in ready.broadcast] == [[(901, b"first")]]
    assert ready.save == ready.broadcast
    assert ready.arrived == [ready.broadcast[0].digest]


def test_transactions_soon_after_a_seal_share_one_collection() -> None:
    pool = make_pool()
    pool.submit([(901, b"first")], now=1_000)
    pool.tick(1_000)
    pool.take()
    pool.submit([(901, b"second")], now=1_001)
    pool.submit([(901, b"third")], now=1_003)
    pool.tick(1_003)
    assert pool.take().broadcast == []
    assert pool.deadline == 1_000 + LIMITS.seal_ms
    pool.tick(1_005)
    (sealed,) = pool.take().broadcast
    assert sealed.transactions() == [(901, b"second"), (901, b"third")]
    assert pool.deadline is None


def test_a_full_collection_is_sealed_at_once_and_none_is_larger() -> None:
    pool = make_pool(limits=replace(LIMITS, seal_bytes=1_000))
    pool.submit([(901, bytes([item]) * 88) for item in range(25)], now=5)
    sealed = pool.take().broadcast
    assert [item.count for item in sealed] == [9, 9]
    assert all(len(item.data) <= 1_000 for item in sealed)
    pool.tick(100)
    assert [item.count for item in pool.take().broadcast] == [7]


def test_largest_transaction_fits_a_collection_of_its_own() -> None:
    pool = make_pool(limits=replace(LIMITS, seal_bytes=50_000))
    pool.submit([(901, b"x"), (901, bytes(RULES.max_transaction_bytes))], now=0)
    sealed = pool.take().broadcast
    assert [item.count for item in sealed] == [1, 1]
    assert Collection.decode(sealed[1].data, RULES).digest == sealed[1].digest


def test_same_transaction_again_makes_no_second_collection() -> None:
    pool = make_pool()
    for now in (0, 10, 20):
        pool.submit([(901, b"same")], now)
        pool.tick(now)
    assert len(pool.take().broadcast) == 1


def test_submit_refuses_all_or_nothing_when_full_and_takes_more_after_a_commit() -> None:
    pool = make_pool(limits=replace(LIMITS, max_pending_bytes=1_000))
    pool.submit([(901, bytes(400)), (901, bytes(401))], now=0)
    with pytest.raises(PoolFull) as refusal:
        pool.submit([(901, b"small"), (901, bytes(300))], now=0)
    assert refusal.value.retry_after_ms > 0
    pool.submit([(901, b"small")], now=0)
    pool.tick(0)
    (sealed,) = pool.take().broadcast
    assert sealed.count == 3
    pool.on_committed(naming([sealed.digest], height=1))
    pool.submit([(901, bytes(300))], now=50)


# holding


def test_peer_collection_is_held_saved_and_announced_once() -> None:
    pool, item = make_pool(), make_collection(1)
    assert not pool.has_work()
    assert pool.on_collection(1, item.data, now=0) is not None
    assert pool.on_collection(2, item.data, now=0) is None
    ready = pool.take()
    assert [saved.digest for saved in ready.save] == [item.digest]
    assert (ready.broadcast, ready.arrived) == ([], [item.digest])
    assert pool.holds(item.digest)
    assert pool.size(item.digest) == len(item.data)
    assert pool.has_work()


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\0", b"\0\0\0\1", bytes(RULES.max_collection_bytes + 1)]
)
def test_bytes_that_are_no_collection_are_the_peers_fault(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        make_pool().on_collection(1, data, now=0)


def test_peer_over_its_quota_of_bytes_is_refused_but_nobody_else() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_bytes=2_500))
    taken = [pool.on_collection(1, make_collection(n, 1_000).data, 0) for n in range(4)]
    assert [item is not None for item in taken] == [True, True, False, False]
    assert pool.on_collection(2, make_collection(9, 1_000).data, 0) is not None
    assert pool.dropped["collection over quota"] == 2


def test_peer_over_its_quota_of_numbers_is_refused() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=3))
    taken = [pool.on_collection(1, make_collection(n).data, 0) for n in range(5)]
    assert sum(item is not None for item in taken) == 3


def test_quota_is_at_most_an_equal_share_of_the_total() -> None:
    pool = make_pool(size=10, limits=replace(LIMITS, max_held_bytes=20_000))
    taken = [pool.on_collection(1, make_collection(n, 900).data, 0) for n in range(5)]
    assert sum(item is not None for item in taken) == 2


def test_commit_frees_the_quota() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=1))
    first, second = make_collection(1), make_collection(2)
    pool.on_collection(1, first.data, 0)
    assert pool.on_collection(1, second.data, 0) is None
    pool.on_committed(naming([first.digest], height=1))
    assert pool.on_collection(1, second.data, 0) is not None


def test_what_a_block_names_is_held_beyond_the_quota() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=1))
    pool.on_collection(1, make_collection(1).data, 0)
    needed, other = make_collection(2), make_collection(3)
    pool.need(naming([needed.digest], author=1), 0)
    assert pool.on_collection(1, other.data, 0) is None
    assert pool.on_collection(1, needed.data, 0) is not None


def test_what_a_block_names_is_held_however_much_there_is() -> None:
    pool = make_pool(limits=replace(LIMITS, max_held_bytes=5_000))
    items = [make_collection(n, 1_000) for n in range(20)]
    pool.need(naming([item.digest for item in items], author=1), 0)
    assert all(pool.on_collection(1, item.data, 0) for item in items)
    assert pool.on_collection(1, make_collection(99).data, 0) is None


def test_what_a_dead_block_names_goes_as_far_as_it_is_over_the_quota() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=2))
    mine, other, stuffed = make_collection(1), make_collection(2), make_collection(3)
    pool.on_collection(1, mine.data, 0)
    pool.on_collection(1, other.data, 0)
    pool.need(naming([stuffed.digest], round=7), 0)
    assert pool.on_collection(1, stuffed.data, 0) is not None
    pool.on_committed(naming([], height=1, round=7))
    assert pool.holds(stuffed.digest), "a block of its round may be the one that names it"
    pool.on_committed(naming([], height=2, round=8))
    assert not pool.holds(stuffed.digest)
    assert pool.holds(mine.digest)
    assert pool.holds(other.digest)
    assert pool.take().drop == [stuffed.digest]


def test_what_a_later_block_names_as_well_stays() -> None:
    """A vote says that it is here: it may be ordered."""
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=1))
    pool.on_collection(1, make_collection(1).data, 0)
    item = make_collection(2)
    pool.need(naming([item.digest], round=7), 0)
    pool.on_collection(1, item.data, 0)
    pool.need(naming([item.digest], round=9), 0)
    pool.on_committed(naming([], round=8))
    assert pool.holds(item.digest)
    pool.on_committed(naming([item.digest], round=9))
    pool.on_committed(naming([], round=10))
    assert pool.take().drop == []


def test_what_a_dead_block_names_stays_if_there_is_room_by_then() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=3))
    ordered, item = [make_collection(n) for n in range(3)], make_collection(3)
    for other in ordered:
        pool.on_collection(1, other.data, 0)
    pool.need(naming([item.digest], round=7), 0)
    pool.on_collection(1, item.data, 0)
    pool.on_committed(naming([other.digest for other in ordered], round=8))
    assert pool.holds(item.digest)
    assert pool.take().drop == []


def test_what_dead_and_refused_blocks_name_is_not_asked_for_any_more() -> None:
    pool = make_pool()
    dead, refused, alive = (make_collection(n).digest for n in range(3))
    refusal = naming([refused, alive], round=6)
    pool.need(naming([dead], round=5), 0)
    pool.need(refusal, 0)
    pool.need(naming([alive], round=7), 0)
    pool.on_judged((), (refusal,), 0)
    assert [pool.is_named(digest) for digest in (dead, refused, alive)] == [True, False, True]
    pool.on_committed(naming([], round=6))
    assert [pool.is_named(digest) for digest in (dead, refused, alive)] == [False, False, True]
    pool.begin_epoch(ME, 4, {})
    assert not pool.is_named(alive)


# guests


def flood(pool: Pool, first_guest: int, guests: int, size: int) -> int:
    """Each guest gives all that is taken of it and leaves; how many were taken."""
    taken = 0
    for guest in range(first_guest, first_guest + guests):
        while pool.on_collection(guest, make_numbered(guest, taken, size).data, 0) is not None:
            taken += 1
        pool.forget(guest)
    return taken


def make_numbered(guest: int, number: int, size: int) -> Collection:
    return Collection.seal([(901, guest.to_bytes(4, "big") + number.to_bytes(size - 4, "big"))])


def test_coming_back_as_another_guest_gains_nothing() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_bytes=50_000))
    taken = flood(pool, 2_000, 50, 1_000)
    assert taken == 49
    assert flood(pool, 3_000, 50, 1_000) == 0
    assert len(pool.select((), 1_000, 1 << 20)) == taken, "nothing that was taken is lost"


def test_coming_back_as_another_guest_gains_nothing_in_numbers_either() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=20))
    assert flood(pool, 2_000, 50, 100) == 20


def test_guests_that_stay_share_their_quota_too_and_one_gets_a_part() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=20))
    taken = Counter[int]()
    for number in range(10):
        for guest in (2_000, 2_001):
            item = make_numbered(guest, number, 100)
            taken[guest] += pool.on_collection(guest, item.data, 0) is not None
    assert taken == {2_000: 5, 2_001: 5}
    wide = make_pool(limits=replace(LIMITS, max_peer_bytes=1 << 20))
    size, most = 60_000, (1 << 20) // 4
    held = [wide.on_collection(2_000, make_numbered(7, n, size).data, 0) for n in range(9)]
    assert sum(item is not None for item in held) == most // size


def test_full_of_guests_collections_members_are_heard_and_blocks_can_be_voted_for() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_bytes=20_000, max_held_bytes=80_000))
    flood(pool, 2_000, 50, 1_000)
    assert pool.on_collection(1, make_collection(1, 1_000).data, 0) is not None
    named = make_numbered(4_000, 1, 1_000)
    assert pool.on_collection(4_000, named.data, 0) is None
    pool.need(naming([named.digest], author=1), 0)
    assert pool.on_collection(4_000, named.data, 0) is not None
    pool.submit([(901, b"mine")], 0)
    pool.tick(0)
    assert pool.take().broadcast


def test_a_commit_makes_room_for_guests() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=4))
    assert flood(pool, 2_000, 9, 100) == 4
    pool.on_committed(naming(pool.select((), 2, 1 << 20), height=1))
    assert flood(pool, 3_000, 9, 100) == 2


def test_what_was_recovered_fills_its_authors_quota_again() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=3))
    pool.recover([make_collection(n) for n in range(3)], 1)
    pool.recover([make_collection(10 + n) for n in range(3)])
    assert pool.on_collection(1, make_collection(20).data, 0) is None
    assert flood(pool, 2_000, 9, 100) == 0
    assert pool.on_collection(2, make_collection(21).data, 0) is not None
    assert len(pool.select((), 100, 1 << 20)) == 7


def test_my_own_that_were_recovered_are_pending_again() -> None:
    pool, mine = make_pool(me=2), make_collection(1)
    pool.recover([mine], 2)
    assert pool.pending_bytes == len(mine.data)
    assert pool.own() == (mine.digest,)


def test_Ep4_a_member_that_became_a_guest_shares_the_quota_and_loses_nothing() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=3))
    given = [make_collection(n) for n in range(3)]
    for item in given:
        pool.on_collection(3, item.data, 0)
    pool.begin_epoch(0, 3, {0: 0, 1: 1, 2: 2, 3: 2_000})
    assert flood(pool, 2_001, 3, 100) == 0
    pool.forget(2_000)
    assert set(pool.select((), 10, 1 << 20)) == {item.digest for item in given}


def test_offers_of_many_guests_displace_nothing_that_a_block_names() -> None:
    pool, named = make_pool(), make_collection(1).digest
    pool.need(naming([named], author=1), 0)
    for guest in range(2_000, 2_040):
        offered = [sha256(b"%d %d" % (guest, n)).digest() for n in range(LIMITS.max_offered)]
        pool.on_offer(guest, offered, 0)
    assert pool.is_named(named)
    pool.on_offer(2, [make_collection(2).digest], 0)
    assert pool.take().requests[-1] == (2, (make_collection(2).digest,))


def test_of_guests_that_left_nothing_is_remembered() -> None:
    def known(pool: Pool) -> int:
        return len(pool._shelf._by_author) + len(pool._allowances) + len(pool._wants._offered)

    pool = make_pool()
    for guest in range(2_000, 2_050):
        digest = make_numbered(guest, 0, 100).digest
        pool.on_offer(guest, [digest], 0)
        pool.on_collection(guest, make_numbered(guest, 0, 100).data, 0)
        pool.on_request(guest, [digest])
        pool.forget(guest)
    assert known(pool) == 2, "what is nobody's, and the allowance of all guests"


# committing


def test_committed_collection_is_gone_but_known_for_the_digest_window() -> None:
    pool = make_pool(rules=replace(RULES, digest_window_heights=3))
    item = make_collection(1)
    pool.on_collection(1, item.data, 0)
    pool.on_committed(naming([item.digest], height=1))
    assert (pool.get(item.digest), pool.has_work()) == (None, False)
    assert pool.size(item.digest) == len(item.data)
    assert pool.on_collection(2, item.data, 0) is None
    pool.on_committed(naming([], height=2))
    pool.on_committed(naming([], height=3))
    assert pool.holds(item.digest)
    pool.on_committed(naming([], height=4))
    assert not pool.holds(item.digest)


def test_orphaned_collection_stays_until_it_is_committed() -> None:
    pool, item = make_pool(), make_collection(1)
    pool.on_collection(1, item.data, 0)
    in_flight = {item.digest}
    assert pool.select(in_flight, 10, 10**6) == ()
    assert pool.has_work()
    assert pool.select(set(), 10, 10**6) == (item.digest,)


def test_recovered_collections_are_work_again_and_are_not_saved_twice() -> None:
    pool, item = make_pool(), make_collection(1)
    pool.recover([item, item])
    ready = pool.take()
    assert (ready.save, ready.broadcast) == ([], [])
    assert pool.select((), 10, 10**6) == (item.digest,)
    pool.submit([(901, bytes(100))], 0)


def test_recovered_collections_do_not_count_against_my_clients() -> None:
    pool = make_pool(limits=replace(LIMITS, max_pending_bytes=500))
    pool.recover([make_collection(1, 400)])
    pool.submit([(901, bytes(400))], 0)


# selecting


def test_select_takes_the_oldest_of_an_author_first_within_count_and_bytes() -> None:
    pool = make_pool()
    items = [make_collection(n, 100) for n in range(6)]
    for item in items:
        pool.on_collection(1, item.data, 0)
    digests = tuple(item.digest for item in items)
    assert pool.select((), 3, 10**6) == digests[:3]
    assert pool.select((), 10, 2 * len(items[0].data)) == digests[:2]
    assert pool.select({digests[0], digests[2]}, 2, 10**6) == (digests[1], digests[3])


def test_select_gives_each_author_about_the_same_bytes() -> None:
    pool = make_pool()
    flood = [make_collection(n, 1_000) for n in range(50)]
    small = [make_collection(100 + n, 250) for n in range(8)]
    for item in flood:
        pool.on_collection(1, item.data, 0)
    for item in small:
        pool.on_collection(2, item.data, 0)
    chosen = pool.select((), 100, 4_200)
    shares = Counter[int]()
    for digest in chosen:
        shares[1 if digest in {item.digest for item in flood} else 2] += pool.size(digest) or 0
    assert shares[2] == sum(len(item.data) for item in small)
    assert shares[1] <= 4_200 - shares[2]
    assert shares[1] >= 1_000


def test_one_collection_of_a_quiet_author_is_in_the_next_block_despite_a_flood() -> None:
    pool = make_pool()
    for n in range(200):
        pool.on_collection(1, make_collection(n).data, 0)
    quiet = make_collection(250)
    pool.on_collection(2, quiet.data, 0)
    assert quiet.digest in pool.select((), 2, 10**6)


def test_select_passes_over_a_collection_that_no_longer_fits() -> None:
    pool = make_pool()
    pool.on_collection(1, make_collection(1, 5_000).data, 0)
    small = make_collection(2, 100)
    pool.on_collection(2, small.data, 0)
    assert pool.select((), 10, 1_000) == (small.digest,)


# fetching


def requests_at(pool: Pool, now: int) -> list[tuple[int, tuple[bytes, ...]]]:
    pool.tick(now)
    return pool.take().requests


def test_missing_collection_is_asked_of_the_hint_then_of_the_others_in_turn() -> None:
    pool, digest = make_pool(me=1), make_collection(1).digest
    pool.need(naming([digest], author=3), 0)
    assert requests_at(pool, 0) == []
    asked, now = [], 0
    for _ in range(7):
        assert pool.deadline is not None
        assert pool.deadline > now
        now = pool.deadline
        ((peer, digests),) = requests_at(pool, now)
        assert digests == (digest,)
        asked.append(peer)
    assert asked == [3, 2, 0, 3, 2, 0, 3]


def test_waiting_for_an_answer_grows_to_its_cap_and_never_ends() -> None:
    pool = make_pool()
    pool.need(naming([make_collection(1).digest], author=ME), 0)
    gaps, now = [], 0
    for _ in range(40):
        assert pool.deadline is not None
        gaps.append(pool.deadline - now)
        now = pool.deadline
        assert requests_at(pool, now)
    assert gaps[0] == LIMITS.first_ask_ms
    assert gaps[1] == LIMITS.retry_ms
    assert gaps[-1] == LIMITS.max_retry_ms == max(gaps)


def test_collection_that_comes_by_itself_is_not_asked_for() -> None:
    pool, item = make_pool(), make_collection(1)
    pool.need(naming([item.digest], author=1), 0)
    pool.on_collection(2, item.data, now=5)
    assert pool.deadline is None
    assert requests_at(pool, 10_000) == []


def test_what_is_held_or_committed_is_not_wanted() -> None:
    pool, held, done = make_pool(), make_collection(1), make_collection(2)
    pool.on_collection(1, held.data, 0)
    pool.on_committed(naming([done.digest], height=1))
    pool.need(naming([held.digest, done.digest], author=1), 0)
    assert pool.deadline is None


def test_digests_asked_of_one_peer_share_bounded_requests() -> None:
    pool = make_pool(limits=replace(LIMITS, max_request_digests=4))
    pool.need(naming([make_collection(n).digest for n in range(10)], author=2), 0)
    assert [(peer, len(digests)) for peer, digests in requests_at(pool, 100)] == [
        (2, 4),
        (2, 4),
        (2, 2),
    ]


def test_wanted_digests_are_bounded_and_the_newest_win() -> None:
    pool = make_pool(limits=replace(LIMITS, max_wanted=3))
    digests = [make_collection(n).digest for n in range(5)]
    pool.need(naming(digests, author=2), 0)
    assert requests_at(pool, 100) == [(2, tuple(digests[2:]))]
    assert pool.dropped["wanted over limit"] == 2


def test_request_is_answered_with_what_is_held() -> None:
    pool, held = make_pool(), make_collection(1)
    pool.on_collection(1, held.data, 0)
    assert pool.on_request(2, [make_collection(2).digest, held.digest]) == [held.data]


def test_answers_to_one_peer_are_bounded_in_number_and_rate() -> None:
    limits = replace(LIMITS, max_request_digests=3, max_reply_bytes=500, reply_bytes_per_ms=1)
    pool = make_pool(limits=limits)
    items = [make_collection(n) for n in range(5)]
    for item in items:
        pool.on_collection(1, item.data, 0)
    digests = [item.digest for item in items]
    assert len(pool.on_request(2, digests)) == 3
    assert len(pool.on_request(2, digests)) == 1
    assert len(pool.on_request(3, digests)) == 3
    assert pool.on_request(2, digests) == []
    pool.tick(300)
    assert len(pool.on_request(2, digests)) == 2


def test_answers_to_all_guests_together_are_bounded_as_those_to_a_member() -> None:
    pool, item = make_pool(limits=replace(LIMITS, max_reply_bytes=500)), make_collection(1)
    pool.on_collection(1, item.data, 0)
    answered = [len(pool.on_request(guest, [item.digest])) for guest in range(1_024, 1_044)]
    assert sum(answered) == 4
    assert pool.on_request(2, [item.digest]), "and a member has its own"


# offers


def test_offer_names_what_is_not_ordered_and_not_the_leaders_own() -> None:
    pool, mine, theirs = make_pool(), make_collection(1), make_collection(2)
    pool.on_collection(2, mine.data, 0)
    pool.on_collection(3, theirs.data, 0)
    pool.offer_to(3)
    pool.offer_to(0)
    assert pool.take().offers == [(3, (mine.digest,))]
    pool.on_committed(naming([mine.digest, theirs.digest], height=1))
    pool.offer_to(3)
    assert pool.take().offers == []


def test_offered_collection_is_fetched_from_who_offered_it() -> None:
    pool, item = make_pool(), make_collection(1)
    pool.on_offer(2, [item.digest], now=0)
    assert pool.take().requests == [(2, (item.digest,))]
    assert pool.on_collection(2, item.data, now=3) is not None
    assert pool.deadline is None


def test_what_a_dead_block_named_is_fetched_from_a_guest_that_offers_it() -> None:
    pool, item = make_pool(me=0), make_collection(1)
    pool.need(naming([item.digest], author=3), 0)
    pool.tick(10_000)
    pool.take()
    pool.on_offer(2_000, [item.digest], now=10_001)
    assert pool.take().requests == [(2_000, (item.digest,))]
    pool.on_offer(2_000, [item.digest], now=10_002)
    assert pool.take().requests == []
    pool.forget(2_000)
    asked = {peer for now in range(11_000, 60_000, 500) for peer, _ in requests_at(pool, now)}
    assert asked == {1, 2, 3}


def test_offer_that_is_not_kept_is_forgotten() -> None:
    pool = make_pool()
    pool.on_offer(2, [make_collection(1).digest], now=0)
    asked, now = len(pool.take().requests), 0
    while pool.deadline is not None:
        now = pool.deadline
        asked += len(requests_at(pool, now))
    assert asked == LIMITS.offer_attempts
    assert now < 5_000


def test_offers_of_one_peer_are_bounded_and_leave_room_for_others() -> None:
    pool = make_pool(limits=replace(LIMITS, max_offered=4))
    flood = [make_collection(n).digest for n in range(10)]
    pool.on_offer(2, flood[:3], now=0)
    pool.on_offer(2, flood[3:], now=0)
    pool.on_offer(3, [make_collection(99).digest], now=0)
    asked = Counter[int]()
    for peer, digests in pool.take().requests:
        asked[peer] += len(digests)
    assert asked == {2: 4, 3: 1}


def test_offered_collection_is_still_within_the_quota_until_a_block_names_it() -> None:
    pool = make_pool(limits=replace(LIMITS, max_peer_collections=1))
    item = make_collection(1)
    pool.on_offer(2, [item.digest], now=0)
    pool.on_collection(2, make_collection(2).data, now=0)
    assert pool.on_collection(2, item.data, now=0) is None
    pool.need(naming([item.digest], author=2), 0)
    assert pool.on_collection(2, item.data, now=0) is not None


# speed


def test_submitting_is_far_faster_than_the_load_it_has_to_carry() -> None:
    pool = make_pool(limits=replace(LIMITS, max_pending_bytes=1 << 30))
    batch = [(901, n.to_bytes(4, "big") + bytes(196)) for n in range(20)]
    begun = perf_counter()
    for now in range(1_000):
        pool.submit(batch, now)
        pool.tick(now)
    assert perf_counter() - begun < 1.0


# epochs


def test_Ep4_what_is_mine_stays_mine_under_another_index() -> None:
    pool = make_pool(me=3)
    pool.submit([(901, b"mine")], now=0)
    pool.tick(0)
    pool.on_collection(1, make_collection(1).data, now=0)
    pending = pool.pending_bytes
    pool.begin_epoch(1, 4, {3: 1, 1: 0})
    assert pool.pending_bytes == pending > 0
    pool.offer_to(0)
    (offer,) = pool.take().offers
    assert len(offer[1]) == 1, "the author of the other one needs no offer of it"


def test_Ep4_a_member_that_becomes_a_follower_and_a_member_again_keeps_its_own() -> None:
    pool = make_pool(me=2)
    pool.submit([(901, b"mine")], now=0)
    pool.tick(0)
    pending = pool.pending_bytes
    pool.begin_epoch(None, 4, {0: 0, 1: 1})
    assert pool.pending_bytes == pending
    pool.submit([(901, b"more")], now=1_000)
    pool.tick(1_000)
    pending = pool.pending_bytes
    pool.begin_epoch(0, 5, {0: 1, 1: 2})
    assert pool.pending_bytes == pending
    assert pool.has_work()


def test_Ep4_what_a_departed_member_gave_can_still_be_ordered() -> None:
    pool = make_pool(me=0)
    gone, stays = make_collection(1), make_collection(2)
    pool.on_collection(3, gone.data, now=0)
    pool.on_collection(1, stays.data, now=0)
    pool.begin_epoch(0, 3, {0: 0, 1: 2})
    assert set(pool.select((), 10, 1 << 20)) == {gone.digest, stays.digest}
    pool.on_committed(naming([gone.digest, stays.digest], height=1))
    assert not pool.has_work()


def test_Ep4_what_was_wanted_is_here_by_then_or_not_needed_and_offers_lapse() -> None:
    pool = make_pool(me=0)
    pool.need(naming([make_collection(1).digest], author=3), 0)
    pool.on_offer(2, [make_collection(2).digest], now=0)
    pool.take()
    pool.begin_epoch(4, 5, {0: 4})
    for now in range(0, 30_000, 100):
        pool.tick(now)
    assert pool.take().requests == []
    named = make_collection(3).digest
    pool.add_source(2_000)
    pool.need(naming([named], author=1), 30_000)
    asked = []
    for now in range(30_000, 60_000, 100):
        pool.tick(now)
        asked += [peer for peer, digests in pool.take().requests if digests == (named,)]
    assert asked[0] == 1
    assert set(asked) == {0, 1, 2, 3, 2_000}


def test_a_guest_that_left_is_asked_no_more_and_its_collections_stay() -> None:
    pool = make_pool(me=0)
    given = make_collection(1)
    pool.add_source(2_000)
    pool.on_collection(2_000, given.data, now=0)
    pool.forget(2_000)
    pool.forget(2_000)
    pool.need(naming([make_collection(2).digest], author=ME), 0)
    asked = set()
    for now in range(0, 20_000, 100):
        pool.tick(now)
        asked |= {peer for peer, _ in pool.take().requests}
    assert asked == {1, 2, 3}
    assert pool.select((), 10, 1 << 20) == (given.digest,)


def test_a_follower_offers_its_clients_collections_and_not_what_it_fetched() -> None:
    pool = Pool(None, 4, RULES, LIMITS)
    pool.submit([(901, b"mine")], now=0)
    pool.tick(0)
    (mine,) = pool.take().broadcast
    fetched, saved = make_collection(1), make_collection(2)
    pool.need(naming([fetched.digest], author=0), 0)
    pool.on_collection(0, fetched.data, now=0)
    assert pool.own() == (mine.digest,)
    pool.recover([saved])
    assert pool.own() == (mine.digest, saved.digest)
    pool.on_committed(naming([mine.digest, saved.digest], height=1))
    assert pool.own() == ()


def test_Ep4_a_member_that_becomes_a_follower_offers_what_only_it_may_hold() -> None:
    pool = make_pool(me=0)
    given = make_collection(1)
    pool.on_collection(2, given.data, now=0)
    pool.begin_epoch(None, 3, {1: 0, 2: 1, 3: 2})
    assert pool.own() == (given.digest,)
