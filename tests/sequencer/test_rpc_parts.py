"""The parts of the RPC that need no node: parameters, nonces, envelopes, the binary body."""

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from sequencer.rpc import params
from sequencer.rpc.accounts import NONCE_WINDOW, Accounts
from sequencer.rpc.envelope import describe
from sequencer.rpc.jsonrpc import RpcError
from sequencer.rpc.limits import Limits
from sequencer.rpc.submit import decode_submission, encode_submission

SENDER = b"\xaa" * 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("901", 901),
        ("0x385", 901),
        ("0X385", 901),
        (901, 901),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("0x10000000000000000", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        ("0x", None),
        ("", None),
        (" 1", None),
        ("٣", None),
        (True, None),
        (1.0, None),
        (None, None),
        ([], None),
        ("9" * 5_000, None),
    ],
)
def test_numbers_are_unsigned_64_bits_in_decimal_or_hex(text: Any, value: int | None) -> None:
    assert params.parse_number(text) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("ff", "hex string without 0x prefix"),
        ("0xf", "hex string of odd length"),
        ("0xzz", "invalid hex string"),
        ("0xf f ", "invalid hex string"),
        (7, "a hex string is wanted"),
        (None, "a hex string is wanted"),
    ],
)
def test_bytes_are_0x_and_pairs_of_digits(value: Any, reason: str) -> None:
    assert params.hex_bytes("0xFf00", 0) == b"\xff\x00"
    with pytest.raises(RpcError, match=f"invalid argument 3: {reason}") as refused:
        params.hex_bytes(value, 3)
    assert refused.value.code == -32602


def test_hashes_and_addresses_have_their_lengths() -> None:
    assert params.hash_bytes("0x" + "ab" * 32, 0) == b"\xab" * 32
    assert params.address("0x" + "ab" * 20, 0) == b"\xab" * 20
    for wrong in (params.hash_bytes, params.address):
        with pytest.raises(RpcError, match="invalid argument 0"):
            wrong("0x" + "ab" * 21, 0)


def test_waits_are_capped_and_zero_means_default() -> None:
    assert params.wait_ms(None, 0, 2_000, 9_000) == 2_000
    assert params.wait_ms(0, 0, 2_000, 9_000) == 2_000
    assert params.wait_ms("0x64", 0, 2_000, 9_000) == 100
    assert params.wait_ms(10**6, 0, 2_000, 9_000) == 9_000


def test_the_next_nonce_follows_those_that_were_seen() -> None:
    accounts = Accounts(10)
    assert accounts.next_nonce(1, SENDER, pending=True) == 0
    accounts.admitted(1, SENDER, 4)
    assert accounts.next_nonce(1, SENDER, pending=True) == 5
    assert accounts.next_nonce(1, SENDER, pending=False) == 0
    accounts.ordered(1, SENDER, 4)
    accounts.ordered(1, SENDER, 2)
    assert accounts.next_nonce(1, SENDER, pending=False) == 5
    assert accounts.next_nonce(2, SENDER, pending=False) == 0


def test_the_next_nonce_is_the_first_that_is_missing() -> None:
    accounts = Accounts(10)
    for nonce in (0, 1, 2, 3, 30):
        accounts.ordered(1, SENDER, nonce)
    accounts.admitted(1, SENDER, 5)
    assert accounts.next_nonce(1, SENDER, pending=False) == 4
    assert accounts.next_nonce(1, SENDER, pending=True) == 4
    accounts.admitted(1, SENDER, 4)
    assert accounts.next_nonce(1, SENDER, pending=False) == 4
    assert accounts.next_nonce(1, SENDER, pending=True) == 6
    for nonce in range(4, 30):
        accounts.ordered(1, SENDER, nonce)
    assert accounts.next_nonce(1, SENDER, pending=False) == 31
    assert accounts.end(1, SENDER) == 31


def test_what_lies_below_the_first_nonce_counts_as_used() -> None:
    accounts = Accounts(10)
    for nonce in (500, 502):
        accounts.ordered(1, SENDER, nonce)
    assert accounts.next_nonce(1, SENDER, pending=False) == 501
    assert not accounts.is_past(1, SENDER, 499)


def test_after_a_loss_the_next_transaction_says_where_its_sender_is() -> None:
    accounts = Accounts(10)
    accounts.ordered(1, SENDER, 0)
    accounts.lost()
    accounts.admitted(1, SENDER, 6)
    assert accounts.next_nonce(1, SENDER, pending=False) == 1
    assert accounts.next_nonce(1, SENDER, pending=True) == 7
    accounts.ordered(1, SENDER, 7)
    assert accounts.next_nonce(1, SENDER, pending=False) == 6
    accounts.ordered(1, SENDER, 6)
    assert accounts.next_nonce(1, SENDER, pending=False) == 8
    accounts.ordered(1, SENDER, 9)
    assert accounts.next_nonce(1, SENDER, pending=False) == 8


def test_only_nonces_that_are_in_the_log_are_past() -> None:
    accounts = Accounts(10)
    for nonce in (0, 1, 5):
        accounts.ordered(1, SENDER, nonce)
    assert [accounts.is_past(1, SENDER, nonce) for nonce in range(7)] == [
        *(True, True, False, False, False, True, False),
    ]
    accounts.ordered(1, SENDER, 3)
    assert accounts.is_past(1, SENDER, 3)
    assert not accounts.is_past(1, SENDER, 2)
    assert not accounts.is_past(2, SENDER, 0)


