"""The `seq_*` methods: what Ethereum has no word for."""

from typing import TYPE_CHECKING, Any

from sequencer.receipt import build_receipt
from sequencer.rpc import params
from sequencer.rpc.envelope import data
from sequencer.rpc.jsonrpc import INVALID_PARAMS, Caller, Method, RpcError
from sequencer.rpc.submit import transaction_ids

if TYPE_CHECKING:
    from sequencer.rpc.methods import Rpc


class Native:
    """Handlers; each gets the caller and the call's parameters."""

    def __init__(self, rpc: "Rpc") -> None:
        self._rpc = rpc

    def methods(self) -> dict[str, Method]:
        """The method table of this module."""
        service = self._rpc.service
        return {
            "seq_submit": Method(self.submit, 2),
            "seq_getTransaction": Method(self.transaction, 1, 1),
            "seq_getReceipt": Method(self.receipt, 1),
            "seq_getBlock": Method(self.block, 1, 1),
            "seq_getBatch": Method(self.batch, 1),
            "seq_committee": Method(lambda _caller: service.committee()),
            "seq_status": Method(lambda _caller: service.status()),
            "seq_why": Method(lambda _caller: service.why()),
        }

    async def submit(self, _caller: Caller, namespace: Any, transactions: Any) -> list[str]:
        """Take transactions of one namespace, all or none; their ids."""
        number = params.number(namespace, 0)
        most = self._rpc.limits.submit_transactions
        if not isinstance(transactions, list) or not 0 < len(transactions) <= most:
            raise RpcError(INVALID_PARAMS, f"invalid argument 1: 1 to {most} transactions")
        bodies = [(number, params.hex_bytes(item, 1)) for item in transactions]
        ids = await transaction_ids(bodies)
        fresh = [
            body
            for body, ident in zip(bodies, ids, strict=True)
            if not self._rpc.admission.known(ident)
        ]
        if fresh:
            await self._rpc.admission.take_all(fresh)
            self._rpc.submitted(len(fresh), sum(len(body) for _, body in fresh))
        return [data(ident) for ident in ids]

    async def transaction(self, caller: Caller, tx_hash: Any, wait: Any = None) -> Any:
        """Where a transaction stands: `ordered`, `pending` or `unknown`.

        Waits up to `wait` milliseconds for it to be ordered (default: not at all).
        """
        wanted = params.hash_bytes(tx_hash, 0)
        wait_ms = params.wait_ms(wait, 1, 0, self._rpc.limits.wait_max_ms)
        if wait_ms:
            await self._rpc.commits.ordered(wanted, wait_ms)
        location = self._rpc.commits.locate(wanted, caller.namespace)
        if location is None:
            return {"state": "pending" if self._rpc.service.pending(wanted) else "unknown"}
        view = self._rpc.views.at(location.height)
        assert view is not None
        return {
            "state": "ordered",
            "id": data(location.id),
            "namespace": location.namespace,
            "height": location.height,
            "index": location.index,
            "position": location.position,
            "timestamp_ms": view.block.timestamp_ms,
            "settlement": self._rpc.service.settlement(location.position),
        }

    def receipt(self, caller: Caller, tx_hash: Any) -> Any:
        """The proof that a transaction is in the log, for `sequencer verify`; null if it is not."""
        wanted = params.hash_bytes(tx_hash, 0)
        if self._rpc.commits.locate(wanted, caller.namespace) is None:
            return None
        service = self._rpc.service
        receipt = build_receipt(
            self._rpc.ledger, service.genesis, wanted, caller.namespace, service.epoch_changes
        )
        if receipt is not None:
            receipt["settlement"] = service.settlement(receipt["position"])
        return receipt

    async def block(self, caller: Caller, height: Any, namespace: Any = None) -> Any:
        """One committed block as `seq_subscribe("transactions")` sends it; null above the head."""
        number = params.number(height, 0)
        only = caller.namespace if namespace is None else params.number(namespace, 1)
        if number > self._rpc.commits.height:
            return None
        return await self._rpc.views.event_renderer(only, True)(number)

    def batch(self, _caller: Caller, number: Any) -> Any:
        """A batch and its certificate; null if there is none of this number."""
        return self._rpc.service.batch(params.number(number, 0))
