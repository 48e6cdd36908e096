"""Runs a scenario on real processes, with a relay on every link, and audits the logs afterwards.

Time stands still in the scenario while a process starts, so a sentence means the same on a slow
machine. Waiting expectations get `SLACK_MS` more: how fast something is, is the simulation's to
say. When it is over every node is stopped, and its log read from its own disk.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from sequencer.client import ClientError
from sequencer.collection import transaction_id
from sequencer.runtime import DATA_DIRECTORY
from sequencer.settlement.batch import LogEntry
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import Table
from testnet import audit
from testnet.errors import sentence_of
from testnet.l1 import L1LaunchError
from testnet.launch import Plan, Testnet, launch
from testnet.membership import look
from testnet.report import Progress
from testnet.scenarios.adjustable_clock import adjustable_command
from testnet.scenarios.expectations import Judge
from testnet.scenarios.real_actions import Hands
from testnet.scenarios.real_clients import Clients, ScenarioClock
from testnet.scenarios.record import Record, ScenarioFailed, Seat
from testnet.scenarios.telling import tell
from testnet.scenarios.vocabulary import (
    LEADER,
    NEXT_LEADER,
    Action,
    Crash,
    CrashAll,
    Join,
    Load,
    Scenario,
)
from testnet.watch import Watcher

SLACK_MS: Final = 30_000
EPOCH_SLACK_MS: Final = 120_000
"""Where the committee changes: that waits for the L1."""
SETTLE_MS: Final = 60_000
LOOK_S: Final = 0.05
L1_POLL_S: Final = 0.5
SEATS_POLL_S: Final = 0.25


@dataclass(slots=True)
class _RecordingWatcher(Watcher):
    """Follows the log of a node and writes the record."""

    node: int = 0
    record: Record = field(default_factory=lambda: Record(0))
    clock: ScenarioClock = field(default_factory=ScenarioClock)

    def _take(self, block: dict[str, Any]) -> None:
        Watcher._take(self, block)
        self.record.now_ms = self.clock.now_ms
        fresh = [bytes.fromhex(spelled[2:]) for spelled in block["transactions"]]
        self.record.on_commit(self.node, self.height, fresh)


@dataclass(slots=True)
class RealRun:
    """One run of a scenario on a testnet that is up."""

    scenario: Scenario
    testnet: Testnet
    progress: Progress
    record: Record = field(init=False)
    clock: ScenarioClock = field(default_factory=ScenarioClock)
    crashes: list[int] = field(init=False)
    clients: Clients = field(init=False)
    judge: Judge = field(init=False)
    hands: Hands = field(init=False)
    watchers: list[_RecordingWatcher] = field(init=False)
    _named: dict[int, int] = field(default_factory=dict)
    _background: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = self.scenario.nodes
        self.record, self.crashes = Record(count), [0] * count
        label = self.testnet.genesis.chain_id[:4].hex().encode()
        self.clients = Clients(self.testnet, self.record, self.clock, self.crashes, label)
        slack_ms = EPOCH_SLACK_MS if self.scenario.has_epochs else SLACK_MS
        self.judge = Judge(self.scenario.expectations, self.record, slack_ms)
        self.hands = Hands(self.testnet)
        self.watchers = [self._watcher(node) for node in range(count)]

    def _watcher(self, node: int) -> _RecordingWatcher:
        spec, client = self.testnet.specs[node], self.testnet.clients[node]
        return _RecordingWatcher(spec.name, client.api, 0, {}, node, self.record, self.clock)

    async def play(self) -> None:
        """Everything that happens, until all that is expected has been seen."""
        for at_ms, action in self.scenario.actions:
            while self.clock.now_ms < at_ms:
                await self._look()
            await self._perform(action)
        while not self.judge.is_done:
            await self._look()
        deadline = self.clock.now_ms + SETTLE_MS
        while waiting := self._unsettled():
            if self.clock.now_ms > deadline:
                raise ScenarioFailed(f"{waiting} {SETTLE_MS} ms after the end")
            await self._look()
        self.judge.finish()
        self._check_stopped()

    def _unsettled(self) -> str:
        record = self.record
        if self.clients.are_busy:
            return "not everything was accepted"
        if left := record.waiting(record.now_ms):
            return f"{left} transactions are in no log"
        totals = {node: record.total(node, record.now_ms) for node in record.up}
        if len(set(totals.values())) > 1:
            return f"logs of different lengths {totals}"
        return ""

    def _check_stopped(self) -> None:
        """No node may end by itself that is not said to."""
        words = [expected.stopping for _, expected in self.scenario.expectations]
        for node, said in self.record.stopped.items():
            if node not in words:
                raise ScenarioFailed(f"node {node} ended by itself: {said}")

    async def _look(self) -> None:
        await asyncio.sleep(LOOK_S)
        record = self.record
        record.now_ms = self.clock.now_ms
        for number, node in enumerate(self.testnet.cluster.nodes[: record.nodes]):
            if node.failed and number not in record.down:
                record.stopped[number] = node.last_words()
                self.crashes[number] += 1
            if node.is_running and not node.paused:
                record.down.discard(number)
            else:
                record.down.add(number)
        for task in self._background:
            sentence_of(task)
        self.clients.look()
        self.judge.look()

    # what happens

    async def _perform(self, action: Action) -> None:
        if isinstance(action, Load):
            self.clients.load(action)
            return
        action = await self._resolve(action)
        for number in range(self.scenario.nodes) if isinstance(action, CrashAll) else ():
            self.crashes[number] += 1
        if isinstance(action, Crash):
            self.crashes[action.node] += 1
        self.clock.stop()
        try:
            await self.hands.perform(action)
        finally:
            self.clock.go_on()
        if isinstance(action, Join):
            self.record.add_node()
            self.crashes.append(0)
            self.watchers.append(self._watcher(action.node))
            self._background.append(asyncio.create_task(self.watchers[-1].run()))
        self.progress.console.print(f"  {self.clock.now_ms:>7} ms  {tell(action)}", highlight=False)
        await self._look()

    async def _resolve(self, action: Action) -> Action:
        """The same with the number of a node that is named by its role."""
        node = getattr(action, "node", 0)
        if node >= 0:
            return action
        if node not in self._named:
            status = await self._status()
            committee = self.testnet.genesis.committee
            self._named[LEADER] = committee.leader(int(status["round"]))
            self._named[NEXT_LEADER] = committee.leader(int(status["round"]) + 1)
        return replace(action, node=self._named[node])  # type: ignore[arg-type]

    async def _status(self) -> dict[str, Any]:
        for node in self.record.up:
            try:
                return await self.testnet.clients[node].api.status()
            except ClientError:
                continue
        raise ScenarioFailed("no node answers who leads")

    # in the background

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Follow every log, and the L1 if there is one, until the block ends."""
        works = [watcher.run() for watcher in self.watchers]
        if self.testnet.l1 is not None:
            works.append(self._follow_l1())
        if self.scenario.has_epochs:
            works.append(self._follow_seats())
        self._background = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            await self.clients.aclose()
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)

    async def _follow_seats(self) -> None:
        while True:
            for node in self.record.up:
                standing = await look(self.testnet.clients[node])
                if standing is not None:
                    key = bytes.fromhex(standing.bls_key.removeprefix("0x"))
                    self.record.on_seat(node, Seat(standing.epoch, standing.index, key))
            await asyncio.sleep(SEATS_POLL_S)

    async def _follow_l1(self) -> None:
        client = audit.open_client(self.testnet)
        try:
            while True:
                try:
                    head = await client.head()
                    self.record.posted = await audit.posted_entries(self.testnet, head.number)
                except (L1LaunchError, aiohttp.ClientError, TimeoutError):
                    pass  # it stands still
                await asyncio.sleep(L1_POLL_S)
        finally:
            await client.aclose()


