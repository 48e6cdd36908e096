"""What faulty members leave on the disks of the others."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from consensus.messages import Proposal
from sequencer.history import Retention
from sequencer.store.schema import Table
from testnet.simulation.adversaries import Adversary
from testnet.simulation.place import Place
from testnet.simulation.process import AnyMessage
from testnet.simulation.world import Setup, World

FAULTY = 3


class UnvotableBlocks(Adversary):
    """Proposes the largest blocks there are, of collections that nobody has."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.said: dict[int, Proposal] = {}

    def say(self, place: Place, to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        if isinstance(message, Proposal) and self.leads(place, message):
            block = message.block
            if block.round not in self.said:
                unknown = tuple(self.random.randbytes(32) for _ in range(256))
                self.said[block.round] = self.proposal(place, replace(block, collections=unknown))
            return (self.said[block.round],)
        return (message,)


@pytest.mark.parametrize("keep", [None, 10])
def test_a_leader_that_nobody_votes_for_fills_no_disk(keep: int | None) -> None:
    leader = UnvotableBlocks(1)
    world = World(Setup(seed=5, byzantine={FAULTY: leader.make}))
    for place in world.places[:FAULTY]:
        place.node.ledger.retention = None if keep is None else Retention(keep)
    for second in range(60):
        world.submit(second % FAULTY, 1)
        world.run(1_000 * second)
    assert len(leader.said) > 10
    for member in world.honest:
        disk, height = world.places[member].disk, world.applied_height(member)
        blocks = [
            int.from_bytes(data[16:24], "big") for _, data in disk.range(Table.BLOCKS, b"", 999)
        ]
        assert height > 40
        assert sum(at <= height for at in blocks) == (keep or height)
        assert sum(at > height for at in blocks) <= 2
        assert len(disk.range(Table.UNCOMMITTED, b"", 999)) == len(blocks) - (keep or height)
