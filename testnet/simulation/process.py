"""One run of a node between two crashes, on a simulated disk, clock and network.

`Process` is what the world needs of anything that lives at a member's place. `NodeProcess` is the
production `Node` and nothing else: what is added stands outside of it, at its seams. The disk and
the transport it is given report what becomes durable and what is said, and cut the power when a
planned crash comes to its point: before a save (which is lost), after it, or between two messages.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from consensus.codec import HASH_BYTES
from consensus.committee import Committee
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.interface import Instant, Notice
from consensus.messages import Message
from consensus.safety import SafetyRecord
from consensus.types import Block
from net.transport import Channel, Frame, NetworkEvent, PeerId, PeerUp, Transport
from sequencer import node as node_module
from sequencer.ledger import AppliedBlock
from sequencer.messages import NodeMessage, decode_frame
from sequencer.node import Node
from sequencer.pool import PoolFull
from sequencer.setup import Setup
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import META_SAFETY, Table
from sequencer.store.seam import WriteBatch

MAX_MEMO_FRAMES = 20_000


class Crashed(Exception):
    """Power is cut in the middle of something."""


class Process(Protocol):
    """Whatever runs at a member's place."""

    @property
    def deadline(self) -> int | None:
        """When to wake, monotonic milliseconds."""

    def hear(self, event: NetworkEvent, now: Instant) -> None:
        """Something came over the network."""

    def wake(self, now: Instant) -> None:
        """The deadline has passed."""

    def submit(self, transactions: Sequence[tuple[int, bytes]], now: Instant) -> None:
        """A client's transactions."""

    def learn(self, committee: Committee, now: Instant) -> None:
        """A committee is final in the registry."""


class PausedProcess:
    """Stands in the place of a process that stands still; what arrives waits."""

    deadline: int | None = None

    def __init__(self, process: Process) -> None:
        self.process = process
        self.waiting: list[NetworkEvent] = []

    def hear(self, event: NetworkEvent, now: Instant) -> None:
        """It lies in the socket."""
        self.waiting.append(event)

    def wake(self, now: Instant) -> None:
        """It sleeps on."""

    def submit(self, transactions: Sequence[tuple[int, bytes]], now: Instant) -> None:
        """Nobody takes it."""

    def learn(self, committee: Committee, now: Instant) -> None:
        """It reads the registry later."""


class Observer(Protocol):
    """Whom a process at an honest place reports to."""

    def saved(
        self, record: SafetyRecord | None, blocks: Sequence[Block], collections: Sequence[bytes]
    ) -> None:
        """These became durable; collections are encoded."""

    def said(self, message: Message) -> None:
        """A message of the core is about to leave."""

    def applied(self, applied: AppliedBlock) -> None:
        """A block stands in the log, durably."""

    def noticed(self, notice: Notice) -> None:
        """The core has something to tell."""

    def certified(self, number: int, header: bytes) -> None:
        """A batch has its certificate."""

    def begun(self, change: EpochChange) -> None:
        """A new epoch has begun, durably."""


AnyMessage = NodeMessage | Message
_MEMO: dict[bytes, AnyMessage] = {}
_BLOCKS: dict[bytes, Block] = {}


def decode_once(frame: bytes) -> AnyMessage:
    """`decode_frame`, remembering: what is sent to all is decoded for all. Messages are frozen."""
    found = _MEMO.get(frame)
    if found is None:
        if len(_MEMO) > MAX_MEMO_FRAMES:
            _MEMO.clear()
        found = _MEMO[frame] = decode_frame(frame)
    return found


def _block_once(data: bytes) -> Block:
    found = _BLOCKS.get(data)
    if found is None:
        if len(_BLOCKS) > MAX_MEMO_FRAMES:
            _BLOCKS.clear()
        found = _BLOCKS[data] = Block.decode(data)
    return found


@contextmanager
def shared_decoding() -> Iterator[None]:
    """Nodes of one simulation decode each frame once between them; nothing else changes."""
    names = vars(node_module)
    original = names["decode_frame"]
    names["decode_frame"] = decode_once
    try:
        yield
    finally:
        names["decode_frame"] = original


def peek(frame: bytes) -> AnyMessage | None:
    """The message in a frame, None if it is broken."""
    try:
        return decode_once(frame)
    except InvalidMessage:
        return None


