"""The `eth_*`, `net_*` and `web3_*` methods, as geth answers them, on top of an ordered log.

`latest` is the newest committed block, `safe` the newest posted on L1, `finalized` the newest
final there; `pending` is `latest`.  What needs execution goes to the namespace's `rollup_rpc`; a
node without one says so, or gives an answer that lets a wallet go on.
"""

import platform
from typing import TYPE_CHECKING, Any, Final

from eth_hash.auto import keccak

from sequencer import __version__
from sequencer.collection import transaction_id
from sequencer.rpc import params
from sequencer.rpc.envelope import data, quantity
from sequencer.rpc.gas import intrinsic_gas_of
from sequencer.rpc.jsonrpc import (
    METHOD_NOT_FOUND,
    REFUSED,
    WAIT_TIMEOUT,
    Caller,
    Handler,
    Method,
    RpcError,
)
from sequencer.rpc.views import View

if TYPE_CHECKING:
    from sequencer.ledger import Location
    from sequencer.rpc.methods import Rpc

FORWARDED: Final = {
    "eth_getBalance": (1, 1),
    "eth_getCode": (1, 1),
    "eth_getStorageAt": (2, 1),
    "eth_call": (1, 3),
    "eth_getLogs": (1, 0),
}
"""Questions about state, with their arity: only the rollup knows."""

PRESENT_TAGS: Final = ("latest", "pending", "safe", "finalized")
"""What nonces are answered for: all but `pending` mean the newest committed block."""

MAX_QUANTITY: Final = 20
"""Characters of a number or tag; what is longer is a hash."""

FEE_HISTORY_BLOCKS: Final = 1_024
"""Blocks in one answer of `eth_feeHistory` (geth's limit)."""


def client_version() -> str:
    """Name, version and platform, as clients print them."""
    system = f"{platform.system().lower()}-{platform.machine()}"
    return f"sequencer/v{__version__}/{system}/python{platform.python_version()}"


