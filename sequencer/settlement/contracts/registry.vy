# pragma version 0.4.3
"""
@title Registry of members
@license MIT
@notice Who may be in a committee: operators register a member (an identity, a BLS key, an address
        and a stake), rotate its key, and leave. What they change counts from the next snapshot on.
@dev
    A member has a number, in the order of registration; the founders come first. Its identity and
    its key are a record in contract code (see committee.vy): the founders' records are those of the
    first committee, others have accounts of their own.

    A key is accepted with two signatures: the standard proof of possession, which binds nothing but
    the key, and a binding to chain, L1, contract, operator and identity. Identities and keys are
    never accepted twice.
"""

import bls
import committee
import state

uses: state

struct Settings:
    owner: address
    by_stake: bool
    min_stake: uint256
    weight_unit: uint256
    min_members: uint256
    max_members: uint256
    max_registered: uint256
    activation_blocks: uint256
    exit_blocks: uint256
    min_epoch_blocks: uint256

struct Membership:
    operator: address
    stake: uint256
    # The account of its record; zero for a founder that has the key it had at the start.
    record: address
    # The first L1 block in which a snapshot may hold it, and the one in which it left.
    active_at: uint256
    left_at: uint256
    # When it left, the first epoch that will not hold it; zero if it was in no committee.
    free_epoch: uint64
    location: String[128]

struct MemberView:
    number: uint256
    operator: address
    identity: bytes32
    key: uint256[4]
    weight: uint64
    stake: uint256
    active_at: uint256
    left_at: uint256
    # The L1 block from which its stake may be taken out; zero while that is not known.
    exit_at: uint256
    # Whether the committee of the contract's epoch holds it.
    seated: bool
    location: String[128]

event Allowed:
    operator: indexed(address)
    allowed: bool

event Registered:
    number: indexed(uint256)
    operator: indexed(address)
    identity: bytes32

event Claimed:
    number: indexed(uint256)
    operator: indexed(address)

event StakeAdded:
    number: indexed(uint256)
    amount: uint256

event Rotated:
    number: indexed(uint256)

event AddressChanged:
    number: indexed(uint256)

event Left:
    number: indexed(uint256)

event Exited:
    number: indexed(uint256)
    stake: uint256

# How many members may be there at once at most, and how many may ever have been.
MAX_PRESENT: constant(uint256) = 256
MAX_WORDS: constant(uint256) = 4096
MAX_NUMBERS: constant(uint256) = 256 * MAX_WORDS
# Above this a delay could hold a stake for ever.
MAX_DELAY_BLOCKS: constant(uint256) = 10_000_000
MAX_LOCATION: constant(uint256) = 128

# "dseq/register/1": no other message that a member signs starts with it.
DOMAIN: constant(bytes32) = 0x647365712f72656769737465722f310000000000000000000000000000000000

settings: public(immutable(Settings))
founders: immutable(address)
founder_count: immutable(uint256)

allowed: public(HashMap[address, bool])
# How many numbers have been given out.
member_count: public(uint256)
_members: HashMap[uint256, Membership]
# One more than the number of an operator's newest member.
_number_after: HashMap[address, uint256]
# Bit i of word w is set while member 256 * w + i may be in a snapshot.
_present: HashMap[uint256, uint256]
_present_count: uint256
# What has been used by a member that is no founder.
_identities: HashMap[bytes32, bool]
_keys: HashMap[bytes32, bool]
# What a member that has not exited has.
_locations: HashMap[bytes32, bool]


@deploy
def __init__(first_committee: address, rules: Settings):
    if rules.min_members == 0 or rules.min_members > rules.max_members:
        raw_revert(method_id("InvalidSettings()"))
    if rules.max_members > committee.MAX_MEMBERS or rules.max_registered > MAX_PRESENT:
        raw_revert(method_id("InvalidSettings()"))
    for delay: uint256 in [rules.activation_blocks, rules.exit_blocks, rules.min_epoch_blocks]:
        if delay > MAX_DELAY_BLOCKS:
            raw_revert(method_id("InvalidSettings()"))
    settings = rules
    founders = first_committee
    founder_count = committee.quorum(first_committee).size
    self.member_count = founder_count
    self._present[0] = (1 << founder_count) - 1
    self._present_count = founder_count


# What operators do


