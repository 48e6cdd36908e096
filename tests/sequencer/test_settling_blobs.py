"""What a node tells of the blobs in which batches were posted, whoever posted them."""

from dataclasses import replace

from sequencer.settlement.poster_events import Posted
from tests.sequencer.test_settling import posted, settled


def test_blobs_are_counted_once_and_shown_with_their_batch() -> None:
    _, settling = settled()
    first: Posted = replace(posted(1), blobs=2)
    for notice in (first, first, posted(2), replace(posted(3), blobs=6)):
        settling.notify(notice)
    assert settling.status()["blobs_posted"] == 8
    shown = [settling.describe(number) for number in (1, 2, 3)]
    assert [found and found["l1_blobs"] for found in shown] == [2, 0, 6]


def test_a_batch_that_is_not_posted_has_no_blobs() -> None:
    _, settling = settled()
    described = settling.describe(1)
    assert described is not None
    assert described["l1_blobs"] is None
    assert settling.status()["l1_blob_base_fee"] is None
