"""A leader that names far more than a block may order, and hands all of it out (Q3).

Nobody votes for its blocks. What they name is fetched all the same as long as they may be voted
for, whatever its author's quota: so it tries to fill the others' memories and disks.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from consensus.messages import Proposal, Timeout
from consensus.rules import Rules
from consensus.types import Block
from sequencer.collection import Collection
from sequencer.messages import CollectionData
from testnet.simulation.adversaries import Adversary
from testnet.simulation.process import AnyMessage

if TYPE_CHECKING:
    from testnet.simulation.place import Place

NAMED = 96
EACH_BYTES = 1_000
BLOCKS_WORTH = 8
"""How much more it names than a block may order."""
SPACE = 999
"""Where its transactions belong: to no rollup."""


def narrow(rules: Rules) -> Rules:
    """Rules under which a simulated leader can name more than a block may order."""
    return replace(
        rules,
        max_block_collections=256,
        max_block_bytes=NAMED * EACH_BYTES // BLOCKS_WORTH,
        max_collection_bytes=2 * EACH_BYTES,
        max_transaction_bytes=EACH_BYTES,
    )


class Stuffer(Adversary):
    """Each of its blocks names junk that it gives to everybody, or what is nowhere."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._proposal: Proposal | None = None
        self._junk: list[Collection] = []

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """Its proposal names junk, which comes with it and with what it says next."""
        if isinstance(message, Timeout):
            return (message, *(CollectionData(each.data) for each in self._junk))
        if not isinstance(message, Proposal) or not self.leads(place, message):
            return (message,)
        if self._proposal is None or self._proposal.block.round != message.block.round:
            self._proposal = self._stuffed(place, message.block)
        return (self._proposal, *(CollectionData(each.data) for each in self._junk))

    def _stuffed(self, place: "Place", block: Block) -> Proposal:
        self._junk = []
        names = [self.random.randbytes(32) for _ in range(NAMED)]
        if self.random.random() < 0.5:
            self._junk = [self._collection(block.round, number) for number in range(NAMED)]
            names = [each.digest for each in self._junk]
        return self.proposal(place, replace(block, collections=tuple(names)))

    def _collection(self, round: int, number: int) -> Collection:
        data = b"%d %d " % (round, number)
        return Collection.seal([(SPACE, data + bytes(EACH_BYTES - 100))])
