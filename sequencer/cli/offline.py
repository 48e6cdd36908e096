"""Commands that need no network: `verify` and `log`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.options import (
    EXISTING_FILE,
    FILE,
    directory_option,
    json_option,
    load_genesis,
    print_fields,
    print_json,
)
from sequencer.logfile import write_entries

if TYPE_CHECKING:
    from sequencer.ledger import Ledger
    from sequencer.store.lmdb import LmdbStore

MAX_RECEIPT_BYTES = 64 * 1024 * 1024
ENTRIES_PER_READ = 4_096
MAX_LISTED = 1_000_000


@click.command(
    epilog="Example: sequencer verify receipt.json --genesis genesis.json",
)
@click.argument("receipt", type=EXISTING_FILE)
@click.option("--genesis", "genesis_file", type=EXISTING_FILE, required=True, help="The genesis.")
@json_option
def verify(receipt: Path, genesis_file: Path, as_json: bool) -> None:
    """Check that RECEIPT proves its transaction to be in the log of this genesis.

    Needs no network and trusts nobody but the committee of the genesis.  Exit code 0 if it proves
    it, 1 if not.
    """
    import orjson

    from sequencer.receipt import InvalidReceipt, verify_receipt

    genesis = load_genesis(genesis_file)
    try:
        with receipt.open("rb") as file:
            claimed = orjson.loads(file.read(MAX_RECEIPT_BYTES))
        verified = verify_receipt(claimed, genesis)
    except (InvalidReceipt, orjson.JSONDecodeError) as error:
        raise NegativeResult(f"not proved: {error}") from None
    found = {
        "id": "0x" + verified.id.hex(),
        "namespace": verified.namespace,
        "height": verified.height,
        "transaction": "0x" + verified.transaction.hex(),
    }
    if as_json:
        print_json(found)
        return
    click.echo(
        f"proved: {found['id']} ({len(verified.transaction)} bytes of namespace "
        f"{verified.namespace}) is ordered at height {verified.height}"
    )


@click.command(
    epilog="Examples: sequencer log --dir node0; sequencer log --dir node0 --blocks --from 10; "
    "sequencer log --dir node0 --export log.bin",
)
@directory_option
@click.option("--blocks", is_flag=True, help="List blocks.")
@click.option("--transactions", is_flag=True, help="List transactions.")
@click.option("--batches", is_flag=True, help="List batches.")
@click.option("--evidence", is_flag=True, help="List what proves misbehaviour.")
@click.option("--from", "first", type=click.IntRange(min=0), help="The first height or batch.")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=20, show_default=True)
@click.option("--export", type=FILE, help="Write the bytes of the whole log to this file.")
@json_option
def log(
    directory: Path,
    first: int | None,
    limit: int,
    export: Path | None,
    as_json: bool,
    **lists: bool,
) -> None:
    """Inspect the log of a node: a summary, or a list of what is in it.

    Reads only.  A running node may go on writing meanwhile.  --export writes each entry as
    height, timestamp, namespace (u64 each), length (u32) and bytes, as `derive --out` does, from
    the first entry that this node keeps.
    """
    wanted = [name for name, given in lists.items() if given]
    if len(wanted) + (export is not None) > 1:
        raise click.UsageError("one list at a time, or --export")
    with open_log(directory) as (store, ledger):
        if export is not None:
            _export(ledger, export)
            return
        if not wanted:
            rows: Any = _summary(store, ledger)
        else:
            rows = list(_LISTS[wanted[0]](store, ledger, first, limit))
    if as_json:
        print_json(rows)
    elif isinstance(rows, dict):
        print_fields(rows)
    elif not rows:
        click.echo(f"no {wanted[0]}")
    else:
        for row in rows:
            click.echo("  ".join(f"{key}={value}" for key, value in row.items()))


@contextmanager
def open_log(directory: Path) -> "Iterator[tuple[LmdbStore, Ledger]]":
    """The store and the log in a node's directory, read only."""
    from sequencer.ledger import Ledger
    from sequencer.store.lmdb import LmdbStore
    from sequencer.store.seam import StoreError

    genesis = load_genesis(directory / "genesis.json")
    if not (directory / "data").is_dir():
        raise CommandError(f"{directory} holds no log yet; has the node been started?")
    try:
        store = LmdbStore(directory / "data", genesis.chain_id, read_only=True)
    except StoreError as error:
        raise CommandError(str(error)) from None
    try:
        with damage_is_a_sentence(directory / "data"):
            yield store, Ledger(store, genesis.chain_id, genesis.rules)
    finally:
        store.close()


@contextmanager
def damage_is_a_sentence(data: Path) -> Iterator[None]:
    """What a reader of damaged data stumbles over, as a negative result."""
    from sequencer.history import Pruned
    from sequencer.store.seam import StoreError

    try:
        yield
    except (StoreError, Pruned) as error:
        raise NegativeResult(str(error)) from None
    except Exception as error:
        sentence = describe_damage(data, error)
        if sentence is None:
            raise
        raise NegativeResult(sentence) from None


