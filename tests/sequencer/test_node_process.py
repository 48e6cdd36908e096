"""A real node process: what its logs never say, and what a second one with its keys does."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from consensus.rules import Rules
from sequencer.cli import COMMANDS, main
from sequencer.client import SyncSequencerClient
from sequencer.genesis import Genesis, GenesisMember
from sequencer.guard import Protection
from sequencer.keys import NodeKeys, create_keys, load_keys, public_keys
from tests.sequencer.commands import cheap_keys, good  # noqa: F401

PASSWORD = "a password that stands in no log"
READY_WITHIN_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def member(place: Path) -> tuple[Path, str]:
    """The directory of the only member of a network, and where it will serve clients."""
    home, ports = place / "node", [free_port(), free_port()]
    create_keys(home, PASSWORD, light=True)
    public = public_keys(load_keys(home, PASSWORD))
    founder = GenesisMember(
        "one",
        bytes.fromhex(public.identity),
        bytes.fromhex(public.bls_key),
        bytes.fromhex(public.possession),
        f"/ip4/127.0.0.1/tcp/{ports[0]}",
    )
    (place / "genesis.json").write_text(Genesis.create("one", [founder], Rules()).dump())
    listen, rpc = (f"127.0.0.1:{port}" for port in ports)
    where = ("--listen", listen, "--rpc", rpc)
    good("init", "--genesis", place / "genesis.json", "--dir", home, *where)
    settings = home / "node.toml"
    settings.write_text(settings.read_text().replace('level = "info"', 'level = "debug"'))
    return home, f"http://{rpc}"


def start(home: Path) -> "subprocess.Popen[str]":
    with (home / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sequencer.cli", "start", "--dir", str(home)],
            env=os.environ | {"SEQUENCER_PASSWORD": PASSWORD},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


@contextmanager
def running(home: Path, url: str) -> Iterator[SyncSequencerClient]:
    """A node that serves clients, and is stopped in the end."""
    process = start(home)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("ready "), (home / "log").read_text()
        with SyncSequencerClient([url]) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_WITHIN_S) == 0
        process.stdout.close()


def secrets_of(keys: NodeKeys) -> list[str]:
    raw = (keys.bls_secret, keys.identity_seed, keys.l1_key)
    return [PASSWORD, *(secret.hex() for secret in raw), *(repr(secret) for secret in raw)]


def test_a_second_process_with_the_same_keys_stops_and_no_log_has_a_secret(
    tmp_path: Path,
) -> None:
    home, url = member(tmp_path)
    keys = load_keys(home, PASSWORD)
    with running(home, url) as client:
        [tx] = client.submit(5, [b"hello"])
        client.wait(tx, READY_WITHIN_S)
        copy = tmp_path / "copy"
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("data", "signed-for"))
        settings = copy / "node.toml"
        text = settings.read_text().replace(url.removeprefix("http://"), "127.0.0.1:0")
        listen = next(line for line in text.splitlines() if line.startswith("listen"))
        settings.write_text(text.replace(listen, 'listen = "127.0.0.1:0"', 1))
        with start(copy) as second:
            assert second.wait(READY_WITHIN_S) == 1
        said = (copy / "log").read_text()
        assert "another process runs with these keys at 127.0.0.1:" in said
        assert client.call("seq_status")["ready"]
    logs = said + (home / "log").read_text()
    assert "another process with my keys dialled from" in logs
    for secret in secrets_of(keys):
        assert secret not in logs


def test_a_member_that_moved_signs_nothing_that_it_may_have_signed(tmp_path: Path) -> None:
    """With the watermark of a later epoch it follows and orders nothing; without, it goes on."""
    home, url = member(tmp_path)
    with running(home, url) as client:
        client.wait(client.submit(5, [b"one"])[0], READY_WITHIN_S)
    good("keys", "guard", "export", tmp_path / "moved.json", "--dir", home)
    marks = Protection.load(tmp_path / "moved.json").marks
    assert min(marks.voted, marks.proposed, marks.commit_vote) >= 1
    shutil.rmtree(home / "data")
    good("keys", "guard", "import", tmp_path / "moved.json", "--dir", home)
    with running(home, url) as client:
        client.submit(5, [b"two"])
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            assert client.call("seq_status")["height"] == 0
            time.sleep(0.2)


def every_option() -> Iterator[tuple[str, str]]:
    with click.Context(main) as context:
        stack = [(name, main.get_command(context, name)) for name in COMMANDS]
        while stack:
            name, command = stack.pop()
            if isinstance(command, click.Group):
                stack += [(f"{name} {inner}", each) for inner, each in command.commands.items()]
            for parameter in command.params if command is not None else ():
                yield from ((name, option) for option in parameter.opts)


def test_no_command_takes_a_password_or_a_key_as_an_argument() -> None:
    """The command line is public: `ps` and the shell's history show it."""
    files = ("--password-file", "--from-password-file", "--bls", "--identity", "--l1")
    suspicious = {
        option
        for _, option in every_option()
        if any(word in option for word in ("password", "secret", "private", "key"))
    }
    assert suspicious <= set(files), suspicious
    with pytest.raises(AssertionError):
        good("keys", "new", "--password", PASSWORD)
