"""Links that can be cut and slowed, with plain echo servers at their ends."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from testnet.cluster import free_ports
from testnet.errors import TestnetError
from testnet.links import Link, Links


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A started link to an echo server, and a connection through it."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link(server.sockets[0].getsockname()[1])
    await link.start(free_ports(1)[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield link, reader, writer
    finally:
        writer.close()
        link.close()
        server.close()


async def round_trip(reader, writer, data: bytes, timeout_s: float = 5.0) -> bytes:
    writer.write(data)
    async with asyncio.timeout(timeout_s):
        return await reader.readexactly(len(data))


async def test_an_open_link_carries_everything_in_order():
    async with linked() as (_, reader, writer):
        data = bytes(range(256)) * 8_192
        assert await round_trip(reader, writer, data) == data


async def test_a_cut_link_carries_nothing_until_it_heals_and_then_everything():
    async with linked() as (link, reader, writer):
        await round_trip(reader, writer, b"before")
        link.open.clear()
        with pytest.raises(TimeoutError):
            await round_trip(reader, writer, b"during", timeout_s=0.2)
        link.open.set()
        async with asyncio.timeout(5):
            assert await reader.readexactly(6) == b"during"


async def test_a_connection_through_a_cut_link_waits():
    async with linked() as (link, _, _):
        link.open.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        with pytest.raises(TimeoutError):
            await round_trip(reader, writer, b"hello", timeout_s=0.2)
        link.open.set()
        async with asyncio.timeout(5):
            assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_slow_link_delays_each_way_and_keeps_its_throughput():
    async with linked() as (link, reader, writer):
        link.delay_s = 0.1
        started = time.monotonic()
        assert await round_trip(reader, writer, b"x" * 1_000_000) == b"x" * 1_000_000
        elapsed = time.monotonic() - started
        assert 0.2 <= elapsed < 1.0


async def test_when_one_side_leaves_the_other_is_told():
    async with linked() as (_, reader, writer):
        await round_trip(reader, writer, b"hello")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_nobody_behind_a_link_ends_the_connection():
    link = Link(free_ports(1)[0])
    await link.start(free_ports(1)[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    link.close()


def open_pairs(links: Links) -> set[tuple[int, int]]:
    return {pair for pair, link in links.links.items() if link.open.is_set()}


async def test_a_partition_cuts_exactly_what_lies_between_its_groups():
    links = Links.between([1, 2, 3, 4])
    links.heal()
    assert len(open_pairs(links)) == 12
    links.partition([[0, 1]])
    assert open_pairs(links) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    links.partition([[0], [1], [2, 3]])
    assert open_pairs(links) == {(2, 3), (3, 2)}
    links.heal()
    assert len(open_pairs(links)) == 12


async def test_a_slow_node_is_slow_both_ways_until_healed():
    links = Links.between([1, 2, 3])
    links.slow(1, 0.25)
    slow = {pair for pair, link in links.links.items() if link.delay_s}
    assert slow == {(0, 1), (1, 0), (1, 2), (2, 1)}
    links.heal()
    assert not any(link.delay_s for link in links.links.values())


async def test_a_taken_port_is_named():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    links = Links.between([1, 2])
    with pytest.raises(TestnetError, match=f"port {port} is in use"):
        await links.start(dict.fromkeys(links.links, port))
    links.close()
    server.close()


async def test_a_link_cut_one_way_carries_only_the_other():
    async with linked() as (link, reader, writer):
        await round_trip(reader, writer, b"before")
        link.back.clear()
        with pytest.raises(TimeoutError):
            await round_trip(reader, writer, b"during", timeout_s=0.2)
        link.back.set()
        async with asyncio.timeout(5):
            assert await reader.readexactly(6) == b"during"


async def test_one_way_silences_a_node_towards_another_on_either_connection():
    links = Links.between([1, 2, 3])
    links.heal()
    links.one_way(0, 2)
    assert {pair for pair, link in links.links.items() if not link.open.is_set()} == {(0, 2)}
    assert {pair for pair, link in links.links.items() if not link.back.is_set()} == {(2, 0)}
    links.heal()
    assert len(open_pairs(links)) == 6
    assert links.links[2, 0].back.is_set()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who calls")
async def test_a_node_that_joined_is_cut_off_from_one_caller_and_not_from_another():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    front, unused = free_ports(2)
    links = Links.between([unused, unused])
    me = 1
    await links.join(2, server.sockets[0].getsockname()[1], front, {}, lambda: {os.getpid(): me})
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", front)
        links.partition([[0], [1, 2]])
        assert await round_trip(reader, writer, b"same group") == b"same group"
        links.partition([[0, 2], [1]])
        with pytest.raises(TimeoutError):
            await round_trip(reader, writer, b"cut", timeout_s=0.2)
        links.heal()
        async with asyncio.timeout(5):
            assert await reader.readexactly(3) == b"cut"
        writer.close()
    finally:
        links.close()
        server.close()
