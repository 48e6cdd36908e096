"""`sequencer derive`: the log, rebuilt from L1 alone."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.logfile import write_entries
from sequencer.cli.options import (
    EXISTING_FILE,
    FILE,
    json_option,
    load_genesis,
    print_fields,
    print_json,
)

if TYPE_CHECKING:
    from sequencer.genesis import Genesis
    from sequencer.settlement.beacon import BeaconClient
    from sequencer.settlement.derive import PostedLog, Progress
    from sequencer.settlement.ethereum import EthereumClient


@dataclass(slots=True)
class Derived:
    """What was derived so far."""

    batches: int = 0
    transactions: int = 0
    height: int = 0
    log_root: bytes = bytes(32)


@click.command(
    epilog="Example: sequencer derive --l1 http://127.0.0.1:8555 --genesis genesis.json "
    "--out log.bin",
)
@click.option("--l1", "l1_url", required=True, help="The JSON-RPC of any L1 node.")
@click.option("--genesis", "genesis_file", type=EXISTING_FILE, required=True, help="The genesis.")
@click.option(
    "--beacon",
    help="A beacon node that keeps the blobs, where batches are in blobs; by default the L1's URL.",
)
@click.option("--out", type=FILE, help="Write the log to this file, as `sequencer log --export`.")
@click.option("--final", is_flag=True, help="Only up to the L1's newest final block.")
@json_option
def derive(
    l1_url: str,
    genesis_file: Path,
    beacon: str | None,
    out: Path | None,
    final: bool,
    as_json: bool,
) -> None:
    """Rebuild the ordered log from L1 alone, checking everything.

    Neither the L1 endpoint nor the contract is trusted: certificates, bytes and log roots are
    checked against the genesis.  Exit code 1 if what stands on L1 is no valid log.
    """
    from sequencer.settlement.beacon import BeaconClient
    from sequencer.settlement.client import SettlementError
    from sequencer.settlement.derive import DerivationError

    genesis = load_genesis(genesis_file)
    client, source = _source(genesis, l1_url)
    blobs = BeaconClient(beacon or l1_url)
    try:
        with _sink(out) as file, _progress() as progress:
            derived = asyncio.run(_derive(client, source, blobs, genesis, final, file, progress))
    except DerivationError as error:
        raise NegativeResult(f"not derived: {error}") from None
    except SettlementError as error:
        raise CommandError(f"{error}; try again, or name another L1 node by --l1") from None
    found = {
        "batches": derived.batches,
        "transactions": derived.transactions,
        "height": derived.height,
        "log_root": "0x" + derived.log_root.hex(),
    }
    if as_json:
        print_json(found)
    else:
        print_fields(found)


def _source(genesis: "Genesis", l1_url: str) -> "tuple[EthereumClient, PostedLog]":
    from sequencer.settlement.derive import PostedLog
    from sequencer.settlement.ethereum import EthereumClient

    l1 = genesis.l1
    if l1 is None:
        raise CommandError("this genesis names no L1 contract (l1 is null): nothing is posted")
    client = EthereumClient(l1_url, l1.contract, l1.deploy_block, finality_depth=l1.finality_depth)
    return client, PostedLog.of(genesis)


async def _derive(
    client: "EthereumClient",
    source: "PostedLog",
    blobs: "BeaconClient",
    genesis: "Genesis",
    final: bool,
    file: IO[bytes] | None,
    progress: "Progress | None",
) -> Derived:
    from sequencer.settlement.derive import derive_batches

    derived = Derived()
    try:
        await client.check(source.l1_chain_id, genesis.chain_id)
        until = await client.finalized() if final else None
        async for batch in derive_batches(
            client, source, until=until, progress=progress, blobs=blobs
        ):
            derived.batches += 1
            derived.transactions += len(batch.entries)
            derived.height = batch.entries[-1].height
            derived.log_root = batch.header.log_root
            if file is not None:
                write_entries(file, batch.entries)
    finally:
        await client.aclose()
        await blobs.aclose()
    return derived


@contextmanager
def _sink(out: Path | None) -> Iterator[IO[bytes] | None]:
    """The file to write; it has its name only once it is whole."""
    if out is None:
        yield None
        return
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        yield file
    part.replace(out)


@contextmanager
def _progress() -> "Iterator[Progress | None]":
    """A progress bar over L1 blocks where somebody looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("deriving", total=None)

        def show(batches: int, reached: int, last: int) -> None:
            text = f"batch {batches}, L1 block {reached}"
            bar.update(task, total=last, completed=reached, description=text)

        yield show
