"""`testnet up`, `status` and `down`: a testnet that stays."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sequencer.settlement.blobs import CALLDATA
from testnet import interrupts
from testnet.cli import options
from testnet.errors import TestnetError

DETACH_TIMEOUT_S = 180.0
POLL_S = 0.1
_DEFAULT = click.core.ParameterSource.DEFAULT


@click.command("up")
@options.nodes
@options.directory
@options.l1
@options.l1_key
@options.data
@options.hardfork
@options.seed
@click.option("--detach", is_flag=True, help="Return when it is up; end it with: testnet down")
@click.option("--links", is_flag=True, help="Link the nodes so that links can be cut and slowed.")
@click.option("--fresh", is_flag=True, help="Delete the testnet that is there first.")
@click.option("--supervised", is_flag=True, hidden=True)
@click.pass_context
def up_command(
    context: click.Context,
    nodes: str,
    directory: Path,
    l1: str,
    l1_key: bytes | None,
    data: str,
    hardfork: str,
    seed: int,
    detach: bool,
    links: bool,
    fresh: bool,
    supervised: bool,
) -> None:
    """Start a cluster and keep it: a live table and the URLs; Ctrl-C stops it cleanly.

    A testnet that is in the directory already goes on where it stopped.

    \b
    Example:  testnet up --nodes 4 --detach && testnet load --rate 500 && testnet down
    """
    from testnet.launch import Plan
    from testnet.state import Layout, Running, naming, sole_use
    from testnet.supervisor import supervise

    running = Running.load(directory)
    if running is not None and running.is_alive:
        end = f"testnet down{naming(directory)}"
        raise TestnetError(f"a testnet runs in {directory} already; end it with: {end}")
    if not fresh and not supervised:
        _refuse_another(context, directory)
    if fresh or Layout.load(directory) is None:
        options.check_l1(l1, l1_key, data)
    if detach:
        options_given = ["--nodes", nodes, "--dir", str(directory), "--l1", l1, "--seed", str(seed)]
        options_given += ["--data", data, "--hardfork", hardfork]
        flags = [name for name, given in (("--links", links), ("--fresh", fresh)) if given]
        with sole_use(directory) as lock:
            _detach(directory, [*options_given, *flags], l1_key, lock)
        return
    plan = Plan(directory, int(nodes), l1, seed, l1_key, links, data=data, hardfork=hardfork)
    # who is supervised has inherited the lock of who started it
    with nullcontext() if supervised else sole_use(directory):
        asyncio.run(supervise(plan, fresh, Console(), with_table=not supervised))


def _refuse_another(context: click.Context, directory: Path) -> None:
    """A testnet that is there goes on as it was made: say so where that is not what was asked."""
    from testnet.state import Layout

    layout = Layout.load(directory)
    if layout is None:
        return
    l1 = layout.l1 or {"kind": "none"}
    made: dict[str, tuple[Any, ...]] = {
        "nodes": (str(len(layout.nodes)),),
        "l1": ("auto", l1["kind"], l1.get("url")),
        "seed": (layout.seed,),
        "links": (layout.links is not None,),
        "data": (l1.get("data", CALLDATA),),
    }
    given = [name for name in made if context.get_parameter_source(name) is not _DEFAULT]
    for name in given:
        if context.params[name] not in made[name]:
            raise TestnetError(
                f"the testnet in {directory} was made with another --{name}; leave it out to go on "
                "with that testnet, or start anew with --fresh"
            )


def _detach(directory: Path, arguments: list[str], l1_key: bytes | None, lock: int) -> None:
    """Run `up` in a session of its own, and wait until it is up; if we are ended, so is that."""
    from testnet.control import END_TIMEOUT_S
    from testnet.state import LOG_FILE, Running, naming

    log = directory / LOG_FILE
    command = [sys.executable, "-c", "from testnet.cli import main; main()", "up", "--supervised"]
    secret = {"TESTNET_L1_KEY": l1_key.hex()} if l1_key else {}  # other users see command lines
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | secret,
            pass_fds=(lock,),
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    try:
        while not ((running := Running.load(directory)) and running.pid == child.pid):
            if child.poll() is not None or time.monotonic() > deadline:
                raise TestnetError(f"it did not come up; {_last_words(log)}")
            time.sleep(POLL_S)
    except BaseException:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_TIMEOUT_S)
        child.kill()
        raise
    print(log.read_text().rstrip())
    named = naming(directory)
    print(
        f"runs on as process {child.pid}; look with: testnet status{named}, "
        f"end with: testnet down{named}"
    )


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-10:]
    if not lines:
        return f"its log {log} is empty; is there room on that disk?"
    return "\n".join([f"its log {log} ends:", *lines])


@click.command("status")
@options.directory
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def status_command(directory: Path, as_json: bool) -> None:
    """Show the table of the testnet that runs in a directory.

    \b
    Example:  testnet status --json
    """
    from testnet.state import Layout, Running
    from testnet.supervisor import snapshot
    from testnet.table import render

    running, layout = Running.require(directory), Layout.require(directory)
    rows, wrong = interrupts.run(snapshot(running, layout, directory))
    if as_json:
        found = {
            "chain_id": layout.chain_id,
            "l1": layout.l1,
            "l1_faults": wrong["l1"],
            "links": wrong["links"],
            "nodes": rows,
        }
        print(json.dumps(found, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(
        render(rows, [*wrong["links"], *wrong["l1"], *layout.describe(directory)]), highlight=False
    )


@click.command("down")
@options.directory
def down_command(directory: Path) -> None:
    """Stop the testnet that runs in a directory; does nothing if none does.

    \b
    Example:  testnet down
    """
    from testnet.control import end

    print(end(directory))
