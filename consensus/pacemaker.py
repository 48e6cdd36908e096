"""Which round this member is in, and until when.

Rules E1, T3, T4, T5. Times are monotonic milliseconds. The pacemaker never signs and never sends;
the replica asks `expired` and tells it what happened.
"""

from consensus.committee import Committee
from consensus.rules import Rules

SHORT_AFTER_FAILURES = 2
"""T5: a leader whose last two rounds timed out here gets short timers."""
PROBE_EVERY = 64
"""T5: at least every this many failures a failing leader gets a whole timer again."""


class Pacemaker:
    """The round, its timer and what the timers have learned about the leaders."""

    def __init__(self, committee: Committee, rules: Rules, round: int, now: int) -> None:
        self._committee = committee
        self._rules = rules
        self._failed_in_a_row = 0
        self._leader_failures = [0] * committee.size
        self._typical_round_ms = rules.base_timeout_ms // 4
        self.round = round
        self.entered_at = now
        self.timed_out = False
        self.working = False
        self.deadline = now
        self._start(now)

    def enter(self, round: int, by_timeout: bool, now: int) -> None:
        """E1: a certificate of the round before opens `round`; `work_arrived` may follow."""
        assert round > self.round
        leader = self._committee.leader(round - 1)
        if by_timeout:
            self._failed_in_a_row += 1
            self._leader_failures[leader] += 1
        else:
            self._leader_failures[leader] = 0
            if round == self.round + 1 and self.working:
                spent = min(now - self.entered_at, self._rules.base_timeout_ms)
                self._typical_round_ms = (7 * self._typical_round_ms + spent) // 8
        self.round = round
        self._start(now)

    def _start(self, now: int) -> None:
        self.entered_at = now
        self.timed_out = False
        self.working = False
        self.deadline = now + self._rules.idle_heartbeat_ms + self.timer()

    def work_arrived(self, now: int) -> None:
        """T4: work may shorten the deadline, never extend it."""
        if not self.working:
            self.working = True
            if not self.timed_out:
                self.deadline = min(self.deadline, now + self.timer())

    def rest(self) -> None:
        """T4: nothing is left to do, so the round may last until the idle heartbeat."""
        if self.working and not self.timed_out:
            self.working = False
            idle_until = self.entered_at + self._rules.idle_heartbeat_ms + self.timer()
            self.deadline = max(self.deadline, idle_until)

    def committed(self) -> None:
        """T3: progress resets the growth."""
        self._failed_in_a_row = 0

    def mark_timed_out(self, now: int) -> None:
        """E4: from now on the timeout is re-sent every base period, not the grown one."""
        self.timed_out = True
        self.deadline = now + self._rules.base_timeout_ms

    def expired(self, now: int) -> bool:
        """Whether the timer of this round, or the period for re-sending, has run out."""
        return now >= self.deadline

    @property
    def halfway(self) -> int:
        """T4: when holders re-offer unordered collections to the leader."""
        return self.deadline - self.timer() // 2

    def timer(self) -> int:
        """T3, T5: how long this round may take once there is work."""
        rules = self._rules
        beyond = self._failed_in_a_row - max(rules.free_failures, (self._committee.size - 1) // 3)
        if beyond <= 0 and self._is_failing(self._committee.leader(self.round)):
            quick = max(rules.base_timeout_ms // 20, 4 * self._typical_round_ms)
            return min(rules.base_timeout_ms // 2, quick)
        timer = rules.base_timeout_ms
        for _ in range(beyond):
            grown = min(timer * rules.timeout_growth_percent // 100, rules.max_timeout_ms)
            if grown == timer:
                break
            timer = grown
        return timer

    def _is_failing(self, leader: int) -> bool:
        """Whether its rounds get short timers now; it is probed with a whole one now and then.

        Probes come after 4, 8, 16, 32 and then every 64 failures.
        """
        failures = self._leader_failures[leader]
        if failures <= SHORT_AFTER_FAILURES:
            return failures == SHORT_AFTER_FAILURES
        doubled = failures & (failures - 1) == 0
        return not (doubled if failures < PROBE_EVERY else failures % PROBE_EVERY == 0)
