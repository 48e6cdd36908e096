"""An EVM in this process (py-evm, Prague rules), to try the contract on and measure it.

No pool, no RPC: signed transactions go in one by one, outcomes come out. All happens in one block
until `mine` lets others pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CHAIN_ID: Final = 1337
BLOCK_GAS_LIMIT: Final = 60_000_000
BASE_FEE_WEI: Final = 10**9


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: `output` is what it returned or reverted with, `created` the
    address of a new contract (20 bytes), `logs` are (topics, data)."""

    success: bool
    output: bytes
    gas_used: int
    created: bytes
    logs: Sequence[tuple[Sequence[bytes], bytes]]


class LocalEvm:
    """The state of a chain on which `funded` accounts (20-byte addresses) are rich.

    `precompiles` (by 20-byte address) replace py-evm's own; its pure-Python BLS ones take seconds.
    """

    def __init__(
        self, funded: Sequence[bytes], precompiles: Mapping[bytes, Any], chain_id: int = CHAIN_ID
    ) -> None:
        from eth.chains.base import MiningChain
        from eth.constants import ZERO_HASH32
        from eth.db.atomic import AtomicDB

        account: Any = {"balance": 10**24, "nonce": 0, "code": b"", "storage": {}}
        parameters: Any = {
            "gas_limit": BLOCK_GAS_LIMIT,
            "timestamp": 1,
            "base_fee_per_gas": BASE_FEE_WEI,
            "parent_beacon_block_root": ZERO_HASH32,
        }
        genesis: Any = dict.fromkeys(funded, account)
        virtual_machine = _machine_with(precompiles)
        chain = MiningChain.configure(
            "LocalChain", vm_configuration=((0, virtual_machine),), chain_id=chain_id
        ).from_genesis(AtomicDB(), parameters, genesis)
        self._vm: Any = chain.get_vm()
        self._header: Any = self._vm.get_header()

    def mine(self, blocks: int) -> None:
        """Let so many blocks pass."""
        self._vm.state.execution_context._block_number += blocks

    def nonce(self, address: bytes) -> int:
        """The next nonce of an account."""
        return int(self._vm.state.get_nonce(address))

    def balance(self, address: bytes) -> int:
        """Wei that an account owns."""
        return int(self._vm.state.get_balance(address))

    def transact(self, raw: bytes) -> Outcome:
        """Run a signed transaction in a block of its own gas; raises ValidationError of eth_utils
        if no block could hold it."""
        transaction = self._vm.get_transaction_builder().decode(raw)
        receipt, computation = self._vm.apply_transaction(self._header, transaction)
        return Outcome(
            success=computation.is_success,
            output=bytes(computation.output),
            gas_used=int(receipt.gas_used),
            created=bytes(computation.msg.storage_address) if transaction.to == b"" else b"",
            logs=[
                ([topic.to_bytes(32, "big") for topic in log.topics], bytes(log.data))
                for log in receipt.logs
            ],
        )


def _machine_with(precompiles: Mapping[bytes, Any]) -> Any:
    from eth.vm.forks.prague import PragueVM
    from eth.vm.forks.prague.computation import PragueComputation
    from eth.vm.forks.prague.state import PragueState

    merged: dict[Any, Any] = {**PragueComputation.get_precompiles(), **precompiles}
    computation = type("LocalComputation", (PragueComputation,), {"_precompiles": merged})
    state = type("LocalState", (PragueState,), {"computation_class": computation})
    return type("LocalVm", (PragueVM,), {"_state_class": state})
