"""Settings that cannot work are told in sentences, all at once."""

import pytest

from consensus.errors import InvalidConfiguration
from consensus.rules import Rules


def test_the_defaults_hold() -> None:
    assert Rules().violations() == []
    Rules().check()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_timeout_ms": 0}, "base_timeout_ms"),
        ({"timeout_growth_percent": 99}, "timeout_growth_percent"),
        ({"free_failures": -1}, "free_failures"),
        ({"max_timeout_ms": 999}, "max_timeout_ms"),
        ({"min_block_interval_ms": 501}, "min_block_interval_ms"),
        ({"max_block_collections": 1_025}, "max_block_collections"),
        ({"max_collection_bytes": 5 * 1024 * 1024}, "max_collection_bytes"),
        ({"max_transaction_bytes": 256 * 1024}, "max_transaction_bytes"),
        ({"batch_max_bytes": 6 * 4_096 * 31 - 3}, "batch_max_bytes"),
        ({"batch_max_bytes": 1_000}, "batch_max_bytes"),
        ({"round_window": 0}, "round_window"),
        ({"digest_window_heights": 0}, "digest_window_heights"),
    ],
)
def test_each_violation_is_named(changes: dict[str, int], named: str) -> None:
    rules = Rules(**changes)
    assert any(named in sentence for sentence in rules.violations())
    with pytest.raises(InvalidConfiguration, match=named):
        rules.check()


@pytest.mark.parametrize(
    "changes",
    [
        {"timeout_growth_percent": 100},
        {"free_failures": 0},
        {"max_timeout_ms": 1_000},
        {"min_block_interval_ms": 500},
        {"max_block_collections": 1_024},
        {"batch_max_bytes": 6 * 4_096 * 31 - 4},
    ],
)
def test_the_bounds_themselves_are_allowed(changes: dict[str, int]) -> None:
    assert Rules(**changes).violations() == []


def test_every_violation_is_told_at_once() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        Rules(base_timeout_ms=0, round_window=0, batch_max_bytes=0).check()
    for name in ("base_timeout_ms", "round_window", "batch_max_bytes"):
        assert name in str(caught.value)
