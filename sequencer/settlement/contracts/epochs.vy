# pragma version 0.4.3
"""
@title Epochs
@license MIT
@notice From one committee to the next: a snapshot of the registry fixes the members of the next
        epoch, and the certificate that ends the present one installs them.
@dev
    The last block of an epoch is certified together with the digest of the next committee, so one
    signature check is all there is to it. A snapshot is never replaced: what the members have seen
    they can go on to attest.
"""

import bls
import committee
import registry
import state

uses: registry
uses: state

struct Seat:
    identity: bytes32
    key: uint256[4]
    weight: uint64
    operator: address
    location: String[128]

event Snapshot:
    epoch: indexed(uint64)
    digest: bytes32
    count: uint256

# All that proves it: the certificate, and the members as in the preimage of the digest.
event Advanced:
    epoch: indexed(uint64)
    digest: bytes32
    round: uint64
    height: uint64
    block_id: bytes32
    signature: bytes32[8]
    bitmap: Bytes[16]
    members: Bytes[committee.ENCODED_BYTES]

# "dseq/commit/1" in 16 bytes: the domain of a vote to commit.
DOMAIN: constant(bytes16) = 0x647365712f636f6d6d69742f31000000


@external
def snapshot():
    """
    @notice Fixes the members of the next epoch.
    """
    epoch: uint64 = state.epoch()
    reason: Bytes[4] = b""
    code: Bytes[committee.CODE_BYTES] = b""
    reason, code = self._next(epoch)
    if len(reason) != 0:
        raw_revert(reason)
    account: address = committee.create(code)
    state.set_committee(epoch + 1, account)
    members: Bytes[committee.ENCODED_BYTES] = committee.encoded(account)
    log Snapshot(
        epoch=epoch + 1,
        digest=committee.digest(epoch + 1, members),
        count=len(members) // 96,
    )


@external
def advance(
    epoch: uint64,
    round: uint64,
    height: uint64,
    block_id: bytes32,
    bitmap: Bytes[16],
    signature: bytes32[8],
):
    """
    @notice Ends an epoch: from now on the committee of the pending snapshot signs.
    @param epoch The epoch that ends
    @param round The round of its last block
    @param height The height of its last block
    @param block_id The id of its last block
    @param bitmap The signers of the certificate, as in `post_batch`
    @param signature Their aggregate signature as an EIP-2537 point
    """
    now: state.State = state.state()
    if epoch < now.epoch:
        raw_revert(method_id("AlreadyAdvanced()"))
    if epoch > now.epoch:
        raw_revert(method_id("WrongEpoch()"))
    following: address = state.committee(epoch + 1)
    if following == empty(address):
        raw_revert(method_id("NothingPending()"))
    members: Bytes[committee.ENCODED_BYTES] = committee.encoded(following)
    digest: bytes32 = committee.digest(epoch + 1, members)
    message: Bytes[136] = concat(
        DOMAIN,
        state.chain_id_digest,
        convert(epoch, bytes8),
        convert(round, bytes8),
        convert(height, bytes8),
        block_id,
        digest,
    )
    key: uint256[4] = committee.signers_key(state.committee(epoch), bitmap)
    if not bls.verify(key, message, signature, bls.SIGNATURE):
        raw_revert(method_id("InvalidSignature()"))
    now.epoch = epoch + 1
    state.set_state(now)
    state.set_committee(epoch + 1, following)
    log Advanced(
        epoch=epoch + 1,
        digest=digest,
        round=round,
        height=height,
        block_id=block_id,
        signature=signature,
        bitmap=bitmap,
        members=members,
    )


@view
@external
def snapshot_due() -> bool:
    """
    @notice Whether `snapshot` would succeed in this block.
    """
    return len(self._next(state.epoch())[0]) == 0


@view
@external
def pending() -> (uint64, bytes32, uint256):
    """
    @notice The epoch, the digest and the L1 block of the pending snapshot; zeros if there is none.
    """
    epoch: uint64 = state.epoch() + 1
    account: address = state.committee(epoch)
    if account == empty(address):
        return 0, empty(bytes32), 0
    return epoch, committee.digest(epoch, committee.encoded(account)), state.since(epoch)


@view
@external
def members_of(epoch: uint64) -> DynArray[Seat, committee.MAX_MEMBERS]:
    """
    @notice The committee of an epoch up to the pending one, with the addresses of today.
    """
    account: address = state.committee(epoch)
    if account == empty(address):
        raw_revert(method_id("UnknownEpoch()"))
    seats: DynArray[Seat, committee.MAX_MEMBERS] = []
    for index: uint256 in range(committee.quorum(account).size, bound=committee.MAX_MEMBERS):
        record: uint256[5] = committee.member(account, index)
        number: uint256 = committee.number_in(record)
        seats.append(
            Seat(
                identity=convert(record[4], bytes32),
                key=committee.key_in(record),
                weight=convert(committee.weight_in(record), uint64),
                operator=registry.operator_of(number),
                location=registry.location(number),
            )
        )
    return seats


@view
@internal
def _next(epoch: uint64) -> (Bytes[4], Bytes[committee.CODE_BYTES]):
    """
    @dev The code of the next epoch's committee, or the error that says why there is none now.
    """
    if state.committee(epoch + 1) != empty(address):
        return method_id("SnapshotPending()"), b""
    if block.number < state.since(epoch) + registry.settings.min_epoch_blocks:
        return method_id("EpochTooYoung()"), b""
    chosen: DynArray[uint256[5], committee.MAX_MEMBERS] = self._elected()
    if len(chosen) < registry.settings.min_members:
        return method_id("TooFewMembers()"), b""
    code: Bytes[committee.CODE_BYTES] = committee.code_of(chosen)
    if keccak256(code) == state.committee(epoch).codehash:
        return method_id("NothingChanged()"), b""
    return b"", code


@view
@internal
def _elected() -> DynArray[uint256[5], committee.MAX_MEMBERS]:
    """
    @dev The records of those who would be the committee, in the order of registration. Where there
         are too many, the lowest stakes have to wait, or whoever came last; of equals the later.
    """
    candidates: DynArray[uint256, registry.MAX_PRESENT] = registry.candidates(block.number)
    stakes: DynArray[uint256, registry.MAX_PRESENT] = []
    count: uint256 = len(candidates)
    for number: uint256 in candidates:
        stakes.append(registry.stake(number) if registry.settings.by_stake else 0)
    excess: uint256 = max(count, registry.settings.max_members) - registry.settings.max_members
    for _: uint256 in range(excess, bound=registry.MAX_PRESENT):
        lowest: uint256 = 0
        for index: uint256 in range(count, bound=registry.MAX_PRESENT):
            if stakes[index] <= stakes[lowest]:
                lowest = index
        stakes[lowest] = max_value(uint256)

    chosen: DynArray[uint256[5], committee.MAX_MEMBERS] = []
    for index: uint256 in range(count, bound=registry.MAX_PRESENT):
        if stakes[index] == max_value(uint256):
            continue
        number: uint256 = candidates[index]
        record: uint256[5] = registry.record(number)
        weight: uint256 = convert(registry.weight(number, record), uint256)
        chosen.append(committee.record_of(number, weight, record[4], committee.key_in(record)))
    return chosen
