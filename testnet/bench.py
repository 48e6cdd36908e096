"""How fast a cluster is: real processes, a load in a process of its own, one SUMMARY block.

Several rates are offered one after the other to the same cluster, each for a while after a
warm-up.  The floor of the machine is measured in the same run, so that latencies can be quoted
as ratios.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from testnet import charts, floor
from testnet.bench_client import DRAIN_S, Offer
from testnet.cluster import NodeSpec, die_with_parent, node_command
from testnet.errors import TestnetError
from testnet.launch import Plan, Testnet, launch
from testnet.report import Progress, latency_summary

PROBES_PER_S: Final = 500
"""How many transactions a second are timed; all are counted."""
SETTLE_S: Final = 1.0
"""Pause between two rates."""
ROOMS_FILE: Final = "rooms.json"
RUNNING: Final = "running"
STOPPED: Final = "stopped"
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Bench:
    """What to measure: each of `rates` (transactions a second) for `seconds` after `warmup_s`."""

    plan: Plan
    rates: Sequence[float] = (1_000.0,)
    seconds: float = 20.0
    warmup_s: float = 3.0
    transaction_bytes: int = 512
    crashed: bool = False
    """Kill the last node before the load starts, and keep it down."""
    stop_l1_after_s: float | None = None
    """Stop the L1's process, answers included, so far into `seconds` of each rate; both parts are
    measured."""

    def windows(self) -> list[tuple[str, float]]:
        """What each rate is measured with: what the L1 does, and for how many seconds."""
        if self.stop_l1_after_s is None:
            return [(self.plan.l1, self.seconds)]
        after = self.stop_l1_after_s
        return [(RUNNING, after), (STOPPED, self.seconds - after)]


async def bench(job: Bench, progress: Progress) -> dict[str, Any]:
    """Measure; everything found, JSON-able.  TestnetError if the cluster cannot be measured."""
    job.plan.directory.mkdir(parents=True, exist_ok=True)
    with progress.stage("the floor of this machine") as stage:
        base = await asyncio.to_thread(floor.measure, job.plan.directory)
        stage.note(f"a lone commit takes {base.commit_ms:.1f} ms at least")
    async with launch(job.plan, progress, _sampled_command) as testnet:
        if job.crashed:
            testnet.cluster.nodes[-1].kill()
        points: list[dict[str, Any]] = []
        for rate in job.rates:
            for l1, seconds in job.windows():
                spelled = f", L1 {l1}" if job.stop_l1_after_s is not None else ""
                with progress.stage(f"{rate:,.0f} transactions/s{spelled}") as stage:
                    with _stopped_l1(testnet, l1 == STOPPED):
                        point = await _measure(job, testnet, rate, seconds, base, len(points))
                    points.append(point | {"l1": l1})
                    stage.note(
                        f"committed {point['committed_per_s']:,.0f}/s, "
                        f"p50 {point['latency_ms']['p50']:.1f} ms"
                    )
                await asyncio.sleep(SETTLE_S)
        await testnet.cluster.stop()
        rooms = _cpu_by_room(testnet)
    return {
        "nodes": job.plan.nodes,
        "crashed": int(job.crashed),
        "cores": os.cpu_count(),
        "l1": job.plan.l1,
        "transaction_bytes": job.transaction_bytes,
        "seconds": job.seconds,
        "floor": base.to_json(),
        "points": points,
        "cpu_by_room": rooms,
    }


@contextlib.contextmanager
def _stopped_l1(testnet: Testnet, stopped: bool) -> Iterator[None]:
    """The L1's process does nothing meanwhile, if it is to be `stopped`."""
    pid = testnet.l1.pid if testnet.l1 is not None else None
    if not stopped:
        yield
        return
    if pid is None:
        raise TestnetError("only an L1 that the bench started can be stopped; choose another --l1")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _sampled_command(spec: NodeSpec) -> list[str]:
    """A real node that also tells in which rooms its CPU time went."""
    interpreter, option, script, *arguments = node_command(spec)
    report = spec.directory / ROOMS_FILE
    sampled = (
        f"from pathlib import Path; from testnet.sampler import start; start(Path({str(report)!r}))"
    )
    return [interpreter, option, f"{sampled}; {script}", *arguments]


def _cpu_by_room(testnet: Testnet) -> dict[str, float]:
    """CPU seconds of all nodes by room, the most first; empty where no node could tell."""
    total: Counter[str] = Counter()
    for spec in testnet.specs:
        with contextlib.suppress(OSError, ValueError):
            total.update(json.loads((spec.directory / ROOMS_FILE).read_text()))
    return {room: round(seconds, 2) for room, seconds in total.most_common()}


