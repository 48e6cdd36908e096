"""Replicas on a table: stub signatures, a disk, and a network whose every message a test can see.

`Script` makes any signed message of any member by hand; `Cluster` runs whole members with FIFO
links, clocks that move only when told to, and crashes between save and send.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace

from consensus.committee import Committee, Member
from consensus.errors import InvalidMessage
from consensus.interface import Instant, Notice, NoticeKind, Outgoing, Ready, Recovered
from consensus.messages import Certificates, CommitVote, Message, Proposal, Timeout, Vote
from consensus.replica import Replica
from consensus.rules import Rules
from consensus.safety import SafetyRecord
from consensus.types import (
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
    bitmap_of,
    genesis_block,
    genesis_qc,
)

CHAIN = hashlib.sha256(b"a chain for tests").digest()
GENESIS = genesis_block(CHAIN)
GENESIS_QC = genesis_qc(CHAIN)
UNIX_MS = 1_700_000_000_000
BASE = Rules().base_timeout_ms


def digest_of(text: object) -> bytes:
    """A collection digest with a name."""
    return hashlib.sha256(str(text).encode()).digest()


class StubSigner:
    """Hashes where signatures would be: cheap, deterministic, and checkable by `StubCrypto`."""

    def __init__(self, index: int) -> None:
        self.identity = b"identity %d" % index
        self.bls_key = b"bls %d" % index

    def sign(self, message: bytes) -> bytes:
        return hashlib.sha512(self.bls_key + message).digest() + bytes(32)

    def sign_identity(self, message: bytes) -> bytes:
        return hashlib.sha512(self.identity + message).digest()


class StubCrypto:
    """The sum of signatures is their exclusive or. `checks` counts verifications."""

    def __init__(self) -> None:
        self.checks = 0

    def verify_identity(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return hashlib.sha512(key + message).digest() == signature

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return self.verify_groups([([key], message)], signature)

    def verify_aggregate(self, keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        return self.verify_groups([(keys, message)], signature)

    def verify_groups(
        self, groups: Sequence[tuple[Sequence[bytes], bytes]], signature: bytes
    ) -> bool:
        self.checks += 1
        parts = [
            hashlib.sha512(key + message).digest() + bytes(32)
            for keys, message in groups
            for key in keys
        ]
        return self.aggregate(parts) == signature

    def aggregate(self, signatures: Sequence[bytes]) -> bytes | None:
        if any(len(signature) != 96 for signature in signatures):
            return None
        total = 0
        for signature in signatures:
            total ^= int.from_bytes(signature, "big")
        return total.to_bytes(96, "big")


def committee_of(size: int, weights: Sequence[int] = ()) -> Committee:
    """A committee of stub keys."""
    members = []
    for index in range(size):
        signer = StubSigner(index)
        weight = weights[index] if weights else 1
        members.append(Member(signer.identity, signer.bls_key, weight))
    return Committee(0, tuple(members))


class Script:
    """Makes the messages of every member of a committee, honest or not."""

    def __init__(self, committee: Committee | int = 4) -> None:
        self.committee = committee_of(committee) if isinstance(committee, int) else committee
        self.signers = [StubSigner(index) for index in range(self.committee.size)]
        self.quorum = list(range(self.committee.size))
        while self.committee.is_quorum(self.quorum[:-1]):
            self.quorum.pop()

    def block(
        self,
        round: int,
        parent: Block = GENESIS,
        collections: Sequence[bytes] = (),
        *,
        qc: QuorumCertificate | None = None,
        tc: TimeoutCertificate | None = None,
        timestamp_ms: int | None = None,
        height: int | None = None,
        parent_id: bytes | None = None,
        author: int | None = None,
    ) -> Block:
        """A block of the round's leader on a parent that a quorum has certified."""
        return Block(
            0,
            round,
            parent.height + 1 if height is None else height,
            parent.id if parent_id is None else parent_id,
            self.qc(parent) if qc is None else qc,
            tc,
            tuple(collections),
            b"",
            max(UNIX_MS, parent.timestamp_ms + 1) if timestamp_ms is None else timestamp_ms,
            self.committee.leader(round) if author is None else author,
        )

    def chain(self, *rounds: int, parent: Block = GENESIS) -> list[Block]:
        """A block in each round, each on the one before."""
        blocks: list[Block] = []
        for round in rounds:
            qc = self.qc(parent)
            tc = None if qc.round + 1 == round else self.tc(round - 1, qc)
            parent = self.block(round, parent, qc=qc, tc=tc)
            blocks.append(parent)
        return blocks

    def proposal(self, block: Block, by: int | None = None) -> Proposal:
        """The block signed by its author."""
        signer = self.signers[block.author if by is None else by]
        return Proposal(block, signer.sign_identity(Proposal.signed_bytes(CHAIN, block)))

    def vote(self, voter: int, block: Block) -> Vote:
        """A member's vote."""
        signed = QuorumCertificate.signed_bytes(CHAIN, 0, block.round, block.id)
        return Vote(0, block.round, block.id, voter, self.signers[voter].sign(signed))

    def commit_vote(self, voter: int, block: Block) -> CommitVote:
        """A member's commit vote."""
        zero = bytes(32)
        signed = CommitCertificate.signed_bytes(CHAIN, 0, block.round, block.height, block.id, zero)
        signature = self.signers[voter].sign(signed)
        return CommitVote(0, block.round, block.height, block.id, zero, voter, signature)

    def qc(self, block: Block, signers: Sequence[int] | None = None) -> QuorumCertificate:
        """A quorum's votes for a block; genesis has its own."""
        if block.round == 0:
            return GENESIS_QC
        chosen = self.quorum if signers is None else list(signers)
        votes = [self.vote(voter, block).signature for voter in chosen]
        return QuorumCertificate(
            0, block.round, block.id, bitmap_of(chosen, self.committee.size), _sum(votes)
        )

    def commit(self, block: Block, signers: Sequence[int] | None = None) -> CommitCertificate:
        """A quorum's commit votes."""
        chosen = self.quorum if signers is None else list(signers)
        votes = [self.commit_vote(voter, block).signature for voter in chosen]
        bitmap = bitmap_of(chosen, self.committee.size)
        return CommitCertificate(
            0, block.round, block.height, block.id, bytes(32), bitmap, _sum(votes)
        )

    def timeout(
        self,
        voter: int,
        round: int,
        high_qc: QuorumCertificate = GENESIS_QC,
        tc: TimeoutCertificate | None = None,
        commit: CommitCertificate | None = None,
    ) -> Timeout:
        """A member's timeout."""
        signed = TimeoutCertificate.signed_bytes(CHAIN, 0, round, high_qc.round)
        signature = self.signers[voter].sign(signed)
        carried = Certificates(high_qc, tc, commit)
        return Timeout(0, round, high_qc.round, voter, signature, carried)

    def tc(
        self,
        round: int,
        high_qc: QuorumCertificate = GENESIS_QC,
        signers: Sequence[int] | None = None,
    ) -> TimeoutCertificate:
        """A quorum's timeouts that all name one QC."""
        chosen = self.quorum if signers is None else list(signers)
        named = tuple((voter, high_qc.round) for voter in chosen)
        parts = [self.timeout(voter, round, high_qc).signature for voter in chosen]
        return TimeoutCertificate(0, round, named, _sum(parts), high_qc)


