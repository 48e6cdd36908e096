"""The registry of members on the L1, read: who may be in a committee, who is, who will be.

Every answer is one of the contract at some L1 block, found by the block's hash, so that what is
read of a final block stays true.  Shapes and bounds are checked, and that the members of a pending
snapshot have its digest; whether the L1 endpoint told the truth is not for this module to know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from consensus.committee import Committee, Member
from consensus.errors import InvalidConfiguration
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.client import CallReverted, InvalidAnswer, L1Block
from sequencer.settlement.registry_abi import SETTINGS_WORDS, MemberState, RegistrySettings, Seat

NOBODY: Final = bytes(abi.ADDRESS_BYTES)


class ContractReader(Protocol):
    """What asks views of the contract: an `EthereumClient`."""

    async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
        """The answer of a view after `block` (None: the newest), at most `limit` bytes; raises
        `SettlementError`, of which `CallReverted` is the contract's refusal."""
        ...


@dataclass(frozen=True, slots=True)
class RegisteredMember:
    """A member of a committee: keys of 32 and 48 bytes, a multiaddr ("" if it has given none that
    can be read) and the account (20 bytes) that operates it, zeros for an unclaimed founder."""

    identity: bytes
    bls_key: bytes
    weight: int
    address: str
    operator: bytes


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The members of an epoch in committee order, with the addresses of the block that was asked
    for; `l1_block` is the block of the snapshot, or for the present committee the one asked for."""

    epoch: int
    members: tuple[RegisteredMember, ...]
    l1_block: int

    def committee(self) -> Committee:
        """These members as the consensus knows them."""
        members = (
            Member(member.identity, member.bls_key, member.weight) for member in self.members
        )
        return Committee(self.epoch, tuple(members))


@dataclass(frozen=True, slots=True)
class OperatorState:
    """What the registry has of an operator account.

    status     none: it never had a member
               pending: registered, not in the committee of the contract's epoch
               active: in it
               leaving: has left, but the contract's epoch or the pending one still holds it
               left: no epoch holds it any more
               exited: its stake was paid back
    stake      wei
    active_at  first L1 block in which a snapshot may hold it
    exit_at    first L1 block in which it can exit; 0 while that is not known
    """

    status: str
    identity: bytes = b""
    bls_key: bytes = b""
    stake: int = 0
    address: str = ""
    active_at: int = 0
    exit_at: int = 0


class Registry:
    """The registry part of a contract.  All methods raise `SettlementError`."""

    def __init__(self, client: ContractReader) -> None:
        self._client = client

    async def epoch(self, block: L1Block | None = None) -> int:
        """The epoch whose committee the contract listens to."""
        return int.from_bytes(await self._word("epoch", block), "big") & (1 << 64) - 1

    async def snapshot_due(self, block: L1Block | None = None) -> bool:
        """Whether a snapshot can be taken."""
        return any(await self._word("snapshot_due", block))

    async def pending(self, block: L1Block | None = None) -> RegistrySnapshot | None:
        """The members of the next epoch, once they are fixed."""
        answer = await self._client.read(abi.selector("pending"), block, 96)
        try:
            found = registry_abi.decode_pending(answer)
        except ValueError as error:
            raise InvalidAnswer(f"the L1 answers no snapshot: {error}") from error
        if found is None:
            return None
        epoch, digest, l1_block = found
        snapshot = await self._members_of(epoch, l1_block, block)
        if snapshot.committee().digest != digest:
            raise InvalidAnswer(f"the L1 answers members of epoch {epoch} of another digest")
        return snapshot

    async def members(self, block: L1Block | None = None) -> RegistrySnapshot:
        """The members of the contract's epoch."""
        return await self._members_of(await self.epoch(block), block.number if block else 0, block)

    async def operator(self, address: bytes, block: L1Block | None = None) -> OperatorState:
        """What an account (20 bytes) operates."""
        calldata = abi.selector("operator") + address.rjust(32, b"\0")
        try:
            found = await self._member(calldata, block)
        except CallReverted as error:
            if error.reason == "NotMember":
                return OperatorState("none")
            raise
        return OperatorState(
            status=_status(found),
            identity=found.identity,
            bls_key=found.bls_key,
            stake=found.stake,
            address=found.address,
            active_at=found.active_at,
            exit_at=found.exit_at,
        )

    async def member_count(self, block: L1Block | None = None) -> int:
        """How many members were ever registered, founders included."""
        return int.from_bytes(await self._word("member_count", block), "big")

    async def member_at(self, number: int, block: L1Block | None = None) -> MemberState:
        """A member by its number, 0 for the first founder; also one that has left."""
        return await self._member(abi.selector("member_at") + abi.word(number), block)

    async def is_allowed(self, operator: bytes, block: L1Block | None = None) -> bool:
        """Whether an account (20 bytes) is on the allow-list."""
        calldata = abi.selector("allowed") + operator.rjust(32, b"\0")
        return any(await self._client.read(calldata, block, 32))

    async def settings(self) -> RegistrySettings:
        """How members come and go; it never changes."""
        answer = await self._client.read(abi.selector("settings"), None, 32 * SETTINGS_WORDS)
        try:
            return registry_abi.decode_settings(answer)
        except ValueError as error:
            raise InvalidAnswer(f"the L1 answers no settings: {error}") from error

    async def _word(self, view: str, block: L1Block | None) -> bytes:
        answer = await self._client.read(abi.view_calldata(view), block, 32)
        if len(answer) != 32:
            raise InvalidAnswer(f"the L1 answers {len(answer)} bytes for {view}, not 32")
        return answer

    async def _member(self, calldata: bytes, block: L1Block | None) -> MemberState:
        limit = registry_abi.MAX_MEMBER_ANSWER_BYTES
        answer = await self._client.read(calldata, block, limit)
        try:
            return registry_abi.decode_member(answer)
        except ValueError as error:
            raise InvalidAnswer(f"the L1 answers no member: {error}") from error

    async def _members_of(
        self, epoch: int, l1_block: int, block: L1Block | None
    ) -> RegistrySnapshot:
        calldata = abi.selector("members_of") + abi.word(epoch)
        limit = registry_abi.MAX_MEMBERS_ANSWER_BYTES
        answer = await self._client.read(calldata, block, limit)
        try:
            return _snapshot(epoch, registry_abi.decode_members(answer), l1_block)
        except (ValueError, InvalidConfiguration) as error:
            raise InvalidAnswer(f"the L1 answers no committee: {error}") from error


def _snapshot(epoch: int, seats: Sequence[Seat], l1_block: int) -> RegistrySnapshot:
    members = (
        RegisteredMember(seat.identity, seat.bls_key, seat.weight, seat.address, seat.operator)
        for seat in seats
    )
    snapshot = RegistrySnapshot(epoch, tuple(members), l1_block)
    snapshot.committee()
    return snapshot


def _status(member: MemberState) -> str:
    if member.left_at == 0:
        return "active" if member.seated else "pending"
    if member.operator == NOBODY:
        return "exited"
    return "leaving" if member.exit_at == 0 else "left"
