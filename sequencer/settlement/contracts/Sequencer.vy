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
"""

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

# Precompiles, and what we let each spend: twice its price, since a malformed point burns it all.
MODEXP: constant(address) = 0x0000000000000000000000000000000000000005
G1_ADD: constant(address) = 0x000000000000000000000000000000000000000b
G1_MSM: constant(address) = 0x000000000000000000000000000000000000000C
G2_ADD: constant(address) = 0x000000000000000000000000000000000000000d
PAIRING: constant(address) = 0x000000000000000000000000000000000000000F
MAP_FP2: constant(address) = 0x0000000000000000000000000000000000000011
MODEXP_GAS: constant(uint256) = 2000
G1_ADD_GAS: constant(uint256) = 750
G1_MSM_GAS: constant(uint256) = 24000
G2_ADD_GAS: constant(uint256) = 1200
PAIRING_GAS: constant(uint256) = 206000
MAP_FP2_GAS: constant(uint256) = 47600

# Minus the generator of G1.
NEGATIVE_GENERATOR: constant(Bytes[128]) = x"0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb00000000000000000000000000000000114d1d6855d545a8aa7d76c8cf2e21f267816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca"
ZERO_POINT: constant(Bytes[128]) = x"0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
# The field modulus, as its upper 128 and lower 256 bits.
MODULUS_HIGH: constant(uint256) = 34565483545414906068789196026815425751
MODULUS_LOW: constant(uint256) = 45442060874369865957053122457065728162598490762543039060009208264153100167851

# RFC 9380, expand_message_xmd with SHA-256 to 256 bytes.
Z_PAD: constant(Bytes[64]) = x"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
# DST_prime: "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_" and its length.
DST: constant(Bytes[44]) = x"424c535f5349475f424c53313233383147325f584d443a5348412d3235365f535357555f524f5f504f505f2b"
# Two bytes of output length (256), a zero byte, DST_prime.
MESSAGE_END: constant(Bytes[47]) = x"010000424c535f5349475f424c53313233383147325f584d443a5348412d3235365f535357555f524f5f504f505f2b"
# MODEXP input around a 64-byte number: lengths 64, 1, 64; exponent 1 and the modulus.
REDUCE_START: constant(Bytes[96]) = x"000000000000000000000000000000000000000000000000000000000000004000000000000000000000000000000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000000000040"
REDUCE_END: constant(Bytes[65]) = x"01000000000000000000000000000000001a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"

# Runs first in a new committee: returns everything after itself as the code.
COPY_REST: constant(Bytes[11]) = x"600b5981380380925939f3"
# In the committee's code: STOP, ABI offset, record count, then records of 128 bytes.
RECORDS_AT: constant(uint256) = 65
RECORD_BYTES: constant(uint256) = 128
# Record 0 is the quorum, record 1 the sum of the keys, record 2 + i member i: its key, with its
# weight in the upper half of the first word (a coordinate fills the lower half only).
SUM_RECORD: constant(uint256) = 1
FIRST_MEMBER_RECORD: constant(uint256) = 2
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
    # Whatever is needed before `data` is in frames below its buffer: memory is paid for up to the
    # highest byte touched, so nothing may lie behind 120 KiB of mostly absent bytes.
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
    key: Bytes[128] = self._signers_key(committee, bitmap)
    if not self._verify(key, abi_encode(header), abi_encode(signature)):
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
def _signers_key(committee: address, bitmap: Bytes[16]) -> Bytes[128]:
    """
    @dev The sum of the signers' keys; reverts if they are no quorum.
    """
    quorum: Quorum = self._quorum(committee)
    if len(bitmap) != (quorum.size + 7) // 8:
        raw_revert(method_id("WrongBitmap()"))
    signers: uint256 = self._bits(bitmap)
    if signers >> quorum.size != 0:
        raw_revert(method_id("WrongBitmap()"))

    key: Bytes[128] = b""
    weight: uint256 = 0
    if 2 * self._count(signers) <= quorum.size:
        key, weight = self._sum(committee, signers)
    else:
        absent: uint256 = signers ^ ((1 << quorum.size) - 1)
        key, weight = self._sum(committee, absent)
        weight = quorum.total - weight
        key = self._add(self._record(committee, SUM_RECORD), self._negative(key))
    if weight < quorum.needed:
        raw_revert(method_id("NoQuorum()"))
    # With the identity for a key, the identity for a signature would do.
    if key == ZERO_POINT:
        raw_revert(method_id("IdentityKey()"))
    return key


@view
@internal
def _sum(committee: address, members: uint256) -> (Bytes[128], uint256):
    """
    @dev The sum of these members' keys, and of their weights.
    """
    key: Bytes[128] = ZERO_POINT
    weight: uint256 = 0
    remaining: uint256 = members
    for index: uint256 in range(MAX_MEMBERS):
        if remaining == 0:
            break
        if remaining & 1 != 0:
            record: Bytes[128] = self._record(committee, FIRST_MEMBER_RECORD + index)
            first: uint256 = convert(slice(record, 0, 32), uint256)
            weight += first >> 128
            member: Bytes[128] = concat(convert(first & LOW_HALF, bytes32), slice(record, 32, 96))
            key = self._add(key, member)
        remaining >>= 1
    return key, weight


@view
@internal
def _verify(key: Bytes[128], message: Bytes[HEADER_BYTES], signature: Bytes[256]) -> bool:
    """
    @dev e(key, H(message)) * e(-generator, signature) == 1. The pairing precompile refuses points
         off the curve or outside of the subgroup.
    """
    success: bool = False
    result: Bytes[32] = b""
    success, result = raw_call(
        PAIRING,
        concat(key, self._hash_to_curve(message), NEGATIVE_GENERATOR, signature),
        max_outsize=32,
        gas=PAIRING_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    return success and len(result) == 32 and convert(result, uint256) == 1


@view
@internal
def _hash_to_curve(message: Bytes[HEADER_BYTES]) -> Bytes[256]:
    """
    @dev RFC 9380, BLS12381G2_XMD:SHA-256_SSWU_RO_.
    """
    start: bytes32 = sha256(concat(Z_PAD, message, MESSAGE_END))
    last: bytes32 = empty(bytes32)
    real: Bytes[64] = b""
    imaginary: Bytes[64] = b""
    real, last = self._field_element(start, last, 1)
    imaginary, last = self._field_element(start, last, 3)
    first: Bytes[256] = self._precompile(MAP_FP2, MAP_FP2_GAS, concat(real, imaginary), 256)
    real, last = self._field_element(start, last, 5)
    imaginary, last = self._field_element(start, last, 7)
    second: Bytes[256] = self._precompile(MAP_FP2, MAP_FP2_GAS, concat(real, imaginary), 256)
    return self._precompile(G2_ADD, G2_ADD_GAS, concat(first, second), 256)


@view
@internal
def _field_element(start: bytes32, last: bytes32, index: uint256) -> (Bytes[64], bytes32):
    """
    @dev b_index || b_(index + 1) modulo the field modulus, and b_(index + 1).
    """
    upper: bytes32 = self._expand(start, last, index)
    lower: bytes32 = self._expand(start, upper, index + 1)
    wide: Bytes[225] = concat(REDUCE_START, upper, lower, REDUCE_END)
    return slice(self._precompile(MODEXP, MODEXP_GAS, wide, 64), 0, 64), lower


@pure
@internal
def _expand(start: bytes32, last: bytes32, index: uint256) -> bytes32:
    """
    @dev b_i of expand_message_xmd.
    """
    mixed: uint256 = convert(start, uint256) ^ convert(last, uint256)
    return sha256(concat(convert(mixed, bytes32), convert(convert(index, uint8), bytes1), DST))


@view
@internal
def _precompile(target: address, limit: uint256, input: Bytes[512], size: uint256) -> Bytes[256]:
    """
    @dev The answer of a precompile. Where there is no precompile the call succeeds, empty.
    """
    success: bool = False
    result: Bytes[256] = b""
    success, result = raw_call(
        target, input, max_outsize=256, gas=limit, is_static_call=True, revert_on_failure=False
    )
    if not success or len(result) != size:
        raw_revert(method_id("PrecompileFailed()"))
    return result


@view
@internal
def _add(first: Bytes[128], second: Bytes[128]) -> Bytes[128]:
    return slice(self._precompile(G1_ADD, G1_ADD_GAS, concat(first, second), 128), 0, 128)


@pure
@internal
def _negative(point: Bytes[128]) -> Bytes[128]:
    """
    @dev The point with its y coordinate taken off the modulus; infinity stays.
    """
    high: uint256 = convert(slice(point, 64, 32), uint256)
    low: uint256 = convert(slice(point, 96, 32), uint256)
    if high == 0 and low == 0:
        return point
    high = MODULUS_HIGH - high
    if low > MODULUS_LOW:
        high -= 1
    low = unsafe_sub(MODULUS_LOW, low)
    return concat(slice(point, 0, 64), convert(high, bytes32), convert(low, bytes32))


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
    records: DynArray[uint256[4], MAX_MEMBERS + FIRST_MEMBER_RECORD] = []
    records.append(empty(uint256[4]))
    records.append(empty(uint256[4]))
    total: uint256 = 0
    sum: Bytes[128] = ZERO_POINT
    for index: uint256 in range(size, bound=MAX_MEMBERS):
        key: Bytes[128] = self._checked(keys[index])
        weight: uint256 = convert(weights[index], uint256)
        if weight == 0 or weight > MAX_WEIGHT:
            raw_revert(method_id("InvalidCommittee()"))
        total += weight
        sum = self._add(sum, key)
        record: uint256[4] = keys[index]
        record[0] |= weight << 128
        records.append(record)
    records[0] = [size, total, 2 * total // 3 + 1, 0]
    records[SUM_RECORD] = abi_decode(sum, uint256[4])
    return raw_create(concat(COPY_REST, b"\x00", abi_encode(records)))


@view
@internal
def _checked(key: uint256[4]) -> Bytes[128]:
    """
    @dev The key as bytes, if it is in the subgroup and not infinity: times one it must be itself.
    """
    point: Bytes[128] = abi_encode(key)
    if point == ZERO_POINT:
        raw_revert(method_id("InvalidCommittee()"))
    one: bytes32 = convert(1, bytes32)
    if self._precompile(G1_MSM, G1_MSM_GAS, concat(point, one), 128) != point:
        raw_revert(method_id("InvalidCommittee()"))
    return point


@view
@internal
def _record(committee: address, index: uint256) -> Bytes[128]:
    return slice(committee.code, RECORDS_AT + index * RECORD_BYTES, RECORD_BYTES)


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
