"""Everything that the signing rules permit, for a few rounds: not sampled like a swarm, all of it.

As many members as can be borne are faulty and sign whatever helps. The others sign what
`consensus.safety.Safety`, the production code, lets them. There are no clocks, leaders or links:
any block may be proposed, any certificate for which there are signatures can reach anybody at any
time, or never. So whatever a leader, a network or a crash can bring about is among what is tried.
A member learns as late as it can, just before it signs: what it could sign knowing more, it could
sign earlier. Honest members are interchangeable: states that differ by a permutation are one.

`explore_orders` tries every order of signatures: 64,000 states for four members and two rounds.
`explore_rounds` gets further with what holds for any run:

    what is signed in a round depends on certificates of earlier rounds, so rounds follow each other
    a vote matters if its block is certified, a timeout if its round is: else it only binds
    a commit vote can wait until its author times out: it costs nothing before, and never later

Checked in every state: at most one block of a round is certified, and all that is final stands on
one chain, whether by commit votes (C1) or by a certified child one round up (C2).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import combinations, pairwise, product
from typing import NamedTuple

from consensus.committee import Committee, Member
from consensus.safety import Refusal, Safety, SafetyRecord
from consensus.types import Block, QuorumCertificate, TimeoutCertificate, genesis_block
from testnet.simulation.crypto import StubSigner

CHAIN = sha256(b"exploration").digest()


class Proposed:
    """A block, on a certified parent and perhaps with a TC that names the QC of `named`.

    `variant` tells two apart that are alike otherwise. `Exploration` makes one of a kind.
    """

    def __init__(
        self, parent: "Proposed | None", round: int, named: "Proposed | None", variant: int
    ) -> None:
        self.parent = parent
        self.round = round
        self.named = named
        if parent is None:
            self.block = genesis_block(CHAIN)
            self.qc = SafetyRecord.initial(CHAIN).high_qc
            return
        tc = tc_of(round - 1, named) if named is not None else None
        height, content = parent.block.height + 1, (bytes([variant]) * 32,)
        self.block = Block(0, round, height, parent.block.id, parent.qc, tc, content, b"", round, 0)
        self.qc = QuorumCertificate(0, round, self.block.id, b"", b"")

    def __str__(self) -> str:
        if self.parent is None:
            return "the genesis block"
        return f"block {self.block.id.hex()[:4]} of round {self.round}"

    @property
    def described(self) -> str:
        """With what it stands on."""
        return f"{self} on {self.parent}"

    def stands_on(self, other: "Proposed") -> bool:
        """Whether it is the other one, or a descendant."""
        walk: Proposed | None = self
        while walk is not None and walk.round > other.round:
            walk = walk.parent
        return walk is other


def tc_of(round: int, named: Proposed) -> TimeoutCertificate:
    """A TC whose highest QC is that of a block; whose timeouts it holds makes no difference."""
    return TimeoutCertificate(0, round, ((0, named.round),), b"", named.qc)


class Seat(NamedTuple):
    """What an honest member has on disk, and what it ever signed."""

    record: SafetyRecord
    votes: frozenset[Proposed] = frozenset()
    commit_votes: frozenset[Proposed] = frozenset()
    timeouts: frozenset[tuple[int, int]] = frozenset()
    """Rounds, each with that of the QC it named."""


class Step(NamedTuple):
    """What a member may be asked to sign."""

    kind: str
    about: Proposed
    """For a timeout, the block of its highest QC."""
    round: int = 0
    named: Proposed | None = None
    """What the TC names that brings it into the round of its timeout."""

    def __str__(self) -> str:
        if self.kind == "timeout":
            return f"times out in round {self.round} with the QC of {self.about}"
        return f"{self.kind}s for {self.about.described}"


@dataclass(slots=True)
class Explored:
    """How many states there are; a violation in words, and the steps that lead there."""

    states: int = 0
    violation: str | None = None
    steps: list[str] = field(default_factory=list)


class Exploration:
    """Honest members and what they sign; `size` members, of whom (size - 1) // 3 are faulty."""

    def __init__(self, size: int) -> None:
        signers = [StubSigner(b"%d" % index) for index in range(size)]
        members = tuple(Member(signer.identity, signer.bls_key) for signer in signers)
        self.committee = Committee(0, members)
        self.honest = size - (size - 1) // 3
        self._faulty = range(self.honest, size)
        self._signer = signers[0]
        self._seats: list[Seat] = []
        self._numbers: dict[Seat, int] = {}
        self.after = cache(self._sign)
        self.proposed = cache(Proposed)
        self.genesis = self.proposed(None, 0, None, 0)
        self.first = self.number(Seat(SafetyRecord.initial(CHAIN)))

    def number(self, seat: Seat) -> int:
        """Equal seats have the same."""
        number = self._numbers.setdefault(seat, len(self._seats))
        if number == len(self._seats):
            self._seats.append(seat)
        return number

    def seats(self, numbers: Sequence[int]) -> list[Seat]:
        """Inverse of `number`, for several."""
        return [self._seats[number] for number in numbers]

    def is_quorum(self, signed: Iterable[bool]) -> bool:
        """Whether these of the honest members, in order, and all faulty ones are a quorum."""
        signers = [index for index, has in enumerate(signed) if has]
        return self.committee.is_quorum([*signers, *self._faulty])

    def quorums(self) -> Iterator[tuple[int, ...]]:
        """The smallest sets of honest members that are one with the faulty ones."""
        for count in range(self.honest + 1):
            sets = [*combinations(range(self.honest), count)]
            found = [some for some in sets if self.committee.is_quorum([*some, *self._faulty])]
            if found:
                yield from found
                return

    def _sign(self, number: int, step: Step) -> int | None:
        """The number of the seat after a step; None if it is refused, or says nothing new."""
        seat = self._seats[number]
        safety = Safety(0, CHAIN, self._signer, seat.record)
        about = step.about
        signed: object
        if step.kind == "commit vote":
            safety.observe_qc(about.qc)
            signed = safety.commit_vote(about.block, about.qc)
            after = seat._replace(commit_votes=seat.commit_votes | {about})
        elif step.kind == "vote":
            safety.observe_qc(about.block.qc)
            self._observe_tc(safety, about.round, about.named)
            signed = safety.vote(about.block)
            after = seat._replace(votes=seat.votes | {about})
        else:
            safety.observe_qc(about.qc)
            self._observe_tc(safety, step.round, step.named)
            signed = timeout = safety.timeout(step.round, None)
            named = 0 if isinstance(timeout, Refusal) else timeout.high_qc_round
            after = seat._replace(timeouts=seat.timeouts | {(step.round, named)})
        if isinstance(signed, Refusal) or after == seat:
            return None
        return self.number(after._replace(record=safety.record))

    def _observe_tc(self, safety: Safety, round: int, named: Proposed | None) -> None:
        if named is not None:
            safety.observe_qc(named.qc)
            safety.observe_tc(tc_of(round - 1, named))

    def violation(self, certified: Sequence[Proposed], seats: Sequence[Seat]) -> str | None:
        """What must not be; `certified` by ascending round."""
        for one, other in pairwise(certified):
            if one.round == other.round:
                return f"{one.described} and {other.described} are both certified"
        final = {
            block
            for block in certified
            if self.is_quorum(block in seat.commit_votes for seat in seats)
        }
        for block in certified:
            if block.parent is not None and block.parent.round + 1 == block.round:
                final.add(block.parent)
        for below, above in pairwise(sorted(final, key=lambda block: block.round)):
            if not above.stands_on(below):
                return f"{below.described} and {above.described} are both final"
        return None

    def blocks(
        self, round: int, certified: Iterable[Proposed], tc: Proposed | None, variant: int = 0
    ) -> Iterator[Proposed]:
        """What can be proposed in a round, permitted or not; `tc` is the lowest that one names.

        What a TC names below the QC beside it makes no difference; nor does a TC of the round
        of that QC.
        """
        for parent in certified:
            if parent.round >= round:
                continue
            yield self.proposed(parent, round, None, variant)
            if tc is not None and parent.round < round - 1:
                named = max(parent, tc, key=lambda block: block.round)
                yield self.proposed(parent, round, named, variant)


