"""Many seeds on several processes, with a word on how far it is, until they or the time are over.

A signal ends it early, as often as it comes; what has been covered by then is not lost.
"""

import logging
import multiprocessing
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TypeVar

from testnet.interrupts import SIGNALS
from testnet.simulation.swarm import Outcome, draw_plan, run_plan

SEEDS_AHEAD = 8
"""Handed out for each process, so that none waits for another one's long run."""
POLL_S = 0.1
"""How soon a signal is seen."""

T = TypeVar("T")


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

    def take(outcome: Outcome) -> None:
        campaign.outcomes.append(outcome)
        on_outcome(campaign, outcome)

    campaign.stopped_by = run_all(partial(run_seed, terms), _in_turn(seeds, minutes), jobs, take)
    campaign.elapsed_s = time.monotonic() - started
    campaign.cpu_s = _cpu_of_children() - cpu_before
    return campaign


def run_all(
    function: Callable[[int], T], seeds: Iterable[int], jobs: int, take: Callable[[T], None]
) -> int | None:
    """Hand what `function` finds for each seed to `take`, in their order, from `jobs` processes.

    The signal that ended it early, if one did: what runs then is given up.
    """
    with _signals_noted() as noted, _processes(jobs, noted) as pool:
        for future in _begun(pool, function, seeds, SEEDS_AHEAD * jobs):
            while not noted and not future.done():
                wait([future], POLL_S)
            if noted:
                break
            take(future.result())
    return noted[0] if noted else None


def _begun(
    pool: ProcessPoolExecutor, function: Callable[[int], T], seeds: Iterable[int], ahead: int
) -> Iterator[Future[T]]:
    begun: deque[Future[T]] = deque()
    for seed in seeds:
        begun.append(pool.submit(function, seed))
        if len(begun) > ahead:
            yield begun.popleft()
    yield from begun


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
def _processes(jobs: int, noted: list[int]) -> Iterator[ProcessPoolExecutor]:
    """A pool; seeds that nobody has begun are dropped at the end, after a signal all of them."""
    pool = ProcessPoolExecutor(jobs, initializer=_prepare)
    try:
        yield pool
    finally:
        if noted:
            for process in multiprocessing.active_children():
                process.kill()
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """In a process that simulates: a Ctrl-C reaches the whole group, and is the parent's to handle.

    What nodes would log of the weather is not for this terminal.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Signals that ask to end are written down here, instead of what they did before.

    Nothing is raised: an exception in the middle of the pool's locks would hang it.
    """
    noted: list[int] = []
    before = {
        number: handler
        for number in SIGNALS
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, lambda number, _frame: noted.append(number))
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
