"""Who posts, and when."""

from collections import Counter

from sequencer.settlement.schedule import first_block, posting_order, rank

CHAIN = b"\x01" * 32


def test_every_batch_has_every_member_at_exactly_one_rank() -> None:
    for number in range(1, 200):
        assert sorted(posting_order(CHAIN, number, 7)) == list(range(7))
        assert [rank(CHAIN, number, 7, m) for m in posting_order(CHAIN, number, 7)] == list(
            range(7)
        )


def test_the_order_is_pinned_so_that_versions_agree() -> None:
    assert posting_order(CHAIN, 1, 7) == [3, 5, 2, 1, 6, 4, 0]
    assert posting_order(CHAIN, 2, 4) == posting_order(CHAIN, 2, 4)


def test_chain_and_number_both_change_the_order() -> None:
    by_number = {tuple(posting_order(CHAIN, number, 10)) for number in range(1, 50)}
    by_chain = {tuple(posting_order(bytes([c]) * 32, 1, 10)) for c in range(50)}
    assert len(by_number) == 49
    assert len(by_chain) == 50


def test_work_is_spread_evenly() -> None:
    first = Counter(posting_order(CHAIN, number, 4)[0] for number in range(1, 4001))
    assert all(900 < first[member] < 1100 for member in range(4))


def test_rank_k_waits_k_takeovers() -> None:
    assert first_block(0, 100, 3) == 100
    assert first_block(3, 100, 3) == 109
