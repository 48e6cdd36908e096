"""`sequencer doctor`: what would keep a node from working, found before it is started."""

import asyncio
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sequencer.cli.errors import NegativeResult
from sequencer.cli.options import directory_option, json_option, print_json

if TYPE_CHECKING:
    from sequencer.config import NodeConfig
    from sequencer.genesis import Genesis
    from sequencer.settlement.client import L1Block
    from sequencer.settlement.ethereum import EthereumClient
    from sequencer.settlement.registry import RegistrySnapshot

MIN_FREE_BYTES: Final = 2 << 30
MIN_OPEN_FILES: Final = 1_024
MAX_CLOCK_AHEAD_S: Final = 30
MAX_L1_SILENCE_S: Final = 600
CONNECT_TIMEOUT_S: Final = 3.0

HOST_KINDS: Final = ("ip4", "ip6", "dns4", "dns6", "dns")
GOOD, WARNING, BAD = "ok", "warning", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `ok`, `warning` or `bad`, and a sentence."""

    subject: str
    state: str
    sentence: str


@click.command(
    epilog="Example: sequencer doctor --dir node0",
)
@directory_option
@json_option
def doctor(directory: Path, as_json: bool) -> None:
    """Check a node's directory and its surroundings: keys, genesis, ports, disk, L1, clock.

    Needs no password.  Exit code 1 if something would keep the node from working.
    """
    findings = list(examine(directory))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.state:<8} {finding.subject:<10} {finding.sentence}")
    bad = sum(finding.state == BAD for finding in findings)
    if bad:
        raise NegativeResult(f"{bad} of {len(findings)} checks failed")


def examine(directory: Path) -> Iterator[Finding]:
    """Every check that can be made, in the order in which to repair what they find."""
    genesis, finding = _load_genesis(directory)
    yield finding
    config, finding = _load_config(directory)
    yield finding
    yield _check_keys(directory, genesis)
    if genesis is not None:
        yield _check_data(directory, genesis)
    yield _check_disk(directory)
    yield _check_open_files()
    if config is not None:
        yield _check_port("listen", config.network.address)
        yield _check_port("rpc", config.rpc.address)
    if genesis is not None and config is not None:
        yield _check_history(genesis, config)
        yield from _check_peers(genesis, directory)
        yield from asyncio.run(_check_l1(genesis, config, directory))


def _load_genesis(directory: Path) -> "tuple[Genesis | None, Finding]":
    from sequencer.config import ConfigError
    from sequencer.genesis import Genesis

    path = directory / "genesis.json"
    try:
        genesis = Genesis.load(path)
    except ConfigError as error:
        return None, Finding("genesis", BAD, f"{error}; fetch it: sequencer init --genesis ..")
    size = genesis.committee.size
    return genesis, Finding("genesis", GOOD, f"chain {genesis.chain_id.hex()}, {size} members")


def _load_config(directory: Path) -> "tuple[NodeConfig | None, Finding]":
    from sequencer.config import ConfigError, NodeConfig

    try:
        config = NodeConfig.load(directory)
    except ConfigError as error:
        return None, Finding("node.toml", BAD, str(error))
    return config, Finding("node.toml", GOOD, f"node {config.name}")


def _check_history(genesis: "Genesis", config: "NodeConfig") -> Finding:
    heights = config.history.heights
    if heights is None:
        return Finding("history", GOOD, "the whole log is kept")
    if genesis.l1 is not None and not config.l1.url:
        sentence = "without l1.url nothing is known to be final, so nothing of the log is forgotten"
        return Finding("history", WARNING, f"history.keep is {heights}, but {sentence}")
    wrong = config.violations(genesis.rules)
    if wrong:
        return Finding("history", BAD, "; ".join(wrong))
    return Finding("history", GOOD, f"the newest {heights} heights are kept")


def _check_keys(directory: Path, genesis: "Genesis | None") -> Finding:
    from sequencer.config import ConfigError
    from sequencer.keys import show_keys

    try:
        public = show_keys(directory)
    except ConfigError as error:
        if (directory / "keys" / "bls.json").exists():
            return Finding("keys", WARNING, str(error))
        return Finding("keys", BAD, f"{error}; make them: sequencer keys new --dir {directory}")
    identity = public["identity"]
    if genesis is None:
        return Finding("keys", WARNING, f"identity {identity}; membership is not known")
    for index, member in enumerate(genesis.committee.members):
        if member.identity.hex() == identity:
            return _check_founder(directory, genesis.names[index], index, member.bls_key)
    return Finding("keys", GOOD, f"identity {identity}: no founding member, follows until it joins")


def _check_founder(directory: Path, name: str, index: int, bls_key: bytes) -> Finding:
    """A founder has the key of the genesis, or had it before it was rotated."""
    from sequencer.keyring import holds_key

    if not holds_key(directory, bls_key):
        return Finding("keys", BAD, f"member {index} has another BLS key in the genesis")
    return Finding("keys", GOOD, f"member {index}, {name}")


def _check_data(directory: Path, genesis: "Genesis") -> Finding:
    """Whether the log's newest and oldest blocks, and what this node signed, can be read."""
    from consensus.safety import SafetyRecord
    from sequencer.cli.offline import open_log
    from sequencer.store.schema import META_SAFETY, Table

    if not (directory / "data" / "data.mdb").exists():
        return Finding("data", GOOD, "none yet")
    try:
        with open_log(directory) as (store, ledger):
            head, base = ledger.head, ledger.base
            for height in {base.height + 1, head.height} if head.height > base.height else ():
                list(ledger.block_entries(height))
                assert ledger.block(height) is not None
            record = store.get(Table.META, META_SAFETY)
            if record is not None:
                SafetyRecord.decode(record)
    except click.ClickException as error:
        return Finding("data", BAD, error.message)
    return Finding("data", GOOD, f"heights {base.height + 1} to {head.height}")


