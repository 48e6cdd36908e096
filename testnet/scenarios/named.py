"""The scenarios, by name."""

from typing import Final

from net.simulated import Conditions
from testnet.scenarios.expectations import (
    all_commit,
    all_posted,
    at_most_blocks,
    commits_between,
    exactly,
    no_commits_between,
    stops,
)
from testnet.scenarios.members import MEMBERS
from testnet.scenarios.vocabulary import (
    LEADER,
    NEXT_LEADER,
    BeginWithSnapshot,
    ClockJump,
    Crash,
    CrashAll,
    DiskFreed,
    DiskFull,
    Heal,
    L1Resumes,
    L1Stalls,
    OneWay,
    Partition,
    Pause,
    Reconnect,
    Restart,
    Resume,
    Scenario,
    SlowLinks,
    Weather,
    Wipe,
)

HOUR_MS: Final = 3_600_000

CRASHES: Final = (
    Scenario("nothing goes wrong").submit(200, over=2_000).expect(all_commit(200, within=2_500)),
    Scenario("one node alone is its own committee", nodes=1)
    .submit(20, over=1_000)
    .expect(all_commit(20, within=1_500))
    .at(2_000, Crash(0))
    .at(2_500, Restart(0))
    .submit(20)
    .expect(all_commit(40, within=1_500)),
    Scenario("the leader crashes and comes back")
    .submit(60, over=4_000)
    .at(1_000, Crash(LEADER))
    .expect(all_commit(60, within=8_000))
    .at(5_000, Restart(LEADER))
    .expect(all_commit(60, within=4_000)),
    Scenario("the leader is killed under load")
    .submit(600, over=3_000)
    .at(1_000, Crash(LEADER))
    .expect(all_commit(600, within=10_000))
    .at(4_000, Restart(LEADER)),
    Scenario("one of four is dead and the others go on")
    .at(500, Crash(3))
    .submit(100, over=3_000)
    .expect(all_commit(100, within=8_000, nodes={0, 1, 2})),
    Scenario("two of seven are dead and the others go on", nodes=7)
    .at(500, Crash(2), Crash(5))
    .submit(100, over=3_000)
    .expect(all_commit(100, within=8_000)),
    Scenario("two leaders in a row are dead", nodes=7)
    .submit(20, over=400)
    .at(1_000, Crash(LEADER), Crash(NEXT_LEADER))
    .submit(20)
    .expect(all_commit(40, within=8_000))
    .at(9_000, Restart(LEADER), Restart(NEXT_LEADER))
    .expect(all_commit(40, within=3_000)),
    Scenario("two of four are too many, and enough when one comes back")
    .submit(40, over=500)
    .at(1_500, Crash(1), Crash(2))
    .submit(20, over=1_000, to=(0, 3))
    .expect(no_commits_between(2_000, 5_000))
    .at(5_000, Restart(1))
    .expect(all_commit(60, within=8_000, nodes={0, 1, 3}))
    .at(12_000, Restart(2))
    .expect(all_commit(60, within=4_000)),
    Scenario("all crash at once and start again")
    .submit(60, over=3_000)
    .at(1_500, CrashAll(500))
    .expect(all_commit(60, within=8_000)),
    Scenario("all crash at once, three times")
    .submit(60, over=5_000)
    .at(1_000, CrashAll(200))
    .at(2_500, CrashAll(200))
    .at(4_000, CrashAll(200))
    .expect(all_commit(60, within=12_000)),
    Scenario("one node is restarted again and again")
    .submit(100, over=6_000)
    .at(1_000, Crash(1))
    .at(1_300, Restart(1))
    .at(2_000, Crash(1))
    .at(2_300, Restart(1))
    .at(3_000, Crash(1))
    .at(3_300, Restart(1))
    .at(4_000, Crash(1))
    .at(4_300, Restart(1))
    .expect(all_commit(100, within=6_000)),
    Scenario("power fails at every point of the drain")
    .submit(100, over=10_000)
    .at(500, Crash(0, "before save", down_ms=300))
    .at(2_000, Crash(1, "after save", down_ms=300))
    .at(3_500, Crash(2, "send", down_ms=300))
    .at(5_000, Crash(3, "send", count=2, down_ms=300))
    .at(6_500, Crash(0, "torn save", down_ms=300))
    .at(8_000, Crash(1, "torn save kept", down_ms=300))
    .expect(all_commit(100, within=8_000)),
    Scenario("power fails everywhere in the middle of sending")
    .submit(60, over=3_000)
    .at(1_000, *[Crash(node, "send", count=2, down_ms=200) for node in range(4)])
    .at(2_000, *[Crash(node, "before save", down_ms=200) for node in range(4)])
    .expect(all_commit(60, within=12_000)),
)

