"""The simulated cluster: nodes, disks, clocks and links on one heap, watched by the checkers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from consensus.committee import Committee, Member
from consensus.interface import Instant
from consensus.messages import Proposal
from consensus.rules import Rules
from consensus.types import genesis_block
from net.simulated import Conditions, SimulatedNetwork, SimulatedTransport
from net.transport import Channel, NetworkEvent, Transport
from sequencer.batcher import Binding
from sequencer.collection import transaction_id
from sequencer.limits import PoolLimits
from sequencer.node import Node
from sequencer.setup import Setup as NodeSetup
from sequencer.store.memory import MemoryStore, TornSave
from sequencer.store.seam import StoreError
from testnet.simulation.checkers import LogChecker, check_bounded
from testnet.simulation.crypto import StubCrypto, StubSigner
from testnet.simulation.process import (
    Crashed,
    NodeProcess,
    Process,
    WatchedStore,
    WatchedTransport,
    is_durable,
    peek,
)
from testnet.simulation.protocol_checker import ProtocolChecker
from testnet.simulation.scenario import (
    Action,
    Crash,
    CrashAll,
    Heal,
    OneWay,
    Partition,
    Reconnect,
    Restart,
    Submit,
    Weather,
)
from testnet.simulation.scheduler import Scheduler
from testnet.simulation.trace import Trace, describe
from testnet.simulation.watcher import Watcher

START_UNIX_MS = 1_700_000_000_000
TORN = {"torn save": TornSave.LOST, "torn save kept": TornSave.KEPT}
MAX_CONTAINER_ITEMS = 4_000
"""Q3: nothing inside a node may hold more items than this, under any load of a few minutes."""


@dataclass(frozen=True)
class Setup:
    """What a world starts as. `byzantine` maps a member to what lives in its place."""

    seed: int
    nodes: int = 4
    rules: Rules = field(default_factory=Rules)
    limits: PoolLimits = field(default_factory=PoolLimits)
    skews_ms: tuple[int, ...] = ()
    byzantine: Mapping[int, "MakeProcess"] = field(default_factory=dict)
    twins: tuple[int, ...] = ()
    """Members that run twice under one key; they count as faulty."""
    settles: bool = True
    """Whether members close and certify batches."""


class World:
    """A cluster in virtual time. Checkers raise `Violation` out of `run`."""

    def __init__(self, setup: Setup, trace: Trace | None = None) -> None:
        self.setup = setup
        self.trace = trace
        self.random = Random(setup.seed)
        self.clock = Scheduler()
        self.network = SimulatedNetwork(self.clock, self.random)
        self.faults: Counter[str] = Counter()
        self.chain_id = sha256(b"simulation %d" % setup.seed).digest()
        self.signers = [StubSigner(b"%d" % index) for index in range(setup.nodes)]
        self.crypto = StubCrypto()
        self.committee = Committee(
            0, tuple(Member(signer.identity, signer.bls_key) for signer in self.signers)
        )
        self.peers = [str(index) for index in range(setup.nodes)]
        self.peer_of = {
            signer.identity: peer for signer, peer in zip(self.signers, self.peers, strict=True)
        }
        faulty = set(setup.byzantine) | set(setup.twins)
        self.honest = [index for index in range(setup.nodes) if index not in faulty]
        self.protocol = ProtocolChecker(
            self.committee,
            self.chain_id,
            self.honest,
            lambda member, digest: is_durable(self.places[member].disk, digest),
            setup.rules.digest_window_heights,
            self.crypto,
        )
        self.log = LogChecker(setup.rules.duplicate_window_heights)
        self._submitted = 0
        self.places = [Place(self, index, str(index)) for index in range(setup.nodes)]
        self.places += [Place(self, index, f"{index}'") for index in setup.twins]
        if faulty:
            self.network.taps.append(self._see_blocks)
        if trace is not None:
            self.network.taps.append(self._trace_frame)
        for place in self.places:
            place.start()

    def _see_blocks(self, instance: str, to: str, channel: Channel, frame: bytes) -> None:
        if frame[:1] == bytes([Proposal.kind]):
            message = peek(frame)
            if isinstance(message, Proposal):
                self.protocol.on_block(message.block)

    def _trace_frame(self, instance: str, to: str, channel: Channel, frame: bytes) -> None:
        assert self.trace is not None
        said = describe(peek(frame))
        self.trace.add(self.clock.now, instance, f"-> {to}: {said}")

    def make_node(self, place: "Place", transport: Transport) -> Process:
        """The production node at a place, speaking through `transport`."""
        return make_honest(place, transport)

    def note(self, who: str, what: str) -> None:
        """A line in the trace, if there is one."""
        if self.trace is not None:
            self.trace.add(self.clock.now, who, what)

    # what happens to it

    def schedule(self, time_ms: int, action: Action) -> None:
        """Have something happen at a time."""
        self.clock.at(time_ms, self.perform, action)

    def perform(self, action: Action) -> None:
        """Have something happen now."""
        self.note("", str(action))
        self.faults[type(action).__name__] += 1
        match action:
            case Partition(groups):
                self._partition(groups)
            case OneWay(sender, receiver):
                self.network.blocked.add((str(sender), str(receiver)))
            case Heal():
                self.network.blocked.clear()
                self.network.filter = None
            case Weather(conditions):
                self.network.conditions = conditions
            case Reconnect(first, second):
                self.network.reconnect(str(first), str(second))
            case Crash(node, point, count, down_ms):
                self.places[node].arm(point, count, down_ms)
            case CrashAll(down_ms):
                for place in self.places:
                    place.arm("now", 1, down_ms)
            case Restart(node):
                self.places[node].start()
            case Submit(node, count, again):
                self.submit(node, count, again)

    def _partition(self, groups: Sequence[Sequence[int]]) -> None:
        self.network.blocked = {
            (str(one), str(other))
            for group in groups
            for one in group
            for other in range(self.setup.nodes)
            if other not in group
        }

    def submit(self, node: int, count: int, again: bool = False) -> list[tuple[int, bytes]]:
        """Transactions for a node, fresh ones unless `again`; returns them."""
        fresh = []
        first = self._submitted + 1 - (min(count, self._submitted) if again else 0)
        for number in range(first, first + count):
            self._submitted = max(self._submitted, number)
            fresh.append((901, b"transaction %d" % number))
        if node in self.honest:
            self.log.on_submitted([transaction_id(*transaction) for transaction in fresh])
        self.places[node].submit(fresh)
        return fresh

    def calm(self) -> None:
        """No more faults: good links, planned crashes called off, everybody up again."""
        self.network.conditions = Conditions()
        self.network.blocked.clear()
        self.network.filter = None
        for place in self.places:
            place.disarm()
            if not place.removed:
                place.start()

    def run(self, until_ms: int) -> None:
        """Let virtual time pass."""
        self.clock.run(until_ms)

    # what became of it

    def applied_height(self, member: int) -> int:
        """The height of a member's log."""
        return self.places[member].head.height

    @property
    def live(self) -> list[int]:
        """Honest members that are up."""
        return [index for index in self.honest if self.places[index].process is not None]

    def is_settled(self) -> bool:
        """Whether everything that live honest members saved is ordered and in all their logs."""
        live = self.live
        if self.log.missing(live):
            return False
        heads = [self.applied_height(index) for index in live]
        return min(heads, default=0) >= self.log.height_of_all(live)

    def check_bounds(self, limit: int = MAX_CONTAINER_ITEMS) -> None:
        """Q3: nothing in an honest node has grown without limit."""
        for index in self.live:
            check_bounded(self.places[index].node, limit, f"node {index}")


