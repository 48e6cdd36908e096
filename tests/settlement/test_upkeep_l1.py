"""Upkeep on real local L1s: a member joins, the posters see to the rest, and the log derives."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from blspy import PopSchemeMPL

from consensus.committee import Committee
from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement import registry_abi
from sequencer.settlement.account import L1Account
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.derive import derive
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.poster_events import Final, Posted, Stage, StageChanged
from sequencer.settlement.poster_runner import CertifiedBatch, PosterRunner
from sequencer.settlement.poster_state import Upkeep, UpkeepKind
from sequencer.settlement.registry import Registry
from sequencer.settlement.wallet import Wallet
from testnet.l1 import L1Handle, find_anvil, launch_l1
from tests.settlement.committees import committee, identity, keys, quorum_of, secrets, sign
from tests.settlement.l1_fixtures import SIZE, Deployed, MemoryPort
from tests.settlement.test_ethereum_l1 import clock_ms, run_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCK_S = 0.1
NEWCOMER = SIZE
BLOCK_ID = b"\xb1" * 32
UPKEEP = [Upkeep(UpkeepKind.SNAPSHOT, 1), Upkeep(UpkeepKind.HANDOVER, 1)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", "anvil"])
async def l1(request, tmp_path_factory) -> AsyncIterator[L1Handle]:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    directory = tmp_path_factory.mktemp(request.param)
    handle = await launch_l1(request.param, directory, block_time_s=BLOCK_S)
    yield handle
    await handle.aclose()


@dataclass
class EpochPort(MemoryPort):
    """A node whose epoch ends when the test says so, and that gives batches new headers."""

    ended: CommitCertificate | None = None

    def on_contract(self, epoch: int, next_number: int) -> None:
        for number in range(next_number, len(self.batches) + 1):
            header = BatchHeader.decode(self.batches[number - 1].header)
            if header.epoch < epoch:
                new = replace(header, epoch=epoch).encode()
                size = SIZE + epoch
                signers = list(range(quorum_of(size)))
                self.batches[number - 1] = CertifiedBatch(
                    new,
                    bitmap_of(signers, size),
                    sign(new, size, signers),
                    self.batches[number - 1].data,
                )

    def handover(self, epoch: int) -> CommitCertificate | None:
        return self.ended if self.ended and self.ended.epoch == epoch else None


def stages(port: MemoryPort, job: Upkeep) -> list[Stage]:
    return [
        notice.stage
        for notice in port.notices
        if isinstance(notice, StageChanged) and notice.job == job
    ]


def certificate(chain_id: bytes, following: Committee) -> CommitCertificate:
    """The founders' certificate that ends epoch 0."""
    signers = list(range(quorum_of(SIZE)))
    message = CommitCertificate.signed_bytes(chain_id, 0, 9, 8, BLOCK_ID, following.digest)
    signed = bitmap_of(signers, SIZE), sign(message, SIZE, signers)
    return CommitCertificate(0, 9, 8, BLOCK_ID, following.digest, *signed)


async def join(deployed: Deployed, client: EthereumClient) -> None:
    """One more member registers."""
    owner = L1Account(deployed.l1.funded_keys[0], deployed.l1.chain_id)
    secret, key = secrets(NEWCOMER + 1)[NEWCOMER], keys(NEWCOMER + 1)[NEWCOMER]
    message = registry_abi.binding_message(
        deployed.chain_id,
        deployed.l1.chain_id,
        deployed.contract,
        owner.address,
        identity(NEWCOMER),
        key,
    )
    wallet = Wallet(client, owner)
    await wallet.call(registry_abi.allow_call(owner.address, True))
    await wallet.call(
        registry_abi.register_call(
            identity(NEWCOMER),
            key,
            bytes(PopSchemeMPL.pop_prove(secret)),
            bytes(PopSchemeMPL.sign(secret, message)),
            "/dns4/newcomer/tcp/4001",
        )
    )
    await wallet.aclose()


def racing(
    deployed: Deployed, ports: list[EpochPort], client: EthereumClient
) -> list[PosterRunner]:
    """Posters that all believe it is their turn."""
    return [
        PosterRunner(
            client,
            port,
            deployed.fresh_account(),
            deployed.contract,
            chain_id=deployed.chain_id,
            committee_index=0,
            committee_size=1,
            clock_ms=clock_ms,
        )
        for port in ports
    ]


async def test_a_newcomer_is_snapshot_handed_over_to_and_signs(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    ports = [EpochPort(deployed.batches) for _ in range(3)]
    runners = racing(deployed, ports, client)
    deployed.certify()
    await run_until(runners, lambda: any(isinstance(n, Posted) for n in ports[0].notices))
    await join(deployed, client)
    await run_until(runners, lambda: any(Stage.FINAL in stages(port, UPKEEP[0]) for port in ports))
    pending = await Registry(client).pending(await client.finalized())
    assert pending is not None
    assert pending.committee() == committee(SIZE + 1, 1)

    deployed.certify()  # the last batch of the epoch goes before the handover
    for port in ports:
        port.ended = certificate(deployed.chain_id, pending.committee())
        port.batches = list(deployed.batches)
    await run_until(runners, lambda: Final(2) in ports[0].notices)
    await run_until(runners, lambda: any(Stage.FINAL in stages(port, UPKEEP[1]) for port in ports))
    deployed.certify()
    for port in ports:
        port.batches.append(deployed.batches[2])
    await run_until(runners, lambda: Final(3) in ports[0].notices)

    log = await derive(client, deployed.source)
    assert log.entries == deployed.entries
    assert [header.epoch for header in log.batches] == [0, 0, 1]
    handovers = await client.handovers(deployed.deploy_block, (await client.head()).number)
    assert [handover.committee for handover in handovers] == [pending.committee()]
    await client.aclose()


async def test_a_batch_that_nobody_certified_in_time_goes_under_a_new_head(l1: L1Handle) -> None:
    deployed = await Deployed.create(l1)
    client = deployed.client()
    port = EpochPort([])
    runners = racing(deployed, [port], client)
    await run_until(runners, lambda: runners[0].machine.view is not None)
    await join(deployed, client)
    await run_until(runners, lambda: Stage.FINAL in stages(port, UPKEEP[0]))
    deployed.certify()
    following = committee(SIZE + 1, 1)
    port.batches, port.ended = list(deployed.batches), certificate(deployed.chain_id, following)
    port.latest_certified = lambda: 0  # type: ignore[method-assign]
    await run_until(runners, lambda: Stage.MINED in stages(port, UPKEEP[1]))
    del port.latest_certified
    await run_until(runners, lambda: Final(1) in port.notices)
    log = await derive(client, deployed.source)
    assert [header.epoch for header in log.batches] == [1]
    await client.aclose()
