"""Every adversary by name: what a swarm draws from."""

from collections.abc import Callable

from testnet.simulation import adversaries as liars
from testnet.simulation.adversaries import Adversary
from testnet.simulation.hider import Hider
from testnet.simulation.lying_server import LyingServer
from testnet.simulation.stuffer import Stuffer
from testnet.simulation.twins import Twins

STUFFER = "stuffer"

ADVERSARIES: dict[str, Callable[[int], Adversary]] = {
    "amnesia": liars.Amnesiac,
    "collection to leader only": liars.LeaderOnly,
    "double voter": liars.DoubleVoter,
    "equivocating leader": liars.EquivocatingLeader,
    "flood": liars.Flooder,
    "forged certificates": liars.CertificateForger,
    "forged signatures": liars.Forger,
    "garbled frames": liars.Garbler,
    "hider": Hider,
    "lying server": LyingServer,
    "mixture": liars.Mixture,
    "silent leader": liars.SilentLeader,
    "spoiled blocks": liars.SpoiledBlocks,
    "stale certificates": liars.StaleCertificates,
    STUFFER: Stuffer,
    "twins": Twins,
    "usurper": liars.Usurper,
    "vote withholder": liars.VoteWithholder,
    "wrong epoch": liars.WrongEpoch,
}
