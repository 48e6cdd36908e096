"""The registry part of the contract as bytes: its calls, answers, events, and what its errors mean.

A member proves its BLS key twice.  The proof of possession is the standard one and binds nothing
but the key; the *binding* is the key's signature over `binding_message`, which ties it to one
chain, L1, contract, operator account and identity.

Answers are read by position, in the one encoding that the contract gives, and ValueError says that
an answer has another shape.  An L1 endpoint may lie: nothing here trusts a length it reads.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final, NamedTuple

from consensus.committee import Committee, Member
from consensus.errors import InvalidConfiguration
from consensus.types import CommitCertificate
from sequencer.settlement import abi
from sequencer.settlement.encoding import (
    compress_key,
    compress_signature,
    expand_key,
    expand_signature,
)

MAX_ADDRESS_BYTES: Final = 128
"""The longest address of a member: a multiaddr in ASCII."""
MAX_MEMBERS_ANSWER_BYTES: Final = 64 * 1024
"""`members_of` answers 448 bytes for each of at most 128 members."""
MAX_MEMBER_ANSWER_BYTES: Final = 1024
MAX_ADVANCED_BYTES: Final = 16 * 1024
"""The largest `Advanced` event: 96 bytes for each of at most 128 members, and the certificate."""
MAX_REGISTERED: Final = 256
MAX_DELAY_BLOCKS: Final = 10_000_000
MAX_WEI: Final = 2**256 - 1

BINDING_DOMAIN: Final = b"dseq/register/1".ljust(32, b"\0")
"""How a binding starts: no other message signed by a member starts like this."""

CONSTRUCTOR_TYPES: Final = (
    "bytes32",
    "uint256[5][]",
    "uint64",
    "(address,bool,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256)",
)

_WORD: Final = 32
SETTINGS_WORDS: Final = 10

_WEIGHT_SHIFT: Final = 192
_U64_LIMIT: Final = 1 << 64
_ENCODED_MEMBER_BYTES: Final = 96


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How members come and go; fixed when the contract is deployed.  Raises ValueError.

    owner              address (20 bytes) that keeps the allow-list
    by_stake           anybody may register and the highest stakes win; else the allow-list decides
    min_stake          the least stake to register with, in wei
    weight_unit        wei of stake for one unit of weight; 0: weights do not follow stakes
    min_members        no snapshot holds fewer members
    max_members        .. or more
    max_registered     how many may be registered at once; with stakes, the lowest makes room
    activation_blocks  L1 blocks from registration to the first snapshot that may hold the member
    exit_blocks        L1 blocks a stake is kept once no epoch holds the member
    min_epoch_blocks   L1 blocks that an epoch lasts at least
    """

    owner: bytes
    by_stake: bool = False
    min_stake: int = 0
    weight_unit: int = 0
    min_members: int = 1
    max_members: int = abi.MAX_MEMBERS
    max_registered: int = MAX_REGISTERED
    activation_blocks: int = 2
    exit_blocks: int = 7_200
    min_epoch_blocks: int = 5

    def __post_init__(self) -> None:
        _require(len(self.owner) == abi.ADDRESS_BYTES, "the owner's address has 20 bytes")
        _require(
            1 <= self.min_members <= self.max_members <= abi.MAX_MEMBERS,
            f"a committee has 1 to {abi.MAX_MEMBERS} members, the least not above the most",
        )
        _require(
            self.max_members <= self.max_registered <= MAX_REGISTERED,
            f"as many may be registered as fit a committee, or more, up to {MAX_REGISTERED}",
        )
        for delay in (self.activation_blocks, self.exit_blocks, self.min_epoch_blocks):
            _require(0 <= delay <= MAX_DELAY_BLOCKS, f"delays are 0 to {MAX_DELAY_BLOCKS} blocks")
        for amount in (self.min_stake, self.weight_unit):
            _require(0 <= amount <= MAX_WEI, "an amount of wei has at most 256 bits")


class Seat(NamedTuple):
    """A member of a committee as the contract names it: key compressed, `operator` 20 bytes, zeros
    for a founder that nobody has claimed.  `address` is "" where it is not printable ASCII."""

    identity: bytes
    bls_key: bytes
    weight: int
    operator: bytes
    address: str


