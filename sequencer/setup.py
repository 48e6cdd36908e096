"""What a node is, apart from its state."""

from collections.abc import Callable
from dataclasses import dataclass

from consensus.bls import Crypto, Signer
from consensus.committee import Committee, Member
from consensus.rules import Rules
from consensus.safety import Watermarks
from net.transport import PeerId
from sequencer.batcher import Binding
from sequencer.limits import PoolLimits


@dataclass(frozen=True, slots=True)
class Setup:
    """What is equal for all nodes of a chain, and who this one is.

    committee   of the genesis
    identity    this node's, 32 bytes; whether it is a member depends on the epoch
    peer_of     an identity's id on the network
    signer_for  the key for a member with my identity; None if I cannot sign for it
    watermarks  what these keys signed elsewhere, never to be signed below
    """

    chain_id: bytes
    committee: Committee
    identity: bytes
    rules: Rules
    peer_of: Callable[[bytes], PeerId]
    crypto: Crypto
    signer_for: Callable[[Member], Signer | None]
    pool_limits: PoolLimits
    binding: Binding | None = None
    watermarks: Watermarks | None = None