@external
def allow(operator: address, is_allowed: bool):
    """
    @notice Puts an operator on the allow-list or takes it off; off it, its member leaves.
    """
    if msg.sender != settings.owner or settings.by_stake:
        raw_revert(method_id("NotOwner()"))
    self.allowed[operator] = is_allowed
    log Allowed(operator=operator, allowed=is_allowed)
    found: bool = False
    number: uint256 = 0
    found, number = self._number_of(operator)
    if not is_allowed and found and self._members[number].left_at == 0:
        self._leave(number)


@external
def remove(number: uint256):
    """
    @notice Makes a member leave whose operator does not: a founder that nobody has claimed, or one
            whose keys are lost.
    """
    if msg.sender != settings.owner or settings.by_stake:
        raw_revert(method_id("NotOwner()"))
    if number >= self.member_count:
        raw_revert(method_id("NotMember()"))
    if self._members[number].left_at != 0:
        raw_revert(method_id("AlreadyLeft()"))
    self._leave(number)


@payable
@external
def register(
    identity: bytes32,
    key: uint256[4],
    possession: bytes32[8],
    binding: bytes32[8],
    location: String[MAX_LOCATION],
):
    """
    @notice Registers the sender's member, with what is sent as its stake.
    @param identity Its Ed25519 key
    @param key Its BLS key as an EIP-2537 point
    @param possession The proof of possession of the key, as an EIP-2537 point
    @param binding The key's signature that binds it to this place, as an EIP-2537 point
    @param location Where it is reached: a multiaddr
    """
    if not settings.by_stake and not self.allowed[msg.sender]:
        raw_revert(method_id("NotAllowed()"))
    if self._number_of(msg.sender)[0]:
        raw_revert(method_id("AlreadyMember()"))
    if msg.value < settings.min_stake:
        raw_revert(method_id("StakeTooLow()"))
    number: uint256 = self.member_count
    if number >= MAX_NUMBERS:
        raw_revert(method_id("RegistryFull()"))
    if self._identities[identity] or self._is_founder(identity):
        raw_revert(method_id("IdentityUsed()"))
    self._use_key(key)
    self._check_key(identity, key, possession, binding)

    if self._present_count >= settings.max_registered:
        self._make_room(msg.value)
    self._identities[identity] = True
    self.member_count = number + 1
    self._present[number // 256] |= 1 << number % 256
    self._present_count += 1
    self._number_after[msg.sender] = number + 1
    self._members[number].operator = msg.sender
    self._members[number].stake = msg.value
    self._members[number].record = committee.create_record(
        committee.record_of(number, 1, convert(identity, uint256), key)
    )
    self._members[number].active_at = block.number + settings.activation_blocks
    self._set_location(number, location)
    log Registered(number=number, operator=msg.sender, identity=identity)


@payable
@external
def claim(identity: bytes32, binding: bytes32[8]):
    """
    @notice Makes the sender the operator of a founder, with what is sent as its stake.
    @param identity The founder's identity
    @param binding The signature of the founder's key that binds it to the sender
    """
    if self._number_of(msg.sender)[0]:
        raw_revert(method_id("AlreadyMember()"))
    number: uint256 = self._founder(identity)
    if number == founder_count:
        raw_revert(method_id("UnknownIdentity()"))
    if self._members[number].operator != empty(address) or self._members[number].left_at != 0:
        raw_revert(method_id("AlreadyClaimed()"))
    self._check_binding(identity, committee.key_in(self.record(number)), binding)
    self._number_after[msg.sender] = number + 1
    self._members[number].operator = msg.sender
    self._members[number].stake = msg.value
    log Claimed(number=number, operator=msg.sender)


@payable
@external
def add_stake():
    """
    @notice Adds what is sent to the stake of the sender's member.
    """
    number: uint256 = self._staying()
    self._members[number].stake += msg.value
    log StakeAdded(number=number, amount=msg.value)


@external
def rotate(key: uint256[4], possession: bytes32[8], binding: bytes32[8]):
    """
    @notice Gives the sender's member another key.
    @param key Its new BLS key as an EIP-2537 point
    @param possession The proof of possession of the new key
    @param binding The new key's signature that binds it to this place
    """
    number: uint256 = self._staying()
    record: uint256[5] = self.record(number)
    self._use_key(key)
    self._check_key(convert(record[4], bytes32), key, possession, binding)
    self._members[number].record = committee.create_record(
        committee.record_of(number, committee.weight_in(record), record[4], key)
    )
    log Rotated(number=number)


@external
def change_address(location: String[MAX_LOCATION]):
    """
    @notice Changes where the sender's member is reached.
    @param location A multiaddr
    """
    number: uint256 = self._own()
    self._set_location(number, location)
    log AddressChanged(number=number)


@external
def leave():
    """
    @notice Keeps the sender's member out of further snapshots.
    """
    self._leave(self._staying())


@external
def exit():
    """
    @notice Pays the stake of the sender's member back.
    """
    number: uint256 = self._own()
    if self._members[number].left_at == 0:
        raw_revert(method_id("NotLeft()"))
    exit_at: uint256 = self._exit_at(number)
    if exit_at == 0:
        raw_revert(method_id("StillSeated()"))
    if block.number < exit_at:
        raw_revert(method_id("TooEarly()"))
    stake: uint256 = self._members[number].stake
    # All is written before the operator is called, which may be a contract.
    self._members[number].operator = empty(address)
    self._members[number].stake = 0
    self._locations[keccak256(self._members[number].location)] = False
    self._members[number].location = ""
    log Exited(number=number, stake=stake)
    if not raw_call(msg.sender, b"", value=stake, revert_on_failure=False):
        raw_revert(method_id("NotPaid()"))


# Views


@view
@external
def member_at(number: uint256) -> MemberView:
    """
    @notice A member by its number, 0 for the first; also one that has left.
    """
    return self._view(number)


@view
@external
def operator(operator: address) -> MemberView:
    """
    @notice The newest member of this account, also if it has exited.
    """
    number_after: uint256 = self._number_after[operator]
    if number_after == 0:
        raw_revert(method_id("NotMember()"))
    return self._view(number_after - 1)


@view
@internal
def _view(number: uint256) -> MemberView:
    if number >= self.member_count:
        raw_revert(method_id("NotMember()"))
    member: Membership = self._members[number]
    record: uint256[5] = self.record(number)
    return MemberView(
        number=number,
        operator=member.operator,
        identity=convert(record[4], bytes32),
        key=committee.key_in(record),
        weight=self.weight(number, record),
        stake=member.stake,
        active_at=member.active_at,
        left_at=member.left_at,
        exit_at=self._exit_at(number),
        seated=committee.holds(state.committee(state.epoch()), number),
        location=member.location,
    )


# What the snapshots ask


@view
@internal
def candidates(at: uint256) -> DynArray[uint256, MAX_PRESENT]:
    """
    @dev The numbers of those that a snapshot in this L1 block may hold, rising.
    """
    found: DynArray[uint256, MAX_PRESENT] = []
    for index: uint256 in range((self.member_count + 255) // 256, bound=MAX_WORDS):
        word: uint256 = self._present[index]
        number: uint256 = 256 * index
        for _: uint256 in range(256):
            if word == 0:
                break
            if word & 1 != 0 and self._members[number].active_at <= at:
                found.append(number)
            word >>= 1
            number += 1
    return found


@view
@internal
def record(number: uint256) -> uint256[5]:
    """
    @dev The record of a member with the key that it has now.
    """
    account: address = self._members[number].record
    if account == empty(address):
        return committee.member(founders, number)
    return committee.single_record(account)


@view
@internal
def stake(number: uint256) -> uint256:
    return self._members[number].stake


@view
@internal
def operator_of(number: uint256) -> address:
    return self._members[number].operator


@view
@internal
def location(number: uint256) -> String[MAX_LOCATION]:
    return self._members[number].location


@view
@internal
def weight(number: uint256, record: uint256[5]) -> uint64:
    """
    @dev What the next snapshot gives a member: the weight in its record, or one for each unit of
         its stake.
    """
    if settings.weight_unit == 0:
        return convert(committee.weight_in(record), uint64)
    units: uint256 = self._members[number].stake // settings.weight_unit
    return convert(min(max(units, 1), committee.MAX_WEIGHT), uint64)


# Parts


@view
@internal
def _number_of(operator: address) -> (bool, uint256):
    """
    @dev Whether an account has a member that has not exited, and its number.
    """
    after: uint256 = self._number_after[operator]
    if after == 0 or self._members[after - 1].operator != operator:
        return False, 0
    return True, after - 1


@view
@internal
def _own() -> uint256:
    """
    @dev The number of the sender's member.
    """
    found: bool = False
    number: uint256 = 0
    found, number = self._number_of(msg.sender)
    if not found:
        raw_revert(method_id("NotMember()"))
    return number


@view
@internal
def _staying() -> uint256:
    """
    @dev The number of the sender's member, which must not have left.
    """
    number: uint256 = self._own()
    if self._members[number].left_at != 0:
        raw_revert(method_id("AlreadyLeft()"))
    return number


@internal
def _make_room(stake: uint256):
    """
    @dev In a full registry the lowest stake leaves for a higher one: nobody can keep others out by
         filling it with low ones. Where the owner decides, the owner makes room.
    """
    present: DynArray[uint256, MAX_PRESENT] = self.candidates(max_value(uint256))
    lowest: uint256 = present[0]
    for number: uint256 in present:
        if self._members[number].stake <= self._members[lowest].stake:
            lowest = number
    if not settings.by_stake or self._members[lowest].stake >= stake:
        raw_revert(method_id("RegistryFull()"))
    self._leave(lowest)


@internal
def _leave(number: uint256):
    """
    @dev Notes how long a committee holds the member: no snapshot from now on does.
    """
    epoch: uint64 = state.epoch()
    following: address = state.committee(epoch + 1)
    free_epoch: uint64 = 0
    if following != empty(address) and committee.holds(following, number):
        free_epoch = epoch + 2
    elif committee.holds(state.committee(epoch), number):
        free_epoch = epoch + 1
    self._present[number // 256] ^= 1 << number % 256
    self._present_count -= 1
    self._members[number].left_at = block.number
    self._members[number].free_epoch = free_epoch
    log Left(number=number)


@view
@internal
def _exit_at(number: uint256) -> uint256:
    """
    @dev The first L1 block in which the member may exit; zero while that is not known.
    """
    left_at: uint256 = self._members[number].left_at
    free_epoch: uint64 = self._members[number].free_epoch
    if left_at == 0 or state.epoch() < free_epoch:
        return 0
    if free_epoch != 0:
        left_at = max(left_at, state.since(free_epoch))
    return left_at + settings.exit_blocks


@internal
def _set_location(number: uint256, location: String[MAX_LOCATION]):
    if len(location) == 0:
        raw_revert(method_id("NoAddress()"))
    self._locations[keccak256(self._members[number].location)] = False
    digest: bytes32 = keccak256(location)
    if self._locations[digest]:
        raw_revert(method_id("AddressUsed()"))
    self._locations[digest] = True
    self._members[number].location = location


@view
@internal
def _founder(identity: bytes32) -> uint256:
    """
    @dev The number of the founder with this identity; the count of founders if there is none.
    """
    for number: uint256 in range(founder_count, bound=committee.MAX_MEMBERS):
        if committee.member(founders, number)[4] == convert(identity, uint256):
            return number
    return founder_count


@view
@internal
def _is_founder(identity: bytes32) -> bool:
    return self._founder(identity) != founder_count


@internal
def _use_key(key: uint256[4]):
    """
    @dev A key counts once, for ever.
    """
    digest: bytes32 = keccak256(abi_encode(key))
    if self._keys[digest]:
        raw_revert(method_id("KeyUsed()"))
    for number: uint256 in range(founder_count, bound=committee.MAX_MEMBERS):
        founder: uint256[4] = committee.key_in(committee.member(founders, number))
        if keccak256(abi_encode(founder)) == digest:
            raw_revert(method_id("KeyUsed()"))
    self._keys[digest] = True


@view
@internal
def _check_key(
    identity: bytes32, key: uint256[4], possession: bytes32[8], binding: bytes32[8]
):
    """
    @dev The sender holds this key, and means it for this identity here.
    """
    bls.check_key(key)
    if not bls.verify(key, bls.key_bytes(key), possession, bls.POSSESSION):
        raw_revert(method_id("InvalidPossession()"))
    self._check_binding(identity, key, binding)


@view
@internal
def _check_binding(identity: bytes32, key: uint256[4], binding: bytes32[8]):
    message: Bytes[240] = concat(
        abi_encode(DOMAIN, state.chain_id_digest, chain.id, self, msg.sender, identity),
        bls.key_bytes(key),
    )
    if not bls.verify(key, message, binding, bls.SIGNATURE):
        raw_revert(method_id("InvalidBinding()"))
