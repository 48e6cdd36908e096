"""What to ask others for: single missing blocks, and ranges of committed ones (Y1, Y2, Y3).

A missing block is one that a certificate names, directly or through its descendants; whoever
signed the certificate is asked first, then everybody in turn. What is missing is worked out anew
at every event, so nothing is asked for longer than it is needed. Falling behind by more than one
reply starts a range sync: one member at a time is asked for committed blocks above my head, which
needs nobody to make progress meanwhile. Everybody is asked in turn, whoever is slow or of no use
less often: a liar that answers as slowly as is allowed holds nobody up. Answers are believed only
through hashes and proofs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from consensus.messages import MAX_BLOCKS_PER_REPLY, BlockRequest, SyncRequest
from consensus.types import members_of

MAX_SKIPPED = 16
"""Turns that go by without a member that was slow, or had nothing, again and again."""


@dataclass(slots=True)
class Wanted:
    """A missing block: whom to ask next, and when."""

    candidates: list[int]
    attempts: int
    ask_at: int


class Fetcher:
    """Requests under way. Members are asked in turn, again every `retry_ms`."""

    def __init__(self, committee_size: int, me: int | None, retry_ms: int) -> None:
        self._others = [index for index in range(committee_size) if index != me]
        self._retry_ms = retry_ms
        self._wanted: dict[bytes, Wanted] = {}
        self._ahead: set[int] = set()
        self._asked: int | None = None
        self._fruitless = 0
        self._sync_at = 0
        self._rest_until = 0
        self._asked_at = 0
        self._turn = me or 0
        self._skips: dict[int, int] = {}
        self._useless: dict[int, int] = {}
        self.following = me is None
        self.syncing = False
        self.paused = False

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def deadline(self) -> int | None:
        """When the next request is due."""
        times = [wanted.ask_at for wanted in self._wanted.values()]
        if self.syncing and not self.paused:
            times.append(self._sync_at)
        return min(times) if times else None

    def add(self, source: int) -> None:
        """Somebody outside the committee who may have what I lack, and have asked others for."""
        if source not in self._others:
            self._others.append(source)
            for wanted in self._wanted.values():
                wanted.candidates.append(source)

    def remove(self, source: int) -> None:
        """A source outside the committee is gone."""
        if source in self._others:
            self._others.remove(source)
            self._skips.pop(source, None)
            self._useless.pop(source, None)
            for wanted in self._wanted.values():
                if len(wanted.candidates) > 1 and source in wanted.candidates:
                    wanted.candidates.remove(source)

    # ------------------------------------------------------------------ single blocks

    def want(self, missing: Mapping[bytes, bytes], now: int) -> None:
        """The missing blocks with the signers to ask first; all others need not be asked for.

        Nothing is asked for by its id while a range sync is under way.
        """
        if self.syncing or not self._others:
            missing = {}
        for block_id in [known for known in self._wanted if known not in missing]:
            del self._wanted[block_id]
        for block_id, signers in missing.items():
            if block_id not in self._wanted:
                first = [index for index in members_of(signers) if index in self._others]
                rest = [index for index in self._others if index not in first]
                turn = self._turn % max(1, len(first))
                self._turn += 1
                self._wanted[block_id] = Wanted(first[turn:] + first[:turn] + rest, 0, now)

    def is_wanted(self, block_id: bytes) -> bool:
        """Whether this block was asked for."""
        return block_id in self._wanted

    # ------------------------------------------------------------------ ranges

    def ahead(self, member: int, weight: Callable[[Iterable[int]], int]) -> int:
        """Note a member that is beyond my window; the weight of all such."""
        self._ahead.add(member)
        return weight(sorted(self._ahead))

    def start_sync(self, now: int) -> bool:
        """Begin a range sync; False when one is under way, or has just found nothing."""
        if self.syncing or not self._others or now < self._rest_until:
            return False
        self.syncing = True
        self._wanted.clear()
        self._ahead.clear()
        self._skips.clear()
        self._fruitless = 0
        self._asked = None
        self._sync_at = now
        return True

    def sync_progress(self, member: int, now: int) -> None:
        """A range was good, perhaps a late one: go on at once, with the next."""
        in_time = member == self._asked and now - self._asked_at < self._retry_ms // 4
        self._judge(member, in_time)
        self._fruitless = 0
        self._asked = None
        self._sync_at = now

    def _judge(self, member: int, is_useful: bool) -> None:
        """Whoever is of no use is passed over twice as often as before."""
        self._turn += 1
        if is_useful:
            self._useless.pop(member, None)
            return
        times = min(MAX_SKIPPED, 2 * self._useless.get(member, 0) or 1)
        self._useless[member] = self._skips[member] = times

    def sync_fruitless(self, member: int, now: int) -> None:
        """The member that was asked had nothing for me, or lied; done when nobody has more."""
        if not self.syncing or member != self._asked:
            return
        self._asked = None
        if self.following:
            self._turn += 1
            self.end_sync()
            return
        self._judge(member, is_useful=False)
        self._fruitless += 1
        self._sync_at = now
        if self._fruitless >= len(self._others):
            self.end_sync()
            self._rest_until = now + 4 * self._retry_ms

    def end_sync(self) -> None:
        """What is left can be fetched by its id."""
        self.syncing = False

    # ------------------------------------------------------------------ out

    def requests(self, now: int, head_height: int) -> list[tuple[int, BlockRequest | SyncRequest]]:
        """What is due now, each for one member."""
        due: list[tuple[int, BlockRequest | SyncRequest]] = []
        for block_id, wanted in self._wanted.items():
            if now >= wanted.ask_at:
                member = wanted.candidates[wanted.attempts % len(wanted.candidates)]
                wanted.attempts += 1
                wanted.ask_at = now + self._retry_ms
                due.append((member, BlockRequest(block_id, head_height)))
        if self.syncing and self._others and not self.paused and now >= self._sync_at:
            due.append((self._next_to_ask(), SyncRequest(head_height + 1)))
            self._asked_at = now
            self._sync_at = now + self._retry_ms
        return due

    def _next_to_ask(self) -> int:
        if self._asked is not None:
            self._judge(self._asked, is_useful=False)
            self._fruitless += 1
        while self._skips.get(self._others[self._turn % len(self._others)], 0):
            self._skips[self._others[self._turn % len(self._others)]] -= 1
            self._turn += 1
        self._asked = self._others[self._turn % len(self._others)]
        return self._asked


def is_long(gap_height: int | None, head_height: int) -> bool:
    """Whether one reply cannot bridge the blocks from the head up to a gap."""
    return gap_height is not None and gap_height - head_height > MAX_BLOCKS_PER_REPLY
