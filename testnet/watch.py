"""Watching logs grow from outside: one subscription per node, reconnected where it broke off.

What a watcher knows it was told by the node's own feed, height by height without a gap; so what
all watchers have seen is committed on all nodes.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from sequencer.client import SequencerClient, Unreachable
from testnet.errors import TestnetError

RECONNECT_S: Final = 0.2


@dataclass(slots=True)
class Watcher:
    """Follows the log of one node from its first block on."""

    name: str
    client: SequencerClient
    height: int = 0
    seen: dict[bytes, float] = field(default_factory=dict)
    """Transaction id (32 bytes) to the moment it was seen, in monotonic seconds."""

    async def run(self) -> None:
        """Follow until cancelled, also while the node is down.  TestnetError on a wrong feed."""
        while True:
            try:
                async for block in self.client.follow("blocks", self.height + 1):
                    self._take(block)
            except Unreachable:
                await asyncio.sleep(RECONNECT_S)

    def _take(self, block: dict[str, Any]) -> None:
        now = time.monotonic()
        for spelled in block["transactions"]:
            identity = bytes.fromhex(spelled.removeprefix("0x"))
            if identity in self.seen:
                raise TestnetError(f"{self.name} has transaction {spelled} twice in its log")
            self.seen[identity] = now
        self.height = int(block["height"])
