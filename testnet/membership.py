"""Members that come, go and change their keys while a testnet runs.

What the operators here do is what operators do anywhere: the commands of `sequencer` on a node's
directory, as processes.  The testnet itself is only the rich friend and the owner of the registry.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from sequencer.client import ClientError
from sequencer.config import CONFIG_FILE, NodeConfig
from sequencer.genesis import GENESIS_FILE
from sequencer.keys import create_keys, show_keys
from sequencer.settlement.client import SettlementError
from sequencer.settlement.registry import Registry
from testnet.audit import open_client
from testnet.client import NodeClient
from testnet.cluster import NodeProcess, NodeSpec, die_with_parent
from testnet.contract import admit
from testnet.control import Tell
from testnet.errors import TestnetError
from testnet.launch import START_TIMEOUT_S, Testnet
from testnet.members import (
    PASSWORD,
    PASSWORD_FILE,
    configure_local,
    local_address,
    member_keys,
)

CHANGE_TIMEOUT_S: Final = 300.0
"""For a change of members to take effect: the L1 may be slow, the node may have to sync."""
DRAIN_TIMEOUT_S: Final = 30.0
"""For what a leaving node still holds to be ordered."""
POLL_S: Final = 0.25
CUT_OFF_PORT: Final = 9
"""Where nobody listens (the discard service): the address of somebody who is not told of."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node says of itself: its epoch, its index in that committee (None: it follows)."""

    epoch: int
    index: int | None
    words: str
    pending_bytes: int
    bls_key: str
    """Of the committee's member with this index, in hex; "" for a follower."""
    pending_epoch: int = 0
    """The epoch whose members are fixed on the L1 and that has not begun there; 0 if none is."""


async def look(client: NodeClient) -> Standing | None:
    """What a node says of itself now; None while it does not answer."""
    try:
        status, committee = await asyncio.gather(client.api.status(), client.api.committee())
    except ClientError:
        return None
    index = status["member"]
    members = committee["members"]
    known = index is not None and index < len(members) and committee["epoch"] == status["epoch"]
    return Standing(
        int(status["epoch"]),
        index,
        str(status["standing"]),
        int(status["pending_bytes"]),
        str(members[index]["bls_key"]) if known else "",
        int((status.get("settlement") or {}).get("pending_epoch") or 0),
    )


# ---------------------------------------------------------------------- in


async def join(testnet: Testnet, count: int, tell: Tell) -> list[NodeProcess]:
    """`count` new nodes become members; returns when an epoch holds all of them."""
    nodes = await add_nodes(testnet, count, tell)
    await asyncio.gather(*(register(testnet, node, tell) for node in nodes))
    await asyncio.gather(*(wait_member(testnet, node, tell) for node in nodes))
    return nodes


async def add_nodes(
    testnet: Testnet, count: int, tell: Tell, only_peer: int | None = None
) -> list[NodeProcess]:
    """New nodes with fresh keys and money, started: they follow.

    With `only_peer` they know of that node's address alone.
    """
    settings, l1, owner_key = testnet.genesis.l1, testnet.l1, testnet.owner_key
    if settings is None or l1 is None or owner_key is None:
        raise TestnetError("members come and go by a contract: this testnet has none")
    nodes = [await testnet.add() for _ in range(count)]
    for node in nodes:
        await _prepare(testnet, node.spec, only_peer)
        tell(f"{node.spec.name}: has keys and a directory")
    accounts = [show_keys(node.spec.directory)["l1_address"] for node in nodes]
    async with testnet.owner_lock:
        await admit(l1, settings, owner_key, accounts)
    for node in nodes:
        node.start()
    await testnet.wait_ready(nodes, START_TIMEOUT_S)
    for node, account in zip(nodes, accounts, strict=True):
        tell(f"{node.spec.name}: follows; its account {account} has money and may register")
    return nodes