class MemberState(NamedTuple):
    """What the contract says of a registered member; see `RegistrySettings` for the blocks.

    `exit_at` is 0 while it is not known; `seated` is whether the contract's epoch holds it.
    """

    number: int
    operator: bytes
    identity: bytes
    bls_key: bytes
    weight: int
    stake: int
    active_at: int
    left_at: int
    exit_at: int
    seated: bool
    address: str


class Advanced(NamedTuple):
    """A handover that the contract accepted: the certificate that ended an epoch, and the committee
    that it named.  Shape and digest are checked, the signature is not."""

    certificate: CommitCertificate
    committee: Committee


def encode_constructor(chain_id: bytes, committee: Committee, settings: RegistrySettings) -> bytes:
    """Constructor arguments: append them to the bytecode to deploy.

    `chain_id` is the digest of the genesis core (32 bytes), `committee` the first one; its members
    are the founders.  Raises ValueError.
    """
    from eth_abi.abi import encode

    if committee.size > abi.MAX_MEMBERS:
        raise ValueError(f"the contract takes 1 to {abi.MAX_MEMBERS} members")
    founders = [_record(member) for member in committee.members]
    return encode(CONSTRUCTOR_TYPES, [chain_id, founders, committee.epoch, astuple(settings)])


def _record(member: Member) -> list[int]:
    """A member as in the code of a committee: its weight is above the x coordinate of its key."""
    first, *rest = abi.key_words(member.bls_key)
    return [member.weight << _WEIGHT_SHIFT | first, *rest, int.from_bytes(member.identity, "big")]


def binding_message(
    chain_id: bytes,
    l1_chain_id: int,
    contract: bytes,
    registrant: bytes,
    identity: bytes,
    bls_key: bytes,
) -> bytes:
    """What a BLS key signs to be registered or claimed: 240 bytes.

    `contract` and `registrant` are addresses (20 bytes), `chain_id` and `identity` have 32 bytes,
    `bls_key` 48.
    """
    words = (BINDING_DOMAIN, chain_id, abi.word(l1_chain_id), _address(contract))
    return b"".join((*words, _address(registrant), identity, bls_key))


# Calls.  All raise ValueError for keys, signatures or addresses that the contract would not take.


def register_call(
    identity: bytes, bls_key: bytes, possession: bytes, binding: bytes, address: str
) -> bytes:
    """Registers the sender's member; what is sent with it is its stake."""
    _require(len(identity) == _WORD, "an identity has 32 bytes")
    location = _location(address)
    return b"".join(
        (
            abi.selector("register"),
            identity,
            expand_key(bls_key),
            expand_signature(possession),
            expand_signature(binding),
            abi.word(22 * _WORD),
            location,
        )
    )


def claim_call(identity: bytes, binding: bytes) -> bytes:
    """Makes the sender the operator of a founder; what is sent with it is its stake."""
    _require(len(identity) == _WORD, "an identity has 32 bytes")
    return abi.selector("claim") + identity + expand_signature(binding)


def add_stake_call() -> bytes:
    """Adds what is sent with it to the stake."""
    return abi.selector("add_stake")


def rotate_call(bls_key: bytes, possession: bytes, binding: bytes) -> bytes:
    """Gives the sender's member another BLS key."""
    proofs = expand_signature(possession) + expand_signature(binding)
    return abi.selector("rotate") + expand_key(bls_key) + proofs


def change_address_call(address: str) -> bytes:
    """Changes where the sender's member is reached."""
    return abi.selector("change_address") + abi.word(_WORD) + _location(address)


def leave_call() -> bytes:
    """Keeps the sender's member out of further snapshots."""
    return abi.selector("leave")


def exit_call() -> bytes:
    """Pays the stake of the sender's member back."""
    return abi.selector("exit")


def allow_call(operator: bytes, allowed: bool) -> bytes:
    """Puts an operator on the allow-list, or takes it off."""
    return abi.selector("allow") + _address(operator) + abi.word(int(allowed))


