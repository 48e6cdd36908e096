"""Admission: what eth-account signs is taken, everything else is refused in geth's words."""

from typing import Any

import pytest
import rlp
from eth_account import Account
from eth_keys.datatypes import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.rules import Rules
from sequencer.config import NamespaceConfig
from sequencer.transaction import (
    REFUSED,
    AdmissionError,
    EthereumTransaction,
    admit_ethereum,
    admit_opaque,
)

KEY = b"\7" * 32
SENDER = bytes.fromhex(Account.from_key(KEY).address[2:])
CHAIN_ID = 901
ANY = NamespaceConfig()
TO = "0x" + "11" * 20
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

LEGACY = {
    "chainId": CHAIN_ID,
    "nonce": 3,
    "gasPrice": 10**9,
    "gas": 90_000,
    "to": TO,
    "value": 10**18,
    "data": b"\1\0\2",
}
ACCESS_LIST = LEGACY | {
    "type": 1,
    "accessList": [
        {"address": "0x" + "22" * 20, "storageKeys": ["0x" + "33" * 32, "0x" + "44" * 32]},
        {"address": "0x" + "55" * 20, "storageKeys": []},
    ],
}
DYNAMIC = {key: value for key, value in LEGACY.items() if key != "gasPrice"} | {
    "type": 2,
    "maxFeePerGas": 3 * 10**9,
    "maxPriorityFeePerGas": 10**9,
}
KINDS = {"legacy": LEGACY, "access list": ACCESS_LIST, "dynamic fee": DYNAMIC}


def signed(fields: dict[str, Any], key: bytes = KEY) -> bytes:
    return bytes(Account.sign_transaction(fields, key).raw_transaction)


def set_code(**changes: Any) -> bytes:
    authorization = Account.sign_authorization(
        {"chainId": CHAIN_ID, "address": "0x" + "66" * 20, "nonce": 0}, KEY
    )
    fields = DYNAMIC | {"type": 4, "authorizationList": [authorization], "gas": 200_000}
    return signed(fields | changes)


def reason(raw: bytes, chain_id: int = CHAIN_ID, policy: NamespaceConfig = ANY) -> str:
    with pytest.raises(AdmissionError) as raised:
        admit_ethereum(raw, chain_id, policy)
    assert raised.value.code == REFUSED
    return raised.value.message


def outcome(raw: bytes) -> bytes | str:
    """The sender, or why there is none."""
    try:
        return admit(raw).sender
    except AdmissionError as error:
        return error.message


def admit(raw: bytes) -> EthereumTransaction:
    return admit_ethereum(raw, CHAIN_ID, ANY)


def fields_of(raw: bytes) -> tuple[bytes, list[Any]]:
    prefix = raw[:1] if raw[0] < 0x80 else b""
    return prefix, list(rlp.decode(raw[len(prefix) :]))


def resigned(raw: bytes, index: int, value: Any) -> bytes:
    """The same with one unsigned field changed, signed again as its form would be."""
    prefix, items = fields_of(raw)
    unsigned = items[:-3]
    unsigned[index] = value
    form = unsigned if prefix else [*unsigned, CHAIN_ID, b"", b""]
    signature = PrivateKey(KEY).sign_msg(prefix + rlp.encode(form))
    v = signature.v if prefix else signature.v + 35 + 2 * CHAIN_ID
    return prefix + bytes(rlp.encode([*unsigned, v, signature.r, signature.s]))


def spliced(raw: bytes, index: int, value: Any) -> bytes:
    """The same with one field changed and the old signature."""
    prefix, items = fields_of(raw)
    items[index] = value
    return prefix + bytes(rlp.encode(items))


# --- opaque ---------------------------------------------------------------------------------


def test_opaque_bytes_are_bounded() -> None:
    rules = Rules(max_transaction_bytes=10)
    admit_opaque(b"x" * 10, rules)
    admit_opaque(b"\0", rules)
    with pytest.raises(AdmissionError, match="oversized data: transaction size 11, limit 10"):
        admit_opaque(b"x" * 11, rules)
    with pytest.raises(AdmissionError, match="empty"):
        admit_opaque(b"", rules)