PARTITIONS: Final = (
    Scenario("a partition heals")
    .submit(100, over=4_000)
    .at(2_000, Partition({0, 1}, {2, 3}))
    .expect(no_commits_between(2_500, 5_000))
    .at(5_000, Heal())
    .expect(all_commit(100, within=3_000)),
    Scenario("one node is cut off and the others go on")
    .submit(100, over=5_000)
    .at(1_000, Partition({0, 1, 2}, {3}))
    .expect(no_commits_between(1_500, 5_000, nodes={3}))
    .expect(commits_between(2_000, 5_000, nodes={0, 1, 2}))
    .at(6_000, Heal())
    .expect(all_commit(100, within=5_000)),
    Scenario("three of five are no quorum", nodes=5)
    .submit(60, over=3_000)
    .at(1_000, Partition({0, 1, 2}, {3, 4}))
    .expect(no_commits_between(1_500, 5_000))
    .at(5_000, Heal())
    .expect(all_commit(60, within=8_000)),
    Scenario("five of seven go on without the others", nodes=7)
    .submit(60, over=3_000)
    .at(1_000, Partition({0, 1, 2, 3, 4}, {5, 6}))
    .expect(commits_between(1_500, 5_000, nodes={0, 1, 2, 3, 4}))
    .at(6_000, Heal())
    .expect(all_commit(60, within=5_000)),
    Scenario("everybody is alone")
    .submit(40, over=2_000)
    .at(1_000, Partition({0}, {1}, {2}, {3}))
    .expect(no_commits_between(1_500, 6_000))
    .at(6_000, Heal())
    .expect(all_commit(40, within=10_000)),
    Scenario("a node is heard but hears nothing")
    .submit(60, over=3_000)
    .at(500, OneWay(0, 3), OneWay(1, 3), OneWay(2, 3))
    .expect(all_commit(60, within=8_000, nodes={0, 1, 2}))
    .at(10_000, Heal())
    .expect(all_commit(60, within=5_000)),
    Scenario("a node hears but is not heard")
    .at(500, OneWay(3, 0), OneWay(3, 1), OneWay(3, 2))
    .submit(60, over=3_000, to=(0, 1, 2))
    .expect(all_commit(60, within=8_000))
    .at(10_000, Heal())
    .expect(all_commit(60, within=5_000)),
    Scenario("a partition flaps")
    .submit(100, over=6_000)
    .at(1_000, Partition({0, 1}, {2, 3}))
    .at(1_700, Heal())
    .at(2_400, Partition({0, 2}, {1, 3}))
    .at(3_100, Heal())
    .at(3_800, Partition({0, 3}, {1, 2}))
    .at(4_500, Heal())
    .expect(all_commit(100, within=10_000)),
    Scenario("the partition moves and no quorum ever sees the same others")
    .submit(60, over=6_000)
    .at(1_000, Partition({0, 1, 2}, {3}))
    .at(2_500, Partition({1, 2, 3}, {0}))
    .at(4_000, Partition({2, 3, 0}, {1}))
    .at(5_500, Heal())
    .expect(all_commit(60, within=8_000)),
    Scenario("a collection reaches a minority and its author dies")
    .at(500, OneWay(0, 2), OneWay(0, 3))
    .submit(10, to=0)
    .at(900, Crash(0))
    .at(1_000, Heal())
    .expect(all_commit(10, within=8_000, nodes={1, 2, 3})),
)

LINKS: Final = (
    Scenario("one message in ten is lost")
    .at(0, Weather(Conditions(loss=0.1)))
    .submit(100, over=5_000)
    .expect(all_commit(100, within=10_000)),
    Scenario("three messages in ten are lost")
    .at(0, Weather(Conditions(loss=0.3)))
    .submit(100, over=5_000)
    .expect(all_commit(100, within=20_000)),
    Scenario("messages arrive twice and in any order")
    .at(0, Weather(Conditions(1, 50, duplication=0.3, reordering=0.5)))
    .submit(100, over=5_000)
    .expect(all_commit(100, within=10_000)),
    Scenario("connections break and come back")
    .submit(100, over=3_000)
    .at(800, Reconnect(0, 1), Reconnect(2, 3))
    .at(1_200, Reconnect(0, 2), Reconnect(1, 3))
    .at(1_600, Reconnect(0, 3), Reconnect(1, 2))
    .expect(all_commit(100, within=6_000)),
    Scenario("one node is slow and the others do not wait for it")
    .at(500, SlowLinks(2, 300))
    .submit(100, over=4_000)
    .expect(commits_between(2_000, 4_000, nodes={0, 1, 3}))
    .expect(all_commit(100, within=8_000)),
    Scenario("everybody is slow")
    .at(500, *[SlowLinks(node, 150) for node in range(4)])
    .submit(60, over=3_000)
    .expect(all_commit(60, within=10_000)),
)

