"""Many seeds: which are run, and what is left of a run that is stopped."""

import os
import signal
import threading

import pytest

from testnet.simulation import campaign as module
from testnet.simulation.campaign import Campaign, Terms, run_campaign
from testnet.simulation.swarm import Outcome

SHORT = Terms(nodes=4, duration_ms=1_000)


def ignore(campaign: Campaign, outcome: Outcome) -> None:
    """Nobody is told."""


@pytest.mark.parametrize(("jobs", "ahead"), [(1, 1), (2, 1), (2, 8)])
def test_every_seed_is_run_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, jobs: int, ahead: int
) -> None:
    monkeypatch.setattr(module, "SEEDS_AHEAD", ahead)
    campaign = run_campaign(range(3, 8), SHORT, jobs, None, ignore)
    assert [outcome.seed for outcome in campaign.outcomes] == [3, 4, 5, 6, 7]
    assert campaign.broken == []
    assert campaign.stopped_by is None
    assert campaign.cpu_s > 0


def test_minutes_go_on_after_the_last_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1_000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(module._in_turn(range(5, 6), 0.5)) == [5, 6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_covered(number: signal.Signals) -> None:
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(number)

    def stop_at_the_second(campaign: Campaign, outcome: Outcome) -> None:
        if len(campaign.outcomes) == 2:
            os.kill(os.getpid(), number)

    campaign = run_campaign(range(10_000), SHORT, 1, None, stop_at_the_second)
    assert campaign.stopped_by == number
    assert 2 <= len(campaign.outcomes) < 100
    assert signal.getsignal(number) == before
