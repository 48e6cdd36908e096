"""Derivation across epochs: committees are followed, and rule only while the contract has them."""

from dataclasses import replace

import pytest

from consensus.committee import Committee
from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.client import ContractState, Handover
from sequencer.settlement.derive import derive, derive_batches
from sequencer.settlement.poster_runner import CertifiedBatch
from tests.settlement.committees import committee, quorum_of, sign
from tests.settlement.l1_fixtures import EPOCH, SIZE, Deployed
from tests.settlement.test_derive import RecordedL1, fails, fresh

NEXT_SIZE = 7


def next_committee() -> Committee:
    return committee(NEXT_SIZE, EPOCH + 1)


def ended(chain_id: bytes, following: Committee, signers: tuple[int, ...] = (0, 1, 2)) -> Handover:
    """The end of the first epoch, signed by these of its members."""
    certificate = CommitCertificate(
        epoch=EPOCH,
        round=9,
        height=8,
        block_id=b"\x08" * 32,
        next_committee=following.digest,
        signers=bitmap_of(list(signers), SIZE),
        signature=b"",
    )
    message = CommitCertificate.signed_bytes(chain_id, EPOCH, 9, 8, b"\x08" * 32, following.digest)
    signed = replace(certificate, signature=sign(message, SIZE, signers))
    return Handover(signed, following, b"\xaa" * 32, 0, bytes(32))


def of_next_epoch(deployed: Deployed, index: int) -> None:
    """The same batch, of the next epoch."""
    batch = deployed.batches[index]
    header = replace(BatchHeader.decode(batch.header), epoch=EPOCH + 1).encode()
    signers = list(range(quorum_of(NEXT_SIZE)))
    deployed.batches[index] = CertifiedBatch(
        header, bitmap_of(signers, NEXT_SIZE), sign(header, NEXT_SIZE, signers), batch.data
    )


def two_epochs() -> RecordedL1:
    """Two batches, a handover in the block of the second, two batches of the next epoch."""
    deployed = fresh()
    for _ in range(4):
        deployed.certify()
    for index in (2, 3):
        of_next_epoch(deployed, index)
    l1 = RecordedL1(deployed)
    last = l1.events[1]
    handover = ended(deployed.chain_id, next_committee())
    place = {"block_number": last.block_number, "log_index": 1}
    l1.changes.append(replace(handover, **place))
    return l1


async def test_a_log_goes_on_under_the_next_committee() -> None:
    l1 = two_epochs()
    log = await derive(l1, l1.deployed.source)
    assert log.entries == l1.deployed.entries
    assert [header.epoch for header in log.batches] == [0, 0, 1, 1]


async def test_a_batch_and_the_handover_before_it_may_share_a_block() -> None:
    l1 = two_epochs()
    block = l1.events[2].block_number
    l1.events[1] = replace(l1.events[1], block_number=block, log_index=3)
    l1.changes[0] = replace(l1.changes[0], block_number=block, log_index=4)
    l1.events[2] = replace(l1.events[2], log_index=5)
    assert (await derive(l1, l1.deployed.source)).entries == l1.deployed.entries
    l1.changes[0] = replace(l1.changes[0], log_index=2)
    await fails(l1, "batch 2 .*: epoch is 0, not 1")
    l1.changes[0] = replace(l1.changes[0], log_index=6)
    await fails(l1, "batch 3 .*: epoch is 1, not 0")


async def test_a_committee_rules_only_while_it_is_the_contracts() -> None:
    l1 = two_epochs()
    late = l1.events[3].block_number
    l1.changes[0] = replace(l1.changes[0], block_number=late)
    await fails(l1, "batch 3 .*: epoch is 1, not 0")
    l1 = two_epochs()
    l1.changes[0] = replace(l1.changes[0], block_number=l1.events[0].block_number)
    await fails(l1, "batch 2 .*: epoch is 0, not 1")


async def test_a_handover_that_the_endpoint_withholds_is_missed() -> None:
    l1 = two_epochs()
    l1.changes.clear()
    await fails(l1, "batch 3 .*: epoch is 1, not 0")
    l1 = two_epochs()
    del l1.events[2:]
    l1.state = ContractState(3, l1.events[1].log_root, epoch=1)
    l1.changes.clear()
    await fails(l1, "epoch 0, but the contract .* in epoch 1: the L1 endpoint withholds")


@pytest.mark.parametrize(
    ("handover", "message"),
    [
        (ended(b"\xc7" * 32, next_committee(), (0, 1)), "weight 2, a quorum is 3"),
        (ended(b"\xc8" * 32, next_committee()), "a bad signature"),
        (ended(b"\xc7" * 32, committee(NEXT_SIZE, EPOCH + 2)), "it follows epoch 0"),
        (
            replace(ended(b"\xc7" * 32, committee(3, 1)), committee=next_committee()),
            "its members are not those that were certified",
        ),
    ],
)
async def test_a_handover_that_the_committee_did_not_certify_is_refused(handover, message) -> None:
    l1 = two_epochs()
    place = {"block_number": l1.events[1].block_number, "log_index": 1}
    l1.changes[0] = replace(handover, **place)
    await fails(l1, f"handover to epoch . .*: .*{message}")


async def test_the_old_committee_cannot_sign_for_the_new_one() -> None:
    l1 = two_epochs()
    deployed = l1.deployed
    header = deployed.batches[2].header
    forged = CertifiedBatch(
        header, bitmap_of([0, 1, 2], SIZE), sign(header, SIZE, [0, 1, 2]), deployed.batches[2].data
    )
    deployed.batches[2] = forged
    again = RecordedL1(deployed, changes=l1.changes)
    await fails(again, "batch 3 .*: signers of weight 3, 5 is needed")


async def test_every_batch_says_where_to_go_on() -> None:
    l1 = two_epochs()
    source = l1.deployed.source
    batches = [batch async for batch in derive_batches(l1, source)]
    for index, batch in enumerate(batches):
        rest = [b async for b in derive_batches(l1, source, start=batch.checkpoint)]
        assert rest == batches[index + 1 :]
        assert batch.checkpoint.committee == (next_committee() if index > 1 else source.committee)
