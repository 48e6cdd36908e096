"""What the RPC asks of a node: the seam between the doors of a node and the node itself.

Every call is synchronous, cheap, and made on the event loop that runs the node.  The runtime
implements it; tests put a node of their own behind it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from consensus.epochs import EpochChange
    from sequencer.config import NodeConfig
    from sequencer.genesis import Genesis
    from sequencer.ledger import AppliedBlock, Ledger


class Unready(Exception):
    """The node cannot take transactions now; the message says why, in a sentence."""


class NodeService(Protocol):
    """A running node, as those see it who ask it for something."""

    genesis: "Genesis"
    config: "NodeConfig"
    ledger: "Ledger"

    def submit(self, transactions: list[tuple[int, bytes]]) -> None:
        """Take admitted (namespace, bytes) for ordering, all or none.

        Raises `sequencer.pool.PoolFull` (with `retry_after_ms`) and `Unready`.
        """

    def pending(self, tx_hash: bytes) -> bool:
        """Whether a transaction of this id or Ethereum hash waits here to be ordered."""

    def status(self) -> dict[str, Any]:
        """What this node is and how far it is: JSON-able."""

    def why(self) -> dict[str, Any]:
        """Why the log grows or not: round, leader, votes, who is missing, L1; JSON-able."""

    def metrics(self) -> bytes:
        """The node's own metrics as Prometheus text."""

    def committee(self) -> dict[str, Any]:
        """The committee that governs the next height: JSON-able."""

    def epoch_changes(self, from_epoch: int, limit: int) -> "Sequence[EpochChange]":
        """How `from_epoch` and those after it ended, oldest first; fewer where they have not."""

    def batch(self, number: int) -> dict[str, Any] | None:
        """The batch of this number (1 is the first), JSON-able; None if there is none yet."""

    def safe_height(self) -> int:
        """The highest height whose transactions are all posted on L1; 0 while there is none."""

    def finalized_height(self) -> int:
        """The highest height whose transactions are all final on L1; 0 while there is none."""

    def settlement(self, position: int) -> dict[str, Any] | None:
        """Batch number, its state and L1 transaction, of a log position; None while it is open."""

    def on_commit(self, callback: "Callable[[AppliedBlock], None]") -> Callable[[], None]:
        """Call back after a block is applied and saved; returns what ends that."""

    def ready(self) -> tuple[bool, str]:
        """Whether the node is synchronised and making progress, and if not, why."""