# --- what is taken --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_it_was_signed(kind: str) -> None:
    fields = KINDS[kind]
    found = admit(signed(fields))
    assert found.kind == fields.get("type", 0)
    assert found.sender == SENDER
    assert found.hash == bytes(Account.sign_transaction(fields, KEY).hash)
    assert (found.nonce, found.gas) == (3, 90_000)
    assert (found.to.hex(), found.value, found.data) == ("11" * 20, 10**18, b"\1\0\2")
    assert found.max_fee == fields.get("maxFeePerGas", 10**9)
    assert found.max_priority_fee == 10**9


def test_a_set_code_transaction_is_read() -> None:
    found = admit(set_code())
    assert (found.kind, found.sender, found.nonce) == (4, SENDER, 3)


@pytest.mark.parametrize("chain_id", [1, 127, 128, 901, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_any_chain_id_can_be_signed_for(kind: str, chain_id: int) -> None:
    raw = signed(KINDS[kind] | {"chainId": chain_id})
    assert admit_ethereum(raw, chain_id, ANY).sender == SENDER


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.binary(min_size=32, max_size=32).filter(lambda key: 0 < int.from_bytes(key, "big") < ORDER),
    st.integers(0, 2**64 - 2),
    st.integers(0, 2**256 - 1),
    st.binary(max_size=300),
)
def test_whatever_eth_account_signs_is_taken(
    kind: str, key: bytes, nonce: int, value: int, data: bytes
) -> None:
    fields = KINDS[kind] | {"nonce": nonce, "value": value, "data": data}
    found = admit(signed(fields, key))
    assert found.sender.hex() == Account.from_key(key).address[2:].lower()
    assert (found.nonce, found.value, found.data) == (nonce, value, data)


def test_a_contract_is_created_without_a_recipient() -> None:
    fields = {key: value for key, value in LEGACY.items() if key != "to"}
    assert admit(signed(fields)).to == b""


# --- signatures -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_another_chain_s_transaction_is_refused(kind: str) -> None:
    message = reason(signed(KINDS[kind]), chain_id=902)
    assert message == "invalid sender: invalid chain id for signer: have 901 want 902"


def test_a_transaction_without_a_chain_is_refused() -> None:
    fields = {key: value for key, value in LEGACY.items() if key != "chainId"}
    assert "only replay-protected (EIP-155) transactions allowed" in reason(signed(fields))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_field_changes_the_sender(kind: str) -> None:
    raw = signed(KINDS[kind])
    value_index = {"legacy": 4, "access list": 5, "dynamic fee": 6}[kind]
    found = outcome(spliced(raw, value_index, 5))
    assert found == "invalid sender" or (isinstance(found, bytes) and found != SENDER)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("index", "value"),
    [(-1, 0), (-2, 0), (-1, ORDER), (-2, ORDER), (-1, ORDER // 2 + 1), (-2, 2**256 - 1)],
)
def test_signature_values_out_of_range_are_refused(kind: str, index: int, value: int) -> None:
    message = reason(spliced(signed(KINDS[kind]), index, value))
    assert message == "invalid sender: invalid transaction v, r, s values"


def test_a_signature_has_one_form() -> None:
    prefix, items = fields_of(signed(DYNAMIC))
    items[-1] = ORDER - int.from_bytes(items[-1], "big")
    items[-3] = 1 - int.from_bytes(items[-3], "big")
    assert "v, r, s" in reason(prefix + rlp.encode(items))


@pytest.mark.parametrize("v", [2, 27, 28, 37, 2**255])
def test_a_typed_parity_is_zero_or_one(v: int) -> None:
    assert "v, r, s" in reason(spliced(signed(DYNAMIC), -3, v))


@pytest.mark.parametrize("v", [0, 1, 26, 29, 34])
def test_a_legacy_v_names_a_chain(v: int) -> None:
    assert "v, r, s" in reason(spliced(signed(LEGACY), -3, v))


def test_an_r_that_is_no_point_is_refused() -> None:
    outcomes = [outcome(spliced(signed(DYNAMIC), -2, r)) for r in range(1, 40)]
    assert {found for found in outcomes if isinstance(found, str)} == {"invalid sender"}


# --- limits ---------------------------------------------------------------------------------


def test_the_fee_floor_is_exact() -> None:
    for fields, fee in ((LEGACY, 10**9), (DYNAMIC, 3 * 10**9)):
        raw = signed(fields)
        admit_ethereum(raw, CHAIN_ID, NamespaceConfig(min_fee_wei=fee))
        message = reason(raw, policy=NamespaceConfig(min_fee_wei=fee + 1))
        assert message.startswith("transaction underpriced")


def test_the_priority_fee_is_a_part_of_the_fee() -> None:
    raw = resigned(signed(DYNAMIC), 2, 3 * 10**9)
    assert admit(raw).max_priority_fee == 3 * 10**9
    message = reason(resigned(signed(DYNAMIC), 2, 3 * 10**9 + 1))
    assert message.startswith("max priority fee per gas higher than max fee per gas")


def test_the_highest_nonce_is_refused() -> None:
    assert admit(resigned(signed(DYNAMIC), 1, 2**64 - 2)).sender == SENDER
    assert reason(resigned(signed(DYNAMIC), 1, 2**64 - 1)) == "nonce has max value"


def create(data: bytes, gas: int) -> bytes:
    fields = {key: value for key, value in DYNAMIC.items() if key != "to"}
    return signed(fields | {"data": data, "gas": gas})


@pytest.mark.parametrize(
    ("make", "needed"),
    [
        (lambda gas: signed(LEGACY | {"data": b"", "gas": gas}), 21_000),
        (lambda gas: signed(LEGACY | {"data": b"\0\1\0", "gas": gas}), 21_024),
        (lambda gas: signed(ACCESS_LIST | {"data": b"", "gas": gas}), 21_000 + 2 * 2_400 + 3_800),
        (lambda gas: signed(DYNAMIC | {"data": b"", "gas": gas}), 21_000),
        (lambda gas: set_code(data=b"", gas=gas), 46_000),
        (lambda gas: create(b"", gas), 53_000),
        (lambda gas: create(b"\1" * 33, gas), 53_000 + 33 * 16 + 4),
    ],
)
def test_the_intrinsic_gas_is_exact(make: Any, needed: int) -> None:
    assert admit(make(needed)).gas == needed
    message = reason(make(needed - 1))
    assert message == f"intrinsic gas too low: gas {needed - 1}, minimum needed {needed}"


def test_init_code_is_bounded() -> None:
    assert len(admit(create(bytes(49_152), 10**7)).data) == 49_152
    message = reason(create(bytes(49_153), 10**7))
    assert message == "max initcode size exceeded: code size 49153, limit 49152"


# --- form -----------------------------------------------------------------------------------


def list_of(*items: bytes) -> bytes:
    content = b"".join(items)
    assert len(content) < 56
    return bytes([0xC0 + len(content)]) + content


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "typed transaction too short"),
        (b"\x02", "typed transaction too short"),
        (b"\x00\xc0", "transaction type not supported"),
        (b"\x03" + signed(DYNAMIC)[1:], "transaction type not supported"),
        (b"\x05\xc0", "transaction type not supported"),
        (b"\x7f\xc0", "transaction type not supported"),
        (b"\x80", "rlp: expected List"),
        (b"\xb8\x40", "rlp: expected List"),
        (b"\x02\x80", "rlp: expected input list for types.DynamicFeeTx"),
        (b"\xc0", "rlp: too few elements for types.LegacyTx"),
        (b"\x01\xc0", "rlp: too few elements for types.AccessListTx"),
        (b"\xf8", "rlp: value size exceeds available input length"),
        (b"\xff" * 9, "rlp: value size exceeds available input length"),
        (b"\xc1", "rlp: value size exceeds available input length"),
        (b"\xc2\x83\x01", "rlp: value size exceeds available input length"),
        (b"\xc1\xb8", "rlp: value size exceeds available input length"),
        (b"\xf8\x01\x01", "rlp: non-canonical size information"),
        (b"\xf9\x00\x38" + bytes(56), "rlp: non-canonical size information"),
        (list_of(b"\x81\x05"), "rlp: non-canonical size information"),
        (list_of(b"\xb8\x01\xff"), "rlp: non-canonical size information"),
        (signed(DYNAMIC) + b"\0", "rlp: input contains more than one value"),
        (signed(LEGACY)[:-1], "rlp: value size exceeds available input length"),
        (rlp.encode([b""] * 10), "rlp: input list has too many elements for types.LegacyTx"),
    ],
)
def test_what_is_no_transaction_is_refused(raw: bytes, sentence: str) -> None:
    assert reason(raw) == sentence


