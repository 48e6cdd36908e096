"""`testnet scenario`."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from rich.console import Console

from testnet import interrupts
from testnet.cli import options
from testnet.errors import TestnetError

if TYPE_CHECKING:
    from testnet.scenarios.vocabulary import Scenario


@click.command("scenario")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--real", is_flag=True, help="On real processes instead of in virtual time.")
@click.option("--list", "show", is_flag=True, help="Only tell the stories, and where they run.")
@options.seed
def scenario_command(names: tuple[str, ...], real: bool, show: bool, seed: int) -> None:
    """Play named scenarios: what happens to a cluster, and what is expected of it.

    A name stands for every scenario that contains it; without one, all are played. The same
    stories run in virtual time, under the checkers of the simulation, and with --real on
    processes, sockets and disks of this machine, one cluster after the other.

    \b
    Example:  testnet scenario "a partition heals" --real
              testnet scenario --list
    """
    from testnet.scenarios.vocabulary import REAL, SIMULATED

    chosen = _choose(names)
    if show:
        _tell(chosen, verbose=bool(names))
        return
    world = REAL if real else SIMULATED
    here = [story for story in chosen if world in story.worlds]
    if not here:
        raise click.UsageError(f"{chosen[0].name!r} runs {chosen[0].worlds[0]} only")
    play = _play_real if real else _play_simulated
    failed = [story.name for story in here if not _play(story, play, seed)]
    print(f"{len(here) - len(failed)} of {len(here)} scenarios were as expected")
    if failed:
        raise TestnetError(f"not as expected: {', '.join(failed)}")


def _choose(names: tuple[str, ...]) -> "list[Scenario]":
    from testnet.scenarios.named import SCENARIOS

    if "" in names:
        raise click.UsageError("an empty name stands for no scenario; leave it out to play all")
    chosen = [
        story
        for title, story in SCENARIOS.items()
        if not names or title in names or any(name in title for name in names)
    ]
    exact = [story for story in chosen if story.name in names]
    if not chosen:
        known = "look at them with: testnet scenario --list"
        raise click.UsageError(f"there is no scenario {names[0]!r}; {known}")
    return exact if len(exact) == len(names) and names else chosen


def _tell(stories: "list[Scenario]", verbose: bool) -> None:
    from testnet.scenarios.telling import describe

    for story in stories:
        print(f"{story.name}  (n = {story.nodes}; {', '.join(story.worlds)})")
        for line in describe(story) if verbose else ():
            print(f"  {line}")


def _play(story: "Scenario", play: "Callable[[Scenario, int], None]", seed: int) -> bool:
    from testnet.scenarios.record import ScenarioFailed

    began = time.monotonic()
    try:
        play(story, seed)
    except (ScenarioFailed, TestnetError) as failure:
        print(f"FAILED  {story.name}: {failure}")
        return False
    print(f"ok {time.monotonic() - began:6.1f} s  {story.name}")
    return True


def _play_simulated(story: "Scenario", seed: int) -> None:
    from testnet.scenarios.simulated import run_simulated

    run_simulated(story, seed)


def _play_real(story: "Scenario", seed: int) -> None:
    from testnet.report import Progress
    from testnet.scenarios.real import run_real

    console = Console()
    with options.workplace(None, console) as place:
        interrupts.run(run_real(story, place, Progress(console), seed))
