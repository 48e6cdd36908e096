"""`sequencer derive`: the log, rebuilt from L1 alone."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sequencer.cli.errors import CommandError, NegativeResult
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
    from sequencer.settlement.derive import LogEnd, PostedLog, Progress
    from sequencer.settlement.ethereum import EthereumClient


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
@click.option(
    "--out",
    type=FILE,
    help="Write the log to this file, as `sequencer log --export`; goes on where a run before "
    "stopped.",
)
@click.option(
    "--check",
    type=EXISTING_FILE,
    help="Compare this file with the log on the L1, and name the first byte that differs.",
)
@click.option("--final", is_flag=True, help="Only up to the L1's newest final block.")
@json_option
def derive(
    l1_url: str,
    genesis_file: Path,
    beacon: str | None,
    out: Path | None,
    check: Path | None,
    final: bool,
    as_json: bool,
) -> None:
    """Rebuild the ordered log from L1 alone, checking everything.

    Neither the L1 endpoint nor the contract is trusted: certificates, bytes and log roots are
    checked against the genesis.  Exit code 1 if what stands on L1 is no valid log.
    """
    from sequencer.settlement.client import SettlementError
    from sequencer.settlement.derive import DerivationError
    from sequencer.settlement.derived_file import ForeignFile

    if out is not None and check is not None:
        raise CommandError("--out and --check are two different things; give one of them")
    genesis = load_genesis(genesis_file)
    client, source = _source(genesis, l1_url)
    try:
        with derivation_progress() as progress:
            found = asyncio.run(
                _derive(client, source, beacon or l1_url, out, check, final, progress)
            )
    except DerivationError as error:
        raise NegativeResult(f"not derived: {error}") from None
    except SettlementError as error:
        raise CommandError(f"{error}; try again, or name another L1 node by --l1") from None
    except ForeignFile as error:
        raise CommandError(str(error)) from None
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
    beacon: str,
    out: Path | None,
    check: Path | None,
    final: bool,
    progress: "Progress | None",
) -> dict[str, Any]:
    from sequencer.settlement.beacon import BeaconClient
    from sequencer.settlement.derive import EMPTY_LOG, derive_batches
    from sequencer.settlement.derived_file import derive_to_file
    from sequencer.settlement.log_comparison import compare_with_l1

    blobs = BeaconClient(beacon)
    try:
        await client.check(source.l1_chain_id, source.chain_id)
        until = await client.finalized() if final else None
        how: dict[str, Any] = {"until": until, "progress": progress, "blobs": blobs}
        if out is not None:
            written = await derive_to_file(client, source, out, **how)
            return _told(written.end) | {"resumed": written.resumed, "rewound": written.rewound}
        if check is not None:
            return _told(await compare_with_l1(client, source, check, **how))
        end = EMPTY_LOG
        async for batch in derive_batches(client, source, **how):
            end = batch.checkpoint.end
        return _told(end)
    finally:
        await client.aclose()
        await blobs.aclose()


def _told(end: "LogEnd") -> dict[str, Any]:
    return {
        "batches": end.number,
        "transactions": end.position + 1,
        "height": end.height,
        "log_root": "0x" + end.log_root.hex(),
    }


@contextmanager
def derivation_progress() -> "Iterator[Progress | None]":
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
