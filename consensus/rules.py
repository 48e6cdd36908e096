"""Settings that every member must share: they stand in the genesis and so in the chain id.

Times in milliseconds, sizes in bytes, windows in heights or rounds.
"""

from dataclasses import dataclass, fields

from consensus.errors import InvalidConfiguration
from consensus.types import MAX_BLOCK_COLLECTIONS

MAX_BATCH_BYTES = 6 * 4_096 * 31 - 4
"""What six blobs carry; calldata carries 120 KiB (a genesis says which it is)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits and timers of one chain; `violations` says in sentences what cannot work."""

    base_timeout_ms: int = 1_000
    """T3: how long a round with a live leader may take at most in an undisturbed network."""
    timeout_growth_percent: int = 150
    """T3: each failed round beyond `free_failures` multiplies the timer by this."""
    free_failures: int = 3
    """T3: how many rounds may fail in a row before the timer grows."""
    max_timeout_ms: int = 20_000
    """T3: the cap of the grown timer."""
    idle_heartbeat_ms: int = 10_000
    """P2: an idle leader proposes an empty block this long after entering its round."""
    min_block_interval_ms: int = 30
    """A leader waits this long after the block before; trades latency for fewer blocks."""
    max_clock_skew_ms: int = 2_000
    """V5: how far ahead of my clock a block's timestamp may be."""
    max_block_collections: int = 256
    """V5: digests in one block."""
    max_block_bytes: int = 4 * 1024 * 1024
    """V5: bytes of the collections that one block orders."""
    max_collection_bytes: int = 256 * 1024
    """Encoded bytes of one collection."""
    max_transaction_bytes: int = 100_000
    """Bytes of one transaction; fits one batch with its header."""
    digest_window_heights: int = 256
    """V5: a digest may not be repeated within this many ancestors."""
    duplicate_window_heights: int = 5_000
    """A transaction counts once within this many heights."""
    round_window: int = 64
    """Q3: messages further ahead than this are not stored."""
    batch_max_bytes: int = 120_000
    """Uncompressed canonical bytes that close a batch."""
    batch_max_blocks: int = 500
    """Blocks that close a batch."""
    batch_max_ms: int = 3_000
    """Elapsed block time that closes a batch that holds something."""

    def violations(self) -> list[str]:
        """Every relation between settings that does not hold, a sentence each."""
        found = [
            f"rules.{item.name} is {getattr(self, item.name)}, it has to be at least "
            f"{_LEAST.get(item.name, 1)}"
            for item in fields(self)
            if getattr(self, item.name) < _LEAST.get(item.name, 1)
        ]
        relations = (
            (
                self.max_timeout_ms >= self.base_timeout_ms,
                "rules.max_timeout_ms is below rules.base_timeout_ms",
            ),
            (
                self.min_block_interval_ms * 2 <= self.base_timeout_ms,
                "rules.min_block_interval_ms is above half of rules.base_timeout_ms",
            ),
            (
                self.max_block_collections <= MAX_BLOCK_COLLECTIONS,
                f"rules.max_block_collections is above {MAX_BLOCK_COLLECTIONS}",
            ),
            (
                self.max_collection_bytes <= self.max_block_bytes,
                "rules.max_collection_bytes is above rules.max_block_bytes",
            ),
            (
                self.max_transaction_bytes + 64 <= self.max_collection_bytes,
                "rules.max_transaction_bytes does not fit rules.max_collection_bytes",
            ),
            (
                self.max_transaction_bytes + 64 <= self.batch_max_bytes,
                "rules.max_transaction_bytes does not fit rules.batch_max_bytes",
            ),
            (
                self.batch_max_bytes <= MAX_BATCH_BYTES,
                f"rules.batch_max_bytes is above the {MAX_BATCH_BYTES} that the blobs of one L1 "
                "transaction carry",
            ),
        )
        return found + [sentence for holds, sentence in relations if not holds]

    def check(self) -> None:
        """Raise `InvalidConfiguration` with every violation at once."""
        found = self.violations()
        if found:
            raise InvalidConfiguration("; ".join(found))


_LEAST = {"timeout_growth_percent": 100, "min_block_interval_ms": 0, "free_failures": 0}
