"""Twins: the same honest code twice under one key, with a generated schedule of who hears whom."""

from typing import TYPE_CHECKING

from consensus.messages import Proposal
from testnet.simulation.adversaries import Adversary
from testnet.simulation.process import peek

if TYPE_CHECKING:
    from testnet.simulation.world import World


class Twins(Adversary):
    """The honest node twice under one key; a schedule decides who hears whom in which round."""

    def begin(self, world: "World") -> None:
        """Generate the schedule: for each round modulo its length, a split of all instances."""
        self.world = world
        names = [place.name for place in world.places]
        length = self.random.choice((3, 7, 20))
        self._splits = [self._split(names) for _ in range(length)]
        self._rounds = dict.fromkeys(names, 0)
        world.network.filter = self._passes

    def _split(self, names: list[str]) -> dict[str, int]:
        groups = self.random.choice((1, 2, 2, 3))
        return {name: self.random.randrange(groups) for name in names}

    def _passes(self, sender: str, to: str, frame: bytes) -> bool:
        message = peek(frame)
        round = getattr(message, "round", None)
        if isinstance(message, Proposal):
            round = message.block.round
        if round is None:
            round = self._rounds[sender]
        self._rounds[sender] = round
        split = self._splits[round % len(self._splits)]
        return split[sender] == split[to]
