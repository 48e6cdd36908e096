"""Batches in blobs on a real EVM, before and after the fork that changed their sidecars."""

import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from sequencer.settlement import abi, blobs
from sequencer.settlement.account import Fees
from sequencer.settlement.beacon import BeaconClient
from sequencer.settlement.blobs import BLOBS, EITHER, Sidecar, hashes_of
from sequencer.settlement.client import CallReverted, SendOutcome
from sequencer.settlement.derive import derive
from sequencer.settlement.poster import CANCEL_GAS
from sequencer.settlement.poster_events import Posted
from sequencer.settlement.poster_fees import posting_gas
from sequencer.settlement.poster_runner import PosterRunner
from testnet.l1 import L1Handle, find_anvil, launch_l1
from testnet.l1.launch import rpc
from tests.settlement.l1_fixtures import Deployed, MemoryPort
from tests.settlement.test_ethereum_l1 import run_until, until_nonce

pytestmark = pytest.mark.asyncio(loop_scope="module")

GWEI = 10**9


class DirectProver:
    """KZG in this process: nothing else runs in a test."""

    async def versioned_hashes(self, data: bytes) -> tuple[bytes, ...]:
        return hashes_of(blobs.encode_blobs(data))

    async def sidecar(self, data: bytes, cells: bool) -> Sidecar:
        return blobs.prove(data, cells)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["prague", "osaka"])
async def at_fork(request: Any, tmp_path_factory: Any) -> AsyncIterator[tuple[str, L1Handle]]:
    if find_anvil() is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    place = tmp_path_factory.mktemp(request.param)
    handle = await launch_l1("anvil", place, block_time_s=0.2, hardfork=request.param)
    yield request.param, handle
    await handle.aclose()


Fork = tuple[str, L1Handle]


async def deployed_on(l1: L1Handle) -> Deployed:
    deployed = await Deployed.create(l1)
    deployed.hashes = hashes_of
    return deployed


async def post_all(deployed: Deployed, data: str) -> list[int]:
    """Post every batch; in how many blobs each went."""
    client, port = deployed.client(), MemoryPort(deployed.batches)
    runner = PosterRunner(
        client,
        port,
        deployed.fresh_account(),
        deployed.contract,
        chain_id=deployed.chain_id,
        committee_index=0,
        committee_size=1,
        clock_ms=lambda: int(time.monotonic() * 1000),
        data=data,
        prover=DirectProver(),
    )

    def posted() -> list[Posted]:
        return [notice for notice in port.notices if isinstance(notice, Posted)]

    await run_until([runner], lambda: len(posted()) == len(deployed.batches))
    await client.aclose()
    return [notice.blobs for notice in posted()]


async def require_derived(deployed: Deployed) -> None:
    client, beacon = deployed.client(), BeaconClient(deployed.l1.url)
    log = await derive(client, deployed.source, blobs=beacon)
    assert (log.entries, log.log_root) == (deployed.entries, deployed.root)
    await client.aclose()
    await beacon.aclose()


async def test_what_is_posted_in_blobs_is_derived_from_them(at_fork: Fork) -> None:
    fork, l1 = at_fork
    deployed = await deployed_on(l1)
    client = deployed.client()
    assert await client.takes_cells() is (fork == "osaka")
    await client.aclose()
    deployed.certify()
    deployed.certify_raw([Random(1).randbytes(blobs.MAX_BLOB_BATCH_BYTES - 30)])
    deployed.certify()
    assert await post_all(deployed, BLOBS) == [1, 6, 1]
    await require_derived(deployed)


async def test_where_either_is_allowed_both_are_derived(at_fork: Fork) -> None:
    deployed = await deployed_on(at_fork[1])
    deployed.certify()
    assert await post_all(deployed, EITHER) == [1], "anvil gives blobs away"
    plain = deployed.certify()
    client, account = deployed.client(), deployed.fresh_account()
    calldata = abi.post_batch_calldata(plain.header, plain.bitmap, plain.signature, plain.data)
    signed = account.sign(
        nonce=await client.nonce(account.address),
        to=deployed.contract,
        data=calldata,
        gas=posting_gas(calldata),
        fees=Fees(20 * GWEI, GWEI),
    )
    assert (await client.send(signed.raw)).outcome is SendOutcome.ACCEPTED
    await until_nonce(client, account, 1 + await client.nonce(account.address))
    await client.aclose()
    await require_derived(deployed)


async def test_the_contract_refuses_blobs_that_were_not_signed(at_fork: Fork) -> None:
    deployed = await deployed_on(at_fork[1])
    batch = deployed.certify()
    client, account = deployed.client(), deployed.fresh_account()
    calldata = abi.post_blobs_calldata(batch.header, batch.bitmap, batch.signature, 1)
    right = hashes_of(blobs.encode_blobs(batch.data))
    await client.simulate(account.address, calldata, 1_000_000, right)
    for wrong in ([], hashes_of(blobs.encode_blobs(b"other")), [*right, *right]):
        with pytest.raises(CallReverted, match="WrongBlobs"):
            await client.simulate(account.address, calldata, 1_000_000, wrong)
    await client.aclose()


async def test_a_waiting_one_is_replaced_by_a_dearer_one_and_by_an_empty_one(
    at_fork: Fork,
) -> None:
    deployed = await deployed_on(at_fork[1])
    client, account = deployed.client(), deployed.fresh_account()
    cells = await client.takes_cells()
    nonce = await client.nonce(account.address)
    await rpc(deployed.l1.url, "evm_setIntervalMining", [0])
    try:
        sidecar, empty = blobs.prove(b"some batch", cells), blobs.empty_sidecar(cells)
        fees = [Fees(times * 20 * GWEI, times * GWEI, times * GWEI) for times in (1, 2, 4)]
        fields: dict[str, Any] = {"nonce": nonce, "to": account.address, "data": b""}
        sent = [
            (account.sign(**fields, gas=100_000, fees=f, blob_hashes=s.versioned_hashes), s)
            for f, s in zip(fees[:2], (sidecar, sidecar), strict=True)
        ]
        hashes = empty.versioned_hashes
        cancel = account.sign(**fields, gas=CANCEL_GAS, fees=fees[2], blob_hashes=hashes)
        for signed, carried in [*sent, (cancel, empty)]:
            answer = await client.send(signed.raw, carried)
            assert answer.outcome is SendOutcome.ACCEPTED, answer.text
        again = await client.send(cancel.raw, empty)
        assert again.outcome is SendOutcome.KNOWN
        late = await client.send(sent[0][0].raw, sidecar)
        assert late.outcome is SendOutcome.UNDERPRICED
    finally:
        await rpc(deployed.l1.url, "evm_setIntervalMining", [1])
    await until_nonce(client, account, nonce + 1)
    receipt = await client.receipt(cancel.tx_hash)
    assert receipt is not None
    assert receipt.succeeded
    await client.aclose()