@pytest.mark.parametrize(
    ("index", "value", "sentence"),
    [
        (1, b"\0\1", "rlp: non-canonical integer (leading zero bytes)"),
        (1, b"\0", "rlp: non-canonical integer (leading zero bytes)"),
        (1, b"\1" * 9, "rlp: input string too long for uint64"),
        (4, b"\1" * 9, "rlp: input string too long for uint64"),
        (3, b"\1" * 33, "rlp: input string too long for uint256"),
        (6, b"\1" * 33, "rlp: input string too long for uint256"),
        (5, b"\1" * 19, "rlp: input string too short for common.Address"),
        (5, b"\1" * 21, "rlp: input string too long for common.Address"),
        (7, [b"x"], "rlp: expected input string or byte for types.DynamicFeeTx"),
        (1, [], "rlp: expected input string or byte for types.DynamicFeeTx"),
        (8, b"", "rlp: malformed access list"),
        (8, [b"x"], "rlp: malformed access list"),
        (8, [[b"\1" * 20]], "rlp: malformed access list"),
        (8, [[b"\1" * 19, []]], "rlp: malformed access list"),
        (8, [[[b"\1" * 19], []]], "rlp: malformed access list"),
        (8, [[b"\1" * 20, b""]], "rlp: malformed access list"),
        (8, [[b"\1" * 20, [b"\1" * 31]]], "rlp: malformed access list"),
        (8, [[b"\1" * 20, [[b"\1" * 31]]]], "rlp: malformed access list"),
    ],
)
def test_malformed_fields_are_refused(index: int, value: Any, sentence: str) -> None:
    assert reason(resigned(signed(DYNAMIC), index, value)) == sentence