async def run_real(
    scenario: Scenario, directory: Path, progress: Progress, seed: int = 0
) -> Record:
    """Run a scenario on a new cluster in `directory`; it is gone when this returns.

    `ScenarioFailed` or TestnetError says what was not as expected.
    """
    l1 = "embedded" if scenario.has_l1 else "none"
    plan = Plan(directory, scenario.nodes, l1, seed, links=True)
    async with launch(plan, progress, adjustable_command) as testnet:
        run = RealRun(scenario, testnet, progress)
        async with run.watched():
            with progress.stage(scenario.name) as stage:
                await run.play()
                stage.note(f"{len(run.record.submitted)} transactions ordered")
        with progress.stage("audit") as stage:
            for node in testnet.cluster.nodes:
                if node.is_running:
                    await node.stop()
            stage.note(await asyncio.to_thread(_audit, run))
    return run.record


def _audit(run: RealRun) -> str:
    """Agreement, nothing twice, nothing lost, nothing foreign, nobody accused; in a few words."""
    specs = run.testnet.specs
    logs = [audit.read_log(run.testnet, spec) for spec in specs]
    longest = max(logs, key=len)
    for node, (spec, log) in enumerate(zip(specs, logs, strict=True)):
        audit.require_equal(spec.name, log, "the longest log", longest[: len(log)])
        if node in run.record.up:
            audit.require_equal(spec.name, log, "the longest log", longest)
        ids = [transaction_id(entry.namespace, entry.transaction) for entry in log]
        _require(len(set(ids)) == len(ids), f"{spec.name} has a transaction twice")
        lost = run.watchers[node].seen.keys() - set(ids)
        _require(not lost, f"{spec.name} told of {len(lost)} commits that its disk has not")
        _require(not _evidence(run.testnet, node), f"{spec.name} accuses somebody")
    _require_submitted(longest, run.record)
    return f"{len(logs)} logs, {len(longest)} entries, root {audit.root_of(longest).hex()[:16]}"


def _require_submitted(log: list[LogEntry], record: Record) -> None:
    found = {transaction_id(entry.namespace, entry.transaction) for entry in log}
    foreign, lost = found - record.submitted.keys(), record.submitted.keys() - found
    _require(not foreign, f"the log holds {len(foreign)} transactions that nobody submitted")
    _require(not lost, f"the log lacks {len(lost)} transactions that a client was told of")


def _evidence(testnet: Testnet, node: int) -> int:
    directory = testnet.specs[node].directory / DATA_DIRECTORY
    store = LmdbStore(directory, testnet.genesis.chain_id, read_only=True)
    try:
        return len(store.range(Table.EVIDENCE, b"", 1))
    finally:
        store.close()


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ScenarioFailed(sentence)
