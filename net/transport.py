"""The transport seam: what the node may assume of the network, and nothing more.

`send` is synchronous, bounded and outcome-free. It *is* the lossy-link model: a frame that was
accepted may still be lost, and the protocol above never learns of it. Delivery between two
connected peers is in order per channel; across a reconnect frames may be lost, never
half-delivered. Control is handed over before bulk that still waits. Frames of a peer come between
its `PeerUp` and its `PeerDown`, and the sender of a frame is authenticated. A peer that a node was
not told of is a guest, served within tighter bounds. One suite of tests
(tests/net/test_transport_contract.py) holds every implementation to this.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""The largest frame; nobody sends more, and a peer that announces more is disconnected."""

PeerId = str
"""A libp2p peer id in base58btc (for Ed25519 keys: `12D3KooW...`)."""


class Channel(IntEnum):
    """Two streams a peer, so that a vote never waits behind a megabyte."""

    CONTROL = 0
    BULK = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message that arrived from an authenticated peer."""

    sender: PeerId
    channel: Channel
    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A peer can be sent to from now on."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The link to a peer is gone; whatever was queued for it is lost."""

    peer: PeerId
    reason: str


NetworkEvent = Frame | PeerUp | PeerDown


class Transport(Protocol):
    """What a node speaks through."""

    @property
    def local_peer(self) -> PeerId:
        """Who I am to the others."""
        ...

    @property
    def peers_up(self) -> frozenset[PeerId]:
        """The peers that can be sent to now."""
        ...

    def send(self, peer: PeerId, channel: Channel, frame: bytes) -> bool:
        """Queue a frame; False when the peer is down or its queue is full. Never blocks.

        Nobody is their own peer. ValueError above MAX_FRAME_BYTES.
        """
        ...

    def broadcast(self, channel: Channel, frame: bytes, to: Iterable[PeerId]) -> int:
        """Queue one frame, encoded once, for several peers; how many accepted it.

        ValueError above MAX_FRAME_BYTES.
        """
        ...
