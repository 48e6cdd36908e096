"""Stories of members that come, go, and change their keys."""

from typing import Final

from testnet.scenarios.expectations import (
    all_commit,
    all_posted,
    are_members,
    commits_between,
    follow,
    reach_epoch,
    vote_with_new_keys,
)
from testnet.scenarios.vocabulary import (
    LEADER,
    Crash,
    Heal,
    Join,
    L1Resumes,
    L1Stalls,
    Leave,
    Partition,
    Restart,
    Rotate,
    Scenario,
)

MEMBERS: Final = (
    Scenario("an operator joins under load")
    .submit(200, over=10_000)
    .at(2_000, Join(4))
    .expect(are_members(4, within=6_000))
    .at(9_000)
    .submit(40, over=1_000, to=4)
    .expect(all_commit(240, within=6_000)),
    Scenario("a member leaves under load")
    .submit(200, over=10_000)
    .at(2_000, Leave(3))
    .expect(follow(3, within=6_000))
    .at(9_000)
    .submit(40, over=1_000, to=3)
    .expect(all_commit(240, within=6_000)),
    Scenario("keys rotate under load")
    .submit(200, over=10_000)
    .at(2_000, Rotate(1))
    .expect(vote_with_new_keys(1, within=6_000))
    .at(5_000, Rotate(2))
    .expect(vote_with_new_keys(1, 2, within=8_000))
    .expect(all_commit(200, within=8_000)),
    Scenario("the L1 is down while a join waits, and ordering goes on")
    .submit(40, over=1_000)
    .at(2_000, Join(4), L1Stalls())
    .submit(100, over=5_000)
    .expect(commits_between(3_000, 6_000, nodes={0, 1, 2, 3}))
    .expect(all_commit(140, within=8_000))
    .at(10_000, L1Resumes())
    .submit(40, over=2_000)
    .expect(are_members(4, within=20_000))
    .expect(all_posted(180, within=30_000)),
    Scenario("a joiner that has the genesis and one peer catches up and votes")
    .submit(200, over=3_000)
    .at(4_000, Join(4, only_peer=2))
    .submit(100, over=5_000, to=(0, 1, 2, 3))
    .expect(are_members(4, within=8_000))
    .expect(all_commit(300, within=12_000)),
    Scenario("every founder is replaced", nodes=4)
    .submit(300, over=20_000)
    .at(1_000, Join(4), Join(5))
    .expect(are_members(4, 5, within=8_000))
    .at(6_000, Leave(0), Leave(1))
    .expect(follow(0, 1, within=8_000))
    .at(11_000, Join(6), Join(7))
    .expect(are_members(6, 7, within=8_000))
    .at(16_000, Leave(2), Leave(3))
    .expect(follow(0, 1, 2, 3, within=8_000))
    .expect(are_members(4, 5, 6, 7, within=8_000))
    .expect(all_commit(300, within=12_000)),
    Scenario("the leader is killed while an operator joins")
    .submit(200, over=10_000)
    .at(2_000, Join(4))
    .at(2_200, Crash(LEADER))
    .at(5_000, Restart(LEADER))
    .expect(are_members(0, 1, 2, 3, 4, within=12_000))
    .expect(all_commit(200, within=12_000)),
    Scenario("a member that is cut off while the committee changes comes back to the new one")
    .submit(200, over=10_000)
    .at(1_000, Partition({0, 1, 2}, {3}))
    .at(2_000, Leave(2))
    .expect(follow(2, within=12_000))
    .at(8_000, Heal())
    .expect(reach_epoch(1, within=8_000, nodes={0, 1, 2, 3}))
    .expect(all_commit(200, within=12_000)),
)
