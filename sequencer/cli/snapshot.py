"""`sequencer snapshot`: make, look at and restore snapshots; and how `init` begins with one."""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.offline import damage_is_a_sentence
from sequencer.cli.options import (
    EXISTING_FILE,
    FILE,
    directory_option,
    json_option,
    load_genesis,
    print_fields,
    print_json,
)

if TYPE_CHECKING:
    from sequencer.bootstrap import Began
    from sequencer.genesis import Genesis
    from sequencer.settlement.ethereum import EthereumClient
    from sequencer.store.seam import Store

FETCH_TIMEOUT_S: Final = 60.0
DAY_MS: Final = 24 * 3_600 * 1_000
PART: Final = "data.part"
"""The store while it is filled: it gets its name once everything in it is proved."""

max_age_option = click.option(
    "--max-age",
    "max_age_days",
    type=click.FloatRange(min=0),
    default=14.0,
    show_default=True,
    metavar="DAYS",
    help="Refuse a snapshot whose last block is older.",
)


@click.group()
def snapshot() -> None:
    """Files from which a node begins above the genesis, each of which proves itself."""


@snapshot.command(
    epilog="Example: sequencer snapshot create snapshot.bin --dir node0",
)
@click.argument("file", type=FILE)
@directory_option
@json_option
def create(file: Path, directory: Path, as_json: bool) -> None:
    """Write a snapshot of a node's log to FILE.

    Reads the node's directory; the node may be running.  FILE appears once it is whole.
    """
    from sequencer import snapshot as snapshots
    from sequencer.store.lmdb import LmdbStore
    from sequencer.store.seam import StoreError

    genesis = load_genesis(directory / "genesis.json")
    if not (directory / "data").is_dir():
        raise CommandError(f"{directory} holds no log yet; has the node been started?")
    part = file.with_name(file.name + ".part")
    try:
        store = LmdbStore(directory / "data", genesis.chain_id, read_only=True)
    except StoreError as error:
        raise CommandError(str(error)) from None
    try:
        with damage_is_a_sentence(directory / "data"), part.open("wb") as out:
            contents = snapshots.create(store, genesis.chain_id, genesis.rules, out)
        part.replace(file)
    except OSError as error:
        raise NegativeResult(f"{file} cannot be written: {error.strerror}") from None
    except snapshots.SnapshotError as error:
        raise CommandError(str(error)) from None
    finally:
        store.close()
        part.unlink(missing_ok=True)
    _print(_described(contents), as_json)


@snapshot.command(
    epilog="Example: sequencer snapshot show snapshot.bin --genesis genesis.json",
)
@click.argument("file", type=EXISTING_FILE)
@click.option("--genesis", "genesis_file", type=EXISTING_FILE, help="Check everything against it.")
@json_option
def show(file: Path, genesis_file: Path | None, as_json: bool) -> None:
    """What FILE holds; with a genesis, whether all of it is proved.

    Exit code 1 if it is damaged or not proved.
    """
    from sequencer.snapshot import Reader, SnapshotError

    try:
        with file.open("rb") as opened:
            reader = Reader(opened)
            for _ in reader.records():
                pass
        found = _described(reader.contents)
        if genesis_file is not None:
            found |= _proved(file, load_genesis(genesis_file))
    except SnapshotError as error:
        raise NegativeResult(str(error)) from None
    _print(found, as_json)


