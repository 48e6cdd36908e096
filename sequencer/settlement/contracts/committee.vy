# pragma version 0.4.3
"""
@title Committees
@license MIT
@notice The members of an epoch as immutable contract code, what a quorum of them is, and the
        digest under which the consensus knows them.
@dev
    A committee is the code of an account of its own (one cold account instead of many storage
    slots). The sum of its keys is stored beside them, so that the key of the signers is built from
    the smaller side: signers added up, or absentees taken off the sum.

    A record has five words: the key as an EIP-2537 point, and the identity. A coordinate fills
    only the lower half of its first word: above the x coordinate stand the member's number in the
    registry (64 bits) and its weight (64 bits, uppermost). So equal code is an equal committee.
"""

import bls

# What the first record of a committee's code says.
struct Quorum:
    size: uint256
    total: uint256
    needed: uint256

MAX_MEMBERS: constant(uint256) = 128
MAX_WEIGHT: constant(uint256) = 2 ** 32

# Runs first in a new account: returns everything after itself as the code.
COPY_REST: constant(Bytes[11]) = x"600b5981380380925939f3"
# In the code of a committee: STOP, ABI offset, record count, then the records: 0 is the quorum, 1
# the sum of the keys, 2 + i member i. In the code of a single record: STOP, then the record.
RECORDS_AT: constant(uint256) = 65
RECORD_BYTES: constant(uint256) = 160
SUM_RECORD_AT: constant(uint256) = RECORDS_AT + RECORD_BYTES
FIRST_MEMBER_RECORD_AT: constant(uint256) = RECORDS_AT + 2 * RECORD_BYTES
CODE_BYTES: constant(uint256) = RECORDS_AT + (MAX_MEMBERS + 2) * RECORD_BYTES

LOW_HALF: constant(uint256) = 2 ** 128 - 1
MAX_U64: constant(uint256) = 2 ** 64 - 1

# Masks for counting bits in parallel.
EVERY_2ND: constant(uint256) = 38597363079105398474523661669562635951089994888546854679819194669304376546645
EVERY_4TH: constant(uint256) = 23158417847463239084714197001737581570653996933128112807891516801582625927987
EVERY_8TH: constant(uint256) = 6811299366900952671974763824040465167839410862684739061144563765171360567055
EVERY_BYTE: constant(uint256) = 454086624460063511464984254936031011189294057512315937409637584344757371137

# "dseq/members/1" in 16 bytes: the domain of a committee's digest.
DOMAIN: constant(bytes16) = 0x647365712f6d656d626572732f310000
# In the digest's preimage a member has 96 bytes, two of its fields behind their lengths.
IDENTITY_LENGTH: constant(uint256) = 32 << 224
KEY_LENGTH: constant(uint256) = 48 << 192
# The largest such list; the 64 bytes more are what its ABI encoding has in front.
ENCODED_BYTES: constant(uint256) = MAX_MEMBERS * 96 + 64


@pure
@internal
def record_of(number: uint256, weight: uint256, identity: uint256, key: uint256[4]) -> uint256[5]:
    """
    @dev A member's record: its number in the registry, its weight, and who it is.
    """
    return [weight << 192 | number << 128 | key[0], key[1], key[2], key[3], identity]


@pure
@internal
def number_in(record: uint256[5]) -> uint256:
    return record[0] >> 128 & MAX_U64


@pure
@internal
def weight_in(record: uint256[5]) -> uint256:
    return record[0] >> 192


@pure
@internal
def key_in(record: uint256[5]) -> uint256[4]:
    return [record[0] & LOW_HALF, record[1], record[2], record[3]]


@internal
def create_record(record: uint256[5]) -> address:
    """
    @dev A new account whose code is this record.
    """
    return raw_create(concat(COPY_REST, b"\x00", abi_encode(record)))


@view
@internal
def single_record(account: address) -> uint256[5]:
    """
    @dev The record that `create_record` wrote.
    """
    return abi_decode(slice(account.code, 1, RECORD_BYTES), uint256[5])


