"""What a node finds on its disk when it starts: where it was, and what it had promised."""

from consensus.committee import Committee
from consensus.interface import Recovered
from consensus.safety import SafetyRecord
from consensus.types import Block
from sequencer.batch_votes import Seat, SeatOf
from sequencer.batcher import Batcher
from sequencer.epochs import Epochs
from sequencer.ledger import Ledger
from sequencer.setup import Setup
from sequencer.store.seam import Store


def open_batcher(
    setup: Setup, committee: Committee, seat_of: SeatOf, store: Store, ledger: Ledger
) -> Batcher | None:
    """The batcher as it was, with the entries of the open batch; None where nothing is posted."""
    if setup.binding is None:
        return None
    seat = Seat.of(committee, setup.identity, setup.signer_for)
    batcher = Batcher(
        setup.binding,
        committee,
        seat.me,
        setup.rules,
        setup.crypto,
        seat.signer,
        store,
        seat_of,
    )
    head = ledger.head
    missing = head.next_position - batcher.open_position
    batcher.resume(ledger.entries(batcher.open_position, missing), head.log_root)
    return batcher


def recover(ledger: Ledger, epochs: Epochs, record: SafetyRecord, window: int) -> Recovered:
    """The replica's memory in its epoch; `window` is how many recent blocks it looks back on."""
    head = ledger.block(ledger.head.height)
    assert head is not None
    proof = ledger.proof_at_or_after(head.height)
    return Recovered(
        record,
        head,
        proof[1] if proof else None,
        _recent(ledger, window),
        tuple(_uncommitted(ledger, record, head.height)),
        epochs.change.root if epochs.change is not None else None,
    )


def _recent(ledger: Ledger, window: int) -> tuple[Block, ...]:
    height = ledger.head.height
    blocks = (ledger.block(at) for at in range(max(1, height - window + 1), height + 1))
    return tuple(block for block in blocks if block is not None)


def _uncommitted(ledger: Ledger, record: SafetyRecord, head_height: int) -> list[Block]:
    """The saved blocks above the head that my certificates and votes refer to."""
    found: dict[bytes, Block] = {}
    starts = [record.high_qc.block_id]
    if record.last_vote is not None:
        starts.append(record.last_vote.block_id)
    for block_id in starts:
        while block_id not in found:
            block = ledger.block_by_id(block_id)
            if block is None or block.height <= head_height:
                break
            found[block_id] = block
            block_id = block.parent_id
    return list(found.values())
