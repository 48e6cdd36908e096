"""Traffic for a testnet that runs already: submit at a rate, and see it committed everywhere.

Nodes may be killed, cut off, paused and brought back meanwhile.  Clients leave those alone that
are not ready, and send again what such a node had accepted and told nobody; nobody waits for them.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sequencer.client import ClientError
from testnet.client import NodeClient, open_session
from testnet.cluster import NodeSpec
from testnet.errors import TestnetError, sentence_of
from testnet.report import Progress, latency_summary, spell_latency
from testnet.traffic import Traffic
from testnet.watch import Watcher
from testnet.workload import Workload

COMMIT_TIMEOUT_S: Final = 60.0
FIRST_ANSWER_S: Final = 5.0
"""For a node to say where its log ends; one that takes longer is not watched."""
POLL_S: Final = 0.05
HEALTH_POLL_S: Final = 0.3
RESEND_AFTER_S: Final = 3.0
"""How long clients wait before they send again what a node may have lost."""


@dataclass(slots=True)
class _Health:
    """Who is ready, asked again and again."""

    specs: Sequence[NodeSpec]
    traffic: Traffic
    unready: dict[str, str] = field(default_factory=dict)
    """The names of nodes that are not, and why."""
    suspects: set[int] = field(default_factory=set)
    """Nodes that were not at some time: what they accepted may be lost."""

    async def run(self) -> None:
        """Ask until cancelled."""
        async with open_session() as session:
            while True:
                clients = self.traffic.clients
                answers = await asyncio.gather(*(it.is_ready(session) for it in clients))
                away = {node for node, (ready, _) in enumerate(answers) if not ready}
                self.suspects |= away
                self.unready = {self.specs[node].name: answers[node][1] for node in away}
                # where none is ready, clients go on trying
                self.traffic.away = away if len(away) < len(clients) else set()
                await asyncio.sleep(HEALTH_POLL_S)


@dataclass(slots=True)
class _Load:
    """One load in progress."""

    traffic: Traffic
    watchers: Sequence[Watcher]
    health: _Health
    resent: int = 0

    def unseen(self) -> set[bytes]:
        """What has been accepted and is in no log yet."""
        return self.traffic.accepted.keys() - set[bytes]().union(*(w.seen for w in self.watchers))

    def behind(self) -> list[str]:
        """Who lacks how many transactions; nodes that are not ready lack what all do."""
        wanted, found = self.traffic.accepted.keys(), []
        for watcher in self.watchers:
            is_left_out = watcher.name in self.health.unready
            missing = self.unseen() if is_left_out else wanted - watcher.seen.keys()
            if missing:
                found.append(f"{watcher.name} lacks {len(missing)}")
        return found

    def complete(self) -> int:
        """How many nodes have it all."""
        wanted = self.traffic.accepted.keys()
        return sum(wanted <= watcher.seen.keys() for watcher in self.watchers)

    async def resend(self) -> None:
        """Send again what suspects accepted and nobody has, until cancelled."""
        while True:
            await asyncio.sleep(RESEND_AFTER_S)
            unseen, accepted = self.unseen(), self.traffic.accepted
            suspects = self.health.suspects
            lost = [accepted[it].submission for it in unseen if accepted[it].node in suspects]
            lost.sort(key=lambda submission: submission.index)  # nonces arrive in order
            await self.traffic.run(lost, math.inf)
            self.resent += len(lost)


async def load(
    specs: Sequence[NodeSpec],
    rate: float,
    duration_s: float,
    transaction_bytes: int,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Submit for `duration_s`; a summary.  TestnetError when it is not all committed in time."""
    clients = [NodeClient(spec.rpc_url) for spec in specs]
    traffic = Traffic(clients)
    # Accounts and payloads of its own: their nonces start at 0 whatever was sent before.
    workload = Workload(seed + (time.time_ns() << 16), len(specs), transaction_bytes)
    count = max(1, int(rate * duration_s))
    submissions = await workload.take(count)
    watchers = await _watch(specs, clients)
    it = _Load(traffic, watchers, _Health(specs, traffic))
    background = [asyncio.create_task(watcher.run()) for watcher in watchers]
    background.append(asyncio.create_task(it.health.run()))
    started = time.monotonic()
    try:
        with progress.stage(f"submit {count:,} transactions") as stage:
            task = asyncio.create_task(traffic.run(submissions, rate))
            background.append(task)
            while not task.done():
                stage.note(f"{len(traffic.accepted):,} accepted")
                await asyncio.wait([task], timeout=POLL_S)
            sentence_of(task)
        with progress.stage("committed") as stage:
            background.append(asyncio.create_task(it.resend()))
            await _until_committed(it, background)
            stage.note(f"{count:,} on {it.complete()} nodes")
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for client in clients:
            await client.aclose()
    return _summarize(it, started)


async def _watch(specs: Sequence[NodeSpec], clients: Sequence[NodeClient]) -> list[Watcher]:
    """A watcher per node that answers, from its head on; nodes may be down."""

    async def watcher(spec: NodeSpec, client: NodeClient) -> Watcher | None:
        try:
            async with asyncio.timeout(FIRST_ANSWER_S):
                return Watcher(spec.name, client.api, int((await client.api.status())["height"]))
        except (ClientError, TimeoutError):
            return None

    found = await asyncio.gather(*map(watcher, specs, clients))
    watchers = [item for item in found if item is not None]
    if not watchers:
        raise TestnetError("none of the nodes answers; look with: testnet status")
    return watchers


async def _until_committed(it: _Load, background: Sequence[asyncio.Task[None]]) -> None:
    deadline = time.monotonic() + COMMIT_TIMEOUT_S
    while words := it.behind():
        for task in background:
            sentence_of(task)
        if time.monotonic() > deadline:
            why = "".join(f"; {name}: {reason}" for name, reason in it.health.unready.items())
            raise TestnetError(
                f"not committed within {COMMIT_TIMEOUT_S:g} s: {', '.join(words)} "
                f"of {len(it.traffic.accepted)}{why}"
            )
        await asyncio.sleep(POLL_S)


def _summarize(it: _Load, started: float) -> dict[str, Any]:
    accepted = it.traffic.accepted
    times = {
        identity: min(found.seen[identity] for found in it.watchers if identity in found.seen)
        for identity in accepted
    }
    latencies = [(times[identity] - item.sent) * 1_000 for identity, item in accepted.items()]
    elapsed = max(times.values()) - started
    rows = {
        "committed": f"{len(times):,} on {it.complete()} nodes",
        "throughput": f"{len(times) / elapsed:,.1f} transactions/s",
        "latency": spell_latency(latency_summary(latencies)),
        "retries": it.traffic.retries,
    }
    if it.resent:
        rows["sent again"] = f"{it.resent}, which nodes that were not ready had accepted"
    if it.health.unready:
        rows["not ready"] = "; ".join(f"{name}: {why}" for name, why in it.health.unready.items())
    return rows
