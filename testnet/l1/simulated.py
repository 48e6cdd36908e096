"""An L1 without an EVM, for simulations: blocks, a pool, fees, reorgs, and our contract's rules.

Deterministic: everything random comes from the `Random` given. Certificates are not verified, the
rest of `post_batch` behaves as in the contract. `SimulatedClient` is one member's view of it, with
faults of its own: requests and answers get lost, and its endpoint may lag behind.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from sequencer.settlement import abi
from sequencer.settlement.account import Fees, SignedTransaction
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.blobs import Sidecar, blobs_digest
from sequencer.settlement.client import (
    Accepted,
    CallReverted,
    ContractState,
    Handover,
    InvalidAnswer,
    L1Block,
    L1Unreachable,
    Receipt,
    SendAnswer,
    SendOutcome,
)

TIP = 10**9
EMPTY_GAS = 21_000


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

    def __init__(self, random: Random, contract: bytes, *, finality_depth: int = 4) -> None:
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
        self.chain = [SimulatedBlock(self._block(0), None)]

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
        reason = self.refusal(transaction, block.contract)
        block.transactions.append((transaction, reason is None))
        if reason is not None:
            self.wasted.append(transaction.tx_hash)
        elif transaction.data:
            header, blobs = _posting_of(transaction.data)
            block.contract = ContractState(header.number + 1, header.log_root)
            block.accepted.append(
                Accepted(
                    header.number,
                    header.log_root,
                    header.data_hash,
                    transaction.tx_hash,
                    block.block.number,
                    block.block.block_hash,
                    blobs,
                )
            )

    @staticmethod
    def refusal(transaction: SimulatedTransaction, contract: ContractState) -> str | None:
        """Why the contract would refuse a transaction, if it would."""
        if not transaction.data:
            return None
        header, blobs = _posting_of(transaction.data)
        if header.number < contract.next_number:
            return "AlreadyPosted"
        if header.number > contract.next_number:
            return "NotNext"
        if header.previous_log_root != contract.log_root:
            return "WrongParent"
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

    def pending_contract(self) -> ContractState:
        """The contract as if every waiting transaction were mined now."""
        block = self._extend()
        wasted = len(self.wasted)
        for key in sorted(self.pool):
            self._try(block, self.pool[key])
        del self.wasted[wasted:]
        return block.contract


def _replaces(new: Fees, old: Fees) -> bool:
    if old.blob_fee:
        doubled = (new.max_fee >= 2 * old.max_fee, new.tip >= 2 * old.tip)
        return all(doubled) and new.blob_fee >= 2 * old.blob_fee
    return new.max_fee * 10 >= old.max_fee * 11 and new.tip * 10 >= old.tip * 11


def _posting_of(calldata: bytes) -> tuple[BatchHeader, int]:
    """The header that a call posts, and in how many blobs its bytes are."""
    try:
        return BatchHeader.decode(abi.decode_post_batch(calldata).header), 0
    except ValueError:
        call = abi.decode_post_blobs(calldata)
        return BatchHeader.decode(call.header), call.blobs


@dataclass
class ClientFaults:
    """What is wrong with one member's endpoint; probabilities per request."""

    lose_request: float = 0.0
    lose_answer: float = 0.0
    lag_blocks: int = 0
    down: bool = False


