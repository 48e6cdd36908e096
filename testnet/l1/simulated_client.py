"""One member's view of a simulated L1, with faults of its own: requests and answers get lost, and
its endpoint may lag behind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from sequencer.settlement.account import Fees
from sequencer.settlement.blobs import Sidecar
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
    UpkeepState,
)
from testnet.l1.simulated import (
    TIP,
    UPKEEP_GAS,
    SimulatedBlock,
    SimulatedL1,
    SimulatedTransaction,
)


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
        return self._at(block).contract

    async def upkeep(self, block: L1Block) -> UpkeepState:
        """What the contract waits for after a block that is still canonical."""
        found = self._at(block)
        pending = found.pending.epoch if found.pending else 0
        return UpkeepState(pending, self._l1.snapshot_refusal(found) is None)

    def _at(self, block: L1Block) -> SimulatedBlock:
        self._request()
        chain = self._l1.chain
        if block.number < len(chain) and chain[block.number].block == block:
            return chain[block.number]
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
        reason = self._l1.refusal(call, self._l1.pending_block())
        if reason is not None:
            raise CallReverted(reason)

    async def estimate(self, sender: bytes, calldata: bytes) -> int:
        """The same, for upkeep."""
        await self.simulate(sender, calldata, UPKEEP_GAS)
        return UPKEEP_GAS

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
