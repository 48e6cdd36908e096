"""The main job: real nodes order real transactions and settle them; then everything is checked.

Nothing a node says about itself is believed.  What is committed is what its feed delivered; what
is on the L1 is what `derive` rebuilds from it; what a node stored is read from its own disk after
it stopped.  All of these have to be the same bytes, and exactly what was submitted.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sequencer.keys import show_keys
from sequencer.settlement.batch import LogEntry
from testnet import audit
from testnet.cluster import NodeSpec
from testnet.errors import TestnetError, sentence_of
from testnet.launch import Plan, Testnet, launch
from testnet.report import Progress, Stage, latency_summary, spell_bytes, spell_latency
from testnet.state import Layout
from testnet.traffic import Traffic
from testnet.watch import Watcher
from testnet.workload import Workload

COMMIT_TIMEOUT_S: Final = 60.0
FINAL_TIMEOUT_S: Final = 120.0
ENDLESS_TIMEOUT_S: Final = 1_800.0
"""For a disturbance that decides how long traffic goes on."""
POLL_S: Final = 0.1

KILL_AT: Final = 0.3
"""Share of the traffic that is accepted when a node is killed."""
RESTART_AT: Final = 0.8
"""Share of the traffic that is committed by the others before it is restarted."""
RESEND_AFTER_S: Final = 3.0
"""How long a client waits before it sends again what its killed node may have lost."""


@dataclass(frozen=True, slots=True)
class Job:
    """What testnet to make, and what to submit: `rate` transactions a second, sizes in bytes.

    With `transactions` 0 clients submit for as long as `disturb` takes.
    """

    plan: Plan
    transactions: int = 400
    rate: float = 200.0
    transaction_bytes: int = 300
    disturb: "Callable[[Run], Awaitable[None]] | None" = None
    """What goes wrong meanwhile; it ends with everything mended."""


@dataclass(slots=True)
class Run:
    """One run in progress, and what is known of it so far."""

    job: Job
    testnet: Testnet
    progress: Progress
    traffic: Traffic
    watchers: list[Watcher]
    followers: list[asyncio.Task[None]] = field(default_factory=list)
    started: float = 0.0
    killed: list[int] = field(default_factory=list)
    """Nodes that were killed, as often as they were."""
    resent: int = 0

    def watch(self, number: int) -> None:
        """Follow the log of a node from its first block on; nodes are watched in their order."""
        spec, client = self.testnet.specs[number], self.testnet.clients[number]
        watcher = Watcher(spec.name, client.api)
        assert number == len(self.watchers)
        self.watchers.append(watcher)
        self.followers.append(asyncio.create_task(watcher.run()))

    @property
    def present(self) -> list[tuple[NodeSpec, Watcher]]:
        """The nodes that have not left, and who watches them."""
        pairs = zip(self.testnet.cluster.nodes, self.watchers, strict=False)
        return [(node.spec, watcher) for node, watcher in pairs if not node.left]

    @property
    def running(self) -> list[NodeSpec]:
        """The nodes whose processes run."""
        return [node.spec for node in self.testnet.cluster.nodes if node.is_running]

    @property
    def transactions(self) -> int:
        """How many transactions there are in all; so far, while there is no end."""
        return self.job.transactions or len(self.traffic.accepted)

    async def until(
        self,
        lagging: Callable[[], str],
        timeout_s: float,
        what: str,
        stage: Stage | None = None,
    ) -> None:
        """Wait until `lagging` says "".  TestnetError with its last words, or if a node fails."""
        try:
            async with asyncio.timeout(timeout_s):
                while words := lagging():
                    self.check()
                    if stage is not None:
                        stage.note(words)
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TestnetError(f"{what} within {timeout_s:g} s: {lagging()}") from None

    def check(self) -> None:
        """Raise what went wrong in the background, if anything did."""
        self.testnet.cluster.check()
        for task in self.followers:
            if task.done() and not task.cancelled():
                task.result()


async def run(job: Job, progress: Progress) -> dict[str, Any]:
    """Do the whole job; its summary, JSON-able.  TestnetError says what did not work."""
    began = time.monotonic()
    if Layout.load(job.plan.directory) is not None:
        raise TestnetError(f"{job.plan.directory} holds a testnet already; choose another place")
    async with launch(job.plan, progress) as testnet, _following(job, testnet, progress) as it:
        await _submit(it)
        await _wait_committed(it)
        settled = await _settle(it)
        receipts = await _verify_receipts(it)
        for task in it.followers:
            task.cancel()
        with progress.stage("stop the nodes") as stage:
            await testnet.cluster.stop()
            stage.note(f"{len(it.present)} exit codes 0")
        epochs = _compare(it, settled)
        return _summary(it, settled, receipts) | {
            "epochs": epochs,
            "seconds": round(time.monotonic() - began, 1),
            "stages": {name: round(value, 2) for name, value in progress.durations.items()},
        }


@asynccontextmanager
async def _following(job: Job, testnet: Testnet, progress: Progress) -> AsyncIterator[Run]:
    it = Run(job, testnet, progress, Traffic(testnet.clients), [])
    for number in range(len(testnet.specs)):
        it.watch(number)
    try:
        yield it
    finally:
        for task in it.followers:
            task.cancel()
        await asyncio.gather(*it.followers, return_exceptions=True)


async def _submit(it: Run) -> None:
    """Submit everything, while things go wrong."""
    job = it.job
    with it.progress.stage("submit traffic to all nodes") as stage:
        workload = Workload(job.plan.seed, job.plan.nodes, job.transaction_bytes)
        ended = asyncio.Event()
        if job.transactions:
            submissions = await workload.take(job.transactions)
            traffic = it.traffic.run(submissions, job.rate)
        else:
            traffic = it.traffic.run_until(iter(workload), job.rate, ended)
        it.started = time.monotonic()
        tasks = [asyncio.create_task(traffic)]
        if job.disturb is not None:
            tasks.append(asyncio.create_task(_disturb(job.disturb, it, ended)))
        deadline = COMMIT_TIMEOUT_S + 2 * job.transactions / job.rate
        deadline = deadline if job.transactions else ENDLESS_TIMEOUT_S

        def lagging() -> str:
            for task in tasks:
                if task.done():
                    sentence_of(task)
            return "" if all(task.done() for task in tasks) else _accepted(it)

        try:
            await it.until(lagging, deadline, "not all was accepted", stage)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        killed = f", {_names(it)} killed and restarted" if it.killed else ""
        stage.note(f"{_accepted(it)}{killed}")


async def _disturb(
    disturb: Callable[[Run], Awaitable[None]], it: Run, ended: asyncio.Event
) -> None:
    await disturb(it)
    ended.set()


def _names(it: Run) -> str:
    times = Counter(it.testnet.specs[index].name for index in it.killed)
    return ", ".join(
        name if count == 1 else f"{name} {count} times" for name, count in times.items()
    )


def _accepted(it: Run) -> str:
    return f"{len(it.traffic.accepted)} of {it.job.transactions or 'any number'} accepted"


async def kill_one(it: Run) -> None:
    """SIGKILL a node mid-run; restart it once the others have gone on without it."""
    total = it.job.transactions
    index = random.Random(it.job.plan.seed).randrange(it.job.plan.nodes)
    victim = it.testnet.cluster.nodes[index]
    await _reached(lambda: len(it.traffic.accepted) >= KILL_AT * total)
    it.killed.append(index)
    victim.kill()
    others = [watcher for place, watcher in enumerate(it.watchers) if place != index]
    await _reached(lambda: min(len(watcher.seen) for watcher in others) >= RESTART_AT * total)
    victim.start()


async def _reached(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the caller bounds the time
        await asyncio.sleep(POLL_S)


async def _wait_committed(it: Run) -> None:
    """Wait until every node's feed has delivered every transaction, and nothing else."""
    with it.progress.stage("all committed on all nodes") as stage:
        resend = asyncio.create_task(_resend_lost(it))
        try:
            await it.until(
                lambda: _uncommitted(it), COMMIT_TIMEOUT_S, "not all was committed", stage
            )
            sentence_of(resend)
        finally:
            resend.cancel()
        _check_nothing_else(it)
        height = max(watcher.height for watcher in it.watchers)
        stage.note(f"{it.transactions} on {len(it.present)} nodes, height {height}")


