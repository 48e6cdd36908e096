"""What a batch costs on L1: `python -m sequencer.settlement.contracts.gas` prints a table.

Measured on py-evm (Prague rules) with real keys and signatures, by whole transactions. Its BLS
precompiles are slow but charge what they should; the larger committees take a while.
"""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.committee import Committee, Member
from consensus.types import bitmap_of
from sequencer.settlement import abi
from sequencer.settlement.batch import GENESIS_LOG_ROOT, BatchHeader
from sequencer.settlement.contracts.evm import CHAIN_ID, LocalEvm, Outcome
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor

SIZES: Final = (4, 16, 64, 100)
GAS_LIMIT: Final = 12_000_000
KEY: Final = b"\x07" * 32
CHAIN: Final = b"\x01" * 32


class Measurement:
    """A deployed contract, and batches posted to it one after the other."""

    def __init__(self, size: int, precompiles: Mapping[bytes, Any]) -> None:
        from eth_account import Account

        self._signers = [
            KeySigner(new_bls_secret(index.to_bytes(32, "big")), bytes(32)) for index in range(size)
        ]
        self._account = Account.from_key(KEY)
        self._sender = bytes.fromhex(self._account.address[2:])
        self._evm = LocalEvm([self._sender], precompiles)
        members = [
            Member(index.to_bytes(32, "big"), signer.bls_key)
            for index, signer in enumerate(self._signers)
        ]
        settings = RegistrySettings(owner=self._sender)
        arguments = encode_constructor(CHAIN, Committee(0, tuple(members)), settings)
        outcome = self._transact(b"", abi.load_contract().bytecode + arguments)
        self.deployment_gas = outcome.gas_used
        self._contract = outcome.created
        self._number = 0

    def post(self, signers: int, data: bytes) -> int:
        """The gas of the next batch, signed by the first `signers` members."""
        header = self._header(data).encode()
        signatures = [signer.sign(header) for signer in self._signers[:signers]]
        signature = BlsCrypto().aggregate(signatures)
        assert signature is not None
        bitmap = bitmap_of(list(range(signers)), len(self._signers))
        calldata = abi.post_batch_calldata(header, bitmap, signature, data)
        outcome = self._transact(self._contract, calldata)
        self._number += 1
        return outcome.gas_used

    def _header(self, data: bytes) -> BatchHeader:
        from eth_hash.auto import keccak

        number = self._number
        return BatchHeader(
            chain_id=CHAIN,
            l1_chain_id=CHAIN_ID,
            contract=self._contract,
            epoch=0,
            number=number + 1,
            previous_log_root=keccak(bytes([number])) if number else GENESIS_LOG_ROOT,
            first_position=1000 * number,
            last_position=1000 * number + 999,
            log_root=keccak(bytes([number + 1])),
            data_hash=keccak(data),
            blob_hashes=bytes(32),
            entry_count=1000,
        )

    def _transact(self, to: bytes, data: bytes) -> Outcome:
        transaction: dict[str, Any] = {
            "chainId": CHAIN_ID,
            "nonce": self._evm.nonce(self._sender),
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 0,
            "gas": GAS_LIMIT,
            "to": to,
            "value": 0,
            "data": data,
        }
        signed = self._account.sign_transaction(transaction)
        outcome = self._evm.transact(bytes(signed.raw_transaction))
        assert outcome.success, abi.decode_revert(outcome.output)
        return outcome


_SLOW: Final[Mapping[bytes, Any]] = MappingProxyType({})
HEAD: Final = """\
| members | deployment | first batch | all signed | a quorum signed |
|--:|--:|--:|--:|--:|"""


def row(size: int, precompiles: Mapping[bytes, Any] = _SLOW) -> str:
    """A line of the table; `precompiles` may be faster ones than py-evm's."""
    measurement = Measurement(size, precompiles)
    data = b"\x00\x01"
    batches = [measurement.post(signers, data) for signers in (size, size, 2 * size // 3 + 1)]
    gas = (measurement.deployment_gas, *batches)
    return f"| {size} | " + " | ".join(f"{amount:,}" for amount in gas) + " |"


def main() -> int:
    """Prints the table, in Markdown."""
    print(HEAD)
    for size in SIZES:
        print(row(size), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
