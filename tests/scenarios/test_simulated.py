"""Every named scenario in virtual time, and expectations that fail when they should."""

import pytest

from testnet.scenarios.expectations import (
    all_commit,
    at_most_blocks,
    commits_between,
    exactly,
    no_commits_between,
    stops,
)
from testnet.scenarios.named import SCENARIOS
from testnet.scenarios.record import ScenarioFailed
from testnet.scenarios.simulated import run_simulated
from testnet.scenarios.vocabulary import (
    REAL,
    SIMULATED,
    Crash,
    Heal,
    Partition,
    Pause,
    Restart,
    Resume,
    Scenario,
    Wipe,
)

IN_VIRTUAL_TIME = [item for item in SCENARIOS.values() if SIMULATED in item.worlds]


@pytest.mark.parametrize("scenario", IN_VIRTUAL_TIME, ids=lambda scenario: scenario.name)
def test_named_scenario(scenario: Scenario) -> None:
    run_simulated(scenario)


def test_every_scenario_expects_something_and_has_a_world() -> None:
    assert len(SCENARIOS) >= 25
    assert all(item.expectations and item.worlds for item in SCENARIOS.values())
    assert sum(REAL in item.worlds for item in SCENARIOS.values()) >= 25


CUT = Scenario("cut in two").submit(60, over=3_000).at(1_000, Partition({0, 1}, {2, 3}))

WRONG = {
    "not 60 committed by 4000 ms": CUT.expect(all_commit(60, within=3_000)),
    "committed height": CUT.at(2_000, Heal()).expect(no_commits_between(1_500, 4_000)),
    "nothing waited": Scenario("idle").expect(no_commits_between(0, 1_000)),
    "committed nothing": CUT.expect(commits_between(1_500, 3_000)).at(5_000, Heal()),
    "blocks with nothing to do": Scenario("busy")
    .submit(50, over=2_000)
    .expect(at_most_blocks(1, 0, 2_000)),
    "50 in the log instead of 49": Scenario("one too many").submit(50).expect(exactly(49)),
    "did not stop by itself": Scenario("none stops").expect(stops(1, "full", within=500)),
    "not all was ordered everywhere": CUT.expect(no_commits_between(1_500, 3_000)),
    "has signed something and is wiped": Scenario("amnesia")
    .submit(5)
    .at(1_000, Crash(1), Wipe(1))
    .expect(all_commit(5, within=10)),
    "is wiped while it runs": Scenario("in flight").at(0, Wipe(1)).expect(exactly(0)),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_run_that_is_not_as_expected_fails_and_says_in_what(words: str) -> None:
    with pytest.raises(ScenarioFailed, match=words):
        run_simulated(WRONG[words])


def test_a_paused_node_hears_later_what_was_said_meanwhile_and_a_crashed_one_never() -> None:
    def commits_of_node_3(*actions: object) -> int:
        story = Scenario("absence").submit(30, over=2_000, to=(0, 1, 2))
        story = story.at(1_000, actions[0]).at(3_000, actions[1])  # type: ignore[arg-type]
        record = run_simulated(story.expect(all_commit(30, within=4_000)))
        assert not record.between(3, 1_000, 2_999)
        return len(record.between(3, 2_999, 3_000))

    assert commits_of_node_3(Pause(3), Resume(3)) > 0
    assert commits_of_node_3(Crash(3), Restart(3)) == 0


def test_a_scenario_reads_in_the_order_of_its_times_whatever_the_order_of_its_words() -> None:
    story = Scenario("back and forth").at(5_000, Heal()).at(2_000, Partition({0, 1}, {2, 3}))
    assert [at for at, _ in story.actions] == [2_000, 5_000]
    assert story.worlds == (SIMULATED, REAL)


def test_the_same_seed_gives_the_same_run() -> None:
    story = SCENARIOS["three messages in ten are lost"]
    first, again, other = (run_simulated(story, seed).commits for seed in (1, 1, 2))
    assert first == again != other
