# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Sequencer
@license MIT
@notice Accepts batches of an ordered log, each certified by a quorum of the committee.
@dev
    A batch is accepted when more than two thirds of the committee's weight signed exactly its
    header (BLS12-381, keys in G1, signatures in G2, the proof-of-possession scheme of
    draft-irtf-cfrg-bls-signature; hash-to-curve as in RFC 9380, all of it done here with the
    precompiles of EIP-2537). Who sends it does not matter.

    What is accepted can be derived from transaction inputs alone: a batch comes straight from an
    account without code, in the one canonical ABI encoding, with the bytes that the header names.

    A header is bound to one chain, L1, contract, epoch and place in the log, so a certificate is
    good for one thing, once. The cheap checks come first: a late duplicate fails before any
    elliptic curve is touched.

    A committee is immutable contract code (one cold account instead of many storage slots), found
    by epoch. The sum of its keys is stored beside them, so that the key of the signers is built
    from the smaller side: signers added up, or absentees taken off the sum.

    Errors, in the order of the checks: AlreadyPosted and NotNext (the number is below or above the
    next), WrongParent, WrongDomain, WrongChain, WrongContract, WrongEpoch, WrongPositions,
    RelayedCall, NotCanonical, WrongData, WrongBitmap, NoQuorum, IdentityKey, InvalidSignature;
    PrecompileFailed where this L1 lacks EIP-2537; InvalidCommittee and InvalidKey at deployment.
    Values beyond their ABI type revert without a reason.
