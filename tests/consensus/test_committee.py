"""Quorums that always meet in an honest member, and leaders that everybody agrees on."""

from itertools import combinations

import pytest

from consensus.committee import Committee, Member
from consensus.errors import InvalidConfiguration
from consensus.rules import Rules
from tests.consensus.harness import committee_of


@pytest.mark.parametrize(
    ("size", "quorum", "echo"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2), (5, 4, 2), (6, 5, 2), (7, 5, 3), (10, 7, 4)],
)
def test_the_quorum_of_equal_members(size: int, quorum: int, echo: int) -> None:
    committee = committee_of(size)
    assert (committee.quorum_weight, committee.echo_weight) == (quorum, echo)


@pytest.mark.parametrize("weights", [(1,) * 4, (1,) * 5, (1,) * 8, (1, 2, 3, 4), (5, 1, 1, 1, 1)])
def test_two_quorums_meet_in_more_weight_than_may_be_faulty(weights: tuple[int, ...]) -> None:
    committee = committee_of(len(weights), weights)
    faulty = (committee.total_weight - 1) // 3
    members = range(committee.size)
    quorums = [
        set(chosen)
        for count in range(1, committee.size + 1)
        for chosen in combinations(members, count)
        if committee.is_quorum(chosen)
    ]
    for left, right in combinations(quorums, 2):
        assert committee.weight(sorted(left & right)) > faulty


@pytest.mark.parametrize("weights", [(1,) * 4, (1,) * 5, (1, 2, 3, 4)])
def test_the_echo_weight_holds_an_honest_member_and_is_reached_without_the_faulty(
    weights: tuple[int, ...],
) -> None:
    committee = committee_of(len(weights), weights)
    faulty = (committee.total_weight - 1) // 3
    assert faulty < committee.echo_weight <= committee.total_weight - faulty


def test_Ld1_equal_members_lead_in_turn() -> None:
    committee = committee_of(4)
    assert [committee.leader(round) for round in range(1, 9)] == [1, 2, 3, 0, 1, 2, 3, 0]


def test_Ld1_members_lead_by_weight_and_nobody_is_left_out() -> None:
    committee = committee_of(4, (1, 2, 3, 4))
    leaders = [committee.leader(round) for round in range(10)]
    assert [leaders.count(member) for member in range(4)] == [1, 2, 3, 4]
    assert leaders == [committee.leader(round + 10) for round in range(10)]


def test_Ld1_a_heavy_member_does_not_lead_in_one_long_run() -> None:
    committee = committee_of(4, (7, 1, 1, 1))
    leaders = [committee.leader(round) for round in range(20)]
    runs = "".join("h" if leader == 0 else "l" for leader in leaders)
    assert "hhhhh" not in runs


def test_Ld1_huge_weights_make_a_short_schedule() -> None:
    committee = committee_of(3, (2**32, 2**31, 1))
    leaders = [committee.leader(round) for round in range(2_000)]
    assert {0, 1, 2} == set(leaders)
    assert abs(leaders.count(0) - 2 * leaders.count(1)) < 20


@pytest.mark.parametrize(
    "weights",
    [
        (1,) * 128,
        (2**32,) + (1,) * 127,
        tuple(2**32 >> index // 4 for index in range(128)),
        (1_856,) * 3 + (2, 5, 9, 14, 20, 27, 35, 44, 55),
    ],
)
def test_Ld1_everybody_leads_within_the_default_window(weights: tuple[int, ...]) -> None:
    committee = committee_of(len(weights), weights)
    assert committee.leader_cycle <= Rules().digest_window_heights
    leaders = {committee.leader(round) for round in range(committee.leader_cycle)}
    assert leaders == set(range(len(weights)))


def test_Ld1_a_committee_that_nobody_believed_yet_costs_no_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consensus.committee._leader_schedule", lambda weights: 1 / 0)
    shown = committee_of(4, (2**32, 1, 1, 1))
    with pytest.raises(ZeroDivisionError):
        shown.leader(1)


def test_Ld1_the_leader_depends_on_committee_and_round_alone() -> None:
    assert all(committee_of(7).leader(r) == committee_of(7).leader(r) for r in range(100))


@pytest.mark.parametrize("weight", [0, -1, 2**32 + 1])
def test_a_weight_out_of_range_is_refused(weight: int) -> None:
    with pytest.raises(InvalidConfiguration, match="weight"):
        Committee(0, (Member(b"i", b"k", weight),))


def test_an_empty_committee_or_shared_keys_are_refused() -> None:
    with pytest.raises(InvalidConfiguration):
        Committee(0, ())
    with pytest.raises(InvalidConfiguration, match="bls_key"):
        Committee(0, (Member(b"i", b"k"), Member(b"j", b"k")))
    with pytest.raises(InvalidConfiguration, match="identity"):
        Committee(0, (Member(b"i", b"k"), Member(b"i", b"l")))


def test_the_digest_covers_epoch_keys_order_and_weights() -> None:
    a, b = Member(b"i", b"k"), Member(b"j", b"l")
    digests = {
        Committee(0, (a, b)).digest,
        Committee(1, (a, b)).digest,
        Committee(0, (b, a)).digest,
        Committee(0, (a, Member(b"j", b"l", 2))).digest,
        Committee(0, (a,)).digest,
    }
    assert len(digests) == 5
