"""What goes wrong on request in a real cluster: verbs on processes and on the L1."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from testnet.cluster import Cluster, NodeProcess
from testnet.errors import TestnetError
from testnet.l1 import L1Handle, L1LaunchError

if TYPE_CHECKING:
    from testnet.launch import Testnet

RESTART_TIMEOUT_S: Final = 30.0
DEFAULT_DELAY_MS: Final = 100.0
DEFAULT_REORG_DEPTH: Final = 2
DEFAULT_SPIKE_WEI: Final = 500 * 10**9


def node_states(cluster: Cluster) -> dict[str, str]:
    """What each node does: `running`, `paused`, `down`, `failed` by itself, or it has `left`."""
    return {node.spec.name: _state(node) for node in cluster.nodes}


def _state(node: NodeProcess) -> str:
    if not node.is_running:
        return "left" if node.left else "failed" if node.failed else "down"
    return "paused" if node.paused else "running"


async def _kill(testnet: "Testnet", name: str) -> str:
    node = testnet.cluster.find(name)
    if not node.is_running:
        raise TestnetError(f"{node.spec.name} is down already")
    node.kill()
    return f"{node.spec.name} was killed"


async def _pause(testnet: "Testnet", name: str) -> str:
    node = _running(testnet, name)
    if node.paused:
        raise TestnetError(f"{node.spec.name} is paused already")
    node.pause()
    return f"{node.spec.name} stands still"


async def _resume(testnet: "Testnet", name: str) -> str:
    node = _running(testnet, name)
    if not node.paused:
        raise TestnetError(f"{node.spec.name} is not paused")
    node.resume()
    return f"{node.spec.name} goes on"


async def _restart(testnet: "Testnet", name: str) -> str:
    node = testnet.cluster.find(name)
    if not node.failed:
        await node.stop()
    node.start()
    await testnet.wait_ready([node], RESTART_TIMEOUT_S)
    return f"{node.spec.name} is back"


def _running(testnet: "Testnet", name: str) -> NodeProcess:
    node = testnet.cluster.find(name)
    if not node.is_running:
        raise TestnetError(f"{node.spec.name} is down; bring it back with: testnet restart {name}")
    return node


def cut_links(testnet: "Testnet", arguments: dict[str, Any]) -> str:
    """`partition` into `groups` of names, `slow` a `node` by `delay_ms` a way, or `heal`."""
    if testnet.links is None:
        raise TestnetError("these nodes are linked directly; start them with: testnet up --links")
    names = [node.spec.name for node in testnet.cluster.nodes]
    fault = arguments.get("fault")
    if fault == "heal":
        testnet.links.heal()
        return "all links are whole and quick"
    if fault == "slow":
        spec = testnet.cluster.find(str(arguments.get("node"))).spec
        delay_ms = float(arguments.get("delay_ms", DEFAULT_DELAY_MS))
        testnet.links.slow(names.index(spec.name), delay_ms / 1_000)
        return f"everything from and to {spec.name} takes {delay_ms:g} ms longer"
    groups = [
        [names.index(testnet.cluster.find(str(name)).spec.name) for name in group]
        for group in arguments.get("groups") or []
    ]
    _refuse_no_partition(groups, names)
    testnet.links.partition(groups)
    return f"cut: {_spell_groups(groups, names)}"


def _refuse_no_partition(groups: list[list[int]], names: list[str]) -> None:
    grouped = [node for group in groups for node in group]
    if twice := [names[node] for node in set(grouped) if grouped.count(node) > 1]:
        raise TestnetError(f"{', '.join(sorted(twice))} cannot be in two groups")
    if len(groups) == 1 and len(grouped) == len(names):
        raise TestnetError("all nodes in one group: that cuts nothing")


def _spell_groups(groups: list[list[int]], names: list[str]) -> str:
    """The groups, and in the end that of the nodes which none of them holds."""
    grouped = {node for group in groups for node in group}
    rest = [node for node in range(len(names)) if node not in grouped]
    return " | ".join(
        ", ".join(names[node] for node in group) for group in (*groups, rest) if group
    )


def link_states(testnet: "Testnet") -> list[str]:
    """What is wrong with the links on request, in lines for people; none if nothing is."""
    links, names = testnet.links, [node.spec.name for node in testnet.cluster.nodes]
    if links is None:
        return []
    slow = [f"{names[node]} {delay * 1_000:g} ms" for node, delay in links.slowed.items() if delay]
    return [
        *([f"links    cut: {_spell_groups(links.groups, names)}"] if links.groups else []),
        *([f"links    slow, each way: {', '.join(slow)}"] if slow else []),
    ]


NODE_VERBS: Final[dict[str, Callable[["Testnet", str], Awaitable[str]]]] = {
    "kill": _kill,
    "pause": _pause,
    "resume": _resume,
    "restart": _restart,
}


def l1_states(l1: L1Handle | None) -> list[str]:
    """What is wrong with the L1 on request, in lines for people.

    A base fee that was raised is not: it falls by itself, block by block.
    """
    is_stalled = l1 is not None and l1.stalled
    return ["L1       stands still; let it go on with: testnet l1 resume"] if is_stalled else []


async def l1_fault(l1: L1Handle | None, arguments: dict[str, Any]) -> str:
    """`stall`, `resume`, `reorg` (`depth`) or `spike` (`base_fee` in wei) the L1."""
    if l1 is None:
        raise TestnetError("this testnet has no L1")
    fault = arguments.get("fault")
    try:
        if fault == "stall":
            await l1.stall()
            return "the L1 stands still"
        if fault == "resume":
            await l1.resume()
            return "the L1 goes on"
        if fault == "reorg":
            depth = int(arguments.get("depth") or DEFAULT_REORG_DEPTH)
            await l1.reorg(depth)
            return f"the last {depth} blocks of the L1 were replaced"
        if fault == "spike":
            fee = int(arguments.get("base_fee") or DEFAULT_SPIKE_WEI)
            await l1.spike(fee)
            return f"the base fee of the L1 is {fee / 10**9:g} gwei"
    except (L1LaunchError, aiohttp.ClientError, OSError) as error:
        reason = str(error) or "it does not answer"
        raise TestnetError(f"the L1 did not do that: {reason}") from None
    raise TestnetError(f"unknown L1 fault {fault!r}")
