"""Options that several commands share."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sequencer.settlement.blobs import CALLDATA, DATA_MODES
from testnet.errors import TestnetError
from testnet.state import DEFAULT_DIRECTORY, sole_use
from testnet.workload import MAX_TRANSACTION_BYTES, MIN_TRANSACTION_BYTES

NODE_COUNTS = ("4", "7", "10")


class L1Kind(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """`auto`, `embedded`, `anvil`, `none`, or with `urls` the URL of an L1 that runs already."""

    name = "kind"

    def __init__(self, urls: bool = True) -> None:
        self._urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value itself, if it is one of those."""
        if value in ("auto", "embedded", "anvil", "none"):
            return str(value)
        if self._urls and str(value).startswith(("http://", "https://")):
            return str(value)
        url = ", http://.." if self._urls else "; this command needs an L1 of its own"
        return self.fail(f"{value!r} is none of auto, embedded, anvil, none{url}", param, ctx)


nodes = click.option(
    "--nodes",
    type=click.Choice(NODE_COUNTS),
    default="4",
    show_default=True,
    help="How many nodes; f = 1, 2 or 3 of them may fail.",
)
directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where the testnet lives.",
)
l1 = click.option(
    "--l1",
    type=L1Kind(),
    default="embedded",
    show_default=True,
    help="embedded, anvil, auto (anvil where it is found), none, or the URL of an L1.",
)
own_l1 = click.option(
    "--l1",
    type=L1Kind(urls=False),
    default="embedded",
    show_default=True,
    help="embedded, anvil, auto (anvil where it is found), or none.",
)

data = click.option(
    "--data",
    type=click.Choice(DATA_MODES),
    default=CALLDATA,
    show_default=True,
    help="Where batches are posted: calldata, blobs (anvil or a URL), or either, by price.",
)
hardfork = click.option(
    "--hardfork",
    type=click.Choice(("osaka", "prague")),
    default="osaka",
    show_default=True,
    help="Fork of Ethereum that an anvil is at.",
)


def check_l1(l1: str, l1_key: bytes | None, data: str) -> None:
    """Refuse what a new testnet cannot be made of, before anything is made."""
    if data != CALLDATA and l1 in ("none", "embedded"):
        raise click.UsageError(f"--data {data} needs an L1 that takes blobs, as --l1 anvil does")
    if l1.startswith("http") and l1_key is None:
        raise click.UsageError(f"--l1 {l1} needs the key of an account that pays there: --l1-key")


def _read_key(_ctx: click.Context, _param: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        key = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise click.BadParameter("a private key is 32 bytes in hex")
    return key


l1_key = click.option(
    "--l1-key",
    envvar="TESTNET_L1_KEY",
    callback=_read_key,
    metavar="HEX",
    help="Private key that deploys and funds members on --l1 URL (better: $TESTNET_L1_KEY).",
)
seed = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Makes keys and traffic: the same seed, the same bytes.",
)
rate = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True, max=100_000),
    default=200.0,
    show_default=True,
    help="Transactions a second.",
)
transaction_bytes = click.option(
    "--tx-size",
    "transaction_bytes",
    type=click.IntRange(MIN_TRANSACTION_BYTES, MAX_TRANSACTION_BYTES),
    default=300,
    show_default=True,
    help="Bytes of a transaction, about.",
)


def check_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written when the work is done; nothing is left of the try."""
    if path is None or (path.exists() and not path.is_file()):  # a pipe is not opened twice
        return
    is_new = not path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from None
    if is_new:
        path.unlink()


def save(path: Path, text: str) -> None:
    """Write a file.  TestnetError, which names it, where that fails."""
    try:
        path.write_text(text)
    except OSError as error:
        raise TestnetError(f"{path}: {error.strerror}") from None


json_file = click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the summary to this file as well.",
)


@contextmanager
def workplace(directory: Path | None, console: Console) -> Iterator[Path]:
    """The directory to work in, alone; a temporary one is kept after a failure only."""
    if directory is not None:
        with sole_use(directory):
            yield directory
        return
    place = Path(tempfile.mkdtemp(prefix="testnet-"))
    failed = False
    try:
        yield place
    except Exception:
        failed = True
        console.print(f"everything is kept in {place}", highlight=False, soft_wrap=True)
        raise
    finally:
        if not failed:
            shutil.rmtree(place, ignore_errors=True)
