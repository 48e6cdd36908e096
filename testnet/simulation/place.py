"""Where a member's process runs, stands still, crashes and runs again; its disk stays."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from consensus.committee import Committee
from consensus.interface import Instant
from consensus.types import genesis_block
from net.simulated import SimulatedTransport
from net.transport import NetworkEvent, Transport
from sequencer.batcher import Binding
from sequencer.node import Node
from sequencer.setup import Setup as NodeSetup
from sequencer.store.memory import MemoryStore, TornSave
from sequencer.store.seam import StoreError
from testnet.simulation.crypto import StubSigner, stub_sidecar
from testnet.simulation.process import (
    Crashed,
    NodeProcess,
    PausedProcess,
    Process,
    WatchedStore,
    WatchedTransport,
)
from testnet.simulation.watcher import Watcher

if TYPE_CHECKING:
    from testnet.simulation.world import World

START_UNIX_MS = 1_700_000_000_000
TORN = {"torn save": TornSave.LOST, "torn save kept": TornSave.KEPT}
MILLION = 1_000_000
READ_REGISTRY_MS = 100
COMMIT_MS = 400
"""How long commitments to blobs take at most."""


class Place:
    """One member's machine: its disk and its clocks, and the process while there is one."""

    def __init__(self, world: "World", index: int, name: str) -> None:
        self.world = world
        self.index = index
        self.name = name
        self.is_honest = index in world.honest
        self.disk = MemoryStore(world.chain_id)
        self.head = genesis_block(world.chain_id)
        self.voted = (0, 0)
        self.process: Process | None = None
        self.removed = False
        self.seen: list[Committee] = []
        """The committees that this node has seen final in the registry."""
        self._transport: SimulatedTransport | None = None
        self._armed: tuple[str, int, int | None] | None = None
        self._waits_for_the_end = False
        self._boot_ms = 0
        skews, drifts = world.setup.skews_ms, world.setup.drifts_ppm
        self._usual_skew_ms = self.skew_ms = skews[index] if index < len(skews) else 0
        self._rate_ppm = MILLION + (drifts[index] if index < len(drifts) else 0)
        self._wakes_at: int | None = None

    # clocks

    def instant(self) -> Instant:
        """This node's clocks now. The monotonic one starts anew with every boot."""
        now, rate = self.world.clock.now, self._rate_ppm
        unix_ms = START_UNIX_MS + now * rate // MILLION + self.skew_ms
        return Instant((now - self._boot_ms) * rate // MILLION, unix_ms)

    def _time_of(self, monotonic_ms: int) -> int:
        """The first virtual millisecond at which this node's monotonic clock says that."""
        return self._boot_ms - (-monotonic_ms * MILLION // self._rate_ppm)

    def correct_clock(self) -> None:
        """Whatever made the Unix clock jump is found out and undone."""
        self.skew_ms = self._usual_skew_ms

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
        world.clock.after(READ_REGISTRY_MS, self._read_registry, self._boot_ms)

    def _read_registry(self, boot_ms: int) -> None:
        """After a start a node finds again what it had seen before."""
        if self.paused:
            self.world.clock.after(READ_REGISTRY_MS, self._read_registry, boot_ms)
        elif self._boot_ms == boot_ms:
            for committee in list(self.seen):
                self._tell(committee)

    def see(self, committee: Committee) -> None:
        """A committee is final in the registry, as this node sees it; once it runs it hears so."""
        if committee in self.seen:
            return
        if self.paused:
            self.world.clock.after(READ_REGISTRY_MS, self.see, committee)
            return
        self.seen.append(committee)
        self._tell(committee)

    def _tell(self, committee: Committee) -> None:
        process = self.process
        if process is not None:
            self._guarded(lambda: process.learn(committee, self.instant()))

    @property
    def node(self) -> Node:
        """The production node that runs here."""
        assert isinstance(self.process, NodeProcess)
        return self.process.node

    def signer(self, epoch: int) -> StubSigner:
        """The keys of the member here in an epoch."""
        return self.world.registry.signer(self.index, epoch)

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

    def arm(self, point: str, count: int, down_ms: int | None, at_the_end: bool = False) -> None:
        """Crash now or at a point of the drain, and start again `down_ms` after that."""
        self._armed = (point, count, down_ms)
        self._waits_for_the_end = at_the_end
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
        if self._armed is None or (self._waits_for_the_end and not self.is_at_the_end()):
            return
        self._waits_for_the_end = False
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

    def is_at_the_end(self) -> bool:
        """Whether the last block of the epoch here has a QC."""
        if not isinstance(self.process, NodeProcess):
            return False
        replica = self.process.node.replica
        chain = replica.tree.chain(replica.record.high_qc.block_id)
        return chain is not None and replica.epoch_end.on(chain) is not None

    def _fall(self) -> None:
        armed, self._armed = self._armed, None
        self.process = None
        self.world.network.detach(self.name, "crashed")
        self.world.note(self.name, f"crashes {armed}")
        if armed is not None and armed[2] is not None:
            self.world.clock.after(armed[2], self.start)

    @property
    def paused(self) -> bool:
        """Whether the process stands still."""
        return isinstance(self.process, PausedProcess)

    def pause(self) -> None:
        """The process stands still (SIGSTOP): what arrives waits, and nobody is told."""
        if self.process is not None and not self.paused:
            self.process = PausedProcess(self.process)
            self.world.note(self.name, "stands still")

    def resume(self) -> None:
        """It goes on: finds what has arrived meanwhile, and that its deadlines have passed."""
        paused = self.process
        if not isinstance(paused, PausedProcess):
            return
        self.world.note(self.name, "goes on")
        self.process = paused.process
        for event in paused.waiting:
            self._hear(event)
        self._set_alarm()

    # events

    def submit(self, transactions: list[tuple[int, bytes]]) -> None:
        """Clients' transactions, lost if the node is down."""
        process = self.process
        if process is not None:
            self._guarded(lambda: process.submit(transactions, self.instant()))

    def commit(self, process: NodeProcess, number: int, data: bytes) -> None:
        """Commit to the blobs of a batch: the answer takes its time, and dies with the process."""
        hashes = stub_sidecar(data, True).versioned_hashes
        delay_ms = 1 + hashes[0][-1] * COMMIT_MS // 256

        def deliver() -> None:
            if self.paused:
                self.world.clock.after(delay_ms, deliver)
            elif self.process is process:
                self._guarded(lambda: process.commitments(number, hashes, self.instant()))

        self.world.clock.after(delay_ms, deliver)

    def poke(self) -> None:
        """Something beside the node has something for it."""
        process = self.process
        if process is not None:
            self._guarded(lambda: process.wake(self.instant()))

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
        if deadline is not None and self._time_of(deadline) <= self.world.clock.now:
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
        at = max(self._time_of(deadline), self.world.clock.now + 1)
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
        world.registry.signers[place.index].identity,
        setup.rules,
        world.peer_of.__getitem__,
        world.crypto,
        world.registry.signer_for,
        setup.limits,
        Binding(world.chain_id, 1, bytes(20), setup.data) if setup.settles else None,
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
    process.node.on_commit = partial(place.commit, process)
    watcher.catch_up(process.node.ledger)
    return process
