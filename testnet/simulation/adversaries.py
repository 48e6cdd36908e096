"""Members that lie, a small class each around an honest node.

The node at a faulty member's place is the production one; its adversary stands between it and the
network and turns each message to each member into what is sent instead. All faulty members of a
run share one adversary, so they collude. `hider` holds the one that is no node at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from consensus.messages import Certificates, CommitVote, Proposal, Timeout, Vote
from consensus.types import Block, CommitCertificate, QuorumCertificate, TimeoutCertificate
from net.simulated import SimulatedTransport
from net.transport import Channel, PeerId
from sequencer.collection import Collection
from sequencer.messages import CollectionData
from sequencer.store.memory import MemoryStore
from testnet.simulation.process import AnyMessage, Process, decode_once

if TYPE_CHECKING:
    from testnet.simulation.place import Place
    from testnet.simulation.world import World

MAX_REMEMBERED = 400


class Adversary:
    """Honest so far. Subclasses override `say`: what goes to `to` instead of `message`."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"adversary {seed}")
        self.world: World | None = None

    def begin(self, world: "World") -> None:
        """The world exists; nothing has run yet beyond booting."""

    def make(self, place: "Place", transport: SimulatedTransport) -> Process:
        """What lives at a faulty member's place."""
        self.world = place.world
        lying = LyingTransport(self, place, transport)
        return place.world.make_node(place, lying)

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """What a faulty member sends instead of `message`."""
        return (message,)

    # what a liar can sign

    def seat(self, place: "Place", epoch: int) -> int:
        """Its index in the committee of an epoch, something else where it has none."""
        seat = place.world.registry.seat(place.index, epoch)
        return place.index if seat is None else seat

    def leads(self, place: "Place", message: AnyMessage) -> bool:
        """Whether a message is its own proposal."""
        if not isinstance(message, Proposal):
            return False
        return message.block.author == self.seat(place, message.block.epoch)

    def vote(self, place: "Place", block: Block) -> Vote:
        """A vote for anything."""
        signed = QuorumCertificate.signed_bytes(
            place.world.chain_id, block.epoch, block.round, block.id
        )
        signature = place.signer(block.epoch).sign(signed)
        seat = self.seat(place, block.epoch)
        return Vote(block.epoch, block.round, block.id, seat, signature)

    def commit_vote(self, place: "Place", block: Block) -> CommitVote:
        """A commit vote for anything."""
        named, following = place.world.protocol.finality.named_by(block)
        signed = CommitCertificate.signed_bytes(
            place.world.chain_id, block.epoch, block.round, named.height, named.id, following
        )
        return CommitVote(
            block.epoch,
            block.round,
            named.height,
            named.id,
            following,
            self.seat(place, block.epoch),
            place.signer(block.epoch).sign(signed),
        )

    def timeout(
        self, place: "Place", round: int, qc: QuorumCertificate, tc: TimeoutCertificate | None
    ) -> Timeout:
        """A timeout that names any QC."""
        signed = TimeoutCertificate.signed_bytes(place.world.chain_id, qc.epoch, round, qc.round)
        signature = place.signer(qc.epoch).sign(signed)
        carried = Certificates(qc, tc, None)
        seat = self.seat(place, qc.epoch)
        return Timeout(qc.epoch, round, qc.round, seat, signature, carried)

    def proposal(self, place: "Place", block: Block) -> Proposal:
        """A signed proposal of any block."""
        signed = Proposal.signed_bytes(place.world.chain_id, block)
        return Proposal(block, place.signer(block.epoch).sign_identity(signed))


