"""The bench measures what clients would feel: stalls count for everything that was due."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from testnet import charts
from testnet.bench import Bench, summary_text, write_charts
from testnet.bench_client import Load, Offer
from testnet.client import open_session
from testnet.floor import Floor
from testnet.launch import Plan
from testnet.report import latency_summary
from tests.testnet.fake_nodes import fake_nodes

FLOOR = Floor(0.4, 1.2, 1.3, 0.03, 0.1, 0.3, 0.06, 1_800.0)


def offer(nodes, **changes) -> Offer:
    fields = {"rate": 200.0, "seconds": 1.0, "warmup_s": 0.0, "probe_every": 1}
    urls = [node.url for node in nodes]
    return Offer(urls=urls, transaction_bytes=64, seed=1, **(fields | changes))


async def offered(job: Offer):
    async with open_session() as session:
        return await Load(job, session).run()


async def test_everything_is_sent_once_and_timed_on_the_node_that_took_it():
    async with fake_nodes(2) as nodes:
        result = await offered(offer(nodes))
        log = [item for block in nodes[0].log.blocks for item in block]
    assert result.sent == result.committed == len(set(log)) == len(log) == 200
    assert len(result.latencies_ms) == 200
    assert result.lost_probes == result.refused == result.failed == 0


async def test_a_stall_is_suffered_by_everything_that_was_due_meanwhile():
    async with fake_nodes(1) as nodes:
        log = nodes[0].log

        async def stall() -> None:
            await asyncio.sleep(0.3)
            log.paused = True
            await asyncio.sleep(0.5)
            log.paused = False
            await log.commit()

        stalling = asyncio.create_task(stall())
        result = await offered(offer(nodes))
        await stalling
    # Due evenly over half a second of standstill: one in four waits 250 ms or longer.
    slow = [latency for latency in result.latencies_ms if latency >= 250]
    assert 30 <= len(slow) <= 80
    assert max(slow) >= 450
    assert result.gap_ms >= 400


async def test_only_probes_are_timed_and_the_warm_up_is_not():
    async with fake_nodes(1) as nodes:
        result = await offered(offer(nodes, probe_every=4, warmup_s=0.5, seconds=0.5))
    assert result.sent == 200
    assert 20 <= len(result.latencies_ms) <= 30
    assert 60 <= result.committed_in_window <= 140


async def test_what_full_nodes_turn_away_is_counted():
    async with fake_nodes(1) as nodes:
        nodes[0].refusal = {"code": -32005, "message": "full"}
        result = await offered(offer(nodes, seconds=0.2))
    assert result.refused == 40
    assert result.sent == result.committed == 0


def test_percentiles_of_known_latencies():
    assert latency_summary(list(range(1, 101))) == {"p50": 51, "p90": 91, "p99": 100, "max": 100}
    assert latency_summary([]) == {"p50": 0, "p90": 0, "p99": 0, "max": 0}


def test_the_floor_adds_up_what_a_commit_needs():
    expected = 2 * 0.06 + 0.13 + 2 * (0.4 + 1.3 + 0.3) + 0.3
    assert abs(FLOOR.commit_ms - expected) < 1e-9


def found() -> dict:
    point = {
        "l1": "none",
        "offered_per_s": 1_000.0,
        "committed_per_s": 998.0,
        "mb_per_s": 0.51,
        "latency_ms": {"p50": 20.0, "p90": 30.0, "p99": 50.0, "max": 70.0},
        "floor_ratio": 4.4,
        "blocks_per_s": 90.0,
        "cpu_us_per_transaction": 300.0,
        "cpu_s": {"node-0": 1.5, "node-1": 1.25},
        "refused": 0,
        "gap_ms": 40.0,
    }
    return {
        "nodes": 4,
        "crashed": 0,
        "cores": 2,
        "l1": "none",
        "transaction_bytes": 512,
        "seconds": 20.0,
        "floor": FLOOR.to_json(),
        "points": [point, point | {"offered_per_s": 2_000.0}],
        "cpu_by_room": {"net": 3.0, "consensus": 1.0},
    }


def test_the_summary_has_a_line_per_rate():
    lines = summary_text(found()).splitlines()
    assert lines[0] == "SUMMARY"
    assert [line.split()[0] for line in lines[-4:-2]] == ["1,000", "2,000"]
    assert "net 75%, consensus 25%" in lines[-1]


def test_charts_are_well_formed(tmp_path):
    for path in write_charts(found(), tmp_path):
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        assert len(root) > 5
    assert "&lt;" in charts.bar_chart("a < b", "s", {})


def test_cpu_time_is_counted_for_the_room_that_called(tmp_path):
    script = f"""
from pathlib import Path
from testnet.sampler import start
start(Path({str(tmp_path / "rooms.json")!r}))
from consensus.bls import KeySigner, new_bls_secret
signer = KeySigner(new_bls_secret(bytes(32)), bytes(32))
for _ in range(600):
    signer.sign(b"message")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=60)
    rooms = json.loads((tmp_path / "rooms.json").read_text())
    assert max(rooms, key=rooms.get) == "signatures"
    assert rooms["signatures"] >= 0.05


def test_the_rate_with_a_stopped_l1_is_compared_with_the_one_before():
    told = found()
    first, second = told["points"]
    told["points"] = [
        first | {"l1": "running", "committed_per_s": 1_000.0},
        first | {"l1": "stopped", "committed_per_s": 990.0},
        second | {"l1": "running"},
    ]
    text = summary_text(told)
    assert "committed 990.0/s, 99.0% of 1,000.0/s with it running" in text
    assert text.count("L1 stopped: ") == 1
    assert "L1 stopped: " not in summary_text(found())


def test_a_rate_is_measured_before_and_after_the_l1_stops():
    plan = Plan(Path("nowhere"), l1="embedded")
    assert Bench(plan, seconds=20.0).windows() == [("embedded", 20.0)]
    stopping = Bench(plan, seconds=20.0, stop_l1_after_s=8.0)
    assert stopping.windows() == [("running", 8.0), ("stopped", 12.0)]
