"""`sequencer keys`: a node's secrets, encrypted at rest."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequencer.cli.errors import CommandError
from sequencer.cli.guard import guard
from sequencer.cli.options import (
    EXISTING_FILE,
    directory_option,
    json_option,
    password_option,
    print_fields,
    print_json,
    read_password,
)

if TYPE_CHECKING:
    from sequencer.keys import NodeKeys


@click.group()
def keys() -> None:
    """A node's three keys: BLS (votes), identity (network), L1 account (posting).

    They lie in DIR/keys, encrypted (EIP-2335, Web3 secret storage); public.json beside them holds
    what others may know.
    """


keys.add_command(guard)


@keys.command(
    epilog="Example: sequencer keys new --dir node0 --password-file node0.password",
)
@directory_option
@password_option
@json_option
def new(directory: Path, password_file: Path | None, as_json: bool) -> None:
    """Create three fresh keys; existing ones are never overwritten."""
    from sequencer.keys import new_keys

    _write(directory, read_password(password_file, confirm=True), new_keys(), as_json)


@keys.command(
    "import",
    epilog="Example: sequencer keys import --dir node0 --bls validator.json --l1 account.json",
)
@directory_option
@click.option("--bls", type=EXISTING_FILE, help="The BLS key: an EIP-2335 keystore, or hex.")
@click.option("--identity", type=EXISTING_FILE, help="The Ed25519 seed: a keystore, or hex.")
@click.option("--l1", type=EXISTING_FILE, help="The L1 account: a Web3 keystore, or hex.")
@click.option(
    "--from-password-file",
    type=EXISTING_FILE,
    help="A file with the password of the given keystores, if it is another one.",
)
@password_option
@json_option
def import_(
    directory: Path,
    bls: Path | None,
    identity: Path | None,
    l1: Path | None,
    from_password_file: Path | None,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Bring existing keys; those that are not given are created.

    A file holds a keystore or 64 hex digits.  What is written is encrypted anew with the node's
    password.
    """
    from sequencer.keys import NodeKeys, new_keys

    if bls is None and identity is None and l1 is None:
        raise CommandError("nothing to import: give --bls, --identity or --l1")
    password = read_password(password_file, confirm=True)
    theirs = password if from_password_file is None else read_password(from_password_file)
    fresh = new_keys()
    secrets = NodeKeys(
        _read_secret(bls, theirs) if bls else fresh.bls_secret,
        _read_secret(identity, theirs) if identity else fresh.identity_seed,
        _read_secret(l1, theirs) if l1 else fresh.l1_key,
    )
    _write(directory, password, secrets, as_json)


@keys.command(
    epilog="Example: sequencer keys show --dir node0 --json",
)
@directory_option
@json_option
def show(directory: Path, as_json: bool) -> None:
    """Show the public parts of a node's keys; needs no password."""
    from sequencer.config import ConfigError
    from sequencer.keys import show_keys

    try:
        public = show_keys(directory)
    except ConfigError as error:
        raise CommandError(f"{error}; make keys: sequencer keys new --dir {directory}") from None
    if as_json:
        print_json(public)
    else:
        print_fields(public)


def _read_secret(path: Path, password: str) -> bytes:
    from sequencer.config import ConfigError, read_bounded
    from sequencer.keys import read_keystore

    try:
        text = read_bounded(path).strip().removeprefix(b"0x")
        if len(text) == 64:
            return bytes.fromhex(text.decode())
        return read_keystore(path, password)
    except ConfigError as error:
        raise CommandError(str(error)) from None
    except ValueError:
        raise CommandError(f"{path} holds neither a keystore nor 64 hex digits") from None


def _write(directory: Path, password: str, secrets: "NodeKeys", as_json: bool) -> None:
    from sequencer.config import ConfigError
    from sequencer.keys import create_keys

    try:
        public = asdict(create_keys(directory, password, keys=secrets))
    except ConfigError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(public)
        return
    print_fields(public)
    click.echo(f"keys are in {directory / 'keys'}; back them up, and keep the password apart")
