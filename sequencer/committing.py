"""Has closed batches committed to as blobs, one after another, while the node goes on.

What fails is an alarm and is tried again: a batch that nobody here can commit to waits, and becomes
certified by the others all the same.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from sequencer.batcher import Batcher
from sequencer.settlement.client import SettlementError
from sequencer.settlement.kzg import BlobProver
from sequencer.settlement.poster_events import Alarm, AlarmCleared, Notice

BLOBS_ALARM: Final = "blobs"
"""Topic of the alarm that commitments cannot be computed."""
RETRY_S: Final = 5.0


class Committer:
    """Serves one batcher: `want` what it asks for, `deliver` what it is to be told."""

    def __init__(
        self,
        batcher: Batcher,
        prover: BlobProver,
        deliver: Callable[[int, Sequence[bytes]], None],
        notify: Callable[[Notice], None],
    ) -> None:
        self._batcher = batcher
        self._prover = prover
        self._deliver = deliver
        self._notify = notify
        self._wanted: set[int] = set()
        self._waiting = asyncio.Event()

    def want(self, number: int, _data: bytes) -> None:
        """Batch `number` is closed. Its bytes are kept by the batcher alone."""
        self._wanted.add(number)
        self._waiting.set()

    async def run(self) -> None:
        """Serve for ever, oldest batches first; cancel to end."""
        with contextlib.suppress(SettlementError):
            await self._prover.versioned_hashes(b"warm")  # the first one takes two seconds
        while True:
            await self._waiting.wait()
            number = min(self._wanted)
            try:
                await self._commit(number)
            except SettlementError as error:
                self._notify(Alarm(BLOBS_ALARM, str(error)))
                await asyncio.sleep(RETRY_S)
                continue
            self._notify(AlarmCleared(BLOBS_ALARM))
            self._wanted.discard(number)
            if not self._wanted:
                self._waiting.clear()

    async def _commit(self, number: int) -> None:
        batch = self._batcher.batch(number)
        if batch is not None and not batch.certified:
            self._deliver(number, await self._prover.versioned_hashes(batch.data))