class SimulatedClient:
    """One member's `SettlementClient` on a `SimulatedL1`."""

    def __init__(self, l1: SimulatedL1, random: Random, faults: ClientFaults | None = None) -> None:
        self._l1 = l1
        self._random = random
        self.faults = faults or ClientFaults()

    def _request(self) -> None:
        lost = self._random.random() < self.faults.lose_request + self.faults.lose_answer
        if self.faults.down or lost:
            raise L1Unreachable("lost")

    def _head(self) -> SimulatedBlock:
        self._request()
        chain = self._l1.chain
        return chain[max(0, len(chain) - 1 - self.faults.lag_blocks)]

    def _visible(self) -> list[SimulatedBlock]:
        return self._l1.chain[: self._head().block.number + 1]

    async def head(self) -> L1Block:
        """See `SettlementClient`, as for all methods here."""
        return self._head().block

    async def finalized(self) -> L1Block:
        """The newest final block."""
        self._request()
        return self._l1.final().block

    async def block(self, number: int) -> L1Block:
        """The block at this height."""
        self._request()
        if number < len(self._l1.chain):
            return self._l1.chain[number].block
        raise InvalidAnswer("header not found")

    async def handovers(self, first_block: int, last_block: int) -> list[Handover]:
        """The handovers in a range."""
        self._request()
        return [
            handover
            for block in self._l1.chain[first_block : last_block + 1]
            for handover in block.handovers
        ]

    async def contract_state(self, block: L1Block) -> ContractState:
        """The contract after a block that is still canonical."""
        self._request()
        chain = self._l1.chain
        if block.number < len(chain) and chain[block.number].block == block:
            return chain[block.number].contract
        raise InvalidAnswer("header not found")

    async def accepted(self, first_block: int, last_block: int) -> list[Accepted]:
        """The events in a range."""
        self._request()
        return [
            batch
            for block in self._l1.chain[first_block : last_block + 1]
            for batch in block.accepted
        ]

    async def transaction_input(self, tx_hash: bytes) -> bytes:
        """The input of a mined transaction."""
        for transaction, _ in _all(self._visible()):
            if transaction.tx_hash == tx_hash:
                return transaction.data
        raise InvalidAnswer("no such transaction")

    async def tip(self) -> int:
        """A constant."""
        self._request()
        return TIP

    async def balance(self, address: bytes) -> int:
        """The same for everybody."""
        self._request()
        return self._l1.balance

    async def nonce(self, address: bytes) -> int:
        """Mined transactions."""
        return self._head().nonces.get(address, 0)

    async def simulate(
        self, sender: bytes, calldata: bytes, gas: int, blob_hashes: Sequence[bytes] = ()
    ) -> None:
        """Runs the contract's rules on the pending state."""
        self._request()
        to, hashes = self._l1.contract_address, tuple(blob_hashes)
        call = SimulatedTransaction(sender, 0, to, calldata, gas, Fees(0, 0), hashes)
        reason = self._l1.refusal(call, self._l1.pending_contract())
        if reason is not None:
            raise CallReverted(reason)

    async def send(self, raw: bytes, sidecar: Sidecar | None = None) -> SendAnswer:
        """Into the pool, unless the request is lost; the answer may be lost, too."""
        if self.faults.down or self._random.random() < self.faults.lose_request:
            return SendAnswer(SendOutcome.UNREACHABLE, "lost")
        answer = self._l1.receive(self._l1.known[raw], sidecar)
        if self._random.random() < self.faults.lose_answer:
            return SendAnswer(SendOutcome.UNREACHABLE, "lost")
        return answer

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """What became of a transaction."""
        for block in self._visible():
            for transaction, succeeded in block.transactions:
                if transaction.tx_hash == tx_hash:
                    place = block.block
                    return Receipt(tx_hash, place.number, place.block_hash, succeeded)
        return None

    async def blob_base_fee(self) -> int:
        """What the scenario says."""
        self._request()
        return self._l1.blob_base_fee

    async def takes_cells(self) -> bool:
        """Nobody looks at proofs here."""
        return True

    async def blob_hashes(self, tx_hash: bytes) -> tuple[bytes, ...]:
        """The blobs of a mined transaction."""
        for transaction, _ in _all(self._visible()):
            if transaction.tx_hash == tx_hash:
                return transaction.blob_hashes
        raise InvalidAnswer("no such transaction")

    async def timestamp_s(self, block_hash: bytes) -> int:
        """When a block was made."""
        for block in self._visible():
            if block.block.block_hash == block_hash:
                return block.block.timestamp_s
        raise InvalidAnswer("header not found")


class SimulatedBeacon:
    """The blobs that came with transactions. Stands for `BeaconClient`."""

    def __init__(self, l1: SimulatedL1) -> None:
        self._l1 = l1

    async def blobs(
        self, place: Accepted, timestamp_s: int, versioned_hashes: Sequence[bytes]
    ) -> tuple[bytes, ...]:
        """These blobs."""
        return tuple(self._l1.blobs[wanted] for wanted in versioned_hashes)


def _all(blocks: Iterable[SimulatedBlock]) -> Iterable[tuple[SimulatedTransaction, bool]]:
    for block in blocks:
        yield from block.transactions
