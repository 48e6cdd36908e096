"""What is let in: each namespace's policy, then the pool.

`eth_sendRawTransaction` always means the `ethereum` policy; for everything else the policy of the
namespace in node.toml decides, `opaque` where it says nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from sequencer.collection import transaction_id
from sequencer.config import NamespaceConfig
from sequencer.history import Pruned
from sequencer.pool import PoolFull
from sequencer.rpc.jsonrpc import LIMIT_EXCEEDED, REFUSED, UNAVAILABLE, RpcError
from sequencer.rpc.limits import Limits
from sequencer.rpc.senders import Senders
from sequencer.service import NodeService, Unready
from sequencer.transaction import (
    AdmissionError,
    EthereumTransaction,
    admit_ethereum,
    admit_opaque,
)

SIGNATURES_BETWEEN_YIELDS: Final = 16
"""Senders recovered in a row (about a millisecond) before others get the event loop."""
REPLACEMENT: Final = "replacement transaction underpriced"
"""How geth refuses a second transaction of one sender and nonce."""
UNREADY_RETRY_MS: Final = 1_000
"""What a client is told to wait for a node that is catching up."""


class Recent:
    """Transactions taken here a short while ago, by hash: bounded, the oldest are forgotten."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._transactions: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def add(self, tx_hash: bytes, namespace: int, transaction: bytes) -> None:
        """Remember one."""
        if tx_hash in self._transactions:
            return
        self._transactions[tx_hash] = (namespace, transaction)
        self._bytes += len(transaction)
        while self._bytes > self._most_bytes:
            _, (_, oldest) = self._transactions.popitem(last=False)
            self._bytes -= len(oldest)

    def get(self, tx_hash: bytes) -> tuple[int, bytes] | None:
        """The (namespace, bytes) of one, if it is remembered."""
        return self._transactions.get(tx_hash)


