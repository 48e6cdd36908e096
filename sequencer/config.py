"""What may differ from node to node: `node.toml` in the node's directory.

Every setting has a default, an unknown or impossible one is refused, and everything that is wrong
is said at once, a sentence each.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from consensus.rules import Rules
from net.libp2p.identity import parse_multiaddr

CONFIG_FILE: Final = "node.toml"
MAX_FILE_BYTES: Final = 1 << 20
MAX_PEERS: Final = 128
"""Peers that `network.peers` may name."""
POLICIES: Final = ("ethereum", "opaque")
KEEP_ALL: Final = "all"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

Section = TypeVar("Section")


class ConfigError(Exception):
    """Settings, keys or a genesis that cannot work; `sentences` says everything that is wrong."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port"; ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} has to be [address]:port for IPv6")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port with a port of 0 to 65535")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Where the other members reach this node, and whom it dials beside those of the genesis.

    `peers` are multiaddresses with peer ids: whoever is there helps a node that joins.
    """

    listen: str = "0.0.0.0:9000"
    peers: tuple[str, ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        return parse_address(self.listen)

    @property
    def peer_addresses(self) -> dict[str, tuple[str, int]]:
        """Host and port of each of `peers` by its peer id."""
        return {peer: (host, port) for host, port, peer in map(parse_multiaddr, self.peers)}

    def violations(self) -> list[str]:
        """What is wrong with `peers`, a sentence each."""
        found = []
        if len(self.peers) > MAX_PEERS:
            found.append(f"network.peers names {len(self.peers)} peers, {MAX_PEERS} is the most")
        for peer in self.peers[:MAX_PEERS]:
            try:
                parse_multiaddr(peer)
            except ValueError as error:
                found.append(f"network.peers: {error}")
        return found


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """Where clients reach this node."""

    listen: str = "127.0.0.1:8545"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        return parse_address(self.listen)


@dataclass(frozen=True, slots=True)
class L1Config:
    """How this node sees the L1. With no `url` it orders and certifies, and posts nothing.

    confirmations         L1 blocks on top of a posted batch before it counts as safe
    poll_ms               between two looks at the L1
    takeover_blocks       L1 blocks the next poster waits for the one before it
    max_unposted_batches  closed batches that the L1 does not have; above, nothing is admitted
    """

    url: str = ""
    confirmations: int = 2
    poll_ms: int = 1_000
    takeover_blocks: int = 3
    max_unposted_batches: int = 2_048  # about 240 MB of log


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """When a collection is sealed, and how much may wait: bytes and milliseconds."""

    seal_bytes: int = 128 * 1024
    seal_ms: int = 20
    max_pending_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NamespaceConfig:
    """What this node admits for one rollup.

    policy       "ethereum": signed transactions of that chain id; "opaque": any bytes
    min_fee_wei  the least fee per gas that is admitted
    rollup_rpc   where questions about the rollup's state are forwarded; empty for nowhere
    """

    policy: str = "opaque"
    min_fee_wei: int = 0
    rollup_rpc: str = ""


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """How much of the log this node keeps.

    keep  "all", or how many heights below its head; batches that are not final on the L1 stay
    """

    keep: str | int = KEEP_ALL

    @property
    def heights(self) -> int | None:
        """How many heights are kept; None for all of them."""
        return self.keep if isinstance(self.keep, int) else None


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is written to the standard error."""

    level: str = "info"
    json: bool = False


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All of `node.toml`."""

    name: str = "node"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    rpc: RpcConfig = field(default_factory=RpcConfig)
    l1: L1Config = field(default_factory=L1Config)
    pool: PoolConfig = field(default_factory=PoolConfig)
    namespaces: Mapping[int, NamespaceConfig] = field(default_factory=dict)
    log: LogConfig = field(default_factory=LogConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)

    @classmethod
    def load(cls, directory: Path) -> "NodeConfig":
        """The settings of a node's directory; `ConfigError`."""
        path = directory / CONFIG_FILE
        try:
            text = read_bounded(path).decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8: {error.reason}") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, where: str = CONFIG_FILE) -> "NodeConfig":
        """The settings in TOML text that came from `where`; `ConfigError`."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where} is not TOML: {error}") from None
        found: list[str] = []
        namespaces = _namespaces(table.pop("namespaces", {}), found)
        config: NodeConfig | None = _section(cls, table, "", found, {"namespaces": namespaces})
        if config is not None:
            found += config.violations()
        if found or config is None:
            raise ConfigError(*(f"{where}: {sentence}" for sentence in found))
        return config

    def violations(self, rules: Rules | None = None) -> list[str]:
        """Everything that cannot work, a sentence each; with the rules, against them too."""
        found = [] if 1 <= len(self.name) <= 64 else ["name has to have 1 to 64 characters"]
        for section, listen in (("network", self.network.listen), ("rpc", self.rpc.listen)):
            try:
                parse_address(listen)
            except ValueError as error:
                found.append(f"{section}.listen: {error}")
        if self.log.level not in LOG_LEVELS:
            found.append(f"log.level is {self.log.level!r}, not one of {', '.join(LOG_LEVELS)}")
        found += self.network.violations()
        found += _bad_urls({"l1.url": self.l1.url})
        found += self._bad_numbers()
        for number, namespace in self.namespaces.items():
            found += _bad_namespace(number, namespace)
        found += self._bad_history(rules)
        if rules is not None and self.pool.seal_bytes > rules.max_collection_bytes:
            found.append(
                f"pool.seal_bytes is {self.pool.seal_bytes}, the genesis allows collections of "
                f"{rules.max_collection_bytes}"
            )
        return found

    def _bad_history(self, rules: Rules | None) -> list[str]:
        keep, heights = self.history.keep, self.history.heights
        if heights is None:
            return [] if keep == KEEP_ALL else [f'history.keep is {keep!r}, not "all" or a number']
        if heights < 1:
            return [f"history.keep is {heights}, it has to be at least 1"]
        if rules is None:
            return []
        least = rules.duplicate_window_heights + rules.digest_window_heights
        if heights >= least:
            return []
        return [
            f"history.keep is {heights}; the genesis looks back {least} heights "
            "(duplicate_window_heights and digest_window_heights), so less cannot be kept"
        ]

    def dump(self) -> str:
        """TOML text that `parse` reads back as this."""
        lines = [f"name = {_toml(self.name)}"]
        for item in fields(self):
            section = getattr(self, item.name)
            if is_dataclass(section):
                lines += _dump_section(item.name, section)
        for number, namespace in self.namespaces.items():
            lines += _dump_section(f'namespaces."{number}"', namespace)
        return "\n".join(lines) + "\n"

    def _bad_numbers(self) -> list[str]:
        bounds = (
            ("l1.confirmations", self.l1.confirmations, 1, 10_000),
            ("l1.poll_ms", self.l1.poll_ms, 10, 600_000),
            ("l1.takeover_blocks", self.l1.takeover_blocks, 3, 10_000),
            ("l1.max_unposted_batches", self.l1.max_unposted_batches, 1, 1 << 20),
            ("pool.seal_bytes", self.pool.seal_bytes, 1, 1 << 30),
            ("pool.seal_ms", self.pool.seal_ms, 0, 60_000),
            ("pool.max_pending_bytes", self.pool.max_pending_bytes, 1 << 16, 1 << 40),
        )
        found = [
            f"{name} is {value}, it has to be {least} to {most}"
            for name, value, least, most in bounds
            if not least <= value <= most
        ]
        if self.pool.seal_bytes > self.pool.max_pending_bytes:
            found.append("pool.seal_bytes is above pool.max_pending_bytes")
        return found


def write_default(
    directory: Path,
    name: str | None = None,
    listen: str | None = None,
    rpc: str | None = None,
    l1_url: str | None = None,
    peers: Sequence[str] = (),
) -> NodeConfig:
    """Write `node.toml` with defaults for what is not given; `ConfigError`."""
    config = NodeConfig(
        name or directory.resolve().name or "node",
        NetworkConfig(listen or NetworkConfig().listen, tuple(peers)),
        RpcConfig(rpc) if rpc else RpcConfig(),
        L1Config(l1_url) if l1_url else L1Config(),
    )
    found = config.violations()
    if found:
        raise ConfigError(*found)
    (directory / CONFIG_FILE).write_text(config.dump(), encoding="utf-8")
    return config


def read_bounded(path: Path) -> bytes:
    """A small file's bytes; `ConfigError` where it is missing, unreadable or too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} has more than {MAX_FILE_BYTES} bytes")
    return data


