"""What a node tells Prometheus about itself."""

import logging

import pytest

from consensus.types import MAX_MEMBERS
from sequencer.observe import REFUSALS_TOLD_EVERY_S, Observer


def test_the_process_is_measured_too() -> None:
    text = Observer().exposition().decode()
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert f"\n{name} " in text


def test_a_gauge_shows_its_last_value() -> None:
    observer = Observer()
    observer.gauge("ready", "in step", True)
    observer.gauge("ready", "in step", False)
    assert "\nsequencer_ready 0.0\n" in observer.exposition().decode()


def test_all_guests_are_one_series_and_each_member_its_own() -> None:
    observer = Observer()
    for handle in (0, 3, *range(MAX_MEMBERS, MAX_MEMBERS + 1_000)):
        observer.invalid(handle, "rubbish")
    series = [
        line
        for line in observer.exposition().decode().splitlines()
        if line.startswith("sequencer_invalid_messages_total")
    ]
    assert sorted(series) == [
        'sequencer_invalid_messages_total{member="0"} 1.0',
        'sequencer_invalid_messages_total{member="3"} 1.0',
        'sequencer_invalid_messages_total{member="guest"} 1000.0',
    ]


def test_a_flood_of_refused_messages_is_told_once_in_a_while_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 50.0
    observer = Observer(lambda: now)
    with caplog.at_level(logging.INFO, "sequencer"):
        for _ in range(100):
            observer.invalid(MAX_MEMBERS, "rubbish")
        now += REFUSALS_TOLD_EVERY_S
        observer.invalid(2, "a forged vote")
    assert [record.getMessage() for record in caplog.records] == [
        "refused a message of guest: rubbish (0 more before it)",
        "refused a message of 2: a forged vote (99 more before it)",
    ]