async def _prepare(testnet: Testnet, spec: NodeSpec, only_peer: int | None) -> None:
    """`sequencer init` and keys."""
    number = _number(testnet, spec)
    spec.directory.mkdir()
    keys = member_keys(testnet.layout.seed, number)
    await asyncio.to_thread(create_keys, spec.directory, PASSWORD, light=True, keys=keys)
    (spec.directory / PASSWORD_FILE).write_text(PASSWORD + "\n")
    assert testnet.l1 is not None
    arguments = [
        *("--genesis", str(testnet.directory / GENESIS_FILE), "--name", spec.name),
        *("--chain-id", testnet.layout.chain_id, "--l1", testnet.l1.url),
        *("--listen", f"127.0.0.1:{spec.peer_port}", "--rpc", f"127.0.0.1:{spec.rpc_port}"),
    ]
    if only_peer is not None:
        arguments += ["--peer", _addresses(testnet, number)[only_peer]]
    await sequencer(spec, ["init", *arguments], with_password=False)
    config = configure_local(NodeConfig.load(spec.directory))
    (spec.directory / CONFIG_FILE).write_text(config.dump())
    known = _addresses(testnet, number)
    if only_peer is not None:
        known = [
            address if founder == only_peer else _nowhere(address)
            for founder, address in enumerate(known)
        ]
    own = replace(testnet.genesis, addresses=tuple(known))
    (spec.directory / GENESIS_FILE).write_text(own.dump())


def _number(testnet: Testnet, spec: NodeSpec) -> int:
    return testnet.specs.index(spec)


def _addresses(testnet: Testnet, number: int) -> list[str]:
    """Where a node that joins finds the founders: at their own ports, or behind its relays."""
    found = []
    for founder, address in enumerate(testnet.genesis.addresses):
        port = (testnet.layout.links or {}).get(f"{number}-{founder}")
        peer = address.rsplit("/", 1)[1]
        found.append(address if port is None else f"{local_address(port)}/p2p/{peer}")
    return found


def _nowhere(address: str) -> str:
    return f"{local_address(CUT_OFF_PORT)}/p2p/{address.rsplit('/', 1)[1]}"


async def register(testnet: Testnet, node: NodeProcess, tell: Tell) -> None:
    """`sequencer join`: returns when the L1 has it."""
    entry = testnet.layout.nodes[_number(testnet, node.spec)]
    port = entry.get("front_port", node.spec.peer_port)
    told = await sequencer(
        node.spec, ["join", "--address", local_address(port), "--json"], _prefixed(node, tell)
    )
    tell(f"{node.spec.name}: {json.loads(told)['next'].partition('; ')[0]}")


async def wait_member(testnet: Testnet, node: NodeProcess, tell: Tell) -> Standing:
    """Wait until a node is in the committee of its epoch; what it is there."""

    def is_member(standing: Standing) -> bool:
        return standing.index is not None

    return await wait_standing(testnet, node, is_member, tell, "is no member")


async def wait_standing(
    testnet: Testnet,
    node: NodeProcess,
    condition: Callable[[Standing], bool],
    tell: Tell,
    otherwise: str,
) -> Standing:
    """Wait until a node says something of itself that meets `condition`; TestnetError if not."""
    client = testnet.clients[_number(testnet, node.spec)]
    words = "does not answer"
    with suppress(TimeoutError):
        async with asyncio.timeout(CHANGE_TIMEOUT_S):
            while True:
                node.check()
                standing = await look(client)
                if standing is not None and standing.words != words:
                    words = standing.words
                    tell(f"{node.spec.name}: {words}")
                if standing is not None and condition(standing):
                    return standing
                await asyncio.sleep(POLL_S)
    raise TestnetError(f"{node.spec.name} {otherwise} after {CHANGE_TIMEOUT_S:g} s: {words}")


# ---------------------------------------------------------------------- out


async def leave(testnet: Testnet, name: str, tell: Tell) -> NodeProcess:
    """A member leaves; returns when an epoch without it is final, and its node is stopped."""
    node = testnet.cluster.find(name)
    await take_leave(testnet, node, tell)
    await wait_follower(testnet, node, tell)
    await drain(testnet, node)
    await node.stop()
    testnet.retire(node)
    tell(f"{node.spec.name}: is stopped")
    return node


async def take_leave(testnet: Testnet, node: NodeProcess, tell: Tell, wait: bool = True) -> None:
    """`sequencer leave`: unless not asked to `wait`, returns when the node may be stopped."""
    if not node.is_running:
        raise TestnetError(f"{node.spec.name} is down; bring it back first: testnet restart")
    await _claim(testnet, node, tell)
    arguments = ["leave", "--json", "--wait" if wait else "--no-wait"]
    told = await sequencer(node.spec, arguments, _prefixed(node, tell))
    tell(f"{node.spec.name}: {json.loads(told)['next'].partition(': sequencer')[0]}")


