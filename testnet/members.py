"""The members of a testnet: their keys, the genesis that names them, and their directories.

Keys come from the seed, so the same seed makes the same chain.  A testnet's secrets are no
secrets: the password of every keystore is in a file beside it.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from coincurve import PrivateKey

from consensus.bls import new_bls_secret
from consensus.rules import Rules
from sequencer.config import (
    CONFIG_FILE,
    L1Config,
    NamespaceConfig,
    NetworkConfig,
    NodeConfig,
    RpcConfig,
)
from sequencer.genesis import GENESIS_FILE, Genesis, GenesisMember, L1Settings
from sequencer.keys import NodeKeys, create_keys, public_keys
from testnet.cluster import free_ports
from testnet.workload import OPAQUE_NAMESPACES, ROLLUPS

PASSWORD: Final = "testnet"
PASSWORD_FILE: Final = "password"
L1_POLL_MS: Final = 250
"""Local L1s mine every second."""
L1_CONFIRMATIONS: Final = 1


@dataclass(frozen=True, slots=True)
class Members:
    """Who a testnet consists of.

    ports       `name`, `rpc_port`, `peer_port` of each, in committee order
    link_ports  the port of the relay from node a to node b as `a-b`; None without relays
    """

    directory: Path
    genesis: Genesis
    keys: list[NodeKeys]
    ports: list[dict[str, Any]]
    link_ports: dict[str, int] | None
    l1_addresses: list[str]


def make_members(
    directory: Path, count: int, seed: int, links: bool, rules: Rules | None = None
) -> Members:
    """Members with keys from `seed` and ports that are free now; nothing is written."""
    keys = [member_keys(seed, index) for index in range(count)]
    public = [public_keys(secrets) for secrets in keys]
    pairs = [f"{a}-{b}" for a in range(count) for b in range(count) if a != b]
    free = free_ports(2 * count + (len(pairs) if links else 0))
    ports: list[dict[str, Any]] = [
        {"name": f"node-{index}", "rpc_port": free.pop(), "peer_port": free.pop()}
        for index in range(count)
    ]
    named = [
        GenesisMember(
            name=port["name"],
            identity=bytes.fromhex(item.identity),
            bls_key=bytes.fromhex(item.bls_key),
            possession=bytes.fromhex(item.possession),
            address=local_address(port["peer_port"]),
        )
        for port, item in zip(ports, public, strict=True)
    ]
    return Members(
        directory=directory,
        genesis=Genesis.create("testnet", named, rules or Rules()),
        keys=keys,
        ports=ports,
        link_ports=dict(zip(pairs, free, strict=True)) if links else None,
        l1_addresses=[item.l1_address for item in public],
    )


def member_keys(seed: int, index: int) -> NodeKeys:
    """The secrets of one member."""

    def secret(purpose: str) -> bytes:
        return hashlib.sha256(f"testnet {purpose} {seed}/{index}".encode()).digest()

    l1_key = PrivateKey(secret("L1 account")).secret
    return NodeKeys(new_bls_secret(secret("votes")), secret("identity"), l1_key)


def write_members(members: Members, settings: L1Settings | None, l1_url: str) -> None:
    """Write the genesis and a directory per node that `sequencer start --dir` runs."""
    genesis = members.genesis.with_l1(settings)
    (members.directory / GENESIS_FILE).write_text(genesis.dump())
    for index, (port, keys) in enumerate(zip(members.ports, members.keys, strict=True)):
        place = members.directory / port["name"]
        place.mkdir()
        own = replace(genesis, addresses=_addresses(members, index))
        (place / GENESIS_FILE).write_text(own.dump())
        (place / CONFIG_FILE).write_text(_config(port, l1_url).dump())
        (place / PASSWORD_FILE).write_text(PASSWORD + "\n")
        create_keys(place, PASSWORD, light=True, keys=keys)


def _config(port: dict[str, Any], l1_url: str) -> NodeConfig:
    return configure_local(
        NodeConfig(
            name=port["name"],
            network=NetworkConfig(f"127.0.0.1:{port['peer_port']}"),
            rpc=RpcConfig(f"127.0.0.1:{port['rpc_port']}"),
            l1=L1Config(l1_url),
        )
    )


def configure_local(config: NodeConfig) -> NodeConfig:
    """The same with the namespaces of the testnet's traffic, for an L1 that mines quickly."""
    ethereum = {number: NamespaceConfig("ethereum") for number in ROLLUPS}
    opaque = {number: NamespaceConfig("opaque") for number in OPAQUE_NAMESPACES}
    l1 = replace(config.l1, confirmations=L1_CONFIRMATIONS, poll_ms=L1_POLL_MS)
    return replace(config, l1=l1, namespaces=ethereum | opaque)


def local_address(port: int) -> str:
    """The multiaddr of a port of this machine."""
    return f"/ip4/127.0.0.1/tcp/{port}"


def _addresses(members: Members, index: int) -> tuple[str, ...]:
    """Where a node finds the others: at their own ports, or behind its relays."""
    if members.link_ports is None:
        return members.genesis.addresses
    found = []
    for other, address in enumerate(members.genesis.addresses):
        peer = address.rsplit("/", 1)[1]
        port = members.link_ports.get(f"{index}-{other}", members.ports[other]["peer_port"])
        found.append(f"{local_address(port)}/p2p/{peer}")
    return tuple(found)
