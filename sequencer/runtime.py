"""The shell around a node: asyncio and uvloop, the network, the clocks, the poster, the RPC.

One event loop, one node, one rule: whatever happened, the node is pumped before anything else is
looked at, so that every event is saved, spoken and applied as one.
"""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.bls import BlsCrypto
from consensus.committee import Committee
from consensus.epochs import EpochChange
from consensus.interface import Instant
from net.libp2p.dialing import Address
from net.transport import Frame, NetworkEvent, PeerId, PeerUp
from sequencer.batcher import Binding
from sequencer.committing import Committer
from sequencer.config import ConfigError, NodeConfig
from sequencer.doubles import KeyRunsTwice, require_single, watch_for_double
from sequencer.genesis import GENESIS_FILE, Genesis, L1Settings
from sequencer.guard import require_memory
from sequencer.history import FinalHeight, Retention
from sequencer.keyring import KeyRing
from sequencer.keys import NodeKeys, l1_address, open_keys
from sequencer.limits import PoolLimits
from sequencer.node import Node
from sequencer.observe import Observer, set_up_logging
from sequencer.registry_watch import (
    REGISTRY_ALARM,
    RegistryReader,
    RegistryView,
    find_own_address,
    watch_registry,
)
from sequencer.running import RunningNode
from sequencer.settlement.blobs import CALLDATA
from sequencer.settlement.client import L1Mismatch
from sequencer.settlement.kzg import KzgProcess
from sequencer.settling import Settling, run_poster
from sequencer.setup import Setup
from sequencer.standing import describe_sync
from sequencer.store.lmdb import LmdbStore
from sequencer.store.seam import StoreError

if TYPE_CHECKING:
    from sequencer.rpc.server import RpcServer
    from sequencer.settlement.ethereum import EthereumClient

logger = logging.getLogger("sequencer")

DATA_DIRECTORY = "data"
PROGRESS_S = 2.0
"""Between two lines about how far a node is that fetches the log."""
GC_THRESHOLDS = (50_000, 20, 20)
"""A block makes thousands of tuples and no garbage; to look every 700 of them costs a tenth."""


def now() -> Instant:
    """Both clocks."""
    return Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


def run_node(directory: Path, password: str, after_data_loss: bool = False) -> int:
    """Run the node of a directory until SIGTERM or SIGINT; the process's exit code.

    `after_data_loss` starts keys whose record of what they signed is gone (see `guard`).
    """
    import uvloop

    config = NodeConfig.load(directory)
    genesis = Genesis.load(directory / GENESIS_FILE)
    violations = config.violations(genesis.rules)
    if violations:
        raise ConfigError(*violations)
    keys = open_keys(directory, password)
    set_up_logging(config.log.level, config.log.json)
    ring = KeyRing(directory, password, keys, genesis.chain_id)
    return uvloop.run(Runtime(directory, config, genesis, keys, ring, after_data_loss).run())


def require_key(committee: Committee, ring: KeyRing, name: str) -> None:
    """`ConfigError` if I am a member of `committee` with a BLS key that I never had.

    One that was rotated out and is gone is none to complain about: newer epochs have the newer one.
    """
    for member in committee.members:
        if member.identity == ring.identity and not ring.rotated and not ring.signer_for(member):
            raise ConfigError(
                f"{name} is a member of the committee of epoch {committee.epoch} with the BLS key "
                f"0x{member.bls_key.hex()}, which is not the one in its keys directory"
            )


