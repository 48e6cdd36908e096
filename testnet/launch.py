"""Making a testnet and bringing it up: an L1 with the contract, and the nodes.

Everything lives in one directory: `genesis.json`, `layout.json`, `l1/`, and a directory per node
that `sequencer start --dir` runs, by hand as well.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from consensus.rules import Rules
from sequencer.config import CONFIG_FILE, ConfigError, NodeConfig
from sequencer.genesis import GENESIS_FILE, Genesis, L1Settings
from sequencer.settlement.blobs import BLOBS, CALLDATA, MAX_BLOB_BATCH_BYTES
from testnet.client import NodeClient, open_session
from testnet.cluster import POLL_S, Cluster, NodeProcess, NodeSpec, free_ports, node_command
from testnet.errors import TestnetError
from testnet.l1 import L1Handle, L1LaunchError, launch_l1
from testnet.links import Links
from testnet.members import Members, make_members, write_members
from testnet.report import Progress, Stage
from testnet.state import LAYOUT_FILE, LOG_FILE, Layout

START_TIMEOUT_S: Final = 60.0
"""For all nodes to be ready: each imports libp2p, and ten of them share two cores."""
L1_DIRECTORY: Final = "l1"


@dataclass(frozen=True, slots=True)
class Plan:
    """What testnet to make.  `l1` is a kind, a URL or `none`; `l1_key` (32 bytes) pays on a URL."""

    directory: Path
    nodes: int = 4
    l1: str = "embedded"
    seed: int = 0
    l1_key: bytes | None = None
    links: bool = False
    """Link the nodes by relays that can be cut and slowed."""
    configure: Callable[[int, NodeConfig], NodeConfig] | None = None
    """What each node (by index) is configured with instead of what was written for it."""
    data: str = CALLDATA
    """Where batches are posted, as in the genesis."""
    hardfork: str = "osaka"
    """What an anvil is at."""
    rules: Rules = field(default_factory=Rules)
    """Of a new testnet."""


@dataclass(slots=True)
class Testnet:
    """A testnet that is up.  `l1` is None without one."""

    __test__ = False

    directory: Path
    layout: Layout
    genesis: Genesis
    cluster: Cluster
    l1: L1Handle | None
    links: Links | None = None
    owner_key: bytes | None = None
    """Of the account (32 bytes) that owns the registry and has money; None without an L1."""
    owner_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while that account sends: its transactions follow each other."""
    clients: list[NodeClient] = field(init=False)

    def __post_init__(self) -> None:
        self.clients = [NodeClient(spec.rpc_url) for spec in self.specs]

    @property
    def specs(self) -> list[NodeSpec]:
        """Its nodes, the founders first."""
        return [node.spec for node in self.cluster.nodes]

    async def wait_ready(
        self, nodes: Sequence[NodeProcess], timeout_s: float, stage: Stage | None = None
    ) -> None:
        """Wait until these nodes are ready for traffic.  TestnetError names those that are not."""
        waiting = {node.spec.name: "starting" for node in nodes}
        try:
            async with asyncio.timeout(timeout_s), open_session() as session:
                while waiting:
                    for node in nodes:
                        node.check()
                        if node.spec.name in waiting:
                            ready, reason = await NodeClient(node.spec.rpc_url).is_ready(session)
                            waiting[node.spec.name] = reason
                            if ready:
                                del waiting[node.spec.name]
                    if stage is not None:
                        stage.note(f"{len(nodes) - len(waiting)} of {len(nodes)} ready")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            lagging = "; ".join(f"{name}: {reason}" for name, reason in waiting.items())
            raise TestnetError(f"not ready within {timeout_s:g} s: {lagging}") from None

    async def add(self) -> NodeProcess:
        """One more node, with ports and links, written down in the layout and not started."""
        number, founders = len(self.layout.nodes), self.genesis.committee.size
        free = free_ports(3 + founders, self.layout.ports)
        entry = {"name": f"node-{number}", "rpc_port": free.pop(), "peer_port": free.pop()}
        if self.links is not None:
            assert self.layout.links is not None
            entry["front_port"] = free.pop()
            ways = {f"{number}-{founder}": free.pop() for founder in range(founders)}
            self.layout = replace(self.layout, links=self.layout.links | ways)
        self._write([*self.layout.nodes, entry])
        spec = self.layout.specs(self.directory)[-1]
        self.clients.append(NodeClient(spec.rpc_url))
        node = self.cluster.add(spec)
        if self.links is not None:
            await _link(self.links, self.layout, self.cluster, number)
        return node

    def retire(self, node: NodeProcess) -> None:
        """A node has left and is stopped: it is not started again with the others."""
        node.left = True
        entries = self.layout.nodes
        self._write(
            [{**item, "left": True} if item["name"] == node.spec.name else item for item in entries]
        )

    def _write(self, nodes: list[dict[str, Any]]) -> None:
        self.layout = replace(self.layout, nodes=nodes)
        self.layout.save(self.directory)

    async def aclose(self) -> None:
        """Close every connection to the nodes."""
        for client in self.clients:
            await client.aclose()