def _check_disk(directory: Path) -> Finding:
    if not directory.is_dir():
        return Finding("disk", BAD, f"there is no directory {directory}; see sequencer init")
    if not os.access(directory, os.W_OK):
        return Finding("disk", BAD, f"{directory} is not writable by this user")
    free = shutil.disk_usage(directory).free
    sentence = f"{free / 2**30:.1f} GiB free"
    if free < MIN_FREE_BYTES:
        return Finding("disk", BAD, f"{sentence}; a full disk stops a node, make room")
    return Finding("disk", GOOD, sentence)


def _check_open_files() -> Finding:
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < MIN_OPEN_FILES:
        return Finding("files", WARNING, f"{most} open files allowed; raise it: ulimit -n 65536")
    return Finding("files", GOOD, f"{most} open files allowed")


def _check_port(subject: str, address: tuple[str, int]) -> Finding:
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding(subject, WARNING, f"{host}:{port}: {reason}; is the node running already?")
    return Finding(subject, GOOD, f"{host}:{port} is free")


def _check_peers(genesis: "Genesis", directory: Path) -> Iterator[Finding]:
    """Whether the other members' addresses answer, and as nodes of this chain."""
    from sequencer.config import ConfigError
    from sequencer.keys import show_keys

    try:
        me = show_keys(directory)["identity"]
    except ConfigError:
        me = ""
    answering: dict[str, str] = {}
    for index, member in enumerate(genesis.committee.members):
        if member.identity.hex() != me:
            name, address = genesis.names[index], str(genesis.address_of(index))
            finding = _check_peer(name, address)
            if finding.state == GOOD:
                answering[name] = address
            else:
                yield finding
    if answering:
        yield from asyncio.run(_check_chains(genesis.chain_id, answering))


async def _check_chains(chain_id: bytes, answering: dict[str, str]) -> list[Finding]:
    """Whether those who answer at their multiaddrs, by name, are linked to a node of this chain.

    They see a guest, with a key that is made up for it.
    """
    from net.libp2p.identity import parse_multiaddr
    from net.libp2p.mesh import Mesh
    from net.libp2p.options import MeshOptions

    logging.getLogger("net").addHandler(logging.NullHandler())  # the findings say it all
    peers = {name: parse_multiaddr(address) for name, address in answering.items()}
    mesh = Mesh(
        os.urandom(32), ("127.0.0.1", 0), {}, MeshOptions(dial_patience_s=0.0), chain_id=chain_id
    )
    try:
        await mesh.start()
        mesh.set_peers({peer: (host, port) for host, port, peer in peers.values()})
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while len(mesh.peers_up) + len(mesh.other_chains) < len(peers):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        up, others = mesh.peers_up, dict(mesh.other_chains)
    finally:
        await mesh.aclose()
    return [
        _of_chain(name, answering[name], peer in up, others.get(peer))
        for name, (_, _, peer) in peers.items()
    ]


def _of_chain(name: str, address: str, linked: bool, other: str | None) -> Finding:
    if linked:
        return Finding("peer", GOOD, f"{name} answers at {address}")
    if other is not None:
        sentence = f"{name} at {address} is of another chain, {other}..: its genesis differs"
        return Finding("peer", BAD, f"{sentence}; compare genesis.json with the other operators")
    sentence = f"{name} answers at {address}, but not as its node: wrong program, or too busy"
    return Finding("peer", WARNING, sentence)


def _check_peer(name: str, address: str) -> Finding:
    parts = address.strip("/").split("/")
    fields = dict(zip(parts[::2], parts[1::2], strict=False))
    host = next(
        (fields[kind] for kind in ("ip4", "ip6", "dns4", "dns6", "dns") if kind in fields), ""
    )
    try:
        with socket.create_connection((host, int(fields["tcp"])), CONNECT_TIMEOUT_S):
            return Finding("peer", GOOD, f"{name} answers at {address}")
    except (OSError, ValueError, KeyError, StopIteration) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        return Finding("peer", WARNING, f"{name} does not answer at {address}: {reason}")