class LyingTransport:
    """The transport of a faulty member's node: every frame passes its adversary."""

    def __init__(self, adversary: Adversary, place: "Place", below: SimulatedTransport) -> None:
        self._adversary = adversary
        self._place = place
        self._below = below

    @property
    def local_peer(self) -> PeerId:
        """Who I am to the others."""
        return self._below.local_peer

    @property
    def peers_up(self) -> frozenset[PeerId]:
        """The peers that can be sent to now."""
        return self._below.peers_up

    def send(self, peer: PeerId, channel: Channel, frame: bytes) -> bool:
        """Send what the adversary makes of it."""
        to = self._place.world.peers.index(peer)
        for said in self._adversary.say(self._place, to, decode_once(frame)):
            encoded = said if isinstance(said, bytes) else said.encode()
            self._below.send(peer, channel, encoded)
        return True

    def broadcast(self, channel: Channel, frame: bytes, to: Iterable[PeerId]) -> int:
        """As `send`, for each."""
        return sum([self.send(peer, channel, frame) for peer in to])


class EquivocatingLeader(Adversary):
    """Proposes two blocks a round to two halves, and votes for each before its half."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._twins: dict[bytes, Block] = {}

    def _twin(self, block: Block) -> Block:
        if block.id not in self._twins:
            if len(self._twins) > MAX_REMEMBERED:
                self._twins.clear()
            self._twins[block.id] = replace(block, timestamp_ms=block.timestamp_ms + 1)
        return self._twins[block.id]

    def _sees_twin(self, to: int, round: int) -> bool:
        return Random(f"{round} {to}").random() < 0.5

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """The twin of each proposal, and votes for it, to about half of the members."""
        if isinstance(message, Proposal) and self.leads(place, message):
            twin = self._twin(message.block)
            if self.random.random() < 0.3:
                both = [message, self.proposal(place, twin)]
                self.random.shuffle(both)
                return both
            if self._sees_twin(to, message.block.round):
                return (self.proposal(place, twin),)
        elif isinstance(message, Vote) and message.block_id in self._twins:
            if self._sees_twin(to, message.round):
                return (self.vote(place, self._twins[message.block_id]),)
        elif isinstance(message, CommitVote) and self.random.random() < 0.5:
            twins = [twin for twin in self._twins.values() if twin.round == message.round]
            return [message, *(self.commit_vote(place, twin) for twin in twins)]
        return (message,)


class DoubleVoter(EquivocatingLeader):
    """As above, and votes for both blocks before everybody, in either order."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """Both votes to all."""
        if isinstance(message, Vote) and message.block_id in self._twins:
            both = [message, self.vote(place, self._twins[message.block_id])]
            self.random.shuffle(both)
            return both
        if isinstance(message, Vote) and self.random.random() < 0.3:
            junk = replace(message, block_id=self.random.randbytes(32))
            signed = QuorumCertificate.signed_bytes(
                place.world.chain_id, junk.epoch, junk.round, junk.block_id
            )
            return (replace(junk, signature=place.signer(junk.epoch).sign(signed)), message)
        return super().say(place, to, message)


class SilentLeader(Adversary):
    """Never proposes."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """Everything but proposals."""
        return () if isinstance(message, Proposal) else (message,)


class VoteWithholder(Adversary):
    """Lets few of its votes, commit votes and timeouts reach few members."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """A message about a round one time in four."""
        kept = not isinstance(message, Vote | CommitVote | Timeout)
        return (message,) if kept or self.random.random() < 0.25 else ()


class StaleCertificates(Adversary):
    """Builds on old certificates and names old ones in its timeouts."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._certificates: list[tuple[QuorumCertificate, int, int]] = []
        self._proposals: dict[int, Proposal] = {}

    def _remember(self, block: Block) -> None:
        self._certificates.append((block.qc, block.height - 1, block.timestamp_ms))
        del self._certificates[:-MAX_REMEMBERED]

    def _stale(self, place: "Place", block: Block) -> Proposal:
        if block.round not in self._proposals:
            qc, height, _ = self.random.choice(self._certificates[-8:])
            old = replace(block, qc=qc, parent_id=qc.block_id, height=height + 1)
            self._proposals[block.round] = self.proposal(place, old)
        return self._proposals[block.round]

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """Old news, signed."""
        if isinstance(message, Proposal) and self.leads(place, message):
            self._remember(message.block)
            return (self._stale(place, message.block),)
        if isinstance(message, Timeout) and self._certificates:
            old = self.random.choice(self._certificates[-8:])[0]
            if old.round < message.round:
                tc = message.certificates.high_tc
                return (self.timeout(place, message.round, old, tc),)
        return (message,)


