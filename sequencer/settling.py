"""A node's side of the L1: feeds the poster with certified batches, remembers what it tells.

Implements the poster's port. Everything remembered is a hint that the poster checks against the L1
again; it is kept so that receipts can name their L1 transaction after a restart.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consensus.codec import u64
from consensus.epochs import EpochChange
from consensus.types import CommitCertificate
from sequencer.batcher import Batcher
from sequencer.config import L1Config
from sequencer.genesis import L1Settings
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.kzg import BlobProver
from sequencer.settlement.poster_events import (
    L1_ALARM,
    Alarm,
    AlarmCleared,
    Final,
    Notice,
    Posted,
    PosterSettings,
    Stage,
    StageChanged,
    Unposted,
)
from sequencer.settlement.poster_runner import CertifiedBatch, PosterRunner
from sequencer.settlement.poster_state import Upkeep, spelled
from sequencer.settlement.schedule import posting_order, rank
from sequencer.setup import Setup
from sequencer.store.schema import META_FINAL, META_POSTER, Table
from sequencer.store.seam import Store, WriteBatch

if TYPE_CHECKING:
    from sequencer.settlement.ethereum import EthereumClient

logger = logging.getLogger("sequencer.settlement")


class Settling:
    """What is certified, posted and final, for the poster and for those who ask the node."""

    def __init__(
        self, batcher: Batcher, store: Store, chain_id: bytes, size: int, member: int | None
    ) -> None:
        self._batcher = batcher
        self._store = store
        self._chain_id = chain_id
        self.size = size
        self.member = -1 if member is None else member
        final = store.get(Table.META, META_FINAL)
        self.final = int.from_bytes(final, "big") if final else 0
        self.posted = self._last_posted()
        self.alarms: dict[str, str] = {}
        self.takeovers = 0
        """Batches that this member posted because those ranked before it did not."""
        self.overtaken = 0
        """Batches under way here that another member's transaction posted first."""
        self.blobs_posted = 0
        """Blobs in which batches were posted, by anybody, since the start."""
        self._mined = 0
        self._next_number = 1
        self.runner: PosterRunner | None = None
        self.wake: Callable[[], None] = lambda: None
        """Called when the batcher may have something to say."""

    def begin_epoch(self, size: int, member: int | None) -> None:
        """Another committee posts now; `member` is this node's index in it, None for a follower."""
        self.size, self.member = size, -1 if member is None else member
        if self.runner is not None:
            self.runner.machine.begin_epoch(self.size, self.member)

    def _last_posted(self) -> int:
        last = self._store.range(Table.POSTED, b"", 1, reverse=True)
        return max(self.final, int.from_bytes(last[0][0], "big") if last else 0)

    # ------------------------------------------------------------------ the poster's port

    def on_contract(self, epoch: int, next_number: int) -> None:
        """The contract at the L1's head takes batch `next_number`, certified in `epoch`."""
        self._next_number = next_number
        self._batcher.on_contract_epoch(epoch, next_number)
        self.wake()

    def latest_certified(self) -> int:
        """The highest number up to which every batch is certified here; what the contract has taken
        already counts as certified."""
        return self._batcher.certified_up_to(max(self.final, self._next_number - 1))

    def posted_since(self) -> int | None:
        """The L1 block behind which stands what is remembered as posted and not final."""
        if self.posted <= self.final:
            return None
        last_final = self._store.get(Table.POSTED, u64(self.final))
        return int.from_bytes(last_final[32:40], "big") if last_final else 0

    def header_epoch(self, number: int) -> int | None:
        """The epoch in the header of a closed batch."""
        header = self.header(number)
        return header.epoch if header else None

    def handover(self, epoch: int) -> CommitCertificate | None:
        """What ended an epoch; None as long as it has not ended here."""
        value = self._store.get(Table.EPOCHS, u64(epoch + 1))
        return EpochChange.decode(value).certificate if value is not None else None

    def certified(self, number: int) -> CertifiedBatch | None:
        """A certified batch."""
        batch = self._batcher.batch(number)
        if batch is None or not batch.certified:
            return None
        return CertifiedBatch(batch.header, batch.signers, batch.signature, batch.data)

    def save(self, state: bytes) -> None:
        """Make the poster's state durable."""
        self._put(Table.META, META_POSTER, state)

    def load(self) -> bytes | None:
        """The poster's state."""
        return self._store.get(Table.META, META_POSTER)

    def notify(self, notice: Notice) -> None:
        """Remember what happened on the L1."""
        match notice:
            case Posted():
                self._remember_posted(notice)
            case Unposted():
                self._unpost(notice.number)
            case Final():
                self.final = max(self.final, notice.number)
                self.posted = max(self.posted, self.final)
                self._put(Table.META, META_FINAL, u64(self.final))
            case StageChanged():
                self._count(notice)
                logger.info("%s: %s %s", spelled(notice.job), notice.stage.value, notice.why)
            case Alarm():
                if notice.topic not in self.alarms:
                    logger.warning("%s: %s", notice.topic, notice.text)
                self.alarms[notice.topic] = notice.text
            case AlarmCleared():
                if self.alarms.pop(notice.topic, None) is not None:
                    logger.info("%s: over", notice.topic)

    def alarm(self, topic: str, text: str | None) -> None:
        """Something about the L1 needs somebody; None when it is over."""
        self.notify(Alarm(topic, text) if text is not None else AlarmCleared(topic))

    def _unpost(self, number: int) -> None:
        """Batch `number` and all after it are not on the L1."""
        if self.posted < number:
            return
        writes = WriteBatch()
        for gone in range(number, self.posted + 1):
            writes.delete(Table.POSTED, u64(gone))
        self._store.save(writes)
        self.posted = number - 1
        logger.warning("an L1 reorganisation took batch %d and all after it out again", number)

    def _count(self, change: StageChanged) -> None:
        if isinstance(change.job, Upkeep):
            return
        self.overtaken += change.stage is Stage.TAKEN_OVER
        if change.stage is Stage.MINED and change.job > self._mined:
            self._mined = change.job  # a reorg may have it mined again
            self.takeovers += self._rank(change.job) > 0

    def _rank(self, number: int) -> int:
        return rank(self._chain_id, number, self.size, self.member)

    def _remember_posted(self, posted: Posted) -> None:
        """The poster may tell it again, after a restart for one; it is news once."""
        key = u64(posted.number)
        value = posted.tx_hash + u64(posted.block_number) + posted.block_hash
        value += bytes([posted.blobs])
        self.posted = max(self.posted, posted.number)
        if self._store.get(Table.POSTED, key) != value:
            self._put(Table.POSTED, key, value)
            self.blobs_posted += posted.blobs
            logger.info(
                "batch %d is posted: L1 transaction 0x%s in block %d",
                posted.number,
                posted.tx_hash.hex(),
                posted.block_number,
            )

    def _put(self, table: Table, key: bytes, value: bytes) -> None:
        writes = WriteBatch()
        writes.put(table, key, value)
        self._store.save(writes)

    # ------------------------------------------------------------------ what others may ask

    @property
    def unposted(self) -> int:
        """Closed batches that are not posted."""
        return self._batcher.last_closed - self.posted_here

    @property
    def posted_here(self) -> int:
        """The newest posted batch that this node has closed: the L1 may be ahead of its log."""
        return min(self.posted, self._batcher.last_closed)

    @property
    def final_here(self) -> int:
        """The newest final batch that this node has closed."""
        return min(self.final, self._batcher.last_closed)

    def status(self) -> dict[str, Any]:
        """Numbers of batches by state, who posts next, how the L1 is, and what is wrong."""
        following = self.posted + 1
        return {
            "closed": self._batcher.last_closed,
            "certified": self.latest_certified(),
            "posted": self.posted,
            "final": self.final,
            "lag": self.unposted,
            "poster": posting_order(self._chain_id, following, self.size)[0],
            "rank": self._rank(following),
            "takeovers": self.takeovers,
            "overtaken": self.overtaken,
            "blobs_posted": self.blobs_posted,
            **self._l1_status(),
            "alarms": dict(self.alarms),
        }

    def _l1_status(self) -> dict[str, Any]:
        """What the poster saw of the L1 last; None for what it has not seen yet."""
        view = self.runner.machine.view if self.runner else None
        return {
            "contract_epoch": view.epoch if view else None,
            "pending_epoch": (view.pending_epoch or None) if view else None,
            "upkeep": self._upkeep(),
            "l1_head": view.head.number if view else None,
            "l1_final": view.final_block if view else None,
            "l1_blob_base_fee": view.blob_base_fee if view else None,
            "l1_read_age_ms": self.runner.read_age_ms if self.runner else None,
            "wallet": "0x" + self.runner.address.hex() if self.runner else None,
            "wallet_gwei": view.balance // 10**9 if view else None,
        }

    def _upkeep(self) -> str | None:
        """The upkeep that is due or under way, and how far it is."""
        found = self.runner.machine.upkeep() if self.runner else None
        if found is None:
            return None
        job, stage = found
        return f"{job}: {'due' if stage is Stage.CERTIFIED else stage.value}"

    def header(self, number: int) -> BatchHeader | None:
        """The header of a closed batch."""
        batch = self._batcher.batch(number)
        return BatchHeader.decode(batch.header) if batch is not None else None

    def last_position(self, number: int) -> int:
        """The log position of a batch's last entry; -1 for batch 0."""
        header = self.header(number) if number else None
        return header.last_position if header else -1

    def number_holding(self, position: int) -> int | None:
        """The closed batch that holds a log position; None while it is open."""
        low, high = 1, self._batcher.last_closed
        if position >= self._batcher.open_position:
            return None
        while low < high:
            middle = (low + high) // 2
            if self.last_position(middle) < position:
                low = middle + 1
            else:
                high = middle
        return low if high else None

    def state(self, number: int) -> str:
        """closed, certified, posted or final."""
        if number <= self.final:
            return "final"
        if number <= self.posted:
            return "posted"
        return "certified" if self.certified(number) else "closed"

    def describe(self, number: int) -> dict[str, Any] | None:
        """One batch, as the RPC shows it."""
        batch, header = self._batcher.batch(number), self.header(number)
        if batch is None or header is None:
            return None
        posted = self._store.get(Table.POSTED, u64(number))
        return {
            "number": number,
            "state": self.state(number),
            "epoch": header.epoch,
            "first_position": header.first_position,
            "last_position": header.last_position,
            "previous_log_root": "0x" + header.previous_log_root.hex(),
            "log_root": "0x" + header.log_root.hex(),
            "data_hash": "0x" + header.data_hash.hex(),
            "data_bytes": len(batch.data),
            "header": "0x" + batch.header.hex(),
            "signers": "0x" + batch.signers.hex(),
            "signature": "0x" + batch.signature.hex(),
            "l1_transaction": "0x" + posted[:32].hex() if posted else None,
            "l1_block": int.from_bytes(posted[32:40], "big") if posted else None,
            "l1_blobs": posted[-1] if posted else None,
        }