# ---------------------------------------------------------------------- every order

State = tuple[int, ...]
"""The seats of the honest members, ascending."""


def explore_orders(size: int, rounds: int) -> Explored:
    """Breadth first: the first violation is one of those with the fewest steps.

    A seat is what a member has signed; the steps of a violation name them by number.
    """
    world = Exploration(size)
    start: State = (world.first,) * world.honest
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    frontier = [start]
    while frontier:
        reached: list[State] = []
        for state in frontier:
            seats = world.seats(state)
            certified = _certified(world, seats)
            violation = world.violation(certified, seats)
            if violation is not None:
                return Explored(len(came_from), violation, _steps_to(came_from, state))
            steps = [*_steps(world, seats, certified, range(1, rounds + 1))]
            for index, number in enumerate(state):
                if index and number == state[index - 1]:
                    continue
                for step in steps:
                    after = world.after(number, step)
                    if after is None:
                        continue
                    following = tuple(sorted((*state[:index], after, *state[index + 1 :])))
                    if following not in came_from:
                        came_from[following] = state, f"seat {number} {step}, and is seat {after}"
                        reached.append(following)
        frontier = reached
    return Explored(len(came_from))


def _steps_to(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps: list[str] = []
    while (before := came_from[state]) is not None:
        state, step = before
        steps.append(step)
    return steps[::-1]


def _certified(world: Exploration, seats: Sequence[Seat]) -> list[Proposed]:
    voted = {block for seat in seats for block in seat.votes}
    found = [b for b in voted if world.is_quorum(b in seat.votes for seat in seats)]
    return [world.genesis, *sorted(found, key=lambda block: block.round)]


def _given_up(world: Exploration, seats: Sequence[Seat], round: int) -> int | None:
    """The lowest QC round that a TC of this round can name; None if there can be none."""
    named = [min((qc for at, qc in seat.timeouts if at == round), default=None) for seat in seats]
    for highest in sorted({qc for qc in named if qc is not None}):
        if world.is_quorum(qc is not None and qc <= highest for qc in named):
            return highest
    return None


def _steps(
    world: Exploration, seats: Sequence[Seat], certified: Sequence[Proposed], rounds: range
) -> Iterator[Step]:
    """Everything that there are certificates for, and more; permitted or not."""
    voted = {block for seat in seats for block in seat.votes}
    by_round = {block.round: block for block in certified}
    for block in certified[1:]:
        yield Step("commit vote", block)
    for round in rounds:
        lowest = _given_up(world, seats, round - 1)
        tc = None if lowest is None else by_round[lowest]
        for highest in certified:
            if highest.round < round:
                yield Step("timeout", highest, round)
                if tc is not None and tc.round <= highest.round:
                    yield Step("timeout", highest, round, highest)
        for block in world.blocks(round, certified, tc):
            yield Step("vote", block)
        for block in world.blocks(round, certified, tc, variant=1):
            if world.proposed(block.parent, round, block.named, 0) in voted:
                yield Step("vote", block)


# ---------------------------------------------------------------------- round by round


class Stage(NamedTuple):
    """All that matters after a round: certified blocks, what its TC names, and the members."""

    certified: tuple[Proposed, ...]
    tc: Proposed | None
    seats: State


Trail = tuple[str, ...]
REFUSED = -1
"""Instead of the number of a seat."""


def explore_rounds(size: int, rounds: int) -> Explored:
    """All runs of so many rounds, but for what makes no difference to what can be final."""
    world = Exploration(size)
    start = Stage((world.genesis,), None, (world.first,) * world.honest)
    stages: dict[Stage, Trail] = {start: ()}
    states = 0
    for round in range(1, rounds + 1):
        reached: dict[Stage, Trail] = {}
        for stage, trail in stages.items():
            for voted, votes in _after_votes(world, stage, round):
                states += 1
                violation = _violation_at_last(world, voted)
                if violation is not None:
                    return Explored(states, violation, [*trail, *votes])
                if round < rounds and len(voted.certified) < len(stage.certified) + 2:
                    for following, timeouts in _after_timeouts(world, voted, round):
                        reached.setdefault(following, (*trail, *votes, *timeouts))
        stages = reached
    return Explored(states)


def _after_votes(world: Exploration, stage: Stage, round: int) -> Iterator[tuple[Stage, Trail]]:
    """No block of the round is certified, or one; two if that can be."""
    yield stage, ()
    for one, told in _certify(world, stage, round, 0):
        yield one, told
        for variant in (0, 1):
            for two, also in _certify(world, one, round, variant):
                if two.certified[-1] is not one.certified[-1]:
                    yield two, told + also


def _certify(
    world: Exploration, stage: Stage, round: int, variant: int
) -> Iterator[tuple[Stage, Trail]]:
    for block in world.blocks(round, stage.certified, stage.tc, variant):
        for voters in world.quorums():
            seats = list(stage.seats)
            for index in voters:
                seats[index] = _vote(world, stage, seats[index], block)
            if REFUSED not in seats:
                told = f"{len(voters)} honest members vote for {block.described}"
                certified = (*stage.certified, block)
                yield Stage(certified, stage.tc, _remembered(world, seats)), (told,)


def _vote(world: Exploration, stage: Stage, number: int, block: Proposed) -> int:
    """As early as can be, or after all commit votes, which bring a member into later rounds."""
    for before in (number, _commit_votes(world, number, stage.certified[1:])):
        after = world.after(before, Step("vote", block))
        if after is not None:
            return after
    return REFUSED


def _after_timeouts(world: Exploration, stage: Stage, round: int) -> Iterator[tuple[Stage, Trail]]:
    """The round is given up by a quorum, or by nobody."""
    yield stage._replace(tc=None), ()
    by_round = {block.round: block for block in stage.certified}
    for signers in world.quorums():
        choices = [_timeouts(world, stage, stage.seats[index], round) for index in signers]
        for chosen in product(*choices):
            seats = list(stage.seats)
            for index, (after, _) in zip(signers, chosen, strict=True):
                seats[index] = after
            named = [highest for _, highest in chosen]
            told = f"{len(signers)} honest members time out in round {round} with QCs of {named}"
            yield (
                Stage(stage.certified, by_round[max(named)], _remembered(world, seats)),
                (told,),
            )


def _timeouts(world: Exploration, stage: Stage, number: int, round: int) -> set[tuple[int, int]]:
    """How a member can give up on a round, having commit-voted all that it could by then."""
    found = set()
    for at, highest in enumerate(stage.certified):
        if highest.round >= round:
            continue
        before = _commit_votes(world, number, stage.certified[1 : at + 1])
        steps = [Step("timeout", highest, round)]
        if stage.tc is not None and highest.round >= stage.tc.round:
            steps.append(Step("timeout", highest, round, highest))
        for step in steps:
            after = world.after(before, step)
            if after is not None:
                ((_, named),) = world.seats([after])[0].timeouts
                found.add((after, named))
    return found


def _commit_votes(world: Exploration, number: int, certified: Iterable[Proposed]) -> int:
    """The seat of a member after all commit votes that it may still give."""
    for block in certified:
        after = world.after(number, Step("commit vote", block))
        number = number if after is None else after
    return number


def _violation_at_last(world: Exploration, stage: Stage) -> str | None:
    seats = [_commit_votes(world, number, stage.certified[1:]) for number in stage.seats]
    return world.violation(stage.certified, world.seats(seats))


def _remembered(world: Exploration, numbers: Iterable[int]) -> State:
    """The seats without what has had its effect: votes and timeouts are in certificates now."""
    return tuple(
        sorted(
            world.number(
                Seat(
                    replace(
                        seat.record,
                        high_tc=None,
                        last_vote=None,
                        last_commit_vote=None,
                        last_timeout=None,
                    ),
                    commit_votes=seat.commit_votes,
                )
            )
            for seat in world.seats([*numbers])
        )
    )
