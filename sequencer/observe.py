"""What the core tells, made into log lines and metrics. Strings are made here and nowhere below.

Expected events are `debug`, progress of an operator's interest `info`, what needs somebody
`warning`, what must never happen `error`.
"""

import logging
from collections.abc import Callable
from time import monotonic

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from consensus.interface import Notice, NoticeKind
from consensus.types import MAX_MEMBERS
from sequencer.ledger import AppliedBlock

logger = logging.getLogger("sequencer")

_LEVELS = {
    NoticeKind.ALARM: logging.ERROR,
    NoticeKind.EVIDENCE: logging.WARNING,
    NoticeKind.SYNCING: logging.INFO,
    NoticeKind.TIMED_OUT: logging.INFO,
}

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
REFUSALS_TOLD_EVERY_S = 1.0
"""Anybody can send rubbish: one refused message in this long is logged, the others counted."""


class Observer:
    """Metrics of one node, and its log of notices. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tell_at = clock()
        self._untold = 0
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._events = self._counter("events", "Events of the protocol by kind", ["kind"])
        self._invalid = self._counter("invalid_messages", "Refused messages by member", ["member"])
        self._blocks = self._counter("blocks_applied", "Blocks applied to the log")
        self._transactions = self._counter("transactions_applied", "Transactions in the log")
        self._bytes = self._counter("bytes_applied", "Bytes of the transactions in the log")
        self._latency = Histogram(
            "sequencer_block_latency_seconds",
            "From a block's timestamp to its application here",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._gauges: dict[str, Gauge] = {}
        self.latency_ms: float | None = None

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"sequencer_{name}", text, labels or [], registry=self.registry)

    def notice(self, notice: Notice) -> None:
        """Count and log one event of the core."""
        self._events.labels(notice.kind.name.lower()).inc()
        level = _LEVELS.get(notice.kind, logging.DEBUG)
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "%s round=%d height=%d member=%d %s",
                notice.kind.value,
                notice.round,
                notice.height,
                notice.member,
                notice.detail,
            )

    def invalid(self, member: int, reason: str) -> None:
        """A peer, by its handle, sent something that cannot be right."""
        who = str(member) if member < MAX_MEMBERS else "guest"
        self._invalid.labels(who).inc()
        now = self._clock()
        if now < self._tell_at:
            self._untold += 1
            return
        logger.info("refused a message of %s: %s (%d more before it)", who, reason, self._untold)
        self._tell_at, self._untold = now + REFUSALS_TOLD_EVERY_S, 0

    def applied(self, block: AppliedBlock, unix_ms: int) -> None:
        """A block was applied and is durable."""
        self._blocks.inc()
        self._transactions.inc(block.row.count)
        self._bytes.inc(sum(len(transaction) for _, transaction in block.transactions))
        if block.transactions:
            spent = max(0, unix_ms - block.block.timestamp_ms)
            self._latency.observe(spent / 1000)
            known = self.latency_ms
            self.latency_ms = spent if known is None else (7 * known + spent) / 8

    def gauge(self, name: str, text: str, value: float) -> None:
        """Set a value that is read when somebody asks."""
        known = self._gauges.get(name)
        if known is None:
            known = Gauge(f"sequencer_{name}", text, registry=self.registry)
            self._gauges[name] = known
        known.set(value)

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return generate_latest(self.registry)


def set_up_logging(level: str, as_json: bool) -> None:
    """Logs go to standard error, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter(_PLAIN))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


_PLAIN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        import orjson

        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(fields).decode()