def describe_damage(data: Path, error: Exception) -> str | None:
    """The sentence for what a reader of damaged data stumbled over; None if it is something else.

    A page may read as anything, so any value may turn out to be none, or not to be there.
    """
    from struct import error as StructError

    from consensus.errors import InvalidMessage
    from sequencer.store.lmdb import ADVICE

    if not isinstance(error, InvalidMessage | StructError | AssertionError | LookupError):
        return None
    return f"{data} is damaged ({str(error) or 'a row is missing'}); {ADVICE}"


def _export(ledger: "Ledger", path: Path) -> None:
    base = ledger.base
    position = base.next_position
    try:
        with path.open("wb") as file:
            while position < ledger.head.next_position:
                entries = ledger.entries(position, ENTRIES_PER_READ)
                position += write_entries(file, entries)
    except OSError as error:
        if path.is_file():
            path.unlink()  # half a log looks like a whole one
        raise NegativeResult(f"{path} cannot be written: {error.strerror}") from None
    click.echo(
        f"wrote {position - base.next_position} transactions to {path}: height "
        f"{ledger.head.height}, log root {ledger.head.log_root.hex()}"
    )
    if base.height:
        click.echo(
            f"they begin at position {base.next_position}, height {base.height + 1}, log root "
            f"{base.log_root.hex()}: this node keeps none before",
            err=True,
        )


def _summary(store: "LmdbStore", ledger: "Ledger") -> dict[str, Any]:
    from sequencer.store.schema import META_FINAL, Table

    head = ledger.head
    final = store.get(Table.META, META_FINAL)
    return {
        "first_height": ledger.base.height + 1,
        "height": head.height,
        "block_id": "0x" + head.block_id.hex(),
        "timestamp_ms": head.timestamp_ms,
        "transactions": head.next_position,
        "log_root": "0x" + head.log_root.hex(),
        "last_batch": _last_number(store, Table.BATCHES),
        "last_posted_batch": _last_number(store, Table.POSTED),
        "final_batch": int.from_bytes(final or b"", "big"),
        "unordered_collections": len(store.range(Table.UNORDERED, b"", MAX_LISTED)),
        "evidence": len(store.range(Table.EVIDENCE, b"", MAX_LISTED)),
    }


def _last_number(store: "LmdbStore", table: Any) -> int:
    rows = store.range(table, b"", 1, reverse=True)
    return int.from_bytes(rows[0][0], "big") if rows else 0


def _heights(ledger: "Ledger", first: int | None) -> range:
    least = ledger.base.height + 1
    if first is not None and first < least and ledger.base.height:
        raise CommandError(f"this node keeps the log from height {least} on")
    start = max(least, ledger.head.height - 19 if first is None else first)
    return range(start, ledger.head.height + 1)


def _blocks(
    _store: "LmdbStore", ledger: "Ledger", first: int | None, limit: int
) -> Iterator[dict[str, Any]]:
    for height in _heights(ledger, first)[:limit]:
        block, row = ledger.block(height), ledger.block_row(height)
        assert block is not None
        assert row is not None
        yield {
            "height": height,
            "round": block.round,
            "author": block.author,
            "timestamp_ms": block.timestamp_ms,
            "collections": len(block.collections),
            "transactions": row.count,
            "repeated": len(row.repeated),
            "first_position": row.first_position,
            "id": "0x" + block.id.hex(),
        }


def _transactions(
    _store: "LmdbStore", ledger: "Ledger", first: int | None, limit: int
) -> Iterator[dict[str, Any]]:
    for height in _heights(ledger, first):
        row = ledger.block_row(height)
        assert row is not None
        for index, entry in enumerate(ledger.block_entries(height)):
            if limit == 0:
                return
            limit -= 1
            yield {
                "height": height,
                "position": row.first_position + index,
                "namespace": entry.namespace,
                "id": "0x" + row.id(index).hex(),
                "bytes": len(entry.transaction),
            }


def _batches(
    store: "LmdbStore", _ledger: "Ledger", first: int | None, limit: int
) -> Iterator[dict[str, Any]]:
    from sequencer.settlement.batch import BatchHeader
    from sequencer.store.schema import Table
    from sequencer.stored_batch import StoredBatch

    start = (first or 1).to_bytes(8, "big")
    for key, value in store.range(Table.BATCHES, start, limit):
        batch = StoredBatch.decode(value)
        header = BatchHeader.decode(batch.header)
        posted = store.get(Table.POSTED, key)
        yield {
            "number": header.number,
            "first_position": header.first_position,
            "last_position": header.last_position,
            "bytes": len(batch.data),
            "certified": batch.certified,
            "log_root": "0x" + header.log_root.hex(),
            "l1_transaction": "0x" + posted[:32].hex() if posted else None,
        }


def _evidence(
    store: "LmdbStore", _ledger: "Ledger", _first: int | None, limit: int
) -> Iterator[dict[str, Any]]:
    from consensus.aggregator import Evidence
    from sequencer.store.schema import Table

    for _, value in store.range(Table.EVIDENCE, b"", limit):
        evidence = Evidence.decode(value)
        yield {
            "epoch": evidence.epoch,
            "round": evidence.round,
            "member": evidence.member,
            "kind": type(evidence.first).__name__,
            "first": "0x" + evidence.first.encode().hex(),
            "second": "0x" + evidence.second.encode().hex(),
        }


_LISTS = {
    "blocks": _blocks,
    "transactions": _transactions,
    "batches": _batches,
    "evidence": _evidence,
}
