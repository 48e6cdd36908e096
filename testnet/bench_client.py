"""The load of a bench, in a process of its own: `python -m testnet.bench_client < offer.json`.

Open loop: transactions are due at fixed moments, whatever became of the ones before, and latency
counts from the moment a transaction was *due*.  So a stall of the cluster, or of this client, is
suffered by everything that was due meanwhile (no coordinated omission).

Every `probe_every`-th transaction stands in a namespace of its own; the feed of the node that it
was sent to says when it was committed.  The others are counted.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final

import aiohttp
import orjson

from sequencer.collection import transaction_id
from sequencer.rpc.submit import encode_submission
from testnet.client import open_session

NAMESPACE: Final = 7_001
PROBE_NAMESPACE: Final = 7_002
TICK_S: Final = 0.004
"""Transactions that fall due within one tick share a body."""
MAX_IN_FLIGHT: Final = 64
"""Bodies to one node without an answer; what falls due beyond that waits, and its clock runs."""
MAX_BODY_TRANSACTIONS: Final = 4_096
DRAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What to offer: `rate` transactions a second for `seconds`, after `warmup_s` of the same."""

    urls: list[str]
    rate: float
    seconds: float
    warmup_s: float
    transaction_bytes: int
    seed: int
    probe_every: int


@dataclass(slots=True)
class Result:
    """What happened; times in seconds since the first transaction was due, latencies in ms."""

    sent: int = 0
    refused: int = 0
    """Turned away by full nodes; not sent again."""
    failed: int = 0
    """Got no answer."""
    committed: int = 0
    """In the log of the slowest node in the end."""
    committed_in_window: int = 0
    """On the slowest node, between the end of the warm-up and the end of the offer."""
    drained_s: float = 0.0
    """When the last node had the last transaction; 0 if that never happened."""
    blocks: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    lost_probes: int = 0
    gap_ms: float = 0.0
    """The longest time without a commit within the window."""


class Load:
    """One offer in progress."""

    def __init__(self, offer: Offer, session: aiohttp.ClientSession) -> None:
        self.offer = offer
        self.session = session
        self.result = Result()
        self.due: dict[bytes, tuple[float, int]] = {}
        """Of probes: when they were due, and the node they were sent to."""
        self.counts = [0] * len(offer.urls)
        self.commits: list[deque[tuple[float, int]]] = [deque() for _ in offer.urls]
        self.started = 0.0
        pool = random.Random(offer.seed)
        self._filler = pool.randbytes(offer.transaction_bytes)
        self._nonce = pool.randbytes(8)
        self._in_flight = [asyncio.Semaphore(MAX_IN_FLIGHT) for _ in offer.urls]
        self._posts: set[asyncio.Task[None]] = set()
        self._subscribed = [asyncio.Event() for _ in offer.urls]

    async def run(self) -> Result:
        """Offer, drain, and tell."""
        feeds = [
            asyncio.create_task(self._follow(node, url)) for node, url in enumerate(self.offer.urls)
        ]
        async with asyncio.timeout(DRAIN_S):
            await asyncio.gather(*(event.wait() for event in self._subscribed))
        self.started = time.monotonic()
        await asyncio.gather(*(self._offer(node) for node in range(len(self.offer.urls))))
        if self._posts:
            await asyncio.wait(self._posts)
        await self._drain(feeds)
        for feed in feeds:
            feed.cancel()
        return self._conclude()

    async def _offer(self, node: int) -> None:
        """Send what is due to one node, tick by tick."""
        offer, nodes = self.offer, len(self.offer.urls)
        interval = nodes / offer.rate
        total = int((offer.warmup_s + offer.seconds) / interval)
        index = 0
        while index < total:
            elapsed = time.monotonic() - self.started
            ready = min(total, int(elapsed / interval) + 1, index + MAX_BODY_TRANSACTIONS)
            if ready > index:
                await self._in_flight[node].acquire()
                self._send(node, range(index, ready), interval)
                index = ready
            next_due = self.started + index * interval
            await asyncio.sleep(max(TICK_S, next_due - time.monotonic()))

    def _send(self, node: int, indices: range, interval: float) -> None:
        transactions = []
        for index in indices:
            number = index * len(self.offer.urls) + node
            namespace = NAMESPACE if number % self.offer.probe_every else PROBE_NAMESPACE
            data = self._nonce + number.to_bytes(8, "big") + self._filler[16:]
            transactions.append((namespace, data))
            if namespace == PROBE_NAMESPACE:
                self.due[transaction_id(namespace, data)] = (self.started + index * interval, node)
        task = asyncio.create_task(self._post(node, transactions))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _post(self, node: int, transactions: list[tuple[int, bytes]]) -> None:
        try:
            async with self.session.post(
                self.offer.urls[node] + "/submit",
                data=encode_submission(transactions),
                headers={"Prefer": "return=minimal", "Content-Type": "application/octet-stream"},
            ) as response:
                if response.status < 300:
                    self.result.sent += len(transactions)
                    return
                self.result.refused += len(transactions)
        except (aiohttp.ClientError, TimeoutError):
            self.result.failed += len(transactions)
        finally:
            self._in_flight[node].release()
        for namespace, data in transactions:
            if namespace == PROBE_NAMESPACE:
                self.due.pop(transaction_id(namespace, data), None)

    async def _follow(self, node: int, url: str) -> None:
        async with self.session.ws_connect(url, max_msg_size=0) as socket:
            params: list[Any] = ["blocks", None, PROBE_NAMESPACE]
            request = {"jsonrpc": "2.0", "id": 1, "method": "seq_subscribe", "params": params}
            await socket.send_str(orjson.dumps(request).decode())
            async for message in socket:
                event = orjson.loads(message.data)
                if "method" not in event:
                    self._subscribed[node].set()
                    continue
                now, block = time.monotonic(), event["params"]["result"]
                self.counts[node] += block["count"]
                self.commits[node].append((now, block["count"]))
                self._note(node, block["transactions"], now)

    def _note(self, node: int, identities: list[str], now: float) -> None:
        for identity in identities:
            key = bytes.fromhex(identity[2:])
            due, sent_to = self.due.get(key, (0.0, -1))
            if sent_to == node:
                del self.due[key]
                if due - self.started >= self.offer.warmup_s:
                    self.result.latencies_ms.append((now - due) * 1_000)

    async def _drain(self, feeds: list[asyncio.Task[None]]) -> None:
        deadline = time.monotonic() + DRAIN_S
        while min(self.counts) < self.result.sent and time.monotonic() < deadline:
            for feed in feeds:
                if feed.done():
                    feed.result()
            await asyncio.sleep(TICK_S)
        if min(self.counts) >= self.result.sent:
            self.result.drained_s = time.monotonic() - self.started

    def _conclude(self) -> Result:
        offer, result = self.offer, self.result
        first = self.started + offer.warmup_s
        last = first + offer.seconds
        within = [
            [(at, count) for at, count in commits if first <= at < last and count]
            for commits in self.commits
        ]
        result.committed = min(self.counts)
        result.committed_in_window = min(sum(count for _, count in node) for node in within)
        result.blocks = max(len(node) for node in within)
        times = [first, *(at for at, _ in within[0]), last]
        result.gap_ms = max(after - before for before, after in pairwise(times)) * 1_000
        result.lost_probes = len(self.due)
        return result


async def _main() -> None:
    offer = Offer(**json.load(sys.stdin))
    async with open_session() as session:
        result = await Load(offer, session).run()
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
