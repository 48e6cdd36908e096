"""What a run takes for failure: every way in which two logs can differ, and honest time-outs."""

import asyncio

import pytest

from sequencer.settlement.batch import LogEntry
from testnet import audit
from testnet.errors import TestnetError
from testnet.run import Run, summary_rows
from testnet.traffic import Accepted
from testnet.workload import Submission

LOG = [LogEntry(height, 1_000 + height, 901, bytes([height])) for height in range(1, 6)]


def changed(position: int, **fields) -> list[LogEntry]:
    log = list(LOG)
    entry = log[position]
    values = {
        "height": entry.height,
        "timestamp_ms": entry.timestamp_ms,
        "namespace": entry.namespace,
        "transaction": entry.transaction,
    }
    log[position] = LogEntry(**(values | fields))
    return log


def test_equal_logs_pass():
    audit.require_equal("node-0", LOG, "node-1", list(LOG))


@pytest.mark.parametrize(
    "fields", [{"height": 9}, {"timestamp_ms": 9}, {"namespace": 902}, {"transaction": b"x"}]
)
def test_one_different_field_of_one_entry_is_named(fields):
    with pytest.raises(TestnetError, match="node-0 and the L1 differ at position 3"):
        audit.require_equal("node-0", changed(3, **fields), "the L1", LOG)


def test_swapped_entries_are_named():
    with pytest.raises(TestnetError, match="differ at position 0"):
        audit.require_equal("node-0", [LOG[1], LOG[0], *LOG[2:]], "the L1", LOG)


@pytest.mark.parametrize("log", [LOG[:-1], [*LOG, LOG[-1]], []])
def test_a_log_of_another_length_is_named(log):
    with pytest.raises(TestnetError, match=f"node-0 has {len(log)} entries, the L1 has 5"):
        audit.require_equal("node-0", log, "the L1", LOG)


def accepted(log: list[LogEntry]) -> dict[bytes, Accepted]:
    return {
        bytes([index]): Accepted(
            Submission(index, 0, entry.namespace, entry.transaction), 0, 0.0, bytes([index])
        )
        for index, entry in enumerate(log)
    }


def test_the_log_has_to_hold_exactly_what_was_submitted():
    audit.require_submitted(LOG, accepted(LOG[::-1]))
    for log in (LOG[:-1], [*LOG, LOG[0]], changed(0, transaction=b"other")):
        with pytest.raises(TestnetError, match="of the 5 that were submitted"):
            audit.require_submitted(log, accepted(LOG))


def test_the_log_root_depends_on_everything():
    roots = {audit.root_of(LOG), audit.root_of(LOG[:-1]), audit.root_of(changed(2, height=4))}
    assert len(roots) == 3


class QuietTestnet:
    class cluster:
        failing = False

        @classmethod
        def check(cls) -> None:
            if cls.failing:
                raise TestnetError("node-2 ended by itself")


async def test_a_wait_that_is_too_long_names_who_lags():
    it = Run(None, QuietTestnet(), None, None, [])
    with pytest.raises(TestnetError, match=r"not all was committed within 0\.05 s: node-3 lacks 7"):
        await it.until(lambda: "node-3 lacks 7", 0.05, "not all was committed")


async def test_a_wait_ends_at_once_when_a_node_fails():
    it = Run(None, QuietTestnet(), None, None, [])
    QuietTestnet.cluster.failing = True
    try:
        with pytest.raises(TestnetError, match="node-2 ended by itself"):
            await it.until(lambda: "never", 60, "nothing")
    finally:
        QuietTestnet.cluster.failing = False


async def test_a_wait_ends_at_once_when_a_watcher_fails():
    async def broken() -> None:
        raise TestnetError("a gap in the feed")

    it = Run(None, QuietTestnet(), None, None, [], [asyncio.create_task(broken())])
    with pytest.raises(TestnetError, match="a gap in the feed"):
        await it.until(lambda: "never", 60, "nothing")


def test_the_summary_speaks_of_everything():
    found = {
        "nodes": 4,
        "chain": "ab" * 32,
        "transactions": 400,
        "transaction_bytes": 300,
        "offered_per_s": 200.0,
        "committed_per_s": 199.0,
        "latency_ms": {"p50": 20.0, "p90": 30.0, "p99": 40.0, "max": 50.0},
        "height": 120,
        "l1": "embedded",
        "batches": 2,
        "posters": 2,
        "l1_bytes": 120_000,
        "l1_gas": 500_000,
        "l1_blobs": 2,
        "receipts": 12,
        "epochs": [
            {
                "epoch": epoch,
                "members": ["node-0", "node-4"],
                "first_height": 1 + 40 * epoch,
                "last_height": 40 + 40 * epoch,
                "transactions": 200,
                "batches": 1,
            }
            for epoch in range(2)
        ],
        "killed": "node-1",
        "resent": 3,
        "seconds": 21.5,
    }
    text = " ".join(f"{name} {value}" for name, value in summary_rows(found).items())
    for part in (
        "2 batches by 2 posters",
        "node-1, restarted; 3",
        "p99 40.0 ms",
        "120.0 kB",
        "heights 41-80",
    ):
        assert part in text
    assert "none" in str(summary_rows(found | {"l1": None})["L1"])
