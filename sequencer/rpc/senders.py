"""Keeps `Accounts` up with the log, without slowing the node down.

A node recovers the sender of a signed transaction once, when it admits it.  Of transactions that
others admitted it learns here: in the background, in small turns, for the namespaces in question
only (policy `ethereum`, or asked about by an Ethereum client).  Where more comes in than that, the
oldest of `BACKLOG_ENTRIES` are passed over: nonces of other nodes' senders lag then, and are right
again with the sender's next transaction.

A transaction that was taken here holds its nonce until it is ordered, for `HELD_S` at most.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sequencer.config import NamespaceConfig
from sequencer.rpc.accounts import Accounts
from sequencer.rpc.limits import Limits
from sequencer.service import NodeService
from sequencer.transaction import AdmissionError, EthereumTransaction, admit_ethereum

if TYPE_CHECKING:
    from sequencer.ledger import AppliedBlock

BACKLOG_ENTRIES: Final = 4_096
"""Ordered transactions whose sender is not recovered yet; also what is read back at the start."""
WATCHED_NAMESPACES: Final = 256
"""Namespaces whose senders are followed, the least recently asked about is dropped."""
READING_PAUSE_S: Final = 1.0
"""Between two namespaces whose past is read because somebody asked about them."""
TURN: Final = 8
"""Senders recovered before others get the event loop (some 0.5 ms)."""
TURN_WHEN_ASKED: Final = 32
"""Senders recovered at once because somebody asks for a nonce."""
ADMITTED_ENTRIES: Final = 16_384
"""Transactions taken here whose sender is remembered until they are ordered."""
HELD_S: Final = 60.0
"""After this time a transaction that is still not ordered holds its nonce no more."""
PAUSE_S: Final = 0.005
"""The pause between two turns: at most a tenth of a core goes into this."""

ANY_FEE: Final = NamespaceConfig()

Nonce = tuple[int, bytes, int]
"""Namespace, sender, nonce."""


def sender_of(namespace: int, transaction: bytes) -> EthereumTransaction | None:
    """A signed transaction of the rollup, decoded and its sender recovered; None for others."""
    try:
        return admit_ethereum(transaction, namespace, ANY_FEE)
    except AdmissionError:
        return None


class Senders:
    """The nonces of the senders in the log, as far as this node follows them."""

    def __init__(self, service: NodeService, limits: Limits) -> None:
        self.accounts = Accounts(limits.accounts)
        self._ledger = service.ledger
        self._backlog: deque[tuple[int, bytes]] = deque(maxlen=BACKLOG_ENTRIES)
        self._admitted: OrderedDict[tuple[int, bytes], EthereumTransaction] = OrderedDict()
        self._held: OrderedDict[Nonce, tuple[bytes, float]] = OrderedDict()
        self._wake = asyncio.Event()
        self._watched: OrderedDict[int, None] = OrderedDict()
        self._next_reading = 0.0
        self._configured = {
            namespace
            for namespace, settings in service.config.namespaces.items()
            if settings.policy == "ethereum"
        }
        if self._configured:
            self._read_back(self._configured)
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def watch(self, namespace: int) -> None:
        """Follow the senders of a namespace, from its recent past on."""
        if namespace in self._configured:
            return
        if namespace in self._watched:
            self._watched.move_to_end(namespace)
            return
        now = asyncio.get_running_loop().time()
        if now < self._next_reading:
            return  # asked again, it is watched then
        self._next_reading = now + READING_PAUSE_S
        self._watched[namespace] = None
        if len(self._watched) > WATCHED_NAMESPACES:
            self._watched.popitem(last=False)
        self._read_back({namespace})

    def _read_back(self, namespaces: set[int]) -> None:
        end = self._ledger.head.next_position
        first = max(self._ledger.base.next_position, end - BACKLOG_ENTRIES)
        self._note(
            (entry.namespace, entry.transaction)
            for entry in self._ledger.entries(first, end - first)
            if entry.namespace in namespaces
        )

    def on_commit(self, applied: "AppliedBlock") -> None:
        """Note the transactions of watched namespaces in a new block."""
        watched, configured = self._watched, self._configured
        if watched or configured:
            self._note(
                entry
                for entry in applied.transactions
                if entry[0] in watched or entry[0] in configured
            )

    def _note(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Count what was admitted here at once, and what was not when there is time."""
        for entry in entries:
            known = self._admitted.pop(entry, None)
            if known is None:
                if len(self._backlog) == BACKLOG_ENTRIES:
                    self.accounts.lost()
                self._backlog.append(entry)
            else:
                self._held.pop((entry[0], known.sender, known.nonce), None)
                self.accounts.ordered(entry[0], known.sender, known.nonce)
        if self._backlog:
            self._wake.set()

    def admitted(self, namespace: int, raw: bytes, transaction: EthereumTransaction) -> None:
        """Note a transaction that this node has just taken: its sender is known."""
        self.accounts.admitted(namespace, transaction.sender, transaction.nonce)
        self._admitted[namespace, raw] = transaction
        until = asyncio.get_running_loop().time() + HELD_S
        self._held[namespace, transaction.sender, transaction.nonce] = (raw, until)
        for bounded in (self._admitted, self._held):
            if len(bounded) > ADMITTED_ENTRIES:
                bounded.popitem(last=False)
        self.watch(namespace)

    def holder(self, namespace: int, sender: bytes, nonce: int) -> bytes | None:
        """The bytes of the transaction that was taken here with this nonce and is not ordered."""
        raw, until = self._held.get((namespace, sender, nonce), (None, 0.0))
        return raw if asyncio.get_running_loop().time() < until else None

    def next_nonce(self, namespace: int, sender: bytes, pending: bool) -> int:
        """The nonce that the sender's next transaction should have."""
        self.watch(namespace)
        self._catch_up(TURN_WHEN_ASKED)
        return self.accounts.next_nonce(namespace, sender, pending)

    def is_past(self, namespace: int, sender: bytes, nonce: int) -> bool:
        """Whether a transaction of this nonce is known to be in the log."""
        return self.accounts.is_past(namespace, sender, nonce)

    def _catch_up(self, most: int) -> None:
        for _ in range(min(most, len(self._backlog))):
            namespace, raw = self._backlog.popleft()
            found = sender_of(namespace, raw)
            if found is not None:
                self.accounts.ordered(namespace, found.sender, found.nonce)

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._backlog:
                self._catch_up(TURN)
                await asyncio.sleep(PAUSE_S)
