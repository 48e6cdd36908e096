"""An L1 without an EVM, for simulations: blocks, a pool, fees, reorgs, and our contract's rules.

Deterministic: everything random comes from the `Random` given. Certificates are not verified, the
rest of `post_batch`, `snapshot` and `advance` behaves as in the contract.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from consensus.committee import Committee
from consensus.types import CommitCertificate
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.account import Fees, SignedTransaction
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.blobs import Sidecar, blobs_digest
from sequencer.settlement.client import (
    Accepted,
    ContractState,
    Handover,
    L1Block,
    SendAnswer,
    SendOutcome,
)
from sequencer.settlement.encoding import compress_signature

TIP = 10**9
EMPTY_GAS = 21_000
UPKEEP_GAS = 300_000


@dataclass(frozen=True)
class SimulatedTransaction:
    """A transaction; `raw` stands for it on the wire."""

    sender: bytes
    nonce: int
    to: bytes | None
    data: bytes
    gas: int
    fees: Fees
    blob_hashes: tuple[bytes, ...] = ()

    @property
    def tx_hash(self) -> bytes:
        """Its identity."""
        return hashlib.sha256(repr(self).encode()).digest()


@dataclass
class SimulatedBlock:
    """A block and the state after it."""

    block: L1Block
    parent: "SimulatedBlock | None"
    transactions: list[tuple[SimulatedTransaction, bool]] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    nonces: dict[bytes, int] = field(default_factory=dict)
    contract: ContractState = field(default_factory=lambda: ContractState(1, bytes(32)))
    committee: Committee | None = None
    """The contract's; None where nothing but batches is simulated."""
    pending: Committee | None = None


class SimulatedAccount:
    """Signs without cryptography. Stands for `L1Account`."""

    def __init__(self, l1: "SimulatedL1", address: bytes) -> None:
        self._l1 = l1
        self.address = address

    def sign(
        self,
        *,
        nonce: int,
        to: bytes | None,
        data: bytes,
        gas: int,
        fees: Fees,
        value: int = 0,
        blob_hashes: Sequence[bytes] = (),
    ) -> SignedTransaction:
        """See `L1Account.sign`."""
        hashes = tuple(blob_hashes)
        transaction = SimulatedTransaction(self.address, nonce, to, data, gas, fees, hashes)
        self._l1.known[transaction.tx_hash] = transaction
        return SignedTransaction(transaction.tx_hash, transaction.tx_hash)


