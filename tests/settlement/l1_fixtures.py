"""A running L1 with the contract on it, and a log that a committee certifies batch by batch."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from eth_hash.auto import keccak

from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement import abi
from sequencer.settlement.account import L1Account
from sequencer.settlement.batch import (
    GENESIS_LOG_ROOT,
    MAX_BATCH_BYTES,
    BatchHeader,
    LogEntry,
    encode_batch,
    next_log_root,
)
from sequencer.settlement.blobs import (
    MAX_BLOB_BATCH_BYTES,
    NO_BLOBS,
    blobs_digest,
    encode_blobs,
)
from sequencer.settlement.derive import PostedLog
from sequencer.settlement.ethereum import EthereumClient, deploy
from sequencer.settlement.poster_events import Notice
from sequencer.settlement.poster_runner import CertifiedBatch
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor
from testnet.l1 import L1Handle
from tests.settlement.committees import committee, quorum_of, sign

EPOCH = 0
SIZE = 4
_account_numbers = itertools.count(1)


@dataclass
class Deployed:
    """A fresh contract on a running L1, and the growing log of its committee."""

    l1: L1Handle
    chain_id: bytes
    contract: bytes
    deploy_block: int
    entries: list[LogEntry] = field(default_factory=list)
    batches: list[CertifiedBatch] = field(default_factory=list)
    root: bytes = GENESIS_LOG_ROOT
    hashes: Callable[[Sequence[bytes]], Sequence[bytes]] | None = None
    """What commits to the blobs of its batches, if these are to be posted in blobs."""

    @classmethod
    async def create(cls, l1: L1Handle, chain_id: bytes = b"\xc7" * 32) -> "Deployed":
        account = L1Account(l1.funded_keys[0], l1.chain_id)
        settings = RegistrySettings(owner=account.address)
        arguments = encode_constructor(chain_id, committee(SIZE, EPOCH), settings)
        code = abi.load_contract().bytecode + arguments
        contract, block = await deploy(l1.url, account, code)
        return cls(l1, chain_id, contract, block)

    def client(self) -> EthereumClient:
        return EthereumClient(self.l1.url, self.contract, self.deploy_block)

    def fresh_account(self) -> L1Account:
        """A funded account that no other test of this L1 uses (the first one deploys)."""
        number = next(_account_numbers) % (len(self.l1.funded_keys) - 1)
        return L1Account(self.l1.funded_keys[1 + number], self.l1.chain_id)

    @property
    def source(self) -> PostedLog:
        first = committee(SIZE, EPOCH)
        return PostedLog(self.chain_id, first, self.l1.chain_id, self.contract, self.deploy_block)

    def certify(self, count: int = 3, size: int = 50) -> CertifiedBatch:
        """The next batch of the log: `count` entries of `size` bytes, signed by a quorum."""
        start = len(self.entries)
        return self.certify_raw(
            [position.to_bytes(8, "big") * (size // 8) for position in range(start, start + count)]
        )

    def certify_raw(self, transactions: list[bytes]) -> CertifiedBatch:
        """The next batch of the log, of these transactions, signed by a quorum."""
        start, previous, count = len(self.entries), self.root, len(transactions)
        height = start + 1
        new = [LogEntry(height, 1_000 * height, 7, raw) for raw in transactions]
        for entry in new:
            self.root = next_log_root(self.root, entry)
        self.entries += new
        data = encode_batch(new, MAX_BLOB_BATCH_BYTES if self.hashes else MAX_BATCH_BYTES)
        header = BatchHeader(
            chain_id=self.chain_id,
            l1_chain_id=self.l1.chain_id,
            contract=self.contract,
            epoch=EPOCH,
            number=len(self.batches) + 1,
            previous_log_root=previous,
            first_position=start,
            last_position=start + count - 1,
            log_root=self.root,
            data_hash=keccak(data),
            blob_hashes=blobs_digest(self.hashes(encode_blobs(data))) if self.hashes else NO_BLOBS,
            entry_count=count,
        ).encode()
        signers = list(range(quorum_of(SIZE)))
        batch = CertifiedBatch(header, bitmap_of(signers, SIZE), sign(header, SIZE, signers), data)
        self.batches.append(batch)
        return batch


@dataclass
class MemoryPort:
    """A node for a poster: the certified batches of a log, a disk, and ears."""

    batches: list[CertifiedBatch]
    on_notice: Callable[[Notice], None] = lambda notice: None
    saved: bytes | None = None
    notices: list[Notice] = field(default_factory=list)

    def on_contract(self, epoch: int, next_number: int) -> None:
        pass

    def latest_certified(self) -> int:
        return len(self.batches)

    def posted_since(self) -> int | None:
        return None

    def header_epoch(self, number: int) -> int | None:
        if number > len(self.batches):
            return None
        return BatchHeader.decode(self.batches[number - 1].header).epoch

    def handover(self, epoch: int) -> CommitCertificate | None:
        return None

    def certified(self, number: int) -> CertifiedBatch | None:
        return self.batches[number - 1] if 1 <= number <= len(self.batches) else None

    def save(self, state: bytes) -> None:
        self.saved = state

    def load(self) -> bytes | None:
        return self.saved

    def notify(self, notice: Notice) -> None:
        self.notices.append(notice)
        self.on_notice(notice)