class Forger(Adversary):
    """Bad signatures of its own, and votes in the name of others."""

    def _spoiled(self, signature: bytes) -> bytes:
        at = self.random.randrange(len(signature))
        return signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """A spoiled message, then perhaps the good one, or one that somebody else might say."""
        if not isinstance(message, Vote | CommitVote | Timeout | Proposal):
            return (message,)
        spoiled = replace(message, signature=self._spoiled(message.signature))
        choices: list[Sequence[AnyMessage]] = [(spoiled,), (spoiled, message), (message, spoiled)]
        if not isinstance(message, Proposal):
            other = replace(message, voter=(message.voter + 1) % place.world.setup.nodes)
            choices.append((message, other))
            if not isinstance(other, Timeout):
                choices.append((replace(other, block_id=self.random.randbytes(32)), message))
        return self.random.choice(choices)


class SpoiledBlocks(Adversary):
    """Proposes well signed blocks with one thing wrong, the same wrong thing to everybody."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._spoiled: dict[bytes, Proposal] = {}

    def _spoil(self, place: "Place", block: Block) -> Block:
        random = self.random
        later = random.choice((-(10**6), -1_000, 3_600_000))
        twice = block.collections * 2 or (random.randbytes(32),) * 2
        return random.choice(
            (
                replace(block, height=block.height + random.choice((-1, 1))),
                replace(block, timestamp_ms=max(0, block.timestamp_ms + later)),
                replace(block, collections=twice),
                replace(block, collections=(*block.collections, random.randbytes(32))),
                replace(block, parent_id=random.randbytes(32)),
                self._onto_grandparent(place, block),
                replace(block, qc=replace(block.qc, signature=random.randbytes(96))),
                replace(block, round=block.round + random.choice((1, 4))),
            )
        )

    def _onto_grandparent(self, place: "Place", block: Block) -> Block:
        parent = place.world.protocol.blocks.get(block.parent_id)
        if parent is None or parent.height == 0:
            return replace(block, height=block.height + 1)
        return replace(block, parent_id=parent.parent_id, height=parent.height)

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """The spoiled proposal, three times in four."""
        if isinstance(message, Proposal) and self.leads(place, message):
            block = message.block
            if len(self._spoiled) > MAX_REMEMBERED:
                self._spoiled.clear()
            if block.id not in self._spoiled:
                good = self.random.random() < 0.25
                spoiled = message if good else self.proposal(place, self._spoil(place, block))
                self._spoiled[block.id] = spoiled
            return (self._spoiled[block.id],)
        return (message,)


class CertificateForger(Adversary):
    """Makes up certificates, proposals of others, and proposals in rounds of others."""

    def _made_up(self, qc: QuorumCertificate, ahead: int) -> QuorumCertificate:
        return replace(qc, round=qc.round + ahead, block_id=self.random.randbytes(32))

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """The message behind something made up."""
        nodes, ahead = place.world.setup.nodes, self.random.choice((1, 2, 5))
        if isinstance(message, Timeout):
            carried = message.certificates
            forged = self._made_up(carried.high_qc, ahead)
            return (Certificates(forged, carried.high_tc, None), message)
        if isinstance(message, Proposal):
            block = message.block
            other = (block.author + ahead) % nodes
            usurped = replace(block, round=block.round + ahead, author=other)
            forged_qc = self._made_up(block.qc, 1)
            onto = replace(block, qc=forged_qc, parent_id=forged_qc.block_id, tc=None)
            later = replace(block, round=block.round + 1, timestamp_ms=block.timestamp_ms + 1)
            made = (
                replace(self.proposal(place, usurped), signature=bytes(64)),
                self.proposal(place, replace(onto, round=forged_qc.round + 1)),
                self.proposal(place, later),
            )
            return (self.random.choice(made), message)
        return (message,)


class Usurper(Adversary):
    """Proposes in the rounds of others, before they do, and otherwise by the rules."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._usurped: dict[int, Proposal] = {}

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """With each commit vote, a block on top of the one voted for."""
        if not isinstance(message, CommitVote):
            return (message,)
        qc = place.node.replica.record.high_qc
        if qc.block_id == message.block_id and qc.round not in self._usurped:
            now = place.instant().unix_ms
            block = Block(
                qc.epoch,
                qc.round + 1,
                message.height + 1,
                qc.block_id,
                qc,
                None,
                (),
                b"",
                now,
                self.seat(place, qc.epoch),
            )
            self._usurped[qc.round] = self.proposal(place, block)
        usurped = self._usurped.get(message.round)
        return (message,) if usurped is None else (usurped, message)


