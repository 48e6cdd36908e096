"""Faults drawn from a seed: repeatable, bounded, of every kind, and mended."""

import asyncio
import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from testnet import chaos
from testnet.chaos import L1_FAULTS, NODE_FAULTS, Fault, draw_faults
from testnet.cluster import Cluster, NodeProcess, NodeSpec
from testnet.links import Links

SLEEPING = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_the_same_seed_draws_the_same_faults():
    assert draw_faults(7, 4, 120, True) == draw_faults(7, 4, 120, True)
    assert draw_faults(7, 4, 120, True) != draw_faults(8, 4, 120, True)


@pytest.mark.parametrize("nodes", [4, 7, 10])
def test_faults_are_over_in_time_one_after_the_other_and_strike_f_nodes_at_most(nodes):
    for seed in range(30):
        end = 0.0
        for fault in draw_faults(seed, nodes, 60, True):
            assert fault.at_s > end
            end = fault.at_s + fault.length_s
            assert end <= 60
            limit = nodes if fault.kind == "kill all" else (nodes - 1) // 3
            assert len(set(fault.nodes)) == len(fault.nodes) <= limit


def test_every_kind_is_drawn_and_those_of_the_l1_only_where_there_is_one():
    kinds = {fault.kind for seed in range(30) for fault in draw_faults(seed, 4, 60, True)}
    assert kinds == {*NODE_FAULTS, *L1_FAULTS}
    without = {fault.kind for seed in range(30) for fault in draw_faults(seed, 4, 60, False)}
    assert without == set(NODE_FAULTS)


@pytest.mark.parametrize("kind", NODE_FAULTS)
async def test_every_fault_strikes_and_is_mended(tmp_path, monkeypatch, kind):
    specs = [NodeSpec(f"node-{at}", tmp_path / f"{at}", 1, 2) for at in range(4)]
    struck = range(4) if kind == "kill all" else [2]
    states: list[str] = []
    async with Cluster([NodeProcess(spec, lambda _: SLEEPING) for spec in specs]) as cluster:
        cluster.start()
        links = Links.between([1, 2, 3, 4])
        links.heal()
        testnet = SimpleNamespace(cluster=cluster, specs=specs, links=links, l1=None)
        progress = SimpleNamespace(console=Console(file=io.StringIO()))
        started = asyncio.get_running_loop().time()
        it = SimpleNamespace(testnet=testnet, progress=progress, killed=[], started=started)
        fault = Fault(0.0, 0.0, kind, tuple(struck))
        monkeypatch.setattr(chaos, "draw_faults", lambda *_: [fault])

        await chaos._strike(it, fault, chaos._struck(it, fault))
        states.append(describe(cluster, links))
        await chaos._mend(it, fault, chaos._struck(it, fault))
        assert describe(cluster, links) == "RRRR 12 open 0 slow"
        await chaos.chaos(0, 1.0)(it)
        assert describe(cluster, links) == "RRRR 12 open 0 slow"
        assert it.killed == (list(struck) * 2 if "kill" in kind else [])
    assert states == [
        {
            "kill": "RRDR 12 open 0 slow",
            "kill all": "DDDD 12 open 0 slow",
            "pause": "RRPR 12 open 0 slow",
            "partition": "RRRR 6 open 0 slow",
            "slow": "RRRR 12 open 6 slow",
        }[kind]
    ]


def test_the_committee_of_a_seed_changes_in_the_same_way_each_time():
    changes = chaos.draw_changes(7, 120)
    assert changes == chaos.draw_changes(7, 120) != chaos.draw_changes(8, 120)
    assert {kind for _, kind in changes} == set(chaos.MEMBER_CHANGES)
    assert [at for at, _ in changes] == sorted(at for at, _ in changes)


async def test_a_node_that_has_left_is_neither_struck_nor_started_again(tmp_path):
    specs = [NodeSpec(f"node-{at}", tmp_path / f"{at}", 1, 2) for at in range(3)]
    async with Cluster([NodeProcess(spec, lambda _: SLEEPING) for spec in specs]) as cluster:
        cluster.nodes[0].start()
        cluster.nodes[1].start()
        it = SimpleNamespace(testnet=SimpleNamespace(cluster=cluster, links=None, l1=None))
        fault = Fault(0.0, 0.0, "kill", (0,))
        struck = chaos._struck(it, fault)
        assert struck == cluster.nodes[:1]
        struck[0].kill()
        struck[0].left = True
        await chaos._mend(it, fault, struck)
        assert not struck[0].is_running
        assert chaos._struck(it, fault) == [cluster.nodes[1]], "node 2 is not there yet"


def describe(cluster: Cluster, links: Links) -> str:
    letters = (
        "D" if not node.is_running else "P" if node.paused else "R" for node in cluster.nodes
    )
    opened = sum(link.open.is_set() for link in links.links.values())
    slowed = sum(link.delay_s > 0 for link in links.links.values())
    return f"{''.join(letters)} {opened} open {slowed} slow"
