"""Who waits for the log to grow: wakes readers of the log and callers with one transaction."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sequencer.rpc.jsonrpc import LIMIT_EXCEEDED, RpcError
from sequencer.rpc.limits import Limits
from sequencer.service import NodeService

if TYPE_CHECKING:
    from sequencer.ledger import AppliedBlock, Location


RECHECK_S: Final = 0.25
"""How often a waiter looks for itself: commits name transactions by id only."""


class Commits:
    """One registration at the node, many waiters here; used on the node's event loop only."""

    def __init__(self, service: NodeService, limits: Limits) -> None:
        self._ledger = service.ledger
        self._limits = limits
        self._grown = asyncio.Event()
        self._transactions: dict[bytes, set[asyncio.Future[bool]]] = {}
        self.waiting = 0
        """How many callers wait for one transaction."""
        self._observers: list[Callable[[AppliedBlock], None]] = []
        self._unregister = service.on_commit(self._on_commit)
        self.height = service.ledger.head.height
        """The last height that is applied and saved; the ledger itself may be ahead of its disk."""
        while service.ledger.block(self.height) is None:
            self.height -= 1

    def observe(self, observer: "Callable[[AppliedBlock], None]") -> None:
        """Call `observer` for every applied block from now on."""
        self._observers.append(observer)

    def close(self) -> None:
        """Stop listening and send every waiter away."""
        self._unregister()
        self._grown.set()
        for futures in self._transactions.values():
            for future in futures:
                future.cancel()

    def locate(self, tx_hash: bytes, namespace: int | None = None) -> "Location | None":
        """Where a transaction stands in the saved log, by its id or its Ethereum hash."""
        location = self._ledger.locate(tx_hash, namespace)
        return location if location and location.height <= self.height else None

    async def height_above(self, height: int) -> int:
        """Wait until the log is higher than `height`; returns its height."""
        while self.height <= height:
            await self._grown.wait()
        return self.height

    async def ordered(self, tx_hash: bytes, timeout_ms: int) -> bool:
        """Wait until a transaction is in the log; False after `timeout_ms`.

        By its id it is noticed at once, by an Ethereum hash within `RECHECK_S`.  Raises RpcError
        when too many wait already.
        """
        if self.locate(tx_hash) is not None:
            return True
        if self.waiting >= self._limits.waiters:
            raise RpcError(LIMIT_EXCEEDED, "too many calls are waiting, poll instead")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._transactions.setdefault(tx_hash, set()).add(future)
        self.waiting += 1
        end = loop.time() + timeout_ms / 1_000
        try:
            while (left := end - loop.time()) > 0:
                await asyncio.wait([future], timeout=min(left, RECHECK_S))
                if future.done() or self.locate(tx_hash) is not None:
                    return not future.cancelled()
            return False
        finally:
            self.waiting -= 1
            self._forget(tx_hash, future)

    def _forget(self, tx_hash: bytes, future: asyncio.Future[bool]) -> None:
        futures = self._transactions.get(tx_hash)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._transactions[tx_hash]

    def _on_commit(self, applied: "AppliedBlock") -> None:
        self.height = applied.block.height
        self._grown.set()
        self._grown.clear()
        if self._transactions:
            for index in range(applied.row.count):
                for future in self._transactions.get(applied.row.id(index), ()):
                    if not future.done():
                        future.set_result(True)
        for observer in self._observers:
            observer(applied)
