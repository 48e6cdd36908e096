"""Who the members of an epoch are, what a quorum of them is, and who leads a round.

Quorum: `q = floor(2 * total / 3) + 1` by weight. At n = 5 that is 4, not
2f + 1 = 3, where two quorums can meet in one faulty member. Echo: `total - q + 1`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from consensus.codec import Domain, counted, hash_bytes, sequence, u64
from consensus.errors import InvalidConfiguration
from consensus.types import MAX_MEMBERS

LEADER_CYCLE: Final = 128
"""Short enough that all of the largest committee lead within the digest window (256): what ends an
epoch counts only that long (Ep2)."""


@dataclass(frozen=True, slots=True)
class Member:
    """One sequencer: `identity` is a raw Ed25519 key (32 bytes), `bls_key` a G1 point (48)."""

    identity: bytes
    bls_key: bytes
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Committee:
    """The members of one epoch; a member's index is its place in `members`."""

    epoch: int
    members: tuple[Member, ...]
    total_weight: int = field(init=False)
    quorum_weight: int = field(init=False)
    echo_weight: int = field(init=False)
    digest: bytes = field(init=False)
    _schedule: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_members(self.members)
        total = sum(member.weight for member in self.members)
        quorum = 2 * total // 3 + 1
        put = object.__setattr__
        put(self, "total_weight", total)
        put(self, "quorum_weight", quorum)
        put(self, "echo_weight", total - quorum + 1)
        encoded = [
            counted(member.identity) + counted(member.bls_key) + u64(member.weight)
            for member in self.members
        ]
        put(self, "digest", hash_bytes(Domain.COMMITTEE, u64(self.epoch) + sequence(encoded)))
        put(self, "_schedule", ())

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.members)

    def weight(self, indices: Iterable[int]) -> int:
        """The sum of these members' weights; each index counts once if it is given once."""
        return sum(self.members[index].weight for index in indices)

    def is_quorum(self, indices: Iterable[int]) -> bool:
        """Whether these members reach `quorum_weight`."""
        return self.weight(indices) >= self.quorum_weight

    @property
    def leader_cycle(self) -> int:
        """After how many rounds everybody has led, at most `LEADER_CYCLE` and one a member."""
        return len(self._leaders())

    def leader(self, round: int) -> int:
        """Ld1: a function of (committee, round) alone."""
        schedule = self._leaders()
        return schedule[round % len(schedule)]

    def _leaders(self) -> tuple[int, ...]:
        if not self._schedule:  # made when it is used: whoever shows a committee may have forged it
            schedule = _leader_schedule([member.weight for member in self.members])
            object.__setattr__(self, "_schedule", schedule)
        return self._schedule


def _check_members(members: tuple[Member, ...]) -> None:
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise InvalidConfiguration(f"a committee has 1 to {MAX_MEMBERS} members")
    for what in ("identity", "bls_key"):
        if len({getattr(member, what) for member in members}) != len(members):
            raise InvalidConfiguration(f"two members have the same {what}")
    if any(not 1 <= member.weight <= 2**32 for member in members):
        raise InvalidConfiguration("a member's weight is 1 to 2**32")


def _leader_schedule(weights: list[int]) -> tuple[int, ...]:
    """Smooth weighted round-robin over one cycle; equal weights give 0, 1, 2, ... again and again.

    Weights are scaled to a cycle of `LEADER_CYCLE` rounds, and one for each who would lead none.
    """
    scale = max(1, -(-sum(weights) // LEADER_CYCLE))
    shares = [max(1, weight // scale) for weight in weights]
    if len(set(shares)) == 1:
        return tuple(range(len(shares)))
    total, credit, schedule = sum(shares), [0] * len(shares), []
    for _ in range(total):
        credit = [have + share for have, share in zip(credit, shares, strict=True)]
        chosen = max(range(len(shares)), key=lambda index: (credit[index], -index))
        credit[chosen] -= total
        schedule.append(chosen)
    return tuple(schedule)
