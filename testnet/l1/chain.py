"""An Ethereum chain (Prague rules) on py-evm: state, blocks, calls, and what can go wrong with it.

One thread. The caller says when to mine; a block and its state are durable when `mine` returns, so
a process killed at any instant continues from its last block. `finalized` is `FINALITY_DEPTH`
blocks behind the head, and a reorg never reaches it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth.chains.base import Chain
from eth.constants import ZERO_HASH32
from eth.exceptions import HeaderNotFound, Revert, TransactionNotFound, VMError
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState
from eth_utils.exceptions import ValidationError

from testnet.l1.database import LmdbDatabase
from testnet.l1.errors import RpcError, invalid_params, reverted
from testnet.l1.evm import Block, Computation, Header, Receipt, State
from testnet.l1.mempool import (
    Account,
    Mempool,
    PooledTransaction,
    check_account,
    check_alone,
    floor_gas,
)
from testnet.l1.precompiles import NATIVE_BLS_PRECOMPILES

FINALITY_DEPTH = 4
BLOCK_GAS_LIMIT = 60_000_000
CALL_GAS_LIMIT = 50_000_000
INITIAL_BASE_FEE = 10**9
ESTIMATE_TOLERANCE_PERCENT = 102
"""An estimate stops when it is known within 2 %."""
CALL_STIPEND = 2_300
COINBASE = bytes.fromhex("c0") * 20

_GENESIS_KEY = b"sequencer-testnet:genesis-hash"
_CHAIN_ID_KEY = b"sequencer-testnet:chain-id"


class _Computation(PragueComputation):
    _precompiles: Any = {  # noqa: RUF012
        **PragueComputation.get_precompiles(),
        **NATIVE_BLS_PRECOMPILES,
    }


class _State(PragueState):
    computation_class = _Computation


class _Vm(PragueVM):
    _state_class = _State


@dataclass(frozen=True)
class Call:
    """An unsigned message to call or estimate, in the shape of py-evm's transactions."""

    sender: bytes
    to: bytes
    """20 bytes; empty to create a contract."""
    data: bytes
    value: int
    gas: int
    nonce: int
    access_list: tuple[Any, ...] = ()
    type_id: int = 2
    gas_price: int = 0
    max_fee_per_gas: int = 0
    max_priority_fee_per_gas: int = 0
    s: int = 1

    @property
    def intrinsic_gas(self) -> int:
        """Gas before the first instruction."""
        zeros = self.data.count(0)
        gas = 21_000 + 4 * zeros + 16 * (len(self.data) - zeros)
        if not self.to:
            gas += 32_000 + 2 * ((len(self.data) + 31) // 32)
        return gas

    def validate(self) -> None:
        """Nothing is signed, so nothing is to be checked."""


@dataclass
class _Draft:
    """A block being filled."""

    vm: Any
    header: Header
    transactions: list[Any] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


class EmbeddedChain:
    """The chain in one directory.

    `funded` (20-byte address to wei) fills the genesis of a new directory and is ignored for an
    existing one; a directory of another chain id is refused (`ValueError`).
    """

    def __init__(
        self, directory: Path, chain_id: int, funded: Mapping[bytes, int], now: int
    ) -> None:
        self.chain_id = chain_id
        self.mempool = Mempool()
        self._database = LmdbDatabase(directory)
        self._next_base_fee: int | None = None
        self._pending: tuple[object, State] | None = None
        chain_class = Chain.configure("EmbeddedL1", vm_configuration=((0, _Vm),), chain_id=chain_id)
        if _GENESIS_KEY not in self._database:
            self._create(chain_class, funded, now)
        stored = int.from_bytes(self._database[_CHAIN_ID_KEY], "big")
        if stored != chain_id:
            self._database.close()
            raise ValueError(f"{directory} holds a chain with id {stored}, not {chain_id}")
        self._chain: Any = chain_class(self._database)
        self._head = self._chain.get_canonical_head()

    def _create(self, chain_class: Any, funded: Mapping[bytes, int], now: int) -> None:
        state = {
            address: {"balance": wei, "nonce": 0, "code": b"", "storage": {}}
            for address, wei in funded.items()
        }
        parameters = {
            "gas_limit": BLOCK_GAS_LIMIT,
            "timestamp": now,
            "base_fee_per_gas": INITIAL_BASE_FEE,
            "parent_beacon_block_root": ZERO_HASH32,
        }
        with self._database.transaction():
            chain = chain_class.from_genesis(self._database, parameters, state)
            self._database[_GENESIS_KEY] = chain.get_canonical_head().hash
            self._database[_CHAIN_ID_KEY] = self.chain_id.to_bytes(32, "big")

    def close(self) -> None:
        """Release the directory."""
        self._database.close()

    # blocks

    @property
    def head(self) -> Header:
        """The newest block's header."""
        return self._head

    @property
    def finalized_number(self) -> int:
        """The newest block that no reorg can reach."""
        return max(0, int(self._head.block_number) - FINALITY_DEPTH)

    def header_by_number(self, number: int) -> Header | None:
        """The canonical header at a height, if there is one."""
        if not 0 <= number <= self._head.block_number:
            return None
        return self._chain.get_canonical_block_header_by_number(number)

    def header_by_hash(self, block_hash: bytes) -> Header | None:
        """The *canonical* header of this hash."""
        try:
            header = self._chain.get_block_header_by_hash(block_hash)
        except HeaderNotFound:
            return None
        at_height = self.header_by_number(int(header.block_number))
        return header if at_height is not None and at_height.hash == block_hash else None

    def block(self, header: Header) -> Block:
        """The block of a header, with its transactions."""
        return self._chain.get_block_by_header(header)

    def receipts(self, header: Header) -> tuple[Receipt, ...]:
        """The receipts of a block, in order."""
        return tuple(self._chain.chaindb.get_receipts(header, _Vm.get_receipt_builder()))

    def find(self, transaction_hash: bytes) -> tuple[Header, int] | None:
        """The canonical block of a transaction and its place there."""
        try:
            number, index = self._chain.get_canonical_transaction_index(transaction_hash)
        except TransactionNotFound:
            return None
        header = self.header_by_number(number)
        if header is None:
            return None
        # py-evm keeps the place of a transaction whose block a reorg abandoned
        hashes = [transaction.hash for transaction in self.block(header).transactions]
        return (header, index) if hashes[index : index + 1] == [transaction_hash] else None

    # mining

    def mine(self, now: int) -> Header:
        """Append a block of the best waiting transactions; `now` in seconds."""
        with self._database.transaction():
            block = self._finish(self._fill(self._draft(self._head, now)))
            self._chain.chaindb.persist_block(block)
        self._next_base_fee = None
        self._set_head(block.header)
        return self._head

    def reorg(self, depth: int, now: int, drop: bool = False) -> Header:
        """Replace the last `depth` blocks by `depth + 1` empty ones.

        The abandoned transactions wait in the pool again, unless `drop`.
        """
        if not 1 <= depth < min(FINALITY_DEPTH, self._head.block_number + 1):
            raise invalid_params(f"a reorg of depth {depth} would reach the finalized block")
        abandoned: list[Any] = []
        parent = self._head
        for _ in range(depth):
            abandoned[:0] = self.block(parent).transactions
            parent = self._chain.get_block_header_by_hash(parent.parent_hash)
        with self._database.transaction():
            for _ in range(depth + 1):
                block = self._finish(self._draft(parent, now))
                self._chain.chaindb.persist_block(block)
                parent = block.header
        self._set_head(parent)
        for transaction in () if drop else abandoned:
            self._return_to_pool(transaction)
        return self._head

    def set_next_base_fee(self, base_fee: int) -> None:
        """The next block's base fee in wei, whatever the rules say; later ones follow the rules."""
        self._next_base_fee = base_fee
        self._pending = None

    def _set_head(self, header: Header) -> None:
        self._head = header
        state = self._state(header)
        self.mempool.drop_used(state.get_nonce)
        self._pending = None

    def _return_to_pool(self, transaction: Any) -> None:
        try:
            self.mempool.add(PooledTransaction(transaction, transaction.hash, transaction.sender))
        except RpcError:
            return  # a replacement of it is waiting already

    def _draft(self, parent: Header, now: int) -> _Draft:
        header = _Vm.create_header_from_parent(
            parent,
            timestamp=max(now, parent.timestamp + 1),
            gas_limit=BLOCK_GAS_LIMIT,
            coinbase=COINBASE,
            mix_hash=parent.hash,
            parent_beacon_block_root=ZERO_HASH32,
        )
        if self._next_base_fee is not None:
            header = header.copy(base_fee_per_gas=self._next_base_fee)
        return _Draft(self._chain.get_vm(header), header)

    def _fill(self, draft: _Draft) -> _Draft:
        state = self._state(self._head)
        refused: set[bytes] = set()
        for pooled in self.mempool.best(state.get_nonce, draft.header.base_fee_per_gas, refused):
            if not self._include(draft, pooled):
                refused.add(pooled.sender)
        return draft

    def _include(self, draft: _Draft, pooled: PooledTransaction) -> bool:
        if draft.header.gas_used + pooled.transaction.gas > BLOCK_GAS_LIMIT:
            return False
        snapshot = draft.vm.state.snapshot()
        try:
            receipt, _ = draft.vm.apply_transaction(draft.header, pooled.transaction)
        except ValidationError:
            draft.vm.state.revert(snapshot)
            self.mempool.drop(pooled)
            return False
        draft.header = draft.vm.add_receipt_to_header(draft.header, receipt)
        draft.transactions.append(pooled.transaction)
        draft.receipts.append(receipt)
        return True

    @staticmethod
    def _finish(draft: _Draft) -> Block:
        block = draft.vm.set_block_transactions_and_withdrawals(
            draft.vm.get_block(), draft.header, draft.transactions, draft.receipts
        )
        return draft.vm.finalize_block(draft.vm.block_postprocessing(block)).block

    # state and execution

    def _state(self, header: Header) -> State:
        return self._chain.get_vm(header).state

    def state_at(self, header: Header) -> State:
        """The state after a block, to read and to run calls in that cost the sender nothing."""
        state = self._state(header)
        _make_costless(state)
        return state

    def pending_state(self, now: int) -> State:
        """The state as if a block were mined now; the same object until something changes."""
        key = (self._head.hash, self.mempool.version)
        if self._pending is None or self._pending[0] != key:
            draft = self._fill(self._draft(self._head, now))
            _make_costless(draft.vm.state)
            self._pending = ((self._head.hash, self.mempool.version), draft.vm.state)
        return self._pending[1]

    def call(self, state: State, call: Call) -> bytes:
        """Run a message and leave the state as it was. A revert raises `RpcError` with the data."""
        computation, _ = self._execute(state, call)
        _raise_for(computation)
        return bytes(computation.output)

    def estimate(self, state: State, call: Call) -> int:
        """The gas limit a message needs, to within 2 %."""
        computation, used = self._execute(state, call)
        _raise_for(computation)
        floor = floor_gas(call.data)
        optimistic = (used + computation.get_gas_refund() + CALL_STIPEND) * 64 // 63
        for trial in (max(used, floor), max(optimistic, floor)):
            if trial >= call.gas or self._is_enough(state, call, trial):
                return min(trial, call.gas)
        enough, short = call.gas, optimistic
        while enough * 100 > short * ESTIMATE_TOLERANCE_PERCENT:
            trial = (short + enough) // 2
            if self._is_enough(state, call, trial):
                enough = trial
            else:
                short = trial
        return enough

    def _is_enough(self, state: State, call: Call, gas: int) -> bool:
        """Whether a call that succeeds with more gas does so with this much."""
        return not self._execute(state, replace(call, gas=gas))[0].is_error

    @staticmethod
    def _execute(state: State, call: Any) -> tuple[Computation, int]:
        """The computation of a call, and the gas a transaction of it would use."""
        if call.gas < call.intrinsic_gas:
            raise RpcError(
                f"intrinsic gas too low: gas {call.gas}, minimum needed {call.intrinsic_gas}"
            )
        if call.value > state.get_balance(call.sender):
            raise RpcError("insufficient funds for transfer")
        state.lock_changes()
        snapshot = state.snapshot()
        try:
            computation = state.apply_transaction(call)
            return computation, _Vm.finalize_gas_used(call, computation)
        except (ValidationError, VMError) as error:
            raise RpcError(str(error)) from error
        finally:
            state.revert(snapshot)

    # the pool

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction into the pool; answers with its hash or raises `RpcError`."""
        pooled = _decode(raw)
        if self.mempool.get(pooled.hash) is not None:
            raise RpcError("already known")
        check_alone(pooled, len(raw), self.chain_id, BLOCK_GAS_LIMIT)
        state = self._state(self._head)
        account = Account(state.get_nonce(pooled.sender), state.get_balance(pooled.sender))
        check_account(pooled, account)
        self.mempool.add(pooled)
        return pooled.hash

    def next_base_fee(self) -> int:
        """Wei a gas that the next block will burn."""
        return int(self._draft(self._head, 0).header.base_fee_per_gas)


def _decode(raw: bytes) -> PooledTransaction:
    try:
        transaction = _Vm.get_transaction_builder().decode(raw)
        transaction.check_signature_validity()
        return PooledTransaction(transaction, transaction.hash, transaction.sender)
    except Exception as error:  # py-evm, rlp and eth-keys each have errors of their own
        raise RpcError(f"invalid transaction: {error}") from error


def _make_costless(state: State) -> None:
    """From here on gas is free in this state: a call needs no balance and no fee."""
    old = state.execution_context
    state.execution_context = ExecutionContext(
        coinbase=old.coinbase,
        timestamp=old.timestamp,
        block_number=old.block_number,
        difficulty=old.difficulty,
        mix_hash=old.mix_hash,
        gas_limit=old.gas_limit,
        prev_hashes=old.prev_hashes,
        chain_id=old.chain_id,
        base_fee_per_gas=0,
        excess_blob_gas=old.excess_blob_gas,
    )


def _raise_for(computation: Computation) -> None:
    if not computation.is_error:
        return
    if isinstance(computation.error, Revert):
        raise reverted(bytes(computation.output))
    raise RpcError(_ERRORS.get(type(computation.error).__name__, str(computation.error)))


_ERRORS = {
    "OutOfGas": "out of gas",
    "InvalidInstruction": "invalid opcode",
    "InvalidJumpDestination": "invalid jump destination",
    "InsufficientStack": "stack underflow",
    "FullStack": "stack limit reached 1024",
    "StackDepthLimit": "max call depth exceeded",
    "WriteProtection": "write protection",
    "OutOfBoundsRead": "return data out of bounds",
    "ContractCreationCollision": "contract address collision",
}
"""py-evm's error classes in geth's words."""
