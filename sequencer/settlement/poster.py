"""The poster: brings certified batches to L1, one at a time, whatever the L1 does.

Upkeep of the contract (see `poster_turns`) goes the same way: what is said of batches below holds
for snapshots and handovers as well.

A pure machine: `step(event, now_ms) -> actions`. It knows the L1 only through `L1View`s, each a
consistent reading; everything that matters is derived from them again and again, so a lost answer,
a reorg or a restart needs no special path. What it saves is a hint: which transactions of ours may
be in flight.

1. Members are ranked by batch (`schedule`); rank k may send k * `takeover_blocks` L1 blocks after
   the later of the acceptance of the batch before and the L1 head at which it held the certificate.
2. An attempt goes through the stages

       certified  a certificate is held; waiting for our turn, in L1 blocks
       built      asked to simulate the call on the pending state
       simulated  asked to sign
       signed     saved, then sent
       sent       sent again with every L1 block, with higher fees every `bump_after_blocks`
       mined      included; leaves when final, returns to sent when a reorg takes it out

   and ends as `final`, `replaced` (its nonce was used by something we do not know), `taken over`
   (somebody else's was accepted; ours, if in flight, is cancelled by an empty transaction with the
   same nonce), `reverted` (mined, and refused by the contract) or `abandoned` (before anything was
   sent). Where an answer is awaited, `answer_timeout_ms` without one asks again.
3. Saved before every outside act: an action `Save` stands before the `Send` it covers.
4. A batch is *posted* at `confirmations` blocks, identified by block hash, and *final* when the L1
   says so. After a reorg the same transaction is sent first.

Safety does not depend on any of this: the contract takes each number once, and only certified.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sequencer.settlement.client import Receipt, SendOutcome
from sequencer.settlement.poster_events import (
    L1_ALARM,
    Action,
    Answered,
    Event,
    L1View,
    Notice,
    NoVerdict,
    PosterSettings,
    Save,
    Send,
    Sign,
    Signed,
    Simulate,
    Simulated,
    SimulationFailed,
    Stage,
    StageChanged,
    Tell,
    Unreachable,
)
from sequencer.settlement.poster_fees import market_fees, most, raised_fees
from sequencer.settlement.poster_state import (
    Flight,
    Job,
    Upkeep,
    Version,
    decode_state,
    encode_state,
    spelled,
)
from sequencer.settlement.poster_turns import Turns, is_early, is_final, is_over
from sequencer.settlement.poster_watch import Alarms, L1Watch, Progress

TAKEN = ("AlreadyPosted", "AlreadyAdvanced", "SnapshotPending")
"""Refusals that say that somebody else's transaction does it, or has done it."""
UNTIMELY = (
    *("NotNext", "WrongEpoch", "NothingPending"),
    *("EpochTooYoung", "NothingChanged", "TooFewMembers"),
)
"""Refusals that the next L1 block may take back: the pending state is ahead of what we saw."""
CANCEL_GAS = 21_000
MAX_VERSIONS = 16
"""Fee levels tried for one nonce; 9/8 to the power of 15 is almost 6."""
MAX_ATTEMPTS = 256
"""Own transactions that are mined and not final; above, posting waits for L1 finality."""


@dataclass
class _Attempt:
    """One job under way. `flight` is empty until something is signed."""

    job: Job
    stage: Stage = Stage.BUILT
    since_ms: int = 0
    flight: Flight | None = None
    pushed_block: int | None = None
    """The L1 head when it was last sent; None if not by this process."""
    version_block: int | None = None
    """The L1 head when its fees were last raised."""
    resend: int = -1
    """Which version to send again."""


