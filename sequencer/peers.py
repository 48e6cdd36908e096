"""Who is who on the network: members by their index in the committee, others as guests.

A handle is what the node's machines know a peer by: below `MAX_MEMBERS` the index of a member of
the present epoch, above it a guest. A guest keeps its handle as long as it is connected.
"""

from collections.abc import Callable, Iterable

from consensus.committee import Committee
from consensus.types import MAX_MEMBERS
from net.transport import PeerId

MAX_GUESTS = 256
"""Peers outside the committee that are known at a time."""


class Peers:
    """Peer ids to handles and back; `peer_of` gives the peer id of an identity (32 bytes)."""

    def __init__(
        self, committee: Committee, identity: bytes, peer_of: Callable[[bytes], PeerId]
    ) -> None:
        self._identity = identity
        self._peer_of = peer_of
        self._next_guest = MAX_MEMBERS
        self._handles: dict[PeerId, int] = {}
        self._peers: dict[int, PeerId] = {}
        self.members: tuple[PeerId, ...] = ()
        self.me: int | None = None
        self.begin_epoch(committee, ())

    @property
    def local(self) -> PeerId:
        """My own id."""
        return self._peer_of(self._identity)

    @property
    def guests(self) -> list[int]:
        """The handles of connected peers outside the committee."""
        return [handle for handle in self._peers if handle >= MAX_MEMBERS]

    @property
    def other_members(self) -> list[int]:
        """The indices of the members but me."""
        return [index for index in range(len(self.members)) if index != self.me]

    def of(self, committee: Committee) -> tuple[PeerId, ...]:
        """The peer ids of the members of any committee, in its order."""
        return tuple(self._peer_of(member.identity) for member in committee.members)

    def begin_epoch(self, committee: Committee, up: Iterable[PeerId]) -> dict[int, int]:
        """The committee has changed; old handles to new ones, of members and of who is `up`."""
        before = dict(self._handles)
        guests = {peer: handle for peer, handle in before.items() if handle >= MAX_MEMBERS}
        self.members = self.of(committee)
        indices = {peer: index for index, peer in enumerate(self.members)}
        self.me = indices.get(self.local)
        stay = {peer: handle for peer, handle in guests.items() if peer not in indices}
        self._handles = stay | indices
        self._peers = {handle: peer for peer, handle in self._handles.items()}
        for peer in sorted(up):
            self.connected(peer)
        return {
            handle: self._handles[peer] for peer, handle in before.items() if peer in self._handles
        }

    def connected(self, peer: PeerId) -> int | None:
        """The handle of a peer that is there; None when there are too many guests."""
        known = self._handles.get(peer)
        if known is not None or peer == self.local:
            return known
        if len(self._handles) - len(self.members) >= MAX_GUESTS:
            return None
        handle, self._next_guest = self._next_guest, self._next_guest + 1
        self._handles[peer] = handle
        self._peers[handle] = peer
        return handle

    def gone(self, peer: PeerId) -> int | None:
        """A peer has left; the handle of one that is forgotten, because it is no member."""
        handle = self._handles.get(peer)
        if handle is None or handle < MAX_MEMBERS:
            return None
        del self._handles[peer], self._peers[handle]
        return handle

    def handle(self, peer: PeerId) -> int | None:
        """What a peer is known by."""
        return self._handles.get(peer)

    def peer(self, handle: int) -> PeerId | None:
        """Whom a handle stands for; None when it is gone."""
        return self._peers.get(handle)

    def seat(self, handle: int, committee: Committee | None) -> int | None:
        """The index of a peer in the committee of any epoch; None if it has none."""
        peer = self._peers.get(handle)
        members = self.of(committee) if committee is not None else ()
        return members.index(peer) if peer in members else None

    def is_member(self, handle: int) -> bool:
        """Whether a handle is a member's index."""
        return handle < MAX_MEMBERS