LATECOMERS: Final = (
    Scenario("a paused node comes back")
    .submit(100, over=5_000)
    .at(1_000, Pause(2))
    .expect(commits_between(2_000, 5_000, nodes={0, 1, 3}))
    .at(6_000, Resume(2))
    .expect(all_commit(100, within=5_000)),
    Scenario("the leader is paused in the middle of its round")
    .submit(60, over=3_000)
    .at(1_000, Pause(LEADER))
    .at(5_000, Resume(LEADER))
    .expect(all_commit(60, within=6_000)),
    Scenario("two of four are paused, and nothing is lost")
    .submit(60, over=4_000)
    .at(1_000, Pause(0), Pause(1))
    .expect(no_commits_between(1_500, 4_500))
    .at(4_500, Resume(0), Resume(1))
    .expect(all_commit(60, within=8_000)),
    Scenario("a node far behind catches up while the cluster moves")
    .submit(40, over=400)
    .at(1_000, Crash(3))
    .submit(600, over=12_000, to=(0, 1, 2))
    .at(10_000, Restart(3))
    .expect(all_commit(640, within=8_000)),
    Scenario("a node far behind catches up while the cluster stands still")
    .at(500, Crash(3))
    .submit(300, over=4_000, to=(0, 1, 2))
    .at(6_000, Restart(3))
    .expect(all_commit(300, within=4_000)),
    Scenario("a node behind makes the missing third of a stalled quorum")
    .at(500, Crash(3))
    .submit(100, over=2_000, to=(0, 1, 2))
    .at(3_500, Crash(2))
    .submit(20, to=(0, 1))
    .expect(no_commits_between(4_000, 6_000))
    .at(6_000, Restart(3))
    .expect(all_commit(120, within=10_000, nodes={0, 1, 3})),
    Scenario("a fresh node with only the genesis catches up")
    .at(0, Crash(3), Wipe(3))
    .submit(200, over=3_000, to=(0, 1, 2))
    .at(5_000, Restart(3))
    .expect(all_commit(200, within=5_000))
    .at(10_000)
    .submit(20, to=3)
    .expect(all_commit(220, within=4_000)),
    Scenario("a fresh node begins with a snapshot")
    .at(0, Crash(3), Wipe(3))
    .submit(200, over=3_000, to=(0, 1, 2))
    .at(5_000, BeginWithSnapshot(3, source=1), Restart(3))
    .expect(all_commit(200, within=5_000))
    .at(10_000)
    .submit(20, to=3)
    .expect(all_commit(220, within=4_000)),
)

CLIENTS: Final = (
    Scenario("what is sent to two nodes counts once")
    .submit(50, over=1_000, to=(0, 2), everywhere=True)
    .expect(all_commit(50, within=4_000))
    .at(6_000)
    .expect(exactly(50)),
    Scenario("what is sent to all nodes counts once, also when one crashes")
    .submit(50, over=2_000, to=(0, 1, 2, 3), everywhere=True)
    .at(1_000, Crash(1))
    .at(3_000, Restart(1))
    .expect(all_commit(50, within=5_000), exactly(50)),
    Scenario("an idle cluster stays idle and wakes promptly")
    .expect(at_most_blocks(4, 0, 25_000))
    .at(25_000)
    .submit(1)
    .expect(all_commit(1, within=200)),
    Scenario("one client keeps one node busy")
    .submit(400, over=2_000, to=1)
    .expect(all_commit(400, within=4_000)),
)

MACHINES: Final = (
    Scenario("a full disk stops that node, says so, and the others go on")
    .submit(20, over=500)
    .at(1_500, DiskFull(1))
    .submit(400, over=4_000, to=(0, 2, 3))
    .expect(stops(1, "no room left", within=5_000))
    .expect(all_commit(420, within=8_000, nodes={0, 2, 3}))
    .at(12_000, DiskFreed(1), Restart(1))
    .expect(all_commit(420, within=5_000)),
    Scenario("the clock of one node is an hour ahead")
    .at(500, ClockJump(1, HOUR_MS))
    .submit(100, over=5_000)
    .expect(all_commit(100, within=12_000)),
    Scenario("the clock of one node is an hour behind")
    .at(500, ClockJump(2, -HOUR_MS))
    .submit(100, over=5_000)
    .expect(all_commit(100, within=12_000)),
    Scenario("a clock jumps ahead and back")
    .submit(100, over=6_000)
    .at(1_000, ClockJump(0, HOUR_MS))
    .at(3_000, ClockJump(0, -HOUR_MS))
    .expect(all_commit(100, within=10_000)),
    Scenario("the L1 is down and ordering goes on")
    .submit(40, over=1_000)
    .at(2_000, L1Stalls())
    .submit(60, over=4_000)
    .expect(commits_between(3_000, 6_000))
    .at(8_000, L1Resumes())
    .expect(all_posted(100, within=20_000)),
)

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (*CRASHES, *PARTITIONS, *LINKS, *LATECOMERS, *CLIENTS, *MACHINES, *MEMBERS)
}
