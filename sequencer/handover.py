"""Asking and telling how epochs ended (Ep4), a few times a second to anybody at most."""

from collections.abc import Sequence

from consensus import messages as core
from consensus.messages import EpochReply, EpochRequest, epoch_of
from consensus.types import CommitCertificate
from sequencer.epochs import Epochs
from sequencer.messages import NodeMessage


class Handover:
    """`outgoing` are (handle, message), taken by the node."""

    def __init__(self, epochs: Epochs, base_timeout_ms: int) -> None:
        self._epochs = epochs
        self._again_ms = base_timeout_ms // 2
        self._spoke: dict[tuple[int, type[core.Message]], int] = {}
        self._turn = 0
        self.deadline: int | None = None
        self.outgoing: list[tuple[int, core.Message]] = []

    def take(self) -> list[tuple[int, core.Message]]:
        """What there is to say."""
        taken, self.outgoing = self.outgoing, []
        return taken

    def is_for_my_epoch(self, peer: int, message: NodeMessage | core.Message, now: int) -> bool:
        """Whether it can be heard; who is in an older epoch is told, who is in a newer one asked.

        Votes on batches are heard in whatever epoch.
        """
        mine = self._epochs.committee.epoch
        theirs = None if isinstance(message, NodeMessage) else epoch_of(message)
        if theirs is None or theirs == mine:
            return True
        if theirs < mine:
            self.on_request(peer, EpochRequest(theirs), now)
        else:
            self._say(peer, EpochRequest(mine), now)
        return False

    def on_request(self, peer: int, request: EpochRequest, now: int) -> None:
        """Somebody asks how an epoch ended."""
        changes = self._epochs.changes(request.epoch, core.MAX_CHANGES_PER_REPLY)
        if changes:
            self._say(peer, EpochReply(tuple(changes)), now)

    def on_reply(self, reply: EpochReply) -> CommitCertificate | None:
        """What ended my epoch, verified; None if it is not among these."""
        return self._epochs.hear(reply.changes)

    def wait(self, waiting: bool, candidates: Sequence[int], now: int) -> None:
        """While my epoch's last block is committed and what ended it is not here, ask in turn."""
        if not waiting or not candidates:
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + self._again_ms
        elif now >= self.deadline:
            self.deadline = now + self._again_ms
            self._turn += 1
            peer = candidates[self._turn % len(candidates)]
            self._say(peer, EpochRequest(self._epochs.committee.epoch), now)

    def begin_epoch(self) -> None:
        """Peers have other handles now."""
        self._spoke.clear()
        self.outgoing.clear()
        self.deadline = None

    def forget(self, peer: int) -> None:
        """A peer is gone."""
        for kind in (EpochRequest, EpochReply):
            self._spoke.pop((peer, kind), None)

    def _say(self, peer: int, message: EpochRequest | EpochReply, now: int) -> None:
        key = (peer, type(message))
        if now >= self._spoke.get(key, now):
            self._spoke[key] = now + self._again_ms
            self.outgoing.append((peer, message))
