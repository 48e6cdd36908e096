"""A deployed contract whose registry is used by operators, and the keys that they use."""

from collections.abc import Sequence
from dataclasses import dataclass

from blspy import PopSchemeMPL
from eth_account.signers.local import LocalAccount

from consensus.committee import Committee
from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.contracts.evm import Outcome
from sequencer.settlement.registry_abi import MemberState, RegistrySettings, Seat
from tests.settlement.committees import (
    Deployment,
    committee,
    identity,
    keys,
    quorum_of,
    secrets,
    sign,
)
from tests.settlement.l1s import ACCOUNTS, address_of, transact

OWNER, *OPERATORS = ACCOUNTS
ACTIVATION, EXIT, MIN_EPOCH = 3, 7, 2


def rules(**changes: object) -> RegistrySettings:
    fields: dict[str, object] = {
        "owner": address_of(OWNER),
        "activation_blocks": ACTIVATION,
        "exit_blocks": EXIT,
        "min_epoch_blocks": MIN_EPOCH,
    }
    return RegistrySettings(**{**fields, **changes})  # type: ignore[arg-type]


def possession(number: int) -> bytes:
    return bytes(PopSchemeMPL.pop_prove(secrets(number + 1)[number]))


@dataclass
class Registered(Deployment):
    """Member number i has `identity(i)` and the i-th key, unless a test says otherwise."""

    def __post_init__(self) -> None:
        self.settings = self.settings or rules()
        super().__post_init__()

    def binding(
        self, number: int, operator: LocalAccount, key: int | None = None, **changes: object
    ) -> bytes:
        """The signature that binds key `key` to member `number`."""
        chosen = number if key is None else key
        fields: dict[str, object] = {
            "chain_id": self.chain,
            "l1_chain_id": self.evm.chain_id,
            "contract": self.address,
            "registrant": address_of(operator),
            "identity": identity(number),
            "bls_key": keys(chosen + 1)[chosen],
        }
        message = registry_abi.binding_message(**{**fields, **changes})  # type: ignore[arg-type]
        return bytes(PopSchemeMPL.sign(secrets(chosen + 1)[chosen], message))

    def registration(self, number: int, operator: LocalAccount, address: str = "") -> bytes:
        """An honest call of `register`."""
        return registry_abi.register_call(
            identity(number),
            keys(number + 1)[number],
            possession(number),
            self.binding(number, operator),
            address or f"/dns4/member-{number}/tcp/4001",
        )

    def call(self, calldata: bytes, account: LocalAccount = OWNER, value: int = 0) -> Outcome:
        """A call that succeeds."""
        outcome = transact(self.evm, self.address, calldata, account=account, value=value)
        assert outcome.success, abi.decode_revert(outcome.output)
        return outcome

    def refused(self, calldata: bytes, account: LocalAccount = OWNER, value: int = 0) -> str:
        """The error of a call that fails."""
        outcome = transact(self.evm, self.address, calldata, account=account, value=value)
        assert not outcome.success
        return abi.decode_revert(outcome.output)

    def allow(self, *operators: LocalAccount) -> None:
        for operator in operators:
            self.call(registry_abi.allow_call(address_of(operator), True))

    def join(self, number: int, operator: LocalAccount, value: int = 0) -> None:
        """Registered and, if there is a list, on it."""
        if self.settings is not None and not self.settings.by_stake:
            self.allow(operator)
        self.call(self.registration(number, operator), operator, value)

    def snapshot(self) -> tuple[int, bytes, int]:
        """Take one after a while: its epoch, digest and size."""
        self.evm.mine(max(ACTIVATION, MIN_EPOCH))
        (log,) = self.call(registry_abi.snapshot_call()).logs
        return registry_abi.decode_snapshot(*log)

    def certificate(
        self,
        committee_keys: Sequence[int],
        digest: bytes,
        signers: Sequence[int] | None = None,
        epoch: int = -1,
    ) -> CommitCertificate:
        """The end of an epoch, signed by a quorum of the members with these keys."""
        epoch = self.view("epoch") if epoch < 0 else epoch
        size = len(committee_keys)
        chosen = list(range(quorum_of(size))) if signers is None else list(signers)
        block_id = b"\xb1" * 32
        message = CommitCertificate.signed_bytes(self.chain, epoch, 9, 8, block_id, digest)
        top = max(committee_keys) + 1
        signature = sign(message, top, [committee_keys[index] for index in chosen])
        bitmap = bitmap_of(chosen, size)
        return CommitCertificate(epoch, 9, 8, block_id, digest, bitmap, signature)

    def advance(self, committee_keys: Sequence[int]) -> registry_abi.Advanced:
        """Install the pending snapshot by the members with these keys."""
        pending = self.pending()
        assert pending is not None
        certificate = self.certificate(committee_keys, pending[1])
        (log,) = self.call(registry_abi.advance_call(certificate)).logs
        return registry_abi.decode_advanced(*log)

    def pending(self) -> tuple[int, bytes, int] | None:
        return registry_abi.decode_pending(self.call(abi.selector("pending")).output)

    def due(self) -> bool:
        return bool(self.view("snapshot_due"))

    def members_of(self, epoch: int) -> list[Seat]:
        calldata = abi.selector("members_of") + abi.word(epoch)
        return registry_abi.decode_members(self.call(calldata).output)

    def member(self, number: int) -> MemberState:
        calldata = abi.selector("member_at") + abi.word(number)
        return registry_abi.decode_member(self.call(calldata).output)

    def founders(self) -> Committee:
        return committee(self.size, self.epoch, self.weights)
