"""What a node says to others, message by message, to whom it concerns.

Everything here was made durable before, where it has to be.
"""

from consensus import messages as core
from consensus.interface import Outgoing
from net.transport import Transport
from sequencer.batcher import BatcherReady
from sequencer.epochs import Epochs
from sequencer.messages import (
    MAX_DIGESTS,
    BatchRequest,
    BatchVote,
    CollectionData,
    CollectionOffer,
    CollectionRequest,
    NodeMessage,
    channel_of,
)
from sequencer.peers import Peers
from sequencer.pool import PoolReady


class Voice:
    """Speaks through a transport. `own` are messages to myself, heard after the save."""

    def __init__(self, transport: Transport, peers: Peers, epochs: Epochs) -> None:
        self._transport = transport
        self._peers = peers
        self._epochs = epochs
        self.own: list[core.Message] = []

    def members_up(self) -> list[int]:
        """The indices of the other members that can be spoken to."""
        up, members = self._transport.peers_up, self._peers.members
        return [index for index in self._peers.other_members if members[index] in up]

    def payload(self, collected: PoolReady) -> None:
        """Collections, and questions and offers about them."""
        if self._peers.me is not None:
            for collection in collected.broadcast:
                self.to_all(CollectionData(collection.data))
        for handle, digests in collected.requests:
            for start in range(0, len(digests), MAX_DIGESTS):
                self.to_one(handle, CollectionRequest(digests[start : start + MAX_DIGESTS]))
        for handle, digests in collected.offers:
            self.to_one(handle, CollectionOffer(digests[:MAX_DIGESTS]))

    def batches(self, batches: BatcherReady, now: int) -> None:
        """Votes to the members of today and to those whose batch it is; requests to anybody."""
        for vote in batches.broadcast:
            self._batch_vote(vote)
        up = self.members_up()
        for number in batches.requests if up else ():
            self.to_one(up[(number + now // 1000) % len(up)], BatchRequest(number))
        for handle, certificate in batches.answers:
            self.to_one(handle, certificate)

    def _batch_vote(self, vote: BatchVote) -> None:
        committee = self._epochs.committee_of(vote.epoch)
        voters = self._peers.of(committee) if committee is not None else ()
        to = dict.fromkeys((*self._peers.members, *voters))
        to.pop(self._peers.local, None)
        self._transport.broadcast(channel_of(vote), vote.encode(), to)

    def say(self, outgoing: Outgoing) -> None:
        """A message of the protocol; one to all comes back to its own sender."""
        if outgoing.to is None:
            self.to_all(outgoing.message)
        if outgoing.to is None or outgoing.to == self._peers.me:
            self.own.append(outgoing.message)
        else:
            self.to_one(outgoing.to, outgoing.message)

    def take_own(self) -> list[core.Message]:
        """What I said to myself."""
        taken, self.own = self.own, []
        return taken

    def to_all(self, message: NodeMessage | core.Message) -> None:
        """To every other member."""
        members = self._peers.members
        to = [members[index] for index in self._peers.other_members]
        self._transport.broadcast(channel_of(message), message.encode(), to)

    def to_one(self, handle: int, message: NodeMessage | core.Message) -> None:
        """To one peer, if it is still there."""
        peer = self._peers.peer(handle)
        if peer is not None:
            self._transport.send(peer, channel_of(message), message.encode())
