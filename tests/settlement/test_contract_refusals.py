"""The contract refuses everything else: one thing wrong at a time, and every trick we know of."""

import random
from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import pytest
from blspy import G2Element, PopSchemeMPL, PrivateKey
from eth_abi.abi import encode
from eth_account import Account
from eth_hash.auto import keccak
from py_arkworks_bls12381 import G1Point, G2Point

from consensus.types import bitmap_of
from sequencer.settlement import abi
from sequencer.settlement.batch import HEADER_BYTES, BatchHeader
from sequencer.settlement.contracts.evm import Outcome
from sequencer.settlement.encoding import expand_key
from sequencer.settlement.registry_abi import (
    CONSTRUCTOR_TYPES,
    RegistrySettings,
    encode_constructor,
)
from tests.settlement.committees import (
    CHAIN,
    EPOCH,
    Deployment,
    committee,
    keys,
    secrets,
    sign,
)
from tests.settlement.l1s import ACCOUNTS, EmbeddedEvm, Evm, address_of, transact
from tests.settlement.points import g1_outside_of_the_subgroup, pad, spoilt_signatures

DATA = b"\0data"
QUORUM = [0, 1, 2]

# Where things stand in the input.
OFFSET_OF_BITMAP = 4 + HEADER_BYTES
SIGNATURE = OFFSET_OF_BITMAP + 32
OFFSET_OF_DATA = SIGNATURE + 256
BITMAP = OFFSET_OF_DATA + 32
DATA_LENGTH = BITMAP + 64


@pytest.fixture(scope="module")
def contract(evm: Evm) -> Iterator[Deployment]:
    """A contract that nothing in this module may change."""
    deployed = Deployment(evm, 4)
    yield deployed
    assert deployed.view("next_number") == 1
    assert deployed.view("next_position") == 0
    assert deployed.view("last_log_root") == 0


def certified(header: bytes, data: bytes = DATA, members: list[int] = QUORUM) -> bytes:
    """A call with any header bytes, honestly signed."""
    signature = sign(header, 4, members)
    return abi.post_batch_calldata(header, bitmap_of(members, 4), signature, data)


def with_word(data: bytes, at: int, word: int) -> bytes:
    return data[:at] + word.to_bytes(32, "big") + data[at + 32 :]


def with_signature(contract: Deployment, signature: bytes) -> bytes:
    calldata = contract.calldata(contract.header())
    return calldata[:SIGNATURE] + signature + calldata[SIGNATURE + 256 :]


def field_index(name: str) -> int:
    return 1 + list(BatchHeader.__dataclass_fields__).index(name)


# The header: signed by a quorum, and still not for here


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"chain_id": b"\xc2" * 32}, "WrongChain"),
        ({"l1_chain_id": 1}, "WrongChain"),
        ({"contract": b"\x07" * 20}, "WrongContract"),
        ({"epoch": EPOCH + 1}, "WrongEpoch"),
        ({"epoch": EPOCH - 1}, "WrongEpoch"),
        ({"number": 2}, "NotNext"),
        ({"number": 2**64 - 1}, "NotNext"),
        ({"previous_log_root": b"\x01" * 32}, "WrongParent"),
        ({"first_position": 1, "entry_count": 9}, "WrongPositions"),
        ({"data_hash": keccak(b"other")}, "WrongData"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_a_header_for_another_place_is_refused(
    contract: Deployment, change: dict[str, Any], error: str
) -> None:
    assert contract.refusal(contract.calldata(contract.header(**change))) == error


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("number", 0, "AlreadyPosted"),
        ("entry_count", 9, "WrongPositions"),
        ("entry_count", 11, "WrongPositions"),
        ("entry_count", 0, "WrongPositions"),
        ("last_position", 10, "WrongPositions"),
        ("first_position", 10, "WrongPositions"),
        # Beyond what the field's type holds there is no error of ours, just a refusal.
        ("last_position", 2**64 - 1, ""),
        ("number", 2**64, ""),
        ("number", 2**64 + 1, ""),
        ("epoch", 2**64 + EPOCH, ""),
        ("l1_origin", 2**64, ""),
        ("forced_index", 2**255, ""),
        ("contract", 2**160, ""),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    contract: Deployment, name: str, value: int, error: str
) -> None:
    header = contract.header().encode()
    if name == "last_position" and not error:
        header = with_word(header, 32 * field_index("entry_count"), 2**64 - 1)
    header = with_word(header, 32 * field_index(name), value)
    assert contract.refusal(certified(header)) == error


