"""Every bound of a pool of collections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Every bound of a pool. Times in milliseconds."""

    seal_bytes: int = 128 * 1024
    """A collection is sealed when it is this large ..."""
    seal_ms: int = 20
    """... or this long after the one before; the first transaction after that waits for none."""
    max_pending_bytes: int = 64 * 1024 * 1024
    """My clients' transactions that are not committed; above it `submit` raises `PoolFull`."""
    max_peer_bytes: int = 32 * 1024 * 1024
    """Uncommitted collections held from one member that no block named; of all guests together."""
    max_peer_collections: int = 8_192
    """The same in numbers, against a flood of tiny ones."""
    max_held_bytes: int = 1024 * 1024 * 1024
    """All collections held that no block named; a peer's quota is at most its equal share."""
    max_wanted: int = 4_096
    """Digests being fetched; the oldest is forgotten for a new one."""
    max_offered: int = 256
    """Digests being fetched because one peer offered them; also the longest offer."""
    offer_attempts: int = 3
    """How often an offered collection is asked for."""
    max_request_digests: int = 128
    """Digests in one request, asked or answered."""
    max_reply_bytes: int = 8 * 1024 * 1024
    """Bytes a peer can be sent for its requests in one burst."""
    reply_bytes_per_ms: int = 16 * 1024
    """How fast that allowance refills."""
    first_ask_ms: int = 10
    """Patience before a named collection is asked for: most are on their way already."""
    retry_ms: int = 150
    """Time to answer before the next peer is asked; doubles up to `max_retry_ms`."""
    max_retry_ms: int = 2_000

    def peer_bytes(self, committee_size: int) -> int:
        """The quota of each other member, and of all that are no members together."""
        return min(self.max_peer_bytes, self.max_held_bytes // committee_size)
