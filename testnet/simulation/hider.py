"""The adversary that random faults and Twins cannot replace: it hides what it knows.

All faulty members share one memory of every vote, timeout and certificate they ever heard. They
keep their own votes secret and so hold certificates that nobody else has; propose late, when
some have timed out already, to just enough members for a quorum with their own votes; build TCs
from the lowest QCs that were named; and show each certificate to whom and when it hurts. What is
drawn per run is how often they do which, so that a seed is one style of hiding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consensus.committee import Committee
from consensus.epochs import root_qc
from consensus.errors import InvalidMessage
from consensus.interface import Instant
from consensus.messages import (
    BlockReply,
    BlockRequest,
    Certificates,
    Message,
    Proposal,
    SyncReply,
    Timeout,
    Vote,
    epoch_of,
)
from consensus.types import (
    Block,
    QuorumCertificate,
    TimeoutCertificate,
    bitmap_of,
    genesis_block,
    genesis_qc,
)
from net.simulated import SimulatedTransport
from net.transport import Channel, Frame, NetworkEvent
from sequencer.collection import Collection
from sequencer.messages import CollectionData
from testnet.simulation.adversaries import Adversary
from testnet.simulation.process import decode_once

if TYPE_CHECKING:
    from testnet.simulation.place import Place

MEMORY_ROUNDS = 40


@dataclass(slots=True)
class Knowledge:
    """Everything the faulty members heard in the present epoch, by round."""

    epoch: int = 0
    root_round: int = 0
    blocks: dict[bytes, Block] = field(default_factory=dict)
    qcs: dict[int, QuorumCertificate] = field(default_factory=dict)
    tcs: dict[int, TimeoutCertificate] = field(default_factory=dict)
    votes: dict[int, dict[bytes, dict[int, bytes]]] = field(default_factory=dict)
    timeouts: dict[int, dict[int, Timeout]] = field(default_factory=dict)
    collections: list[bytes] = field(default_factory=list)

    @property
    def frontier(self) -> int:
        """The newest round that a known certificate opens."""
        return 1 + max([self.root_round, *self.qcs, *self.tcs])

    @property
    def lowest(self) -> QuorumCertificate:
        """The certificate that everybody has."""
        return self.qcs[self.root_round]

    def forget(self) -> None:
        """Keep the last rounds only."""
        oldest = self.frontier - MEMORY_ROUNDS
        for table in (self.qcs, self.tcs, self.votes, self.timeouts):
            for round in [known for known in table if self.root_round < known < oldest]:
                del table[round]
        del self.collections[:-8]


class Hider(Adversary):
    """The shared mind of the faulty members."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        draw = self.random.random
        self.known = Knowledge()
        self.tick_ms = self.random.choice((5, 20, 60))
        self._lateness = self.random.choice((0.0, 0.5, 1.0))
        self._release = draw() * 0.3
        self._openness = draw() * 0.5
        self._illegal = self.random.choice((0.0, 0.2, 0.5))
        self._pressure = draw()
        self._proposed: dict[int, int] = {}
        self._late: dict[int, bool] = {}
        self._said: set[tuple[object, ...]] = set()

    def make(self, place: "Place", transport: SimulatedTransport) -> "HiderProcess":
        """No node at all."""
        self.world = place.world
        chain_id = place.world.chain_id
        genesis = genesis_block(chain_id)
        self.known.blocks.setdefault(genesis.id, genesis)
        self.known.qcs.setdefault(0, genesis_qc(chain_id))
        return HiderProcess(self, place, transport)

    # hearing

    def learn(self, message: object) -> None:
        """Remember what an honest member said; of epochs, the newest."""
        if not self._is_of_my_epoch(message):
            return
        known = self.known
        match message:
            case Proposal(block=block):
                self._learn_block(block)
            case Vote():
                voters = known.votes.setdefault(message.round, {})
                voters.setdefault(message.block_id, {})[message.voter] = message.signature
                self._try_qc(message.epoch, message.round, message.block_id)
            case Timeout():
                known.timeouts.setdefault(message.round, {})[message.voter] = message
                self.learn(message.certificates)
                self._try_tc(message.epoch, message.round)
            case Certificates():
                known.qcs.setdefault(message.high_qc.round, message.high_qc)
                if message.high_tc is not None:
                    known.tcs.setdefault(message.high_tc.round, message.high_tc)
            case BlockReply(blocks=blocks) | SyncReply(blocks=blocks):
                for block in blocks:
                    self._learn_block(block)
            case CollectionData(data=data):
                assert self.world is not None
                digest = Collection.decode(data, self.world.setup.rules).digest
                known.collections.append(digest)
        known.forget()

    def _is_of_my_epoch(self, message: object) -> bool:
        epoch = epoch_of(message) if isinstance(message, Message) else None
        assert self.world is not None
        finality, before = self.world.protocol.finality, self.known
        if epoch is None or epoch == before.epoch:
            return True
        last = finality.blocks.get(finality.ended.get(epoch - 1, b""))
        if epoch < before.epoch or last is None:
            return False
        blocks = {**before.blocks, last.id: last}
        root = root_qc(epoch, last)
        self.known = Knowledge(epoch, last.round, blocks, {last.round: root})
        return True

    def _learn_block(self, block: Block) -> None:
        self.known.blocks[block.id] = block
        if block.epoch != self.known.epoch:
            return
        self.known.qcs.setdefault(block.qc.round, block.qc)
        if block.tc is not None:
            self.known.tcs.setdefault(block.tc.round, block.tc)

    def _faulty(self) -> "list[Place]":
        assert self.world is not None
        members = self.world.registry.members(self.known.epoch)
        return [self.world.places[member] for member in members if member not in self._honest()]

    def _honest(self) -> list[int]:
        """The places of the honest members of this epoch."""
        assert self.world is not None
        members = self.world.registry.members(self.known.epoch)
        return [place for place in members if place in self.world.honest]

    @property
    def _committee(self) -> Committee:
        assert self.world is not None
        return self.world.registry.committees[self.known.epoch]

    def _try_qc(self, epoch: int, round: int, block_id: bytes) -> None:
        """A QC from the honest votes and as many secret ones of ours as it takes."""
        assert self.world is not None
        block = self.known.blocks.get(block_id)
        if block is None or round in self.known.qcs:
            return
        signatures = dict(self.known.votes.get(round, {}).get(block_id, {}))
        for place in self._faulty():
            signatures[self.seat(place, epoch)] = self.vote(place, block).signature
        voters = sorted(signatures)
        if not self._committee.is_quorum(voters):
            return
        combined = self.world.crypto.aggregate([signatures[voter] for voter in voters])
        assert combined is not None
        bitmap = bitmap_of(voters, self._committee.size)
        self.known.qcs[round] = QuorumCertificate(epoch, round, block_id, bitmap, combined)

    def _try_tc(self, epoch: int, round: int) -> None:
        """The TC that names the lowest QCs it can."""
        assert self.world is not None
        honest = self.known.timeouts.get(round, {})
        lowest = sorted(honest.values(), key=lambda timeout: (timeout.high_qc_round, timeout.voter))
        chosen = {
            self.seat(place, epoch): self.timeout(place, round, self.known.lowest, None)
            for place in self._faulty()
        }
        for timeout in lowest:
            if self._committee.is_quorum(chosen):
                break
            chosen[timeout.voter] = timeout
        if not self._committee.is_quorum(chosen):
            return
        highest = max(chosen.values(), key=lambda timeout: timeout.high_qc_round)
        known = self.known.tcs.get(round)
        if known is not None and known.high_qc_round <= highest.high_qc_round:
            return
        combined = self.world.crypto.aggregate(
            [chosen[voter].signature for voter in sorted(chosen)]
        )
        assert combined is not None
        named = tuple((voter, chosen[voter].high_qc_round) for voter in sorted(chosen))
        high_qc = highest.certificates.high_qc
        if self.random.random() < self._illegal / 4:
            high_qc = self.known.lowest
        self.known.tcs[round] = TimeoutCertificate(epoch, round, named, combined, high_qc)

    # acting

    def act(self, place: "Place", say: Callable[[int, Message], None], now: Instant) -> None:
        """One faulty member does something, or nothing."""
        frontier = self.known.frontier
        for round in range(max(1, frontier - 2), frontier + 1):
            if self._committee.leader(round) == self.seat(place, self.known.epoch):
                self._lead(place, say, round, now)
            self._hinder(place, say, round)
        if self.random.random() < self._release:
            self._show(place, say)

    def _once(self, chance: float, *what: object) -> bool:
        """True at most once for each thing, and for only so many of them."""
        if what in self._said:
            return False
        if self.random.random() >= 0.1:
            return False
        self._said.add(what)
        return self.random.random() < chance

    def _lead(
        self, place: "Place", say: Callable[[int, Message], None], round: int, now: Instant
    ) -> None:
        late = self._late.setdefault(round, self.random.random() < self._lateness)
        epoch, committee = self.known.epoch, self._committee
        honest = [place.world.registry.seat(member, epoch) or 0 for member in self._honest()]
        gone = self.known.timeouts.get(round, {})
        ours = [self.seat(faulty, epoch) for faulty in self._faulty()]
        if late and not committee.is_quorum({*gone, *ours}):
            return
        if self._proposed.get(round, 0) >= 2 or self.random.random() < 0.5:
            return
        block = self._block(place, round, now)
        if block is None:
            return
        self._proposed[round] = self._proposed.get(round, 0) + 1
        fresh = [member for member in honest if member not in gone]
        stale = [member for member in honest if member in gone]
        self.random.shuffle(fresh)
        self.random.shuffle(stale)
        chosen: list[int] = []
        while not committee.is_quorum([*chosen, *ours]):
            chosen.append((fresh + stale)[len(chosen)])
        if self.random.random() < self._openness:
            chosen = honest
        self.known.blocks[block.id] = block
        members = place.world.registry.members(epoch)
        for seat in chosen:
            say(members[seat], self.proposal(place, block))

    def _block(self, place: "Place", round: int, now: Instant) -> Block | None:
        known = self.known
        tc = known.tcs.get(round - 1)
        direct = known.qcs.get(round - 1)
        if direct is not None and (tc is None or self.random.random() < 0.5):
            qc, tc = direct, None
        elif tc is not None:
            floor = 0 if self.random.random() < self._illegal else tc.high_qc_round
            usable = [at for at in known.qcs if floor <= at < round]
            if not usable:
                return None
            near_the_tip = sorted(usable)[-3:]
            qc = known.qcs[self.random.choice((min(usable), *near_the_tip))]
        else:
            return None
        parent = known.blocks.get(qc.block_id)
        if parent is None:
            return None
        collections = tuple(dict.fromkeys(known.collections[-self.random.choice((1, 3)) :]))
        return Block(
            qc.epoch,
            round,
            parent.height + 1,
            parent.id,
            qc,
            tc,
            collections if self.random.random() < 0.3 else (),
            b"",
            max(now.unix_ms, parent.timestamp_ms + 1),
            self.seat(place, qc.epoch),
        )

    def _hinder(self, place: "Place", say: Callable[[int, Message], None], round: int) -> None:
        """Low timeouts to some, votes and commit votes to few."""
        known = self.known
        if known.timeouts.get(round) and self._once(self._pressure, place.index, round, "timeout"):
            for member in self._some(place):
                say(member, self.timeout(place, round, known.lowest, known.tcs.get(round - 1)))
        for block_id in list(known.votes.get(round, ())):
            block = known.blocks.get(block_id)
            if block is None:
                continue
            if self._once(self._openness, place.index, block_id, "vote"):
                for member in self._some(place):
                    say(member, self.vote(place, block))
        qc = known.qcs.get(round)
        block = known.blocks.get(qc.block_id) if qc is not None else None
        if block is not None and self._once(self._openness, place.index, block.id, "commit"):
            for member in self._some(place):
                say(member, self.commit_vote(place, block))

    def _show(self, place: "Place", say: Callable[[int, Message], None]) -> None:
        """A certificate of the last rounds, to some."""
        known = self.known
        recent = [round for round in known.qcs if round >= known.frontier - 6]
        qc = known.qcs[self.random.choice(recent or [known.root_round])]
        timed_out = [round for round in known.tcs if round >= known.frontier - 4]
        tc = known.tcs[self.random.choice(timed_out)] if timed_out else None
        if tc is not None and self.random.random() < 0.5:
            tc = None
        for member in self._some(place):
            say(member, Certificates(qc, tc, None))

    def _some(self, place: "Place") -> list[int]:
        honest = self._honest()
        return self.random.sample(honest, self.random.randint(1, len(honest)))


