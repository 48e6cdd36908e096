"""Derivation is the inverse of posting, and believes nothing that it did not check."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from consensus.types import bitmap_of
from sequencer.settlement import abi
from sequencer.settlement import derive as module
from sequencer.settlement.batch import BatchHeader, LogEntry, encode_batch, next_log_root
from sequencer.settlement.client import Accepted, ContractState, Handover, L1Block
from sequencer.settlement.derive import DerivationError, derive, derive_batches
from sequencer.settlement.poster_runner import CertifiedBatch
from testnet.l1 import L1Handle
from tests.settlement.committees import committee, sign
from tests.settlement.l1_fixtures import EPOCH, SIZE, Deployed


def fresh() -> Deployed:
    return Deployed(L1Handle("", 1, "url"), b"\xc7" * 32, b"\x0d" * 20, deploy_block=10)


@dataclass
class RecordedL1:
    """What an L1 holds: inputs and events. Answers as a truthful endpoint, unless changed."""

    deployed: Deployed
    blocks_apart: int = 3
    inputs: list[bytes] = field(default_factory=list)
    events: list[Accepted] = field(default_factory=list)
    changes: list[Handover] = field(default_factory=list)
    state: ContractState | None = None
    forked_from: int = 1 << 30

    def __post_init__(self) -> None:
        for batch in self.deployed.batches:
            self.add(batch)

    def add(self, batch: CertifiedBatch) -> None:
        header = BatchHeader.decode(batch.header)
        self.inputs.append(
            abi.post_batch_calldata(batch.header, batch.bitmap, batch.signature, batch.data)
        )
        at = 10 + self.blocks_apart * len(self.events)
        place = header.number, header.log_root, header.data_hash
        tx_hash = len(self.events).to_bytes(32, "big")
        self.events.append(Accepted(*place, tx_hash, at, self.hash_of(at)))

    async def handovers(self, first_block: int, last_block: int) -> list[Handover]:
        return [e for e in self.changes if first_block <= e.block_number <= last_block]

    async def block(self, number: int) -> L1Block:
        return L1Block(number, self.hash_of(number), 0, 0)

    def hash_of(self, number: int) -> bytes:
        return bytes([0xBB + (number >= self.forked_from)]) * 31 + bytes([number])

    async def head(self) -> L1Block:
        return L1Block(self.events[-1].block_number if self.events else 10, bytes(32), 0, 0)

    async def contract_state(self, block: L1Block) -> ContractState:
        seen = [event for event in self.events if event.block_number <= block.number]
        root = seen[-1].log_root if seen else bytes(32)
        epoch = sum(event.block_number <= block.number for event in self.changes)
        return self.state or ContractState(len(seen) + 1, root, epoch)

    async def accepted(self, first_block: int, last_block: int) -> list[Accepted]:
        return [e for e in self.events if first_block <= e.block_number <= last_block]

    async def transaction_input(self, tx_hash: bytes) -> bytes:
        return self.inputs[int.from_bytes(tx_hash, "big")]


def three_batches() -> RecordedL1:
    deployed = fresh()
    deployed.certify()
    deployed.certify(count=1, size=8)
    deployed.certify(count=20)
    return RecordedL1(deployed)


async def test_an_empty_contract_derives_to_the_empty_log() -> None:
    log = await derive(RecordedL1(fresh()), fresh().source)
    assert (log.entries, log.log_root, log.batches) == ([], bytes(32), [])


async def test_the_log_comes_back_byte_for_byte() -> None:
    l1 = three_batches()
    log = await derive(l1, l1.deployed.source)
    assert log.entries == l1.deployed.entries
    assert log.log_root == l1.deployed.root
    assert [header.encode() for header in log.batches] == [b.header for b in l1.deployed.batches]


async def test_it_streams_page_by_page_reports_progress_and_stops_where_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SPAN_BLOCKS", 2)
    l1 = three_batches()
    seen: list[tuple[int, int, int]] = []
    until = L1Block(13, bytes(32), 0, 0)
    numbers = [
        batch.header.number
        async for batch in derive_batches(
            l1, l1.deployed.source, until=until, progress=lambda *args: seen.append(args)
        )
    ]
    assert numbers == [1, 2]
    assert seen == [(1, 10, 13), (2, 13, 13), (2, 13, 13)]


async def fails(l1: RecordedL1, message: str, **changes: Any) -> None:
    with pytest.raises(DerivationError, match=message):
        await derive(l1, replace(l1.deployed.source, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chain_id": b"\xc8" * 32}, "batch 1 .*: chain id is c7c7"),
        ({"l1_chain_id": 2}, "batch 1 .*: L1 chain id is 1, not 2"),
        ({"contract": b"\x0e" * 20}, "batch 1 .*: contract is 0d0d"),
        ({"committee": committee(SIZE, 1)}, "batch 1 .*: epoch is 0, not 1"),
    ],
)
async def test_a_log_of_another_chain_is_refused(change, message) -> None:
    await fails(three_batches(), message, **change)


async def test_another_committee_is_refused() -> None:
    l1 = three_batches()
    first = committee(SIZE, EPOCH)
    others = replace(first, members=first.members[::-1])
    await fails(l1, "batch 1 .*: the committee's signature", committee=others)
    await fails(l1, "batch 1 .*: the bitmap does not fit", committee=committee(3 * SIZE, EPOCH))


async def test_too_few_signers_are_refused_even_with_a_valid_signature() -> None:
    deployed = fresh()
    batch = deployed.certify()
    few = replace(batch, bitmap=bitmap_of([0, 1], SIZE), signature=sign(batch.header, SIZE, [0, 1]))
    deployed.batches[0] = few
    await fails(RecordedL1(deployed), "signers of weight 2, 3 is needed")


async def test_signatures_count_by_weight() -> None:
    l1 = three_batches()
    heavy = committee(SIZE, EPOCH, weights=(1, 1, 1, 3))
    await fails(l1, "signers of weight 3, 5 is needed", committee=heavy)
    light = committee(SIZE, EPOCH, weights=(2, 2, 2, 1))
    log = await derive(l1, replace(l1.deployed.source, committee=light))
    assert log.entries == l1.deployed.entries


async def test_a_bitmap_with_a_member_that_did_not_sign_is_refused() -> None:
    deployed = fresh()
    deployed.batches[0] = replace(deployed.certify(), bitmap=bitmap_of([0, 1, 3], SIZE))
    await fails(RecordedL1(deployed), "the committee's signature is not valid")


async def test_a_member_beyond_the_committee_is_refused() -> None:
    deployed = fresh()
    deployed.batches[0] = replace(deployed.certify(), bitmap=b"\x17")
    await fails(RecordedL1(deployed), "the bitmap does not fit a committee of 4")


async def test_other_bytes_than_signed_are_refused() -> None:
    deployed = fresh()
    batch = deployed.certify()
    deployed.batches[0] = replace(batch, data=batch.data[:-1] + b"\xff")
    await fails(RecordedL1(deployed), "batch 1 .*: the posted bytes are not those")


async def test_a_flipped_bit_is_found_unless_it_means_nothing() -> None:
    """The contract takes any padding behind the bitmap and the data: so must derivation."""
    l1 = three_batches()
    whole = l1.inputs[1]
    data_size = len(l1.deployed.batches[1].data)
    data_end = len(whole) - -data_size % 32
    bitmap_end = data_end - data_size - 32 - 31
    padding = {*range(bitmap_end, bitmap_end + 31), *range(data_end, len(whole))}
    for place in sorted({*padding, *range(0, len(whole), 5)}):
        l1.inputs[1] = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        if place in padding:
            assert (await derive(l1, l1.deployed.source)).entries == l1.deployed.entries
        else:
            await fails(l1, "batch 2")


def signed_by_all(deployed: Deployed, header: BatchHeader, data: bytes) -> CertifiedBatch:
    encoded = header.encode()
    members = list(range(SIZE))
    signature = sign(encoded, SIZE, members)
    return CertifiedBatch(encoded, bitmap_of(members, SIZE), signature, data)


def resigned(change: Callable[[BatchHeader], BatchHeader]) -> RecordedL1:
    """A log whose second batch has another header, properly signed by a corrupt committee."""
    deployed = fresh()
    deployed.certify()
    second = deployed.certify()
    header = change(BatchHeader.decode(second.header))
    deployed.batches[1] = signed_by_all(deployed, header, second.data)
    return RecordedL1(deployed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: replace(h, number=3), "batch 2 .*: number is 3, not 2"),
        (lambda h: replace(h, previous_log_root=bytes(32)), "batch 2 .*: previous log root"),
        (
            lambda h: replace(h, first_position=4, last_position=6),
            "batch 2 .*: first position is 4, not 3",
        ),
        (lambda h: replace(h, last_position=6, entry_count=4), "3 entries, the header names 4"),
        (lambda h: replace(h, log_root=b"\x01" * 32), "its entries give log root"),
    ],
)
async def test_a_signed_header_that_does_not_fit_the_log_is_refused(change, message) -> None:
    await fails(resigned(change), message)


async def test_time_never_runs_backwards_between_batches() -> None:
    deployed = fresh()
    deployed.certify()
    second = BatchHeader.decode(deployed.certify(count=1, size=8).header)
    old = [LogEntry(0, 0, 7, b"late")]
    data = encode_batch(old)
    root = next_log_root(second.previous_log_root, old[0])
    from eth_hash.auto import keccak

    header = replace(second, log_root=root, data_hash=keccak(data))
    deployed.batches[1] = signed_by_all(deployed, header, data)
    await fails(RecordedL1(deployed), "batch 2 .*: entry 3 is older than the one before")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 4}, "batch 3 .*: number in the event is 4, not 3"),
        ({"log_root": b"\x05" * 32}, "batch 3 .*: log root in the event"),
        ({"data_hash": b"\x05" * 32}, "batch 3 .*: data hash in the event"),
    ],
)
async def test_an_event_that_contradicts_the_header_is_refused(change, message) -> None:
    l1 = three_batches()
    l1.events[2] = replace(l1.events[2], **change)
    await fails(l1, message)


async def test_an_endpoint_that_withholds_or_repeats_events_is_found_out() -> None:
    l1 = three_batches()
    l1.state = ContractState(4, l1.deployed.root)
    del l1.events[2]
    await fails(l1, "the events end with batch 2, .* expects batch 4")
    l1 = three_batches()
    del l1.events[1]
    await fails(l1, "batch 2 .*: number is 3, not 2")
    l1 = three_batches()
    l1.events.insert(1, l1.events[0])
    await fails(l1, "batch 2 .*: number is 1, not 2")


async def test_an_input_that_is_no_posting_is_refused() -> None:
    l1 = three_batches()
    l1.inputs[0] = b"\x01\x02\x03\x04" + l1.inputs[0][4:]
    await fails(l1, "batch 1 .*: its input cannot be read: not a call of post_batch")
