"""Runs a scenario in virtual time: the production nodes on simulated disks, clocks and links.

The checkers of the simulation watch every message, save and commit meanwhile. Clients behave as
on a real cluster: one whose node is down or stands still goes to the next, and what a node took
before it crashed and nobody has ordered is sent again, to another.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from consensus.types import genesis_block
from sequencer.collection import transaction_id
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import META_SAFETY, Table
from testnet.scenarios.expectations import Judge
from testnet.scenarios.record import Record, ScenarioFailed, Seat
from testnet.scenarios.vocabulary import (
    LEADER,
    NEXT_LEADER,
    Action,
    BeginWithSnapshot,
    ClockJump,
    Crash,
    DiskFreed,
    DiskFull,
    Heal,
    Join,
    L1Resumes,
    L1Stalls,
    Leave,
    Load,
    Pause,
    Restart,
    Resume,
    Rotate,
    Scenario,
    SlowLinks,
    Wipe,
)
from testnet.simulation.checkers import LogChecker, Violation, require
from testnet.simulation.history import begin_with_snapshot
from testnet.simulation.process import PausedProcess, Process, shared_decoding
from testnet.simulation.scenario import Elect
from testnet.simulation.trace import Trace
from testnet.simulation.world import Setup, World
from testnet.workload import OPAQUE_NAMESPACES

POLL_MS: Final = 20
RESEND_AFTER_MS: Final = 2_000
FULL_DISK: Final = "no room left on the disk"
"""What stands for the last words of a node; those of a real one are real."""
SETTLE_MS: Final = 30_000
"""How long after the last step everything that was accepted may take to be in every log."""


class _RecordingLog(LogChecker):
    """The checker of logs, which also writes the record."""

    def __init__(self, duplicate_window: int, record: Record, world: World) -> None:
        super().__init__(duplicate_window)
        self._record = record
        self._world = world

    def on_applied(self, member: int, height: int, entries: tuple[bytes, ...], root: bytes) -> None:
        """Check, then record."""
        super().on_applied(member, height, entries, root)
        self._record.now_ms = self._world.clock.now
        self._record.on_commit(member, height, entries)


@dataclass(slots=True)
class _Sent:
    """A transaction on its way: who took it, in which of its lives, and when."""

    data: bytes
    node: int
    life: Process | None
    at_ms: int


class Clients:
    """Submit to nodes of a world, with the patience of real clients."""

    def __init__(self, world: World, record: Record) -> None:
        self._world = world
        self._record = record
        self._sent: dict[bytes, _Sent] = {}
        self._count = 0

    def load(self, load: Load) -> None:
        """Plan a load: each transaction at its time."""
        for number in range(load.count):
            data = b"scenario transaction %d" % (self._count + number)
            delay_ms = load.over_ms * number // load.count
            first = load.to[number % len(load.to)]
            to = load.to if load.everywhere else (first,)
            self._world.clock.after(delay_ms, self._submit, data, to)
        self._count += load.count

    def _submit(self, data: bytes, to: Iterable[int]) -> None:
        identity = transaction_id(OPAQUE_NAMESPACES[0], data)
        self._record.submitted.setdefault(identity, self._world.clock.now)
        for node in to:
            self._place(identity, data, node)

    def _place(self, identity: bytes, data: bytes, node: int) -> None:
        world = self._world
        for step in range(world.setup.nodes):
            place = world.places[(node + step) % world.setup.nodes]
            if place.process is None or place.paused:
                continue
            world.log.on_submitted([identity])
            self._sent[identity] = _Sent(data, place.index, place.process, world.clock.now)
            place.submit([(OPAQUE_NAMESPACES[0], data)])
            return
        world.clock.after(RESEND_AFTER_MS // 10, self._place, identity, data, node)

    def look(self) -> None:
        """Send again what a node took before it crashed, if nobody has ordered it."""
        world = self._world
        for identity, sent in list(self._sent.items()):
            if identity in self._record.ordered:
                del self._sent[identity]
            elif world.clock.now - sent.at_ms > RESEND_AFTER_MS:
                running = world.places[sent.node].process
                if isinstance(running, PausedProcess):
                    running = running.process
                if running is not sent.life:
                    self._place(identity, sent.data, sent.node + 1)


class SimulatedRun:
    """One run of a scenario in a world of its own."""

    def __init__(self, scenario: Scenario, seed: int, trace: Trace | None = None) -> None:
        self.scenario = scenario
        self.world = World(_setup(scenario, seed), trace)
        self.record = Record(scenario.nodes)
        self.world.log = _RecordingLog(
            self.world.setup.rules.duplicate_window_heights, self.record, self.world
        )
        self.clients = Clients(self.world, self.record)
        self.judge = Judge(scenario.expectations, self.record, 0)
        self._named: dict[int, int] = {}
        self._full: set[int] = set()

    def run(self) -> Record:
        """Play it to its end; `ScenarioFailed` or `Violation` if it is not as it should be."""
        scenario, world = self.scenario, self.world
        for at_ms, action in scenario.actions:
            world.clock.at(at_ms, self._perform, action)
        end = POLL_MS + max(
            [at for at, _ in scenario.actions]
            + [expected.due_ms(since, 0) for since, expected in scenario.expectations]
        )
        self._advance(end)
        deadline = end + SETTLE_MS
        while not self._is_settled():
            if world.clock.now >= deadline:
                raise ScenarioFailed(f"not all was ordered everywhere {SETTLE_MS} ms after the end")
            self._advance(world.clock.now + POLL_MS)
        world.check_bounds()
        self.judge.finish()
        return self.record

    def _advance(self, until_ms: int) -> None:
        world = self.world
        while world.clock.now < until_ms:
            world.run(min(until_ms, world.clock.now + POLL_MS))
            self._look()

    def _look(self) -> None:
        record, world = self.record, self.world
        record.now_ms = world.clock.now
        record.down = {
            place.index for place in world.places if place.process is None or place.paused
        }
        for node in self._full & record.down:
            record.stopped.setdefault(node, FULL_DISK)
        if self.scenario.has_epochs:
            self._look_at_seats()
        self.clients.look()
        self.judge.look()

    def _is_settled(self) -> bool:
        record = self.record
        return self.world.is_settled() and not record.waiting(record.now_ms)

    # what happens

    def _resolve(self, node: int) -> int:
        """The number of a node that may be named by its role."""
        if node >= 0:
            return node
        if node not in self._named:
            world = self.world
            round = max(world.places[live].node.replica.round for live in world.live)
            self._named[LEADER] = world.committee.leader(round)
            self._named[NEXT_LEADER] = world.committee.leader(round + 1)
        return self._named[node]

    def _perform(self, action: Action) -> None:
        world = self.world
        match action:
            case Load():
                self.clients.load(action)
            case Pause(node):
                world.places[self._resolve(node)].pause()
            case Resume(node):
                world.places[self._resolve(node)].resume()
            case DiskFull(node):
                self._full.add(self._resolve(node))
                world.places[self._resolve(node)].disk.fill()
            case DiskFreed(node):
                self._full.discard(self._resolve(node))
                world.places[self._resolve(node)].disk.make_room()
            case Wipe(node):
                self._wipe(self._resolve(node))
            case BeginWithSnapshot(node, source):
                self._begin_with_snapshot(self._resolve(node), self._resolve(source))
            case SlowLinks(node, delay_ms):
                self._slow(str(self._resolve(node)), delay_ms)
            case Crash(node) | Restart(node) | ClockJump(node):
                world.perform(replace(action, node=self._resolve(node)))
            case Heal():
                world.network.delays_ms.clear()
                world.perform(action)
            case Join() | Leave() | Rotate():
                self._elect(action)
            case L1Stalls() | L1Resumes():
                raise ScenarioFailed("there is no L1 in the simulation")
            case _:
                world.perform(action)
        self._look()

    def _elect(self, action: Join | Leave | Rotate) -> None:
        """The registry's next committee, which every node sees at once."""
        world, node = self.world, action.node
        members = world.registry.members(world.registry.newest)
        if isinstance(action, Join):
            self.record.add_node()
            world.places[node].start()
            members.append(node)
        elif isinstance(action, Leave):
            members.remove(node)
        rotated = (node,) if isinstance(action, Rotate) else ()
        world.perform(Elect(tuple(members), rotated=rotated))

    def _look_at_seats(self) -> None:
        """Where every node is."""
        world = self.world
        for place in (world.places[live] for live in world.live):
            if not place.paused:
                committee, index = place.node.committee, place.node.me
                key = b"" if index is None else committee.members[index].bls_key
                self.record.on_seat(place.index, Seat(committee.epoch, index, key))

    def _wipe(self, node: int) -> None:
        place, world = self.world.places[node], self.world
        require(place.process is None, "S1", "node {} is wiped while it runs", node)
        signed = place.disk.get(Table.META, META_SAFETY)
        require(signed is None, "S1", "node {} has signed something and is wiped", node)
        place.disk = MemoryStore(world.chain_id)
        place.head = genesis_block(world.chain_id)

    def _begin_with_snapshot(self, node: int, source: int) -> None:
        """What the snapshot holds below its base counts as applied by the node, as it stands."""
        world = self.world
        base = begin_with_snapshot(world, world.places[node], world.places[source])
        for height in range(1, base.height + 1):
            world.log.on_applied(node, height, *world.log.at(height))
        require(world.log.at(base.height)[1] == base.log_root, "C1", "a base with another log")

    def _slow(self, node: str, delay_ms: int) -> None:
        network, peers = self.world.network, self.world.peers
        for other in peers:
            network.delays_ms[node, other] = network.delays_ms[other, node] = delay_ms


def _setup(scenario: Scenario, seed: int) -> Setup:
    """Nodes that join have a place from the beginning, where nobody is."""
    joining = tuple(scenario.joining)
    founders = tuple(range(scenario.nodes))
    return Setup(seed, scenario.nodes + len(joining), founders=founders, absent=joining)


def run_simulated(scenario: Scenario, seed: int = 0, trace: Trace | None = None) -> Record:
    """Run a scenario in virtual time; `ScenarioFailed` says what was not as expected."""
    try:
        with shared_decoding():
            return SimulatedRun(scenario, seed, trace).run()
    except Violation as violation:
        raise ScenarioFailed(str(violation)) from violation