def test_a_header_of_another_domain_is_refused(contract: Deployment) -> None:
    for domain in (b"dseq/batch/2", b"dseq/vote/1", b""):
        header = domain.ljust(32, b"\0") + contract.header().encode()[32:]
        assert contract.refusal(certified(header)) == "WrongDomain"


@pytest.mark.parametrize("index", range(15))
def test_every_word_of_the_header_is_signed(contract: Deployment, index: int) -> None:
    """Changing any word after it was signed fails, whatever else the contract checks about it."""
    calldata = bytearray(contract.calldata(contract.header()))
    calldata[4 + 32 * index + 31] ^= 1
    error = contract.refusal(bytes(calldata))
    unchecked = {"log_root", "blob_hashes", "l1_origin", "forced_index"}
    if index and list(BatchHeader.__dataclass_fields__)[index - 1] in unchecked:
        assert error == "InvalidSignature"


def test_a_certificate_is_good_for_one_contract(contract: Deployment) -> None:
    calldata = contract.calldata(contract.header())
    assert Deployment(contract.evm, 4).refusal(calldata) == "WrongContract"


def test_a_certificate_is_good_for_one_chain_and_epoch(evm: Evm) -> None:
    home = Deployment(evm, 4)
    for change, error in (
        ({"chain": b"\xc9" * 32}, "WrongChain"),
        ({"epoch": EPOCH + 1}, "WrongEpoch"),
    ):
        other = Deployment(evm, 4, **change)
        header = replace(home.header(), contract=other.address)
        assert other.refusal(home.calldata(header)) == error


def test_a_certificate_is_good_for_one_l1() -> None:
    """The same account deploys at the same address on every L1, say on a test network."""
    home, away = Deployment(EmbeddedEvm(1), 4), Deployment(EmbeddedEvm(11155111), 4)
    assert home.address == away.address
    calldata = home.calldata(home.header())
    assert away.refusal(calldata) == "WrongChain"
    assert home.send(calldata).success


