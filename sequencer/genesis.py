"""The genesis: what has to be equal everywhere, and the few facts beside it that need not be.

`genesis.json` is `{"core": .., "addresses": .., "l1": ..}`. The chain id is the SHA-256 of the
canonical JSON of `core` (keys sorted, no spaces, ASCII, hex in lower case without 0x), so members
with different rules or committees sign for different chains and cannot understand each other.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from consensus.bls import verify_possession
from consensus.committee import Committee, Member
from consensus.errors import InvalidConfiguration
from consensus.rules import Rules
from net.libp2p.identity import parse_multiaddr, peer_id_from_public_key
from sequencer.config import MAX_FILE_BYTES, ConfigError, read_bounded
from sequencer.settlement.batch import MAX_CALLDATA_BYTES
from sequencer.settlement.blobs import BLOBS, CALLDATA, DATA_MODES

VERSION: Final = 1
GENESIS_FILE: Final = "genesis.json"
_MEMBER_KEYS: Final = ("name", "identity", "bls_key", "possession", "weight")
_FINALITY: Final = re.compile(r"tag|depth:[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class L1Settings:
    """The contract on the L1: 20-byte address, and the block it was deployed in.

    `finality` is "tag" (the L1's own finalized tag) or "depth:N" (N blocks down). `data` says where
    batches go: "calldata", "blobs", or "either" of them, whatever costs less.
    """

    chain_id: int
    contract: bytes
    deploy_block: int
    finality: str = "tag"
    data: str = CALLDATA

    @property
    def finality_depth(self) -> int | None:
        """How many blocks down an L1 block is final; None where the L1 says so itself."""
        return None if self.finality == "tag" else int(self.finality.removeprefix("depth:"))


@dataclass(frozen=True, slots=True)
class GenesisMember:
    """One member as the genesis names it; `address` is a multiaddr, `possession` 96 bytes."""

    name: str
    identity: bytes
    bls_key: bytes
    possession: bytes
    address: str
    weight: int = 1


@dataclass(frozen=True)
class Genesis:
    """A genesis whose every part was checked.

    committee  of epoch `committee.epoch`; names, possessions and addresses are in its order
    chain_id   32 bytes
    """

    name: str
    committee: Committee
    names: tuple[str, ...]
    possessions: tuple[bytes, ...]
    addresses: tuple[str, ...]
    rules: Rules
    l1: L1Settings | None = None
    chain_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chain_id", sha256(_canonical(self._core())).digest())

    @classmethod
    def create(cls, name: str, members: Sequence[GenesisMember], rules: Rules) -> "Genesis":
        """A new genesis of epoch 0; `ConfigError` with every violation."""
        core = {
            "name": name,
            "version": VERSION,
            "epoch": 0,
            "committee": [
                {
                    "name": member.name,
                    "identity": member.identity.hex(),
                    "bls_key": member.bls_key.hex(),
                    "possession": member.possession.hex(),
                    "weight": member.weight,
                }
                for member in members
            ],
            "rules": asdict(rules),
        }
        addresses = {member.identity.hex(): member.address for member in members}
        return _Parser().genesis({"core": core, "addresses": addresses, "l1": None})

    @classmethod
    def parse(cls, data: bytes | str) -> "Genesis":
        """The genesis in JSON; `ConfigError` with every violation."""
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"a genesis has {MAX_FILE_BYTES} bytes at most")
        try:
            found = orjson.loads(data)
        except ValueError as error:
            raise ConfigError(f"it is not JSON: {error}") from None
        return _Parser().genesis(found)

    @classmethod
    def load(cls, path: Path) -> "Genesis":
        """The genesis in a file; `ConfigError`, also where there is none."""
        data = read_bounded(path)
        try:
            return cls.parse(data)
        except ConfigError as error:
            raise ConfigError(*(f"{path}: {sentence}" for sentence in error.sentences)) from None

    def dump(self) -> str:
        """JSON text that `parse` reads back as this."""
        l1 = None
        if self.l1 is not None:
            l1 = asdict(self.l1) | {"contract": "0x" + self.l1.contract.hex()}
        identities = [member.identity.hex() for member in self.committee.members]
        addresses = dict(zip(identities, self.addresses, strict=True))
        return json.dumps({"core": self._core(), "addresses": addresses, "l1": l1}, indent=2) + "\n"

    def with_l1(self, l1: L1Settings | None) -> "Genesis":
        """The same chain with another L1 section."""
        return replace(self, l1=l1)

    def name_of(self, identity: bytes) -> str:
        """What a sequencer is called: by the genesis, or by the start of its identity."""
        for member, name in zip(self.committee.members, self.names, strict=True):
            if member.identity == identity:
                return name
        return identity.hex()[:8]

    def address_of(self, index: int) -> str:
        """The multiaddr of a member, its peer id included."""
        return self.addresses[index]

    def _core(self) -> dict[str, Any]:
        members = zip(self.committee.members, self.names, self.possessions, strict=True)
        return {
            "name": self.name,
            "version": VERSION,
            "epoch": self.committee.epoch,
            "committee": [
                {
                    "name": name,
                    "identity": member.identity.hex(),
                    "bls_key": member.bls_key.hex(),
                    "possession": possession.hex(),
                    "weight": member.weight,
                }
                for member, name, possession in members
            ],
            "rules": asdict(self.rules),
        }


def _canonical(core: dict[str, Any]) -> bytes:
    return json.dumps(core, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class _Parser:
    """Reads a genesis once and collects what is wrong with it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def genesis(self, data: object) -> Genesis:
        top = self.table(data, "the genesis", ("core", "addresses", "l1"))
        core = self.table(
            top.get("core"), "core", ("name", "version", "epoch", "committee", "rules")
        )
        name = self.text(core.get("name"), "core.name")
        if core.get("version") != VERSION:
            self.found.append(f"core.version is {core.get('version')!r}, this reads {VERSION}")
        epoch = self.number(core.get("epoch"), "core.epoch", 0, (1 << 64) - 1)
        names, members, possessions = self.members(core.get("committee"))
        committee = self.committee(epoch, members)
        rules = self.rules(core.get("rules"))
        addresses = self.addresses(top.get("addresses"), names, members)
        l1 = self.l1(top.get("l1"))
        self.check_fit(l1, rules)
        self.check_window(committee, rules)
        if self.found or committee is None or rules is None:
            raise ConfigError(*self.found)
        return Genesis(
            name, committee, tuple(names), tuple(possessions), tuple(addresses), rules, l1
        )

    def table(
        self, data: object, where: str, keys: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, Any]:
        """An object with exactly these keys; what is there of it, otherwise."""
        if not isinstance(data, dict):
            self.found.append(f"{where} has to be an object")
            return {}
        self.found += [f"{where} lacks {key!r}" for key in keys if key not in data]
        self.found += [
            f"{where} has an unknown {key!r}" for key in data if key not in (*keys, *optional)
        ]
        return data

    def text(self, value: object, where: str) -> str:
        if isinstance(value, str) and 1 <= len(value) <= 64 and value.isprintable():
            return value
        self.found.append(f"{where} has to be a text of 1 to 64 characters")
        return ""

    def number(self, value: object, where: str, least: int, most: int) -> int:
        if type(value) is int and least <= value <= most:
            return value
        self.found.append(f"{where} has to be a whole number of {least} to {most}")
        return least

    def hex(self, value: object, where: str, size: int) -> bytes:
        try:
            if isinstance(value, str):
                read = bytes.fromhex(value.removeprefix("0x"))
                if len(read) == size and len(value.removeprefix("0x")) == 2 * size:
                    return read
        except ValueError:
            pass
        self.found.append(f"{where} has to be {size} bytes in hex")
        return bytes(size)

    def members(self, data: object) -> tuple[list[str], list[Member], list[bytes]]:
        names: list[str] = []
        members: list[Member] = []
        possessions: list[bytes] = []
        for index, item in enumerate(data if isinstance(data, list) else []):
            where = f"core.committee[{index}]"
            before = len(self.found)
            table = self.table(item, where, _MEMBER_KEYS)
            names.append(self.text(table.get("name"), f"{where}.name"))
            weight = self.number(table.get("weight"), f"{where}.weight", 1, 1 << 32)
            identity = self.hex(table.get("identity"), f"{where}.identity", 32)
            key = self.hex(table.get("bls_key"), f"{where}.bls_key", 48)
            possession = self.hex(table.get("possession"), f"{where}.possession", 96)
            members.append(Member(identity, key, weight))
            possessions.append(possession)
            if len(self.found) == before and not verify_possession(key, possession):
                self.found.append(f"{where}.possession does not prove that {names[-1]} has its key")
        if len(set(names)) != len(names):
            self.found.append("two members have the same name")
        return names, members, possessions

    def committee(self, epoch: int, members: Sequence[Member]) -> Committee | None:
        if self.found and members:
            return None
        try:
            return Committee(epoch, tuple(members))
        except InvalidConfiguration as error:
            self.found.append(f"core.committee: {error}")
            return None

    def rules(self, data: object) -> Rules | None:
        names = [item.name for item in fields(Rules)]
        before = len(self.found)
        table = self.table(data, "core.rules", names)
        values = {
            name: self.number(table[name], f"core.rules.{name}", 0, (1 << 53) - 1)
            for name in names
            if name in table
        }
        if len(self.found) > before:
            return None
        rules = Rules(**values)
        self.found += [f"core.{sentence}" for sentence in rules.violations()]
        return rules

    def addresses(self, data: object, names: Sequence[str], members: Sequence[Member]) -> list[str]:
        """Each member's multiaddr; the peer id is added where it is not there."""
        identities = [member.identity.hex() for member in members]
        if not isinstance(data, dict):
            self.found.append("addresses has to be an object")
            return []
        given: Mapping[str, object] = {
            str(key).removeprefix("0x").lower(): value for key, value in data.items()
        }
        self.found += [
            f"addresses names {key}, who is not in the committee"
            for key in given
            if key not in identities
        ]
        return [
            self.address(given.get(identity), name, member)
            for identity, name, member in zip(identities, names, members, strict=True)
        ]

    def address(self, value: object, name: str, member: Member) -> str:
        if not isinstance(value, str):
            self.found.append(f"addresses lacks a multiaddr for {name}")
            return ""
        peer = peer_id_from_public_key(member.identity)
        address = value if "/p2p/" in value else f"{value}/p2p/{peer}"
        try:
            if parse_multiaddr(address)[2] != peer:
                self.found.append(f"the address of {name} has another peer id than its identity")
        except ValueError as error:
            self.found.append(f"the address of {name}: {error}")
        return address

    def l1(self, data: object) -> L1Settings | None:
        if data is None:
            return None
        required = ("chain_id", "contract", "deploy_block", "finality")
        table = self.table(data, "l1", required, ("data",))
        finality = table.get("finality")
        if not isinstance(finality, str) or not _FINALITY.fullmatch(finality):
            self.found.append('l1.finality has to be "tag" or "depth:N"')
            finality = "tag"
        where = table.get("data", CALLDATA)
        if where not in DATA_MODES:
            self.found.append(f"l1.data has to be one of {', '.join(DATA_MODES)}")
            where = CALLDATA
        return L1Settings(
            self.number(table.get("chain_id"), "l1.chain_id", 1, (1 << 256) - 1),
            self.hex(table.get("contract"), "l1.contract", 20),
            self.number(table.get("deploy_block"), "l1.deploy_block", 0, (1 << 64) - 1),
            finality,
            where,
        )

    def check_fit(self, l1: L1Settings | None, rules: Rules | None) -> None:
        """What closes a batch fits where batches go."""
        if l1 is None or rules is None or l1.data == BLOBS:
            return
        if rules.batch_max_bytes > MAX_CALLDATA_BYTES:
            self.found.append(
                f"core.rules.batch_max_bytes is {rules.batch_max_bytes}, and the calldata of one "
                f'L1 transaction carries {MAX_CALLDATA_BYTES}: l1.data has to be "blobs"'
            )

    def check_window(self, committee: Committee | None, rules: Rules | None) -> None:
        """Ep2: what members say to end an epoch counts until each of them has led."""
        if committee is None or rules is None:
            return
        if rules.digest_window_heights < committee.leader_cycle:
            self.found.append(
                f"core.rules.digest_window_heights is {rules.digest_window_heights}, and it takes "
                f"{committee.leader_cycle} rounds until each member has led: this committee could "
                "never change"
            )