async def _claim(testnet: Testnet, node: NodeProcess, tell: Tell) -> None:
    """A founder's account operates nothing before it has claimed its place: `sequencer join`."""
    account = bytes.fromhex(show_keys(node.spec.directory)["l1_address"].removeprefix("0x"))
    client = open_client(testnet)
    try:
        status = (await Registry(client).operator(account, await client.head())).status
    except SettlementError as error:
        raise TestnetError(f"the registry cannot be read: {error}") from None
    finally:
        await client.aclose()
    if status == "none":
        await sequencer(node.spec, ["join", "--json"])
        tell(f"{node.spec.name}: has claimed its founder's place")


async def wait_follower(testnet: Testnet, node: NodeProcess, tell: Tell) -> Standing:
    """Wait until a node is in no committee any more, in its own log."""

    def is_follower(standing: Standing) -> bool:
        return standing.index is None

    return await wait_standing(testnet, node, is_follower, tell, "is still a member")


async def drain(testnet: Testnet, node: NodeProcess) -> None:
    """Wait until a node holds nothing that was submitted to it and is not ordered."""
    client = testnet.clients[_number(testnet, node.spec)]
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while (standing := await look(client)) is None or standing.pending_bytes:
                node.check()
                await asyncio.sleep(POLL_S)
            return
    raise TestnetError(f"{node.spec.name} holds transactions that nobody orders")


# ---------------------------------------------------------------------- another key


async def rotate(testnet: Testnet, name: str, tell: Tell) -> Standing:
    """A member takes another BLS key; returns when an epoch names that one."""
    node = testnet.cluster.find(name)
    key = await rotate_key(testnet, node, tell)

    def names_key(standing: Standing) -> bool:
        return standing.bls_key == key

    return await wait_standing(testnet, node, names_key, tell, "votes with its old key")


async def rotate_key(testnet: Testnet, node: NodeProcess, tell: Tell) -> str:
    """`sequencer rotate`: the new BLS key, in hex, once the L1 has it."""
    await _claim(testnet, node, tell)
    told = json.loads(await sequencer(node.spec, ["rotate", "--json"], _prefixed(node, tell)))
    key: str = told["bls_key"]
    tell(f"{node.spec.name}: its next key is {key[:18]}.., from epoch {told['first_epoch']} on")
    return key


# ---------------------------------------------------------------------- verbs


async def _join(testnet: Testnet, arguments: dict[str, Any], tell: Tell) -> str:
    nodes = await join(testnet, int(arguments["count"]), tell)
    return f"{', '.join(node.spec.name for node in nodes)}: in the committee"


async def _leave(testnet: Testnet, arguments: dict[str, Any], tell: Tell) -> str:
    node = await leave(testnet, str(arguments["node"]), tell)
    return f"{node.spec.name} has left"


async def _rotate(testnet: Testnet, arguments: dict[str, Any], tell: Tell) -> str:
    standing = await rotate(testnet, str(arguments["node"]), tell)
    return f"epoch {standing.epoch} names the new key {standing.bls_key[:18]}.."


MEMBER_VERBS: Final[dict[str, Callable[[Testnet, dict[str, Any], Tell], Awaitable[str]]]] = {
    "join": _join,
    "leave": _leave,
    "rotate": _rotate,
}


# ---------------------------------------------------------------------- commands


def _prefixed(node: NodeProcess, tell: Tell) -> Tell:
    return lambda sentence: tell(f"{node.spec.name}: {sentence}")


async def sequencer(
    spec: NodeSpec,
    arguments: Sequence[str],
    tell: Tell | None = None,
    with_password: bool = True,
) -> str:
    """Run a command of `sequencer` for a node; its output.  TestnetError with its last words."""
    password = ["--password-file", str(spec.directory / PASSWORD_FILE)] if with_password else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sequencer.cli import main; main()", *arguments),
        *("--dir", str(spec.directory), *password),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    last = "no output"
    reading = asyncio.ensure_future(process.stdout.read())
    try:
        async for line in process.stderr:
            last = line.decode(errors="replace").strip() or last
            if tell is not None:
                tell(last)
        output = (await reading).decode()
        if await process.wait() != 0:
            raise TestnetError(f"sequencer {arguments[0]} of {spec.name}: {last}")
        return output
    finally:
        reading.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
