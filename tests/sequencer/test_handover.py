"""Asking and telling how epochs ended: who was not asked is not heard; one answer is enough."""

from collections.abc import Sequence

from consensus.epochs import EpochChange
from consensus.messages import MAX_CHANGES_PER_REPLY, EpochReply, EpochRequest
from consensus.types import MAX_MEMBERS, CommitCertificate
from sequencer.handover import Handover

GUEST = MAX_MEMBERS + 7
REPLY = EpochReply(()).encode()


class Known:
    """Stands for `Epochs`: every epoch has ended, and each question is counted."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def changes(self, from_epoch: int, limit: int) -> list[EpochChange]:
        self.asked.append(from_epoch)
        return [object()] * limit  # type: ignore[list-item]

    def hear(self, changes: Sequence[EpochChange]) -> CommitCertificate | None:
        return None

    @property
    def committee(self) -> "Known":
        return self

    epoch = 3


def handover() -> tuple[Handover, Known]:
    known = Known()
    return Handover(known, 1_000), known  # type: ignore[arg-type]


def test_a_guest_is_heard_once_for_each_time_that_it_was_asked() -> None:
    mine, _ = handover()
    assert mine.is_unasked(GUEST, REPLY)
    mine.wait(True, [GUEST], 0)
    mine.wait(True, [GUEST], 500)
    assert mine.take() == [(GUEST, EpochRequest(3))]
    assert not mine.is_unasked(GUEST, REPLY)
    mine.on_reply(GUEST, EpochReply(()))
    assert mine.is_unasked(GUEST, REPLY)
    assert not mine.is_unasked(2, REPLY), "a member tells who speaks in an older epoch"
    assert not mine.is_unasked(GUEST, EpochRequest(3).encode())


def test_a_guest_that_left_is_not_waited_for() -> None:
    mine, _ = handover()
    mine.wait(True, [GUEST], 0)
    mine.wait(True, [GUEST], 500)
    mine.forget(GUEST)
    assert mine.is_unasked(GUEST, REPLY)


def test_who_asks_for_one_epoch_after_the_other_is_told_once_for_as_many_as_it_was_told() -> None:
    mine, known = handover()
    for epoch in range(3 * MAX_CHANGES_PER_REPLY):
        mine.on_request(GUEST, EpochRequest(epoch), now=0)
    assert len(mine.take()) == 3
    assert known.asked == [0, MAX_CHANGES_PER_REPLY, 2 * MAX_CHANGES_PER_REPLY]
    mine.on_request(GUEST, EpochRequest(0), now=500)
    assert len(mine.take()) == 1