AUTHORIZATION = [901, b"\1" * 20, 5, 1, 7, 9]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "EIP-7702 transaction with empty auth list"),
        (b"", "rlp: malformed authorization list"),
        ([b"x"], "rlp: malformed authorization list"),
        ([AUTHORIZATION[:5]], "rlp: malformed authorization list"),
        ([[*AUTHORIZATION, 1]], "rlp: malformed authorization list"),
        ([[901, b"\1" * 19, 5, 1, 7, 9]], "rlp: malformed authorization list"),
        ([[901, [], 5, 1, 7, 9]], "rlp: malformed authorization list"),
        ([[901, b"\1" * 20, b"\0\1", 1, 7, 9]], "rlp: non-canonical integer (leading zero bytes)"),
        ([[901, b"\1" * 20, 5, 256, 7, 9]], "rlp: input string too long for uint8"),
    ],
)
def test_malformed_authorizations_are_refused(value: Any, sentence: str) -> None:
    assert reason(resigned(set_code(), 9, value)) == sentence
    assert admit(resigned(set_code(), 9, [AUTHORIZATION])).kind == 4


def test_set_code_creates_no_contract() -> None:
    assert reason(resigned(set_code(), 5, b"")) == "rlp: input string too short for common.Address"


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    refused_or_read(raw)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*map(signed, KINDS.values()), set_code()]), st.data())
def test_a_changed_transaction_is_refused_or_somebody_else_s(
    raw: bytes, data: st.DataObject
) -> None:
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = refused_or_read(bytes(changed))
    assert found is None or bytes(changed) == raw or found.sender != SENDER


def refused_or_read(raw: bytes) -> EthereumTransaction | None:
    try:
        found = admit(raw)
    except AdmissionError:
        return None
    assert rlp.encode(rlp.decode(raw[found.kind > 0 :], strict=True)) == raw[found.kind > 0 :]
    return found
