"""Transactions waiting for a block, under geth's rules and in geth's words.

Per account, transactions are kept by nonce. One that leaves a gap waits; one with a nonce that is
taken must pay at least 10 % more on both fees to replace it. Nothing here looks at the EVM.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

from testnet.l1.errors import RpcError

MAX_TRANSACTION_BYTES = 128 * 1024
MAX_POOL_TRANSACTIONS = 4096
REPLACEMENT_PERCENT = 110
"""A replacement's fees, both of them, in percent of the replaced ones at least."""
CALLDATA_FLOOR_BASE_GAS = 21_000
CALLDATA_FLOOR_TOKEN_GAS = 10
TOKENS_PER_NONZERO_BYTE = 4
SUPPORTED_TYPES = (None, 1, 2, 4)
"""Blob transactions (type 3) need a consensus layer to carry the blobs."""


@dataclass(frozen=True, slots=True)
class PooledTransaction:
    """A transaction whose sender was recovered: py-evm's object, and what is asked of it often."""

    transaction: Any
    hash: bytes
    sender: bytes

    @property
    def nonce(self) -> int:
        """The sender's transaction count it needs."""
        return int(self.transaction.nonce)

    def tip(self, base_fee: int) -> int:
        """Wei a gas for the block's author at this base fee; negative if it cannot be included."""
        room = self.transaction.max_fee_per_gas - base_fee
        return int(min(room, self.transaction.max_priority_fee_per_gas))


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the head of the chain; `balance` in wei."""

    nonce: int
    balance: int


def check_alone(pooled: PooledTransaction, size: int, chain_id: int, gas_limit: int) -> None:
    """Everything that can be wrong with a transaction of `size` bytes by itself."""
    transaction = pooled.transaction
    if transaction.type_id not in SUPPORTED_TYPES:
        raise RpcError("transaction type not supported")
    if size > MAX_TRANSACTION_BYTES:
        raise RpcError(f"oversized data: transaction size {size}, limit {MAX_TRANSACTION_BYTES}")
    if transaction.chain_id is None:
        raise RpcError("only replay-protected (EIP-155) transactions allowed over RPC")
    if transaction.chain_id != chain_id:
        raise RpcError(f"invalid chain id for signer: have {transaction.chain_id} want {chain_id}")
    if transaction.gas > gas_limit:
        raise RpcError("exceeds block gas limit")
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise RpcError(
            "max priority fee per gas higher than max fee per gas: address "
            f"0x{pooled.sender.hex()}, maxPriorityFeePerGas: "
            f"{transaction.max_priority_fee_per_gas}, maxFeePerGas: {transaction.max_fee_per_gas}"
        )
    _check_gas(transaction)


def floor_gas(data: bytes) -> int:
    """The least gas a transaction with this calldata pays (EIP-7623)."""
    zeros = data.count(0)
    tokens = zeros + TOKENS_PER_NONZERO_BYTE * (len(data) - zeros)
    return CALLDATA_FLOOR_BASE_GAS + CALLDATA_FLOOR_TOKEN_GAS * tokens


def _check_gas(transaction: Any) -> None:
    if transaction.gas < transaction.intrinsic_gas:
        raise RpcError(
            f"intrinsic gas too low: gas {transaction.gas}, "
            f"minimum needed {transaction.intrinsic_gas}"
        )
    floor = floor_gas(transaction.data)
    if transaction.gas < floor:
        raise RpcError(
            f"insufficient gas for floor data gas cost: gas {transaction.gas}, "
            f"minimum needed {floor}"
        )


def check_account(pooled: PooledTransaction, account: Account) -> None:
    """Everything that can be wrong with a transaction given its sender's account."""
    if pooled.nonce < account.nonce:
        raise RpcError(f"nonce too low: next nonce {account.nonce}, tx nonce {pooled.nonce}")
    transaction = pooled.transaction
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if cost > account.balance:
        raise RpcError(
            f"insufficient funds for gas * price + value: balance {account.balance}, "
            f"tx cost {cost}, overshot {cost - account.balance}"
        )


class Mempool:
    """The waiting transactions. `version` rises with every change."""

    def __init__(self) -> None:
        self._accounts: dict[bytes, dict[int, PooledTransaction]] = {}
        self._by_hash: dict[bytes, PooledTransaction] = {}
        self.version = 0

    def get(self, transaction_hash: bytes) -> PooledTransaction | None:
        """The waiting transaction of this hash."""
        return self._by_hash.get(transaction_hash)

    def add(self, pooled: PooledTransaction) -> None:
        """Take a checked transaction in, or say why not (`RpcError`)."""
        if pooled.hash in self._by_hash:
            raise RpcError("already known")
        account = self._accounts.setdefault(pooled.sender, {})
        old = account.get(pooled.nonce)
        if old is not None and not _may_replace(old.transaction, pooled.transaction):
            raise RpcError("replacement transaction underpriced")
        if old is None and len(self._by_hash) >= MAX_POOL_TRANSACTIONS:
            raise RpcError("txpool is full")
        if old is not None:
            del self._by_hash[old.hash]
        account[pooled.nonce] = pooled
        self._by_hash[pooled.hash] = pooled
        self.version += 1

    def drop(self, pooled: PooledTransaction) -> None:
        """Forget a transaction, for instance because its sender cannot pay for it any more."""
        if self._by_hash.pop(pooled.hash, None) is not None:
            del self._accounts[pooled.sender][pooled.nonce]
            self.version += 1

    def drop_used(self, next_nonce: Callable[[bytes], int]) -> None:
        """Forget every transaction whose nonce is below its sender's, after a block."""
        for sender, account in list(self._accounts.items()):
            limit = next_nonce(sender)
            for pooled in [entry for nonce, entry in account.items() if nonce < limit]:
                self.drop(pooled)
            if not account:
                del self._accounts[sender]

    def pending_nonce(self, sender: bytes, next_nonce: int) -> int:
        """The first nonce that neither the chain nor a gapless waiting transaction uses."""
        account = self._accounts.get(sender, {})
        while next_nonce in account:
            next_nonce += 1
        return next_nonce

    def best(
        self, next_nonce: Callable[[bytes], int], base_fee: int, refused: Container[bytes]
    ) -> Iterator[PooledTransaction]:
        """What a block should hold: by tip, each account's in order of nonce and without gaps.

        The caller adds to `refused` the senders of whom the block takes no more.
        """
        nonces = {sender: next_nonce(sender) for sender in self._accounts}
        while True:
            heads = [
                pooled
                for sender, nonce in nonces.items()
                if sender not in refused
                and (pooled := self._accounts[sender].get(nonce)) is not None
                and pooled.tip(base_fee) >= 0
            ]
            if not heads:
                return
            choice = max(heads, key=lambda pooled: (pooled.tip(base_fee), pooled.hash))
            nonces[choice.sender] += 1
            yield choice

    def __iter__(self) -> Iterator[PooledTransaction]:
        return iter(list(self._by_hash.values()))

    def __len__(self) -> int:
        return len(self._by_hash)


def _may_replace(old: Any, new: Any) -> bool:
    return bool(
        new.max_fee_per_gas * 100 >= old.max_fee_per_gas * REPLACEMENT_PERCENT
        and new.max_priority_fee_per_gas * 100 >= old.max_priority_fee_per_gas * REPLACEMENT_PERCENT
    )
