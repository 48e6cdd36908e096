"""Where a node stands between following and voting, in words for its operator."""

from typing import Final

from sequencer.settlement.registry import OperatorState

NOT_REGISTERED: Final = OperatorState("none")


def describe_standing(
    me: int | None, size: int, epoch: int, registered: OperatorState, l1_block: int
) -> str:
    """What a node is in its epoch, and what the registry has in store for its operator.

    `me` is its index in the committee of `epoch`, which has `size` members; `registered` and
    `l1_block` are what the node read of the L1 last.
    """
    role = "follower" if me is None else f"member {me} of {size}"
    here = f"{role} in epoch {epoch}"
    coming = _coming(me, registered, l1_block)
    return f"{here}; {coming}" if coming else here


def _coming(me: int | None, registered: OperatorState, l1_block: int) -> str:
    match registered.status:
        case "pending" if registered.active_at > l1_block:
            return f"registered, may be in a snapshot from L1 block {registered.active_at} on"
        case "pending" if me is None:
            return "registered, waits for the next epoch"
        case "active" if me is None:
            return "a committee on the L1 holds it, the log here is not that far"
        case "leaving":
            return "leaving: still needed until the next epoch is final on the L1"
        case "left" | "exited" if me is not None:
            return "has left: the next epoch is without it"
        case "left":
            return f"has left: may be stopped, stake back from L1 block {registered.exit_at} on"
    return ""


def describe_sync(height: int, highest: int) -> str:
    """How far a log is on its way to a height that others have."""
    percent = 100 * height // highest if highest else 100
    return f"syncing {height}/{highest} ({percent} %)"
