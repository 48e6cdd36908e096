"""Closed batches are committed to one after another, oldest first, whatever fails meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from sequencer import committing as module
from sequencer.batcher import StoredBatch
from sequencer.committing import BLOBS_ALARM, Committer
from sequencer.settlement.blobs import Sidecar
from sequencer.settlement.kzg import KzgError
from sequencer.settlement.poster_events import Alarm, AlarmCleared, Notice

HASH = b"\x01" * 32


@dataclass
class Surroundings:
    """A batcher, a prover and ears for one committer."""

    batches: dict[int, StoredBatch] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    failures: int = 0

    def batch(self, number: int) -> StoredBatch | None:
        return self.batches.get(number)

    async def versioned_hashes(self, data: bytes) -> tuple[bytes, ...]:
        await asyncio.sleep(0)
        if data != b"warm":
            self.asked.append(data)
            if self.failures:
                self.failures -= 1
                raise KzgError("it died")
        return (HASH,)

    async def sidecar(self, data: bytes, cells: bool) -> Sidecar:
        raise AssertionError("nobody asks for proofs")

    def deliver(self, number: int, hashes: Sequence[bytes]) -> None:
        assert hashes == (HASH,)
        self.told.append(number)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - the test bounds the time
                await asyncio.sleep(0)


@asynccontextmanager
async def running(world: Surroundings) -> AsyncIterator[Committer]:
    committer = Committer(world, world, world.deliver, world.notices.append)  # type: ignore[arg-type]
    task = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def closed(*numbers: int) -> Surroundings:
    return Surroundings({n: StoredBatch(b"header", b"batch %d" % n) for n in numbers})


async def test_the_oldest_comes_first() -> None:
    world = closed(1, 2, 3)
    async with running(world) as committer:
        for number in (3, 1, 2, 3):
            committer.want(number, b"")
        await world.until(lambda: len(world.told) == 3)
    assert world.told == [1, 2, 3]
    assert world.asked == [b"batch 1", b"batch 2", b"batch 3"]


async def test_a_failure_is_an_alarm_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    world = closed(1)
    world.failures = 2
    async with running(world) as committer:
        committer.want(1, b"")
        await world.until(lambda: bool(world.told))
    alarms = [notice for notice in world.notices if isinstance(notice, Alarm)]
    assert [(alarm.topic, alarm.text) for alarm in alarms] == [(BLOBS_ALARM, "it died")] * 2
    assert world.notices[-1] == AlarmCleared(BLOBS_ALARM)


async def test_what_the_others_certified_meanwhile_is_not_computed() -> None:
    world = closed(2)
    world.batches[1] = StoredBatch(b"header", b"batch 1", b"\x07", b"signature")
    async with running(world) as committer:
        committer.want(1, b"")
        committer.want(2, b"")
        await world.until(lambda: bool(world.told))
    assert (world.told, world.asked) == ([2], [b"batch 2"])


async def test_it_goes_on_after_a_rest() -> None:
    world = closed(1, 2)
    async with running(world) as committer:
        committer.want(1, b"")
        await world.until(lambda: world.told == [1])
        committer.want(2, b"")
        await world.until(lambda: world.told == [1, 2])
