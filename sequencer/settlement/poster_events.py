"""The poster's vocabulary: stages, settings, what it is told, what it asks for, what it tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from sequencer.settlement.account import Fees
from sequencer.settlement.client import Accepted, L1Block, Receipt, SendAnswer
from sequencer.settlement.poster_state import Job, Version
from sequencer.settlement.schedule import MIN_TAKEOVER_BLOCKS

L1_ALARM = "l1"
"""Topic of the alarm that the L1 cannot be read."""


class Stage(Enum):
    """Where an attempt stands; see the module's text."""

    CERTIFIED = "certified"
    BUILT = "built"
    SIMULATED = "simulated"
    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    FINAL = "final"
    REPLACED = "replaced"
    TAKEN_OVER = "taken over"
    REVERTED = "reverted"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class PosterSettings:
    """Equal on all members as far as takeover is concerned; the rest is each member's choice."""

    takeover_blocks: int = MIN_TAKEOVER_BLOCKS
    confirmations: int = 2
    bump_after_blocks: int = 3
    max_fee_wei: int = 500 * 10**9
    answer_timeout_ms: int = 30_000
    head_stall_ms: int = 60_000
    finality_stall_blocks: int = 512

    def __post_init__(self) -> None:
        if self.takeover_blocks < MIN_TAKEOVER_BLOCKS:
            raise ValueError(f"takeover_blocks must be at least {MIN_TAKEOVER_BLOCKS}")
        if self.confirmations < 1 or self.bump_after_blocks < 1:
            raise ValueError("confirmations and bump_after_blocks must be at least 1")


# events


@dataclass(frozen=True, slots=True)
class L1View:
    """A consistent reading of the L1, and of what we hold.

    `next_number` is the contract's at `head`, `final_next` the one at `final_block`. `accepted`
    lists what was accepted after block `window_start` of the machine. `nonce` is read before
    `receipts`, so that an own transaction that used a nonce has its receipt here. `certified` is
    the highest batch number up to which we hold certificates, 0 for none. `blob_base_fee` is in wei
    a unit of blob gas, 0 where no blobs are used.

    The contract at `head` takes certificates of `epoch`, holds a pending snapshot of the next one
    if `pending_epoch` names it, and would take a new snapshot if `snapshot_due`. `next_epoch` is
    what the header of batch `next_number` names here, None while that is not closed. `handover`
    says whether we hold what ended the contract's epoch.
    """

    head: L1Block
    final_block: int
    next_number: int
    final_next: int
    accepted: tuple[Accepted, ...]
    nonce: int
    balance: int
    tip: int
    receipts: Mapping[bytes, Receipt]
    certified: int
    blob_base_fee: int = 0
    epoch: int = 0
    pending_epoch: int = 0
    snapshot_due: bool = False
    next_epoch: int | None = 0
    handover: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The L1 could not be read; `text` says why."""

    text: str


@dataclass(frozen=True, slots=True)
class Simulated:
    """The call for `job` succeeded on the pending state with this gas limit, and with so many
    blobs (0: its bytes are in the calldata)."""

    job: Job
    gas: int
    blobs: int = 0


@dataclass(frozen=True, slots=True)
class SimulationFailed:
    """The call would fail; `reason` is the contract's error name where it is one."""

    job: Job
    reason: str


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """An asked-for simulation or signature could not be made; `text` says why."""

    job: Job
    text: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction was signed, and has not been sent yet."""

    job: Job
    nonce: int
    version: Version


@dataclass(frozen=True, slots=True)
class Answered:
    """What the L1 said to a sent transaction."""

    tx_hash: bytes
    answer: SendAnswer


Event: TypeAlias = (
    L1View | Unreachable | Simulated | SimulationFailed | NoVerdict | Signed | Answered
)


# notices


@dataclass(frozen=True, slots=True)
class Posted:
    """A batch has its confirmations, whoever sent it."""

    number: int
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    blobs: int = 0


@dataclass(frozen=True, slots=True)
class Unposted:
    """`number` and all after it are not posted: a deep reorg took them out of the L1 again.

    Told at the first look as well, since what a node remembers may have gone while it was down.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Final:
    """All batches up to `number` are final on the L1."""

    number: int


@dataclass(frozen=True, slots=True)
class StageChanged:
    """An own attempt moved on. `tx_hash` is its newest transaction, empty before there is one."""

    job: Job
    stage: Stage
    tx_hash: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something needs an operator; told once, until `AlarmCleared` of the same topic."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class AlarmCleared:
    """What `Alarm` of this topic said is over."""

    topic: str


Notice: TypeAlias = Posted | Unposted | Final | StageChanged | Alarm | AlarmCleared


# actions


@dataclass(frozen=True, slots=True)
class Simulate:
    """Run the call for `job` on the pending state; answer with one of three events."""

    job: Job


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign the call for `job`, or (`cancel`) an empty transaction; answer `Signed`."""

    job: Job
    nonce: int
    gas: int
    fees: Fees
    cancel: bool
    blobs: int = 0


@dataclass(frozen=True, slots=True)
class Save:
    """Make these bytes durable before anything that follows."""

    state: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signed transaction (sign it again if its bytes are gone); answer `Answered`."""

    job: Job
    nonce: int
    version: Version


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand a notice to the node."""

    notice: Notice


Action: TypeAlias = Simulate | Sign | Save | Send | Tell
