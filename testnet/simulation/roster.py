"""Every adversary by name: what a swarm draws from."""

from collections.abc import Callable

from testnet.simulation import adversaries as liars
from testnet.simulation.adversaries import Adversary
from testnet.simulation.hider import Hider

ADVERSARIES: dict[str, Callable[[int], Adversary]] = {
    "amnesia": liars.Amnesiac,
    "collection to leader only": liars.LeaderOnly,
    "double voter": liars.DoubleVoter,
    "equivocating leader": liars.EquivocatingLeader,
    "flood": liars.Flooder,
    "forged signatures": liars.Forger,
    "garbled frames": liars.Garbler,
    "hider": Hider,
    "mixture": liars.Mixture,
    "silent leader": liars.SilentLeader,
    "stale certificates": liars.StaleCertificates,
    "twins": liars.Twins,
    "vote withholder": liars.VoteWithholder,
    "wrong epoch": liars.WrongEpoch,
}
