"""The poster's shell: reads the L1, performs what the machine asks, tells the node.

One loop, one request to the L1 after another; the rest of the node never waits for it. Nothing here
needs an event loop but `run`, so a simulation can drive `poll_once` by hand.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from consensus.types import CommitCertificate
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.account import SignedTransaction, TransactionSigner
from sequencer.settlement.blobs import BLOBS, CALLDATA, EITHER, Sidecar, blob_count
from sequencer.settlement.client import (
    Accepted,
    CallReverted,
    InvalidAnswer,
    L1Block,
    L1Refused,
    Receipt,
    SendAnswer,
    SendOutcome,
    SettlementClient,
    SettlementError,
)
from sequencer.settlement.kzg import BlobProver, KzgError
from sequencer.settlement.poster import Poster
from sequencer.settlement.poster_blobs import Sidecars
from sequencer.settlement.poster_events import (
    Action,
    Answered,
    Event,
    L1View,
    Notice,
    NoVerdict,
    PosterSettings,
    Save,
    Send,
    Sign,
    Signed,
    Simulate,
    Simulated,
    SimulationFailed,
    Tell,
    Unreachable,
)
from sequencer.settlement.poster_fees import posting_gas, price
from sequencer.settlement.poster_state import Job, Upkeep, UpkeepKind, Version

MAX_TORN_READS = 10
"""Readings in a row that fail or contradict themselves before it is called an error."""
UPKEEP_GAS_PERCENT = 125
"""Gas of upkeep in percent of its estimate: a snapshot takes the more, the more members there are.
"""
MAX_KEPT_TRANSACTIONS = 8
"""Signed transactions whose bytes are kept; older ones are signed again when they are needed."""


@dataclass(frozen=True, slots=True)
class CertifiedBatch:
    """A batch with its certificate: signed header bytes, signers' bitmap, aggregate signature (96
    bytes, compressed), and the bytes that the header names."""

    header: bytes
    bitmap: bytes
    signature: bytes
    data: bytes


class PosterPort(Protocol):
    """What the poster needs of its node. All synchronous; `save` is durable on return."""

    def on_contract(self, epoch: int, next_number: int) -> None:
        """The contract at the L1's head takes batch `next_number`, certified in `epoch`."""
        ...

    def latest_certified(self) -> int:
        """The highest batch number up to which certificates are held without a gap, from the one
        that the contract takes next on; 0 for none."""
        ...

    def posted_since(self) -> int | None:
        """The L1 block behind which stands what is remembered as posted and not final; None if
        nothing is. It may have moved, and become final, while nobody looked."""
        ...

    def header_epoch(self, number: int) -> int | None:
        """The epoch in the header of a batch; None while it is not closed here."""
        ...

    def handover(self, epoch: int) -> CommitCertificate | None:
        """What ended an epoch; None as long as it has not ended here."""
        ...

    def certified(self, number: int) -> CertifiedBatch | None:
        """A batch, kept at least until it is final."""
        ...

    def save(self, state: bytes) -> None:
        """Make the poster's small state durable."""
        ...

    def load(self) -> bytes | None:
        """The state saved last."""
        ...

    def notify(self, notice: Notice) -> None:
        """Hear what happened."""
        ...


