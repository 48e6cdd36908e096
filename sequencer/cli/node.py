"""Commands of an operator: `init` and `start`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.offline import describe_damage
from sequencer.cli.options import (
    directory_option,
    parse_hash,
    password_option,
    read_password,
)
from sequencer.cli.snapshot import begin_from_l1, begin_from_snapshot, max_age_option

if TYPE_CHECKING:
    from sequencer.genesis import Genesis

MAX_GENESIS_BYTES = 16 * 1024 * 1024
FETCH_TIMEOUT_S = 20.0


@click.command(
    epilog="Example: sequencer init --genesis https://example.org/genesis.json --dir node0 "
    "--chain-id 1592f172.. --listen 0.0.0.0:9000 --l1 https://l1.example.org "
    "--peer /dns4/bob.example/tcp/9000/p2p/12D3KooW..",
)
@click.option("--genesis", "source", required=True, help="The network's genesis: a file or a URL.")
@directory_option
@click.option("--listen", help="Where to listen for the other members, host:port.")
@click.option("--rpc", help="Where to serve clients, host:port.")
@click.option("--l1", help="The JSON-RPC of an L1 node, http(s)://..")
@click.option("--name", help="What this node calls itself in logs and status.")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="MULTIADDR",
    help="A node to connect to beside the members of the genesis, with its peer id; repeat it.",
)
@click.option("--chain-id", "pinned", help="The chain id that the genesis must have, in hex.")
@click.option("--snapshot", metavar="FILE|URL", help="Begin with this snapshot of the log.")
@max_age_option
@click.option("--from-l1", is_flag=True, help="Begin with the log that --l1 holds.")
@click.option("--beacon", help="With --from-l1: where blobs are kept; by default the L1's URL.")
@click.option("--node", metavar="URL", help="With --from-l1: any running node, to ask for headers.")
def init(
    source: str,
    directory: Path,
    listen: str | None,
    rpc: str | None,
    l1: str | None,
    name: str | None,
    peers: tuple[str, ...],
    pinned: str | None,
    snapshot: str | None,
    max_age_days: float,
    from_l1: bool,
    beacon: str | None,
    node: str | None,
) -> None:
    """Prepare a directory for a node: the network's genesis and a node.toml with defaults.

    Without --snapshot or --from-l1 the node fetches the whole log from the others.  Neither is
    trusted: everything is checked against the genesis, and committees against --l1.  The chain id
    covers committee and rules: learn it by another way than the file, and compare it or give it as
    --chain-id.  What is there already is not overwritten.
    """
    from sequencer.config import ConfigError, write_default
    from sequencer.genesis import Genesis

    data = fetch(source)
    try:
        genesis = Genesis.parse(data)
    except ConfigError as error:
        raise CommandError(f"{source} is no genesis: {error}") from None
    _check_pinned(genesis, source, pinned)
    for file in ("genesis.json", "node.toml"):
        if (directory / file).exists():
            raise CommandError(f"{directory / file} exists; choose another --dir, or remove it")
    if from_l1 and (snapshot is not None or l1 is None or node is None):
        raise CommandError("--from-l1 needs --l1 and --node, and no --snapshot")
    directory.mkdir(parents=True, exist_ok=True)
    began = None
    if snapshot is not None:
        began = begin_from_snapshot(directory, genesis, snapshot, max_age_days, l1)
    elif from_l1 and l1 is not None and node is not None:
        began = begin_from_l1(directory, genesis, l1, beacon, node)
    try:
        write_default(directory, name=name, listen=listen, rpc=rpc, l1_url=l1, peers=peers)
    except ConfigError as error:
        raise CommandError(str(error)) from None
    (directory / "genesis.json").write_bytes(data)
    click.echo(f"prepared {directory} for chain {genesis.chain_id.hex()}")
    if began is not None:
        click.echo(f"its log goes on from height {began.head.height}")
    if pinned is None and source.startswith("http"):
        click.echo("compare this chain id with what the other operators say; a URL proves nothing")
    if not (directory / "keys").exists():
        click.echo(f"next: sequencer keys new --dir {directory}")
    click.echo(f"then: sequencer doctor --dir {directory} && sequencer start --dir {directory}")


def _check_pinned(genesis: "Genesis", source: str, pinned: str | None) -> None:
    if pinned is not None and genesis.chain_id != parse_hash(pinned):
        raise CommandError(
            f"{source} is the genesis of chain {genesis.chain_id.hex()}, not of {pinned}; do not "
            "use it, and ask another operator for the right one"
        )


def fetch(source: str) -> bytes:
    """The content of a file or of an http(s) URL, bounded."""
    if source.startswith(("http://", "https://")):
        return _download(source)
    try:
        with Path(source).open("rb") as file:
            data = file.read(MAX_GENESIS_BYTES + 1)
    except OSError as error:
        raise CommandError(f"cannot read {source}: {error.strerror}") from None
    return _bounded(source, data)


def _download(url: str) -> bytes:
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_GENESIS_BYTES + 1)
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot fetch {url}: {error}") from None
    return _bounded(url, data)


def _bounded(source: str, data: bytes) -> bytes:
    if len(data) > MAX_GENESIS_BYTES:
        raise CommandError(f"{source} is larger than any genesis ({MAX_GENESIS_BYTES} bytes)")
    return data


@click.command(
    epilog="Example: sequencer start --dir node0 --password-file node0.password",
)
@directory_option
@password_option
@click.option(
    "--after-data-loss",
    is_flag=True,
    help="Start although the record of what these keys signed is lost (docs/operators.md).",
)
@click.pass_context
def start(
    context: click.Context, directory: Path, password_file: Path | None, after_data_loss: bool
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Prints one line `ready rpc=.. peer=..` when it serves clients; logs go to stderr.  Exit code 0
    after a clean stop, 1 if it had to stop (the log says why), 2 for a configuration error.
    """
    if not (directory / "node.toml").exists():
        raise CommandError(f"{directory} holds no node; prepare it: sequencer init --dir ..")
    password = read_password(password_file)

    from sequencer.config import ConfigError
    from sequencer.runtime import run_node
    from sequencer.store.seam import StoreError, StoreFull

    try:
        context.exit(run_node(directory, password, after_data_loss))
    except StoreFull as error:
        raise NegativeResult(str(error)) from None
    except (ConfigError, StoreError) as error:
        raise CommandError(str(error)) from None
    except Exception as error:
        sentence = describe_damage(directory / "data", error)
        if sentence is None:
            raise
        raise CommandError(sentence) from None