class WatchedStore(MemoryStore):
    """The disk of an honest place: the production test store, with points to crash at."""

    observer: Observer
    hook: Callable[[str], None]
    record: Callable[[], SafetyRecord]
    """The record that the running node has in memory, which is the one it saves."""

    @classmethod
    def watch(
        cls, store: MemoryStore, observer: Observer, hook: Callable[[str], None]
    ) -> "WatchedStore":
        """The same disk, watched."""
        revived = store.crash()
        revived.__class__ = cls
        assert isinstance(revived, WatchedStore)
        revived.observer, revived.hook = observer, hook
        return revived

    def save(self, batch: WriteBatch) -> None:
        """Save, report, or lose power."""
        self.hook("before save")
        saved_before = self.saves
        try:
            super().save(batch)
        finally:
            if self.saves > saved_before:
                self._report(batch)
        self.hook("after save")

    def _report(self, batch: WriteBatch) -> None:
        changes = batch.changes
        blocks = [data for data in changes.get(Table.BLOCKS, {}).values() if data is not None]
        collections = changes.get(Table.COLLECTIONS, {}).values()
        self.observer.saved(
            self.record() if META_SAFETY in changes.get(Table.META, {}) else None,
            [_block_once(data) for data in blocks],
            [data for data in collections if data is not None],
        )

    def remembered(self) -> SafetyRecord | None:
        """The record on the disk."""
        record = self.get(Table.META, META_SAFETY)
        return SafetyRecord.decode(record) if record is not None else None


class WatchedTransport:
    """The transport of an honest place: reports what is said, and may lose power in between."""

    def __init__(self, below: Transport, observer: Observer, hook: Callable[[str], None]) -> None:
        self._below = below
        self._observer = observer
        self._hook = hook

    @property
    def local_peer(self) -> PeerId:
        """Who I am to the others."""
        return self._below.local_peer

    @property
    def peers_up(self) -> frozenset[PeerId]:
        """The peers that can be sent to now."""
        return self._below.peers_up

    def send(self, peer: PeerId, channel: Channel, frame: bytes) -> bool:
        """Report, then send."""
        self._report(frame)
        return self._send(peer, channel, frame)

    def broadcast(self, channel: Channel, frame: bytes, to: Iterable[PeerId]) -> int:
        """Report once, then send to each."""
        self._report(frame)
        return sum([self._send(peer, channel, frame) for peer in to])

    def _send(self, peer: PeerId, channel: Channel, frame: bytes) -> bool:
        self._hook("send")
        return self._below.send(peer, channel, frame)

    def _report(self, frame: bytes) -> None:
        message = decode_once(frame)
        if isinstance(message, Message):
            self._observer.said(message)


class NodeProcess:
    """The production node, driven by virtual time."""

    def __init__(
        self, setup: Setup, store: MemoryStore, transport: Transport, now: Instant
    ) -> None:
        self.node = Node(setup, store, transport, now)

    def report_to(self, observer: Observer) -> None:
        """Have the node's own callbacks reach the observer."""
        node = self.node
        node.on_applied = observer.applied
        node.on_notice = observer.noticed
        node.on_epoch = observer.begun

        def certified(number: int) -> None:
            assert node.batcher is not None
            batch = node.batcher.batch(number)
            assert batch is not None
            observer.certified(number, batch.header)

        node.on_certified = certified

    @property
    def deadline(self) -> int | None:
        """When to wake, monotonic milliseconds."""
        return self.node.deadline

    def commitments(self, number: int, versioned_hashes: Sequence[bytes], now: Instant) -> None:
        """As the runtime does it: the blobs of a batch are committed to."""
        assert self.node.batcher is not None
        self.node.batcher.on_commitments(number, versioned_hashes)
        self.node.pump(now)

    def boot(self, now: Instant) -> None:
        """Do what the node decided while it started."""
        self.node.pump(now)

    def hear(self, event: NetworkEvent, now: Instant) -> None:
        """As the runtime does it: in, then pump."""
        if isinstance(event, Frame):
            self.node.on_frame(event.sender, event.payload, now)
        elif isinstance(event, PeerUp):
            self.node.peer_up(event.peer, now)
        else:
            self.node.peer_down(event.peer, now)
        self.node.pump(now)

    def wake(self, now: Instant) -> None:
        """Tick, then pump."""
        self.node.tick(now)
        self.node.pump(now)

    def submit(self, transactions: Sequence[tuple[int, bytes]], now: Instant) -> None:
        """As a client's request is: taken whole, or refused when there is no room."""
        try:
            self.node.submit(transactions, now)
        except PoolFull:
            return
        self.node.pump(now)

    def learn(self, committee: Committee, now: Instant) -> None:
        """As the reader of the registry tells it."""
        self.node.learn_snapshot(committee, now)
        self.node.pump(now)


def is_durable(store: MemoryStore, digest: bytes) -> bool:
    """Whether a collection is on the disk."""
    assert len(digest) == HASH_BYTES
    return store.get(Table.COLLECTIONS, digest) is not None
