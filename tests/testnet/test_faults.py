"""Faults by hand: what makes no sense is refused, and the status tells what is wrong on purpose."""

import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from testnet.cluster import Cluster, NodeProcess, NodeSpec
from testnet.errors import TestnetError
from testnet.faults import NODE_VERBS, cut_links, l1_fault, l1_states, link_states
from testnet.l1 import launch_l1
from testnet.links import Links
from testnet.table import describe_epochs

SLEEPING = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
async def testnet(tmp_path) -> AsyncIterator[SimpleNamespace]:
    """Four processes that sleep, and links that nobody uses."""
    specs = [NodeSpec(f"node-{at}", tmp_path / f"{at}", 1, 2) for at in range(4)]
    async with Cluster([NodeProcess(spec, lambda _: SLEEPING) for spec in specs]) as cluster:
        yield SimpleNamespace(cluster=cluster, links=Links.between([1, 2, 3, 4]))


async def test_a_node_is_paused_and_resumed_once(testnet):
    testnet.cluster.nodes[1].start()
    pause, resume = NODE_VERBS["pause"], NODE_VERBS["resume"]
    with pytest.raises(TestnetError, match="node-1 is not paused"):
        await resume(testnet, "1")
    assert await pause(testnet, "1") == "node-1 stands still"
    with pytest.raises(TestnetError, match="node-1 is paused already"):
        await pause(testnet, "1")
    assert await resume(testnet, "1") == "node-1 goes on"


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ([["0", "1"], ["1", "2"]], "node-1 cannot be in two groups"),
        ([["0", "node-0"], ["2"]], "node-0 cannot be in two groups"),
        ([["0", "1", "2", "3"]], "that cuts nothing"),
        ([["0"], ["7"]], "there is no node '7'"),
    ],
)
async def test_a_partition_that_is_none_cuts_nothing(testnet, groups, complaint):
    with pytest.raises(TestnetError, match=complaint):
        cut_links(testnet, {"fault": "partition", "groups": groups})
    assert link_states(testnet) == []


async def test_links_that_are_cut_or_slow_are_told_until_they_heal(testnet):
    assert link_states(testnet) == []
    said = cut_links(testnet, {"fault": "partition", "groups": [["0"]]})
    assert said == "cut: node-0 | node-1, node-2, node-3"
    cut_links(testnet, {"fault": "slow", "node": "3", "delay_ms": 200})
    cut_links(testnet, {"fault": "slow", "node": "2", "delay_ms": 0})
    assert link_states(testnet) == [
        "links    cut: node-0 | node-1, node-2, node-3",
        "links    slow, each way: node-3 200 ms",
    ]
    cut_links(testnet, {"fault": "heal"})
    assert link_states(testnet) == []


def test_a_member_that_does_not_answer_is_still_of_the_committee():
    nothing = dict.fromkeys(("epoch", "seat", "members", "contract_epoch", "pending_epoch"))
    rows = [{**nothing, "node": "node-0"}]
    rows += [
        {**nothing, "node": f"node-{at}", "epoch": 0, "seat": at, "members": 4} for at in (1, 2, 3)
    ]
    (line,) = describe_epochs(rows)
    assert line == "epoch    0: node-1, node-2, node-3 and 1 more of its 4 members"
    rows[0] |= {"epoch": 0, "seat": 0, "members": 4}
    assert describe_epochs(rows) == ["epoch    0: node-0, node-1, node-2, node-3"]


async def test_an_l1_refuses_in_a_sentence_and_its_stall_is_told(tmp_path):
    l1 = await launch_l1("embedded", tmp_path)
    try:
        with pytest.raises(TestnetError) as refused:
            await l1_fault(l1, {"fault": "reorg", "depth": 64})
        why = "a reorg of depth 64 would reach the finalized block"
        assert str(refused.value) == f"the L1 did not do that: {why}"
        assert l1_states(l1) == []
        await l1_fault(l1, {"fault": "stall"})
        assert l1_states(l1) == ["L1       stands still; let it go on with: testnet l1 resume"]
        await l1_fault(l1, {"fault": "resume"})
        assert l1_states(l1) == l1_states(None) == []
    finally:
        await l1.aclose()