async def _measure(
    job: Bench, testnet: Testnet, rate: float, seconds: float, base: floor.Floor, seed: int
) -> dict[str, Any]:
    running = [node for node in testnet.cluster.nodes if node.is_running]
    offer = Offer(
        urls=[node.spec.rpc_url for node in running],
        rate=rate,
        seconds=seconds,
        warmup_s=job.warmup_s,
        transaction_bytes=job.transaction_bytes,
        seed=seed,  # the same transactions a second time would be duplicates
        probe_every=max(1, int(rate / PROBES_PER_S)),
    )
    pids = {node.spec.name: node.pid for node in running}
    before = {name: _cpu_s(pid) for name, pid in pids.items()}
    result = await _run_client(offer)
    testnet.cluster.check()
    cpu = {name: _cpu_s(pid) - before[name] for name, pid in pids.items()}
    committed = max(1, result["committed"])
    latency = latency_summary(result.pop("latencies_ms"))
    per_s = result["committed_in_window"] / seconds
    return result | {
        "offered_per_s": rate,
        "committed_per_s": round(per_s, 1),
        "mb_per_s": round(per_s * job.transaction_bytes / 1e6, 2),
        "latency_ms": latency,
        "floor_ratio": round(latency["p50"] / base.commit_ms, 1),
        "blocks_per_s": round(result["blocks"] / seconds, 1),
        "cpu_us_per_transaction": round(sum(cpu.values()) / committed * 1e6, 1),
        "cpu_s": {name: round(value, 2) for name, value in cpu.items()},
        "rss_mb": {name: _rss_mb(pid) for name, pid in pids.items()},
    }


async def _run_client(offer: Offer) -> dict[str, Any]:
    """Run the load in its own process; what it tells."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "testnet.bench_client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        async with asyncio.timeout(offer.warmup_s + offer.seconds + 3 * DRAIN_S):
            output, _ = await process.communicate(json.dumps(asdict(offer)).encode())
    except TimeoutError:
        raise TestnetError(f"the load at {offer.rate:,.0f}/s did not come to its end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise TestnetError(f"the load ended with exit code {process.returncode}, see above")
    found: dict[str, Any] = json.loads(output)
    return found


def _cpu_s(pid: int | None) -> float:
    """CPU seconds a process has used, its threads included; 0 where /proc is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _rss_mb(pid: int | None) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def summary_text(found: dict[str, Any]) -> str:
    """The SUMMARY block: plain text, the same on a terminal and in a file."""
    base = found["floor"]
    crashed = ", one crashed" if found["crashed"] else ""
    lines = [
        "SUMMARY",
        f"  {found['nodes']} nodes{crashed} and their clients on {found['cores']} cores, "
        f"{found['transaction_bytes']}-byte transactions, {found['seconds']:g} s a rate, "
        f"L1 {found['l1']}",
        f"  floor of a lone commit {base['commit_ms']:.1f} ms "
        f"(BLS sign {base['bls_sign_ms']:.2f}, verify {base['bls_verify_quorum_ms']:.2f}, "
        f"LMDB commit {base['lmdb_commit_ms']:.2f}, echo {base['echo_ms']:.2f}, "
        f"Ed25519 {base['ed25519_sign_ms']:.2f}/{base['ed25519_verify_ms']:.2f} ms, "
        f"SHA-256 {base['sha256_mb_per_s']:,.0f} MB/s)",
        "",
        "  offered/s  committed/s   MB/s  p50 ms  p90 ms  p99 ms  max ms  p50/floor  blocks/s"
        "  CPU us/tx  refused  gap ms",
    ]
    for point in found["points"]:
        latency = point["latency_ms"]
        lines.append(
            f"  {point['offered_per_s']:9,.0f}  {point['committed_per_s']:11,.0f}"
            f"  {point['mb_per_s']:5.2f}  {latency['p50']:6.1f}  {latency['p90']:6.1f}"
            f"  {latency['p99']:6.1f}  {latency['max']:6.0f}  {point['floor_ratio']:8.1f}x"
            f"  {point['blocks_per_s']:8.1f}  {point['cpu_us_per_transaction']:9.0f}"
            f"  {point['refused']:7,}  {point['gap_ms']:6.0f}"
            + (f"  {point['l1']}" if point["l1"] in (RUNNING, STOPPED) else "")
        )
    lines += _without_l1(found["points"])
    rooms = found["cpu_by_room"]
    total = sum(rooms.values()) or 1.0
    shares = ", ".join(f"{room} {seconds / total:.0%}" for room, seconds in rooms.items())
    return "\n".join([*lines, "", f"  CPU of the nodes: {shares or 'not known'}"])


def _without_l1(points: Sequence[dict[str, Any]]) -> list[str]:
    """How the rate with a stopped L1 compares with the one before."""
    lines = []
    for before, after in pairwise(points):
        if (before["l1"], after["l1"]) == (RUNNING, STOPPED):
            rate, usual = after["committed_per_s"], before["committed_per_s"]
            lines.append(
                f"  {after['offered_per_s']:,.0f}/s offered with the L1 stopped: committed "
                f"{rate:,.1f}/s, {rate / max(1.0, usual):.1%} of {usual:,.1f}/s with it running"
            )
    return ["", *lines] if lines else []


def write_charts(found: dict[str, Any], directory: Path) -> list[Path]:
    """Latency against throughput, and CPU by room, as SVG files in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    points = found["points"]
    latency = {
        name: [(point["committed_per_s"], point["latency_ms"][name]) for point in points]
        for name in ("p50", "p90", "p99")
    }
    line = directory / "latency.svg"
    line.write_text(charts.line_chart("Commit latency", "committed transactions/s", "ms", latency))
    bars = directory / "cpu.svg"
    bars.write_text(charts.bar_chart("CPU of all nodes by room", "s", found["cpu_by_room"]))
    return [line, bars]
