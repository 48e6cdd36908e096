"""Virtual time: a heap of (time, sequence, action). Milliseconds, integers only."""

from collections.abc import Callable
from heapq import heappop, heappush

Action = Callable[..., None]


class Scheduler:
    """Runs actions in the order of their time, equal times in the order of their asking."""

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self._sequence = 0
        self._heap: list[tuple[int, int, Action, tuple[object, ...]]] = []

    def after(self, delay_ms: int, action: Action, *arguments: object) -> None:
        """Call `action(*arguments)` in `delay_ms`."""
        self._sequence += 1
        heappush(self._heap, (self.now + delay_ms, self._sequence, action, arguments))

    def at(self, time_ms: int, action: Action, *arguments: object) -> None:
        """Call `action(*arguments)` at `time_ms`, at once if that is past."""
        self.after(max(0, time_ms - self.now), action, *arguments)

    def run(self, until_ms: int) -> None:
        """Run everything due up to and including `until_ms`; then it is that time."""
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            time, _, action, arguments = heappop(heap)
            self.now = time
            self.events += 1
            action(*arguments)
        self.now = until_ms