def test_nonces_far_below_the_highest_are_past() -> None:
    accounts = Accounts(10)
    accounts.ordered(1, SENDER, 2**64 - 1)
    assert accounts.is_past(1, SENDER, 0)
    assert not accounts.is_past(1, SENDER, 2**64 - NONCE_WINDOW)
    assert accounts.is_past(1, SENDER, 2**64 - NONCE_WINDOW - 1)


@given(st.lists(st.integers(0, 400), max_size=60))
def test_past_nonces_agree_with_a_set(nonces: list[int]) -> None:
    accounts, seen = Accounts(10), set()
    for nonce in nonces:
        accounts.ordered(1, SENDER, nonce)
        seen.add(nonce)
    highest = max(seen, default=-1)
    for nonce in range(highest + 2):
        expected = nonce in seen or highest - nonce >= NONCE_WINDOW
        assert accounts.is_past(1, SENDER, nonce) == expected
    if seen:
        start = max(nonces[0], highest + 1 - NONCE_WINDOW)
        missing = next(n for n in range(start, highest + 2) if n not in seen)
        assert accounts.next_nonce(1, SENDER, pending=False) == missing


def test_the_least_active_accounts_are_forgotten() -> None:
    accounts = Accounts(2)
    for byte in (1, 2, 1, 3):
        accounts.ordered(1, bytes([byte]) * 20, 7)
    assert len(accounts) == 2
    assert accounts.next_nonce(1, b"\1" * 20, pending=False) == 8
    assert accounts.next_nonce(1, b"\2" * 20, pending=False) == 0


KEY = "0x" + "11" * 32
BASE = {"nonce": 3, "gas": 21_000, "to": "0x" + "22" * 20, "value": 5, "data": b"\xab\xcd"}
ACCESS = [{"address": "0x" + "33" * 20, "storageKeys": ["0x" + "44" * 32]}]


@pytest.mark.parametrize(
    "fields",
    [
        {"chainId": 901, "gasPrice": 7},
        {"chainId": 901, "gasPrice": 7, "type": 1, "accessList": ACCESS},
        {
            "chainId": 901,
            "maxFeePerGas": 9,
            "maxPriorityFeePerGas": 2,
            "type": 2,
            "accessList": ACCESS,
        },
    ],
)
def test_envelopes_show_the_fields_that_were_signed(fields: dict[str, Any]) -> None:
    signed = Account.from_key(KEY).sign_transaction({**BASE, **fields})
    shown = describe(bytes(signed.raw_transaction))
    assert shown["type"] == hex(fields.get("type", 0))
    assert shown["chainId"] == hex(901)
    assert (shown["nonce"], shown["gas"], shown["value"]) == ("0x3", "0x5208", "0x5")
    assert (shown["to"], shown["input"]) == (BASE["to"], "0xabcd")
    assert int(shown["r"], 16) == signed.r
    assert int(shown["s"], 16) == signed.s
    assert int(shown["v"], 16) == signed.v
    assert shown["gasPrice"] == hex(fields.get("gasPrice", 9))
    if "accessList" in fields:
        assert shown["accessList"] == ACCESS


def test_a_contract_creation_has_no_recipient() -> None:
    creation = {**BASE, "to": b"", "chainId": 901, "gasPrice": 7}
    signed = Account.from_key(KEY).sign_transaction(creation)
    assert describe(bytes(signed.raw_transaction))["to"] is None


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(junk: bytes) -> None:
    for prefix in (b"", b"\x01", b"\x02", b"\x04", b"\xc1", b"\xf8"):
        shown = describe(prefix + junk)
        assert shown["input"].startswith("0x")
        assert set(shown) >= {"nonce", "gas", "gasPrice", "value", "to", "type", "v", "r", "s"}


def test_bytes_that_nest_without_end_can_be_shown() -> None:
    nested = b"\xc0"
    for _ in range(3_000):
        size = len(nested)
        head = bytes([0xC0 + size]) if size < 56 else bytes([0xF9]) + size.to_bytes(2, "big")
        nested = head + nested
    assert describe(nested)["input"] == "0x" + nested.hex()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=50)), min_size=1))
def test_a_submission_decodes_to_what_was_encoded(transactions: list[tuple[int, bytes]]) -> None:
    assert decode_submission(encode_submission(transactions), Limits()) == transactions


def test_the_layout_of_a_submission_is_pinned() -> None:
    body = encode_submission([(901, b"abc"), (2**64 - 1, b"")])
    assert body.hex() == "000000000000038500000003616263ffffffffffffffff00000000"


@pytest.mark.parametrize(
    ("body", "index", "reason"),
    [
        (b"", 0, "no transaction"),
        (b"\0" * 11, 0, "ends inside a length"),
        (encode_submission([(1, b"a")]) + b"\0", 1, "ends inside a length"),
        (encode_submission([(1, b"a"), (1, b"abc")])[:-1], 1, "ends inside a transaction"),
        (b"\0" * 8 + b"\xff" * 4 + b"abc", 0, "ends inside a transaction"),
        (encode_submission([(1, b"a")] * 4), 3, "want at most 3"),
    ],
)
def test_a_malformed_submission_says_where(body: bytes, index: int, reason: str) -> None:
    with pytest.raises(RpcError, match=reason) as refused:
        decode_submission(body, Limits(submit_transactions=3))
    assert refused.value.data == {"index": index}


@given(st.binary(max_size=100))
def test_any_body_decodes_or_is_refused(junk: bytes) -> None:
    try:
        decoded = decode_submission(junk, Limits())
    except RpcError:
        return
    assert encode_submission(decoded) == junk