def _sum(signatures: Sequence[bytes]) -> bytes:
    total = StubCrypto().aggregate(signatures)
    assert total is not None
    return total


class StubPayload:
    """Collections by digest; `mine` are the ones this member would order."""

    def __init__(self) -> None:
        self.sizes: dict[bytes, int] = {}
        self.waiting: list[bytes] = []
        self.ordered: set[bytes] = set()
        self.wanted_at: int | None = None
        self.next: bytes | None = None

    def next_committee(self) -> bytes | None:
        return self.next

    def add(self, digest: bytes, size: int = 100) -> None:
        if digest not in self.sizes:
            self.sizes[digest] = size
            if digest not in self.ordered:
                self.waiting.append(digest)

    def holds(self, digest: bytes) -> bool:
        return digest in self.sizes

    def size(self, digest: bytes) -> int | None:
        return self.sizes.get(digest)

    def select(
        self, exclude: Container[bytes], max_count: int, max_bytes: int
    ) -> tuple[bytes, ...]:
        chosen: list[bytes] = []
        for digest in self.waiting:
            if digest in exclude or len(chosen) == max_count:
                continue
            if sum(self.sizes[known] for known in (*chosen, digest)) > max_bytes:
                break
            chosen.append(digest)
        return tuple(chosen)

    def has_work(self) -> bool:
        return bool(self.waiting)

    def block_wanted_at(self) -> int | None:
        return self.wanted_at

    def committed(self, block: Block) -> None:
        self.ordered.update(block.collections)
        self.waiting = [known for known in self.waiting if known not in block.collections]