def _uncommitted(it: Run) -> str:
    accepted = it.traffic.accepted.keys()
    behind = [
        f"{spec.name} lacks {missing}"
        for spec, watcher in it.present
        if (missing := len(accepted - watcher.seen.keys()))
    ]
    return f"{', '.join(behind)} of {len(accepted)}" if behind else ""


async def _resend_lost(it: Run) -> None:
    """What a node had accepted and told nobody when it was killed is its clients' to send again."""
    if not it.killed:
        return
    await asyncio.sleep(RESEND_AFTER_S)
    known = set[bytes]().union(*(watcher.seen.keys() for watcher in it.watchers))
    for identity, accepted in list(it.traffic.accepted.items()):
        if accepted.node in it.killed and identity not in known:
            await it.traffic.place(accepted.submission)
            it.resent += 1


def _check_nothing_else(it: Run) -> None:
    for spec, watcher in zip(it.testnet.specs, it.watchers, strict=True):
        strangers = watcher.seen.keys() - it.traffic.accepted.keys()
        if strangers:
            raise TestnetError(
                f"{spec.name} has {len(strangers)} transactions in its log that nobody submitted"
            )


async def _settle(it: Run) -> audit.Derived | None:
    """Wait until the L1 holds the whole log, finally, and rebuild it from there."""
    if it.testnet.l1 is None:
        return None
    with it.progress.stage("posted and final on the L1") as stage:
        await audit.wait_final(it.testnet, it.transactions, FINAL_TIMEOUT_S, it.check, stage)
    with it.progress.stage("rebuild the log from the L1 alone") as stage:
        derived = await audit.derive_log(it.testnet)
        stage.note(f"{len(derived.entries)} transactions from {derived.batches} batches")
    return derived


