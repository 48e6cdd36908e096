"""Commands that ask a running node: `status`, `why`, `receipt`, `follow`."""

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from sequencer.cli.errors import NegativeResult
from sequencer.cli.options import (
    FILE,
    client_errors,
    json_option,
    parse_hash,
    print_fields,
    print_json,
    url_option,
)

WATCH_S: Final = 1.0
"""Between two looks of `status --watch`."""


@click.command(
    epilog="Examples: sequencer status --url http://127.0.0.1:8545; sequencer status --watch",
)
@url_option
@click.option("--watch", is_flag=True, help="One line with a progress bar, until Ctrl-C.")
@json_option
def status(urls: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """How far a running node is, and what it is: follower, registered, member.

    Exit code 0 if a node answers, 2 if none does.
    """
    if watch:
        _watch(urls, as_json)
    else:
        _show(urls, "seq_status", as_json)


def _watch(urls: tuple[str, ...], as_json: bool) -> None:
    """A bar on a terminal; elsewhere, or as JSON, a line for each change."""
    import sys
    import time

    from sequencer.client import SyncSequencerClient

    show = _bar() if sys.stdout.isatty() and not as_json else _lines(as_json)
    with client_errors(), SyncSequencerClient(urls) as client, suppress(KeyboardInterrupt):
        next(show)
        while True:
            show.send(client.call("seq_status"))
            time.sleep(WATCH_S)


def _headline(status: dict[str, Any]) -> str:
    parts = (
        status.get("name"),
        status.get("standing"),
        f"peers {status.get('peers_up')}/{status.get('peers')}",
        status.get("reason"),
    )
    return "  ".join(str(part) for part in parts if part)


def _lines(as_json: bool) -> Generator[None, dict[str, Any], None]:
    import orjson

    last = ""
    while True:
        status = yield
        line = f"height {status.get('height')}/{status.get('highest_height')}  {_headline(status)}"
        if as_json:
            click.echo(orjson.dumps(status))
        elif line != last:
            click.echo(line)
        last = line


def _bar() -> Generator[None, dict[str, Any], None]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}  {task.description}"))
    with Progress(*columns) as progress:
        task = progress.add_task("", total=1)
        while True:
            status = yield
            height, highest = status.get("height", 0), status.get("highest_height", 0)
            said = _headline(status)
            progress.update(task, completed=height, total=max(1, highest), description=said)


@click.command(
    epilog="Example: sequencer why --url http://127.0.0.1:8545",
)
@url_option
@json_option
def why(urls: tuple[str, ...], as_json: bool) -> None:
    """Why the log does or does not grow: round, leader, votes, who is missing, peers, L1."""
    _show(urls, "seq_why", as_json)


def _show(urls: tuple[str, ...], method: str, as_json: bool) -> None:
    from sequencer.client import SyncSequencerClient

    with client_errors(), SyncSequencerClient(urls) as client:
        answer = client.call(method)
    if as_json:
        print_json(answer)
    else:
        print_fields(answer)


@click.command(
    epilog="Example: sequencer receipt 0x5c0e.. --out receipt.json && "
    "sequencer verify receipt.json --genesis genesis.json",
)
@click.argument("tx_hash", metavar="HASH")
@url_option
@click.option("--namespace", type=int, help="Where the same signed bytes stand in several rollups.")
@click.option("--out", type=FILE, help="Write the receipt to this file instead of stdout.")
def receipt(tx_hash: str, urls: tuple[str, ...], namespace: int | None, out: Path | None) -> None:
    """Fetch the proof that a transaction is in the log, as JSON.

    HASH is the transaction's id or its Ethereum hash.  Exit code 1 if it is not ordered (yet).
    """
    import orjson

    from sequencer.client import SyncSequencerClient

    wanted = parse_hash(tx_hash)
    with client_errors(), SyncSequencerClient(urls) as client:
        found = client.receipt(wanted, namespace)
    if found is None:
        raise NegativeResult(f"{tx_hash} is not ordered (yet)")
    if out is None:
        print_json(found)
        return
    out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    click.echo(f"wrote {out}: height {found.get('height')}, index {found.get('index')}")


@click.command(
    epilog="Example: sequencer follow --from 1 --namespace 901 --json | jq .id",
)
@url_option
@click.option("--from", "from_height", type=int, help="The first height; default: the next block.")
@click.option("--namespace", type=int, help="Only the transactions of this namespace.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many transactions.")
@json_option
def follow(
    urls: tuple[str, ...],
    from_height: int | None,
    namespace: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print the ordered feed, one line per transaction, gapless across nodes and restarts.

    With --json each line is an object with height, position, namespace, id and transaction.
    """
    from sequencer.client import SyncSequencerClient

    printed = 0
    with client_errors(), SyncSequencerClient(urls) as client:
        for block in client.follow("transactions", from_height, namespace):
            for transaction in block["transactions"]:
                _print_transaction(block, transaction, as_json)
                printed += 1
                if printed == limit:
                    return


def _print_transaction(block: dict[str, Any], transaction: dict[str, Any], as_json: bool) -> None:
    import orjson

    if as_json:
        place = {"height": block["height"], "timestamp_ms": block["timestamp_ms"]}
        click.echo(orjson.dumps({**place, **transaction}))
        return
    size = len(transaction["transaction"]) // 2 - 1
    click.echo(
        f"{block['height']:>8} {transaction['position']:>10}  "
        f"ns {transaction['namespace']:<10} {transaction['id']}  {size} bytes"
    )
