"""`sequencer init --from-l1` on a real local L1: posted, derived, bound to blocks, and gone on."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from sequencer.genesis import Genesis, L1Settings
from sequencer.ledger import Ledger
from sequencer.settlement import abi
from sequencer.settlement.account import L1Account
from sequencer.settlement.ethereum import EthereumClient, deploy
from sequencer.settlement.poster_runner import CertifiedBatch, PosterRunner
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor
from sequencer.store.lmdb import LmdbStore
from testnet.l1 import L1Handle, find_anvil, launch_l1
from tests.sequencer.certified_chain import CertifiedChain, genesis_with, numbered
from tests.sequencer.commands import run
from tests.sequencer.rpc_fixtures import serving
from tests.sequencer.test_from_l1 import Serving, replay
from tests.settlement.l1_fixtures import MemoryPort

HEIGHTS = 40
WAIT_S = 30.0


@pytest_asyncio.fixture
async def l1(tmp_path: Path) -> AsyncIterator[L1Handle]:
    kind = "anvil" if find_anvil() is not None else "embedded"
    handle = await launch_l1(kind, tmp_path / "l1", block_time_s=0.1)
    yield handle
    await handle.aclose()


async def deployed(l1: L1Handle) -> Genesis:
    """A genesis of one member whose contract stands on the L1."""
    genesis = genesis_with(l1=None)
    account = L1Account(l1.funded_keys[0], l1.chain_id)
    settings = RegistrySettings(owner=account.address)
    arguments = encode_constructor(genesis.chain_id, genesis.committee, settings)
    contract, block = await deploy(l1.url, account, abi.load_contract().bytecode + arguments)
    return genesis.with_l1(L1Settings(l1.chain_id, contract, block, "depth:1"))


async def post(l1: L1Handle, chain: CertifiedChain) -> int:
    """Put every certified batch of a chain on the L1; how many."""
    settings, batcher = chain.genesis.l1, chain.batcher
    assert settings is not None
    assert batcher is not None
    stored = [batcher.batch(number) for number in range(1, batcher.last_closed + 1)]
    batches = [
        CertifiedBatch(item.header, item.signers, item.signature, item.data)
        for item in stored
        if item is not None
    ]
    client = EthereumClient(l1.url, settings.contract, settings.deploy_block, finality_depth=1)
    runner = PosterRunner(
        client,
        MemoryPort(batches),
        L1Account(l1.funded_keys[1], l1.chain_id),
        settings.contract,
        chain_id=chain.genesis.chain_id,
        committee_index=0,
        committee_size=1,
        clock_ms=lambda: int(time.monotonic() * 1000),
    )
    async with asyncio.timeout(WAIT_S):
        while (await client.contract_state(await client.head())).next_number <= len(batches):
            await runner.poll_once()
            await asyncio.sleep(0.05)
    await client.aclose()
    return len(batches)


async def test_a_directory_is_prepared_from_the_l1_and_any_node(
    l1: L1Handle, tmp_path: Path
) -> None:
    genesis = await deployed(l1)
    file, directory = tmp_path / "genesis.json", tmp_path / "node"
    file.write_text(genesis.dump())
    chain = CertifiedChain(genesis=genesis)
    for height in range(1, HEIGHTS + 1):
        chain.commit(numbered(height, 10_000 + height), proved=height % 3 == 0)
    last = await post(l1, chain)
    async with serving(Serving(chain, [])) as served:
        begin = "init", "--genesis", file, "--dir", directory, "--from-l1", "--l1", l1.url
        result = await asyncio.to_thread(run, *begin, "--node", served.url)
    assert result.exit_code == 0, result.output + repr(result.exception)
    store = LmdbStore(directory / "data", genesis.chain_id)
    began = Ledger(store, genesis.chain_id, genesis.rules).base
    assert f"its log goes on from height {began.height}" in result.stdout
    assert began.log_root == chain.ledger.log_root(began.height)
    copy = CertifiedChain(store, genesis)
    assert copy.batcher is not None
    assert copy.batcher.last_closed == last > 5
    replay(chain, copy)
    assert copy.ledger.head == chain.ledger.head
    store.close()
