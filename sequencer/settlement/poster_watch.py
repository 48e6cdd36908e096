"""What the poster notices about the L1 and all batches on it, whoever posted them."""

from collections.abc import Callable

from sequencer.settlement.client import Accepted
from sequencer.settlement.poster_events import (
    Alarm,
    AlarmCleared,
    Final,
    L1View,
    Notice,
    Posted,
    PosterSettings,
    Unposted,
)

Tell = Callable[[Notice], None]


class Alarms:
    """Tells each alarm once, and when it is over."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._active: dict[str, str] = {}

    def start(self, topic: str, text: str, detail: str = "") -> None:
        """Tell that something is wrong; `detail` may change without telling it again."""
        if self._active.get(topic) != text:
            self._active[topic] = text
            self._tell(Alarm(topic, text + detail))

    def clear(self, topic: str) -> None:
        """It is over, if it ever was."""
        if self._active.pop(topic, None) is not None:
            self._tell(AlarmCleared(topic))


class Progress:
    """Which batches are posted, by block hash, and which are final."""

    def __init__(self, confirmations: int, tell: Tell) -> None:
        self._confirmations = confirmations
        self._tell = tell
        self._posted: dict[int, Accepted] | None = None
        self._final_next = 1

    def look(self, view: L1View) -> None:
        """Tell what changed since the last view."""
        deepest = view.head.number - self._confirmations + 1
        confirmed = {b.number: b for b in view.accepted if b.block_number <= deepest}
        if self._posted is None:
            # What the node remembers from before its start may have been taken out since.
            self._posted = {}
            self._tell(Unposted(max(confirmed, default=view.final_next - 1) + 1))
        gone = [number for number, batch in self._posted.items() if not _holds(confirmed, batch)]
        if gone:
            self._tell(Unposted(min(gone)))
        for number, batch in sorted(confirmed.items()):
            is_news = number not in self._posted or number in gone
            if is_news and number >= self._final_next:
                where = (batch.tx_hash, batch.block_number, batch.block_hash, batch.blobs)
                self._tell(Posted(number, *where))
        self._posted = {n: b for n, b in confirmed.items() if n >= view.final_next}
        if view.final_next > self._final_next:
            self._final_next = view.final_next
            self._tell(Final(view.final_next - 1))


class L1Watch:
    """Raises an alarm when the L1's head or its finality stands still."""

    def __init__(self, settings: PosterSettings, alarms: Alarms) -> None:
        self._settings = settings
        self._alarms = alarms
        self._head_seen: tuple[bytes, int] = (b"", 0)
        self._final_seen: tuple[int, int] = (-1, 0)

    def look(self, view: L1View, now_ms: int) -> None:
        """Compare with the last view."""
        hash_seen, since_ms = self._head_seen
        if view.head.block_hash != hash_seen:
            self._head_seen = (view.head.block_hash, now_ms)
            self._alarms.clear("head")
        elif now_ms - since_ms >= self._settings.head_stall_ms:
            text = f"the L1 head stands at block {view.head.number}"
            self._alarms.start("head", text, f" for {(now_ms - since_ms) // 1000} s")
        final_seen, at_head = self._final_seen
        if view.final_block != final_seen:
            self._final_seen = (view.final_block, view.head.number)
            self._alarms.clear("finality")
        elif view.head.number - at_head >= self._settings.finality_stall_blocks:
            text = f"the L1 has finalized nothing after block {view.final_block}"
            self._alarms.start("finality", text, f"; its head is {view.head.number}")


def _holds(confirmed: dict[int, Accepted], batch: Accepted) -> bool:
    found = confirmed.get(batch.number)
    return found is not None and found.block_hash == batch.block_hash
