"""What the actions of a scenario are on a real cluster: signals, relays, limits, files."""

import asyncio
import resource
import shutil
import sys
from collections.abc import Sequence
from typing import Final

from consensus.safety import SafetyRecord
from sequencer.guard import SIGNED_FILE
from sequencer.keys import KEYS_DIRECTORY
from sequencer.runtime import DATA_DIRECTORY
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import META_SAFETY, Table
from testnet.client import NodeClient, open_session
from testnet.cluster import NodeProcess, NodeSpec
from testnet.errors import TestnetError
from testnet.launch import Testnet
from testnet.membership import add_nodes, register, rotate_key, take_leave
from testnet.scenarios.adjustable_clock import move_clock
from testnet.scenarios.record import ScenarioFailed
from testnet.scenarios.vocabulary import (
    Action,
    BeginWithSnapshot,
    ClockJump,
    Crash,
    CrashAll,
    DiskFreed,
    DiskFull,
    Heal,
    Join,
    L1Resumes,
    L1Stalls,
    Leave,
    OneWay,
    Partition,
    Pause,
    Restart,
    Resume,
    Rotate,
    SlowLinks,
    Wipe,
)

START_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05


class Hands:
    """Does to a testnet what a scenario says, and returns when it is done."""

    def __init__(self, testnet: Testnet) -> None:
        self._testnet = testnet
        self._full: set[int] = set()

    async def perform(self, action: Action) -> None:
        """Do one thing.  Nodes are named by number.  TestnetError if it cannot be done."""
        nodes = self._testnet.cluster.nodes
        match action:
            case Crash(node, _, _, down_ms):
                await self._crash([node], down_ms)
            case CrashAll(down_ms):
                await self._crash(range(len(nodes)), down_ms)
            case Restart(node):
                await self._start([node])
            case Pause(node):
                nodes[node].pause()
            case Resume(node):
                nodes[node].resume()
            case ClockJump(node, by_ms):
                move_clock(nodes[node].spec, nodes[node].pid, by_ms)
            case DiskFull(node):
                self._full.add(node)
                _fill_disk(nodes[node])
            case DiskFreed(node):
                self._full.discard(node)
            case Wipe(node):
                self._wipe(nodes[node])
            case BeginWithSnapshot(node, source):
                await self._begin_with_snapshot(nodes[node].spec, nodes[source].spec)
            case Join() | Leave() | Rotate():
                await self._change_members(action)
            case _:
                await self._disturb_links_or_l1(action)

    async def _change_members(self, action: Join | Leave | Rotate) -> None:
        """What an operator does; returns when it stands on the L1."""
        testnet = self._testnet
        match action:
            case Join(number, only_peer):
                (node,) = await add_nodes(testnet, 1, _quietly, only_peer)
                if testnet.cluster.nodes.index(node) != number:
                    raise ScenarioFailed(f"the next node to join is not node {number}")
                await register(testnet, node, _quietly)
            case Leave(number):
                node = testnet.cluster.nodes[number]
                await take_leave(testnet, node, _quietly, wait=False)
            case Rotate(number):
                await rotate_key(testnet, testnet.cluster.nodes[number], _quietly)

    async def _disturb_links_or_l1(self, action: Action) -> None:
        links, l1 = self._testnet.links, self._testnet.l1
        assert links is not None
        match action:
            case Partition(groups):
                links.partition(groups)
            case OneWay(sender, receiver):
                links.one_way(sender, receiver)
            case SlowLinks(node, delay_ms):
                links.slow(node, delay_ms / 1_000)
            case Heal():
                links.heal()
            case L1Stalls() if l1 is not None:
                await l1.stall()
            case L1Resumes() if l1 is not None:
                await l1.resume()
            case _:
                raise ScenarioFailed(f"{action} cannot be done to real processes")

    async def _crash(self, numbers: Sequence[int], down_ms: int | None) -> None:
        for number in numbers:
            self._testnet.cluster.nodes[number].kill()
        if down_ms is not None:
            await asyncio.sleep(down_ms / 1_000)
            await self._start(numbers)

    async def _start(self, numbers: Sequence[int]) -> None:
        """Start nodes and wait until they answer, which takes a Python process a second."""
        nodes = [self._testnet.cluster.nodes[number] for number in numbers]
        for number, node in zip(numbers, nodes, strict=True):
            node.start()
            if number in self._full:
                _fill_disk(node)
        async with asyncio.timeout(START_TIMEOUT_S), open_session() as session:
            for node in nodes:
                client = NodeClient(node.spec.rpc_url)
                while "does not answer" in (await client.is_ready(session))[1]:
                    node.check()
                    await asyncio.sleep(POLL_S)

    def _wipe(self, node: NodeProcess) -> None:
        data = node.spec.directory / DATA_DIRECTORY
        if node.is_running:
            raise ScenarioFailed(f"{node.spec.name} is wiped while it runs")
        chain_id = self._testnet.genesis.chain_id
        store = LmdbStore(data, chain_id, read_only=True)
        try:
            if store.get(Table.META, META_SAFETY) != SafetyRecord.initial(chain_id).encode():
                raise ScenarioFailed(f"{node.spec.name} has signed something and is wiped")
        finally:
            store.close()
        shutil.rmtree(data)
        (node.spec.directory / KEYS_DIRECTORY / SIGNED_FILE).unlink(missing_ok=True)

    async def _begin_with_snapshot(self, node: NodeSpec, source: NodeSpec) -> None:
        file = node.directory / "snapshot.bin"
        await _sequencer("snapshot", "create", str(file), "--dir", str(source.directory))
        await _sequencer("snapshot", "restore", str(file), "--dir", str(node.directory))
        file.unlink()


async def _sequencer(*arguments: str) -> None:
    """Run the `sequencer` command; TestnetError with what it says if it does not end well."""
    command = (sys.executable, "-m", "sequencer.cli", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise TestnetError(f"sequencer {' '.join(arguments)}: {said.decode().strip()}")


def _quietly(_: str) -> None:
    """What an operator's command tells is not told again."""


def _fill_disk(node: NodeProcess) -> None:
    """Let none of a node's files grow beyond its database as it is now.

    To the node that is a full disk: a write that would extend the file fails, others succeed.
    """
    pid = node.pid
    if pid is None:
        raise TestnetError(f"{node.spec.name} is down")
    size = _database_size(node.spec)
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def _database_size(spec: NodeSpec) -> int:
    return (spec.directory / DATA_DIRECTORY / "data.mdb").stat().st_size