class Poster:
    """The machine for one member. `saved` is what a `Save` held last, if anything is left of it."""

    def __init__(
        self,
        settings: PosterSettings,
        *,
        chain_id: bytes,
        member: int,
        size: int,
        saved: bytes | None = None,
    ) -> None:
        self._settings = settings
        self._turns = Turns(settings, chain_id, size, member)
        flights = decode_state(saved) if saved else []
        self._attempts = [_Attempt(flight.job, Stage.SENT, flight=flight) for flight in flights]
        self._saved = encode_state(flights)
        self._view: L1View | None = None
        self._now_ms = 0
        self._actions: list[Action] = []
        self._not_before = 0
        self._reverted: Job | None = None
        self._alarms = Alarms(self._tell)
        self._progress = Progress(settings.confirmations, self._tell)
        self._watch = L1Watch(settings, self._alarms)

    # what the shell asks

    def begin_epoch(self, size: int, member: int) -> None:
        """Another committee posts from now on; `member` is -1 for somebody outside of it."""
        self._turns.begin_epoch(size, member)

    @property
    def view(self) -> L1View | None:
        """The last reading of the L1."""
        return self._view

    @property
    def window_start(self) -> int | None:
        """The block after which `L1View.accepted` has to begin; None: after the final block."""
        return None if self._view is None else self._view.final_block

    def watched(self) -> list[bytes]:
        """The transactions whose receipts belong into the next view."""
        return [
            version.tx_hash
            for attempt in self._attempts
            if attempt.flight is not None
            for version in attempt.flight.versions
        ]

    def stage(self) -> tuple[Job, Stage] | None:
        """The oldest job under way that is not mined, or the one that waits for our turn."""
        for attempt in self._attempts:
            if attempt.stage is not Stage.MINED:
                return attempt.job, attempt.stage
        waiting = self._turns.waiting(self._view) if self._view is not None else []
        return (waiting[0], Stage.CERTIFIED) if waiting else None

    def upkeep(self) -> tuple[Upkeep, Stage] | None:
        """The upkeep under way that is not mined, or that waits for somebody's turn."""
        for attempt in self._attempts:
            if isinstance(attempt.job, Upkeep) and attempt.stage is not Stage.MINED:
                return attempt.job, attempt.stage
        for job in self._turns.waiting(self._view) if self._view is not None else []:
            if isinstance(job, Upkeep):
                return job, Stage.CERTIFIED
        return None

    def step(self, event: Event, now_ms: int) -> list[Action]:
        """What to do now that `event` happened, in this order. `now_ms` never falls."""
        self._now_ms = now_ms
        self._actions = []
        if isinstance(event, L1View):
            self._on_view(event)
        elif isinstance(event, Unreachable):
            self._alarms.start(L1_ALARM, "the L1 cannot be read", f": {event.text}")
        elif isinstance(event, Simulated):
            self._on_simulated(event)
        elif isinstance(event, SimulationFailed):
            self._on_simulation_failed(event)
        elif isinstance(event, NoVerdict):
            self._on_no_verdict(event)
        elif isinstance(event, Signed):
            self._on_signed(event)
        else:
            self._on_answered(event)
        return self._save_first()

    def _save_first(self) -> list[Action]:
        state = encode_state([a.flight for a in self._attempts if a.flight is not None])
        if state == self._saved:
            return self._actions
        self._saved = state
        return [Save(state), *self._actions]

    # a view

    def _on_view(self, view: L1View) -> None:
        before = self._view
        if before and (view.next_number, view.epoch) > (before.next_number, before.epoch):
            self._alarms.clear("post")
        self._view = view
        self._alarms.clear(L1_ALARM)
        self._progress.look(view)
        self._watch.look(view, self._now_ms)
        self._turns.look(view)
        for attempt in list(self._attempts):
            self._follow(attempt, view)
        if all(attempt.stage is Stage.MINED for attempt in self._attempts):
            self._start(view)

    # attempts that exist

    def _follow(self, attempt: _Attempt, view: L1View) -> None:
        if attempt.flight is None:
            self._follow_unsigned(attempt, view)
            return
        for version in attempt.flight.versions:
            receipt = view.receipts.get(version.tx_hash)
            if receipt is not None:
                self._follow_mined(attempt, version, receipt, view)
                return
        if view.nonce > attempt.flight.nonce:
            self._end(attempt, Stage.REPLACED, "its nonce was used by another transaction")
        else:
            self._push(attempt, attempt.flight, view)

    def _follow_unsigned(self, attempt: _Attempt, view: L1View) -> None:
        if is_over(attempt.job, view):
            self._end(attempt, Stage.TAKEN_OVER, "accepted from another member")
        elif is_early(attempt.job, view):
            self._end(attempt, Stage.ABANDONED, "the L1 went back to before its turn")
        elif self._timed_out(attempt):
            self._enter(attempt, Stage.BUILT, "no answer in time")
            self._actions.append(Simulate(attempt.job))

    def _follow_mined(
        self, attempt: _Attempt, version: Version, receipt: Receipt, view: L1View
    ) -> None:
        if version.cancel:
            self._end(attempt, Stage.TAKEN_OVER, "our transaction is cancelled")
        elif not receipt.succeeded and is_over(attempt.job, view):
            self._end(attempt, Stage.TAKEN_OVER, "accepted from another member first")
        elif not receipt.succeeded:
            self._end(attempt, Stage.REVERTED, "the contract refused it")
            self._after_revert(attempt.job, version)
        elif is_final(attempt.job, receipt, view):
            self._end(attempt, Stage.FINAL, "")
        elif attempt.stage is not Stage.MINED:
            self._enter(attempt, Stage.MINED, f"in L1 block {receipt.block_number}")

    def _after_revert(self, job: Job, version: Version) -> None:
        """Once is the weather: a reorg may put our batch before the one it follows. Twice is not,
        since the call succeeded in the simulation each time."""
        if self._reverted == job:
            self._hold_off("post", f"{spelled(job)}: 0x{version.tx_hash.hex()} reverted again")
        else:
            self._wait_blocks(1)
        self._reverted = job

    def _push(self, attempt: _Attempt, flight: Flight, view: L1View) -> None:
        """It is not mined: send it again, dearer, or cancelled."""
        if attempt.stage is Stage.MINED:
            self._enter(attempt, Stage.SENT, "a reorg took it out of the L1")
            attempt.pushed_block = None
            attempt.version_block = view.head.number
        overtaken = is_over(attempt.job, view)
        if attempt.pushed_block == view.head.number and not self._timed_out(attempt):
            return
        attempt.pushed_block = view.head.number
        attempt.since_ms = self._now_ms
        if attempt.version_block is None:
            attempt.version_block = view.head.number
        waited = view.head.number - attempt.version_block
        if overtaken and not flight.versions[-1].cancel:
            if self._raise_fees(attempt, flight, view, cancel=True):
                return
        elif waited >= self._settings.bump_after_blocks and self._raise_fees(
            attempt, flight, view, cancel=overtaken
        ):
            return
        self._actions.append(Send(flight.job, flight.nonce, flight.versions[attempt.resend]))

    def _raise_fees(self, attempt: _Attempt, flight: Flight, view: L1View, *, cancel: bool) -> bool:
        """Ask for a dearer version; False if the cap or the number of versions is reached."""
        limit, first, last = self._settings.max_fee_wei, flight.versions[0], flight.versions[-1]
        fees = raised_fees(last.fees, market_fees(view, limit, first.blobs), limit)
        if fees is None or len(flight.versions) >= MAX_VERSIONS:
            return False
        attempt.version_block = view.head.number
        gas, blobs = (CANCEL_GAS, min(1, first.blobs)) if cancel else (first.gas, first.blobs)
        self._actions.append(Sign(flight.job, flight.nonce, gas, fees, cancel, blobs))
        return True

    # a new attempt

    def _start(self, view: L1View) -> None:
        job = self._turns.ready(view)
        if job is None or view.head.number < self._not_before:
            return
        if len(self._attempts) >= MAX_ATTEMPTS:
            self._alarms.start("backlog", f"{MAX_ATTEMPTS} own batches wait for L1 finality")
            return
        self._alarms.clear("backlog")
        attempt = _Attempt(job)
        self._attempts.append(attempt)
        self._enter(attempt, Stage.BUILT, "")
        self._actions.append(Simulate(job))

    def _on_simulated(self, event: Simulated) -> None:
        attempt = self._unsigned(event.job, Stage.BUILT)
        if attempt is None or self._view is None:
            return
        limit = self._settings.max_fee_wei
        fees = market_fees(self._view, limit, event.blobs)
        if fees is None:
            self._end(attempt, Stage.ABANDONED, "too expensive")
            self._hold_off(
                "fees",
                f"the L1 base fee is {self._view.head.base_fee} wei"
                + (f", for blobs {self._view.blob_base_fee} wei" if event.blobs else "")
                + f", our limit for all fees is {limit} wei",
            )
            return
        cost = most(fees, event.gas, event.blobs)
        if cost > self._view.balance:
            self._end(attempt, Stage.ABANDONED, "not enough funds")
            self._hold_off(
                "funds", f"the L1 account owns {self._view.balance} wei, a batch may cost {cost}"
            )
            return
        self._alarms.clear("fees")
        self._alarms.clear("funds")
        self._enter(attempt, Stage.SIMULATED, "")
        self._actions.append(Sign(event.job, self._view.nonce, event.gas, fees, False, event.blobs))

    def _on_simulation_failed(self, event: SimulationFailed) -> None:
        attempt = self._unsigned(event.job, Stage.BUILT)
        if attempt is None:
            return
        if event.reason in TAKEN:
            self._end(attempt, Stage.TAKEN_OVER, "another member's transaction is pending")
            self._wait_blocks(1)
        elif event.reason in UNTIMELY:
            self._end(attempt, Stage.ABANDONED, f"not its turn on the L1: {event.reason}")
            self._wait_blocks(1)
        else:
            self._end(attempt, Stage.ABANDONED, event.reason)
            self._hold_off("post", f"{spelled(event.job)} would be refused: {event.reason}")

    def _on_no_verdict(self, event: NoVerdict) -> None:
        for stage in (Stage.BUILT, Stage.SIMULATED):
            attempt = self._unsigned(event.job, stage)
            if attempt is not None:
                self._end(attempt, Stage.ABANDONED, event.text)
                self._wait_blocks(1)

    # sending

    def _on_signed(self, event: Signed) -> None:
        attempt = next((a for a in self._attempts if a.job == event.job), None)
        if attempt is None or self._view is None:
            return
        if attempt.stage is Stage.SIMULATED:
            attempt.flight = Flight(event.job, event.nonce, [event.version])
            attempt.version_block = self._view.head.number
            self._enter(attempt, Stage.SIGNED, "")
        elif attempt.flight is not None and attempt.flight.nonce == event.nonce:
            attempt.flight.versions.append(event.version)
        else:
            return  # the answer to a question of an attempt that ended
        attempt.pushed_block = self._view.head.number
        attempt.resend = len(attempt.flight.versions) - 1
        self._actions.append(Send(event.job, event.nonce, event.version))

    def _on_answered(self, event: Answered) -> None:
        attempt = self._flying(event.tx_hash)
        if attempt is None or attempt.flight is None:
            return
        outcome, text = event.answer.outcome, event.answer.text
        alone = len(attempt.flight.versions) == 1
        if outcome in (SendOutcome.ACCEPTED, SendOutcome.KNOWN, SendOutcome.NONCE_TOO_LOW):
            if attempt.stage is Stage.SIGNED:
                self._enter(attempt, Stage.SENT, text)
        elif outcome is SendOutcome.UNDERPRICED:
            self._on_underpriced(attempt, attempt.flight, event.tx_hash)
        elif outcome is SendOutcome.UNREACHABLE:
            return  # it may have arrived: the next block sends it again
        elif alone and attempt.stage is Stage.SIGNED:
            self._end(attempt, Stage.ABANDONED, text)
            self._hold_off("post", f"{spelled(attempt.job)}: the L1 refused it: {text}")
        else:
            self._alarms.start("post", f"{spelled(attempt.job)}: the L1 refused it: {text}")

    def _on_underpriced(self, attempt: _Attempt, flight: Flight, tx_hash: bytes) -> None:
        """The pool holds a transaction with our nonce that pays more: an older version, or one
        that we do not know of any more. Send the older one again, and soon a dearer one."""
        if attempt.stage is Stage.SIGNED:
            self._enter(attempt, Stage.SENT, "underpriced")
        place = next(i for i, v in enumerate(flight.versions) if v.tx_hash == tx_hash)
        attempt.version_block = -self._settings.bump_after_blocks
        if place > 0 and attempt.resend == place:
            attempt.resend = place - 1
            self._actions.append(Send(flight.job, flight.nonce, flight.versions[place - 1]))

    # small things

    def _timed_out(self, attempt: _Attempt) -> bool:
        return self._now_ms - attempt.since_ms >= self._settings.answer_timeout_ms

    def _unsigned(self, job: Job, stage: Stage) -> _Attempt | None:
        return next((a for a in self._attempts if (a.job, a.stage) == (job, stage)), None)

    def _flying(self, tx_hash: bytes) -> _Attempt | None:
        for attempt in self._attempts:
            versions: Iterable[Version] = attempt.flight.versions if attempt.flight else ()
            if any(version.tx_hash == tx_hash for version in versions):
                return attempt
        return None

    def _enter(self, attempt: _Attempt, stage: Stage, why: str) -> None:
        attempt.stage = stage
        attempt.since_ms = self._now_ms
        tx_hash = attempt.flight.versions[-1].tx_hash if attempt.flight else b""
        self._tell(StageChanged(attempt.job, stage, tx_hash, why))

    def _end(self, attempt: _Attempt, stage: Stage, why: str) -> None:
        self._attempts.remove(attempt)
        self._enter(attempt, stage, why)

    def _hold_off(self, topic: str, text: str) -> None:
        """Say what is wrong and give the others time."""
        self._alarms.start(topic, text)
        self._wait_blocks(self._settings.takeover_blocks)

    def _wait_blocks(self, count: int) -> None:
        if self._view is not None:
            self._not_before = self._view.head.number + count

    def _tell(self, notice: Notice) -> None:
        self._actions.append(Tell(notice))
