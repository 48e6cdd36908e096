"""What the registry refuses, and every trick we know of."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from blspy import PopSchemeMPL
from eth_abi.abi import encode
from eth_hash.auto import keccak
from py_arkworks_bls12381 import G1Point

from consensus.committee import Committee
from consensus.types import CommitCertificate, bitmap_of
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.contracts.compile import compile_source
from sequencer.settlement.encoding import expand_key
from sequencer.settlement.registry_abi import encode_constructor
from tests.settlement.committees import CHAIN, EPOCH, committee, identity, keys, secrets, sign
from tests.settlement.l1s import Evm, address_of, transact
from tests.settlement.points import g1_outside_of_the_subgroup, pad
from tests.settlement.registries import (
    EXIT,
    OPERATORS,
    OWNER,
    Registered,
    possession,
    rules,
)

ETHER = 10**18
ALICE, BOB, CAROL = OPERATORS[:3]
# Where things stand in a registration.
IDENTITY = 4
KEY = 4 + 32
POSSESSION = KEY + 128
BINDING = POSSESSION + 256
ADDRESS_OFFSET = BINDING + 256
ADDRESS = ADDRESS_OFFSET + 32


@pytest.fixture(scope="module")
def contract(evm: Evm) -> Iterator[Registered]:
    """A contract that nothing in this module may change: ALICE may register member 4."""
    deployed = Registered(evm, 4)
    deployed.allow(ALICE)
    yield deployed
    assert deployed.view("member_count") == 4
    assert deployed.pending() is None


def spliced(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


def register(
    binding: bytes, proof: bytes | None = None, number: int = 4, key: int | None = None
) -> bytes:
    chosen = number if key is None else key
    return registry_abi.register_call(
        identity(number),
        keys(chosen + 1)[chosen],
        possession(chosen) if proof is None else proof,
        binding,
        "/dns4/somewhere/tcp/4001",
    )


# Who may


def test_who_is_not_allowed_is_refused(contract: Registered) -> None:
    assert contract.refused(contract.registration(5, BOB), BOB) == "NotAllowed"
    allow = registry_abi.allow_call(address_of(BOB), True)
    assert contract.refused(allow, BOB) == "NotOwner"
    assert contract.refused(allow, ALICE) == "NotOwner"


def test_where_stakes_decide_nobody_keeps_a_list(embedded: Evm) -> None:
    contract = Registered(embedded, 4, settings=rules(by_stake=True))
    contract.call(contract.registration(4, ALICE), ALICE)
    for call in (registry_abi.allow_call(address_of(ALICE), False), registry_abi.remove_call(4)):
        assert contract.refused(call) == "NotOwner"


def test_only_the_owner_removes_and_only_who_is_there(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    assert contract.refused(registry_abi.remove_call(0), ALICE) == "NotOwner"
    assert contract.refused(registry_abi.remove_call(4)) == "NotMember"
    contract.call(registry_abi.remove_call(3))
    assert contract.refused(registry_abi.remove_call(3)) == "AlreadyLeft"


def test_who_has_no_member_can_change_none(contract: Registered) -> None:
    binding = contract.binding(4, BOB)
    for call in (
        registry_abi.add_stake_call(),
        registry_abi.change_address_call("/dns4/somewhere"),
        registry_abi.leave_call(),
        registry_abi.exit_call(),
        registry_abi.rotate_call(keys(5)[4], possession(4), binding),
    ):
        assert contract.refused(call, BOB) == "NotMember"
    for view in ("operator", "member_at"):
        assert contract.refused(abi.selector(view) + abi.word(77)) == "NotMember"
    assert contract.refused(abi.selector("members_of") + abi.word(EPOCH + 1)) == "UnknownEpoch"


def test_an_account_has_one_member(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.join(4, ALICE)
    assert contract.refused(contract.registration(5, ALICE), ALICE) == "AlreadyMember"
    claim = registry_abi.claim_call(identity(0), contract.binding(0, ALICE))
    assert contract.refused(claim, ALICE) == "AlreadyMember"


def test_what_has_left_changes_no_more(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.join(4, ALICE)
    contract.call(registry_abi.leave_call(), ALICE)
    binding = contract.binding(4, ALICE, key=6)
    rotation = registry_abi.rotate_call(keys(7)[6], possession(6), binding)
    for call in (registry_abi.leave_call(), registry_abi.add_stake_call(), rotation):
        assert contract.refused(call, ALICE) == "AlreadyLeft"


def test_ether_is_taken_as_stake_only(contract: Registered) -> None:
    for call in (
        registry_abi.leave_call(),
        registry_abi.exit_call(),
        registry_abi.snapshot_call(),
        registry_abi.allow_call(address_of(BOB), True),
        registry_abi.change_address_call("/dns4/somewhere"),
        abi.selector("pending"),
    ):
        assert contract.refused(call, value=1) == ""


# Keys


@pytest.mark.parametrize("other", [3, 5])
def test_a_proof_of_possession_of_another_key_is_refused(contract: Registered, other: int) -> None:
    call = register(contract.binding(4, ALICE), possession(other))
    assert contract.refused(call, ALICE) == "InvalidPossession"


def test_a_signature_over_the_key_is_no_proof_of_possession(contract: Registered) -> None:
    """The proof has a domain of its own: what a member is made to sign does not prove it."""
    signature = bytes(PopSchemeMPL.sign(secrets(5)[4], keys(5)[4]))
    call = register(contract.binding(4, ALICE), signature)
    assert contract.refused(call, ALICE) == "InvalidPossession"


def test_a_rogue_key_cannot_be_registered(contract: Registered) -> None:
    """A key that would cancel another's in every aggregate: nobody can prove to have it."""
    mine, other = G1Point.from_compressed_bytes(keys(5)[4]), keys(4)[0]
    rogue = pad((mine + -G1Point.from_compressed_bytes(other)).to_xy_bytes_be())
    call = spliced(contract.registration(4, ALICE), KEY, rogue)
    assert contract.refused(call, ALICE) == "InvalidPossession"


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": b"\x77" * 32},
        {"l1_chain_id": 1},
        {"contract": b"\x07" * 20},
        {"registrant": address_of(BOB)},
        {"identity": identity(5)},
        {"bls_key": keys(6)[5]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_binding_to_another_place_is_refused(
    contract: Registered, change: dict[str, object]
) -> None:
    call = register(contract.binding(4, ALICE, **change))
    assert contract.refused(call, ALICE) == "InvalidBinding"


def test_a_binding_by_another_key_is_refused(contract: Registered) -> None:
    message = contract.binding(5, ALICE, identity=identity(4), bls_key=keys(5)[4])
    assert contract.refused(register(message), ALICE) == "InvalidBinding"


def test_the_two_proofs_do_not_stand_for_each_other(contract: Registered) -> None:
    proof, binding = possession(4), contract.binding(4, ALICE)
    assert contract.refused(register(proof, proof), ALICE) == "InvalidBinding"
    assert contract.refused(register(binding, binding), ALICE) == "InvalidPossession"


def test_a_registration_seen_in_the_pool_is_of_no_use_to_another(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.allow(ALICE, BOB)
    call = contract.registration(4, ALICE)
    assert contract.refused(call, BOB) == "InvalidBinding"
    contract.call(call, ALICE)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (bytes(128), "InvalidKey"),
        (pad(g1_outside_of_the_subgroup()), "PrecompileFailed"),
        (b"".join(abi.word(number) for number in (1, 2, 3, 4)), "PrecompileFailed"),
        (b"\1" + expand_key(keys(5)[4])[1:], "PrecompileFailed"),
        (b"\xff" * 128, "PrecompileFailed"),
    ],
    ids=["infinity", "outside of the subgroup", "not on the curve", "padding", "all ones"],
)
def test_a_key_that_is_none_is_refused(contract: Registered, key: bytes, error: str) -> None:
    call = spliced(contract.registration(4, ALICE), KEY, key)
    assert contract.refused(call, ALICE) == error
    zeros = spliced(call, POSSESSION, bytes(512))
    assert contract.refused(zeros, ALICE) == error