@dataclass
class Disk:
    """What survives a crash: the record, the blocks, and the log with its proofs."""

    record: SafetyRecord = field(default_factory=lambda: SafetyRecord.initial(CHAIN))
    blocks: dict[bytes, Block] = field(default_factory=dict)
    log: list[Block] = field(default_factory=lambda: [GENESIS])
    proofs: dict[int, CommitProof] = field(default_factory=dict)

    def block(self, height: int) -> Block | None:
        return self.log[height] if 0 < height < len(self.log) else None

    def block_by_id(self, block_id: bytes) -> Block | None:
        return self.blocks.get(block_id)

    def proof_at_or_after(self, height: int) -> tuple[int, CommitProof] | None:
        at = min((known for known in self.proofs if known >= height), default=None)
        return None if at is None else (at, self.proofs[at])

    def recovered(self, rules: Rules) -> Recovered:
        """Like a node: the record goes through its bytes, blocks above the head come along."""
        head = self.log[-1]
        proof = self.proofs.get(head.height)
        recent = tuple(self.log[max(1, len(self.log) - rules.digest_window_heights) :])
        above = tuple(block for block in self.blocks.values() if block.height > head.height)
        record = SafetyRecord.decode(self.record.encode())
        return Recovered(record, head, proof, recent, above)


class Seat:
    """One member with its disk, its payload and a driver: save, speak, apply."""

    def __init__(
        self,
        script: Script,
        me: int | None = 0,
        rules: Rules | None = None,
        *,
        now: int = 0,
        disk: Disk | None = None,
    ) -> None:
        self.script = script
        self.me = me
        self.rules = rules or Rules()
        self.now = now
        self.disk = disk or Disk()
        self.payload = StubPayload()
        self.crypto = StubCrypto()
        self.notices: list[Notice] = []
        self.evidence: list[object] = []
        self.offers: list[int] = []
        self.wanted: list[bytes] = []
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a crash, from what the disk holds."""
        self.replica = Replica(
            self.script.committee,
            self.me,
            CHAIN,
            self.rules,
            self.crypto,
            None if self.me is None else self.script.signers[self.me],
            self.payload,
            self.disk,
            self.disk.recovered(self.rules),
            self.instant,
        )

    @property
    def instant(self) -> Instant:
        return Instant(self.now, UNIX_MS + self.now)

    def hear(self, sender: int, *messages: Message) -> list[Outgoing]:
        """Messages from one member, and everything that is sent because of them."""
        for message in messages:
            self.replica.step(sender, message, self.instant)
        return self.drain()

    def refuses(self, sender: int, message: Message) -> str:
        """The reason why a message is the sender's fault."""
        try:
            self.replica.step(sender, message, self.instant)
        except InvalidMessage as error:
            return str(error)
        raise AssertionError("the message was accepted")

    def wait(self, ms: int) -> list[Outgoing]:
        """Let the clock run, ticking at each deadline on the way."""
        sent: list[Outgoing] = []
        until = self.now + ms
        ticks = 0
        while (due := self.replica.deadline) <= until:
            ticks += 1
            assert ticks < 20 + 5 * ms, "the replica keeps its driver busy for nothing"
            self.now = max(self.now, due)
            self.replica.tick(self.instant)
            sent += self.drain()
        self.now = until
        return sent

    def offer(self, *names: object) -> list[Outgoing]:
        """Collections come in."""
        for name in names:
            self.payload.add(name if isinstance(name, bytes) else digest_of(name))
        self.replica.collections_arrived(self.instant)
        return self.drain()

    def save(self) -> Ready:
        """Only the first third of a drain: what a crash right after it leaves behind."""
        ready = self.replica.ready()
        if ready.record is not None:
            self.disk.record = ready.record
        self.disk.blocks.update({block.id: block for block in ready.blocks})
        self.evidence += ready.evidence
        return ready

    def drain(self) -> list[Outgoing]:
        """Save, speak, apply until nothing is left; my own messages come back to me."""
        sent: list[Outgoing] = []
        while True:
            ready = self.save()
            self.notices += ready.notices
            self.wanted += [
                digest
                for block in ready.needed
                for digest in block.collections
                if not self.payload.holds(digest)
            ]
            self.offers += [ready.offer_to] if ready.offer_to is not None else []
            sent += ready.messages
            for block, proof in ready.committed:
                assert block.height == len(self.disk.log)
                assert block.parent_id == self.disk.log[-1].id
                self.disk.log.append(block)
                self.disk.blocks[block.id] = block
                self.payload.committed(block)
                if proof is not None:
                    self.disk.proofs[block.height] = proof
            for outgoing in ready.messages:
                if outgoing.to is None and self.me is not None:
                    self.replica.step(self.me, outgoing.message, self.instant)
            if not ready.messages and not ready.committed:
                return sent

    def kinds(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.notices]

    @property
    def log(self) -> list[Block]:
        """Committed blocks without genesis."""
        return self.disk.log[1:]


