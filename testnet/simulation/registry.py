"""The registry of a simulated L1: which committees follow each other, and all their keys.

Everybody has a place, with an identity for good and a BLS key that may rotate. Who is in which
committee, and at what index, changes with every epoch.
"""

from collections.abc import Sequence

from consensus.committee import Committee, Member
from testnet.simulation.crypto import StubSigner


class Registry:
    """Committees by epoch over `places` nodes; the first one are the `founders`."""

    def __init__(
        self, places: int, founders: Sequence[int] = (), weights: Sequence[int] = ()
    ) -> None:
        self.signers = [StubSigner(b"%d" % place) for place in range(places)]
        self.committees: list[Committee] = []
        self._seats: list[dict[int, int]] = []
        self._rotations = [0] * places
        self._weights = tuple(weights) or (1,) * places
        self._by_key = {signer.bls_key: signer for signer in self.signers}
        self.elect(founders or range(places))

    def elect(self, members: Sequence[int], rotated: Sequence[int] = ()) -> Committee:
        """The next committee: these places in this order, some of them with new BLS keys."""
        for place in rotated:
            self._rotations[place] += 1
            signer = StubSigner(b"%d" % place, self._rotations[place])
            self.signers[place] = self._by_key[signer.bls_key] = signer
        elected = [
            Member(signer.identity, signer.bls_key, self._weights[place])
            for place, signer in ((place, self.signers[place]) for place in members)
        ]
        self._seats.append({place: seat for seat, place in enumerate(members)})
        self.committees.append(Committee(len(self.committees), tuple(elected)))
        return self.committees[-1]

    @property
    def newest(self) -> int:
        """The newest epoch whose committee stands in the registry."""
        return len(self.committees) - 1

    def members(self, epoch: int) -> list[int]:
        """The places of a committee's members, in its order."""
        return list(self._seats[epoch])

    def seat(self, place: int, epoch: int) -> int | None:
        """The index of a place in a committee; None if it is no member, or there is no such."""
        return self._seats[epoch].get(place) if epoch <= self.newest else None

    def signer(self, place: int, epoch: int) -> StubSigner:
        """The keys of a place in an epoch; the first ones where it has no seat."""
        seat = self.seat(place, epoch)
        if seat is None:
            return self.signers[place]
        return self._by_key[self.committees[epoch].members[seat].bls_key]

    def signer_for(self, member: Member) -> StubSigner:
        """The keys of a member of any committee."""
        return self._by_key[member.bls_key]

    def leader(self, epoch: int, round: int) -> int:
        """The place that leads a round."""
        return self.members(epoch)[self.committees[epoch].leader(round)]

    def weight(self, places: Sequence[int], epoch: int) -> int:
        """Counted again here, like the quorum: the core's own sums may be what is wrong."""
        return sum(self._weights[place] for place in set(places) & self._seats[epoch].keys())

    def is_quorum(self, places: Sequence[int], epoch: int) -> bool:
        """More than two thirds of the weight of a committee."""
        return 3 * self.weight(places, epoch) > 2 * self.weight(self.members(epoch), epoch)

    def tolerated(self, epoch: int) -> int:
        """How much weight of a committee may be faulty."""
        total = self.weight(self.members(epoch), epoch)
        return total - (2 * total // 3 + 1)