async def _verify_receipts(it: Run) -> int:
    with it.progress.stage("verify receipts offline") as stage:
        count = await audit.verify_receipts(it.testnet, list(it.traffic.accepted.values()))
        stage.note(f"{count} receipts, with nothing but the genesis")
    return count


def _compare(it: Run, derived: audit.Derived | None) -> list[dict[str, Any]]:
    """Every node's log on disk against the L1's, the submitted bytes, and each other.

    What a node has that left is the beginning of the same log.  The epochs, JSON-able.
    """
    with it.progress.stage("compare every log byte for byte") as stage:
        specs = [spec for spec, _ in it.present]
        logs = [audit.read_log(it.testnet, spec) for spec in specs]
        reference = ("the log on the L1", derived.entries) if derived else (specs[0].name, logs[0])
        for spec, log in zip(specs, logs, strict=True):
            audit.require_equal(spec.name, log, *reference)
        gone = [node.spec for node in it.testnet.cluster.nodes if node.left]
        for spec in gone:
            log = audit.read_log(it.testnet, spec)
            audit.require_equal(spec.name, log, "the log", reference[1][: len(log)])
        audit.require_submitted(logs[0], it.traffic.accepted)
        what = f"{len(specs)} nodes{' and the L1' if derived else ''}"
        what += f", and up to where they left {len(gone)}" if gone else ""
        stage.note(
            f"{what}: {len(logs[0])} equal entries, root {audit.root_of(logs[0]).hex()[:16]}"
        )
        return _epochs(it, logs, derived)