class Admission:
    """Checks transactions and hands them to the node."""

    def __init__(self, service: NodeService, senders: Senders, limits: Limits) -> None:
        self._service = service
        self._senders = senders
        self._rules = service.genesis.rules
        self._policies: dict[int, NamespaceConfig] = dict(service.config.namespaces)
        self._default = NamespaceConfig()
        self.recent = Recent(limits.recent_bytes)

    def settings(self, namespace: int) -> NamespaceConfig:
        """What node.toml says of a namespace, or the defaults."""
        return self._policies.get(namespace, self._default)

    def known(self, ident: bytes) -> bool:
        """Whether a transaction is in the log, or was taken here and waits for its place."""
        service = self._service
        try:
            return service.pending(ident) or service.ledger.locate(ident) is not None
        except Pruned:
            return True

    def take_ethereum(self, namespace: int, raw: bytes) -> bytes:
        """Admit one signed transaction; returns its Ethereum hash.  Idempotent.

        Raises RpcError with geth's codes and sentences.
        """
        transaction = self._check_ethereum(namespace, raw)
        if not self.known(transaction_id(namespace, raw)):
            self._check_nonce(namespace, transaction)
            self._check_rival(namespace, raw, transaction)
            self._submit([(namespace, raw)])
            self._senders.admitted(namespace, raw, transaction)
            self.recent.add(transaction.hash, namespace, raw)
        return transaction.hash

    async def take_all(self, transactions: list[tuple[int, bytes]]) -> None:
        """Admit these (namespace, bytes) by their namespaces' policies, all or none.

        Raises RpcError; `data.index` says which one is at fault.
        """
        signed: list[tuple[int, bytes, EthereumTransaction]] = []
        indices: list[int] = []
        for index, (namespace, transaction) in enumerate(transactions):
            try:
                if self.settings(namespace).policy == "ethereum":
                    if index % SIGNATURES_BETWEEN_YIELDS == SIGNATURES_BETWEEN_YIELDS - 1:
                        await asyncio.sleep(0)
                    admitted = self._check_native(namespace, transaction)
                    if not self.known(transaction_id(namespace, transaction)):
                        self._check_nonce(namespace, admitted)
                        signed.append((namespace, transaction, admitted))
                        indices.append(index)
                else:
                    self._check_opaque(transaction)
            except RpcError as error:
                raise RpcError(error.code, error.message, {"index": index}) from None
        self._check_rivals(signed, indices)
        self._submit(transactions)
        for namespace, raw, admitted in signed:
            self._senders.admitted(namespace, raw, admitted)

    def allows(self, transactions: Sequence[tuple[int, bytes]]) -> bool:
        """Whether these (namespace, bytes) would be admitted, for a follower's clients."""
        try:
            for namespace, transaction in transactions:
                if self.settings(namespace).policy == "ethereum":
                    admitted = self._check_ethereum(namespace, transaction)
                    self._check_nonce(namespace, admitted)
                else:
                    self._check_opaque(transaction)
        except RpcError:
            return False
        return True

    def _check_opaque(self, transaction: bytes) -> None:
        try:
            admit_opaque(transaction, self._rules)
        except AdmissionError as error:
            raise RpcError(error.code, error.message) from None

    def _check_ethereum(self, namespace: int, raw: bytes) -> EthereumTransaction:
        try:
            admit_opaque(raw, self._rules)
            return admit_ethereum(raw, namespace, self.settings(namespace))
        except AdmissionError as error:
            raise RpcError(error.code, error.message) from None

    def _check_native(self, namespace: int, raw: bytes) -> EthereumTransaction:
        """As `_check_ethereum`, for those who may not know that the namespace is choosy."""
        try:
            return self._check_ethereum(namespace, raw)
        except RpcError as error:
            hint = f"namespace {namespace} takes signed transactions of its chain id only"
            reason = f"{error.message} ({hint}: policy ethereum)"
            raise RpcError(error.code, reason) from None

    def _check_rival(self, namespace: int, raw: bytes, transaction: EthereumTransaction) -> None:
        """Refuse another transaction of a nonce while the first one waits here: as both would be
        ordered, it could replace nothing."""
        holder = self._senders.holder(namespace, transaction.sender, transaction.nonce)
        if holder is None or holder == raw:
            return
        if self._service.pending(transaction_id(namespace, holder)):
            raise RpcError(REFUSED, REPLACEMENT)

    def _check_rivals(
        self, signed: list[tuple[int, bytes, EthereumTransaction]], indices: list[int]
    ) -> None:
        """The same for many, of which two may be rivals as well."""
        taken: dict[tuple[int, bytes, int], bytes] = {}
        for index, (namespace, raw, transaction) in zip(indices, signed, strict=True):
            try:
                self._check_rival(namespace, raw, transaction)
                key = (namespace, transaction.sender, transaction.nonce)
                if taken.setdefault(key, raw) != raw:
                    raise RpcError(REFUSED, REPLACEMENT)
            except RpcError as error:
                raise RpcError(error.code, error.message, {"index": index}) from None

    def _check_nonce(self, namespace: int, transaction: EthereumTransaction) -> None:
        sender, nonce = transaction.sender, transaction.nonce
        if self._senders.is_past(namespace, sender, nonce):
            end = self._senders.accounts.end(namespace, sender)
            reason = f"nonce too low: next nonce {end}, tx nonce {nonce}"
            raise RpcError(REFUSED, reason)

    def _submit(self, transactions: list[tuple[int, bytes]]) -> None:
        try:
            self._service.submit(transactions)
        except PoolFull as full:
            hint = {"retry_after_ms": full.retry_after_ms}
            reason = f"the pool is full, try again in {full.retry_after_ms} ms"
            raise RpcError(LIMIT_EXCEEDED, reason, hint) from None
        except Unready as unready:
            raise RpcError(
                UNAVAILABLE, str(unready), {"retry_after_ms": UNREADY_RETRY_MS}
            ) from None