class HiderProcess:
    """A faulty member's place: hears for the hider, speaks for it every few milliseconds."""

    def __init__(self, mind: Hider, place: "Place", transport: SimulatedTransport) -> None:
        self._mind = mind
        self._place = place
        self._transport = transport
        self._next = place.instant().monotonic_ms + mind.tick_ms

    @property
    def deadline(self) -> int | None:
        """When to act next."""
        return self._next

    def submit(self, transactions: object, now: Instant) -> None:
        """Clients are ignored."""

    def learn(self, committee: object, now: Instant) -> None:
        """The hider looks into the registry itself."""

    def hear(self, event: NetworkEvent, now: Instant) -> None:
        """Learn from it, and answer who asks for a block."""
        if not isinstance(event, Frame):
            return
        try:
            message = decode_once(event.payload)
        except InvalidMessage:
            return
        if isinstance(message, BlockRequest):
            block = self._mind.known.blocks.get(message.block_id)
            if block is not None and self._mind.random.random() < 0.5:
                self._say(int(event.sender), BlockReply((block,)))
            return
        self._mind.learn(message)

    def wake(self, now: Instant) -> None:
        """Act."""
        self._next = now.monotonic_ms + self._mind.tick_ms
        self._mind.act(self._place, self._say, now)

    def _say(self, to: int, message: Message) -> None:
        self._transport.send(self._place.world.peers[to], Channel.CONTROL, message.encode())
