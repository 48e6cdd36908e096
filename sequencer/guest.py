"""A follower's clients: what they send is offered to the members until it is ordered."""

from sequencer.pool import Pool
from sequencer.voice import Voice


class Guest:
    """Offers what the pool holds to one member after the other; whoever fetches it, orders it."""

    def __init__(self, pool: Pool, voice: Voice, again_ms: int) -> None:
        self._pool = pool
        self._voice = voice
        self._again_ms = again_ms
        self._offer_at = 0
        self._turn = 0

    @property
    def deadline(self) -> int | None:
        """When to offer again, monotonic milliseconds."""
        return self._offer_at if self._pool.has_work() else None

    def tick(self, now: int) -> None:
        """Offer what has waited."""
        if self._pool.has_work() and now >= self._offer_at:
            self.offer(now)

    def offer(self, now: int) -> None:
        """Offer everything to the next member that is there."""
        self._offer_at = now + self._again_ms
        there = self._voice.members_up()
        if there:
            self._turn += 1
            self._pool.offer_to(there[self._turn % len(there)])
