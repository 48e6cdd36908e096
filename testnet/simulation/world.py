"""The simulated cluster: nodes, disks, clocks and links on one heap, watched by the checkers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from consensus.messages import Proposal
from consensus.rules import Rules
from net.simulated import Conditions, SimulatedNetwork
from net.transport import Channel, Transport
from sequencer.collection import transaction_id
from sequencer.limits import PoolLimits
from sequencer.node import Node
from sequencer.settlement.blobs import CALLDATA
from testnet.simulation.checkers import LogChecker, check_bounded
from testnet.simulation.crypto import StubCrypto
from testnet.simulation.place import MakeProcess, Place, make_honest
from testnet.simulation.process import (
    NodeProcess,
    PausedProcess,
    Process,
    is_durable,
    peek,
)
from testnet.simulation.protocol_checker import ProtocolChecker
from testnet.simulation.registry import Registry
from testnet.simulation.scenario import (
    Action,
    ClockJump,
    Crash,
    CrashAll,
    Elect,
    Heal,
    OneWay,
    Partition,
    Reconnect,
    Restart,
    Submit,
    Suspend,
    Weather,
)
from testnet.simulation.scheduler import Scheduler
from testnet.simulation.trace import Trace, describe

MAX_CONTAINER_ITEMS = 4_000
"""Q3: nothing inside a node may hold more items than this, under any load of a few minutes."""


@dataclass(frozen=True)
class Setup:
    """What a world starts as. `byzantine` maps a member to what lives in its place."""

    seed: int
    nodes: int = 4
    rules: Rules = field(default_factory=Rules)
    limits: PoolLimits = field(default_factory=PoolLimits)
    weights: tuple[int, ...] = ()
    """Of each member; all one if there are none."""
    skews_ms: tuple[int, ...] = ()
    drifts_ppm: tuple[int, ...] = ()
    """How much faster than true time each node's clocks run, in millionths."""
    byzantine: Mapping[int, MakeProcess] = field(default_factory=dict)
    twins: tuple[int, ...] = ()
    """Members that run twice under one key; they count as faulty."""
    founders: tuple[int, ...] = ()
    """The committee of the genesis; everybody if there are none."""
    absent: tuple[int, ...] = ()
    """Nodes that are not there at the start; they join when they are started."""
    settles: bool = True
    """Whether members close and certify batches."""
    data: str = CALLDATA
    """Where batches go, as in the genesis."""


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
        self.registry = Registry(setup.nodes, setup.founders, setup.weights)
        self.committee = self.registry.committees[0]
        self.crypto = StubCrypto()
        self.peers = [str(index) for index in range(setup.nodes)]
        self.peer_of = {
            signer.identity: peer
            for signer, peer in zip(self.registry.signers, self.peers, strict=True)
        }
        faulty = set(setup.byzantine) | set(setup.twins)
        self.honest = [index for index in range(setup.nodes) if index not in faulty]
        self.protocol = ProtocolChecker(
            self.registry,
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
            if place.index not in setup.absent:
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

    def make_node(self, place: Place, transport: Transport) -> Process:
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
            case Crash(node, point, count, down_ms, at_the_end):
                self.places[node].arm(point, count, down_ms, at_the_end)
            case CrashAll(down_ms):
                for place in self.places:
                    place.arm("now", 1, down_ms)
            case Restart(node):
                self.places[node].start()
            case Submit(node, count, again):
                self.submit(node, count, again)
            case ClockJump(node, by_ms):
                self.places[node].skew_ms += by_ms
            case Suspend(node, for_ms):
                self.places[node].pause()
                self.clock.after(for_ms, self.places[node].resume)
            case Elect():
                self._elect(action)

    def _elect(self, action: Elect) -> None:
        """A registry that names a committee for good; its readers see it in their own time."""
        committee = self.registry.elect(action.members, action.rotated)
        for place in self.places:
            delays = action.seen_after_ms
            delay_ms = delays[place.index] if place.index < len(delays) else 0
            if delay_ms is not None:
                self.clock.after(delay_ms, place.see, committee)

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

    def calm(self, but: int | None = None) -> None:
        """No more faults: good links, planned crashes called off, everybody up again `but` one."""
        self.network.conditions = Conditions()
        self.network.blocked.clear()
        self.network.filter = None
        for place in self.places:
            place.disarm()
            place.resume()
            place.correct_clock()
            if not place.removed and place.index != but:
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

    @property
    def submitted(self) -> int:
        """How many transactions clients have made."""
        return self._submitted

    @property
    def syncing(self) -> list[int]:
        """Live honest members that are asking for ranges; who is no member always does."""
        nodes = [(index, self.places[index].node) for index in self.live]
        return [index for index, node in nodes if node.me is not None and _is_syncing(node)]

    def is_informed(self) -> bool:
        """Whether every live honest member has in its log what it saved itself."""
        return all(
            not self.log.missing([index])
            and self.applied_height(index) >= self.log.height_of_all([index])
            for index in self.live
        )

    def is_settled(self) -> bool:
        """Whether everything that live honest members saved is ordered and in all their logs.

        And nobody is syncing any more (Y1).
        """
        live = self.live
        if self.log.missing(live) or self.syncing:
            return False
        heads = [self.applied_height(index) for index in live]
        if min(heads, default=0) < self.log.height_of_all(live):
            return False
        return all(self.epoch(index) == self.registry.newest for index in live)

    def epoch(self, member: int) -> int:
        """The epoch that a live honest node is in."""
        process = self.places[member].process
        if isinstance(process, PausedProcess):
            process = process.process
        assert isinstance(process, NodeProcess)
        return process.node.epoch

    def check_bounds(
        self, limit: int = MAX_CONTAINER_ITEMS, others: Mapping[str, int] | None = None
    ) -> None:
        """Q3: nothing in an honest node has grown without limit; `others` have limits by name."""
        for index in self.live:
            check_bounded(self.places[index].node, limit, f"node {index}", others or {})


def _is_syncing(node: Node) -> bool:
    return node.replica.fetcher.syncing
