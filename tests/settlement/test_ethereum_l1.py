"""Posting to, and deriving from, real local L1s: the embedded one, and anvil where it is."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from sequencer.settlement import abi
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.client import CallReverted, SendOutcome
from sequencer.settlement.derive import derive
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.poster_events import Final, Posted, Stage, StageChanged
from sequencer.settlement.poster_runner import PosterRunner, posting_gas
from testnet.l1 import L1Handle, find_anvil, launch_l1
from tests.settlement.l1_fixtures import SIZE, Deployed, MemoryPort

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCK_S = 0.1
WAIT_S = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", "anvil"])
async def l1(request, tmp_path_factory) -> AsyncIterator[L1Handle]:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    directory = tmp_path_factory.mktemp(request.param)
    handle = await launch_l1(request.param, directory, block_time_s=BLOCK_S)
    yield handle
    await handle.aclose()


def clock_ms() -> int:
    return int(time.monotonic() * 1000)


def runner_for(deployed: Deployed, port: MemoryPort, client, index: int = 0) -> PosterRunner:
    return PosterRunner(
        client,
        port,
        deployed.fresh_account(),
        deployed.contract,
        chain_id=deployed.chain_id,
        committee_index=index,
        committee_size=SIZE,
        clock_ms=clock_ms,
    )


async def run_until(runners: list[PosterRunner], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            for runner in runners:
                await runner.poll_once()
            await asyncio.sleep(BLOCK_S / 4)


async def until_final(client: EthereumClient, block: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if (await client.finalized()).number >= block:
                return
            await asyncio.sleep(BLOCK_S / 4)


async def until_nonce(client: EthereumClient, account: L1Account, nonce: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if await client.nonce(account.address) >= nonce:
                return
            await asyncio.sleep(BLOCK_S / 4)


async def test_the_contract_starts_empty_and_check_passes(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    await client.check(l1.chain_id, deployed.chain_id)
    state = await client.contract_state(await client.head())
    assert (state.next_number, state.log_root) == (1, bytes(32))
    await client.aclose()


async def test_batches_are_posted_become_final_and_derive_to_the_same_log(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    port = MemoryPort(deployed.batches)
    runners = [runner_for(deployed, port, client, index) for index in range(2)]
    deployed.certify()
    deployed.certify(count=1, size=8)
    deployed.certify(count=40, size=100)

    await run_until(runners, lambda: Final(3) in port.notices)

    posted = {notice.number for notice in port.notices if isinstance(notice, Posted)}
    assert posted == {1, 2, 3}
    log = await derive(client, deployed.source)
    assert log.entries == deployed.entries
    assert log.log_root == deployed.root
    assert [header.encode() for header in log.batches] == [b.header for b in deployed.batches]
    await client.aclose()


async def test_the_largest_batch_is_posted(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    noise = random.Random(1)
    deployed.certify_raw([noise.randbytes(20_000) for _ in range(5)] + [noise.randbytes(20_700)])
    calldata = abi.post_batch_calldata(
        *(getattr(deployed.batches[0], name) for name in ("header", "bitmap", "signature", "data"))
    )
    assert 118 * 1024 < len(calldata) <= 120 * 1024
    account = deployed.fresh_account()
    await client.simulate(account.address, calldata, posting_gas(calldata))
    port = MemoryPort(deployed.batches)
    await run_until(
        [runner_for(deployed, port, client, index) for index in range(4)],
        lambda: any(isinstance(notice, Posted) for notice in port.notices),
    )
    assert (await derive(client, deployed.source)).entries == deployed.entries
    await client.aclose()


async def test_a_call_that_the_contract_refuses_is_named(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    deployed.certify()
    second = deployed.certify()
    calldata = abi.post_batch_calldata(second.header, second.bitmap, second.signature, second.data)
    with pytest.raises(CallReverted) as refusal:
        await client.simulate(bytes(20), calldata, posting_gas(calldata))
    assert refusal.value.reason == "NotNext"
    await client.aclose()


async def test_what_the_l1_says_to_transactions_is_understood(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    account = deployed.fresh_account()
    nonce = await client.nonce(account.address)

    def empty(nonce: int, fee: int, account: L1Account = account):
        return account.sign(
            nonce=nonce, to=account.address, data=b"", gas=21_000, fees=Fees(fee, 10**9)
        )

    waiting = empty(nonce + 1, 10 * 10**9)  # leaves a gap: it cannot be mined yet
    assert (await client.send(waiting.raw)).outcome is SendOutcome.ACCEPTED
    assert (await client.send(waiting.raw)).outcome is SendOutcome.KNOWN
    cheaper = empty(nonce + 1, 9 * 10**9)
    assert (await client.send(cheaper.raw)).outcome is SendOutcome.UNDERPRICED
    first = empty(nonce, 10 * 10**9)
    assert (await client.send(first.raw)).outcome is SendOutcome.ACCEPTED
    await until_nonce(client, account, nonce + 2)
    late = empty(nonce, 20 * 10**9)
    assert (await client.send(late.raw)).outcome is SendOutcome.NONCE_TOO_LOW
    poor = L1Account(b"\x55" * 32, l1.chain_id)
    answer = await client.send(empty(0, 10**9 * 5, poor).raw)
    assert answer.outcome is SendOutcome.INSUFFICIENT_FUNDS
    assert (await client.send(b"\x02\xc0")).outcome is SendOutcome.REJECTED
    assert await client.receipt(b"\x77" * 32) is None
    await client.aclose()


async def test_after_a_reorg_the_same_transaction_is_posted_again(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    port = MemoryPort(deployed.batches)
    runners = [runner_for(deployed, port, client, index) for index in range(SIZE)]
    deployed.certify()
    await until_final(client, deployed.deploy_block)

    def mined() -> list[StageChanged]:
        return [
            notice
            for notice in port.notices
            if isinstance(notice, StageChanged) and notice.stage is Stage.MINED
        ]

    await run_until(runners, lambda: bool(mined()))
    (first,) = {notice.tx_hash for notice in mined()}
    await l1.reorg(2)
    await run_until(runners, lambda: Final(1) in port.notices)
    accepted = await client.accepted(0, (await client.head()).number)
    assert [batch.number for batch in accepted] == [1]
    assert accepted[0].tx_hash == first
    await client.aclose()
