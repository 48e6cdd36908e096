"""`sequencer send`: one transaction, from the command line."""

from pathlib import Path

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.options import (
    EXISTING_FILE,
    client_errors,
    json_option,
    print_json,
    url_option,
)


@click.command(
    epilog="Example: sequencer send --namespace 901 --text 'hello' --wait",
)
@click.option("--namespace", type=int, required=True, help="The rollup's chain id.")
@click.option("--text", help="The transaction is this text, in UTF-8.")
@click.option("--hex", "hexadecimal", help="The transaction is these bytes, in hex.")
@click.option("--file", "path", type=EXISTING_FILE, help="The transaction is this file's content.")
@click.option("--raw", help="A signed Ethereum transaction in hex, as cast or ethers makes it.")
@click.option("--wait", is_flag=True, help="Wait until it is ordered.")
@click.option("--timeout", default=30.0, show_default=True, help="How long to wait, in seconds.")
@url_option
@json_option
def send(
    namespace: int,
    text: str | None,
    hexadecimal: str | None,
    path: Path | None,
    raw: str | None,
    wait: bool,
    timeout: float,
    urls: tuple[str, ...],
    as_json: bool,
) -> None:
    """Hand in one transaction; prints its hash.

    Give its bytes by exactly one of --text, --hex, --file and --raw.  Exit code 1 if it is refused,
    or with --wait not ordered in time.
    """
    from sequencer.client import SyncSequencerClient

    if not 0 <= namespace < 1 << 64:
        raise CommandError("a namespace is a number of 64 bits")
    body = _body(text, hexadecimal, path, raw)
    with client_errors(), SyncSequencerClient(urls) as client:
        if raw is not None:
            tx_hash = client.send_raw_transaction(namespace, body, timeout)
        else:
            tx_hash = client.submit(namespace, [body], timeout)[0]
        answer = {"hash": "0x" + tx_hash.hex()}
        if wait:
            try:
                answer |= client.wait(tx_hash, timeout)
            except TimeoutError as late:
                raise NegativeResult(
                    f"{late}; it may still be, ask again for its receipt"
                ) from None
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["hash"])
        if wait:
            click.echo(f"ordered at height {answer['height']}, position {answer['position']}")


def _body(text: str | None, hexadecimal: str | None, path: Path | None, raw: str | None) -> bytes:
    given = [value for value in (text, hexadecimal, path, raw) if value is not None]
    if len(given) != 1:
        raise CommandError("give the transaction by exactly one of --text, --hex, --file, --raw")
    if text is not None:
        return text.encode()
    if path is not None:
        return path.read_bytes()
    try:
        return bytes.fromhex((hexadecimal or raw or "").removeprefix("0x"))
    except ValueError:
        raise CommandError("--hex and --raw want hex digits, with or without 0x") from None
