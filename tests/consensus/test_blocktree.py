"""Ancestry: chains above the committed head, what is missing in them, and what they ordered."""

import pytest

from consensus.blocktree import MAX_BLOCKS, BlockTree, Gap
from consensus.types import Block
from tests.consensus.harness import GENESIS, UNIX_MS, Script, digest_of

FOUR = Script(4)


def tree_of(*blocks: Block, window: int = 256) -> BlockTree:
    tree = BlockTree(GENESIS, (), window)
    for block in blocks:
        assert tree.add(block)
    return tree


def test_a_chain_is_oldest_first_and_empty_at_the_head() -> None:
    one, two, three = FOUR.chain(1, 2, 3)
    tree = tree_of(three, one, two)
    assert tree.chain(three.id) == [one, two, three]
    assert tree.chain(GENESIS.id) == []
    assert tree.chain(digest_of("unknown")) is None


def test_a_block_is_kept_once_and_only_above_the_head() -> None:
    (one,) = FOUR.chain(1)
    tree = tree_of(one)
    assert not tree.add(one)
    assert not tree.add(GENESIS)
    assert not tree.add(FOUR.block(5, height=0))


def test_C3_the_gap_is_the_nearest_missing_block() -> None:
    one, two, three = FOUR.chain(1, 2, 3)
    tree = tree_of(three)
    assert tree.gap(three.id) == Gap(two.id, 2)
    assert tree.gap(two.id) == Gap(two.id, None)
    assert tree.gap(two.id, 2) == Gap(two.id, 2)
    tree.add(one)
    tree.add(two)
    assert tree.gap(three.id) is None
    assert tree.gap(GENESIS.id) is None


def test_V5_a_gap_at_the_heads_height_is_a_fork_below_it() -> None:
    one, two = FOUR.chain(1, 2)
    fork = FOUR.block(9, FOUR.block(3, timestamp_ms=UNIX_MS + 9))
    tree = tree_of(one, two)
    tree.commit(two.id)
    assert not tree.add(fork)
    child = FOUR.block(10, fork)
    tree.add(child)
    found = tree.gap(child.id)
    assert found is not None
    assert found.height == tree.head.height


def test_C1_commit_moves_the_head_over_all_ancestors_in_order() -> None:
    blocks = FOUR.chain(1, 3, 4, 9)
    tree = tree_of(*reversed(blocks))
    assert tree.commit(blocks[2].id) == blocks[:3]
    assert tree.head == blocks[2]
    assert tree.commit(blocks[3].id) == blocks[3:]
    assert tree.commit(blocks[3].id) == []


def test_C3_a_commit_over_a_gap_is_a_mistake_of_ours() -> None:
    one, two = FOUR.chain(1, 2)
    with pytest.raises(AssertionError):
        tree_of(two).commit(two.id)
    wrong = FOUR.block(1, height=2)
    with pytest.raises(AssertionError):
        tree_of(wrong).commit(wrong.id)
    assert one.height == 1


def test_blocks_that_can_never_be_committed_are_forgotten() -> None:
    one, two, three = FOUR.chain(1, 2, 3)
    dead = FOUR.block(4, GENESIS, tc=FOUR.tc(3))
    child_of_dead = FOUR.block(5, dead)
    far = FOUR.block(9, FOUR.block(8, FOUR.block(7, three)))
    tree = tree_of(one, two, three, dead, child_of_dead, far)
    tree.commit(two.id)
    assert len(tree) == 2
    assert three.id in tree
    assert far.id in tree, "its ancestors may still turn out to stand on the head"


def test_Q3_the_tree_is_bounded_and_can_make_room() -> None:
    chain = FOUR.chain(1, 2)
    tree = tree_of(*chain)
    while tree.has_room():
        tree.add(FOUR.block(3, qc=FOUR.qc(chain[0]), timestamp_ms=len(tree), height=9))
    assert len(tree) == MAX_BLOCKS
    assert not tree.add(FOUR.block(4, chain[1]))
    tree.keep_only(chain[1].id)
    assert tree.chain(chain[1].id) == chain
    assert len(tree) == 2


def ordering(*heights_and_names: tuple[int, str]) -> list[Block]:
    """A chain in which blocks at these heights order a collection."""
    blocks: list[Block] = []
    parent = GENESIS
    named = dict(heights_and_names)
    for height in range(1, max(named) + 1):
        collections = [digest_of(named[height])] if height in named else []
        parent = FOUR.block(height, parent, collections, timestamp_ms=UNIX_MS + height)
        blocks.append(parent)
    return blocks


@pytest.mark.parametrize("committed", [0, 1, 3, 5])
@pytest.mark.parametrize(("height", "repeated"), [(6, True), (10, True), (11, False), (12, False)])
def test_V5_a_digest_may_return_after_the_window_whatever_is_committed(
    committed: int, height: int, repeated: bool
) -> None:
    """Members with different heads must agree: the window counts heights, not commits."""
    blocks = ordering((1, "a"), (height, "a"))
    tree = tree_of(*blocks[:-1], window=10)
    if committed:
        tree.commit(blocks[committed - 1].id)
    chain = tree.chain(blocks[-2].id)
    assert chain is not None
    assert tree.repeats(blocks[-1], chain) == repeated


def test_V5_a_digest_twice_in_a_block_is_a_repetition() -> None:
    name = digest_of("a")
    assert tree_of().repeats(FOUR.block(1, collections=[name, name]), [])
    assert not tree_of().repeats(FOUR.block(1, collections=[name]), [])


def test_V5_what_a_proposer_may_order_is_what_a_voter_accepts() -> None:
    blocks = ordering((1, "a"), (2, "b"), (12, "c"))
    tree = tree_of(*blocks, window=10)
    tree.commit(blocks[10].id)
    chain = tree.chain(blocks[-1].id)
    assert chain is not None
    taken = tree.ordered(chain)
    for name in ("a", "b", "c", "d"):
        block = FOUR.block(13, blocks[-1], [digest_of(name)])
        if digest_of(name) not in taken:
            assert not tree.repeats(block, chain)
    assert digest_of("c") in taken
    assert digest_of("a") not in taken


def test_V5_the_window_is_known_again_after_a_restart() -> None:
    blocks = ordering((1, "a"), (5, "b"))
    tree = BlockTree(blocks[-1], blocks, 10)
    assert digest_of("a") in tree.ordered([])
    assert digest_of("b") in tree.ordered([])


def test_Q3_old_digests_are_forgotten() -> None:
    blocks = ordering(*[(height, f"c{height}") for height in range(1, 101)])
    tree = BlockTree(GENESIS, (), 10)
    for block in blocks:
        tree.add(block)
        tree.commit(block.id)
    taken = tree.ordered([])
    known = [height for height in range(1, 101) if digest_of(f"c{height}") in taken]
    assert known == list(range(91, 101))
