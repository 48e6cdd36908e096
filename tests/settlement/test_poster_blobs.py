"""Postings in blobs: their fees, what replaces them, and when they are the cheaper way."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from sequencer.settlement.account import Fees
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.blobs import BLOBS, CALLDATA, EITHER, GAS_PER_BLOB, Sidecar, blobs_digest
from sequencer.settlement.kzg import BlobProver, KzgError
from sequencer.settlement.poster import CANCEL_GAS, Poster
from sequencer.settlement.poster_events import (
    Alarm,
    L1View,
    Send,
    Sign,
    Signed,
    Simulated,
)
from sequencer.settlement.poster_fees import market_fees, most, posting_gas, price, raised_fees
from sequencer.settlement.poster_runner import CertifiedBatch, PosterRunner
from sequencer.settlement.poster_state import Flight, Version, decode_state, encode_state
from testnet.l1.simulated import SimulatedAccount, SimulatedL1
from testnet.l1.simulated_client import SimulatedClient
from testnet.simulation.crypto import StubProver, stub_sidecar
from tests.settlement.l1_fixtures import MemoryPort
from tests.settlement.test_poster import CERTIFIED, GAS, GWEI, acts, at, new_poster, told, tx
from tests.settlement.test_poster_fuzz import CHAIN, CONTRACT, batch

BLOB_VIEW = replace(CERTIFIED, blob_base_fee=GWEI)
FEES = Fees(3 * GWEI, GWEI, 2 * GWEI)
DOUBLED = Fees(6 * GWEI, 2 * GWEI, 4 * GWEI)

# the machine


def simulated(view: L1View = BLOB_VIEW, blobs: int = 2) -> Poster:
    found = new_poster()
    found.step(view, 0)
    assert acts(found.step(Simulated(1, GAS, blobs), 0)) == [Sign(1, 5, GAS, FEES, False, blobs)]
    return found


def sent(blobs: int = 2) -> tuple[Poster, Version]:
    found, version = simulated(blobs=blobs), Version(tx(1), GAS, FEES, False, blobs)
    assert acts(found.step(Signed(1, 5, version), 0)) == [Send(1, 5, version)]
    return found, version


def test_a_blob_transaction_is_replaced_for_twice_all_three_fees() -> None:
    found, _ = sent()
    assert acts(found.step(at(BLOB_VIEW, 103), 1)) == [Sign(1, 5, GAS, DOUBLED, False, 2)]


def test_a_blob_fee_rises_to_the_market_if_that_is_more() -> None:
    found, _ = sent()
    spike = replace(at(BLOB_VIEW, 103), blob_base_fee=20 * GWEI)
    wanted = replace(DOUBLED, blob_fee=40 * GWEI)
    assert acts(found.step(spike, 1)) == [Sign(1, 5, GAS, wanted, False, 2)]


@pytest.mark.parametrize("fees", [Fees(51 * GWEI, 1, 1), Fees(GWEI, 1, 51 * GWEI)])
def test_twice_of_a_fee_above_the_limit_is_not_asked_for(fees: Fees) -> None:
    found = simulated()
    near = Version(tx(1), GAS, fees, False, 2)
    found.step(Signed(1, 5, near), 0)
    assert acts(found.step(at(BLOB_VIEW, 103), 1)) == [Send(1, 5, near)]


def test_an_overtaken_one_is_cancelled_by_one_empty_blob() -> None:
    found, _ = sent()
    overtaken = replace(at(BLOB_VIEW, 101), next_number=2)
    assert acts(found.step(overtaken, 1)) == [Sign(1, 5, CANCEL_GAS, DOUBLED, True, 1)]


def test_calldata_is_cancelled_without_blobs() -> None:
    found, version = new_poster(), Version(tx(1), GAS, Fees(3 * GWEI, GWEI))
    found.step(BLOB_VIEW, 0)
    found.step(Simulated(1, GAS), 0)
    found.step(Signed(1, 5, version), 0)
    (action,) = acts(found.step(replace(at(BLOB_VIEW, 101), next_number=2), 1))
    assert isinstance(action, Sign)
    assert (action.cancel, action.blobs, action.fees.blob_fee) == (True, 0, 0)


def test_blobs_above_the_limit_wait_with_an_alarm_that_names_their_fee() -> None:
    found = new_poster()
    found.step(replace(BLOB_VIEW, blob_base_fee=101 * GWEI), 0)
    actions = found.step(Simulated(1, GAS, 1), 0)
    assert acts(actions) == []
    (alarm,) = [notice for notice in told(actions) if isinstance(notice, Alarm)]
    assert f"for blobs {101 * GWEI} wei" in alarm.text


def test_the_wallet_has_to_hold_what_blobs_cost_as_well() -> None:
    cost = GAS * FEES.max_fee + 2 * GAS_PER_BLOB * FEES.blob_fee
    found = new_poster()
    found.step(replace(BLOB_VIEW, balance=cost - 1), 0)
    actions = found.step(Simulated(1, GAS, 2), 0)
    assert acts(actions) == []
    assert any(isinstance(notice, Alarm) and notice.topic == "funds" for notice in told(actions))
    simulated(replace(BLOB_VIEW, balance=cost))


def test_blobs_in_flight_survive_a_restart() -> None:
    flights = [
        Flight(3, 9, [Version(tx(1), GAS, FEES, False, 2), Version(tx(2), 1, FEES, True, 1)])
    ]
    assert decode_state(encode_state(flights)) == flights


# fees


def test_a_market_without_blobs_asks_for_no_blob_fee() -> None:
    assert market_fees(BLOB_VIEW, 100 * GWEI) == Fees(3 * GWEI, GWEI)
    assert market_fees(BLOB_VIEW, 100 * GWEI, 1) == FEES
    free = replace(BLOB_VIEW, blob_base_fee=0)
    assert market_fees(free, 100 * GWEI, 1) == Fees(3 * GWEI, GWEI, 1), "never zero with blobs"
    assert market_fees(BLOB_VIEW, GWEI // 2, 1) is None


def test_the_next_level_is_an_eighth_more_or_twice_with_blobs() -> None:
    assert raised_fees(Fees(80, 8), None, 100) == Fees(90, 9)
    assert raised_fees(Fees(40, 8, 1), None, 100) == Fees(80, 16, 2)
    assert raised_fees(Fees(40, 8, 51), None, 100) is None
    assert raised_fees(Fees(51, 8, 1), None, 100) is None


def test_the_price_is_gas_and_blob_gas() -> None:
    calldata, per_gas = bytes(1_000), 2 * GWEI
    assert price(BLOB_VIEW, calldata, 3) - price(BLOB_VIEW, calldata) == 3 * GAS_PER_BLOB * GWEI
    more = price(BLOB_VIEW, b"\x01" * 1_000) - price(BLOB_VIEW, calldata)
    assert more == 12 * 1_000 * per_gas
    assert posting_gas(calldata) > price(BLOB_VIEW, calldata) // per_gas
    assert most(FEES, 10, 2) == 10 * FEES.max_fee + 2 * GAS_PER_BLOB * FEES.blob_fee


# the shell


class CountingProver(StubProver):
    """Counts proofs, or fails."""

    proofs = 0
    broken = False

    async def sidecar(self, data: bytes, cells: bool) -> Sidecar:
        if self.broken:
            raise KzgError("no KZG today")
        self.proofs += 1
        return await super().sidecar(data, cells)


def with_blobs(plain: CertifiedBatch) -> CertifiedBatch:
    digest = blobs_digest(stub_sidecar(plain.data, True).versioned_hashes)
    header = replace(BatchHeader.decode(plain.header), blob_hashes=digest)
    return replace(plain, header=header.encode())


def posting(
    data: str, prover: BlobProver | None = None, port: MemoryPort | None = None
) -> tuple[SimulatedL1, PosterRunner]:
    l1 = SimulatedL1(Random(1), CONTRACT)
    runner = PosterRunner(
        SimulatedClient(l1, Random(2)),
        port or MemoryPort([with_blobs(batch(1))]),
        SimulatedAccount(l1, b"\x01" * 20),
        CONTRACT,
        chain_id=CHAIN,
        committee_index=0,
        committee_size=1,
        clock_ms=lambda: 0,
        data=data,
        prover=prover,
    )
    return l1, runner


async def posted(l1: SimulatedL1, runner: PosterRunner, polls: int = 3) -> Sequence[int]:
    """In how many blobs each accepted batch is, after so many blocks."""
    for _ in range(polls):
        await runner.poll_once()
        l1.mine()
    return [found.blobs for block in l1.chain for found in block.accepted]


@pytest.mark.parametrize(
    ("data", "blob_base_fee", "blobs"),
    [(BLOBS, 1, 1), (BLOBS, 400 * GWEI, 1), (EITHER, 1, 1), (EITHER, 400 * GWEI, 0)],
)
async def test_either_is_a_matter_of_price(data: str, blob_base_fee: int, blobs: int) -> None:
    l1, runner = posting(data, StubProver())
    l1.blob_base_fee = blob_base_fee
    assert await posted(l1, runner) == [blobs]


async def test_where_the_genesis_says_calldata_nobody_asks_for_blobs() -> None:
    l1, runner = posting(CALLDATA)
    l1.blob_base_fee = 0
    assert await posted(l1, runner) == [0]


async def test_proofs_are_computed_once_however_often_fees_rise() -> None:
    prover = CountingProver()
    l1, runner = posting(BLOBS, prover)
    l1.inclusion = 0.0
    assert await posted(l1, runner, 10) == []
    assert len({transaction.fees for transaction in l1.known.values()}) > 2
    l1.inclusion = 1.0
    assert await posted(l1, runner, 2) == [1]
    assert prover.proofs == 1


async def test_without_proofs_either_goes_into_calldata_and_blobs_wait() -> None:
    prover = CountingProver()
    prover.broken = True
    l1, runner = posting(EITHER, prover)
    assert await posted(l1, runner) == [0]
    l1, runner = posting(BLOBS, prover)
    assert await posted(l1, runner) == []
    prover.broken = False
    assert await posted(l1, runner) == [1]


@pytest.mark.parametrize("data", [CALLDATA, BLOBS])
async def test_a_batch_that_got_another_header_is_posted_with_that_one(data: str) -> None:
    right = with_blobs(batch(1))
    refused = replace(BatchHeader.decode(right.header), previous_log_root=b"\x09" * 32)
    port = MemoryPort([replace(right, header=refused.encode())])
    l1, runner = posting(data, StubProver(), port)
    assert await posted(l1, runner, 2) == []
    port.batches[0] = right
    assert len(await posted(l1, runner, 8)) == 1


async def test_blobs_that_lost_their_place_to_another_member_are_cancelled() -> None:
    l1, runner = posting(BLOBS, StubProver())
    l1.inclusion = 0.0
    await posted(l1, runner, 2)
    l1.inclusion = 1.0
    other = MemoryPort([with_blobs(batch(1))])
    rival = PosterRunner(
        SimulatedClient(l1, Random(3)),
        other,
        SimulatedAccount(l1, b"\x02" * 20),
        CONTRACT,
        chain_id=CHAIN,
        committee_index=0,
        committee_size=1,
        clock_ms=lambda: 0,
    )
    l1.pool.clear()
    await rival.poll_once()
    l1.mine()
    for _ in range(3):
        await runner.poll_once()
        l1.mine()
    assert l1.wasted == []
    mine = [tx for block in l1.chain for tx, _ in block.transactions if tx.sender == b"\x01" * 20]
    assert [(found.data, len(found.blob_hashes)) for found in mine] == [(b"", 1)]
