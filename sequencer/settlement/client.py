"""The seam to an L1: what the poster and the derivation ask of a chain, and how it can fail.

Everything an implementation returns has been checked for shape and bounds, not for truth: an L1
endpoint may lie about all of it. A lie can delay posting or make derivation fail; it cannot forge
a batch, because certificates are verified by the contract and again by `derive`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from consensus.committee import Committee
from consensus.types import CommitCertificate
from sequencer.settlement.blobs import Sidecar


class SettlementError(Exception):
    """Something between us and the L1 is wrong; the message is a sentence for an operator."""


class L1Unreachable(SettlementError):
    """No answer in time. What was sent may or may not have arrived."""


class InvalidAnswer(SettlementError):
    """The L1 endpoint answered with something that is not what its interface says."""


class L1Refused(SettlementError):
    """The L1 endpoint refused a request; `code` is JSON-RPC's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class CallReverted(SettlementError):
    """A simulated call failed; `reason` is the contract's error name, or what is known."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call would fail: {reason}")
        self.reason = reason


class L1Mismatch(SettlementError):
    """The L1 or the contract there is not the one that the genesis names."""


@dataclass(frozen=True, slots=True)
class L1Block:
    """A block of the L1. Hashes are 32 bytes, `base_fee` is in wei a gas."""

    number: int
    block_hash: bytes
    timestamp_s: int
    base_fee: int


@dataclass(frozen=True, slots=True)
class ContractState:
    """Where the contract stands at some block: the batch it takes next, the log root before, and
    the epoch whose committee it takes it from."""

    next_number: int
    log_root: bytes
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class UpkeepState:
    """What the contract waits for besides batches: the epoch of the pending snapshot, 0 if there is
    none, and whether it would take a new one."""

    pending_epoch: int = 0
    snapshot_due: bool = False


EMPTY_CONTRACT = ContractState(next_number=1, log_root=bytes(32))
"""The contract's state when it is deployed."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch that the contract accepted, as its event says, and where that happened.

    Its bytes are in the input of the transaction, or in so many `blobs`.
    """

    number: int
    log_root: bytes
    data_hash: bytes
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    blobs: int = 0
    log_index: int = 0


@dataclass(frozen=True, slots=True)
class Handover:
    """The contract went from the certificate's epoch to that of `committee`.

    What its event says: whoever believes it has verified the certificate by the committee before.
    """

    certificate: CommitCertificate
    committee: Committee
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    log_index: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction. `contract` is the address it created, if it did (20 bytes)."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    succeeded: bool
    contract: bytes | None = None


class SendOutcome(Enum):
    """What the L1 said to a raw transaction."""

    ACCEPTED = "accepted"
    KNOWN = "already known"
    NONCE_TOO_LOW = "nonce too low"
    UNDERPRICED = "underpriced"
    INSUFFICIENT_FUNDS = "insufficient funds"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    """No answer: it may be in the pool or not."""


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """The outcome of sending, with the L1's own words."""

    outcome: SendOutcome
    text: str = ""


class SettlementClient(Protocol):
    """An L1 and our contract there. Every method may raise `SettlementError`; `send` never does."""

    async def head(self) -> L1Block:
        """The newest block."""
        ...

    async def finalized(self) -> L1Block:
        """The newest block that counts as final."""
        ...

    async def block(self, number: int) -> L1Block:
        """The block at this height."""
        ...

    async def contract_state(self, block: L1Block) -> ContractState:
        """The contract after `block`, found by its hash."""
        ...

    async def upkeep(self, block: L1Block) -> UpkeepState:
        """What the contract waits for after `block`."""
        ...

    async def accepted(self, first_block: int, last_block: int) -> list[Accepted]:
        """The batches accepted in these blocks, both included, in order."""
        ...

    async def handovers(self, first_block: int, last_block: int) -> list[Handover]:
        """The handovers to another committee in these blocks, both included, in order."""
        ...

    async def transaction_input(self, tx_hash: bytes) -> bytes:
        """The input of a mined transaction to the contract."""
        ...

    async def tip(self) -> int:
        """The tip in wei a gas that gets a transaction included at present."""
        ...

    async def balance(self, address: bytes) -> int:
        """Wei that an account owns at the head."""
        ...

    async def nonce(self, address: bytes) -> int:
        """Transactions of an account that are mined at the head."""
        ...

    async def simulate(
        self, sender: bytes, calldata: bytes, gas: int, blob_hashes: Sequence[bytes] = ()
    ) -> None:
        """Run a call of the contract on the pending state; raises `CallReverted` if it fails."""
        ...

    async def estimate(self, sender: bytes, calldata: bytes) -> int:
        """The gas that a call takes on the pending state; raises `CallReverted` if it fails."""
        ...

    async def send(self, raw: bytes, sidecar: Sidecar | None = None) -> SendAnswer:
        """Hand over a signed transaction, with the sidecar of its blobs if it has some."""
        ...

    # blobs

    async def blob_base_fee(self) -> int:
        """Wei that a unit of blob gas costs in the next block."""
        ...

    async def takes_cells(self) -> bool:
        """Whether sidecars carry proofs of cells (from Osaka on), or of blobs (before)."""
        ...

    async def blob_hashes(self, tx_hash: bytes) -> tuple[bytes, ...]:
        """The versioned hashes (32 bytes each) of a mined transaction's blobs."""
        ...

    async def timestamp_s(self, block_hash: bytes) -> int:
        """When a block was made, Unix seconds."""
        ...

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """What became of a transaction; None while it is not mined."""
        ...