def _proved(file: Path, genesis: "Genesis") -> dict[str, Any]:
    """What it proves, found out in a store that is thrown away."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="sequencer-snapshot-") as directory:
        began = begin(Path(directory), genesis, lambda store: _load(str(file), store, genesis, 0))
    return {"proved": True, "first_height": began.base.height + 1, **_position(began)}


@snapshot.command(
    epilog="Example: sequencer snapshot restore https://example.org/snapshot.bin --dir node0",
)
@click.argument("source", metavar="FILE|URL")
@directory_option
@max_age_option
@json_option
def restore(source: str, directory: Path, max_age_days: float, as_json: bool) -> None:
    """Give a node that has no data the log of a snapshot.

    Everything is checked against the genesis in the node's directory; nobody else is trusted.
    """
    genesis = load_genesis(directory / "genesis.json")
    began = begin_from_snapshot(directory, genesis, source, max_age_days)
    _print(_position(began), as_json)


# ---------------------------------------------------------------------- beginning


def begin_from_snapshot(
    directory: Path,
    genesis: "Genesis",
    source: str,
    max_age_days: float,
    l1_url: str | None = None,
) -> "Began":
    """The data of a node from a snapshot in a file or at a URL; `CommandError`.

    With an L1, its committees have to be those of the contract.
    """
    from sequencer.bootstrap import BootstrapError
    from sequencer.settlement.client import SettlementError
    from sequencer.snapshot import SnapshotError

    oldest_ms = time.time_ns() // 1_000_000 - int(max_age_days * DAY_MS)

    def fill(store: "Store") -> "Began":
        began = _load(source, store, genesis, oldest_ms)
        if l1_url is not None and genesis.l1 is not None:
            asyncio.run(_compare(store, genesis, l1_url))
        return began

    try:
        return begin(directory, genesis, fill)
    except (SnapshotError, BootstrapError) as error:
        raise CommandError(f"{source}: {error}") from None
    except SettlementError as error:
        raise CommandError(f"the committees cannot be compared with the L1: {error}") from None


async def _compare(store: "Store", genesis: "Genesis", l1_url: str) -> None:
    from sequencer.from_l1 import require_committees

    client = _l1_client(genesis, l1_url)
    try:
        assert genesis.l1 is not None
        await client.check(genesis.l1.chain_id, genesis.chain_id)
        await require_committees(client, store, genesis)
    finally:
        await client.aclose()


def _l1_client(genesis: "Genesis", l1_url: str) -> "EthereumClient":
    from sequencer.settlement.ethereum import EthereumClient

    l1 = genesis.l1
    assert l1 is not None
    return EthereumClient(l1_url, l1.contract, l1.deploy_block, finality_depth=l1.finality_depth)


def begin_from_l1(
    directory: Path, genesis: "Genesis", l1_url: str, beacon: str | None, node_url: str
) -> "Began":
    """The data of a node from the L1, with headers from a running node; `CommandError`."""
    from sequencer.bootstrap import BootstrapError
    from sequencer.client import ClientError
    from sequencer.settlement.client import SettlementError
    from sequencer.settlement.derive import DerivationError

    if genesis.l1 is None:
        raise CommandError("this genesis names no L1 contract (l1 is null): nothing is posted")
    try:
        return begin(
            directory,
            genesis,
            lambda store: asyncio.run(_derive(store, genesis, l1_url, beacon or l1_url, node_url)),
        )
    except (BootstrapError, DerivationError) as error:
        raise CommandError(f"no log to begin with: {error}") from None
    except SettlementError as error:
        raise CommandError(f"{error}; try again, or name another L1 node") from None
    except ClientError as error:
        raise CommandError(f"{node_url}: {error}") from None


async def _derive(
    store: "Store", genesis: "Genesis", l1_url: str, beacon: str, node_url: str
) -> "Began":
    from consensus.bls import BlsCrypto
    from sequencer.cli.derive import derivation_progress
    from sequencer.client import SequencerClient
    from sequencer.from_l1 import Sources, begin_from_l1
    from sequencer.settlement.beacon import BeaconClient

    client = _l1_client(genesis, l1_url)
    try:
        async with SequencerClient(node_url) as node:
            assert genesis.l1 is not None
            await client.check(genesis.l1.chain_id, genesis.chain_id)
            sources = Sources(client, BeaconClient(beacon), node)
            with derivation_progress() as progress:
                return await begin_from_l1(sources, store, genesis, BlsCrypto(), progress)
    finally:
        await client.aclose()


def begin(directory: Path, genesis: "Genesis", fill: "Callable[[Store], Began]") -> "Began":
    """Fill an empty store and give it its place once that went well; `CommandError`."""
    from sequencer.store.lmdb import LmdbStore
    from sequencer.store.seam import StoreError

    data, part = directory / "data", directory / PART
    if data.exists():
        raise CommandError(f"{data} exists: this node has a log already; move it away first")
    shutil.rmtree(part, ignore_errors=True)
    try:
        store = LmdbStore(part, genesis.chain_id)
        try:
            began = fill(store)
        finally:
            store.close()
        part.rename(data)
    except StoreError as error:
        raise CommandError(str(error)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return began


def _load(source: str, store: "Store", genesis: "Genesis", oldest_ms: int) -> "Began":
    from consensus.bls import BlsCrypto
    from sequencer.snapshot import load

    with _opened(source) as file, _progress(source) as progress:
        return load(file, store, genesis, BlsCrypto(), oldest_ms, progress)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    """A file, or what a URL answers, to be read front to back."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    if not source.startswith(("http://", "https://")):
        with Path(source).open("rb") as file:
            yield file
        return
    try:
        with urlopen(source, timeout=FETCH_TIMEOUT_S) as answer:
            yield answer
    except (OSError, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise CommandError(f"cannot fetch {source}: {error}; try again") from None


@contextmanager
def _progress(source: str) -> Iterator[Callable[[int], None]]:
    """A count of what was read where somebody looks at it."""
    if not sys.stderr.isatty():
        yield lambda read: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress

    path = Path(source)
    total = path.stat().st_size if path.is_file() else None
    columns = ("reading", BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda read: bar.update(task, completed=read)


def _described(contents: Any) -> dict[str, Any]:
    """What a file says, for a reader."""
    found = asdict(contents)
    return found | {"chain_id": "0x" + contents.chain_id.hex()}


def _position(began: "Began") -> dict[str, Any]:
    return {
        "base_height": began.base.height,
        "height": began.head.height,
        "epoch": began.epoch,
        "transactions": began.head.next_position,
        "log_root": "0x" + began.head.log_root.hex(),
        "last_batch": began.last_batch,
    }


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields(found)