"""

import bls

struct Header:
    domain: bytes32
    chain_id: bytes32
    l1_chain_id: uint256
    contract_address: address
    epoch: uint64
    number: uint64
    previous_log_root: bytes32
    first_position: uint64
    last_position: uint64
    log_root: bytes32
    data_hash: bytes32
    blob_hashes: bytes32
    entry_count: uint64
    l1_origin: uint64
    forced_index: uint64

# Where the log stands; one storage word.
struct State:
    epoch: uint64
    next_number: uint64
    next_position: uint64

# What the first record of a committee's code says.
struct Quorum:
    size: uint256
    total: uint256
    needed: uint256

event BatchPosted:
    number: indexed(uint64)
    epoch: uint64
    first_position: uint64
    last_position: uint64
    log_root: bytes32
    data_hash: bytes32
    poster: address

MAX_MEMBERS: constant(uint256) = 128
MAX_DATA_BYTES: constant(uint256) = 122880
MAX_WEIGHT: constant(uint256) = 2 ** 32

HEADER_BYTES: constant(uint256) = 480
# Offsets of the two dynamic arguments, from the start of the arguments.
BITMAP_AT: constant(uint256) = 800
DATA_AT: constant(uint256) = 864

# "dseq/batch/1": no other message that a member signs starts with it.
DOMAIN: constant(bytes32) = 0x647365712f62617463682f310000000000000000000000000000000000000000

# Runs first in a new committee: returns everything after itself as the code.
COPY_REST: constant(Bytes[11]) = x"600b5981380380925939f3"
# In the committee's code: STOP, ABI offset, record count, then records of 128 bytes.
RECORDS_AT: constant(uint256) = 65
RECORD_BYTES: constant(uint256) = 128
# Record 0 is the quorum, record 1 the sum of the keys, record 2 + i member i: its key, with its
# weight in the upper half of the first word (a coordinate fills the lower half only).
SUM_RECORD_AT: constant(uint256) = RECORDS_AT + RECORD_BYTES
FIRST_MEMBER_RECORD_AT: constant(uint256) = RECORDS_AT + 2 * RECORD_BYTES
MAX_U64: constant(uint256) = 2 ** 64 - 1
LOW_HALF: constant(uint256) = 2 ** 128 - 1

# Masks for counting bits in parallel.
EVERY_2ND: constant(uint256) = 38597363079105398474523661669562635951089994888546854679819194669304376546645
EVERY_4TH: constant(uint256) = 23158417847463239084714197001737581570653996933128112807891516801582625927987
EVERY_8TH: constant(uint256) = 6811299366900952671974763824040465167839410862684739061144563765171360567055
EVERY_BYTE: constant(uint256) = 454086624460063511464984254936031011189294057512315937409637584344757371137

chain_id_digest: public(immutable(bytes32))
deploy_block: public(immutable(uint256))

last_log_root: public(bytes32)
state: uint256
committees: HashMap[uint64, address]


@deploy
def __init__(
    chain_id: bytes32,
    keys: DynArray[uint256[4], MAX_MEMBERS],
    weights: DynArray[uint64, MAX_MEMBERS],
    epoch: uint64,
):
    """
    @notice Starts an empty log under its first committee.
    @param chain_id Digest of the genesis core, the same in every header
    @param keys The members' keys as EIP-2537 points, in committee order
    @param weights The members' weights, 1 to 2**32
    @param epoch The epoch of this committee
    """
    chain_id_digest = chain_id
    deploy_block = block.number
    self.committees[epoch] = self._create_committee(keys, weights)
    self._set_state(State(epoch=epoch, next_number=1, next_position=0))


@external
def post_batch(
    header: Header, bitmap: Bytes[16], signature: bytes32[8], data: Bytes[MAX_DATA_BYTES]
):
    """
    @notice Accepts the next batch.
    @param header The fields that the committee signed, as it signed them
    @param bitmap The signers: member i is bit i % 8 of byte i // 8
    @param signature The signers' aggregate signature as an EIP-2537 point
    @param data The bytes of the batch, in calldata only
    """
    # All else happens in a function of its own, whose memory lies below the buffer of `data`: with
    # anything above that buffer, each call would pay for all its 120 KiB.
    self._accept(header, bitmap, signature, keccak256(data), len(data))


@view
@external
def epoch() -> uint64:
    """
    @notice The epoch whose committee signs now.
    """
    return self._state().epoch


@view
@external
def next_number() -> uint64:
    """
    @notice The number of the next batch, 1 for the first.
    """
    return self._state().next_number


@view
@external
def next_position() -> uint64:
    """
    @notice The position in the log of the next batch's first entry, 0 for the first.
    """
    return self._state().next_position


@view
@external
def committee_size() -> uint256:
    """
    @notice How many members the committee of this epoch has.
    """
    return self._quorum(self.committees[self._state().epoch]).size


@view
@external
def committee_digest() -> bytes32:
    """
    @notice The code hash of the committee of this epoch: keccak-256 of a zero byte and the ABI
            encoding of its records.
    """
    return self.committees[self._state().epoch].codehash


@internal
def _accept(
    header: Header, bitmap: Bytes[16], signature: bytes32[8], data_hash: bytes32, data_size: uint256
):
    state: State = self._state()
    if header.number < state.next_number:
        raw_revert(method_id("AlreadyPosted()"))
    if header.number > state.next_number:
        raw_revert(method_id("NotNext()"))
    if header.previous_log_root != self.last_log_root:
        raw_revert(method_id("WrongParent()"))
    self._check_place(header, state)
    self._check_data(header, data_hash, data_size)

    committee: address = self.committees[header.epoch]
    key: uint256[4] = self._signers_key(committee, bitmap)
    if not bls.verify(key, abi_encode(header), signature):
        raw_revert(method_id("InvalidSignature()"))

    state.next_number += 1
    state.next_position = header.last_position + 1
    self._set_state(state)
    self.last_log_root = header.log_root
    log BatchPosted(
        number=header.number,
        epoch=header.epoch,
        first_position=header.first_position,
        last_position=header.last_position,
        log_root=header.log_root,
        data_hash=header.data_hash,
        poster=msg.sender,
    )


@view
@internal
def _check_place(header: Header, state: State):
    """
    @dev The header was signed for this chain, contract, epoch and place in the log.
    """
    if header.domain != DOMAIN:
        raw_revert(method_id("WrongDomain()"))
    if header.chain_id != chain_id_digest or header.l1_chain_id != chain.id:
        raw_revert(method_id("WrongChain()"))
    if header.contract_address != self:
        raw_revert(method_id("WrongContract()"))
    if header.epoch != state.epoch:
        raw_revert(method_id("WrongEpoch()"))
    if header.first_position != state.next_position or header.last_position < header.first_position:
        raw_revert(method_id("WrongPositions()"))
    if header.entry_count != header.last_position - header.first_position + 1:
        raw_revert(method_id("WrongPositions()"))


@view
@internal
def _check_data(header: Header, data_hash: bytes32, data_size: uint256):
    """
    @dev The bytes are those of the header and stand in the input of a transaction to this
         contract, where anyone finds them: no contract relays them (also no account that delegates
         to one, EIP-7702), and offsets and size are those of the canonical encoding, since the ABI
         lets arguments overlap or reach behind the end.
    """
    if msg.sender != tx.origin or msg.sender.codesize != 0:
        raw_revert(method_id("RelayedCall()"))
    bitmap_at: uint256 = convert(slice(msg.data, 4 + HEADER_BYTES, 32), uint256)
    data_at: uint256 = convert(slice(msg.data, 4 + BITMAP_AT - 32, 32), uint256)
    input_size: uint256 = 4 + DATA_AT + 32 + (data_size + 31) // 32 * 32
    if bitmap_at != BITMAP_AT or data_at != DATA_AT or len(msg.data) != input_size:
        raw_revert(method_id("NotCanonical()"))
    if data_size == 0 or data_hash != header.data_hash:
        raw_revert(method_id("WrongData()"))


@view
@internal
def _signers_key(committee: address, bitmap: Bytes[16]) -> uint256[4]:
    """
    @dev The sum of the signers' keys; reverts if they are no quorum.
    """
    quorum: Quorum = self._quorum(committee)
    if len(bitmap) != (quorum.size + 7) // 8:
        raw_revert(method_id("WrongBitmap()"))
    signers: uint256 = self._bits(bitmap)
    if signers >> quorum.size != 0:
        raw_revert(method_id("WrongBitmap()"))

    key: uint256[4] = empty(uint256[4])
    weight: uint256 = 0
    if 2 * self._count(signers) <= quorum.size:
        key, weight = self._sum(committee, signers)
    else:
        key, weight = self._sum(committee, signers ^ ((1 << quorum.size) - 1))
        key = bls.add(self._record(committee, SUM_RECORD_AT), bls.negative(key))
        weight = quorum.total - weight
    if weight < quorum.needed:
        raw_revert(method_id("NoQuorum()"))
    # With the identity for a key, the identity for a signature would do.
    if key[0] | key[1] | key[2] | key[3] == 0:
        raw_revert(method_id("IdentityKey()"))
    return key


@view
@internal
def _sum(committee: address, members: uint256) -> (uint256[4], uint256):
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
            member: uint256[4] = self._record(committee, record_at)
            weight += member[0] >> 128
            member[0] &= LOW_HALF
            key = bls.add(key, member)
        remaining >>= 1
        record_at = unsafe_add(record_at, RECORD_BYTES)
    return key, weight


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


@internal
def _create_committee(
    keys: DynArray[uint256[4], MAX_MEMBERS], weights: DynArray[uint64, MAX_MEMBERS]
) -> address:
    """
    @dev Writes a committee's records as the code of a new account.
    """
    size: uint256 = len(keys)
    if size == 0 or size != len(weights):
        raw_revert(method_id("InvalidCommittee()"))
    records: DynArray[uint256[4], MAX_MEMBERS + 2] = [empty(uint256[4]), empty(uint256[4])]
    total: uint256 = 0
    sum: uint256[4] = empty(uint256[4])
    for index: uint256 in range(size, bound=MAX_MEMBERS):
        record: uint256[4] = keys[index]
        bls.check_key(record)
        sum = bls.add(sum, record)
        weight: uint256 = convert(weights[index], uint256)
        if weight == 0 or weight > MAX_WEIGHT:
            raw_revert(method_id("InvalidCommittee()"))
        total += weight
        record[0] |= weight << 128
        records.append(record)
    records[0] = [size, total, 2 * total // 3 + 1, 0]
    records[1] = sum
    return raw_create(concat(COPY_REST, b"\x00", abi_encode(records)))


@view
@internal
def _record(committee: address, record_at: uint256) -> uint256[4]:
    return abi_decode(slice(committee.code, record_at, RECORD_BYTES), uint256[4])


@view
@internal
def _quorum(committee: address) -> Quorum:
    return abi_decode(slice(committee.code, RECORDS_AT, 96), Quorum)


@view
@internal
def _state() -> State:
    word: uint256 = self.state
    return State(
        epoch=convert(word >> 128, uint64),
        next_number=convert(word >> 64 & MAX_U64, uint64),
        next_position=convert(word & MAX_U64, uint64),
    )


@internal
def _set_state(state: State):
    self.state = (
        convert(state.epoch, uint256) << 128
        | convert(state.next_number, uint256) << 64
        | convert(state.next_position, uint256)
    )