def test_zeros_for_proofs_are_refused(contract: Registered) -> None:
    call = contract.registration(4, ALICE)
    assert contract.refused(spliced(call, POSSESSION, bytes(256)), ALICE) == "InvalidPossession"
    assert contract.refused(spliced(call, BINDING, bytes(256)), ALICE) == "InvalidBinding"


@pytest.mark.parametrize("founder", range(4))
def test_keys_and_identities_of_founders_are_used(contract: Registered, founder: int) -> None:
    call = register(contract.binding(4, ALICE, key=founder), key=founder)
    assert contract.refused(call, ALICE) == "KeyUsed"
    call = register(contract.binding(founder, ALICE, key=4), number=founder, key=4)
    assert contract.refused(call, ALICE) == "IdentityUsed"


def test_keys_and_identities_of_members_are_used_for_ever(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.join(4, ALICE)
    contract.allow(BOB)
    same_key = register(contract.binding(5, BOB, key=4), number=5, key=4)
    same_identity = register(contract.binding(4, BOB, key=5), number=4, key=5)
    for following in (6, 7):  # while it is there, and when it has left
        assert contract.refused(same_key, BOB) == "KeyUsed"
        assert contract.refused(same_identity, BOB) == "IdentityUsed"
        contract.call(registry_abi.leave_call(), ALICE)
        contract.evm.mine(EXIT)
        contract.call(registry_abi.exit_call(), ALICE)
        contract.join(following, ALICE)


def test_a_refused_registration_uses_nothing_up(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.allow(ALICE)
    assert contract.refused(register(possession(4)), ALICE) == "InvalidBinding"
    contract.call(contract.registration(4, ALICE), ALICE)


# Founders


def test_a_founder_is_claimed_once_and_by_who_has_its_key(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    call = registry_abi.claim_call(identity(2), contract.binding(2, ALICE))
    assert contract.refused(call, BOB) == "InvalidBinding"
    other_key = contract.binding(1, ALICE, identity=identity(2), bls_key=keys(4)[2])
    assert contract.refused(registry_abi.claim_call(identity(2), other_key), ALICE) == (
        "InvalidBinding"
    )
    nobody = registry_abi.claim_call(identity(9), contract.binding(9, ALICE))
    assert contract.refused(nobody, ALICE) == "UnknownIdentity"
    contract.call(call, ALICE, ETHER)
    assert contract.member(2).operator == address_of(ALICE)
    again = registry_abi.claim_call(identity(2), contract.binding(2, BOB))
    assert contract.refused(again, BOB) == "AlreadyClaimed"
    contract.call(registry_abi.leave_call(), ALICE)
    assert contract.refused(again, BOB) == "AlreadyClaimed"
    contract.snapshot()
    contract.advance([0, 1, 2, 3])
    contract.evm.mine(EXIT)
    contract.call(registry_abi.exit_call(), ALICE)
    assert contract.refused(again, BOB) == "AlreadyClaimed"


# Addresses


def test_an_address_is_of_one_member(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.join(4, ALICE)
    contract.allow(BOB)
    mine = "/dns4/member-4/tcp/4001"
    assert contract.refused(contract.registration(5, BOB, mine), BOB) == "AddressUsed"
    contract.call(contract.registration(5, BOB), BOB)
    assert contract.refused(registry_abi.change_address_call(mine), BOB) == "AddressUsed"
    contract.call(registry_abi.change_address_call(mine), ALICE)
    contract.call(registry_abi.change_address_call("/dns4/elsewhere/tcp/1"), ALICE)
    contract.call(registry_abi.change_address_call(mine), BOB)
    assert contract.member(5).address == mine


def test_addresses_have_a_size(contract: Registered) -> None:
    call = contract.registration(4, ALICE)
    assert contract.refused(spliced(call, ADDRESS, bytes(32)), ALICE) == "NoAddress"
    long = call[:ADDRESS] + abi.word(129) + b"a" * 160
    assert contract.refused(long, ALICE) == ""
    endless = spliced(call, ADDRESS, b"\xff" * 32)
    assert contract.refused(endless, ALICE) == ""
    for address in ("", "a" * 129, "with space", "\x00", "é"):
        with pytest.raises(ValueError, match="printable"):
            registry_abi.change_address_call(address)


def test_an_address_that_cannot_be_read_hides_nobody(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.join(4, ALICE)
    call = abi.selector("change_address") + encode(["bytes"], [b"\xff\x00\n" * 40])
    contract.call(call, ALICE)
    contract.snapshot()
    assert [seat.address for seat in contract.members_of(EPOCH + 1)] == [""] * 5
    assert contract.member(4).address == ""


# Malformed calls


def test_no_bit_of_a_registration_can_be_changed(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.allow(ALICE)
    call = contract.registration(4, ALICE)
    source = random.Random(5)
    for position in [0, 1, 2, 3, *source.sample(range(4, ADDRESS_OFFSET), 60)]:
        changed = bytearray(call)
        changed[position] ^= 1 << source.randrange(8)
        outcome = transact(embedded, contract.address, bytes(changed), account=ALICE)
        assert not outcome.success
    assert contract.view("member_count") == 4
    contract.call(call, ALICE)


@pytest.mark.parametrize("size", [0, 3, 4, 100, ADDRESS_OFFSET])
def test_a_call_that_ends_early_is_refused(contract: Registered, size: int) -> None:
    assert contract.refused(contract.registration(4, ALICE)[:size], ALICE) == ""


# Stakes


REENTRANT = """
target: address
calls: public(uint256)
succeeded: public(bool)

@deploy
def __init__(target: address):
    self.target = target

@payable
@external
def forward(data: Bytes[2000]):
    raw_call(self.target, data, value=msg.value)

@payable
@external
def __default__():
    self.calls += 1
    if self.calls < 4:
        self.succeeded = raw_call(self.target, method_id("exit()"), revert_on_failure=False)
"""

REFUSING = """
target: address

@deploy
def __init__(target: address):
    self.target = target

@payable
@external
def forward(data: Bytes[2000]):
    raw_call(self.target, data, value=msg.value)
"""


class Agent:
    """A contract that operates a member; it does what it is told, and more."""

    def __init__(self, contract: Registered, source: str) -> None:
        self.contract = contract
        _, bytecode = compile_source(source, "Agent.vy")
        code = bytes.fromhex(bytecode[2:]) + abi.word(int.from_bytes(contract.address, "big"))
        self.address = transact(contract.evm, b"", code).created
        contract.call(registry_abi.allow_call(self.address, True))

    def forward(self, call: bytes, value: int = 0) -> bool:
        data = selector_of("forward(bytes)") + encode(["bytes"], [call])
        return transact(self.contract.evm, self.address, data, value=value).success

    def join(self, number: int, value: int) -> None:
        binding = self.contract.binding(number, OWNER, registrant=self.address)
        assert self.forward(register(binding, number=number), value)

    def answer(self, view: str) -> int:
        outcome = transact(self.contract.evm, self.address, selector_of(view))
        return int.from_bytes(outcome.output, "big")


def selector_of(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


def test_a_stake_is_paid_once_to_whoever_calls_back(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(5, ALICE, 3 * ETHER)
    thief = Agent(contract, REENTRANT)
    thief.join(4, ETHER)
    assert thief.forward(registry_abi.leave_call())
    contract.evm.mine(EXIT)
    assert thief.forward(registry_abi.exit_call())
    assert thief.answer("calls()") == 1
    assert thief.answer("succeeded()") == 0
    assert evm.balance(thief.address) == ETHER
    assert evm.balance(contract.address) == 3 * ETHER


def test_a_stake_that_is_not_taken_stays(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    agent = Agent(contract, REFUSING)
    agent.join(4, ETHER)
    assert agent.forward(registry_abi.leave_call())
    contract.evm.mine(EXIT)
    assert not agent.forward(registry_abi.exit_call())
    assert contract.member(4).stake == ETHER
    assert contract.member(4).operator == agent.address


# A full registry

ROOM = 6


def full(evm: Evm, *, by_stake: bool) -> Registered:
    """Four founders, and two with a stake: of 2 ether and of 1."""
    settings = rules(by_stake=by_stake, max_members=ROOM, max_registered=ROOM)
    contract = Registered(evm, 4, settings=settings)
    contract.join(4, ALICE, 2 * ETHER)
    contract.join(5, BOB, ETHER)
    return contract


def test_low_stakes_cannot_fill_the_registry(embedded: Evm) -> None:
    contract = full(embedded, by_stake=True)
    assert contract.refused(contract.registration(6, CAROL), CAROL, 0) == "RegistryFull"
    operators = OPERATORS[2:7]
    for number, operator in enumerate(operators[:4], start=6):
        # the founders have staked nothing: the last of them goes first
        contract.call(contract.registration(number, operator), operator, ETHER + number)
        assert contract.member(9 - number).left_at > 0
    last = contract.registration(10, operators[4])
    assert contract.refused(last, operators[4], ETHER) == "RegistryFull"
    contract.call(last, operators[4], ETHER + 1)
    assert contract.member(5).left_at > 0
    contract.evm.mine(EXIT)
    contract.call(registry_abi.exit_call(), BOB)
    assert contract.snapshot()[2] == ROOM


def test_where_the_owner_decides_a_full_registry_is_full(embedded: Evm) -> None:
    contract = full(embedded, by_stake=False)
    contract.allow(CAROL)
    assert contract.refused(contract.registration(6, CAROL), CAROL, 9 * ETHER) == "RegistryFull"
    contract.call(registry_abi.allow_call(address_of(BOB), False))
    contract.call(contract.registration(6, CAROL), CAROL)


# The handover


@pytest.fixture(scope="module")
def pending(evm: Evm) -> Iterator[Registered]:
    """A contract whose snapshot adds member 4, which nothing in this module may install."""
    deployed = Registered(evm, 4)
    deployed.join(4, ALICE)
    deployed.snapshot()
    yield deployed
    assert deployed.view("epoch") == EPOCH


def next_digest() -> bytes:
    return committee(5, EPOCH + 1).digest


def test_a_handover_needs_a_snapshot(contract: Registered) -> None:
    certificate = contract.certificate(range(4), committee(5, EPOCH + 1).digest)
    assert contract.refused(registry_abi.advance_call(certificate)) == "NothingPending"


@pytest.mark.parametrize(
    "digest",
    [
        bytes(32),
        committee(5, EPOCH).digest,
        committee(5, EPOCH + 2).digest,
        committee(4, EPOCH + 1).digest,
        Committee(EPOCH + 1, committee(5, EPOCH + 1).members[::-1]).digest,
    ],
    ids=["an ordinary block", "this epoch", "a later epoch", "other members", "another order"],
)
def test_a_certificate_of_another_committee_is_refused(pending: Registered, digest: bytes) -> None:
    certificate = pending.certificate(range(4), digest)
    assert pending.refused(registry_abi.advance_call(certificate)) == "InvalidSignature"


@pytest.mark.parametrize(
    "change",
    [
        {"round": 10},
        {"height": 9},
        {"block_id": b"\xb2" * 32},
        {"signers": bitmap_of([0, 1, 3], 4)},
        {"signers": bitmap_of([0, 1, 2, 3], 4)},
        {"signature": sign(b"something else", 4, [0, 1, 2])},
    ],
    ids=["round", "height", "block", "other signers", "more signers", "signature"],
)
def test_a_changed_certificate_is_refused(pending: Registered, change: dict[str, object]) -> None:
    certificate = pending.certificate(range(4), next_digest())
    changed = replace(certificate, **change)  # type: ignore[arg-type]
    assert pending.refused(registry_abi.advance_call(changed)) == "InvalidSignature"


def test_a_certificate_of_another_epoch_is_refused(pending: Registered) -> None:
    for epoch, error in ((EPOCH - 1, "AlreadyAdvanced"), (EPOCH + 1, "WrongEpoch")):
        certificate = pending.certificate(range(4), next_digest(), epoch=epoch)
        assert pending.refused(registry_abi.advance_call(certificate)) == error
        renamed = replace(certificate, epoch=EPOCH)
        assert pending.refused(registry_abi.advance_call(renamed)) == "InvalidSignature"


def test_a_certificate_of_another_chain_is_refused(pending: Registered) -> None:
    message = CommitCertificate.signed_bytes(b"\x77" * 32, EPOCH, 9, 8, b"\xb1" * 32, next_digest())
    certificate = pending.certificate(range(4), next_digest())
    changed = replace(certificate, signature=sign(message, 4, [0, 1, 2]))
    assert pending.refused(registry_abi.advance_call(changed)) == "InvalidSignature"


@pytest.mark.parametrize("signers", [[], [0], [0, 1], [2, 3]])
def test_fewer_than_a_quorum_cannot_hand_over(pending: Registered, signers: list[int]) -> None:
    certificate = pending.certificate(range(4), next_digest(), signers or [0])
    changed = replace(certificate, signers=bitmap_of(signers, 4))
    assert pending.refused(registry_abi.advance_call(changed)) == "NoQuorum"


@pytest.mark.parametrize("bitmap", [b"\x17", b"\x87", b"\xff", b"\x07\x00"])
def test_signers_beyond_the_committee_are_refused(pending: Registered, bitmap: bytes) -> None:
    """Member 4 is in the next committee, and has no say about it."""
    certificate = pending.certificate(range(4), next_digest())
    changed = replace(certificate, signers=bitmap)
    assert pending.refused(registry_abi.advance_call(changed)) == "WrongBitmap"


def test_a_spoilt_signature_hands_nothing_over(pending: Registered) -> None:
    call = registry_abi.advance_call(pending.certificate(range(4), next_digest()))
    at = 4 + 5 * 32
    good = call[at : at + 256]
    for signature in (bytes(256), b"\xff" * 256, good[128:] + good[:128]):
        outcome = pending.send(spliced(call, at, signature))
        assert abi.decode_revert(outcome.output) == "InvalidSignature"
        assert outcome.gas_used < 500_000


def test_a_signed_batch_is_no_handover_and_no_handover_a_batch(pending: Registered) -> None:
    header = pending.header().encode()
    certificate = pending.certificate(range(4), next_digest())
    changed = replace(certificate, signature=sign(header, 4, [0, 1, 2]))
    assert pending.refused(registry_abi.advance_call(changed)) == "InvalidSignature"
    call = abi.post_batch_calldata(header, b"\x07", certificate.signature, b"\0data")
    assert pending.refused(call) == "InvalidSignature"


def test_a_handover_happens_once(embedded: Evm) -> None:
    contract = Registered(embedded, 4)
    contract.join(4, ALICE)
    digest = contract.snapshot()[1]
    call = registry_abi.advance_call(contract.certificate(range(4), digest))
    contract.call(call, CAROL)
    assert contract.refused(call) == "AlreadyAdvanced"
    contract.call(registry_abi.leave_call(), ALICE)
    digest = contract.snapshot()[1]
    assert contract.refused(call) == "AlreadyAdvanced"
    later = contract.certificate(range(5), digest, [0, 1, 2])
    assert contract.refused(registry_abi.advance_call(later)) == "NoQuorum"
    contract.advance(range(5))


def test_a_malformed_handover_is_refused(pending: Registered) -> None:
    call = registry_abi.advance_call(pending.certificate(range(4), next_digest()))
    for size in (4, 100, 4 + 13 * 32, len(call) - 32):
        assert not pending.send(call[:size]).success
    endless = spliced(call, 4 + 13 * 32, b"\xff" * 32)
    assert pending.refused(endless) == ""
    assert pending.refused(spliced(call, 4, b"\xff" * 32)) == ""


# Settings


@pytest.mark.parametrize(
    "change",
    [
        {"min_members": 0},
        {"min_members": 5, "max_members": 4},
        {"max_members": 129},
        {"max_registered": 257},
        {"activation_blocks": 10_000_001},
        {"exit_blocks": 2**255},
        {"min_epoch_blocks": 10_000_001},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(embedded: Evm, change: dict[str, int]) -> None:
    good = encode_constructor(CHAIN, committee(4, EPOCH), rules())
    names = list(registry_abi.RegistrySettings.__dataclass_fields__)
    arguments = good
    for name, value in change.items():
        arguments = spliced(arguments, 32 * (3 + names.index(name)), abi.word(value))
    outcome = transact(embedded, b"", abi.load_contract().bytecode + arguments)
    assert not outcome.success
    assert abi.decode_revert(outcome.output) == "InvalidSettings"
    with pytest.raises(ValueError, match=r"committee|delays"):
        rules(**change)


def test_signatures_that_are_none_are_not_sent() -> None:
    for wrong in (bytes(96), b"\xff" * 96, possession(4)[:-1]):
        with pytest.raises(ValueError):  # noqa: PT011
            registry_abi.claim_call(identity(0), wrong)
