# pragma version 0.4.3
"""
@title BLS signatures
@license MIT
@notice Verifies aggregate signatures over BLS12-381 with the precompiles of EIP-2537: keys in G1,
        signatures in G2, the proof-of-possession scheme of draft-irtf-cfrg-bls-signature.
@dev
    Points are EIP-2537 words: a coordinate is two words of which the upper half of the first is
    zero, Fp2 is c0 then c1, infinity is all zeros. G1ADD checks that its points are on the curve,
    PAIRING and G1MSM also that they are in the subgroup. No precompile gets more gas than twice
    its price, since a malformed point burns all it is given, and each answer must have its size,
    since a call of an absent precompile succeeds.
"""

MAX_MESSAGE_BYTES: constant(uint256) = 480

# Precompiles, and what each may spend.
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
NEGATIVE_GENERATOR: constant(uint256[4]) = [
    31827880280837800241567138048534752271,
    88385725958748408079899006800036250932223001591707578097800747617502997169851,
    22997279242622214937712647648895181298,
    46816884707101390882112958134453447585552332943769894357249934112654335001290,
]
# The field modulus, as its upper 128 and lower 256 bits.
MODULUS: constant(uint256[2]) = [
    34565483545414906068789196026815425751,
    45442060874369865957053122457065728162598490762543039060009208264153100167851,
]
# Half of it, rounded down: no y is equal to its negative, and the larger one is above this.
HALF_MODULUS: constant(uint256[2]) = [
    17282741772707453034394598013407712875,
    80617075055843030690312053732876818007934237714091801549733396136033114903893,
]

# RFC 9380, expand_message_xmd with SHA-256 to 256 bytes.
Z_PAD: constant(Bytes[64]) = x"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
# DST_prime is "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_" (for proofs of possession "BLS_POP_..")
# and its length: 31 bytes behind a zero one, and 13 more.
SIGNATURE: constant(uint256) = 117138686712232504667990837061769646304618205534334125783764558902027695711
POSSESSION: constant(uint256) = 117138686711008074372181104951933545712359048500209952023701070937838663263
DST_END: constant(bytes13) = 0x535357555f524f5f504f505f2b
# The length of the output in two bytes: 256.
OUTPUT_BYTES: constant(Bytes[2]) = x"0100"
# Operands of MODEXP and G1_MSM.
ONE: constant(uint256) = 1
ONE_WORD: constant(uint256) = 32
TWO_WORDS: constant(uint256) = 64


