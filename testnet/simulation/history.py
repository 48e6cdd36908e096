"""A node that begins with a snapshot of another one's log, in the simulation."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consensus.committee import Committee
from consensus.rules import Rules
from sequencer import snapshot
from sequencer.genesis import L1Settings
from sequencer.history import Base
from sequencer.store.memory import MemoryStore

if TYPE_CHECKING:
    from testnet.simulation.place import Place
    from testnet.simulation.world import World


@dataclass(frozen=True)
class _Origin:
    """What stands for a genesis."""

    chain_id: bytes
    committee: Committee
    rules: Rules
    l1: L1Settings


def begin_with_snapshot(world: "World", place: "Place", source: "Place") -> Base:
    """Give a node that is down and has no data the log of another one; where it begins.

    Checkers are told of it what the node applies from there on.
    """
    setup = world.setup
    l1 = L1Settings(1, bytes(20), 0, data=setup.data)
    origin = _Origin(world.chain_id, world.committee, setup.rules, l1)
    file = io.BytesIO()
    snapshot.create(source.disk, world.chain_id, setup.rules, file)
    file.seek(0)
    place.disk = MemoryStore(world.chain_id)
    began = snapshot.load(file, place.disk, origin, world.crypto, 0)
    base = source.node.ledger.block(began.base.height)
    assert base is not None
    place.head = base
    return began.base
