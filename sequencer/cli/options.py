"""Options and small habits that commands share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from sequencer.cli.errors import CommandError, NegativeResult

if TYPE_CHECKING:
    from sequencer.genesis import Genesis

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL: Final = "http://127.0.0.1:8545"
ENV_PASSWORD: Final = "SEQUENCER_PASSWORD"
ENV_URL: Final = "SEQUENCER_URL"
MAX_PASSWORD_BYTES: Final = 1_024

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _check_urls(
    _ctx: click.Context, _param: click.Parameter, urls: tuple[str, ...]
) -> tuple[str, ...]:
    from urllib.parse import urlsplit

    for url in urls:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets, or a port that is no number
            good = False
        if not good:
            raise click.BadParameter(f"{url!r} is no URL like {DEFAULT_URL}")
    return urls


def url_option(command: F) -> F:
    """`--url`: the nodes to ask, tried in turn."""
    return click.option(
        "--url",
        "urls",
        multiple=True,
        envvar=ENV_URL,
        default=(DEFAULT_URL,),
        callback=_check_urls,
        show_default=True,
        metavar="URL",
        help="A node to ask; repeat it to name others to go to when the first does not answer.",
    )(command)


def json_option(command: F) -> F:
    """`--json`: the answer for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")(
        command
    )


def directory_option(command: F) -> F:
    """`--dir`: the node's directory."""
    return click.option(
        "--dir",
        "directory",
        type=DIRECTORY,
        default=Path("."),
        show_default=True,
        help="The node's directory.",
    )(command)


def password_option(command: F) -> F:
    """`--password-file`: where the password of the keys stands."""
    return click.option(
        "--password-file",
        type=FILE,
        help=f"A file with the password of the keys; else {ENV_PASSWORD}, else a prompt.",
    )(command)


def read_password(password_file: Path | None, confirm: bool = False) -> str:
    """The password: of the file, of the environment, or typed by somebody at a terminal."""
    import os

    if password_file is not None:
        return _not_empty(_password_in(password_file), str(password_file))
    if ENV_PASSWORD in os.environ:
        return _not_empty(os.environ[ENV_PASSWORD], ENV_PASSWORD)
    if not sys.stdin.isatty():
        raise CommandError(f"no password: use --password-file, or set {ENV_PASSWORD}")
    typed: str = click.prompt("Password of the keys", hide_input=True, confirmation_prompt=confirm)
    return typed


def _password_in(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PASSWORD_BYTES + 1)
        if len(data) > MAX_PASSWORD_BYTES:
            raise CommandError(f"{path} has more than {MAX_PASSWORD_BYTES} bytes: no password")
        return data.decode().rstrip("\r\n")
    except OSError as error:
        raise CommandError(f"cannot read the password from {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"the password in {path} is not UTF-8") from None


def _not_empty(password: str, where: str) -> str:
    if not password:
        raise CommandError(f"the password in {where} is empty")
    return password


def print_json(value: Any) -> None:
    """A value as indented JSON on stdout."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def print_fields(value: dict[str, Any], indent: int = 0) -> None:
    """A dictionary for a reader: a line per field, nested ones below."""
    width = max((len(str(key)) for key in value), default=0)
    for key, item in value.items():
        pad = " " * indent
        if isinstance(item, dict) and item:
            click.echo(f"{pad}{key}")
            print_fields(item, indent + 2)
        elif isinstance(item, list) and item and all(isinstance(row, dict) for row in item):
            click.echo(f"{pad}{key}")
            for row in item:
                line = "  ".join(f"{name}={_plain(part)}" for name, part in row.items())
                click.echo(f"{pad}  {line}")
        else:
            click.echo(f"{pad}{key:<{width}}  {_plain(item)}")


def _plain(item: Any) -> str:
    if item is None or item in ([], {}, ""):
        return "-"
    if isinstance(item, list):
        return ", ".join(map(str, item))
    return str(item).lower() if isinstance(item, bool) else str(item)


def parse_hash(text: str) -> bytes:
    """An id or hash, 32 bytes in hex with or without 0x."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 32:
        raise CommandError(f"{text!r} is no hash: 64 hex digits, with or without 0x")
    return value


def load_genesis(path: Path) -> "Genesis":
    """The genesis of a file, or one line about what is wrong with it."""
    from sequencer.config import ConfigError
    from sequencer.genesis import Genesis

    try:
        return Genesis.load(path)
    except ConfigError as error:
        raise CommandError(str(error)) from None


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn what goes wrong between a client and its nodes into one line."""
    from sequencer.client import ClientError, Refused, Unreachable

    try:
        yield
    except Unreachable as error:
        raise CommandError(f"{error}; is the node running? name another one by --url") from None
    except Refused as refused:
        raise NegativeResult(f"refused: {refused} (code {refused.code})") from None
    except (ClientError, TimeoutError) as error:
        raise NegativeResult(str(error)) from None


def fail(sentence: str) -> NoReturn:
    """End with a negative result."""
    raise NegativeResult(sentence)