class WrongEpoch(Adversary):
    """Speaks of other epochs."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """The same in the epoch before or after, well signed where it can be."""
        if isinstance(message, Vote | CommitVote | Timeout):
            return (replace(message, epoch=message.epoch ^ 1), message)
        if isinstance(message, Proposal):
            return (self.proposal(place, replace(message.block, epoch=message.block.epoch ^ 1)),)
        return (message,)


class LeaderOnly(Adversary):
    """Shows its collections to one member a round and answers no request for them."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """Collections to a single member."""
        if isinstance(message, CollectionData):
            second = place.world.clock.now // 1_000
            return (message,) if to == second % place.world.setup.nodes else ()
        return (message,)


class Amnesiac(Adversary):
    """Forgets everything it signed whenever it restarts, which is often."""

    def begin(self, world: "World") -> None:
        """Crash every now and then."""
        for member in world.setup.byzantine:
            for at in range(500, 15_000, self.random.choice((300, 900, 2_000))):
                world.clock.at(at, world.places[member].arm, "now", 1, 30)

    def make(self, place: "Place", transport: SimulatedTransport) -> Process:
        """The node on an empty disk."""
        place.disk = MemoryStore(place.world.chain_id)
        return super().make(place, transport)


class Flooder(Adversary):
    """Votes and timeouts for rounds to come, and junk collections, by the dozen in some runs."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._junk = self.random.choice((1, 1, 100))

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """The message and a lot more."""
        said: list[AnyMessage] = [message]
        if isinstance(message, Vote | Timeout):
            for _ in range(12):
                ahead = self.random.choice((1, 60, 2**20, 2**40))
                far = message.round + self.random.randint(1, ahead)
                said.append(replace(message, round=far))
        if isinstance(message, Vote) and self.random.random() < 0.05:
            for _ in range(self._junk):
                said.append(CollectionData(Collection.seal([(1, self.random.randbytes(32))]).data))
        self.random.shuffle(said)
        return said


class Garbler(Adversary):
    """Cuts, stretches and flips the bytes of its frames."""

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """Broken bytes half of the time."""
        if self.random.random() < 0.5:
            return (message,)
        frame = bytearray(message.encode())
        for _ in range(self.random.choice((1, 1, 8))):
            frame[self.random.randrange(len(frame))] = self.random.randrange(256)
        cut = self.random.choice((len(frame), len(frame), self.random.randrange(len(frame))))
        return (bytes(frame[:cut]),)  # type: ignore[return-value]


class Mixture(Adversary):
    """Tells a lie of another kind every time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        kinds = (DoubleVoter, VoteWithholder, StaleCertificates, Forger, LeaderOnly, Flooder)
        self._liars = [kind(seed + at) for at, kind in enumerate(kinds)]

    def say(self, place: "Place", to: int, message: AnyMessage) -> Iterable[AnyMessage]:
        """What one of them would say."""
        return self.random.choice(self._liars).say(place, to, message)