def remove_call(number: int) -> bytes:
    """Makes the member with this number leave; for the owner of an allow-list."""
    return abi.selector("remove") + abi.word(number)


def snapshot_call() -> bytes:
    """Fixes the members of the next epoch."""
    return abi.selector("snapshot")


def advance_call(certificate: CommitCertificate) -> bytes:
    """Ends the certificate's epoch; its `next_committee` is the digest of the pending snapshot."""
    bitmap = certificate.signers
    if not 1 <= len(bitmap) <= abi.MAX_BITMAP_BYTES:
        raise ValueError("bitmap has the wrong length")
    return b"".join(
        (
            abi.selector("advance"),
            *map(abi.word, (certificate.epoch, certificate.round, certificate.height)),
            certificate.block_id,
            abi.word(13 * _WORD),
            expand_signature(certificate.signature),
            abi.word(len(bitmap)),
            bitmap.ljust(_WORD, b"\0"),
        )
    )


# Answers of views


def decode_settings(answer: bytes) -> RegistrySettings:
    """The answer of `settings`."""
    words = _words(answer, SETTINGS_WORDS)
    amounts = [int.from_bytes(word, "big") for word in words[2:]]
    return RegistrySettings(_account(words[0]), _bool(words[1]), *amounts)


def decode_pending(answer: bytes) -> tuple[int, bytes, int] | None:
    """The answer of `pending`: epoch, digest and L1 block of the snapshot; None without one."""
    epoch, digest, block = _words(answer, 3)
    if not any(answer):
        return None
    return _u64(epoch), digest, _u64(block)


def decode_members(answer: bytes) -> list[Seat]:
    """The answer of `members_of`, in committee order."""
    _require(len(answer) <= MAX_MEMBERS_ANSWER_BYTES, "a list of members without end")
    count = abi.number(answer, _WORD)
    _require(abi.number(answer, 0) == _WORD and count <= abi.MAX_MEMBERS, "no list of members")
    at, seats = 2 * _WORD + count * _WORD, []
    for index in range(count):
        _require(abi.number(answer, (2 + index) * _WORD) == at - 2 * _WORD, "not canonical")
        fixed = answer[at : at + 8 * _WORD]
        _require(len(fixed) == 8 * _WORD, "a list of members ends early")
        address, end = _text(answer, at, 7 * _WORD)
        seats.append(
            Seat(
                identity=fixed[:32],
                bls_key=compress_key(fixed[32:160]),
                weight=_u64(fixed[160:192]),
                operator=_account(fixed[192:224]),
                address=address,
            )
        )
        at = end
    _require(at == len(answer), "bytes after a list of members")
    return seats


def decode_member(answer: bytes) -> MemberState:
    """The answer of `operator` and `member_at`."""
    _require(abi.number(answer, 0) == _WORD and len(answer) >= 16 * _WORD, "no member")
    address, end = _text(answer, _WORD, 13 * _WORD)
    _require(end == len(answer), "bytes after a member")
    words = _words(answer[_WORD : 14 * _WORD], 13)
    number, operator, identity, *key = words[:7]
    weight, stake, active_at, left_at, exit_at, seated = words[7:]
    return MemberState(
        _u64(number),
        _account(operator),
        identity,
        compress_key(b"".join(key)),
        _u64(weight),
        int.from_bytes(stake, "big"),
        _u64(active_at),
        _u64(left_at),
        _u64(exit_at),
        _bool(seated),
        address,
    )


# Events


def advanced_topic() -> bytes:
    """The first topic of the event of a handover; the second is the new epoch, as a word."""
    return abi.event_topic("Advanced")


def snapshot_topic() -> bytes:
    """The first topic of the event of a snapshot; the second is its epoch, as a word."""
    return abi.event_topic("Snapshot")


def decode_snapshot(topics: Sequence[bytes], data: bytes) -> tuple[int, bytes, int]:
    """Epoch, digest and number of members of a snapshot.  Raises ValueError for another event."""
    _require(len(topics) == 2 and topics[0] == snapshot_topic(), "not a Snapshot event")
    digest, count = _words(data, 2)
    return _u64(topics[1]), digest, _u64(count)