def test_a_batch_that_ends_before_it_starts_is_refused(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    header = contract.header()
    assert contract.send(contract.calldata(header)).success
    following = contract.following(header, DATA).encode()
    for last in (header.last_position, header.last_position - 3, 0):
        backwards = with_word(following, 32 * field_index("last_position"), last)
        backwards = with_word(backwards, 32 * field_index("entry_count"), 0)
        assert contract.refusal(certified(backwards)) == "WrongPositions"
    assert contract.send(certified(following)).success


def test_another_committee_is_no_committee(evm: Evm, contract: Deployment) -> None:
    header = contract.header()
    stranger = [PopSchemeMPL.key_gen(bytes([99, index]) * 16) for index in range(3)]
    signature = bytes(
        PopSchemeMPL.aggregate([PopSchemeMPL.sign(key, header.encode()) for key in stranger])
    )
    calldata = abi.post_batch_calldata(header.encode(), b"\x07", signature, DATA)
    assert contract.refusal(calldata) == "InvalidSignature"


# The bytes


def test_no_bytes_are_refused(contract: Deployment) -> None:
    assert contract.refusal(contract.calldata(contract.header(b""), b"")) == "WrongData"


def test_other_bytes_are_refused(contract: Deployment) -> None:
    header = contract.header()
    for data in (b"\0dat", b"\0data\0", b"\0datb", bytes(5)):
        assert contract.refusal(contract.calldata(header, data)) == "WrongData"


def test_too_many_bytes_are_refused(contract: Deployment) -> None:
    data = bytes(122_881)
    assert contract.refusal(contract.calldata(contract.header(data), data)) == ""


# The signers


@pytest.mark.parametrize("bitmap", [b"", b"\x07\x00", b"\x00\x07", b"\x17", b"\x87", b"\xff"])
def test_a_bitmap_of_another_shape_is_refused(contract: Deployment, bitmap: bytes) -> None:
    calldata = contract.calldata(contract.header())
    changed = with_word(calldata, BITMAP, len(bitmap))
    changed = changed[: BITMAP + 32] + bitmap.ljust(32, b"\0") + changed[BITMAP + 64 :]
    assert contract.refusal(changed) == "WrongBitmap"


def test_a_bitmap_beyond_its_bound_is_refused(contract: Deployment) -> None:
    calldata = contract.calldata(contract.header())
    assert contract.refusal(with_word(calldata, BITMAP, 17)) == ""
    assert contract.refusal(with_word(calldata, BITMAP, 2**256 - 1)) == ""


@pytest.mark.parametrize("size", [9, 100])
def test_a_bit_beyond_the_committee_is_refused(embedded: Evm, size: int) -> None:
    contract = Deployment(embedded, size)
    calldata = contract.calldata(contract.header())
    for bit in range(size, (size + 7) // 8 * 8):
        changed = bytearray(calldata)
        changed[BITMAP + 32 + bit // 8] |= 1 << bit % 8
        assert contract.refusal(bytes(changed)) == "WrongBitmap"
    assert contract.send(calldata).success


@pytest.mark.parametrize("members", [[], [0], [0, 1], [2, 3]])
def test_fewer_than_a_quorum_are_refused(contract: Deployment, members: list[int]) -> None:
    header = contract.header().encode()
    signature = sign(header, 4, members or [0])
    calldata = abi.post_batch_calldata(header, bitmap_of(members, 4), signature, DATA)
    assert contract.refusal(calldata) == "NoQuorum"


def test_signers_other_than_those_named_are_refused(contract: Deployment) -> None:
    header = contract.header().encode()
    for named, signing in (
        ([0, 1, 2], [0, 1]),
        ([0, 1, 2, 3], [0, 1, 2]),
        ([0, 1, 2], [0, 1, 2, 3]),
        ([0, 1, 2], [1, 2, 3]),
        ([0, 1, 2], [0, 0, 1, 2]),
        ([0, 1, 3], [0, 1, 1]),
    ):
        signature = sign(header, 4, signing)
        calldata = abi.post_batch_calldata(header, bitmap_of(named, 4), signature, DATA)
        assert contract.refusal(calldata) == "InvalidSignature"


# The signature


SPOILT = list(spoilt_signatures(G2Point()))


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_signature_is_refused(contract: Deployment, name: str) -> None:
    good = G2Point.from_compressed_bytes(sign(contract.header().encode(), 4, QUORUM))
    calldata = with_signature(contract, spoilt_signatures(good)[name])
    outcome = contract.send(calldata)
    assert not outcome.success
    assert abi.decode_revert(outcome.output) == "InvalidSignature"
    # A malformed point burns what its call was given, and no more.
    assert outcome.gas_used < 450_000


def test_a_signature_of_another_message_or_scheme_is_refused(contract: Deployment) -> None:
    from blspy import AugSchemeMPL, BasicSchemeMPL

    header = contract.header().encode()
    wrong = [sign(header[:-1], 4, QUORUM), sign(keccak(header), 4, QUORUM)]
    for scheme in (AugSchemeMPL, BasicSchemeMPL):
        parts = [scheme.sign(secrets(4)[member], header) for member in QUORUM]
        wrong.append(bytes(scheme.aggregate(parts)))
    wrong.append(bytes(PopSchemeMPL.pop_prove(secrets(4)[0])))
    for signature in wrong:
        calldata = abi.post_batch_calldata(header, b"\x07", signature, DATA)
        assert contract.refusal(calldata) == "InvalidSignature"


def opposite(secret: PrivateKey) -> bytes:
    """The key whose sum with this one's is infinity."""
    return (-G1Point.from_compressed_bytes(bytes(secret.get_g1()))).to_compressed_bytes()


@pytest.mark.parametrize("outsiders", [0, 1])
def test_keys_that_cancel_out_do_not_sign_with_nothing(evm: Evm, outsiders: int) -> None:
    """Signers whose keys add up to infinity would accept infinity for a signature; both when
    they are added up and when absentees are taken off."""
    pairs = [secrets(8)[0], secrets(8)[1]]
    members = [bytes(pairs[0].get_g1()), opposite(pairs[0])]
    members += [bytes(pairs[1].get_g1()), opposite(pairs[1])]
    members += list(keys(8)[2 : 2 + outsiders])
    weights = [5] * 4 + [1] * outsiders
    bytecode = abi.load_contract().bytecode
    arguments = constructor_arguments(
        [(words(expand_key(key)), weight) for key, weight in zip(members, weights, strict=True)]
    )
    address = transact(evm, b"", bytecode + arguments).created
    assert address
    model = Deployment(evm, 4)
    header = replace(model.header(), contract=address)
    infinity = bytes(G2Element())
    calldata = abi.post_batch_calldata(header.encode(), b"\x0f", infinity, DATA)
    outcome = transact(evm, address, calldata)
    assert not outcome.success
    assert abi.decode_revert(outcome.output) == "IdentityKey"


# The input around it all


def test_arguments_may_not_overlap_or_reach_behind_the_end(contract: Deployment) -> None:
    calldata = contract.calldata(contract.header())
    for changed in (
        with_word(calldata, OFFSET_OF_BITMAP, 832),
        with_word(calldata, OFFSET_OF_BITMAP, 864),
        with_word(calldata, OFFSET_OF_DATA, 800),
        with_word(calldata, OFFSET_OF_DATA, 896),
        with_word(calldata, OFFSET_OF_DATA, 2**255),
        with_word(calldata, OFFSET_OF_DATA, 2**256 - 32),
        with_word(calldata, DATA_LENGTH, 2**256 - 1),
    ):
        contract.refusal(changed)
        with pytest.raises(ValueError, match="canonical"):
            abi.decode_post_batch(changed)


def test_an_argument_may_not_be_read_from_within_another(evm: Evm) -> None:
    """Each of these would pass every other check, and be derived otherwise than it was accepted."""
    contract = Deployment(evm, 4)
    bitmap_in_data = (1).to_bytes(32, "big") + b"\x07".ljust(32, b"\0")
    header = contract.header(bitmap_in_data)
    calldata = contract.calldata(header, bitmap_in_data)
    assert contract.refusal(with_word(calldata, OFFSET_OF_BITMAP, 896)) == "NotCanonical"
    # The epoch for a length, and zeros of the batch number for bytes.
    header = contract.header(bytes(EPOCH))
    calldata = contract.calldata(header, b"other")
    at_epoch = 32 * field_index("epoch")
    assert contract.refusal(with_word(calldata, OFFSET_OF_DATA, at_epoch)) == "NotCanonical"
    assert contract.refusal(calldata) == "WrongData"


def test_the_input_may_not_be_longer_or_shorter(contract: Deployment) -> None:
    """Missing bytes read as zeros on L1: bytes that end in zeros could be posted without them."""
    data = b"\0data" + bytes(64)
    calldata = contract.calldata(contract.header(data), data)
    for cut in (1, 27, 32, 64, 96):
        assert contract.refusal(calldata[:-cut]) == "NotCanonical"
        with pytest.raises(ValueError, match=r"canonical|call"):
            abi.decode_post_batch(calldata[:-cut])
    for extra in (1, 32, 100):
        assert contract.refusal(calldata + bytes(extra)) == "NotCanonical"
        with pytest.raises(ValueError, match="canonical"):
            abi.decode_post_batch(calldata + bytes(extra))


def test_the_data_may_be_moved_nowhere_even_if_it_is_the_same(contract: Deployment) -> None:
    calldata = contract.calldata(contract.header())
    tail = calldata[DATA_LENGTH:]
    moved = with_word(calldata, OFFSET_OF_DATA, 896)
    moved = moved[:DATA_LENGTH] + bytes(32) + tail
    assert contract.refusal(moved) == "NotCanonical"
    swapped = with_word(calldata, OFFSET_OF_DATA, 800)
    swapped = with_word(swapped, OFFSET_OF_BITMAP, 864)
    swapped = swapped[:BITMAP] + tail + calldata[BITMAP:DATA_LENGTH]
    assert contract.refusal(swapped) == "NotCanonical"


def test_what_stands_in_the_padding_does_not_matter(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    calldata = contract.calldata(contract.header())
    dirty = calldata[: BITMAP + 33] + b"\xff" * 31 + calldata[DATA_LENGTH:-27] + b"\xff" * 27
    assert len(dirty) == len(calldata)
    assert abi.decode_post_batch(dirty) == abi.decode_post_batch(calldata)
    assert contract.send(dirty).success


def test_no_byte_that_counts_can_be_changed(embedded: Evm) -> None:
    contract = Deployment(embedded, 4)
    calldata = contract.calldata(contract.header())
    padding = {*range(BITMAP + 33, DATA_LENGTH), *range(len(calldata) - 27, len(calldata))}
    source = random.Random(3)
    for position in source.sample(sorted(set(range(len(calldata))) - padding), 120):
        changed = bytearray(calldata)
        changed[position] ^= 1 << source.randrange(8)
        assert not contract.send(bytes(changed)).success
    assert contract.view("next_number") == 1
    assert contract.send(calldata).success


def test_ether_is_refused(contract: Deployment) -> None:
    for calldata in (contract.calldata(contract.header()), abi.view_calldata("epoch"), b""):
        assert not transact(contract.evm, contract.address, calldata, value=1).success


# The sender: what is accepted must stand in the input of a transaction


def forwarder(target: bytes) -> bytes:
    """Code that calls `target` with its own input and answers as it does."""
    return bytes.fromhex(
        "365f5f37"  # copy the input to memory
        "5f5f365f5f73" + target.hex() + "5af1"  # call with all the gas
        "3d5f5f3e"  # copy the answer
        "602a57"  # if it succeeded, go to 0x2a
        "3d5ffd"
        "5b3d5ff3"
    )


def deploy(evm: Evm, code: bytes) -> bytes:
    """The address of a contract with this code."""
    copy_rest = bytes.fromhex(f"60{len(code):02x}8060095f395ff3")
    outcome = transact(evm, b"", copy_rest + code)
    assert outcome.success
    return outcome.created


def test_a_relay_is_refused(contract: Deployment) -> None:
    relay = deploy(contract.evm, forwarder(contract.address))
    # The relay works: a view answers through it.
    answer = transact(contract.evm, relay, abi.view_calldata("next_number"))
    assert int.from_bytes(answer.output, "big") == 1
    outcome = transact(contract.evm, relay, contract.calldata(contract.header()))
    assert abi.decode_revert(outcome.output) == "RelayedCall"


def test_a_relay_under_construction_is_refused(contract: Deployment) -> None:
    """While its constructor runs, a contract has no code to be seen."""
    calldata = contract.calldata(contract.header())
    size = f"61{len(calldata):04x}"
    code = bytes.fromhex(
        f"{size}602d5f39"  # copy the part behind this code to memory
        f"5f5f{size}5f5f73{contract.address.hex()}5af1"  # call with it
        "503d5f5f3e3d5ffd"  # revert with the answer
    )
    assert len(code) == 0x2D
    outcome = transact(contract.evm, b"", code + calldata)
    assert abi.decode_revert(outcome.output) == "RelayedCall"


def delegate(evm: Evm, account: Any, to: bytes, offset: int) -> Any:
    """A signed EIP-7702 authorization; `offset` is 1 if the account itself sends it."""
    return account.sign_authorization(
        {
            "chainId": evm.chain_id,
            "address": to,
            "nonce": evm.nonce(address_of(account)) + offset,
        }
    )


def test_an_account_with_delegated_code_is_refused(evm: Evm) -> None:
    """EIP-7702: such an account sends transactions itself, but is also called by others."""
    contract = Deployment(evm, 4)
    calldata = contract.calldata(contract.header())
    account, relay = ACCOUNTS[5], deploy(evm, forwarder(contract.address))

    authorization = delegate(evm, account, relay, offset=0)
    assert transact(evm, b"\x01" * 20, b"", authorizations=[authorization]).success
    assert refused(contract.send(calldata, account=account)) == "RelayedCall"
    # Called by itself, it runs the relay: the input of this transaction holds the batch, but its
    # receiver is not the contract.
    assert refused(transact(evm, address_of(account), calldata, account=account)) == "RelayedCall"
    assert refused(transact(evm, address_of(account), calldata)) == "RelayedCall"

    removal = delegate(evm, account, bytes(20), offset=0)
    assert transact(evm, b"\x01" * 20, b"", authorizations=[removal]).success
    assert contract.send(calldata, account=account).success


def test_an_account_that_delegates_in_the_same_transaction_is_refused(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    account = Account.from_key(ACCOUNTS[6].key)
    authorization = delegate(evm, account, contract.address, offset=1)
    calldata = contract.calldata(contract.header())
    outcome = transact(
        evm, contract.address, calldata, account=account, authorizations=[authorization]
    )
    assert refused(outcome) == "RelayedCall"
    removal = delegate(evm, account, bytes(20), offset=1)
    outcome = transact(evm, contract.address, calldata, account=account, authorizations=[removal])
    assert outcome.success


def refused(outcome: Outcome) -> str:
    assert not outcome.success
    return abi.decode_revert(outcome.output)


# The committee


def words(key: bytes) -> list[int]:
    return [int.from_bytes(key[at : at + 32], "big") for at in range(0, 128, 32)]


GOOD = [(words(expand_key(key)), 1) for key in keys(4)]


def constructor_arguments(members: list[tuple[list[int], int]]) -> bytes:
    """Of keys and weights, unchecked."""
    founders = [
        [key[0] | weight << 192, *key[1:], number] for number, (key, weight) in enumerate(members)
    ]
    settings = RegistrySettings(owner=bytes(20))
    return encode(CONSTRUCTOR_TYPES, [CHAIN, founders, EPOCH, astuple(settings)])


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ([], "InvalidCommittee"),
        ([*GOOD[:3], (GOOD[3][0], 0)], "InvalidCommittee"),
        ([*GOOD[:3], (GOOD[3][0], 2**32 + 1)], "InvalidCommittee"),
        ([*GOOD[:3], ([0, 0, 0, 0], 1)], "InvalidKey"),
        ([*GOOD[:3], (words(pad(g1_outside_of_the_subgroup())), 1)], "PrecompileFailed"),
        ([*GOOD[:3], ([1, 2, 3, 4], 1)], "PrecompileFailed"),
        ([*GOOD * 32, GOOD[0]], ""),
    ],
    ids=[
        "nobody",
        "no weight",
        "too much weight",
        "infinity",
        "outside of the subgroup",
        "not on the curve",
        "too many members",
    ],
)
def test_a_committee_that_cannot_work_is_refused(
    evm: Evm, members: list[tuple[list[int], int]], error: str
) -> None:
    arguments = constructor_arguments(members)
    outcome = transact(evm, b"", abi.load_contract().bytecode + arguments)
    assert refused(outcome) == error


def test_a_committee_beyond_the_contract_is_refused_before_it_is_deployed() -> None:
    settings = RegistrySettings(owner=bytes(20))
    with pytest.raises(ValueError, match="128 members"):
        encode_constructor(CHAIN, committee(129, EPOCH), settings)