class SimulatedL1:
    """The chain. `mine`, `reorg`, `base_fee` and `stalled` are for the scenario to use."""

    def __init__(
        self,
        random: Random,
        contract: bytes,
        *,
        finality_depth: int = 4,
        committee: Committee | None = None,
    ) -> None:
        self._random = random
        self.contract_address = contract
        self._finality_depth = finality_depth
        self.base_fee = 10**9
        self.blob_base_fee = 1
        self.balance = 10**24
        self.stalled = False
        self.inclusion = 1.0
        """Probability that a waiting transaction is in the next block."""
        self.known: dict[bytes, SimulatedTransaction] = {}
        self.pool: dict[tuple[bytes, int], SimulatedTransaction] = {}
        self.blobs: dict[bytes, bytes] = {}
        """Every blob that ever came with a transaction, by versioned hash."""
        self.wasted: list[bytes] = []
        """Transactions that were mined and refused by the contract."""
        self._salt = 0
        self.chain = [SimulatedBlock(self._block(0), None, committee=committee)]
        self.members = committee.members if committee is not None else ()
        """Who is registered: what the next snapshot holds."""

    def _block(self, number: int) -> L1Block:
        self._salt += 1
        digest = hashlib.sha256(b"%d/%d" % (number, self._salt)).digest()
        return L1Block(number, digest, number, self.base_fee)

    @property
    def head(self) -> SimulatedBlock:
        """The newest block."""
        return self.chain[-1]

    def final(self) -> SimulatedBlock:
        """The newest final block."""
        return self.chain[max(0, len(self.chain) - 1 - self._finality_depth)]

    def mine(self) -> None:
        """One block of some waiting transactions, unless stalled."""
        if self.stalled:
            return
        chosen = [key for key in sorted(self.pool) if self._random.random() < self.inclusion]
        block = self._extend()
        for key in chosen:
            self._try(block, self.pool[key])
        self.chain.append(block)
        self._drop_used()

    def _extend(self) -> SimulatedBlock:
        parent = self.head
        return SimulatedBlock(
            self._block(parent.block.number + 1),
            parent,
            nonces=dict(parent.nonces),
            contract=parent.contract,
            committee=parent.committee,
            pending=parent.pending,
        )

    def _try(self, block: SimulatedBlock, transaction: SimulatedTransaction) -> None:
        fees = transaction.fees
        affordable = fees.max_fee >= self.base_fee and (
            not transaction.blob_hashes or fees.blob_fee >= self.blob_base_fee
        )
        if affordable and block.nonces.get(transaction.sender, 0) == transaction.nonce:
            self._apply(block, transaction)

    def _apply(self, block: SimulatedBlock, transaction: SimulatedTransaction) -> None:
        block.nonces[transaction.sender] = transaction.nonce + 1
        reason = self.refusal(transaction, block)
        block.transactions.append((transaction, reason is None))
        if reason is not None:
            self.wasted.append(transaction.tx_hash)
        elif transaction.data == registry_abi.snapshot_call():
            block.pending = self.next_committee(block)
        elif _is_advance(transaction.data):
            self._advance(block, transaction)
        elif transaction.data:
            header, blobs = _posting_of(transaction.data)
            state = ContractState(header.number + 1, header.log_root, block.contract.epoch)
            block.contract = state
            block.accepted.append(
                Accepted(
                    header.number,
                    header.log_root,
                    header.data_hash,
                    transaction.tx_hash,
                    block.block.number,
                    block.block.block_hash,
                    blobs,
                    len(block.transactions),
                )
            )

    @staticmethod
    def _advance(block: SimulatedBlock, transaction: SimulatedTransaction) -> None:
        assert block.pending is not None
        certificate = _certificate_of(transaction.data, block.pending)
        place = transaction.tx_hash, block.block.number, block.block.block_hash
        index = len(block.transactions)
        block.handovers.append(Handover(certificate, block.pending, *place, index))
        block.contract = replace(block.contract, epoch=block.pending.epoch)
        block.committee, block.pending = block.pending, None

    def next_committee(self, block: SimulatedBlock) -> Committee:
        """The one that a snapshot after `block` would fix."""
        return Committee(block.contract.epoch + 1, self.members)

    def snapshot_refusal(self, block: SimulatedBlock) -> str | None:
        """Why a snapshot is not due after `block`."""
        if block.pending is not None:
            return "SnapshotPending"
        current = block.committee
        return "NothingChanged" if current is None or current.members == self.members else None

    def refusal(self, transaction: SimulatedTransaction, block: SimulatedBlock) -> str | None:
        """Why the contract would refuse a transaction after `block`, if it would."""
        if not transaction.data:
            return None
        if transaction.data == registry_abi.snapshot_call():
            return self.snapshot_refusal(block)
        if _is_advance(transaction.data):
            return _advance_refusal(transaction.data, block)
        contract = block.contract
        header, blobs = _posting_of(transaction.data)
        if header.number < contract.next_number:
            return "AlreadyPosted"
        if header.number > contract.next_number:
            return "NotNext"
        if header.previous_log_root != contract.log_root:
            return "WrongParent"
        if header.epoch != contract.epoch:
            return "WrongEpoch"
        if blobs != len(transaction.blob_hashes):
            return "WrongBlobs"
        if blobs and blobs_digest(transaction.blob_hashes) != header.blob_hashes:
            return "WrongBlobs"
        return None

    def _drop_used(self) -> None:
        nonces = self.head.nonces
        self.pool = {key: tx for key, tx in self.pool.items() if key[1] >= nonces.get(key[0], 0)}

    def reorg(self, depth: int, keep: float) -> None:
        """Replace the last blocks by one more empty ones; `keep` of their transactions wait again.

        Never reaches a final block.
        """
        depth = min(depth, self._finality_depth - 1, len(self.chain) - 1)
        if depth < 1:
            return
        abandoned = [tx for block in self.chain[-depth:] for tx, _ in block.transactions]
        del self.chain[-depth:]
        for transaction in abandoned:
            if self._random.random() < keep:
                self.pool.setdefault((transaction.sender, transaction.nonce), transaction)
        for _ in range(depth + 1):
            self.chain.append(self._extend())

    def lose_pool(self) -> None:
        """Forget all waiting transactions."""
        self.pool.clear()

    def receive(
        self, transaction: SimulatedTransaction, sidecar: Sidecar | None = None
    ) -> SendAnswer:
        """Take a transaction into the pool, under an Ethereum client's rules."""
        key = (transaction.sender, transaction.nonce)
        found = sidecar.versioned_hashes if sidecar else ()
        if found != transaction.blob_hashes:
            return SendAnswer(SendOutcome.REJECTED, "the sidecar is another transaction's")
        self.blobs.update(zip(found, sidecar.blobs if sidecar else (), strict=True))
        old = self.pool.get(key)
        if old == transaction:
            return SendAnswer(SendOutcome.KNOWN, "already known")
        if transaction.nonce < self.head.nonces.get(transaction.sender, 0):
            return SendAnswer(SendOutcome.NONCE_TOO_LOW, "nonce too low")
        if transaction.gas * transaction.fees.max_fee > self.balance:
            return SendAnswer(SendOutcome.INSUFFICIENT_FUNDS, "insufficient funds")
        if old is not None and bool(old.blob_hashes) != bool(transaction.blob_hashes):
            return SendAnswer(SendOutcome.REJECTED, "address already reserved")
        if old is not None and not _replaces(transaction.fees, old.fees):
            return SendAnswer(SendOutcome.UNDERPRICED, "replacement transaction underpriced")
        self.pool[key] = transaction
        return SendAnswer(SendOutcome.ACCEPTED)

    def pending_block(self) -> SimulatedBlock:
        """The contract as if every waiting transaction were mined now."""
        block = self._extend()
        wasted = len(self.wasted)
        for key in sorted(self.pool):
            self._try(block, self.pool[key])
        del self.wasted[wasted:]
        return block