@view
@internal
def code_of(members: DynArray[uint256[5], MAX_MEMBERS]) -> Bytes[CODE_BYTES]:
    """
    @dev The code of a committee of these records, in their order.
    """
    size: uint256 = len(members)
    if size == 0:
        raw_revert(method_id("InvalidCommittee()"))
    records: DynArray[uint256[5], MAX_MEMBERS + 2] = [empty(uint256[5]), empty(uint256[5])]
    total: uint256 = 0
    sum: uint256[4] = empty(uint256[4])
    for record: uint256[5] in members:
        weight: uint256 = self.weight_in(record)
        if weight == 0 or weight > MAX_WEIGHT:
            raw_revert(method_id("InvalidCommittee()"))
        total += weight
        sum = bls.add(sum, self.key_in(record))
        records.append(record)
    records[0] = [size, total, 2 * total // 3 + 1, 0, 0]
    records[1] = [sum[0], sum[1], sum[2], sum[3], 0]
    return concat(b"\x00", abi_encode(records))


@internal
def create(code: Bytes[CODE_BYTES]) -> address:
    """
    @dev A new account with the code of a committee.
    """
    return raw_create(concat(COPY_REST, code))


@view
@internal
def quorum(account: address) -> Quorum:
    return abi_decode(slice(account.code, RECORDS_AT, 96), Quorum)


@view
@internal
def member(account: address, index: uint256) -> uint256[5]:
    """
    @dev The record of the member with this index in the committee.
    """
    record_at: uint256 = FIRST_MEMBER_RECORD_AT + index * RECORD_BYTES
    return abi_decode(slice(account.code, record_at, RECORD_BYTES), uint256[5])


@view
@internal
def holds(account: address, number: uint256) -> bool:
    """
    @dev Whether the member with this number in the registry is in the committee.
    """
    for index: uint256 in range(self.quorum(account).size, bound=MAX_MEMBERS):
        if self.number_in(self.member(account, index)) == number:
            return True
    return False


@view
@internal
def encoded(account: address) -> Bytes[ENCODED_BYTES]:
    """
    @dev The members as in the preimage of the digest: 96 bytes each.
    """
    members: DynArray[uint256[3], MAX_MEMBERS] = []
    for index: uint256 in range(self.quorum(account).size, bound=MAX_MEMBERS):
        record: uint256[5] = self.member(account, index)
        key: uint256[2] = bls.compressed(self.key_in(record))
        members.append(
            [
                IDENTITY_LENGTH | record[4] >> 32,
                record[4] << 224 | KEY_LENGTH | key[0] << 64 | key[1] >> 192,
                key[1] << 64 | self.weight_in(record),
            ]
        )
    return slice(abi_encode(members), 64, len(members) * 96)


@pure
@internal
def digest(epoch: uint64, members: Bytes[ENCODED_BYTES]) -> bytes32:
    """
    @dev The digest of a committee in the consensus; members as from `encoded`.
    """
    count: uint32 = convert(len(members) // 96, uint32)
    return sha256(concat(DOMAIN, convert(epoch, bytes8), convert(count, bytes4), members))


@view
@internal
def signers_key(account: address, bitmap: Bytes[16]) -> uint256[4]:
    """
    @dev The sum of the signers' keys; reverts if they are no quorum.
    """
    quorum: Quorum = self.quorum(account)
    if len(bitmap) != (quorum.size + 7) // 8:
        raw_revert(method_id("WrongBitmap()"))
    signers: uint256 = self._bits(bitmap)
    if signers >> quorum.size != 0:
        raw_revert(method_id("WrongBitmap()"))

    key: uint256[4] = empty(uint256[4])
    weight: uint256 = 0
    if 2 * self._count(signers) <= quorum.size:
        key, weight = self._sum(account, signers)
    else:
        key, weight = self._sum(account, signers ^ ((1 << quorum.size) - 1))
        key = bls.add(self._key(account, SUM_RECORD_AT), bls.negative(key))
        weight = quorum.total - weight
    if weight < quorum.needed:
        raw_revert(method_id("NoQuorum()"))
    # With the identity for a key, the identity for a signature would do.
    if key[0] | key[1] | key[2] | key[3] == 0:
        raw_revert(method_id("IdentityKey()"))
    return key


@view
@internal
def _sum(account: address, members: uint256) -> (uint256[4], uint256):
    """
    @dev The sum of these members' keys, and of their weights.
    """
    key: uint256[4] = empty(uint256[4])
    weight: uint256 = 0
    remaining: uint256 = members
    record_at: uint256 = FIRST_MEMBER_RECORD_AT
    for _: uint256 in range(MAX_MEMBERS):
        if remaining == 0:
            break
        if remaining & 1 != 0:
            member: uint256[4] = self._key(account, record_at)
            weight += member[0] >> 192
            member[0] &= LOW_HALF
            key = bls.add(key, member)
        remaining >>= 1
        record_at = unsafe_add(record_at, RECORD_BYTES)
    return key, weight


@view
@internal
def _key(account: address, record_at: uint256) -> uint256[4]:
    """
    @dev The first four words of a record.
    """
    return abi_decode(slice(account.code, record_at, 128), uint256[4])


@pure
@internal
def _bits(bitmap: Bytes[16]) -> uint256:
    """
    @dev Member i at bit i: the bytes of the bitmap as a little-endian number.
    """
    rest: uint256 = convert(bitmap, uint256)
    bits: uint256 = 0
    for _: uint256 in range(len(bitmap), bound=16):
        bits = bits << 8 | rest & 255
        rest >>= 8
    return bits


@pure
@internal
def _count(bits: uint256) -> uint256:
    """
    @dev The number of bits set, below 256: sums of 2, 4, 8 bits side by side, then of all bytes.
    """
    sums: uint256 = bits - (bits >> 1 & EVERY_2ND)
    sums = (sums & EVERY_4TH) + (sums >> 2 & EVERY_4TH)
    sums = sums + (sums >> 4) & EVERY_8TH
    return unsafe_mul(sums, EVERY_BYTE) >> 248
