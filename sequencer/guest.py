"""A follower's clients: what they send is offered to the members until it is ordered."""

from sequencer.messages import CollectionOffer
from sequencer.pool import Pool
from sequencer.voice import Voice


class Guest:
    """Offers my clients' collections to one member after the other; who fetches one, orders it."""

    def __init__(self, pool: Pool, voice: Voice, again_ms: int) -> None:
        self._pool = pool
        self._voice = voice
        self._again_ms = again_ms
        self._offer_at = 0
        self._turn = 0

    @property
    def deadline(self) -> int | None:
        """When to offer again, monotonic milliseconds."""
        return self._offer_at if self._pool.own() else None

    def tick(self, now: int) -> None:
        """Offer what has waited."""
        if now >= self._offer_at:
            self.offer(now)

    def offer(self, now: int) -> None:
        """Offer what is not ordered to the next member that is there."""
        own, there = self._pool.own(), self._voice.members_up()
        self._offer_at = now + self._again_ms
        if own and there:
            self._turn += 1
            self._voice.to_one(there[self._turn % len(there)], CollectionOffer(own))