class PosterRunner:
    """Runs the poster of one member. `clock_ms` is monotonic."""

    def __init__(
        self,
        client: SettlementClient,
        port: PosterPort,
        account: TransactionSigner,
        contract: bytes,
        *,
        chain_id: bytes,
        committee_index: int,
        committee_size: int,
        clock_ms: Callable[[], int],
        settings: PosterSettings | None = None,
        data: str = CALLDATA,
        prover: BlobProver | None = None,
    ) -> None:
        self._client = client
        self._port = port
        self._account = account
        self._contract = contract
        self._clock_ms = clock_ms
        self._last: tuple[L1Block, L1View] | None = None
        self._torn_reads = 0
        self._read_at_ms: int | None = None
        self._kept: dict[bytes, bytes] = {}
        self._data = data
        self._sidecars = Sidecars(client, prover)
        self.machine = Poster(
            settings or PosterSettings(),
            chain_id=chain_id,
            member=committee_index,
            size=committee_size,
            saved=port.load(),
        )

    @property
    def address(self) -> bytes:
        """The account that posts, 20 bytes."""
        return self._account.address

    @property
    def read_age_ms(self) -> int | None:
        """How long ago the L1 was read last; None before the first time."""
        return None if self._read_at_ms is None else self._clock_ms() - self._read_at_ms

    async def run(self, poll_interval_s: float) -> None:
        """Poll for ever; cancel to end. L1 errors become alarms, never exceptions."""
        while True:
            await self.poll_once()
            await asyncio.sleep(poll_interval_s)

    async def poll_once(self) -> None:
        """Read the L1 once and do what follows from it."""
        event: Event | None
        try:
            event = await self._observe()
        except SettlementError as error:
            event = Unreachable(str(error))
        if event is not None:
            await self._perform(self.machine.step(event, self._clock_ms()))

    async def _perform(self, actions: list[Action]) -> None:
        queue = deque(actions)
        while queue:
            event = await self._do(queue.popleft())
            if event is not None:
                queue.extend(self.machine.step(event, self._clock_ms()))

    async def _do(self, action: Action) -> Event | None:
        if isinstance(action, Save):
            self._port.save(action.state)
        elif isinstance(action, Tell):
            self._port.notify(action.notice)
        elif isinstance(action, Simulate):
            return await self._simulate(action.job)
        elif isinstance(action, Sign):
            return await self._sign(action)
        elif isinstance(action, Send):
            return await self._send(action)
        return None

    # reading

    async def _observe(self) -> L1View | None:
        """A consistent view, or None if the L1 moved while it was read."""
        final, head = await self._client.finalized(), await self._client.head()
        if self._last is not None and self._last[0] == final and self._is_settled(head):
            view: L1View | None = self._last[1]
        else:
            view = await self._read_if_it_stands(final, head)
        if view is None:
            return None
        self._torn_reads = 0
        self._read_at_ms = self._clock_ms()
        self._last = (final, self._with_ours(view))
        return self._last[1]

    def _with_ours(self, view: L1View) -> L1View:
        """The same, with what we hold."""
        self._port.on_contract(view.epoch, view.next_number)
        return replace(
            view,
            certified=self._port.latest_certified(),
            next_epoch=self._port.header_epoch(view.next_number),
            handover=view.pending_epoch == view.epoch + 1
            and self._port.handover(view.epoch) is not None,
        )

    async def _read_if_it_stands(self, final: L1Block, head: L1Block) -> L1View | None:
        """A reorg makes blocks unknown and readings contradict each other; for a while."""
        reason = "its events and its states contradict each other"
        view: L1View | None
        try:
            if head.number < final.number:
                raise InvalidAnswer(
                    f"the L1's head, block {head.number}, is older than its final block "
                    f"{final.number}"
                )
            view = await self._read(final, head)
        except (L1Refused, InvalidAnswer) as error:
            view, reason = None, str(error)
        if view is None:
            self._torn_reads += 1
            if self._torn_reads >= MAX_TORN_READS:
                raise SettlementError(reason)
        return view

    def _is_settled(self, head: L1Block) -> bool:
        """Nothing can have changed since the last view."""
        assert self._last is not None
        last = self._last[1]
        return last.head == head and set(self.machine.watched()) == set(last.receipts)

    async def _read(self, final: L1Block, head: L1Block) -> L1View | None:
        client, address = self._client, self._account.address
        nonce = await client.nonce(address)
        start = self.machine.window_start
        if start is None:
            start = self._port.posted_since()
        since = final.number if start is None else min(start, final.number)
        accepted = await client.accepted(since + 1, head.number)
        at_final = await client.contract_state(final)
        at_head = await client.contract_state(head)
        if not _is_consistent(accepted, final, at_final.next_number, at_head.next_number):
            return None
        upkeep = await client.upkeep(head)
        receipts: dict[bytes, Receipt] = {}
        for tx_hash in self.machine.watched():
            receipt = await client.receipt(tx_hash)
            if receipt is not None:
                receipts[tx_hash] = receipt
        return L1View(
            head=head,
            final_block=final.number,
            next_number=at_head.next_number,
            final_next=at_final.next_number,
            accepted=tuple(accepted),
            nonce=nonce,
            balance=await client.balance(address),
            tip=await client.tip(),
            receipts=receipts,
            certified=0,
            blob_base_fee=0 if self._data == CALLDATA else await client.blob_base_fee(),
            epoch=at_head.epoch,
            pending_epoch=upkeep.pending_epoch,
            snapshot_due=upkeep.snapshot_due,
        )

    # acting

    def _batch(self, number: int) -> CertifiedBatch:
        batch = self._port.certified(number)
        if batch is None:
            raise SettlementError(f"the certificate of batch {number} is not held any more")
        return batch

    def _calldata(self, job: Job, in_blobs: bool = False) -> bytes:
        """Made anew each time: the header of a batch changes with the contract's epoch."""
        if isinstance(job, Upkeep):
            return self._upkeep(job)
        batch = self._batch(job)
        signed = batch.header, batch.bitmap, batch.signature
        if in_blobs:
            return abi.post_blobs_calldata(*signed, blob_count(len(batch.data)))
        return abi.post_batch_calldata(*signed, batch.data)

    def _upkeep(self, job: Upkeep) -> bytes:
        if job.kind is UpkeepKind.SNAPSHOT:
            return registry_abi.snapshot_call()
        certificate = self._port.handover(job.epoch - 1)
        if certificate is None:
            raise SettlementError(f"what ended epoch {job.epoch - 1} is not held here")
        return registry_abi.advance_call(certificate)

    async def _craft(self, number: int) -> Sidecar | None:
        """The blobs to post a batch with; None for calldata, which is a matter of price where the
        genesis leaves the choice, and the way out where proofs fail."""
        view, data = self.machine.view, self._batch(number).data
        if self._data == CALLDATA:
            return None
        if self._data == EITHER:
            outside, inside = self._calldata(number, False), self._calldata(number, True)
            if view is None or price(view, outside) <= price(view, inside, blob_count(len(data))):
                return None
        try:
            return await self._sidecars.of(data)
        except KzgError:
            if self._data == BLOBS:
                raise
            return None

    async def _sidecar(self, job: Job, version: Version) -> Sidecar | None:
        if version.blobs == 0 or isinstance(job, Upkeep):
            return None
        if version.cancel:
            return await self._sidecars.of_nothing()
        return await self._sidecars.of(self._batch(job).data)

    async def _simulate(self, job: Job) -> Event:
        try:
            if isinstance(job, Upkeep):
                gas = await self._client.estimate(self._account.address, self._calldata(job))
                return Simulated(job, gas * UPKEEP_GAS_PERCENT // 100)
            sidecar = await self._craft(job)
            hashes = sidecar.versioned_hashes if sidecar else ()
            calldata = self._calldata(job, sidecar is not None)
            gas = posting_gas(calldata)
            await self._client.simulate(self._account.address, calldata, gas, hashes)
        except CallReverted as error:
            return SimulationFailed(job, error.reason)
        except (SettlementError, ValueError) as error:
            return NoVerdict(job, str(error))
        return Simulated(job, gas, len(hashes))

    async def _sign(self, action: Sign) -> Event:
        wanted = Version(b"", action.gas, action.fees, action.cancel, action.blobs)
        try:
            sidecar = await self._sidecar(action.job, wanted)
            signed = self._signed(action.job, action.nonce, wanted, sidecar)
        except (SettlementError, ValueError) as error:
            return NoVerdict(action.job, str(error))
        self._keep(signed)
        return Signed(action.job, action.nonce, replace(wanted, tx_hash=signed.tx_hash))

    async def _send(self, action: Send) -> Event:
        raw, version = self._kept.get(action.version.tx_hash), action.version
        try:
            sidecar = await self._sidecar(action.job, version)
            if raw is None:
                signed = self._signed(action.job, action.nonce, version, sidecar)
                if signed.tx_hash != version.tx_hash:  # the batch has another header since
                    raise SettlementError("what was sent cannot be made again")
                raw = signed.raw
        except (SettlementError, ValueError) as error:
            # It may be in the pool since it was sent; a dearer version comes in time.
            answer = SendAnswer(SendOutcome.UNREACHABLE, str(error))
            return Answered(version.tx_hash, answer)
        return Answered(version.tx_hash, await self._client.send(raw, sidecar))

    def _signed(
        self, job: Job, nonce: int, version: Version, sidecar: Sidecar | None
    ) -> SignedTransaction:
        """Signing is deterministic: the same version has the same hash again."""
        cancel = version.cancel
        return self._account.sign(
            nonce=nonce,
            to=self._account.address if cancel else self._contract,
            data=b"" if cancel else self._calldata(job, version.blobs > 0),
            gas=version.gas,
            fees=version.fees,
            blob_hashes=sidecar.versioned_hashes if sidecar else (),
        )

    def _keep(self, signed: SignedTransaction) -> None:
        self._kept[signed.tx_hash] = signed.raw
        while len(self._kept) > MAX_KEPT_TRANSACTIONS:
            del self._kept[next(iter(self._kept))]


def _is_consistent(
    accepted: list[Accepted], final: L1Block, next_at_final: int, next_at_head: int
) -> bool:
    """The events after the final block are the batches between the two states, one by one."""
    after = [batch.number for batch in accepted if batch.block_number > final.number]
    return after == list(range(next_at_final, next_at_head))