def _calm_garbage_collector() -> None:
    """What was made at the start stays: it is never looked at again; the rest more rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class Runtime:
    """Everything a node process holds, from start to stop."""

    def __init__(
        self,
        directory: Path,
        config: NodeConfig,
        genesis: Genesis,
        keys: NodeKeys,
        ring: KeyRing,
        after_data_loss: bool,
    ) -> None:
        from net.libp2p.identity import parse_multiaddr, peer_id_from_public_key
        from net.libp2p.mesh import Mesh

        self._config = config
        self._genesis = genesis
        self._keys = keys
        self._ring = ring
        self._store = LmdbStore(directory / DATA_DIRECTORY, genesis.chain_id)
        watermarks = require_memory(directory, genesis.chain_id, self._store, after_data_loss)
        l1 = genesis.l1
        self._setup = Setup(
            genesis.chain_id,
            genesis.committee,
            ring.identity,
            genesis.rules,
            peer_id_from_public_key,
            BlsCrypto(),
            ring.signer_for,
            PoolLimits(
                seal_bytes=config.pool.seal_bytes,
                seal_ms=config.pool.seal_ms,
                max_pending_bytes=config.pool.max_pending_bytes,
            ),
            Binding(genesis.chain_id, l1.chain_id, l1.contract, l1.data) if l1 else None,
            watermarks,
        )
        self._addresses: dict[PeerId, Address | None] = {
            peer: (host, port) for host, port, peer in map(parse_multiaddr, genesis.addresses)
        }
        self._addresses |= config.network.peer_addresses
        self._mesh = Mesh(keys.identity_seed, config.network.address, {}, chain_id=genesis.chain_id)
        self._mesh.on_own_identity = self._on_own_identity
        self._observer = Observer()
        self._stopping = asyncio.Event()
        self._failure: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._kzg = KzgProcess()
        self._woken = False
        self._refused = 0
        self._node = Node(self._setup, self._store, self._mesh, now())
        require_key(self._node.committee, ring, config.name)
        self._take_next_key()
        self._running = self._connect()

    def _take_next_key(self) -> None:
        """A rotated key that the committee holds is the present one from now on."""
        if self._node.me is not None and self._ring.settle(
            self._node.committee.members[self._node.me]
        ):
            logger.info("the committee of epoch %d holds the new BLS key", self._node.epoch)

    def _connect(self) -> RunningNode:
        """Wire the node to those who listen to it."""
        settling = None
        if self._node.batcher is not None:
            settling = Settling(
                self._node.batcher,
                self._store,
                self._setup.chain_id,
                self._node.committee.size,
                self._node.me,
            )
        running = RunningNode(
            self._node,
            self._genesis,
            self._config,
            self._observer,
            settling,
            lambda: self._mesh.peers_up,
            self._wake,
            now,
        )
        if settling is not None:
            settling.wake = self._wake
        self._retain(settling)
        running.network_statistics = self._mesh.statistics
        running.other_chains = self._mesh.other_chains
        self._node.on_applied = running.on_applied
        self._node.on_notice = self._observer.notice
        self._node.on_invalid = self._on_invalid
        self._node.on_epoch = self._on_epoch
        return running

    def _retain(self, settling: Settling | None) -> None:
        """How much of the log is kept, as node.toml says."""
        ledger, heights = self._node.ledger, self._config.history.heights
        if heights is None:
            return
        settled = None
        if settling is not None:
            settled = FinalHeight(
                self._store,
                self._genesis.rules,
                lambda: settling.final_here,
                settling.last_position,
            )
        ledger.retention = Retention(heights, settled)

    # ------------------------------------------------------------------ life

    async def run(self) -> int:
        """Start, serve until told to stop or until the disk fails, stop; the exit code."""
        from sequencer.rpc.server import RpcServer

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        server = RpcServer(self._running)
        try:
            await self._mesh.start()
            await self._learn_own_address()
            await require_single(self._mesh.has_double_at, self._own_address())
            self._know_peers()
            host, port = await server.start(*self._config.rpc.address)
            admission = server.rpc.admission
            self._node.admits = lambda collection: admission.allows(collection.transactions())
            self._spawn(self._hear())
            self._start_committer()
            self._start_poster()
            self._spawn(watch_for_double(self._mesh.has_double_at, self._own_address))
            self._spawn(self._tell_progress())
            self._guarded(self._pump)
            _calm_garbage_collector()
            logger.info("%s", self._introduction())
            print(f"ready rpc=http://{host}:{port} peer={self._mesh.local_peer}", flush=True)
            await self._stopping.wait()
        except (OSError, KeyRunsTwice) as error:
            self._failure = str(error)
        finally:
            await self._stop(server)
        if self._failure is not None:
            logger.error("stopped: %s", self._failure)
            return 1
        return 0

    def _introduction(self) -> str:
        """Who this is and where it stands, for the first line of the log."""
        node = self._node
        role = "follower" if node.me is None else f"member {node.me} of {node.committee.size}"
        return (
            f"{self._config.name}, {role} in epoch {node.epoch}, chain "
            f"{self._genesis.chain_id.hex()}, height {self._node.ledger.head.height}, for members "
            f"at {self._config.network.listen}, L1 {self._config.l1.url or 'none'}"
        )

    async def _stop(self, server: "RpcServer") -> None:
        await server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        await self._kzg.aclose()
        await self._mesh.aclose()
        self._store.close()

    def _start_committer(self) -> None:
        settling, batcher, l1 = self._running.settling, self._node.batcher, self._genesis.l1
        if settling and batcher and l1 and l1.data != CALLDATA:
            committer = Committer(batcher, self._kzg, self._on_commitments, settling.notify)
            self._node.on_commit = committer.want
            self._spawn(committer.run())

    def _on_commitments(self, number: int, versioned_hashes: Sequence[bytes]) -> None:
        assert self._node.batcher is not None
        self._node.batcher.on_commitments(number, versioned_hashes)
        self._guarded(self._pump)

    def _start_poster(self) -> None:
        settling, l1 = self._running.settling, self._genesis.l1
        if settling is not None and l1 is not None and self._config.l1.url:
            key = self._keys.l1_key
            self._spawn(run_poster(settling, self._setup, l1, self._config.l1, key, self._kzg))
            self._spawn(self._watch_registry(l1))

    def _l1_client(self, l1: L1Settings) -> "EthereumClient":
        from sequencer.settlement.ethereum import EthereumClient

        return EthereumClient(
            self._config.l1.url, l1.contract, l1.deploy_block, finality_depth=l1.finality_depth
        )

    async def _learn_own_address(self) -> None:
        """Who registered after the genesis is looked up before it signs; not if the L1 is down."""
        l1 = self._genesis.l1
        if l1 is None or not self._config.l1.url or self._own_address() is not None:
            return
        client, account = self._l1_client(l1), l1_address(self._keys.l1_key)
        self._addresses[self._mesh.local_peer] = await find_own_address(
            client, account, self._mesh.local_peer
        )
        await client.aclose()

    async def _watch_registry(self, l1: L1Settings) -> None:
        client = self._l1_client(l1)
        settling = self._running.settling
        assert settling is not None
        try:
            await watch_registry(
                RegistryReader(client, l1_address(self._keys.l1_key)).read,
                lambda view: self._guarded(partial(self._on_registry, view)),
                partial(settling.alarm, REGISTRY_ALARM),
                self._config.l1.poll_ms / 1000,
            )
        finally:
            await client.aclose()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.append(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception())

    def _fail(self, error: BaseException | None) -> None:
        """The world failed us: say why, sign nothing more, stop."""
        if self._failure is None:
            self._failure = str(error) or type(error).__name__
            if not isinstance(error, (StoreError, L1Mismatch, KeyRunsTwice)):
                logger.critical("unexpected error", exc_info=error)
        self._stopping.set()

    # ------------------------------------------------------------------ events

    async def _hear(self) -> None:
        async for events in self._mesh.turns():
            self._guarded(partial(self._on_network, events))

    def _on_network(self, events: Iterable[NetworkEvent]) -> None:
        instant = now()
        for event in events:
            if isinstance(event, Frame):
                before = self._refused
                self._node.on_frame(event.sender, event.payload, instant)
                if self._refused == before:
                    self._running.heard(event.sender, event.payload)
            elif isinstance(event, PeerUp):
                logger.info("%s is connected", self._running.name_of_peer(event.peer))
                self._node.peer_up(event.peer, instant)
            else:
                name = self._running.name_of_peer(event.peer)
                logger.info("%s is gone: %s", name, event.reason)
                self._node.peer_down(event.peer, instant)
        self._pump()

    def _on_invalid(self, handle: int, reason: str) -> None:
        self._refused += 1
        self._observer.invalid(handle, reason)
        peer = self._node.peers.peer(handle)
        if peer is not None:
            self._mesh.distrust(peer)

    def _on_registry(self, view: RegistryView) -> None:
        """A committee to attest, members to dial, batches that need another signature."""
        if view.following is not None:
            self._node.learn_snapshot(view.following, now())
        self._running.registered = view.own
        self._addresses |= view.addresses
        self._know_peers()
        if self._node.batcher is not None:
            self._node.batcher.on_contract_epoch(view.contract_epoch, view.next_number)
        self._on_time()

    async def _tell_progress(self) -> None:
        """Say how far it is while the log is fetched from the others."""
        was_syncing = False
        while True:
            await asyncio.sleep(PROGRESS_S)
            running = self._running
            height = running.ledger.head.height
            running.look_for_work()
            if running.syncing:
                logger.info("%s", describe_sync(height, running.highest_height))
            elif was_syncing:
                logger.info("in step at height %d: %s", height, running.standing())
            was_syncing = running.syncing

    def _own_address(self) -> Address | None:
        """Where the genesis or the registry says that I am."""
        return self._addresses.get(self._mesh.local_peer)

    def _on_own_identity(self, remote: str) -> None:
        logger.error("another process with my keys dialled from %s, and stops", remote)

    def _know_peers(self) -> None:
        self._mesh.set_peers(dict.fromkeys(self._node.peers.members) | self._addresses)

    def _on_epoch(self, change: EpochChange) -> None:
        """The committee has changed: other peers, another place in the order of posters."""
        node = self._node
        role = "follower" if node.me is None else f"member {node.me}"
        logger.info("epoch %d: %d members, %s here", node.epoch, node.committee.size, role)
        self._know_peers()
        self._take_next_key()
        settling = self._running.settling
        if settling is not None:
            settling.begin_epoch(node.committee.size, node.me)

    def _wake(self) -> None:
        """Something was submitted: pump as soon as the event loop is free, once."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._guarded, self._on_woken)

    def _on_woken(self) -> None:
        self._woken = False
        self._on_time()

    def _on_time(self) -> None:
        self._node.tick(now())
        self._pump()

    def _pump(self) -> None:
        self._node.pump(now())
        if self._timer is not None:
            self._timer.cancel()
        delay_ms = self._node.deadline - now().monotonic_ms
        self._timer = asyncio.get_running_loop().call_later(
            max(0.0, delay_ms / 1000), self._guarded, self._on_time
        )

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            action()
        except Exception as error:
            self._fail(error)