@view
@internal
def verify(
    key: uint256[4], message: Bytes[MAX_MESSAGE_BYTES], signature: bytes32[8], purpose: uint256
) -> bool:
    """
    @dev e(key, H(message)) * e(-generator, signature) == 1, where H is that of the purpose,
         `SIGNATURE` or `POSSESSION`. The pairing precompile refuses points off the curve or outside
         of the subgroup.
    """
    success: bool = False
    result: Bytes[32] = b""
    success, result = raw_call(
        PAIRING,
        abi_encode(key, self.hash_to_curve(message, purpose), NEGATIVE_GENERATOR, signature),
        max_outsize=32,
        gas=PAIRING_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    return success and len(result) == 32 and convert(result, uint256) == 1


@view
@internal
def hash_to_curve(message: Bytes[MAX_MESSAGE_BYTES], purpose: uint256) -> uint256[8]:
    """
    @dev RFC 9380, BLS12381G2_XMD:SHA-256_SSWU_RO_.
    """
    start: bytes32 = sha256(
        concat(Z_PAD, message, OUTPUT_BYTES, convert(purpose, bytes32), DST_END)
    )
    uniform: bytes32[8] = empty(bytes32[8])
    last: bytes32 = empty(bytes32)
    # DST_prime behind the number of the block, 1 to 8.
    tag: uint256 = purpose
    for index: uint256 in range(8):
        mixed: uint256 = convert(start, uint256) ^ convert(last, uint256)
        tag = unsafe_add(tag, 1 << 248)
        last = sha256(concat(convert(mixed, bytes32), convert(tag, bytes32), DST_END))
        uniform[index] = last
    first: uint256[8] = self._map(
        self._reduce(uniform[0], uniform[1]), self._reduce(uniform[2], uniform[3])
    )
    second: uint256[8] = self._map(
        self._reduce(uniform[4], uniform[5]), self._reduce(uniform[6], uniform[7])
    )
    input: Bytes[512] = abi_encode(first, second)
    return abi_decode(self._precompile(G2_ADD, G2_ADD_GAS, input, 256), uint256[8])


@view
@internal
def _reduce(high: bytes32, low: bytes32) -> uint256[2]:
    """
    @dev A number of 64 bytes modulo the field modulus: its first power.
    """
    success: bool = False
    result: Bytes[64] = b""
    success, result = raw_call(
        MODEXP,
        # Lengths of base, exponent and modulus, then these three.
        abi_encode(TWO_WORDS, ONE_WORD, TWO_WORDS, high, low, ONE, MODULUS),
        max_outsize=64,
        gas=MODEXP_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(result) != 64:
        raw_revert(method_id("PrecompileFailed()"))
    return abi_decode(result, uint256[2])


@view
@internal
def _map(real: uint256[2], imaginary: uint256[2]) -> uint256[8]:
    """
    @dev A field element to a point: SSWU, isogeny and cofactor.
    """
    input: Bytes[128] = abi_encode(real, imaginary)
    return abi_decode(self._precompile(MAP_FP2, MAP_FP2_GAS, input, 256), uint256[8])


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
def add(first: uint256[4], second: uint256[4]) -> uint256[4]:
    """
    @dev The sum of two points of G1. Called once per absentee, hence without `_precompile`, whose
         copies cost as much as the addition.
    """
    success: bool = False
    result: Bytes[128] = b""
    success, result = raw_call(
        G1_ADD,
        abi_encode(first, second),
        max_outsize=128,
        gas=G1_ADD_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    if not success or len(result) != 128:
        raw_revert(method_id("PrecompileFailed()"))
    return abi_decode(result, uint256[4])


@pure
@internal
def negative(point: uint256[4]) -> uint256[4]:
    """
    @dev The point with its y coordinate taken off the modulus; infinity stays.
    """
    high: uint256 = point[2]
    low: uint256 = point[3]
    if high | low == 0:
        return point
    borrow: uint256 = convert(low > MODULUS[1], uint256)
    return [point[0], point[1], MODULUS[0] - high - borrow, unsafe_sub(MODULUS[1], low)]


@pure
@internal
def compressed(key: uint256[4]) -> uint256[2]:
    """
    @dev The x coordinate of a key and the flags of its compressed form in front (bit 383: it is
         compressed, bit 381: y is the larger of the two): 16 bytes, the lower half, and 32.
    """
    above: bool = key[2] > HALF_MODULUS[0] or (
        key[2] == HALF_MODULUS[0] and key[3] > HALF_MODULUS[1]
    )
    flags: uint256 = 5 << 125 if above else 1 << 127
    return [key[0] | flags, key[1]]


@pure
@internal
def key_bytes(key: uint256[4]) -> Bytes[48]:
    """
    @dev The compressed form of a key.
    """
    halves: uint256[2] = self.compressed(key)
    first: bytes16 = convert(convert(halves[0], uint128), bytes16)
    return concat(first, convert(halves[1], bytes32))


@view
@internal
def check_key(key: uint256[4]):
    """
    @dev The key is in the subgroup and not infinity: times one it is itself.
    """
    point: Bytes[128] = abi_encode(key)
    product: Bytes[256] = self._precompile(G1_MSM, G1_MSM_GAS, abi_encode(key, ONE), 128)
    if product != point or key[0] | key[1] | key[2] | key[3] == 0:
        raw_revert(method_id("InvalidKey()"))
