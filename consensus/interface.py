"""What stands between the machine and its surroundings: the values that cross the seam.

`Ready` is a contract in the form of a struct: what to save in one transaction (S1, S2), then what
to send, then what to apply.
`Payload` and `History` are what the machine may ask, at once and without side effects.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from consensus.aggregator import Evidence
from consensus.messages import Message
from consensus.safety import SafetyRecord
from consensus.types import Block, CommitProof, QuorumCertificate


class Instant(NamedTuple):
    """Two clocks: one that never jumps for timers, Unix time for timestamps. Milliseconds."""

    monotonic_ms: int
    unix_ms: int


class Payload(Protocol):
    """What the machine asks about collections; answers at once, changes nothing it decided."""

    def holds(self, digest: bytes) -> bool:
        """Whether the collection is here, and durable before anything I say now leaves (S3)."""
        ...

    def size(self, digest: bytes) -> int | None:
        """Encoded bytes of a held collection; 0 for one that is already ordered."""
        ...

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        """Digests to order next, fair per author, none of `exclude`."""
        ...

    def has_work(self) -> bool:
        """T4: whether a collection is held that no committed block orders."""
        ...

    def next_committee(self) -> bytes | None:
        """Ep1, Ep2: digest of the next epoch's committee, once that is final in the registry."""
        ...

    def block_wanted_at(self) -> int | None:
        """Unix milliseconds at which a block is wanted even if it is empty; None if never."""
        ...


class History(Protocol):
    """Committed blocks for members that ask; the node's log."""

    def block(self, height: int) -> Block | None:
        """The committed block at a height."""
        ...

    def block_by_id(self, block_id: bytes) -> Block | None:
        """A committed block."""
        ...

    def proof_at_or_after(self, height: int) -> tuple[int, CommitProof] | None:
        """The nearest proof at or above a height."""
        ...


class NoticeKind(Enum):
    """Everything the core has to tell; one vocabulary for logs, metrics, scripts and checkers."""

    ROUND_ENTERED = "round entered"
    PROPOSED = "proposed"
    VOTED = "voted"
    COMMIT_VOTED = "commit-voted"
    REFUSED = "refused"
    CERTIFIED = "certified"
    COMMIT_CERTIFIED = "commit-certified"
    COMMITTED = "committed"
    TIMED_OUT = "timed out"
    TIMEOUT_CERTIFIED = "timeout-certified"
    EVIDENCE = "evidence"
    SYNCING = "syncing"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened; strings are made at the edge, `detail` is a rule or a short reason."""

    kind: NoticeKind
    round: int
    height: int = 0
    member: int = -1
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for one member, or for all (`to` is None), the sender included."""

    to: int | None
    message: Message


@dataclass(slots=True)
class Ready:
    """What to do now, in this order: save `record`, `blocks` and `evidence`; send; apply.

    `committed` is oldest first, each block once; the proof stands at the last block of a run.
    `needed` are blocks whose collections have to be here, `refused` some for which they have not;
    `offer_to` is a leader that may lack collections.
    `offer_all`: whoever has nothing to order has no timer, and I need their timeouts beside mine.
    """

    record: SafetyRecord | None = None
    blocks: list[Block] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)
    committed: list[tuple[Block, CommitProof | None]] = field(default_factory=list)
    needed: list[Block] = field(default_factory=list)
    refused: list[Block] = field(default_factory=list)
    offer_to: int | None = None
    offer_all: bool = False
    notices: list[Notice] = field(default_factory=list)

    @property
    def must_save(self) -> bool:
        """Whether something here has to be durable before anything is sent."""
        return self.record is not None or bool(self.blocks) or bool(self.evidence)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the disk remembers: record, committed head, its window of ancestors, blocks above.

    `root` stands for the QC of the block before the epoch; None in the epoch of the genesis.
    """

    record: SafetyRecord
    head: Block
    head_proof: CommitProof | None = None
    recent: tuple[Block, ...] = ()
    uncommitted: tuple[Block, ...] = ()
    root: QuorumCertificate | None = None
