"""Where a node stands: between following and voting, in words, and beside the others' log."""

from typing import Final

from consensus.messages import Certificates, EpochReply, SyncReply, epoch_of
from sequencer.messages import decode_frame
from sequencer.settlement.registry import OperatorState

NOT_REGISTERED: Final = OperatorState("none")
MAX_LAG: Final = 64
"""Heights that a log in step may lack before it is out of step; a follower always lacks some."""
REJOIN_LAG: Final = 16
"""Heights that it may lack to be in step again: less, or it would flap under load."""
_ANSWERS: Final = (SyncReply.kind, EpochReply.kind)


class InStep:
    """Whether a log keeps up with that of the others."""

    def __init__(self) -> None:
        self._was = False

    def at(self, lag: int) -> bool:
        """Whether it does, with so many heights missing now."""
        self._was = lag <= (MAX_LAG if self._was else REJOIN_LAG)
        return self._was


def says_how_far(frame: bytes, epoch: int) -> bool:
    """Whether a frame that a node took in `epoch` says how far the log of its sender is.

    Certificates come with every new link; of another epoch they are not looked at.
    """
    if frame[0] == Certificates.kind:
        message = decode_frame(frame)
        return isinstance(message, Certificates) and epoch_of(message) == epoch
    return frame[0] in _ANSWERS


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
