# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Sequencer
@license MIT
@notice Accepts batches of an ordered log, each certified by a quorum of the committee, and follows
        the committee from epoch to epoch.
@dev
    A batch is accepted when more than two thirds of the committee's weight signed exactly its
    header (BLS12-381, keys in G1, signatures in G2, the proof-of-possession scheme of
    draft-irtf-cfrg-bls-signature; hash-to-curve as in RFC 9380, all of it done here with the
    precompiles of EIP-2537). Who sends it does not matter.

    What is accepted can be derived from transaction inputs (and the blobs beside them) alone: a
    batch comes straight from an account without code, in the one canonical ABI encoding, with the
    bytes that the header names.

    A header is bound to one chain, L1, contract, epoch and place in the log, so a certificate is
    good for one thing, once. The cheap checks come first: a late duplicate fails before any
    elliptic curve is touched.

    The modules: bls.vy checks signatures; committee.vy keeps committees; state.vy knows where all
    stands; registry.vy knows who may be a member; epochs.vy leads from one committee to the next.

    Errors of a batch, in the order of the checks: AlreadyPosted and NotNext (the number is below or
    above the next), WrongParent, WrongDomain, WrongChain, WrongContract, WrongEpoch,
    WrongPositions, RelayedCall, NotCanonical, WrongData or WrongBlobs, WrongBitmap, NoQuorum,
    IdentityKey, InvalidSignature; PrecompileFailed where this L1 lacks EIP-2537; InvalidCommittee,
    InvalidKey and InvalidSettings at deployment. Values beyond their ABI type revert without a
    reason.
