"""Clients that submit a workload to a cluster, at a rate, with the patience of real ones.

A client that cannot reach its node goes to the next one; one that is told "full" waits as long as
it was told.  Anything else that a node answers is a failure: nothing here is allowed to be refused.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from eth_hash.auto import keccak

from sequencer.client import Refused, Unreachable
from sequencer.collection import transaction_id
from testnet.client import NodeClient
from testnet.errors import TestnetError
from testnet.workload import OPAQUE_NAMESPACES, Submission

PATIENCE_S: Final = 60.0
"""How long a client tries to place one transaction."""

AHEAD_S: Final = 2.0
"""How much of an endless stream is made before it is due, in seconds of it."""
FAILOVER_S: Final = 0.1
"""Pause before the next node is tried."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A transaction that a node took: which node, and when it was sent (monotonic seconds)."""

    submission: Submission
    node: int
    sent: float
    id: bytes


@dataclass(slots=True)
class Traffic:
    """Submits to `clients`, one per node; `accepted` grows, keyed by transaction id."""

    clients: Sequence[NodeClient]
    accepted: dict[bytes, Accepted] = field(default_factory=dict)
    retries: int = 0
    """Attempts that failed and were made again."""
    away: set[int] = field(default_factory=set)
    """Nodes that clients leave alone: they have left, are about to, or are not ready."""

    async def run(self, submissions: Iterable[Submission], rate: float) -> None:
        """Submit each at its time, `rate` a second, and wait until all were taken.

        Each client sends one after the other, so the nonces of its account arrive in order.
        """
        lanes: dict[tuple[int, int, int], list[Submission]] = defaultdict(list)
        for submission in submissions:
            lanes[submission.node, submission.namespace, submission.lane].append(submission)
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for lane in lanes.values():
                group.create_task(self._run_lane(lane, started, rate))

    async def run_until(
        self, stream: Iterator[Submission], rate: float, ended: asyncio.Event
    ) -> None:
        """The same with an endless stream, until `ended`."""
        lanes: dict[tuple[int, int, int], asyncio.Queue[Submission | None]] = {}
        started, ahead = time.monotonic(), max(1, int(rate * AHEAD_S))
        async with asyncio.TaskGroup() as group:
            while not ended.is_set():
                chunk = await asyncio.to_thread(lambda: list(itertools.islice(stream, ahead)))
                for submission in chunk:
                    key = submission.node, submission.namespace, submission.lane
                    if key not in lanes:
                        lanes[key] = asyncio.Queue()
                        group.create_task(self._run_queue(lanes[key], started, rate))
                    lanes[key].put_nowait(submission)
                due = started + chunk[-1].index / rate - time.monotonic() - AHEAD_S / 2
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due)):
                        await ended.wait()
            for queue in lanes.values():
                queue.put_nowait(None)

    async def _run_queue(
        self, queue: asyncio.Queue[Submission | None], started: float, rate: float
    ) -> None:
        while (submission := await queue.get()) is not None:
            await self._run_lane([submission], started, rate)

    async def _run_lane(self, lane: list[Submission], started: float, rate: float) -> None:
        for submission in lane:
            due = started + submission.index / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.place(submission)

    async def place(self, submission: Submission) -> None:
        """Submit one until a node takes it.  TestnetError if it is refused or nobody answers."""
        sent = time.monotonic()
        node = submission.node
        while True:
            node = self._next_present(node)
            try:
                identity = await _send(self.clients[node], submission)
                break
            except Refused as refused:
                if refused.retry_after_s is None:
                    raise TestnetError(
                        f"node {node} refused transaction {submission.index}: {refused}"
                    ) from None
                pause, reason = refused.retry_after_s, str(refused)
            except Unreachable as unreachable:
                node = (node + 1) % len(self.clients)
                pause, reason = FAILOVER_S, str(unreachable)
            self.retries += 1
            if time.monotonic() - sent > PATIENCE_S:
                raise TestnetError(f"no node takes transaction {submission.index}: {reason}")
            await asyncio.sleep(pause)
        first = self.accepted.get(identity)  # where it is sent again, the first time counts
        self.accepted[identity] = Accepted(
            submission, node, first.sent if first else sent, identity
        )

    def _next_present(self, node: int) -> int:
        """This node, or the first after it that is not away."""
        for step in range(len(self.clients)):
            if (found := (node + step) % len(self.clients)) not in self.away:
                return found
        raise TestnetError("all nodes have left")


async def _send(client: NodeClient, submission: Submission) -> bytes:
    """Submit through the door of its kind; its id (32 bytes), checked against the answer."""
    namespace, data = submission.namespace, submission.data
    identity = transaction_id(namespace, data)
    if submission.is_ethereum:
        answered, expected = await client.send_raw(namespace, data), keccak(data)
    elif namespace == OPAQUE_NAMESPACES[0]:
        answers = await client.api.call("seq_submit", namespace, ["0x" + data.hex()])
        answered, expected = bytes.fromhex(answers[0].removeprefix("0x")), identity
    else:
        ids = await client.api.submit(namespace, [data], patience_s=0)
        answered, expected = ids[0], identity
    if answered != expected:
        raise TestnetError(
            f"{client.url} answered transaction {submission.index} with {answered.hex()} "
            f"instead of its hash {expected.hex()}"
        )
    return identity
