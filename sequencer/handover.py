"""Asking and telling how epochs ended (Ep4), a few times a second to anybody at most."""

from collections.abc import Sequence

from consensus import messages as core
from consensus.messages import EpochReply, EpochRequest, epoch_of
from consensus.types import MAX_MEMBERS, CommitCertificate
from sequencer.epochs import Epochs
from sequencer.messages import NodeMessage

REPLY_KIND = bytes([EpochReply.kind])


class Handover:
    """`outgoing` are (handle, message), taken by the node."""

    def __init__(self, epochs: Epochs, base_timeout_ms: int) -> None:
        self._epochs = epochs
        self._again_ms = base_timeout_ms // 2
        self._spoke: dict[tuple[int, type[core.Message]], tuple[int, int]] = {}
        self._awaited: set[int] = set()
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
            self._say(peer, EpochRequest(mine), mine, now)
        return False

    def on_request(self, peer: int, request: EpochRequest, now: int) -> None:
        """Somebody asks how an epoch ended."""
        if not self._may_say(peer, EpochReply, request.epoch, now):
            return
        changes = self._epochs.changes(request.epoch, core.MAX_CHANGES_PER_REPLY)
        if changes:
            self._say(peer, EpochReply(tuple(changes)), request.epoch, now)

    def is_unasked(self, peer: int, frame: bytes) -> bool:
        """Whether a guest tells how epochs ended that was not asked: a large frame to read."""
        return frame[:1] == REPLY_KIND and peer >= MAX_MEMBERS and peer not in self._awaited

    def on_reply(self, peer: int, reply: EpochReply) -> CommitCertificate | None:
        """What ended my epoch, verified; None if it is not among these."""
        self._awaited.discard(peer)
        return self._epochs.hear(reply.changes)

    def wait(self, waiting: bool, candidates: Sequence[int], now: int) -> None:
        """While nothing moves, or my epoch's last block is committed and nothing else: ask in turn.

        Perhaps the others are in a later epoch, and do not hear what I say in mine.
        """
        if not waiting or not candidates:
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + self._again_ms
        elif now >= self.deadline:
            self.deadline = now + self._again_ms
            self._turn += 1
            peer = candidates[self._turn % len(candidates)]
            mine = self._epochs.committee.epoch
            self._say(peer, EpochRequest(mine), mine, now)

    def begin_epoch(self) -> None:
        """Peers have other handles now."""
        self._spoke.clear()
        self._awaited.clear()
        self.outgoing.clear()
        self.deadline = None

    def forget(self, peer: int) -> None:
        """A peer is gone."""
        self._awaited.discard(peer)
        for kind in (EpochRequest, EpochReply):
            self._spoke.pop((peer, kind), None)

    def _may_say(self, peer: int, kind: type[core.Message], epoch: int, now: int) -> bool:
        """Not again, unless it is about epochs beyond those that one reply held."""
        last_epoch, again_at = self._spoke.get((peer, kind), (epoch, now))
        return now >= again_at or epoch >= last_epoch + core.MAX_CHANGES_PER_REPLY

    def _say(self, peer: int, message: EpochRequest | EpochReply, epoch: int, now: int) -> None:
        if self._may_say(peer, type(message), epoch, now):
            self._spoke[peer, type(message)] = (epoch, now + self._again_ms)
            self.outgoing.append((peer, message))
            if isinstance(message, EpochRequest):
                self._awaited.add(peer)
