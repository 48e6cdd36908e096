"""Node processes: started, watched, hurt, ended; never orphaned.  A small script plays the node."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testnet.cluster import Cluster, NodeProcess, NodeSpec, free_ports
from testnet.errors import TestnetError

WELL_BEHAVED = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
while True: time.sleep(0.01)
"""
DEAF = WELL_BEHAVED.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
SULKING = WELL_BEHAVED.replace("sys.exit(0)", "sys.exit('I do not like it')")
BROKEN = "import sys; sys.exit('the port 1 is taken')"


def node(directory: Path, script: str, name: str = "node-0") -> NodeProcess:
    spec = NodeSpec(name, directory / name, rpc_port=1, peer_port=2)
    return NodeProcess(spec, lambda _: [sys.executable, "-c", script])


@pytest.fixture
def processes() -> Iterator[list[NodeProcess]]:
    """Processes that are killed when the test ends, however it ends."""
    made: list[NodeProcess] = []
    yield made
    for process in made:
        process.kill()


async def until(condition, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - processes have no event
            await asyncio.sleep(0.01)


async def started(processes: list[NodeProcess], process: NodeProcess) -> NodeProcess:
    processes.append(process)
    process.start()
    await until(lambda: process.last_words() == "ready")
    return process


async def test_a_node_stops_on_sigterm_with_exit_code_0(tmp_path, processes):
    process = await started(processes, node(tmp_path, WELL_BEHAVED))
    await process.stop()
    assert not process.is_running
    process.check()


async def test_a_node_that_ignores_sigterm_is_killed_and_named(tmp_path, processes):
    process = await started(processes, node(tmp_path, DEAF))
    with pytest.raises(TestnetError, match=r"node-0 did not stop within 0\.2 s"):
        await process.stop(timeout_s=0.2)
    assert not process.is_running


async def test_a_node_that_stops_with_another_exit_code_is_a_failure(tmp_path, processes):
    process = await started(processes, node(tmp_path, SULKING))
    with pytest.raises(TestnetError, match="exit code 1: I do not like it"):
        await process.stop()


async def test_a_node_that_ends_by_itself_is_reported_with_its_last_words(tmp_path, processes):
    process = node(tmp_path, BROKEN)
    processes.append(process)
    process.start()
    await until(lambda: not process.is_running)
    with pytest.raises(TestnetError, match="exit code 1: the port 1 is taken"):
        process.check()


async def test_a_killed_node_is_no_failure_and_starts_again(tmp_path, processes):
    process = await started(processes, node(tmp_path, WELL_BEHAVED))
    process.kill()
    assert not process.is_running
    process.check()
    process.start()
    assert process.is_running


async def test_a_paused_node_does_nothing_until_it_is_resumed_and_still_stops(tmp_path, processes):
    process = await started(processes, node(tmp_path, WELL_BEHAVED))
    process.pause()
    stat = Path(f"/proc/{process.pid}/stat")
    await until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T")
    process.resume()
    process.pause()
    await process.stop()
    assert not process.is_running


async def test_leaving_a_cluster_by_an_error_leaves_no_process(tmp_path):
    members = [node(tmp_path, DEAF, f"node-{index}") for index in range(3)]

    async def fail() -> None:
        async with Cluster(members) as cluster:
            cluster.start()
            assert all(member.is_running for member in members)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not any(member.is_running for member in members)


async def test_stopping_a_cluster_names_every_node_that_did_not_end_well(tmp_path, processes):
    good = await started(processes, node(tmp_path, WELL_BEHAVED, "good"))
    bad = await started(processes, node(tmp_path, SULKING, "bad"))
    worse = await started(processes, node(tmp_path, SULKING, "worse"))
    with pytest.raises(TestnetError, match=r"^bad .*; worse ") as failure:
        await Cluster([good, bad, worse]).stop()
    assert "good" not in str(failure.value)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_nodes_die_with_a_testnet_that_is_killed(tmp_path):
    script = f"""
        import sys, time
        from pathlib import Path
        from testnet.cluster import NodeProcess, NodeSpec
        spec = NodeSpec("node-0", Path({str(tmp_path)!r}), 1, 2)
        process = NodeProcess(spec, lambda _: [sys.executable, "-c", "import time; time.sleep(60)"])
        process.start()
        print(process.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    """A zombie that nobody reaps (PID 1 of a container may not) is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ports_are_different_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_a_node_is_found_by_name_and_by_number(tmp_path):
    cluster = Cluster([node(tmp_path, "", name) for name in ("alpha", "beta")])
    assert cluster.find("beta") is cluster.find("1")
    with pytest.raises(TestnetError, match="there is no node 'gamma'; there are alpha, beta"):
        cluster.find("gamma")