def only(kind: type[Message], sent: Sequence[Outgoing]) -> list[Message]:
    """The messages of one kind among those sent."""
    return [outgoing.message for outgoing in sent if isinstance(outgoing.message, kind)]


Drop = Callable[[int, int, Message], bool]


class Cluster:
    """Whole members, FIFO links, one clock. `lost` decides which messages never arrive."""

    def __init__(
        self, size: int = 4, rules: Rules | None = None, weights: Sequence[int] = ()
    ) -> None:
        self.script = Script(committee_of(size, weights))
        self.rules = rules or Rules()
        self.now = 0
        self.seats = [Seat(self.script, index, self.rules) for index in range(size)]
        self.down: set[int] = set()
        self.lost: Drop = lambda sender, to, message: False
        self.journal: list[tuple[int, Message]] = []
        self.ticks = 0
        self._flight: deque[tuple[int, int, Message]] = deque()
        for index in range(size):
            self.perform(index)

    def perform(self, index: int) -> None:
        """Drain one member and put what it says on the wire."""
        self._put(index, self.seats[index].drain())

    def _put(self, index: int, sent: Sequence[Outgoing]) -> None:
        for outgoing in sent:
            self.journal.append((index, outgoing.message))
            for to in range(len(self.seats)) if outgoing.to is None else [outgoing.to]:
                if to != index:
                    self._flight.append((index, to, outgoing.message))

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        while self._flight:
            sender, to, message = self._flight.popleft()
            if to in self.down or sender in self.down or self.lost(sender, to, message):
                continue
            self.seats[to].now = self.now
            self._put(to, self.seats[to].hear(sender, message))

    def up(self) -> list[int]:
        return [index for index in range(len(self.seats)) if index not in self.down]

    def run(self, ms: int) -> None:
        """Let everybody live for a while."""
        until = self.now + ms
        self.settle()
        while True:
            due = min(max(self.seats[i].replica.deadline, self.now) for i in self.up())
            if due > until:
                break
            self.now = due
            for index in self.up():
                seat = self.seats[index]
                if seat.replica.deadline <= due:
                    self.ticks += 1
                    seat.now = due
                    seat.replica.tick(seat.instant)
                    self.perform(index)
            self.settle()
        self.now = until
        for index in self.up():
            self.seats[index].now = until

    def submit(self, name: object, to: Sequence[int] | None = None) -> None:
        """A collection reaches these members (all of them if not said)."""
        for index in self.up() if to is None else to:
            self.seats[index].now = self.now
            self._put(index, self.seats[index].offer(name))
        self.settle()

    def crash(self, *members: int) -> None:
        self.down.update(members)

    def restart(self, *members: int) -> None:
        """Members come back from their disks and everybody's links to them come up."""
        for index in members:
            self.down.discard(index)
            self.seats[index].now = self.now
            self.seats[index].start()
            self.perform(index)
        for index in members:
            for other in self.up():
                if other != index:
                    self.connect(index, other)
        self.settle()

    def connect(self, left: int, right: int) -> None:
        """A link comes up, on both sides."""
        for index, peer in ((left, right), (right, left)):
            self.seats[index].now = self.now
            self.seats[index].replica.peer_up(peer, self.seats[index].instant)
            self.perform(index)

    def logs(self) -> list[list[bytes]]:
        return [[block.id for block in seat.log] for seat in self.seats]

    def assert_agreement(self) -> None:
        """Every log is a prefix of the longest."""
        longest = max(self.logs(), key=len)
        for log in self.logs():
            assert log == longest[: len(log)]

    def assert_no_contradiction(self) -> None:
        """No member ever said two different things where the rules allow one."""
        said: dict[tuple[int, int, int], bytes] = {}
        for sender, message in self.journal:
            if isinstance(message, Proposal):
                key, opinion = (sender, message.kind, message.block.round), message.block.id
            elif isinstance(message, Vote | CommitVote):
                key, opinion = (sender, message.kind, message.round), message.block_id
            else:
                continue
            assert said.setdefault(key, opinion) == opinion, f"{key} contradicted itself"


def weaken(message: Timeout, **changes: object) -> Timeout:
    """A timeout with fields replaced, its signature left as it was."""
    return replace(message, **changes)  # type: ignore[arg-type]