async def _check_l1(genesis: "Genesis", config: "NodeConfig", directory: Path) -> list[Finding]:
    """Whether the L1 is the one of the genesis, what we own there, and what its clock says."""
    from sequencer.settlement.blobs import CALLDATA
    from sequencer.settlement.client import SettlementError
    from sequencer.settlement.ethereum import EthereumClient, require_blobs

    l1 = genesis.l1
    if l1 is None:
        return [Finding("l1", GOOD, "none: this chain posts nothing")]
    if not config.l1.url:
        return [Finding("l1", WARNING, "no l1.url in node.toml: this node will not post")]
    client = EthereumClient(
        config.l1.url, l1.contract, l1.deploy_block, finality_depth=l1.finality_depth
    )
    try:
        await client.check(l1.chain_id, genesis.chain_id)
        head = await client.head()
        if l1.data != CALLDATA:
            await require_blobs(config.l1.url)
        funds = await _check_funds(client, directory)
        funds += await _check_registry(client, genesis, directory, head)
    except SettlementError as error:
        return [Finding("l1", BAD, str(error))]
    finally:
        await client.aclose()
    found = Finding("l1", GOOD, f"chain {l1.chain_id}, block {head.number}, contract is ours")
    return [found, *funds, _check_clock(head.timestamp_s)]


async def _check_funds(client: "EthereumClient", directory: Path) -> list[Finding]:
    """Whether this member can pay when it is its turn to post."""
    from sequencer.config import ConfigError
    from sequencer.keys import show_keys

    try:
        account = show_keys(directory)["l1_address"]
    except ConfigError:
        return []  # said already
    owned = await client.balance(bytes.fromhex(account.removeprefix("0x")))
    if owned == 0:
        return [Finding("funds", WARNING, f"{account} owns nothing on the L1 and cannot post")]
    return [Finding("funds", GOOD, f"{account} owns {owned / 10**18:.4g} ether")]


async def _check_registry(
    client: "EthereumClient", genesis: "Genesis", directory: Path, head: "L1Block"
) -> list[Finding]:
    """What the registry has of this operator, and whether its key is here."""
    from sequencer.config import ConfigError
    from sequencer.keyring import holds_key
    from sequencer.keys import show_keys
    from sequencer.settlement.registry import Registry
    from sequencer.standing import describe_standing

    try:
        keys = show_keys(directory)
    except ConfigError:
        return []  # said already
    registry, account = Registry(client), bytes.fromhex(keys["l1_address"][2:])
    own, present = await registry.operator(account, head), await registry.members(head)
    if own.status == "none":
        identity = bytes.fromhex(keys["identity"])
        return [Finding("registry", GOOD, _without_account(genesis, present, identity))]
    index = next((i for i, m in enumerate(present.members) if m.identity == own.identity), None)
    if own.status not in ("left", "exited") and not holds_key(directory, own.bls_key):
        sentence = f"the registry has BLS key {own.bls_key.hex()}, which is not in keys"
        return [Finding("registry", BAD, f"{sentence}: this node cannot vote")]
    here = describe_standing(index, len(present.members), present.epoch, own, head.number)
    return [Finding("registry", GOOD, here)]


def _without_account(genesis: "Genesis", present: "RegistrySnapshot", identity: bytes) -> str:
    """What a node is whose account operates no member: founders vote without one."""
    founder = any(member.identity == identity for member in genesis.committee.members)
    for index, member in enumerate(present.members):
        if member.identity == identity:
            here = f"member {index} of {len(present.members)} in epoch {present.epoch}"
            if any(member.operator):
                return f"{here}, operated by another account, 0x{member.operator.hex()}"
            return (
                f"{here}, by the genesis; no account operates it yet: sequencer join claims it, "
                "which move, rotate and leave need"
            )
    if founder:
        return (
            f"a member of the genesis, not of epoch {present.epoch}, and no account of this node "
            "operates it; unless it has left, sequencer join claims it"
        )
    return "this account operates no member; to become one: sequencer join"


def _check_clock(l1_timestamp_s: int, now_s: float | None = None) -> Finding:
    ahead = l1_timestamp_s - (time.time() if now_s is None else now_s)
    if ahead > MAX_CLOCK_AHEAD_S:
        return Finding("clock", BAD, f"{ahead:.0f} s behind the L1; run a time service (NTP)")
    if ahead < -MAX_L1_SILENCE_S:
        return Finding("clock", WARNING, f"the L1's newest block is {-ahead:.0f} s old")
    return Finding("clock", GOOD, "agrees with the L1")