"""

import bls
import committee
import epochs
import registry
import state

initializes: state
initializes: registry[state := state]
initializes: epochs[registry := registry, state := state]

exports: (
    state.chain_id_digest,
    state.deploy_block,
    registry.settings,
    registry.allowed,
    registry.member_count,
    registry.allow,
    registry.remove,
    registry.register,
    registry.claim,
    registry.add_stake,
    registry.rotate,
    registry.change_address,
    registry.leave,
    registry.exit,
    registry.member_at,
    registry.operator,
    epochs.snapshot,
    epochs.advance,
    epochs.snapshot_due,
    epochs.pending,
    epochs.members_of,
)

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

event BatchPosted:
    number: indexed(uint64)
    epoch: uint64
    first_position: uint64
    last_position: uint64
    log_root: bytes32
    data_hash: bytes32
    poster: address
    # In how many blobs the bytes of the batch are; 0: in the input of the transaction.
    blobs: uint8

MAX_DATA_BYTES: constant(uint256) = 122880
MAX_BLOBS: constant(uint256) = 6

HEADER_BYTES: constant(uint256) = 480
# Offsets of the two dynamic arguments, from the start of the arguments. A count of blobs stands
# where the offset of the data would.
BITMAP_AT: constant(uint256) = 800
DATA_AT: constant(uint256) = 864

# "dseq/batch/1": no other message that a member signs starts with it.
DOMAIN: constant(bytes32) = 0x647365712f62617463682f310000000000000000000000000000000000000000

last_log_root: public(bytes32)


@deploy
def __init__(
    chain_id: bytes32,
    founders: DynArray[uint256[5], committee.MAX_MEMBERS],
    epoch: uint64,
    settings: registry.Settings,
):
    """
    @notice Starts an empty log under its first committee.
    @param chain_id Digest of the genesis core, the same in every header
    @param founders Records of the members of the first committee (see committee.vy), in its order
    @param epoch The epoch of this committee
    @param settings How members come and go
    """
    records: DynArray[uint256[5], committee.MAX_MEMBERS] = []
    for founder: uint256[5] in founders:
        key: uint256[4] = committee.key_in(founder)
        bls.check_key(key)
        records.append(
            committee.record_of(len(records), committee.weight_in(founder), founder[4], key)
        )
    first_committee: address = committee.create(committee.code_of(records))
    state.__init__(chain_id, epoch, first_committee)
    registry.__init__(first_committee, settings)


@external
def post_batch(
    header: Header, bitmap: Bytes[16], signature: bytes32[8], data: Bytes[MAX_DATA_BYTES]
):
    """
    @notice Accepts the next batch, whose bytes are in this call.
    @param header The fields that the committee signed, as it signed them
    @param bitmap The signers: member i is bit i % 8 of byte i // 8
    @param signature The signers' aggregate signature as an EIP-2537 point
    @param data The bytes of the batch, in calldata only
    """
    # All else happens in a function of its own, whose memory lies below the buffer of `data`: with
    # anything above that buffer, each call would pay for all its 120 KiB.
    self._accept(header, bitmap, signature, keccak256(data), len(data), 0)


@external
def post_blobs(header: Header, bitmap: Bytes[16], signature: bytes32[8], blob_count: uint8):
    """
    @notice Accepts the next batch, whose bytes are in the blobs of this transaction.
    @param header The fields that the committee signed, as it signed them
    @param bitmap The signers: member i is bit i % 8 of byte i // 8
    @param signature The signers' aggregate signature as an EIP-2537 point
    @param blob_count How many blobs there are, 1 to 6
    """
    if blob_count == 0:
        raw_revert(method_id("WrongBlobs()"))
    self._accept(header, bitmap, signature, empty(bytes32), 0, blob_count)


@view
@external
def epoch() -> uint64:
    """
    @notice The epoch whose committee signs now.
    """
    return state.epoch()


@view
@external
def next_number() -> uint64:
    """
    @notice The number of the next batch, 1 for the first.
    """
    return state.state().next_number


@view
@external
def next_position() -> uint64:
    """
    @notice The position in the log of the next batch's first entry, 0 for the first.
    """
    return state.state().next_position


@view
@external
def committee_size() -> uint256:
    """
    @notice How many members the committee of this epoch has.
    """
    return committee.quorum(state.committee(state.epoch())).size


@view
@external
def committee_digest() -> bytes32:
    """
    @notice The digest under which the consensus knows the committee of this epoch.
    """
    epoch: uint64 = state.epoch()
    return committee.digest(epoch, committee.encoded(state.committee(epoch)))


@internal
def _accept(
    header: Header,
    bitmap: Bytes[16],
    signature: bytes32[8],
    data_hash: bytes32,
    data_size: uint256,
    blobs: uint8,
):
    now: state.State = state.state()
    if header.number < now.next_number:
        raw_revert(method_id("AlreadyPosted()"))
    if header.number > now.next_number:
        raw_revert(method_id("NotNext()"))
    if header.previous_log_root != self.last_log_root:
        raw_revert(method_id("WrongParent()"))
    self._check_place(header, now)
    if blobs == 0:
        self._check_call(DATA_AT, 32 + (data_size + 31) // 32 * 32)
        if data_size == 0 or data_hash != header.data_hash:
            raw_revert(method_id("WrongData()"))
    else:
        self._check_call(convert(blobs, uint256), 0)
        self._check_blobs(header.blob_hashes, convert(blobs, uint256))

    key: uint256[4] = committee.signers_key(state.committee(header.epoch), bitmap)
    if not bls.verify(key, abi_encode(header), signature, bls.SIGNATURE):
        raw_revert(method_id("InvalidSignature()"))

    now.next_number += 1
    now.next_position = header.last_position + 1
    state.set_state(now)
    self.last_log_root = header.log_root
    log BatchPosted(
        number=header.number,
        epoch=header.epoch,
        first_position=header.first_position,
        last_position=header.last_position,
        log_root=header.log_root,
        data_hash=header.data_hash,
        poster=msg.sender,
        blobs=blobs,
    )


@view
@internal
def _check_place(header: Header, now: state.State):
    """
    @dev The header was signed for this chain, contract, epoch and place in the log.
    """
    if header.domain != DOMAIN:
        raw_revert(method_id("WrongDomain()"))
    if header.chain_id != state.chain_id_digest or header.l1_chain_id != chain.id:
        raw_revert(method_id("WrongChain()"))
    if header.contract_address != self:
        raw_revert(method_id("WrongContract()"))
    if header.epoch != now.epoch:
        raw_revert(method_id("WrongEpoch()"))
    if header.first_position != now.next_position or header.last_position < header.first_position:
        raw_revert(method_id("WrongPositions()"))
    if header.entry_count != header.last_position - header.first_position + 1:
        raw_revert(method_id("WrongPositions()"))


@view
@internal
def _check_call(last_argument: uint256, data_size: uint256):
    """
    @dev The certificate stands in the input of a transaction to this contract, where anyone finds
         it: no contract relays it (also no account that delegates to one, EIP-7702), and offsets
         and size are those of the canonical encoding, since the ABI lets arguments overlap or reach
         behind the end. `data_size` is that of the data with its length, padded.
    """
    if msg.sender != tx.origin or msg.sender.codesize != 0:
        raw_revert(method_id("RelayedCall()"))
    bitmap_at: uint256 = convert(slice(msg.data, 4 + HEADER_BYTES, 32), uint256)
    last: uint256 = convert(slice(msg.data, 4 + BITMAP_AT - 32, 32), uint256)
    input_size: uint256 = 4 + DATA_AT + data_size
    if bitmap_at != BITMAP_AT or last != last_argument or len(msg.data) != input_size:
        raw_revert(method_id("NotCanonical()"))


@view
@internal
def _check_blobs(blob_hashes: bytes32, count: uint256):
    """
    @dev The blobs of this transaction are the ones of the header, all of them.
    """
    hashes: bytes32[MAX_BLOBS] = empty(bytes32[MAX_BLOBS])
    if count > MAX_BLOBS or blobhash(count) != empty(bytes32):
        raw_revert(method_id("WrongBlobs()"))
    for index: uint256 in range(count, bound=MAX_BLOBS):
        hashes[index] = blobhash(index)
        if hashes[index] == empty(bytes32):
            raw_revert(method_id("WrongBlobs()"))
    if keccak256(slice(abi_encode(hashes), 0, 32 * count)) != blob_hashes:
        raw_revert(method_id("WrongBlobs()"))