def _section(
    kind: type[Section], table: object, where: str, found: list[str], given: dict[str, Any]
) -> Section | None:
    """A section from its table; what is wrong goes to `found`."""
    if not isinstance(table, dict):
        found.append(f"{where} has to be a table")
        return None
    before, values = len(found), dict(given)
    types = get_type_hints(kind)
    for key, value in table.items():
        name = f"{where}.{key}" if where else key
        if key not in types or key in given:
            found.append(f"there is no setting {name}")
        elif is_dataclass(types[key]):
            values[key] = _section(types[key], value, name, found, {})
        elif types[key] == Strings and _are_strings(value):
            values[key] = tuple(value)
        elif type(value) not in _CHOICES.get(types[key], (types[key],)):
            found.append(f"{name} is {value!r}, it has to be {_KINDS[types[key]]}")
        else:
            values[key] = value
    return kind(**values) if len(found) == before else None


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


Strings = tuple[str, ...]
StringOrNumber = str | int
_CHOICES: Final[dict[object, tuple[type, ...]]] = {StringOrNumber: (str, int)}
_KINDS: Final[dict[object, str]] = {
    StringOrNumber: "a string in quotes or a whole number",
    Strings: "a list of strings",
    str: "a string in quotes",
    int: "a whole number",
    bool: "true or false",
}


def _namespaces(table: object, found: list[str]) -> dict[int, NamespaceConfig]:
    if not isinstance(table, dict):
        found.append("namespaces has to be a table")
        return {}
    read: dict[int, NamespaceConfig] = {}
    for key, value in table.items():
        if not key.isascii() or not key.isdigit() or int(key) >= 1 << 64:
            found.append(f"namespaces.{key} is not a number of 64 bits")
            continue
        namespace = _section(NamespaceConfig, value, f"namespaces.{key}", found, {})
        if namespace is not None:
            read[int(key)] = namespace
    return read


def _bad_namespace(number: int, namespace: NamespaceConfig) -> list[str]:
    where, found = f"namespaces.{number}", []
    if namespace.policy not in POLICIES:
        found.append(f"{where}.policy is {namespace.policy!r}, not one of {', '.join(POLICIES)}")
    if namespace.min_fee_wei < 0:
        found.append(f"{where}.min_fee_wei is below zero")
    return found + _bad_urls({f"{where}.rollup_rpc": namespace.rollup_rpc})


def _bad_urls(urls: Mapping[str, str]) -> list[str]:
    return [
        f"{name} is {url!r}, it has to start with http:// or https://"
        for name, url in urls.items()
        if url and not url.startswith(("http://", "https://"))
    ]


def _dump_section(name: str, section: Any) -> list[str]:
    values = [f"{item.name} = {_toml(getattr(section, item.name))}" for item in fields(section)]
    return ["", f"[{name}]", *values]


def _toml(value: str | int | bool | Strings) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
