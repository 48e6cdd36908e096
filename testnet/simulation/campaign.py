"""Many seeds on several processes, with a word on how far it is, until they or the time are over.

SIGINT and SIGTERM end it early; what has been covered by then is not lost.
"""

import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from types import FrameType

from testnet.simulation.swarm import Outcome, draw_plan, run_plan

SEEDS_AHEAD = 8
"""Handed out for each process, so that none waits for another one's long run."""


class Stopped(Exception):
    """A signal asks to come to an end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True, slots=True)
class Terms:
    """What is not drawn by the seeds; `None` where it is."""

    nodes: int | None = None
    duration_ms: int = 20_000
    adversary: str | None = None
    changing: bool | None = None
    """Whether committees follow each other."""


@dataclass(slots=True)
class Campaign:
    """What has been covered so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    """Of the processes that simulate: what counts on a machine that others use as well."""
    stopped_by: int | None = None
    """The signal that ended it early."""

    @property
    def broken(self) -> list[Outcome]:
        """The runs in which a rule was broken."""
        return [outcome for outcome in self.outcomes if outcome.violation is not None]


def run_seed(terms: Terms, seed: int) -> Outcome:
    """One seed, in this process."""
    return run_plan(
        draw_plan(seed, terms.nodes, terms.duration_ms, terms.adversary, terms.changing)
    )


def run_campaign(
    seeds: range,
    terms: Terms,
    jobs: int,
    minutes: float | None,
    on_outcome: Callable[[Campaign, Outcome], None],
) -> Campaign:
    """Run the seeds; with `minutes`, on from the first one until those are over."""
    campaign = Campaign()
    started, cpu_before = time.monotonic(), _cpu_of_children()

    def take(future: Future[Outcome]) -> None:
        outcome = future.result()
        campaign.outcomes.append(outcome)
        on_outcome(campaign, outcome)

    try:
        with _signals_raise(), _processes(jobs) as pool:
            begun: deque[Future[Outcome]] = deque()
            for seed in _in_turn(seeds, minutes):
                begun.append(pool.submit(run_seed, terms, seed))
                if len(begun) > SEEDS_AHEAD * jobs:
                    take(begun.popleft())
            for future in begun:
                take(future)
    except Stopped as stopped:
        campaign.stopped_by = stopped.number
    campaign.elapsed_s = time.monotonic() - started
    campaign.cpu_s = _cpu_of_children() - cpu_before
    return campaign


def _in_turn(seeds: range, minutes: float | None) -> Iterator[int]:
    if minutes is None:
        yield from seeds
        return
    end = time.monotonic() + 60 * minutes
    for seed in count(seeds.start):
        if time.monotonic() >= end:
            return
        yield seed


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool; seeds that nobody has begun are dropped at the end."""
    pool = ProcessPoolExecutor(jobs, initializer=_leave_signals_to_the_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals_to_the_parent() -> None:
    """A Ctrl-C reaches the whole group; who simulates finishes its seed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped`, once; after that they do what they did before."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        restore()
        raise Stopped(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