class Place:
    """Where a member's process runs, crashes and runs again; its disk stays."""

    def __init__(self, world: World, index: int, name: str) -> None:
        self.world = world
        self.index = index
        self.name = name
        self.is_honest = index in world.honest
        self.disk = MemoryStore(world.chain_id)
        self.head = genesis_block(world.chain_id)
        self.process: Process | None = None
        self.removed = False
        self._transport: SimulatedTransport | None = None
        self._armed: tuple[str, int, int | None] | None = None
        self._boot_ms = 0
        skews = world.setup.skews_ms
        self.skew_ms = skews[index] if index < len(skews) else 0
        self._wakes_at: int | None = None

    # clocks

    def instant(self) -> Instant:
        """This node's clocks now. The monotonic one starts anew with every boot."""
        now = self.world.clock.now
        return Instant(now - self._boot_ms, START_UNIX_MS + now + self.skew_ms)

    # life

    def start(self) -> None:
        """Boot, if it is down."""
        if self.process is not None or self.removed:
            return
        world = self.world
        self._boot_ms = world.clock.now - 1_000
        self._transport = world.network.attach(self.peer, self._hear, self.name)
        world.note(self.name, "starts")
        make = world.setup.byzantine.get(self.index, make_honest)
        try:
            self.process = make(self, self._transport)
            if isinstance(self.process, NodeProcess):
                self.process.boot(self.instant())
        except (Crashed, StoreError):
            self._fall()
            return
        self._set_alarm()

    @property
    def node(self) -> Node:
        """The production node that runs here."""
        assert isinstance(self.process, NodeProcess)
        return self.process.node

    @property
    def signer(self) -> StubSigner:
        """The keys of the member here."""
        return self.world.signers[self.index]

    @property
    def peer(self) -> str:
        """The peer id of this place."""
        return self.world.peers[self.index]

    def crash(self) -> None:
        """Power off: memory is gone, the disk stays."""
        if self.process is None:
            return
        self.process = None
        self.world.network.detach(self.name, "crashed")
        self.world.note(self.name, "crashes")

    def arm(self, point: str, count: int, down_ms: int | None) -> None:
        """Crash now or at a point of the drain, and start again `down_ms` after that."""
        self._armed = (point, count, down_ms)
        if point == "now":
            self._fall()

    def disarm(self) -> None:
        """Call a planned crash off."""
        self._armed = None

    def remove(self) -> None:
        """Crash and never come back."""
        self.crash()
        self.removed = True

    def hook(self, point: str) -> None:
        """The drain is at this point; raises `Crashed` if that is where it ends."""
        if self._armed is None:
            return
        if point == "before save" and self._armed[0] in TORN:
            self.world.faults[self._armed[0]] += 1
            self.disk.fail_next_save(TORN[self._armed[0]])
        if self._armed[0] != point:
            return
        _, count, down_ms = self._armed
        if count > 1:
            self._armed = (point, count - 1, down_ms)
            return
        self.world.faults[f"crash {point}"] += 1
        raise Crashed(point)

    def _fall(self) -> None:
        armed, self._armed = self._armed, None
        self.process = None
        self.world.network.detach(self.name, "crashed")
        self.world.note(self.name, f"crashes {armed}")
        if armed is not None and armed[2] is not None:
            self.world.clock.after(armed[2], self.start)

    # events

    def submit(self, transactions: list[tuple[int, bytes]]) -> None:
        """Clients' transactions, lost if the node is down."""
        process = self.process
        if process is not None:
            self._guarded(lambda: process.submit(transactions, self.instant()))

    def _hear(self, event: NetworkEvent) -> None:
        process = self.process
        if process is not None:
            self._guarded(lambda: process.hear(event, self.instant()))

    def _wake(self, at: int) -> None:
        if self._wakes_at != at:
            return
        self._wakes_at = None
        process = self.process
        if process is None:
            return
        deadline = process.deadline
        if deadline is not None and deadline + self._boot_ms <= self.world.clock.now:
            self._guarded(lambda: process.wake(self.instant()))
        else:
            self._set_alarm()

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (Crashed, StoreError):
            self._fall()
            return
        self._set_alarm()

    def _set_alarm(self) -> None:
        process = self.process
        deadline = process.deadline if process is not None else None
        if deadline is None:
            return
        at = max(deadline + self._boot_ms, self.world.clock.now + 1)
        if self._wakes_at is None or self._wakes_at > at or self._wakes_at < self.world.clock.now:
            self._wakes_at = at
            self.world.clock.at(at, self._wake, at)


MakeProcess = Callable[[Place, SimulatedTransport], Process]


def make_honest(place: Place, transport: Transport) -> NodeProcess:
    """The production node at this place; watched where it has to obey the rules."""
    world = place.world
    setup = world.setup
    node_setup = NodeSetup(
        world.chain_id,
        world.committee,
        place.signer.identity,
        setup.rules,
        world.peer_of.__getitem__,
        world.crypto,
        lambda member: place.signer,
        setup.limits,
        Binding(world.chain_id, 1, bytes(20)) if setup.settles else None,
    )
    if not place.is_honest:
        place.disk = place.disk.crash()
        return NodeProcess(node_setup, place.disk, transport, place.instant())
    watcher = Watcher(place)
    place.disk = store = WatchedStore.watch(place.disk, watcher, place.hook)
    watched = WatchedTransport(transport, watcher, place.hook)
    remembered = store.remembered()
    if remembered is not None:
        world.protocol.on_saved(place.index, remembered)
    process = NodeProcess(node_setup, store, watched, place.instant())
    store.record = lambda: process.node.replica.record
    process.report_to(watcher)
    watcher.catch_up(process.node.ledger)
    return process
