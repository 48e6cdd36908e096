"""The poster's shell: what it asks of the L1, and what it makes of no answer."""

from dataclasses import replace
from random import Random

import pytest

from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.client import ContractState, InvalidAnswer, L1Block, L1Unreachable
from sequencer.settlement.poster_events import Alarm, AlarmCleared, Notice, Stage, StageChanged
from sequencer.settlement.poster_runner import (
    MAX_TORN_READS,
    CertifiedBatch,
    PosterRunner,
    posting_gas,
)
from testnet.l1.mempool import floor_gas
from testnet.l1.simulated import SimulatedAccount, SimulatedL1
from testnet.l1.simulated_client import SimulatedClient
from tests.settlement.l1_fixtures import MemoryPort
from tests.settlement.test_poster_fuzz import CHAIN, CONTRACT, batch


class CountingClient(SimulatedClient):
    """Counts requests, and can be told to fail or to contradict itself."""

    requests = 0
    error: Exception | None = None
    lie = False

    def _request(self) -> None:
        self.requests += 1
        super()._request()

    async def contract_state(self, block: L1Block) -> ContractState:
        if self.error is not None:
            raise self.error
        state = await super().contract_state(block)
        return replace(state, next_number=state.next_number + 1) if self.lie else state


def alone(batches: list[CertifiedBatch]) -> tuple[SimulatedL1, CountingClient, MemoryPort]:
    l1 = SimulatedL1(Random(1), CONTRACT)
    return l1, CountingClient(l1, Random(2)), MemoryPort(batches)


def runner_of(l1: SimulatedL1, client: SimulatedClient, port: MemoryPort) -> PosterRunner:
    return PosterRunner(
        client,
        port,
        SimulatedAccount(l1, b"\x01" * 20),
        CONTRACT,
        chain_id=CHAIN,
        committee_index=0,
        committee_size=1,
        clock_ms=lambda: 0,
    )


def of(kind: type, notices: list[Notice]) -> list[Notice]:
    return [notice for notice in notices if isinstance(notice, kind)]


async def test_a_head_behind_the_final_block_is_no_reading() -> None:
    l1, client, port = alone([batch(1)])
    runner = runner_of(l1, client, port)
    for _ in range(3):
        await runner.poll_once()
        l1.mine()
    for _ in range(8):
        l1.mine()
    client.faults.lag_blocks = 10
    sent = len(l1.known)
    for _ in range(MAX_TORN_READS):
        await runner.poll_once()
    assert len(l1.known) == sent
    (alarm,) = of(Alarm, port.notices)
    assert "older than its final block" in alarm.text
    client.faults.lag_blocks = 0
    await runner.poll_once()
    assert of(AlarmCleared, port.notices)


async def test_an_l1_that_does_not_move_is_asked_for_its_head_only() -> None:
    l1, client, port = alone([])
    runner = runner_of(l1, client, port)
    await runner.poll_once()
    before = client.requests
    await runner.poll_once()
    assert client.requests - before == 2
    port.batches.append(batch(1))
    await runner.poll_once()
    assert len(l1.pool) == 1
    l1.mine()
    await runner.poll_once()
    assert client.requests - before > 10


@pytest.mark.parametrize("fault", ["lie", "error"])
async def test_readings_that_contradict_themselves_are_an_error_if_it_lasts(fault: str) -> None:
    l1, client, port = alone([])
    runner = runner_of(l1, client, port)
    if fault == "lie":
        l1.mine()
        client.lie = True
        l1.head.contract = ContractState(5, bytes(32))
    else:
        client.error = InvalidAnswer("header not found")
    for _ in range(MAX_TORN_READS - 1):
        await runner.poll_once()
    assert port.notices == []
    await runner.poll_once()
    (alarm,) = port.notices
    assert isinstance(alarm, Alarm)
    assert alarm.topic == "l1"
    client.error = None
    client.lie = False
    l1.head.contract = ContractState(1, bytes(32))
    await runner.poll_once()
    assert port.notices[1] == AlarmCleared("l1")


async def test_an_unreachable_l1_is_an_alarm_at_once_and_no_exception() -> None:
    l1, client, port = alone([batch(1)])
    client.error = L1Unreachable("gone")
    runner = runner_of(l1, client, port)
    await runner.poll_once()
    assert of(Alarm, port.notices) == [Alarm("l1", "the L1 cannot be read: gone")]


async def test_a_batch_that_is_not_held_any_more_is_no_exception() -> None:
    l1, client, port = alone([batch(1)])
    port.certified = lambda number: None  # type: ignore[method-assign]
    await runner_of(l1, client, port).poll_once()
    changes = of(StageChanged, port.notices)
    assert [change.stage for change in changes] == [Stage.BUILT, Stage.ABANDONED]
    assert "not held any more" in changes[-1].why


async def test_after_a_restart_the_same_transaction_is_sent_not_another() -> None:
    l1, client, port = alone([batch(1)])
    await runner_of(l1, client, port).poll_once()
    (first,) = l1.pool.values()
    l1.lose_pool()
    await runner_of(l1, client, port).poll_once()
    assert list(l1.pool.values()) == [first]


def test_real_signatures_are_deterministic_so_that_a_hash_can_be_found_again() -> None:
    account = L1Account(b"\x11" * 32, 5)
    fields = {"nonce": 1, "to": b"\x22" * 20, "data": b"abc", "gas": 50_000, "fees": Fees(9, 1)}
    assert account.sign(**fields) == account.sign(**fields)
    assert account.sign(**fields) != account.sign(**{**fields, "fees": Fees(10, 2)})


@pytest.mark.parametrize("data", [b"", b"\x00" * 1_000, b"\xff" * 1_000, b"\xff" * 120_000])
def test_the_gas_limit_is_above_the_floor_and_leaves_room_to_run(data: bytes) -> None:
    zeros = data.count(0)
    intrinsic = 21_000 + 4 * zeros + 16 * (len(data) - zeros)
    assert posting_gas(data) >= max(floor_gas(data), intrinsic + 600_000)
    assert posting_gas(data) < 2**24  # the limit of one transaction (EIP-7825)
