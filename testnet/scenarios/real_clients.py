"""Clients of a real cluster in a scenario, and the clock that everybody in it goes by."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final

from sequencer.client import ClientError, Refused
from sequencer.collection import transaction_id
from testnet.errors import TestnetError, sentence_of
from testnet.launch import Testnet
from testnet.scenarios.record import Record
from testnet.scenarios.vocabulary import Load
from testnet.workload import OPAQUE_NAMESPACES

PATIENCE_S: Final = 2.0
"""How long a client waits for a node's answer before it goes to the next."""
STEP_MS: Final = 20
PAUSE_S: Final = 0.1
RESEND_AFTER_MS: Final = 3_000
NAMESPACE: Final = OPAQUE_NAMESPACES[1]


class ScenarioClock:
    """Milliseconds of the scenario: it stands still while something is being done by hand."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._stopped: float | None = None

    @property
    def now_ms(self) -> int:
        """What time it is in the scenario."""
        now = self._stopped if self._stopped is not None else time.monotonic()
        return int((now - self._started) * 1_000)

    def stop(self) -> None:
        """Stand still."""
        self._stopped = time.monotonic()

    def go_on(self) -> None:
        """Go on where it stood."""
        assert self._stopped is not None
        self._started += time.monotonic() - self._stopped
        self._stopped = None

    async def until(self, time_ms: int) -> None:
        """Sleep until it is that time."""
        while (left := time_ms - self.now_ms) > 0:  # noqa: ASYNC110 - a clock has no event
            await asyncio.sleep(min(left, STEP_MS) / 1_000)


@dataclass(slots=True)
class _Sent:
    """A transaction that a node took: which, and after how many of its crashes."""

    data: bytes
    node: int
    lives: int
    at_ms: int


@dataclass(slots=True)
class Clients:
    """Submit to the nodes of a testnet; a client whose node does not answer goes to the next."""

    testnet: Testnet
    record: Record
    clock: ScenarioClock
    crashes: list[int]
    """How often each node went down."""
    label: bytes = b""
    """Makes the transactions of this run its own."""
    _sent: dict[bytes, _Sent] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _count: int = 0

    def load(self, load: Load) -> None:
        """Start a load: each transaction at its time."""
        self._spawn(self._run(load, self.clock.now_ms, self._count))
        self._count += load.count

    async def _run(self, load: Load, since_ms: int, first: int) -> None:
        for number in range(load.count):
            await self.clock.until(since_ms + load.over_ms * number // load.count)
            data = b"%s scenario transaction %d" % (self.label, first + number)
            identity = transaction_id(NAMESPACE, data)
            self.record.submitted.setdefault(identity, self.clock.now_ms)
            to = load.to if load.everywhere else (load.to[number % len(load.to)],)
            for node in to:
                self._spawn(self._place(identity, data, node))

    async def _place(self, identity: bytes, data: bytes, node: int) -> None:
        """Submit one until a node takes it."""
        clients = self.testnet.clients
        while True:
            lives = self.crashes[node]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await clients[node].api.submit(NAMESPACE, [data], patience_s=PATIENCE_S)
                break
            except Refused as refused:
                if refused.retry_after_s is None:
                    raise TestnetError(f"node {node} refused a transaction: {refused}") from None
            except (ClientError, TimeoutError):
                pass
            node = (node + 1) % len(clients)
            await asyncio.sleep(PAUSE_S)
        self._sent[identity] = _Sent(data, node, lives, self.clock.now_ms)

    def look(self) -> None:
        """Send again what a node took before it crashed, if nobody has ordered it."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            sentence_of(task)
        for identity, sent in list(self._sent.items()):
            if identity in self.record.ordered:
                del self._sent[identity]
            elif (
                self.crashes[sent.node] > sent.lives
                and self.clock.now_ms - sent.at_ms > RESEND_AFTER_MS
            ):
                del self._sent[identity]
                following = (sent.node + 1) % len(self.testnet.clients)
                self._spawn(self._place(identity, sent.data, following))

    @property
    def are_busy(self) -> bool:
        """Whether something is still to be submitted."""
        return bool(self._tasks)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def aclose(self) -> None:
        """Stop submitting."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