@asynccontextmanager
async def launch(
    plan: Plan,
    progress: Progress,
    command: Callable[[NodeSpec], Sequence[str]] = node_command,
) -> AsyncIterator[Testnet]:
    """Bring up the testnet in `plan.directory`, a new one or the one that is there.

    `command` is the command line of a node.  Whatever happens, no process is left afterwards.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        layout = Layout.load(plan.directory)
        if layout is None:
            with _writing(plan.directory):
                layout, l1 = await _create(plan, progress, stack)
        else:
            l1 = await _reopen(plan, layout, progress, stack)
        genesis = Genesis.load(plan.directory / GENESIS_FILE)
        cluster = await stack.enter_async_context(Cluster.of(layout.specs(plan.directory), command))
        links = await _start_links(layout, cluster, stack)
        _configure(plan, cluster)
        owner = (plan.l1_key or next(iter(l1.funded_keys), None)) if l1 else None
        testnet = Testnet(plan.directory, layout, genesis, cluster, l1, links, owner)
        stack.push_async_callback(testnet.aclose)
        for node in cluster.nodes:
            node.left = node.spec.name in layout.left
        with progress.stage(f"start {len(cluster.present)} nodes") as stage:
            cluster.start()
            await testnet.wait_ready(cluster.present, START_TIMEOUT_S, stage)
        yield testnet


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """One sentence where keys and settings cannot be written, as on a full disk."""
    try:
        yield
    except ConfigError as error:
        raise TestnetError(str(error)) from None
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise TestnetError(f"{directory}: {error.strerror}") from None


def _configure(plan: Plan, cluster: Cluster) -> None:
    if plan.configure is None:
        return
    for index, node in enumerate(cluster.nodes):
        config = plan.configure(index, NodeConfig.load(node.spec.directory))
        (node.spec.directory / CONFIG_FILE).write_text(config.dump())


async def _start_links(layout: Layout, cluster: Cluster, stack: AsyncExitStack) -> Links | None:
    if layout.links is None:
        return None
    joined = [at for at, node in enumerate(layout.nodes) if "front_port" in node]
    founders = layout.nodes[: len(layout.nodes) - len(joined)]
    links = Links.between([node["peer_port"] for node in founders])
    stack.callback(links.close)
    pairs = {pair: layout.links[f"{pair[0]}-{pair[1]}"] for pair in links.links}
    await links.start(pairs)
    for node in joined:
        await _link(links, layout, cluster, node)
    return links


async def _link(links: Links, layout: Layout, cluster: Cluster, node: int) -> None:
    """Start the relays to and from a node that joined."""
    assert layout.links is not None
    ways = {
        founder: (layout.links[f"{node}-{founder}"], item["peer_port"])
        for founder, item in enumerate(layout.nodes)
        if f"{node}-{founder}" in layout.links
    }
    entry = layout.nodes[node]
    await links.join(node, entry["peer_port"], entry["front_port"], ways, cluster.pids)


def remove_testnet(directory: Path) -> None:
    """Delete the testnet in `directory`, if there is one; other files are left alone."""
    layout = Layout.load(directory)
    if layout is None:
        return
    for spec in layout.specs(directory):
        shutil.rmtree(spec.directory, ignore_errors=True)
    shutil.rmtree(directory / L1_DIRECTORY, ignore_errors=True)
    for name in (GENESIS_FILE, LAYOUT_FILE):
        (directory / name).unlink(missing_ok=True)


async def _create(
    plan: Plan, progress: Progress, stack: AsyncExitStack
) -> tuple[Layout, L1Handle | None]:
    """Make keys, genesis, L1, contract and node directories; the layout is written last."""
    if any(plan.directory.iterdir()):
        _refuse_foreign(plan.directory)
    with progress.stage("keys and genesis") as stage:
        members = await asyncio.to_thread(
            make_members, plan.directory, plan.nodes, plan.seed, plan.links, _rules(plan)
        )
        stage.note(f"{plan.nodes} members, chain {members.genesis.chain_id.hex()[:16]}")
    l1, settings, described = None, None, None
    if plan.l1 != "none":
        l1 = await _start_l1(plan, members, progress, stack)
        settings = await _deploy(plan, l1, members, progress)
        described = {
            "kind": l1.kind,
            "url": l1.url,
            "chain_id": l1.chain_id,
            "contract": "0x" + settings.contract.hex(),
            "data": settings.data,
        }
    await asyncio.to_thread(write_members, members, settings, l1.url if l1 else "")
    layout = Layout(
        plan.seed, members.genesis.chain_id.hex(), members.ports, described, members.link_ports
    )
    layout.save(plan.directory)
    return layout, l1


def _rules(plan: Plan) -> Rules:
    """Batches are as large as what carries them."""
    rules = plan.rules
    return replace(rules, batch_max_bytes=MAX_BLOB_BATCH_BYTES) if plan.data == BLOBS else rules


def _refuse_foreign(directory: Path) -> None:
    if found := sorted({item.name for item in directory.iterdir()} - {LOG_FILE}):
        raise TestnetError(
            f"{directory} holds no testnet but other files ({', '.join(found[:3])}); "
            "choose an empty directory"
        )


async def _start_l1(
    plan: Plan, members: Members, progress: Progress, stack: AsyncExitStack
) -> L1Handle:
    with progress.stage(f"L1 {plan.l1}") as stage:
        with _l1_errors(plan.l1):
            l1 = await launch_l1(
                plan.l1,
                plan.directory / L1_DIRECTORY,
                fund=tuple(members.l1_addresses),
                hardfork=plan.hardfork,
            )
        stack.push_async_callback(l1.aclose)
        stage.note(f"{l1.kind}, chain id {l1.chain_id}, {l1.url}")
    return l1


@contextmanager
def _l1_errors(kind: str) -> Iterator[None]:
    """Turn what is wrong with an L1 of a kind, or at a URL, into one sentence."""
    try:
        yield
    except L1LaunchError as error:
        if kind.startswith("http") and error.__cause__ is not None:
            raise TestnetError(f"no Ethereum JSON-RPC at {kind}; does an L1 run there?") from None
        raise TestnetError(str(error)) from None


async def _deploy(plan: Plan, l1: L1Handle, members: Members, progress: Progress) -> L1Settings:
    from testnet.contract import deploy_contract

    with progress.stage("deploy the contract") as stage:
        settings = await deploy_contract(l1, members, plan.l1_key, plan.data)
        stage.note(f"0x{settings.contract.hex()}")
    return settings


async def _reopen(
    plan: Plan, layout: Layout, progress: Progress, stack: AsyncExitStack
) -> L1Handle | None:
    """Start the L1 of a testnet that is there already, where it was before."""
    if layout.l1 is None:
        return None
    kind, url = str(layout.l1["kind"]), str(layout.l1["url"])
    if kind == "anvil":
        raise TestnetError("anvil forgets its chain when it ends; start anew with: --fresh")
    with progress.stage(f"L1 {kind}") as stage:
        with _l1_errors(url if kind == "url" else kind):
            if kind == "url":
                l1 = await launch_l1(url, plan.directory / L1_DIRECTORY)
            else:
                port = int(url.rsplit(":", 1)[1])
                l1 = await launch_l1(kind, plan.directory / L1_DIRECTORY, port=port)
        stack.push_async_callback(l1.aclose)
        stage.note(f"goes on at {url}")
    return l1