def _replaces(new: Fees, old: Fees) -> bool:
    if old.blob_fee:
        doubled = (new.max_fee >= 2 * old.max_fee, new.tip >= 2 * old.tip)
        return all(doubled) and new.blob_fee >= 2 * old.blob_fee
    return new.max_fee * 10 >= old.max_fee * 11 and new.tip * 10 >= old.tip * 11


def _is_advance(calldata: bytes) -> bool:
    return calldata[:4] == abi.selector("advance")


def _advance_refusal(calldata: bytes, block: SimulatedBlock) -> str | None:
    epoch = abi.number(calldata, 4)
    if epoch < block.contract.epoch:
        return "AlreadyAdvanced"
    if epoch > block.contract.epoch:
        return "WrongEpoch"
    return None if block.pending is not None else "NothingPending"


def _certificate_of(calldata: bytes, following: Committee) -> CommitCertificate:
    """The certificate in a call of `advance`, as the event tells it."""
    arguments = calldata[4:]
    size = abi.number(arguments, 13 * 32)
    return CommitCertificate(
        epoch=abi.number(arguments, 0),
        round=abi.number(arguments, 32),
        height=abi.number(arguments, 64),
        block_id=arguments[96:128],
        next_committee=following.digest,
        signers=arguments[14 * 32 :][:size],
        signature=compress_signature(arguments[160:416]),
    )


def _posting_of(calldata: bytes) -> tuple[BatchHeader, int]:
    """The header that a call posts, and in how many blobs its bytes are."""
    try:
        return BatchHeader.decode(abi.decode_post_batch(calldata).header), 0
    except ValueError:
        call = abi.decode_post_blobs(calldata)
        return BatchHeader.decode(call.header), call.blobs
