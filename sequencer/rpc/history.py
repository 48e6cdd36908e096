"""What somebody needs who begins with the L1 instead of the genesis: headers, and why to believe.

Everything answered here is proved by itself; the L1 tells what was ordered, these tell in which
blocks (`sequencer.bootstrap`).
"""

from typing import TYPE_CHECKING, Any, Final

from consensus.types import Block
from sequencer.rpc import params
from sequencer.rpc.envelope import data
from sequencer.rpc.jsonrpc import INVALID_PARAMS, REFUSED, Caller, Method, RpcError

if TYPE_CHECKING:
    from sequencer.rpc.methods import Rpc

MAX_HEADERS: Final = 256
"""Headers in one answer."""
MAX_CHANGES: Final = 64
"""Ends of epochs in one answer."""


class History:
    """Handlers; each gets the caller and the call's parameters."""

    def __init__(self, rpc: "Rpc") -> None:
        self._rpc = rpc

    def methods(self) -> dict[str, Method]:
        """The method table of this module."""
        return {
            "seq_getHeaders": Method(self.headers, 2),
            "seq_getProof": Method(self.proof, 1),
            "seq_getEpochs": Method(self.epochs, 1),
        }

    def headers(self, _caller: Caller, first: Any, last: Any) -> list[str]:
        """The encoded headers of these heights, `MAX_HEADERS` at most, as far as there are."""
        start, end = params.number(first, 0), params.number(last, 1)
        if end < start:
            raise RpcError(INVALID_PARAMS, "invalid argument 1: below the first height")
        end = min(end, start + MAX_HEADERS - 1, self._rpc.commits.height)
        return [data(self._block(height).encode()) for height in range(start, end + 1)]

    def proof(self, _caller: Caller, height: Any) -> dict[str, Any] | None:
        """Why the block of a height is final: the headers above it up to one that is proved, and
        that proof; null while there is none."""
        start = params.number(height, 0)
        self._block(start)
        found = self._rpc.ledger.proof_at_or_after(start)
        if found is None or found[0] > self._rpc.commits.height:
            return None
        if found[0] - start > MAX_HEADERS:
            raise RpcError(REFUSED, f"the next proof is {found[0] - start} heights above")
        above = [self._block(at) for at in range(start + 1, found[0] + 1)]
        return {
            "headers": [data(block.encode()) for block in above],
            "proof": data(found[1].encode()),
        }

    def epochs(self, _caller: Caller, epoch: Any) -> list[str]:
        """How an epoch and those after it ended, `MAX_CHANGES` at most."""
        changes = self._rpc.service.epoch_changes(params.number(epoch, 0), MAX_CHANGES)
        return [data(change.encode()) for change in changes]

    def _block(self, height: int) -> Block:
        """A block that is here, be it only as a header."""
        block = self._rpc.ledger.block(height) if height <= self._rpc.commits.height else None
        if block is None:
            self._rpc.views.require(height)
            raise RpcError(REFUSED, f"height {height} is not reached yet")
        return block