async def run_poster(
    settling: Settling,
    setup: Setup,
    l1: L1Settings,
    config: L1Config,
    l1_key: bytes,
    prover: BlobProver | None = None,
) -> None:
    """Post for ever. Whatever the L1 does is weather; only a wrong one ends with `L1Mismatch`."""
    from sequencer.settlement.account import L1Account
    from sequencer.settlement.ethereum import EthereumClient

    client = EthereumClient(
        config.url,
        l1.contract,
        l1.deploy_block,
        finality_depth=l1.finality_depth,
    )
    try:
        await _until_checked(client, settling, setup.chain_id, l1, config)
        settling.runner = PosterRunner(
            client,
            settling,
            L1Account(l1_key, l1.chain_id),
            l1.contract,
            chain_id=setup.chain_id,
            committee_index=settling.member,
            committee_size=settling.size,
            clock_ms=lambda: int(time.monotonic() * 1000),
            settings=PosterSettings(
                takeover_blocks=config.takeover_blocks, confirmations=config.confirmations
            ),
            data=l1.data,
            prover=prover,
        )
        await settling.runner.run(config.poll_ms / 1000)
    finally:
        await client.aclose()


async def _until_checked(
    client: "EthereumClient",
    settling: Settling,
    chain_id: bytes,
    l1: L1Settings,
    config: L1Config,
) -> None:
    """Wait for an L1 that answers, and see that it is the one the genesis names."""
    from sequencer.settlement.client import L1Mismatch, SettlementError

    while True:
        try:
            await client.check(l1.chain_id, chain_id)
        except L1Mismatch:
            raise
        except SettlementError as error:
            settling.notify(Alarm(L1_ALARM, f"the L1 cannot be read: {error}"))
            await asyncio.sleep(config.poll_ms / 1000)
        else:
            settling.notify(AlarmCleared(L1_ALARM))
            return
