"""What a node tells Prometheus about itself."""

from sequencer.observe import Observer


def test_the_process_is_measured_too() -> None:
    text = Observer().exposition().decode()
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert f"\n{name} " in text


def test_a_gauge_shows_its_last_value() -> None:
    observer = Observer()
    observer.gauge("ready", "in step", True)
    observer.gauge("ready", "in step", False)
    assert "\nsequencer_ready 0.0\n" in observer.exposition().decode()
