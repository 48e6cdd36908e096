"""Whose turn it is to send what, and from which L1 block on.

The contract waits for batches, and now and then for upkeep: a snapshot of the registry when the
membership has changed, and the handover to the committee of that snapshot once the members have
ended their epoch. Batches of an epoch come before the handover that ends it, because only its own
committee can certify them as they are. A batch that stays uncertified holds the handover up for
`HANDOVER_WAITS` takeovers; after that the handover goes first, and the batch gets a new header.
"""

from sequencer.settlement.client import Receipt
from sequencer.settlement.poster_events import L1View, PosterSettings
from sequencer.settlement.poster_state import Job, Upkeep, UpkeepKind
from sequencer.settlement.schedule import first_block, rank

HANDOVER_WAITS = 4
"""How many times `takeover_blocks` a handover waits for a batch without a certificate."""
MAX_MILESTONES = 4_096


class Turns:
    """What this member knows about when; `member` is -1 for somebody outside the committee."""

    def __init__(self, settings: PosterSettings, chain_id: bytes, size: int, member: int) -> None:
        self._settings = settings
        self._chain_id = chain_id
        self._size = size
        self._member = member
        self._milestones: list[tuple[int, int]] = []
        self._due: dict[Job, int] = {}
        self._stuck: tuple[int, int, int] | None = None

    def begin_epoch(self, size: int, member: int) -> None:
        """Another committee posts from now on."""
        self._size, self._member = size, member

    def look(self, view: L1View) -> None:
        """Remember from which L1 head on we could have sent what."""
        self._remember_certified(view)
        self._remember_stuck(view)
        upkeep = [job for job in self.waiting(view) if isinstance(job, Upkeep)]
        self._due = {job: self._due.get(job, view.head.number) for job in upkeep}

    def _remember_certified(self, view: L1View) -> None:
        """(certified up to this number, from this head on), rising; a batch may lose its
        certificate again, when it gets a new header."""
        marks = self._milestones
        while marks and marks[-1][0] > view.certified:
            del marks[-1]
        if view.certified > (marks[-1][0] if marks else 0):
            marks.append((view.certified, view.head.number))
        while marks and (marks[0][0] < view.final_next or len(marks) > MAX_MILESTONES):
            del marks[0]

    def _remember_stuck(self, view: L1View) -> None:
        if not view.handover or _is_postable(view):
            self._stuck = None
        elif self._stuck is None or self._stuck[:2] != (view.next_number, view.epoch):
            self._stuck = view.next_number, view.epoch, view.head.number

    def waiting(self, view: L1View) -> list[Job]:
        """What the contract waits for and this node could send."""
        jobs: list[Job] = []
        if view.snapshot_due:
            jobs.append(Upkeep(UpkeepKind.SNAPSHOT, view.epoch + 1))
        if _is_postable(view):
            jobs.append(view.next_number)
        elif view.handover and (_is_all_posted(view) or self._waited_long(view)):
            jobs.append(Upkeep(UpkeepKind.HANDOVER, view.epoch + 1))
        return jobs

    def _waited_long(self, view: L1View) -> bool:
        patience = HANDOVER_WAITS * self._settings.takeover_blocks
        return self._stuck is not None and view.head.number >= self._stuck[2] + patience

    def ready(self, view: L1View) -> Job | None:
        """The first of these whose turn it is."""
        for job in self.waiting(view):
            if view.head.number >= self._our_turn(job, view):
                return job
        return None

    def _our_turn(self, job: Job, view: L1View) -> int:
        """The L1 height from which we may send."""
        place = rank(self._chain_id, schedule_number(job), self._size, self._member)
        if isinstance(job, Upkeep):
            since = self._due[job]
        else:
            held = next(head for certified, head in self._milestones if certified >= job)
            before = [b.block_number for b in view.accepted if b.number == job - 1]
            since = max([held, *before])
        return first_block(place, since, self._settings.takeover_blocks)


def schedule_number(job: Job) -> int:
    """What decides the order of ranks: a batch's number, or one that no batch has (64 bits)."""
    if isinstance(job, Upkeep):
        return 1 << 63 | job.epoch << 1 | (job.kind is UpkeepKind.HANDOVER)
    return job


def is_over(job: Job, view: L1View) -> bool:
    """Whether the contract does not need it any more."""
    if not isinstance(job, Upkeep):
        return view.next_number > job
    if job.kind is UpkeepKind.SNAPSHOT:
        return not view.snapshot_due or job.epoch != view.epoch + 1
    return view.epoch >= job.epoch


def is_early(job: Job, view: L1View) -> bool:
    """Whether the contract cannot take it yet, or, after a reorganisation, not any more."""
    if not isinstance(job, Upkeep):
        return view.next_number < job
    return job.kind is UpkeepKind.HANDOVER and not view.handover


def is_final(job: Job, receipt: Receipt, view: L1View) -> bool:
    """Whether what our mined transaction brought is final."""
    if isinstance(job, Upkeep):
        return receipt.block_number <= view.final_block
    return view.final_next > job


def _is_postable(view: L1View) -> bool:
    return view.certified >= view.next_number and view.next_epoch == view.epoch


def _is_all_posted(view: L1View) -> bool:
    """Whether the contract has every batch of its epoch, which is over here."""
    return view.next_epoch is None or view.next_epoch > view.epoch
