"""`sequencer genesis`: found a network: its first committee and rules, then its contract."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequencer.cli.errors import CommandError
from sequencer.cli.options import (
    EXISTING_FILE,
    FILE,
    directory_option,
    password_option,
    read_password,
)
from sequencer.cli.values import parse_registry

if TYPE_CHECKING:
    from consensus.rules import Rules
    from sequencer.genesis import Genesis, GenesisMember, L1Settings
    from sequencer.settlement.registry_abi import RegistrySettings

MAINNET = 1


@click.group()
def genesis() -> None:
    """Found a network: who is in its first committee, its rules, and its contract on an L1."""


@genesis.command(
    epilog="Example: sequencer genesis new --name mynet --out genesis.json "
    "--member alice=alice/keys/public.json@/ip4/10.0.0.1/tcp/9000 "
    "--member bob=bob/keys/public.json@/dns4/bob.example/tcp/9000 .. --rule base_timeout_ms=2000",
)
@click.option("--name", required=True, help="What the network is called.")
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    metavar="NAME=PUBLIC.JSON@MULTIADDR",
    help="A member: its name, the public.json of its keys, and where others reach it; repeat it.",
)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="SETTING=NUMBER",
    help="A rule other than the default (see consensus/rules.py); repeat it.",
)
@click.option("--out", type=FILE, required=True, help="The file to write.")
def new(name: str, members: tuple[str, ...], rules: tuple[str, ...], out: Path) -> None:
    """Write a genesis from what the members published.

    Every member checks it and starts with the same file; its chain id stands in every signature.
    """
    from sequencer.config import ConfigError
    from sequencer.genesis import Genesis

    if out.exists():
        raise CommandError(f"{out} exists; remove it, or choose another --out")
    try:
        made = Genesis.create(name, [_member(text) for text in members], _rules(rules))
    except ConfigError as error:
        raise CommandError(str(error)) from None
    out.write_text(made.dump())
    click.echo(f"wrote {out}: chain {made.chain_id.hex()}, {made.committee.size} members")
    click.echo(f"next: sequencer genesis deploy --genesis {out} --l1 URL --dir NODE (or no L1)")


def _member(text: str) -> "GenesisMember":
    import json

    from sequencer.genesis import GenesisMember

    name, equals, rest = text.partition("=")
    file, at, address = rest.rpartition("@")
    if not (equals and at and name and file and address):
        raise CommandError(f"{text!r} is not NAME=PUBLIC.JSON@MULTIADDR")
    try:
        public = json.loads(Path(file).read_bytes())
        identity, key, possession = (
            bytes.fromhex(public[field]) for field in ("identity", "bls_key", "possession")
        )
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"{file} is no public.json of `sequencer keys new`") from None
    return GenesisMember(name, identity, key, possession, address)


def _rules(texts: tuple[str, ...]) -> "Rules":
    from consensus.rules import Rules

    values: dict[str, int] = {}
    for text in texts:
        setting, _, number = text.partition("=")
        if setting not in Rules.__dataclass_fields__ or not number.isdigit():
            known = ", ".join(Rules.__dataclass_fields__)
            raise CommandError(f"{text!r} is not SETTING=NUMBER; settings: {known}")
        values[setting] = int(number)
    return replace(Rules(), **values)


@genesis.command(
    epilog="Example: sequencer genesis deploy --genesis genesis.json --l1 http://127.0.0.1:8555 "
    "--dir alice",
)
@click.option("--genesis", "file", type=EXISTING_FILE, required=True, help="The genesis.")
@click.option("--l1", "url", required=True, help="The JSON-RPC of an L1 node, http(s)://..")
@click.option(
    "--finality",
    default="tag",
    show_default=True,
    help="What counts as final: the L1's `tag`, or `depth:N` blocks below its head.",
)
@click.option(
    "--data",
    type=click.Choice(("calldata", "either", "blobs")),
    default="calldata",
    show_default=True,
    help="Where batches are posted: `either` takes what costs less; `blobs` may be larger.",
)
@click.option(
    "--registry",
    "rules",
    multiple=True,
    metavar="SETTING=VALUE",
    help="A rule of membership other than the default, as in by_stake=true, min_stake=32ether, "
    "owner=0x.., min_members=4 (docs/operators.md); repeat it.",
)
@click.option("--yes-mainnet", is_flag=True, help="Needed for chain id 1: it costs real money.")
@directory_option
@password_option
def deploy(
    file: Path,
    url: str,
    finality: str,
    data: str,
    rules: tuple[str, ...],
    yes_mainnet: bool,
    directory: Path,
    password_file: Path | None,
) -> None:
    """Deploy the contract with the genesis committee, paid by the L1 account of --dir.

    Writes the L1 section of the genesis; give the completed file to every member.  Who may join
    later is decided by an allow-list, which the deployer owns, or with by_stake=true by stakes.
    """
    from sequencer.config import ConfigError
    from sequencer.genesis import Genesis
    from sequencer.keys import l1_address, load_keys
    from sequencer.settlement.client import SettlementError

    try:
        found = Genesis.load(file)
        if found.l1 is not None:
            raise CommandError(f"{file} names a contract already: 0x{found.l1.contract.hex()}")
        _check_before_paying(found, file, url, finality, data)
        l1_key = load_keys(directory, read_password(password_file)).l1_key
        settings = parse_registry(rules, l1_address(l1_key))
        l1 = asyncio.run(_deploy(found, url, l1_key, finality, data, settings, yes_mainnet))
        completed = Genesis.parse(found.with_l1(l1).dump())
    except (ConfigError, SettlementError, ValueError) as error:
        raise CommandError(str(error)) from None
    file.write_text(completed.dump())
    click.echo(
        f"deployed 0x{l1.contract.hex()} on chain {l1.chain_id} in block {l1.deploy_block}; "
        f"{file} is complete, give it to every member"
    )


def _check_before_paying(found: "Genesis", file: Path, url: str, finality: str, data: str) -> None:
    """What would make a deployment useless once it is paid for."""
    import os

    from sequencer.genesis import Genesis, L1Settings

    if not url.startswith(("http://", "https://")):
        raise CommandError(f"--l1 is {url!r}, it has to start with http:// or https://")
    if not os.access(file, os.W_OK):
        raise CommandError(f"{file} is not writable, and the contract has to be noted in it")
    l1 = L1Settings(MAINNET, bytes(19) + b"\1", 1, finality, data)
    Genesis.parse(found.with_l1(l1).dump())


async def _deploy(
    found: "Genesis",
    url: str,
    l1_key: bytes,
    finality: str,
    data: str,
    settings: "RegistrySettings",
    yes_mainnet: bool,
) -> "L1Settings":
    from sequencer.genesis import L1Settings
    from sequencer.settlement.abi import load_contract
    from sequencer.settlement.account import L1Account
    from sequencer.settlement.ethereum import deploy, fetch_l1_chain_id, require_blobs
    from sequencer.settlement.registry_abi import encode_constructor

    chain_id = await fetch_l1_chain_id(url)
    if chain_id == MAINNET and not yes_mainnet:
        raise CommandError("that is the Ethereum mainnet; say --yes-mainnet if you mean it")
    if data != "calldata":
        await require_blobs(url)
    account = L1Account(l1_key, chain_id)
    arguments = encode_constructor(found.chain_id, found.committee, settings)
    contract, block = await deploy(url, account, load_contract().bytecode + arguments)
    return L1Settings(chain_id, contract, block, finality, data)
