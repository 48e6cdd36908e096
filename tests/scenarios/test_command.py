"""`testnet scenario`: stories are told, played, and a failure is one sentence and exit code 1."""

import pytest
from click.testing import CliRunner

from testnet.cli import commands
from testnet.errors import TestnetError
from testnet.scenarios import named
from testnet.scenarios.expectations import exactly
from testnet.scenarios.telling import describe
from testnet.scenarios.vocabulary import Scenario


def scenario(*arguments: str) -> str:
    result = CliRunner().invoke(commands, ["scenario", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_list_tells_every_story_and_where_it_runs() -> None:
    lines = scenario("--list").splitlines()
    assert [line.split("  (")[0] for line in lines] == list(named.SCENARIOS)
    assert "the L1 is down and ordering goes on  (n = 4; real)" in lines


def test_a_named_story_is_told_step_by_step() -> None:
    told = scenario("a partition heals", "--list")
    assert "2000 ms  partition: nodes 0, 1 | nodes 2, 3" in told
    assert "2000 ms  expected: every node commits nothing from 2,500 to 5,000 ms" in told
    assert len(told.splitlines()) == 6


def test_every_step_of_every_story_is_a_sentence() -> None:
    for story in named.SCENARIOS.values():
        for line in describe(story):
            assert not set("<>{}=()_") & set(line), line


def test_a_name_plays_that_story_alone_and_a_part_of_a_name_all_that_hold_it() -> None:
    assert "1 of 1 scenarios were as expected" in scenario("a partition heals")
    assert "2 of 2 scenarios were as expected" in scenario("two leaders", "everybody is alone")


def test_what_is_unknown_or_plays_elsewhere_is_said() -> None:
    for name, complaint in (
        ("nonsense", "no scenario 'nonsense'"),
        ("the L1 is down and ordering goes on", "runs real only"),
    ):
        result = CliRunner().invoke(commands, ["scenario", name])
        assert result.exit_code == 2
        assert complaint in result.output


def test_a_story_that_goes_wrong_fails_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Scenario("too few").submit(5).expect(exactly(6))
    monkeypatch.setitem(named.SCENARIOS, "too few", wrong)
    with pytest.raises(TestnetError, match="not as expected: too few"):
        scenario("too few", "everybody is alone")
