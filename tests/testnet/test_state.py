"""What a directory says about its testnet, and talking to the one that runs there."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from testnet.cli import commands
from testnet.control import ControlServer, ask
from testnet.errors import TestnetError
from testnet.state import LAYOUT_FILE, RUNNING_FILE, Layout, Running, process_started, sole_use

LAYOUT = Layout(
    seed=3,
    chain_id="ab" * 32,
    nodes=[{"name": "node-0", "rpc_port": 20_001, "peer_port": 20_002}],
    l1=None,
)


def me(**changes) -> Running:
    pid = os.getpid()
    fields = {"pid": pid, "started": process_started(pid), "control_port": 1, "control_token": "t"}
    return Running(**(fields | changes))


def test_a_layout_survives_its_file(tmp_path):
    LAYOUT.save(tmp_path)
    assert Layout.load(tmp_path) == LAYOUT
    (spec,) = LAYOUT.specs(tmp_path)
    assert spec.rpc_url == "http://127.0.0.1:20001"
    assert spec.directory == tmp_path / "node-0"


def test_a_node_that_has_left_stays_in_the_layout(tmp_path):
    entry = {"name": "node-1", "rpc_port": 20_003, "peer_port": 20_004, "front_port": 20_005}
    replace(LAYOUT, nodes=[*LAYOUT.nodes, entry | {"left": True}]).save(tmp_path)
    layout = Layout.require(tmp_path)
    assert layout.left == {"node-1"}
    assert [spec.peer_port for spec in layout.specs(tmp_path)] == [20_002, 20_004]


def test_an_empty_directory_holds_no_testnet(tmp_path):
    assert Layout.load(tmp_path) is None
    assert Running.load(tmp_path) is None
    with pytest.raises(TestnetError, match="no testnet runs in"):
        Running.require(tmp_path)
    with pytest.raises(TestnetError, match="holds no testnet"):
        Layout.require(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / LAYOUT_FILE).write_text(text)
    (tmp_path / RUNNING_FILE).write_text(text)
    for kind in (Layout, Running):
        with pytest.raises(TestnetError, match=r"(layout|running)\.json .*delete it"):
            kind.load(tmp_path)


def test_a_running_supervisor_is_alive(tmp_path):
    me().save(tmp_path)
    assert Running.require(tmp_path).is_alive


def test_the_control_token_is_readable_by_its_owner_alone(tmp_path):
    me().save(tmp_path)
    assert (tmp_path / RUNNING_FILE).stat().st_mode & 0o077 == 0


def test_a_process_that_ended_is_stale(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me(pid=process.pid, started=process_started(process.pid)).save(tmp_path)
    assert Running.require(tmp_path).is_alive
    process.communicate(b"\n")
    with pytest.raises(TestnetError, match="is gone: process"):
        Running.require(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_another_process_with_the_same_id_is_not_taken_for_it():
    assert not me(started="1").is_alive


async def test_a_verb_gets_its_answer_and_its_error():
    async def handler(verb, arguments, tell):
        if verb == "fail":
            raise TestnetError("it cannot be done")
        tell("half way")
        return {"verb": verb, **arguments}

    server = ControlServer(handler)
    running = me(control_port=await server.start(), control_token=server.token)
    try:
        told: list[str] = []
        assert await ask(running, "kill", told.append, node="2") == {"verb": "kill", "node": "2"}
        assert told == ["half way"]
        with pytest.raises(TestnetError, match="it cannot be done"):
            await ask(running, "fail")
    finally:
        server.close()


async def test_who_does_not_know_the_token_is_refused():
    called = []

    async def handler(verb, arguments, tell):
        called.append(verb)

    server = ControlServer(handler)
    port = await server.start()
    try:
        with pytest.raises(TestnetError, match="wrong token"):
            await ask(me(control_port=port, control_token="guess"), "kill")
    finally:
        server.close()
    assert not called


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"verb": 1}\n'])
async def test_garbage_is_answered_with_an_error(line):
    async def handler(verb, arguments, tell):
        raise AssertionError

    server = ControlServer(handler)
    port = await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line)
        assert json.loads(await reader.readline()) == {"error": "malformed request"}
        writer.close()
    finally:
        server.close()


async def test_a_testnet_that_does_not_listen_is_an_error():
    with pytest.raises(TestnetError, match="does not answer"):
        await ask(me(), "status")


def test_two_do_not_start_a_testnet_in_one_directory(tmp_path):
    place = tmp_path / "place"
    with sole_use(place):
        for arguments in (["up", "--detach"], ["up", "--fresh"], ["run"]):
            result = CliRunner().invoke(commands, [*arguments, "--dir", str(place)])
            assert f"a testnet is being started or stopped in {place}" in str(result.exception)
        assert list(place.iterdir()) == []
    with sole_use(place):
        pass


def test_the_hint_names_the_directory(tmp_path):
    with pytest.raises(TestnetError, match=f"testnet up --dir {tmp_path}"):
        Running.require(tmp_path)


def test_what_cannot_be_read_is_not_to_be_deleted(tmp_path):
    (tmp_path / LAYOUT_FILE).mkdir()
    with pytest.raises(TestnetError, match=r"cannot be read: Is a directory$"):
        Layout.load(tmp_path)
