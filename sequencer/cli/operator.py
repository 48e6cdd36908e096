"""What the commands share that send an operator's transactions to the L1."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.options import load_genesis, read_password

if TYPE_CHECKING:
    from sequencer.genesis import Genesis, L1Settings
    from sequencer.settlement.client import Receipt
    from sequencer.settlement.ethereum import EthereumClient
    from sequencer.settlement.registry import OperatorState, Registry
    from sequencer.settlement.registry_abi import RegistrySettings
    from sequencer.settlement.wallet import Wallet

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

POLL_S: Final = 1.0


def l1_option(command: F) -> F:
    """`--l1`: the L1 to talk to."""
    return click.option("--l1", "l1_url", help="The JSON-RPC of an L1; else that of node.toml.")(
        command
    )


class Progress:
    """One line on a terminal that changes; elsewhere a line for each new sentence, on stderr."""

    def __init__(self) -> None:
        self._last = ""
        self._status: Any = None

    def __call__(self, sentence: str, detail: str = "") -> None:
        """Say how far it is; a `detail` changes all the time and is for terminals."""
        if self._status is not None:
            self._status.update(f"{sentence} {detail}")
        elif sentence != self._last:
            click.echo(sentence, err=True)
        self._last = sentence

    @contextmanager
    def shown(self) -> Iterator["Progress"]:
        """Show a spinner meanwhile, where there is a terminal."""
        if not sys.stderr.isatty():
            yield self
            return
        from rich.console import Console

        with Console(stderr=True).status("asking the L1") as status:
            self._status = status
            try:
                yield self
            finally:
                self._status = None


@dataclass(frozen=True)
class Operator:
    """A directory's keys on the L1: its account, the registry, and how transactions are sent."""

    directory: Path
    genesis: "Genesis"
    l1: "L1Settings"
    account: bytes
    client: "EthereumClient"
    registry: "Registry"
    wallet: "Wallet | None"
    progress: Progress

    @property
    def node_has_l1(self) -> bool:
        """Whether the node itself is told of an L1."""
        from sequencer.config import NodeConfig

        return bool(NodeConfig.load(self.directory).l1.url)

    async def state(self) -> "OperatorState":
        """What the registry says of this account at the head."""
        return await self.registry.operator(self.account, await self.client.head())

    async def settings(self) -> "RegistrySettings":
        """The rules of the registry."""
        return await self.registry.settings()

    async def send(self, data: bytes, value: int = 0, address: str = "") -> "Receipt":
        """Send a call and wait until it is mined; a refusal of the contract is a sentence."""
        from sequencer.settlement.client import CallReverted

        assert self.wallet is not None
        try:
            return await self.wallet.call(data, value)
        except CallReverted as error:
            await self.refuse(error.reason, address)

    async def refuse(self, reason: str, address: str = "") -> NoReturn:
        """End with what a refusal of the contract means."""
        from sequencer.cli.refusals import explain
        from sequencer.settlement.wallet import ether

        settings = await self.settings()
        facts = {
            "account": "0x" + self.account.hex(),
            "owner": "0x" + settings.owner.hex(),
            "min_stake": ether(settings.min_stake),
            "address": address,
        }
        raise NegativeResult(f"refused: {explain(reason, facts)}") from None


def operate(
    work: Callable[[Operator], Awaitable[T]],
    directory: Path,
    l1_url: str | None,
    password_file: Path | None,
    *,
    sends: bool = True,
) -> T:
    """Run `work` as the operator of a directory; what goes wrong is one line.

    Without `sends` no password is asked for and nothing can be sent.
    """
    from sequencer.config import ConfigError
    from sequencer.settlement.client import SettlementError
    from sequencer.settlement.wallet import NotMined

    genesis = load_genesis(directory / "genesis.json")
    if genesis.l1 is None:
        raise CommandError("the genesis names no contract: its members are fixed for ever")
    try:
        url = l1_url or _configured_url(directory)
        key = _l1_key(directory, password_file) if sends else None
        progress = Progress()
        with progress.shown():
            return asyncio.run(_operate(work, directory, genesis, url, key, progress))
    except NotMined as error:
        raise NegativeResult(str(error)) from None
    except (ConfigError, SettlementError, ValueError) as error:
        raise CommandError(str(error)) from None


def _configured_url(directory: Path) -> str:
    from sequencer.config import NodeConfig

    url = NodeConfig.load(directory).l1.url
    if not url:
        raise CommandError("no L1: give --l1 URL, or set l1.url in node.toml")
    return url


def _l1_key(directory: Path, password_file: Path | None) -> bytes:
    from sequencer.keys import KEYS_DIRECTORY, L1_FILE, read_keystore

    return read_keystore(directory / KEYS_DIRECTORY / L1_FILE, read_password(password_file))


async def _operate(
    work: Callable[[Operator], Awaitable[T]],
    directory: Path,
    genesis: "Genesis",
    url: str,
    key: bytes | None,
    progress: Progress,
) -> T:
    from sequencer.keys import show_keys
    from sequencer.settlement.account import L1Account
    from sequencer.settlement.ethereum import EthereumClient
    from sequencer.settlement.registry import Registry
    from sequencer.settlement.wallet import Wallet

    l1 = genesis.l1
    assert l1 is not None
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"--l1 is {url!r}, it has to start with http:// or https://")
    client = EthereumClient(url, l1.contract, l1.deploy_block, finality_depth=l1.finality_depth)
    account = bytes.fromhex(show_keys(directory)["l1_address"][2:])
    wallet = None
    if key is not None:
        signer = L1Account(key, l1.chain_id)
        account, wallet = signer.address, Wallet(client, signer, progress)
    try:
        await client.check(l1.chain_id, genesis.chain_id)
        registry = Registry(client)
        return await work(
            Operator(directory, genesis, l1, account, client, registry, wallet, progress)
        )
    finally:
        if wallet is not None:
            await wallet.aclose()
        await client.aclose()
