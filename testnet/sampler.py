"""Where a node's CPU time goes: a hundred samples per CPU second, each counted for a room.

A sample is the innermost frame of our own packages on the main thread's stack, so the time of a
library counts for the room that called it. What other threads burn (signatures, disk) while the
main thread waits counts as `other threads`.
"""

import atexit
import json
import signal
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

INTERVAL_S: Final = 0.01
ROOMS: Final = (
    ("consensus.bls", "signatures"),
    ("consensus.", "consensus"),
    ("net.", "net"),
    ("sequencer.rpc.", "rpc"),
    ("sequencer.store.", "store"),
    ("sequencer.settlement.", "settlement"),
    ("sequencer.runtime", ""),  # it waits: what it calls counts for itself
    ("sequencer.", "node"),
)
ELSEWHERE: Final = "event loop and other threads"


def start(report: Path) -> None:
    """Sample this process until it exits; then write seconds by room to `report` as JSON."""
    counts: Counter[str] = Counter()

    def sample(_number: int, frame: FrameType | None) -> None:
        room = room_of(frame)
        if room is not None:
            counts[room] += 1

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = {room: round(count * INTERVAL_S, 2) for room, count in counts.items()}
        report.write_text(json.dumps(seconds))

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
    atexit.register(write)


def room_of(frame: FrameType | None) -> str | None:
    """The room that a stack is in; None while it imports, which happens once."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("importlib"):
            return None
        for prefix, room in ROOMS:
            if module.startswith(prefix):
                return room or ELSEWHERE
        frame = frame.f_back
    return ELSEWHERE
