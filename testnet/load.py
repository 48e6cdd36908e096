"""Traffic for a testnet that runs already: submit at a rate, and see it committed everywhere."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final

from sequencer.client import ClientError
from testnet.client import NodeClient
from testnet.cluster import NodeSpec
from testnet.errors import TestnetError, sentence_of
from testnet.report import Progress, latency_summary, spell_latency
from testnet.traffic import Traffic
from testnet.watch import Watcher
from testnet.workload import Workload

COMMIT_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05


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
    submissions = await asyncio.to_thread(lambda: list(itertools.islice(iter(workload), count)))
    watchers = await _watch(specs, clients)
    following = [asyncio.create_task(watcher.run()) for watcher in watchers]
    started = time.monotonic()
    try:
        with progress.stage(f"submit {count:,} transactions") as stage:
            task = asyncio.create_task(traffic.run(submissions, rate))
            while not task.done():
                stage.note(f"{len(traffic.accepted):,} accepted")
                await asyncio.wait([task], timeout=POLL_S)
            sentence_of(task)
        with progress.stage("committed") as stage:
            await _until_committed(traffic, watchers)
            stage.note(f"{count:,} on {len(watchers)} nodes")
    finally:
        for follower in following:
            follower.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        for client in clients:
            await client.aclose()
    return _summarize(traffic, watchers, started)


async def _watch(specs: Sequence[NodeSpec], clients: Sequence[NodeClient]) -> list[Watcher]:
    """A watcher per node that answers, from its head on; nodes may be down."""
    watchers = []
    for spec, client in zip(specs, clients, strict=True):
        try:
            height = int((await client.api.status())["height"])
        except ClientError:
            continue
        watchers.append(Watcher(spec.name, client.api, height))
    if not watchers:
        raise TestnetError("none of the nodes answers; look with: testnet status")
    return watchers


async def _until_committed(traffic: Traffic, watchers: Sequence[Watcher]) -> None:
    def behind() -> list[str]:
        wanted = traffic.accepted.keys()
        lacks = {watcher.name: len(wanted - watcher.seen.keys()) for watcher in watchers}
        return [f"{name} lacks {count}" for name, count in lacks.items() if count]

    deadline = time.monotonic() + COMMIT_TIMEOUT_S
    while words := behind():
        if time.monotonic() > deadline:
            raise TestnetError(
                f"not committed within {COMMIT_TIMEOUT_S:g} s: {', '.join(words)} "
                f"of {len(traffic.accepted)}"
            )
        await asyncio.sleep(POLL_S)


def _summarize(traffic: Traffic, watchers: Sequence[Watcher], started: float) -> dict[str, Any]:
    times = {
        identity: min(watcher.seen[identity] for watcher in watchers)
        for identity in traffic.accepted
    }
    latencies = [
        (times[identity] - accepted.sent) * 1_000 for identity, accepted in traffic.accepted.items()
    ]
    elapsed = max(times.values()) - started
    return {
        "committed": f"{len(times):,} on {len(watchers)} nodes",
        "throughput": f"{len(times) / elapsed:,.1f} transactions/s",
        "latency": spell_latency(latency_summary(latencies)),
        "retries": traffic.retries,
    }