def decode_advanced(topics: Sequence[bytes], data: bytes) -> Advanced:
    """The handover in a log entry of the contract.  Raises ValueError for anything else."""
    _require(len(topics) == 2 and topics[0] == advanced_topic(), "not an Advanced event")
    _require(14 * _WORD <= len(data) <= MAX_ADVANCED_BYTES, "an Advanced event of the wrong size")
    epoch = _u64(topics[1])
    bitmap, bitmap_end = _bytes(data, 14 * _WORD, abi.MAX_BITMAP_BYTES)
    members, end = _bytes(data, bitmap_end, abi.MAX_MEMBERS * _ENCODED_MEMBER_BYTES)
    offsets = [abi.number(data, at * _WORD) for at in (12, 13)]
    _require(offsets == [14 * _WORD, bitmap_end] and end == len(data), "not canonical")
    _require(epoch > 0, "no epoch comes before the first")
    committee = _committee(epoch, members)
    _require(committee.digest == data[:32], "the members are not those of the digest")
    certificate = CommitCertificate(
        epoch=epoch - 1,
        round=_u64(data[32:64]),
        height=_u64(data[64:96]),
        block_id=data[96:128],
        next_committee=committee.digest,
        signers=bitmap,
        signature=compress_signature(data[128:384]),
    )
    return Advanced(certificate, committee)


def _committee(epoch: int, encoded: bytes) -> Committee:
    """The committee with these members in the preimage of its digest."""
    size = _ENCODED_MEMBER_BYTES
    _require(len(encoded) % size == 0, "members of the wrong size")
    members = [
        Member(encoded[at + 4 : at + 36], encoded[at + 40 : at + 88], _u64(encoded[at + 88 :][:8]))
        for at in range(0, len(encoded), size)
    ]
    try:
        return Committee(epoch, tuple(members))
    except InvalidConfiguration as error:
        raise ValueError(f"not a committee: {error}") from None


# Parts


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def _address(account: bytes) -> bytes:
    _require(len(account) == abi.ADDRESS_BYTES, "an address has 20 bytes")
    return account.rjust(_WORD, b"\0")


def _location(address: str) -> bytes:
    """A member's address as an ABI string."""
    data = address.encode()
    _require(_is_printable(data), f"an address has 1 to {MAX_ADDRESS_BYTES} printable characters")
    return abi.word(len(data)) + data + bytes(-len(data) % _WORD)


def _is_printable(data: bytes) -> bool:
    return 1 <= len(data) <= MAX_ADDRESS_BYTES and all(0x21 <= byte <= 0x7E for byte in data)


def _words(data: bytes, count: int) -> list[bytes]:
    _require(len(data) == count * _WORD, "an answer of the wrong size")
    return [data[at : at + _WORD] for at in range(0, len(data), _WORD)]


def _u64(word: bytes) -> int:
    found = int.from_bytes(word, "big")
    _require(found < _U64_LIMIT, "a number exceeds 64 bits")
    return found


def _bool(word: bytes) -> bool:
    _require(_u64(word) <= 1, "neither yes nor no")
    return bool(_u64(word))


def _account(word: bytes) -> bytes:
    _require(not any(word[:12]), "an address exceeds 20 bytes")
    return word[12:]


def _bytes(data: bytes, at: int, limit: int) -> tuple[bytes, int]:
    """The ABI bytes at a position, at most `limit`, and where they end, padding included."""
    size = abi.number(data, at)
    end = at + _WORD + size + -size % _WORD
    _require(size <= limit and end <= len(data), "bytes of the wrong size")
    return data[at + _WORD : at + _WORD + size], end


def _text(data: bytes, start: int, offset_at: int) -> tuple[str, int]:
    """The address whose offset is the last head word of the tuple that starts at `start`, and the
    end.  What anybody may have written there must not keep the rest from being read."""
    _require(abi.number(data, start + offset_at) == offset_at + _WORD, "not canonical")
    found, end = _bytes(data, start + offset_at + _WORD, MAX_ADDRESS_BYTES)
    return found.decode() if _is_printable(found) else "", end
