"""A committee with its secret keys, a deployed contract, and batches that follow each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from blspy import PopSchemeMPL, PrivateKey
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from consensus.committee import Committee, Member
from consensus.types import bitmap_of
from sequencer.settlement import abi
from sequencer.settlement.batch import GENESIS_LOG_ROOT, BatchHeader
from sequencer.settlement.contracts.evm import Outcome
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor
from tests.settlement.l1s import ACCOUNTS, GAS_LIMIT, Evm, address_of, transact

CHAIN = b"\xc1" * 32
EPOCH = 5


@cache
def secrets(size: int) -> tuple[PrivateKey, ...]:
    return tuple(PopSchemeMPL.key_gen(number.to_bytes(32, "big")) for number in range(size))


@cache
def keys(size: int) -> tuple[bytes, ...]:
    return tuple(bytes(secret.get_g1()) for secret in secrets(size))


def identity(number: int) -> bytes:
    return (0x1D << 248 | number).to_bytes(32, "big")


def committee(size: int, epoch: int, weights: Sequence[int] = ()) -> Committee:
    """The committee of the first `size` keys."""
    members = zip(keys(size), weights or [1] * size, strict=True)
    return Committee(
        epoch, tuple(Member(identity(i), key, weight) for i, (key, weight) in enumerate(members))
    )


def sign(message: bytes, size: int, members: Sequence[int]) -> bytes:
    """The members' aggregate signature, 96 bytes."""
    signatures = [PopSchemeMPL.sign(secrets(size)[member], message) for member in members]
    return bytes(PopSchemeMPL.aggregate(signatures))


def quorum_of(size: int) -> int:
    return 2 * size // 3 + 1


@dataclass
class Deployment:
    """A contract on an EVM, with the committee it was deployed for."""

    evm: Evm
    size: int
    weights: Sequence[int] = ()
    epoch: int = EPOCH
    chain: bytes = CHAIN
    settings: RegistrySettings | None = None
    address: bytes = field(init=False)
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        founders = committee(self.size, self.epoch, self.weights)
        settings = self.settings or RegistrySettings(owner=address_of(ACCOUNTS[0]))
        arguments = encode_constructor(self.chain, founders, settings)
        self.outcome = transact(self.evm, b"", abi.load_contract().bytecode + arguments)
        assert self.outcome.success, abi.decode_revert(self.outcome.output)
        self.address = self.outcome.created

    def header(self, data: bytes = b"\0data", **changes: object) -> BatchHeader:
        """A header that the fresh contract accepts, but for `changes`."""
        header = BatchHeader(
            chain_id=self.chain,
            l1_chain_id=self.evm.chain_id,
            contract=self.address,
            epoch=self.epoch,
            number=1,
            previous_log_root=GENESIS_LOG_ROOT,
            first_position=0,
            last_position=9,
            log_root=b"\x11" * 32,
            data_hash=keccak(data),
            blob_hashes=bytes(32),
            entry_count=10,
        )
        return replace(header, **changes)  # type: ignore[arg-type]

    def following(self, header: BatchHeader, data: bytes, **changes: object) -> BatchHeader:
        """The header after `header`."""
        return replace(
            header,
            number=header.number + 1,
            previous_log_root=header.log_root,
            log_root=keccak(header.log_root),
            first_position=header.last_position + 1,
            last_position=header.last_position + header.entry_count,
            data_hash=keccak(data),
            **changes,  # type: ignore[arg-type]
        )

    def calldata(
        self, header: BatchHeader, data: bytes = b"\0data", members: Sequence[int] | None = None
    ) -> bytes:
        """A call with the certificate of these members (a quorum if none are named)."""
        chosen = list(range(quorum_of(self.size))) if members is None else list(members)
        signature = sign(header.encode(), self.size, chosen)
        bitmap = bitmap_of(chosen, self.size)
        return abi.post_batch_calldata(header.encode(), bitmap, signature, data)

    def send(
        self, calldata: bytes, account: LocalAccount = ACCOUNTS[0], gas: int = GAS_LIMIT
    ) -> Outcome:
        return transact(self.evm, self.address, calldata, account=account, gas=gas)

    def view(self, name: str) -> int:
        """A view, read by a transaction."""
        outcome = self.send(abi.view_calldata(name))
        assert outcome.success
        return int.from_bytes(outcome.output, "big")

    def refusal(self, calldata: bytes) -> str:
        """The error a call fails with; fails the test if it succeeds."""
        outcome = self.send(calldata)
        assert not outcome.success
        return abi.decode_revert(outcome.output)
