"""Starting, ending and finding local L1s."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testnet.l1 import L1LaunchError, find_anvil, funded_key, launch_l1
from testnet.l1.launch import rpc

WAIT_S = 10.0
ROOT = str(Path(__file__).resolve().parents[2])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition, timeout_s: float = WAIT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def height(url: str) -> int:
    return int(await rpc(url, "eth_blockNumber", []), 16)


async def until_height(url: str, wanted: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if await height(url) >= wanted:
                return
            await asyncio.sleep(0.02)


async def test_embedded_mines_funds_continues_after_a_kill_and_ends(tmp_path: Path) -> None:
    extra = "0x" + "42" * 20
    handle = await launch_l1("embedded", tmp_path, chain_id=99, block_time_s=0.05, fund=(extra,))
    try:
        assert (handle.kind, handle.chain_id, len(handle.funded_keys)) == ("embedded", 99, 10)
        assert handle.funded_keys[3] == funded_key(3)
        assert int(await rpc(handle.url, "eth_chainId", []), 16) == 99
        assert int(await rpc(handle.url, "eth_getBalance", [extra, "latest"]), 16) == 10**24
        await until_height(handle.url, 3)
        second = await rpc(handle.url, "eth_getBlockByNumber", ["0x2", False])
    finally:
        os.kill(handle.pid, signal.SIGKILL)
        await handle.aclose()

    again = await launch_l1("embedded", tmp_path, chain_id=99, block_time_s=0.05)
    try:
        assert await rpc(again.url, "eth_getBlockByNumber", ["0x2", False]) == second
        pid = again.pid
        await again.stall()
        stood = await height(again.url)
        await asyncio.sleep(0.2)
        assert await height(again.url) == stood
        await again.resume()
        await until_height(again.url, stood + 1)
    finally:
        await again.aclose()
    assert not is_running(pid)


async def test_a_second_process_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    handle = await launch_l1("embedded", tmp_path, block_time_s=0.2)
    try:
        with pytest.raises(L1LaunchError, match="another embedded L1 is running"):
            await launch_l1("embedded", tmp_path, block_time_s=0.2)
    finally:
        await handle.aclose()


async def test_a_directory_of_another_chain_is_refused_and_the_log_is_quoted(
    tmp_path: Path,
) -> None:
    handle = await launch_l1("embedded", tmp_path, chain_id=1000)
    await handle.aclose()
    with pytest.raises(L1LaunchError, match="chain with id 1000, not 1001"):
        await launch_l1("embedded", tmp_path, chain_id=1001)


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(L1LaunchError, match=f"port {port} is in use"):
            await launch_l1("embedded", tmp_path, port=port)


async def test_two_started_at_once_are_two(tmp_path: Path) -> None:
    handles = await asyncio.gather(
        *(launch_l1("embedded", tmp_path / name, chain_id=7) for name in "ab")
    )
    try:
        assert len({handle.url for handle in handles}) == 2
        await handles[0].stall()
        await until_height(handles[1].url, await height(handles[0].url) + 1)
    finally:
        for handle in handles:
            await handle.aclose()


async def test_anothers_anvil_is_not_taken_for_ours(tmp_path, monkeypatch) -> None:
    """It takes the port between our choice of it and the start of our process."""
    if find_anvil() is None:
        pytest.skip("anvil is not installed")
    spawn, others = asyncio.create_subprocess_exec, []

    async def late(*command: str, **options: Any) -> asyncio.subprocess.Process:
        arguments = list(command)
        arguments[arguments.index("--balance") + 1] = "10000"
        others.append(await spawn(*arguments, **options))
        port = arguments[arguments.index("--port") + 1]
        async with asyncio.timeout(WAIT_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await rpc(f"http://127.0.0.1:{port}", "eth_chainId", [])
                    return await spawn(*command, **options)
                await asyncio.sleep(0.02)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", late)
    try:
        with pytest.raises(L1LaunchError, match="anvil L1 ended at start"):
            await launch_l1("anvil", tmp_path)
    finally:
        for other in others:
            other.kill()
            await other.wait()


async def test_unknown_kinds_and_dead_urls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(L1LaunchError, match="unknown L1 'ganache'"):
        await launch_l1("ganache", tmp_path)
    with pytest.raises(L1LaunchError, match="no Ethereum JSON-RPC at"):
        await launch_l1("http://127.0.0.1:9", tmp_path)


async def test_anvil_named_but_absent_says_how_to_get_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANVIL", str(tmp_path / "no-such-anvil"))
    with pytest.raises(L1LaunchError, match="npm install @foundry-rs/anvil"):
        await launch_l1("anvil", tmp_path)


def test_anvil_is_found_in_an_npm_tree(tmp_path, monkeypatch) -> None:
    binary = tmp_path / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    binary.parent.mkdir(parents=True)
    binary.write_text("")
    monkeypatch.delenv("ANVIL", raising=False)
    monkeypatch.chdir(tmp_path)
    binary.chmod(0o644)
    assert find_anvil() != binary
    binary.chmod(0o755)
    assert find_anvil() == binary


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
async def test_an_l1_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from testnet.l1 import launch_l1\n"
        "async def main():\n"
        "    handle = await launch_l1('embedded', pathlib.Path(sys.argv[1]))\n"
        "    print(handle.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), WAIT_S))
    assert is_running(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not is_running(pid))


async def test_anvil_answers_with_funded_accounts_and_finalizes(tmp_path: Path) -> None:
    if find_anvil() is None:
        pytest.skip("anvil is not installed")
    handle = await launch_l1("anvil", tmp_path, block_time_s=0.2)
    try:
        assert (handle.kind, handle.chain_id) == ("anvil", 31_337)
        await until_height(handle.url, 6)
        final = await rpc(handle.url, "eth_getBlockByNumber", ["finalized", False])
        assert int(final["number"], 16) > 0
        pid = handle.pid
    finally:
        await handle.aclose()
    assert not is_running(pid)
