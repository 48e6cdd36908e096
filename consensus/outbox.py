"""Everything a member wants done or known, collected until the driver takes it."""

from consensus.aggregator import Evidence
from consensus.interface import Notice, NoticeKind, Outgoing, Ready
from consensus.messages import Message
from consensus.safety import Refusal
from consensus.types import Block


class Outbox:
    """One `Ready` in the making; what is expected to repeat is told once."""

    def __init__(self) -> None:
        self.ready = Ready()
        self._last_refused = b""
        self._last_alarm = b""

    def take(self) -> Ready:
        """What has come together since the last call."""
        taken, self.ready = self.ready, Ready()
        return taken

    def send(self, to: int | None, message: Message) -> None:
        """A message for one member, or for all."""
        self.ready.messages.append(Outgoing(to, message))

    def notice(
        self,
        kind: NoticeKind,
        round: int,
        *,
        height: int = 0,
        member: int = -1,
        detail: str = "",
    ) -> None:
        """Something happened."""
        self.ready.notices.append(Notice(kind, round, height, member, detail))

    def notice_block(self, kind: NoticeKind, block: Block, detail: str = "") -> None:
        """Something happened to a block."""
        self.notice(kind, block.round, height=block.height, member=block.author, detail=detail)

    def refused(self, block: Block, refusal: Refusal) -> None:
        """A block gets no signature; said once, however often it is judged."""
        if block.id != self._last_refused:
            self._last_refused = block.id
            self.notice_block(NoticeKind.REFUSED, block, f"{refusal.rule}: {refusal.reason}")

    def alarm(self, round: int, block_id: bytes) -> None:
        """V5: more members are faulty than any protocol bears; said once for a block."""
        if block_id != self._last_alarm:
            self._last_alarm = block_id
            detail = "V5: a certified block does not extend the committed head"
            self.notice(NoticeKind.ALARM, round, detail=detail)

    def evidence(self, evidence: Evidence) -> None:
        """A member contradicted itself."""
        self.ready.evidence.append(evidence)
        self.notice(NoticeKind.EVIDENCE, evidence.round, member=evidence.member)