def _epochs(
    it: Run, logs: Sequence[Sequence[LogEntry]], derived: audit.Derived | None
) -> list[dict[str, Any]]:
    """Every node has to tell of the same epochs."""
    specs = [spec for spec, _ in it.present]
    told = [audit.read_epochs(it.testnet, spec, log) for spec, log in zip(specs, logs, strict=True)]
    for spec, epochs in zip(specs, told, strict=True):
        if [epoch.members for epoch in epochs] != [epoch.members for epoch in told[0]]:
            raise TestnetError(f"{spec.name} had other committees than {specs[0].name}")
    names = {
        bytes.fromhex(show_keys(spec.directory)["identity"]): spec.name for spec in it.testnet.specs
    }
    return [
        {
            "epoch": epoch.epoch,
            "members": [names[identity] for identity in epoch.members],
            "first_height": epoch.first_height,
            "last_height": epoch.last_height,
            "transactions": epoch.entries,
            "batches": derived.batches_of.get(epoch.epoch, 0) if derived else 0,
        }
        for epoch in told[0]
    ]


def _summary(it: Run, derived: audit.Derived | None, receipts: int) -> dict[str, Any]:
    job, layout = it.job, it.testnet.layout
    latencies, last = _latencies(it)
    elapsed = last - it.started
    return {
        "chain": layout.chain_id,
        "nodes": job.plan.nodes,
        "transactions": it.transactions,
        "transaction_bytes": job.transaction_bytes,
        "offered_per_s": job.rate,
        "committed_per_s": round(it.transactions / elapsed, 1),
        "latency_ms": latency_summary(latencies),
        "height": max(watcher.height for watcher in it.watchers),
        "l1": layout.l1 and layout.l1["kind"],
        "batches": derived.batches if derived else 0,
        "l1_bytes": derived.posted_bytes if derived else 0,
        "l1_gas": derived.gas if derived else 0,
        "l1_blobs": derived.blobs if derived else 0,
        "posters": derived.posters if derived else 0,
        "receipts": receipts,
        "killed": _names(it),
        "resent": it.resent,
        "retries": it.traffic.retries,
    }


def _latencies(it: Run) -> tuple[Sequence[float], float]:
    """Milliseconds from sending to seeing it committed, and when the last one was seen.

    Seen on the node that took it; on the first of all nodes if that one was killed, or left.
    """
    latencies, last = [], it.started
    for identity, accepted in it.traffic.accepted.items():
        if accepted.node in it.killed or accepted.node in it.traffic.away:
            seen = min(w.seen[identity] for w in it.watchers if identity in w.seen)
        else:
            seen = it.watchers[accepted.node].seen[identity]
        latencies.append((seen - accepted.sent) * 1_000)
        last = max(last, seen)
    return latencies, last


def summary_rows(found: dict[str, Any]) -> dict[str, object]:
    """The summary of a run for people."""
    rows: dict[str, object] = {
        "nodes": found["nodes"],
        "chain": found["chain"],
        "transactions": f"{found['transactions']:,}, about {found['transaction_bytes']} bytes each",
        "throughput": f"{found['committed_per_s']:,} committed/s of "
        f"{found['offered_per_s']:g}/s offered",
        "latency": spell_latency(found["latency_ms"]),
        "height": found["height"],
    }
    if found["l1"] is None:
        rows["L1"] = "none"
    else:
        rows["L1"] = (
            f"{found['l1']}: {found['batches']} batches by {found['posters']} posters, "
            f"{spell_bytes(found['l1_bytes'])}, {found['l1_gas']:,} gas, {found['l1_blobs']} blobs"
        )
    rows["receipts"] = f"{found['receipts']} verified offline"
    if found["killed"]:
        rows["killed"] = f"{found['killed']}, restarted; {found['resent']} transactions sent again"
    for epoch in found["epochs"] if len(found["epochs"]) > 1 else ():
        rows[f"epoch {epoch['epoch']}"] = (
            f"heights {epoch['first_height']}-{epoch['last_height']}, "
            f"{epoch['transactions']:,} transactions, {epoch['batches']} batches, "
            f"{len(epoch['members'])} members: {', '.join(epoch['members'])}"
        )
    rows["took"] = f"{found['seconds']} s"
    return rows
