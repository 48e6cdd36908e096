"""What a person sees of a long run: its stages while they pass, and a summary at the end.

On a terminal a stage spins and tells how far it is; anywhere else each stage is one plain line.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status

TITLE_WIDTH = 34


@dataclass(slots=True)
class Stage:
    """One stage of a run; `note` says how far it is, the last note stays in its line."""

    title: str
    status: Status | None
    detail: str = ""

    def note(self, detail: str) -> None:
        """Replace what is said about the stage."""
        self.detail = detail
        if self.status is not None:
            self.status.update(f"{self.title.ljust(TITLE_WIDTH)} {detail}")


@dataclass(slots=True)
class Progress:
    """Prints stages as they pass, and remembers how long each took (seconds)."""

    console: Console
    durations: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """A stage from now until the block ends, well or by an exception."""
        started = time.monotonic()
        status = self.console.status(title) if self.console.is_terminal else None
        stage = Stage(title, status)
        if status is not None:
            status.start()
        mark = "[red]failed[/]"
        try:
            yield stage
            mark = "[green]ok[/]"
        finally:
            if status is not None:
                status.stop()
            self.durations[title] = elapsed = time.monotonic() - started
            line = f"{title.ljust(TITLE_WIDTH)} {mark} {elapsed:6.1f} s  [dim]{stage.detail}[/]"
            self.console.print(line, highlight=False, soft_wrap=True)


def print_summary(console: Console, title: str, rows: Mapping[str, object]) -> None:
    """A titled list of names and values."""
    width = max(map(len, rows))
    console.print(f"\n[bold]{title}[/]", highlight=False, soft_wrap=True)
    for name, value in rows.items():
        console.print(f"  [dim]{name.ljust(width)}[/]  {value}", highlight=False, soft_wrap=True)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that `percent` of the rising `ordered` do not exceed; 0 when there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def latency_summary(latencies_ms: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and max of latencies in milliseconds."""
    ordered = sorted(latencies_ms)
    found = {f"p{percent}": percentile(ordered, percent) for percent in (50, 90, 99)}
    found["max"] = ordered[-1] if ordered else 0.0
    return {name: round(value, 1) for name, value in found.items()}


def spell_latency(latency: Mapping[str, float]) -> str:
    """`p50 12.0 ms, p90 ...` of what `latency_summary` gives."""
    return ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items())


def spell_bytes(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:.1f} GB"
