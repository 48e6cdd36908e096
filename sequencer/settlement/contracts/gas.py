"""What things cost on L1: `python -m sequencer.settlement.contracts.gas` prints two tables.

Measured on py-evm (Prague rules) with real keys and signatures, by whole transactions. Its BLS
precompiles are slow but charge what they should; the larger committees take a while.
"""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.committee import Committee, Member
from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.batch import GENESIS_LOG_ROOT, BatchHeader
from sequencer.settlement.contracts.evm import CHAIN_ID, LocalEvm, Outcome
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor

SIZES: Final = (4, 16, 64, 100)
GAS_LIMIT: Final = 12_000_000
KEY: Final = b"\x07" * 32
CHAIN: Final = b"\x01" * 32
NEWCOMER: Final = b"\x02" * 32
ADDRESS: Final = "/ip4/203.0.113.7/tcp/4001/p2p/" + "12D3KooW".ljust(52, "x")
"""As long as a multiaddr usually is."""


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
        settings = RegistrySettings(self._sender, activation_blocks=0, min_epoch_blocks=0)
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

    def register(self) -> int:
        """The gas of registering another member."""
        self._transact(self._contract, registry_abi.allow_call(self._sender, True))
        signer = KeySigner(new_bls_secret(b"newcomer".rjust(32)), bytes(32))
        message = registry_abi.binding_message(
            CHAIN, CHAIN_ID, self._contract, self._sender, NEWCOMER, signer.bls_key
        )
        calldata = registry_abi.register_call(
            NEWCOMER, signer.bls_key, signer.prove_possession(), signer.sign(message), ADDRESS
        )
        return self._transact(self._contract, calldata).gas_used

    def snapshot(self) -> int:
        """The gas of fixing the members of the next epoch."""
        return self._transact(self._contract, registry_abi.snapshot_call()).gas_used

    def advance(self, signers: int) -> int:
        """The gas of installing them, signed by the first `signers` members."""
        pending = self._transact(self._contract, abi.selector("pending")).output
        digest, block_id = pending[32:64], bytes(32)
        message = CommitCertificate.signed_bytes(CHAIN, 0, 1, 1, block_id, digest)
        signature = BlsCrypto().aggregate([each.sign(message) for each in self._signers[:signers]])
        assert signature is not None
        bitmap = bitmap_of(list(range(signers)), len(self._signers))
        certificate = CommitCertificate(0, 1, 1, block_id, digest, bitmap, signature)
        calldata = registry_abi.advance_call(certificate)
        return self._transact(self._contract, calldata).gas_used

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


REGISTRY_HEAD: Final = """\
| members | register one | snapshot | advance, a quorum signed |
|--:|--:|--:|--:|"""


def registry_row(size: int, precompiles: Mapping[bytes, Any] = _SLOW) -> str:
    """A line of the table of the registry: a committee of `size` gets one member more."""
    measurement = Measurement(size, precompiles)
    gas = (
        measurement.register(),
        measurement.snapshot(),
        measurement.advance(2 * size // 3 + 1),
    )
    return f"| {size} | " + " | ".join(f"{amount:,}" for amount in gas) + " |"


def main() -> int:
    """Prints the tables, in Markdown."""
    for head, line in ((HEAD, row), (f"\n{REGISTRY_HEAD}", registry_row)):
        print(head)
        for size in SIZES:
            print(line(size), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
