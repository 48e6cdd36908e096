"""What a node is, and what comes next, in words."""

import pytest

from sequencer.settlement.registry import OperatorState
from sequencer.standing import NOT_REGISTERED, describe_standing, describe_sync


@pytest.mark.parametrize(
    ("me", "registered", "says"),
    [
        (2, NOT_REGISTERED, "member 2 of 4 in epoch 3"),
        (2, OperatorState("active"), "member 2 of 4 in epoch 3"),
        (None, NOT_REGISTERED, "follower in epoch 3"),
        (None, OperatorState("exited"), "follower in epoch 3"),
        (
            None,
            OperatorState("pending", active_at=101),
            "follower in epoch 3; registered, may be in a snapshot from L1 block 101 on",
        ),
        (
            None,
            OperatorState("pending", active_at=100),
            "follower in epoch 3; registered, waits for the next epoch",
        ),
        (
            None,
            OperatorState("active"),
            "follower in epoch 3; a committee on the L1 holds it, the log here is not that far",
        ),
        (
            2,
            OperatorState("leaving"),
            "member 2 of 4 in epoch 3; leaving: still needed until the next epoch is final on the "
            "L1",
        ),
        (
            2,
            OperatorState("left", exit_at=9),
            "member 2 of 4 in epoch 3; has left: the next epoch is without it",
        ),
        (
            None,
            OperatorState("left", exit_at=150),
            "follower in epoch 3; has left: may be stopped, stake back from L1 block 150 on",
        ),
    ],
)
def test_a_standing_is_a_sentence(me: int | None, registered: OperatorState, says: str) -> None:
    assert describe_standing(me, 4, 3, registered, 100) == says


def test_progress_has_a_percentage() -> None:
    assert describe_sync(1_234, 5_678) == "syncing 1234/5678 (21 %)"
    assert describe_sync(0, 0) == "syncing 0/0 (100 %)"
