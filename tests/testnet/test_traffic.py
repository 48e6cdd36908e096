"""Clients that submit and watch: every door, failover, patience, and honest reports."""

import asyncio
import itertools
import time

import pytest
from rich.console import Console

from testnet import load as module
from testnet.client import NodeClient
from testnet.cluster import NodeSpec
from testnet.errors import TestnetError, sentence_of
from testnet.load import load
from testnet.report import Progress
from testnet.traffic import Traffic
from testnet.watch import Watcher
from testnet.workload import Workload
from tests.testnet.fake_nodes import fake_nodes

FULL = {"code": -32005, "message": "the pool is full", "data": {"retry_after_ms": 20}}
WRONG = {"code": -32000, "message": "invalid sender"}


def specs_of(nodes, directory):
    ports = [int(node.url.rsplit(":", 1)[1]) for node in nodes]
    return [NodeSpec(f"node-{at}", directory, port, 0) for at, port in enumerate(ports)]


def first(count, nodes):
    return list(itertools.islice(iter(Workload(1, nodes, 200)), count))


async def until(condition, timeout_s=10.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is on the other side of a socket
            await asyncio.sleep(0.01)


class Clients(list):
    def __init__(self, nodes):
        super().__init__(NodeClient(node.url) for node in nodes)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *failure):
        for client in self:
            await client.aclose()


async def test_every_door_takes_its_kind_and_all_arrives_once():
    async with fake_nodes(2) as nodes, Clients(nodes) as clients:
        traffic = Traffic(clients)
        submissions = first(32, 2)
        await traffic.run(submissions, 10_000)
        arrived = [item for block in nodes[0].log.blocks for item in block]
        assert sorted(arrived) == sorted((item.namespace, item.data) for item in submissions)
        assert {accepted.submission.data for accepted in traffic.accepted.values()} == {
            item.data for item in submissions
        }
        assert nodes[0].submissions == nodes[1].submissions == 16


async def test_the_rate_is_kept():
    async with fake_nodes(1) as nodes, Clients(nodes) as clients:
        started = time.monotonic()
        await Traffic(clients).run(first(21, 1), 50)
        assert time.monotonic() - started >= 20 / 50


async def test_a_client_whose_node_is_gone_goes_to_the_next():
    async with fake_nodes(1) as nodes:
        gone = NodeClient("http://127.0.0.1:9")
        async with Clients(nodes) as clients:
            traffic = Traffic([gone, clients[0]])
            await traffic.run(first(8, 2), 10_000)
            assert len(traffic.accepted) == 8
            assert {accepted.node for accepted in traffic.accepted.values()} == {1}
        await gone.aclose()


async def test_a_client_waits_while_its_node_is_full():
    async with fake_nodes(1) as nodes, Clients(nodes) as clients:
        nodes[0].refusal = FULL
        traffic = Traffic(clients)
        task = asyncio.create_task(traffic.run(first(4, 1), 10_000))
        await until(lambda: traffic.retries >= 8)
        assert not traffic.accepted
        nodes[0].refusal = None
        await task
        assert len(traffic.accepted) == 4


async def test_a_refusal_is_a_failure_that_quotes_the_node():
    async with fake_nodes(1) as nodes, Clients(nodes) as clients:
        nodes[0].refusal = WRONG
        task = asyncio.create_task(Traffic(clients).run(first(4, 1), 10_000))
        await asyncio.wait([task])
        with pytest.raises(TestnetError, match=r"node 0 refused transaction \d: .*invalid sender"):
            sentence_of(task)


async def test_a_watcher_sees_every_transaction_and_goes_on_after_a_disconnection():
    async with fake_nodes(1) as nodes, Clients(nodes) as clients:
        watcher = Watcher("node-0", clients[0].api)
        task = asyncio.create_task(watcher.run())
        await Traffic(clients).run(first(8, 1), 10_000)
        await until(lambda: len(watcher.seen) == 8)
        await clients[0].api.close()  # cuts its connection; the next call opens another
        await Traffic(clients).run(first(16, 1)[8:], 10_000)
        await until(lambda: len(watcher.seen) == 16)
        assert watcher.height == len(nodes[0].log.blocks)
        task.cancel()


async def test_a_watcher_refuses_a_log_with_a_transaction_twice():
    async with fake_nodes(1) as nodes, Clients(nodes) as clients:
        nodes[0].log.blocks = [[(1, b"a")], [(1, b"a")]]
        with pytest.raises(TestnetError, match="twice in its log"):
            async with asyncio.timeout(5):
                await Watcher("node-0", clients[0].api).run()


async def test_load_reports_what_was_committed(tmp_path):
    async with fake_nodes(2) as nodes:
        specs = specs_of(nodes, tmp_path)
        found = await load(specs, 400, 0.1, 200, 0, Progress(Console(quiet=True)))
        again = await load(specs, 400, 0.1, 200, 0, Progress(Console(quiet=True)))
    assert found["committed"] == again["committed"] == "40 on 2 nodes"


async def test_a_load_sends_again_what_a_node_in_trouble_had_accepted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RESEND_AFTER_S", 0.1)
    async with fake_nodes(3) as nodes:
        specs, console = specs_of(nodes, tmp_path), Console(quiet=True)
        task = asyncio.create_task(load(specs, 100, 2, 200, 0, Progress(console)))
        await until(lambda: nodes[1].submissions > 3)
        nodes[1].trouble = "connected to 0 of 2 other members"
        found = await task
    assert found["committed"].startswith("200 on ")
    assert found["not ready"] == "node-1: connected to 0 of 2 other members"
    assert int(found["sent again"].split(",")[0]) > 0
    assert nodes[1].submissions < 67  # they went elsewhere


async def test_a_load_that_fails_says_who_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMMIT_TIMEOUT_S", 0.5)
    async with fake_nodes(2) as nodes:
        nodes[1].trouble = "connected to 0 of 1 other members"
        nodes[0].log.paused = True
        with pytest.raises(
            TestnetError, match=r"node-0 lacks 4,.* of 4; node-1: connected to 0 of"
        ):
            await load(specs_of(nodes, tmp_path), 400, 0.01, 200, 0, Progress(Console(quiet=True)))


async def test_an_endless_stream_ends_when_it_is_told_to_and_loses_nothing():
    async with fake_nodes(2) as nodes, Clients(nodes) as clients:
        traffic, ended = Traffic(clients), asyncio.Event()
        running = asyncio.create_task(traffic.run_until(iter(Workload(1, 2, 200)), 100, ended))
        await until(lambda: len(traffic.accepted) >= 20)
        ended.set()
        async with asyncio.timeout(10):
            await running
        arrived = [item for block in nodes[0].log.blocks for item in block]
        assert len(arrived) == len(set(arrived)) == len(traffic.accepted)
        indices = sorted(item.submission.index for item in traffic.accepted.values())
        assert indices == list(range(len(indices)))


async def test_nodes_that_are_away_are_left_alone():
    async with fake_nodes(3) as nodes, Clients(nodes) as clients:
        traffic = Traffic(clients, away={0, 2})
        await traffic.run(first(12, 3), 10_000)
        assert [node.submissions for node in nodes] == [0, 12, 0]
        assert traffic.retries == 0
        traffic.away.add(1)
        with pytest.raises(TestnetError, match="all nodes have left"):
            await traffic.place(first(1, 3)[0])