class Ethereum:
    """Handlers; each gets the caller and the call's parameters."""

    def __init__(self, rpc: "Rpc") -> None:
        self._rpc = rpc
        self._version = client_version()

    def methods(self) -> dict[str, Method]:
        """The method table of this module."""
        forwarded = {
            name: Method(self._forwarder(name), *arity) for name, arity in FORWARDED.items()
        }
        return {
            **forwarded,
            "web3_clientVersion": Method(lambda _caller: self._version),
            "net_version": Method(lambda caller: str(self._rpc.namespace(caller))),
            "web3_sha3": Method(lambda _caller, text: data(keccak(params.hex_bytes(text, 0))), 1),
            "net_peerCount": Method(self.peer_count),
            "net_listening": Method(lambda _caller: True),
            "eth_accounts": Method(lambda _caller: []),
            "eth_chainId": Method(lambda caller: quantity(self._rpc.namespace(caller))),
            "eth_blockNumber": Method(lambda _caller: quantity(self._rpc.commits.height)),
            "eth_syncing": Method(self.syncing),
            "eth_getBlockByNumber": Method(self.block_by_number, 1, 1),
            "eth_getBlockByHash": Method(self.block_by_hash, 1, 1),
            "eth_getBlockReceipts": Method(self.block_receipts, 1),
            "eth_getBlockTransactionCountByNumber": Method(self.transactions_in, 1),
            "eth_getBlockTransactionCountByHash": Method(self.transactions_in, 1),
            "eth_getUncleCountByBlockNumber": Method(self.uncles_in, 1),
            "eth_getUncleCountByBlockHash": Method(self.uncles_in, 1),
            "eth_getTransactionByBlockNumberAndIndex": Method(self.transaction_at, 2),
            "eth_getTransactionByBlockHashAndIndex": Method(self.transaction_at, 2),
            "eth_sendRawTransaction": Method(self.send_raw_transaction, 1),
            "eth_sendRawTransactionSync": Method(self.send_raw_transaction_sync, 1, 1),
            "eth_getTransactionByHash": Method(self.transaction_by_hash, 1),
            "eth_getRawTransactionByHash": Method(self.raw_transaction, 1),
            "eth_getTransactionReceipt": Method(self.transaction_receipt, 1),
            "eth_getTransactionCount": Method(self.transaction_count, 1, 1),
            "eth_gasPrice": Method(self.gas_price),
            "eth_maxPriorityFeePerGas": Method(self.max_priority_fee),
            "eth_feeHistory": Method(self.fee_history, 2, 1),
            "eth_estimateGas": Method(self.estimate_gas, 1, 3),
        }

    def peer_count(self, _caller: Caller) -> str:
        """How many members and guests this node is connected to."""
        status = self._rpc.service.status()
        return quantity(status.get("peers_up", 0) + status.get("guests", 0))

    def syncing(self, _caller: Caller) -> Any:
        """False, or how far this node is while it catches up."""
        if self._rpc.service.ready()[0]:
            return False
        height = self._rpc.commits.height
        highest = self._rpc.service.status().get("highest_height", height)
        return {
            "startingBlock": "0x0",
            "currentBlock": quantity(height),
            "highestBlock": quantity(max(height, highest)),
        }

    def height_of(self, tag: Any, index: int) -> int:
        """The height that a tag or number means."""
        if tag in ("latest", "pending"):
            return self._rpc.commits.height
        if tag == "safe":
            return self._rpc.service.safe_height()
        if tag == "finalized":
            return self._rpc.service.finalized_height()
        return 0 if tag == "earliest" else params.number(tag, index)

    async def block_by_number(self, caller: Caller, tag: Any, full: Any = None) -> Any:
        """A rollup-view block; null above the head."""
        namespace, whole = self._rpc.namespace(caller), params.flag(full, 1)
        view = self._rpc.views.at(self.height_of(tag, 0))
        return view and await self._rpc.views.block(view, namespace, whole)

    async def block_by_hash(self, caller: Caller, block_id: Any, full: Any = None) -> Any:
        """A rollup-view block; null for a block that is not committed."""
        namespace, whole = self._rpc.namespace(caller), params.flag(full, 1)
        view = self._view_by_id(params.hash_bytes(block_id, 0))
        return view and await self._rpc.views.block(view, namespace, whole)

    def _view(self, block: Any, index: int = 0) -> View | None:
        """The block that a tag, a number, a hash or an EIP-1898 object means; None if none."""
        if isinstance(block, dict):
            if "blockHash" in block:
                return self._view_by_id(params.hash_bytes(block["blockHash"], index))
            block = block.get("blockNumber")
        if isinstance(block, str) and len(block) > MAX_QUANTITY:
            return self._view_by_id(params.hash_bytes(block, index))
        return self._rpc.views.at(self.height_of(block, index))

    async def block_receipts(self, caller: Caller, block: Any) -> Any:
        """The receipts of a rollup-view block; null above the head."""
        namespace, view = self._rpc.namespace(caller), self._view(block)
        return view and await self._rpc.views.receipts(view, namespace)

    def transactions_in(self, caller: Caller, block: Any) -> Any:
        """How many transactions of this rollup are in a block; null above the head."""
        namespace, view = self._rpc.namespace(caller), self._view(block)
        return view and quantity(len(view.of(namespace)))

    def uncles_in(self, _caller: Caller, block: Any) -> Any:
        """None ever; null above the head."""
        return self._view(block) and "0x0"

    def transaction_at(self, caller: Caller, block: Any, index: Any) -> Any:
        """The transaction at an index of a rollup-view block, or null."""
        namespace, at = self._rpc.namespace(caller), params.number(index, 1)
        view = self._view(block)
        return view and self._rpc.views.transaction_at(view, namespace, at)

    def _view_by_id(self, block_id: bytes) -> View | None:
        genesis = self._rpc.views.at(0)
        if genesis is not None and genesis.block.id == block_id:
            return genesis
        block = self._rpc.ledger.block_by_id(block_id)
        view = block and self._rpc.views.at(block.height)
        return view if view and view.block.id == block_id else None

    def send_raw_transaction(self, caller: Caller, raw: Any) -> str:
        """Take one signed transaction; its hash."""
        namespace = self._rpc.namespace(caller)
        return data(self._rpc.admission.take_ethereum(namespace, params.hex_bytes(raw, 0)))

    async def send_raw_transaction_sync(
        self, caller: Caller, raw: Any, timeout_ms: Any = None
    ) -> Any:
        """EIP-7966: take one signed transaction and wait for its receipt."""
        limits = self._rpc.limits
        wait = params.wait_ms(timeout_ms, 1, limits.wait_default_ms, limits.wait_max_ms)
        namespace, transaction = self._rpc.namespace(caller), params.hex_bytes(raw, 0)
        tx_hash = self._rpc.admission.take_ethereum(namespace, transaction)
        ident = transaction_id(namespace, transaction)
        if not await self._rpc.commits.ordered(ident, wait):
            raise RpcError(
                WAIT_TIMEOUT,
                "The transaction was added to the transaction pool but wasn't processed in "
                f"{wait} ms",
                data(tx_hash),
            )
        return self._receipt(namespace, tx_hash)

    def transaction_by_hash(self, caller: Caller, tx_hash: Any) -> Any:
        """An ordered or pending transaction of this rollup, or null."""
        namespace, wanted = self._rpc.namespace(caller), params.hash_bytes(tx_hash, 0)
        location = self._locate(namespace, wanted)
        if location is not None:
            return self._rpc.views.transaction(location)
        found = self._pending(namespace, wanted)
        return found and self._rpc.views.pending_transaction(*found, wanted)

    def _pending(self, namespace: int, tx_hash: bytes) -> tuple[int, bytes] | None:
        found = self._rpc.admission.recent.get(tx_hash)
        if found is None or found[0] != namespace or not self._rpc.service.pending(tx_hash):
            return None
        return found

    def raw_transaction(self, caller: Caller, tx_hash: Any) -> Any:
        """The bytes of an ordered or pending transaction of this rollup, or null."""
        namespace, wanted = self._rpc.namespace(caller), params.hash_bytes(tx_hash, 0)
        location = self._locate(namespace, wanted)
        if location is None:
            found = self._pending(namespace, wanted)
            return found and data(found[1])
        view = self._rpc.views.at(location.height)
        return view and data(view.transactions[location.index][1])

    def transaction_receipt(self, caller: Caller, tx_hash: Any) -> Any:
        """The receipt of an ordered transaction of this rollup; null while it is pending."""
        return self._receipt(self._rpc.namespace(caller), params.hash_bytes(tx_hash, 0))

    def _receipt(self, namespace: int, tx_hash: bytes) -> Any:
        location = self._locate(namespace, tx_hash)
        return location and self._rpc.views.receipt(location)

    def _locate(self, namespace: int, tx_hash: bytes) -> "Location | None":
        """Where this rollup's transaction stands; the same bytes may stand in others, too."""
        location = self._rpc.commits.locate(tx_hash, namespace)
        return location if location and location.namespace == namespace else None

    async def transaction_count(self, caller: Caller, account: Any, tag: Any = "latest") -> str:
        """The next nonce: the rollup's, or from the log (see `accounts`)."""
        namespace, address = self._rpc.namespace(caller), params.address(account, 0)
        pending = tag == "pending"
        url = self._rpc.admission.settings(namespace).rollup_rpc
        if not url and self._is_before_everything(tag):
            return "0x0"
        ours = self._rpc.senders.next_nonce(namespace, address, pending)
        if not url:
            return quantity(ours)
        answer = await self._rpc.forward.call(url, "eth_getTransactionCount", [account, tag])
        theirs = params.parse_number(answer)
        if theirs is None:
            raise RpcError(REFUSED, "the rollup's own RPC answers something else")
        return quantity(max(ours, theirs) if pending else theirs)

    def _is_before_everything(self, block: Any) -> bool:
        """Whether nonces are asked for at the genesis.  Raises RpcError for other blocks that are
        named by number or hash: the nonces of the past are not kept."""
        if block is None or (isinstance(block, str) and block in PRESENT_TAGS):
            return False
        view = self._view(block, 1)
        if view is None:
            raise RpcError(REFUSED, "header not found")
        if view.block.height:
            raise RpcError(
                REFUSED,
                "nonces at a block of the past are not kept here: ask for latest or pending",
            )
        return True

    async def gas_price(self, caller: Caller) -> Any:
        """The rollup's, or the fee floor of the namespace."""
        return await self._rollup_or(caller, "eth_gasPrice", [], self._fee_floor(caller))

    async def max_priority_fee(self, caller: Caller) -> Any:
        """The rollup's, or zero: order does not depend on fees here."""
        return await self._rollup_or(caller, "eth_maxPriorityFeePerGas", [], "0x0")

    async def estimate_gas(self, caller: Caller, call: Any, *more: Any) -> Any:
        """The rollup's, or what a transaction needs before anything is executed."""
        given = [call, *more]
        namespace = self._rpc.namespace(caller)
        if self._rpc.admission.settings(namespace).rollup_rpc:
            return await self._rollup_or(caller, "eth_estimateGas", given, None)
        return quantity(intrinsic_gas_of(call))

    async def fee_history(
        self, caller: Caller, count: Any, newest: Any, percentiles: Any = None
    ) -> Any:
        """The rollup's, or a flat history at the fee floor."""
        rewards = percentiles if isinstance(percentiles, list) else []
        if len(rewards) > 100:
            raise params.invalid(2, "over the query limit 100")
        last = self.height_of(newest, 1)
        blocks = min(params.number(count, 0), FEE_HISTORY_BLOCKS, last + 1)
        flat = {
            "oldestBlock": quantity(last + 1 - blocks),
            "baseFeePerGas": [self._fee_floor(caller)] * (blocks + 1),
            "gasUsedRatio": [0.0] * blocks,
            **({"reward": [["0x0"] * len(rewards)] * blocks} if rewards else {}),
        }
        given = [count, newest, rewards]
        return await self._rollup_or(caller, "eth_feeHistory", given, flat)

    def _fee_floor(self, caller: Caller) -> str:
        return quantity(self._rpc.views.base_fee(self._rpc.namespace(caller)))

    async def _rollup_or(self, caller: Caller, name: str, given: list[Any], static: Any) -> Any:
        url = self._rpc.admission.settings(self._rpc.namespace(caller)).rollup_rpc
        return await self._rpc.forward.call(url, name, given) if url else static

    def _forwarder(self, name: str) -> Handler:
        async def forward(caller: Caller, *given: Any) -> Any:
            namespace = self._rpc.namespace(caller)
            url = self._rpc.admission.settings(namespace).rollup_rpc
            if not url:
                raise RpcError(
                    METHOD_NOT_FOUND,
                    f"the method {name} does not exist/is not available: this node orders "
                    f"transactions and executes none (namespaces.{namespace}.rollup_rpc is unset)",
                )
            return await self._rpc.forward.call(url, name, list(given))

        return forward
