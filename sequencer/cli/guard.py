"""`sequencer keys guard`: take along what these keys have signed when a member moves."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequencer.cli.errors import CommandError
from sequencer.cli.options import (
    EXISTING_FILE,
    FILE,
    directory_option,
    json_option,
    load_genesis,
    print_json,
)

if TYPE_CHECKING:
    from consensus.safety import Watermarks
    from sequencer.guard import Protection


@click.group(
    epilog="Example: sequencer keys guard export moved.json --dir old && "
    "sequencer keys guard import moved.json --dir new",
)
def guard() -> None:
    """Protection against signing twice, for a member that moves to another machine.

    Stop the node for good, `export` there, copy `keys` and the file, `import` here, start.
    """


@guard.command(epilog="Example: sequencer keys guard export moved.json --dir node0")
@click.argument("file", type=FILE)
@directory_option
@json_option
def export(file: Path, directory: Path, as_json: bool) -> None:
    """Write what these keys have signed to FILE; the node has to be stopped, for good."""
    from sequencer.config import ConfigError
    from sequencer.store.seam import StoreError

    if file.exists():
        raise CommandError(f"{file} exists; remove it, or choose another name")
    genesis = load_genesis(directory / "genesis.json")
    try:
        protection = _export(directory, genesis.chain_id)
    except (ConfigError, StoreError) as error:
        raise CommandError(str(error)) from None
    file.write_text(protection.dump())
    if as_json:
        click.echo(protection.dump(), nl=False)
        return
    click.echo(f"wrote {file}: these keys have signed {_describe(protection.marks)}")
    click.echo(f"never start {directory} again: what it signs from now on, the file does not know")


def _export(directory: Path, chain_id: bytes) -> "Protection":
    from sequencer.guard import export_protection
    from sequencer.keys import show_keys
    from sequencer.store.lmdb import LmdbStore

    identity = bytes.fromhex(show_keys(directory)["identity"])
    if not (directory / "data").is_dir():
        return export_protection(directory, chain_id, identity, None)
    store = LmdbStore(directory / "data", chain_id)  # locked: nobody signs meanwhile
    try:
        return export_protection(directory, chain_id, identity, store)
    finally:
        store.close()


@guard.command("import", epilog="Example: sequencer keys guard import moved.json --dir node0")
@click.argument("file", type=EXISTING_FILE)
@directory_option
@json_option
def import_(file: Path, directory: Path, as_json: bool) -> None:
    """Never sign again what FILE covers; what was imported before is not lowered.

    Takes effect when the node is started the next time, on empty data too.
    """
    from dataclasses import asdict

    from sequencer.config import ConfigError
    from sequencer.guard import Protection, import_protection
    from sequencer.keys import show_keys

    genesis = load_genesis(directory / "genesis.json")
    try:
        given = Protection.load(file)
        if given.chain_id != genesis.chain_id:
            raise CommandError(
                f"{file} is of chain {given.chain_id.hex()}, {directory} is of chain "
                f"{genesis.chain_id.hex()}: it protects nothing here"
            )
        identity = bytes.fromhex(show_keys(directory)["identity"])
        marks = import_protection(directory, given, identity)
    except ConfigError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(asdict(marks))
        return
    click.echo(f"these keys sign nothing {_describe(marks)}, or before")
    click.echo(f"next: sequencer start --dir {directory}")


def _describe(marks: "Watermarks") -> str:
    return f"up to round {marks.highest} of epoch {marks.epoch}"
