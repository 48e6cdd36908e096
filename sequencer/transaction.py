"""Which transactions a node takes: the admission policies of namespaces.

`opaque` bounds the size. `ethereum` decodes strictly, recovers the sender, and checks what can be
checked without the rollup's state; errors are worded as geth words them, since wallets and tools
match on these strings. A signed transaction is decoded by offsets into its bytes: what was signed
is, field for field, a slice of what was sent.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from coincurve import PublicKey
from eth_hash.auto import keccak

from consensus.rules import Rules

REFUSED: Final = -32000
"""The JSON-RPC code that geth gives to a refused transaction."""

LEGACY: Final = 0
ACCESS_LIST: Final = 1
DYNAMIC_FEE: Final = 2
BLOB: Final = 3
SET_CODE: Final = 4

_NAMES: Final = {
    LEGACY: "types.LegacyTx",
    ACCESS_LIST: "types.AccessListTx",
    DYNAMIC_FEE: "types.DynamicFeeTx",
    SET_CODE: "types.SetCodeTx",
}
_UNSIGNED_FIELDS: Final = {LEGACY: 6, ACCESS_LIST: 8, DYNAMIC_FEE: 9, SET_CODE: 10}
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_MAX_NONCE: Final = (1 << 64) - 1

_GAS_TRANSACTION: Final = 21_000
_GAS_CREATION: Final = 53_000
_GAS_ZERO_BYTE: Final = 4
_GAS_NONZERO_BYTE: Final = 16
_GAS_INIT_CODE_WORD: Final = 2
GAS_LISTED_ADDRESS: Final = 2_400
GAS_LISTED_KEY: Final = 1_900
GAS_AUTHORIZATION: Final = 25_000
_MAX_INIT_CODE_BYTES: Final = 49_152


class AdmissionError(Exception):
    """Why a transaction is not taken: a JSON-RPC code and geth's sentence."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FeePolicy(Protocol):
    """What a namespace's settings say to admission."""

    @property
    def min_fee_wei(self) -> int:
        """The least fee per gas."""
        ...


@dataclass(frozen=True, slots=True)
class EthereumTransaction:
    """A signed transaction as far as ordering cares.

    kind       0 legacy, 1 access list, 2 dynamic fee, 4 set code
    sender     20 bytes, recovered from the signature
    hash       keccak-256 of the bytes
    max_fee    the most it pays per gas, wei; max_priority_fee the part of it for the sequencer
    to         20 bytes; empty where a contract is created
    """

    kind: int
    sender: bytes
    hash: bytes
    nonce: int
    gas: int
    max_fee: int
    max_priority_fee: int
    to: bytes
    value: int
    data: bytes


def admit_opaque(transaction: bytes, rules: Rules) -> None:
    """Any bytes up to the limit of the chain; `AdmissionError`."""
    if not transaction:
        raise AdmissionError("transaction is empty")
    if len(transaction) > rules.max_transaction_bytes:
        raise AdmissionError(
            f"oversized data: transaction size {len(transaction)}, "
            f"limit {rules.max_transaction_bytes}"
        )


def admit_ethereum(raw: bytes, chain_id: int, policy: FeePolicy) -> EthereumTransaction:
    """The signed transaction in `raw`, if it is one for this chain; `AdmissionError`.

    Nonce and balance are the rollup's to judge. The size is bounded by `admit_opaque`.
    """
    kind, payload_start = _envelope(raw)
    fields = _Fields(raw, payload_start, kind)
    offset = 0 if kind in (LEGACY, ACCESS_LIST) else 1
    start = 0 if kind == LEGACY else 1
    nonce = fields.number(start, 8)
    priority_fee = fields.number(start + 1, 32)
    max_fee = fields.number(start + 1 + offset, 32)
    gas = fields.number(start + 2 + offset, 8)
    to = fields.text(start + 3 + offset)
    value = fields.number(start + 4 + offset, 32)
    data = fields.text(start + 5 + offset)
    if len(to) not in ((20,) if kind == SET_CODE else (0, 20)):
        raise AdmissionError(f"rlp: input string {_short_or_long(to)} for common.Address")
    listed_gas = _listed_gas(fields, kind, start + 6 + offset)
    _check_limits(nonce, max_fee, priority_fee, policy.min_fee_wei)
    _check_gas(gas, to, data, listed_gas)
    return EthereumTransaction(
        kind,
        _sender(fields, kind, chain_id),
        bytes(keccak(raw)),
        nonce,
        gas,
        max_fee,
        priority_fee,
        to,
        value,
        data,
    )


def _short_or_long(text: bytes) -> str:
    return "too short" if len(text) < 20 else "too long"


def _envelope(raw: bytes) -> tuple[int, int]:
    """The kind, and where the list of fields begins."""
    if not raw:
        raise AdmissionError("typed transaction too short")
    if raw[0] >= 0xC0:
        return LEGACY, 0
    if raw[0] > 0x7F:
        raise AdmissionError("rlp: expected List")
    if raw[0] not in _NAMES or raw[0] == LEGACY:
        raise AdmissionError("transaction type not supported")
    if len(raw) < 2:
        raise AdmissionError("typed transaction too short")
    return raw[0], 1


def _item(data: bytes, start: int, end: int) -> tuple[bool, int, int]:
    """One RLP item at `start`: whether it is a list, and where its content begins and ends."""
    head = data[start]
    if head < 0x80:
        return False, start, start + 1
    if head < 0xB8:
        body, size = start + 1, head - 0x80
    elif head < 0xC0:
        body, size = _long_item(data, start, head - 0xB7, end)
    elif head < 0xF8:
        body, size = start + 1, head - 0xC0
    else:
        body, size = _long_item(data, start, head - 0xF7, end)
    if body + size > end:
        raise AdmissionError("rlp: value size exceeds available input length")
    if head == 0x81 and data[body] < 0x80:
        raise AdmissionError("rlp: non-canonical size information")
    return head >= 0xC0, body, body + size


def _long_item(data: bytes, start: int, width: int, end: int) -> tuple[int, int]:
    body = start + 1 + width
    if body > end:
        raise AdmissionError("rlp: value size exceeds available input length")
    size = int.from_bytes(data[start + 1 : body], "big")
    if size < 56 or data[start + 1] == 0:
        raise AdmissionError("rlp: non-canonical size information")
    return body, size


def _items(data: bytes, start: int, end: int) -> list[tuple[bool, int, int]]:
    """The items of a list's content."""
    items = []
    while start < end:
        item = _item(data, start, end)
        items.append(item)
        start = item[2]
    return items


class _Fields:
    """The fields of one transaction, by their places in its bytes."""

    __slots__ = ("count", "items", "kind", "raw", "start")

    def __init__(self, raw: bytes, start: int, kind: int) -> None:
        if raw[start] < 0xC0:
            raise AdmissionError(f"rlp: expected input list for {_NAMES[kind]}")
        _, body, end = _item(raw, start, len(raw))
        if end != len(raw):
            raise AdmissionError("rlp: input contains more than one value")
        self.raw, self.kind, self.start = raw, kind, body
        self.items = _items(raw, body, end)
        self.count = _UNSIGNED_FIELDS[kind]
        if len(self.items) < self.count + 3:
            raise AdmissionError(f"rlp: too few elements for {_NAMES[kind]}")
        if len(self.items) > self.count + 3:
            raise AdmissionError(f"rlp: input list has too many elements for {_NAMES[kind]}")

    def text(self, index: int) -> bytes:
        """A field of bytes."""
        is_list, start, end = self.items[index]
        if is_list:
            raise AdmissionError(f"rlp: expected input string or byte for {_NAMES[self.kind]}")
        return self.raw[start:end]

    def number(self, index: int, most_bytes: int) -> int:
        """A field that is an unsigned integer of at most that many bytes."""
        return _number(self.text(index), most_bytes)

    def unsigned(self) -> bytes:
        """The fields before the signature, as they were sent."""
        return self.raw[self.start : self.items[self.count - 1][2]]


def _number(text: bytes, most_bytes: int) -> int:
    if text[:1] == b"\0":
        raise AdmissionError("rlp: non-canonical integer (leading zero bytes)")
    if len(text) > most_bytes:
        raise AdmissionError(f"rlp: input string too long for uint{8 * most_bytes}")
    return int.from_bytes(text, "big")


def _listed_gas(fields: _Fields, kind: int, index: int) -> int:
    """What access list and authorizations cost; checks their form."""
    if kind == LEGACY:
        return 0
    gas = 0
    for address, keys in _pairs(fields, index):
        if address[2] - address[1] != 20 or address[0] or not keys[0]:
            raise AdmissionError("rlp: malformed access list")
        listed = _items(fields.raw, keys[1], keys[2])
        if any(is_list or end - start != 32 for is_list, start, end in listed):
            raise AdmissionError("rlp: malformed access list")
        gas += GAS_LISTED_ADDRESS + GAS_LISTED_KEY * len(listed)
    if kind == SET_CODE:
        gas += GAS_AUTHORIZATION * _count_authorizations(fields, index + 1)
    return gas


def _pairs(
    fields: _Fields, index: int
) -> list[tuple[tuple[bool, int, int], tuple[bool, int, int]]]:
    pairs = []
    for item in _lists(fields, index, "access list"):
        members = _items(fields.raw, item[1], item[2])
        if len(members) != 2:
            raise AdmissionError("rlp: malformed access list")
        pairs.append((members[0], members[1]))
    return pairs


def _lists(fields: _Fields, index: int, name: str) -> list[tuple[bool, int, int]]:
    """The items of a field that is a list of lists."""
    is_list, start, end = fields.items[index]
    items = _items(fields.raw, start, end) if is_list else []
    if not is_list or not all(item[0] for item in items):
        raise AdmissionError(f"rlp: malformed {name}")
    return items


def _count_authorizations(fields: _Fields, index: int) -> int:
    """How many authorizations there are, each (chain id, address, nonce, parity, r, s)."""
    items = _lists(fields, index, "authorization list")
    if not items:
        raise AdmissionError("EIP-7702 transaction with empty auth list")
    for _, start, end in items:
        members = _items(fields.raw, start, end)
        if len(members) != 6 or any(is_list for is_list, _, _ in members):
            raise AdmissionError("rlp: malformed authorization list")
        texts = [fields.raw[first:last] for _, first, last in members]
        for text, most_bytes in zip(texts, (32, 20, 8, 1, 32, 32), strict=True):
            if most_bytes != 20:
                _number(text, most_bytes)
            elif len(text) != 20:
                raise AdmissionError("rlp: malformed authorization list")
    return len(items)


def _check_limits(nonce: int, max_fee: int, priority_fee: int, min_fee_wei: int) -> None:
    if nonce == _MAX_NONCE:
        raise AdmissionError("nonce has max value")
    if max_fee < priority_fee:
        raise AdmissionError(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {priority_fee}, maxFeePerGas: {max_fee}"
        )
    if max_fee < min_fee_wei:
        raise AdmissionError(
            f"transaction underpriced: max fee per gas {max_fee}, minimum needed {min_fee_wei}"
        )


def intrinsic_gas(to: bytes, data: bytes, listed_gas: int) -> int:
    """The least gas of a transaction, before anything is executed; without `to` it creates.

    `listed_gas` is that of its access and authorization lists. `AdmissionError` for too much code.
    """
    zeros = data.count(0)
    needed = _GAS_ZERO_BYTE * zeros + _GAS_NONZERO_BYTE * (len(data) - zeros) + listed_gas
    if to:
        return needed + _GAS_TRANSACTION
    if len(data) > _MAX_INIT_CODE_BYTES:
        raise AdmissionError(
            f"max initcode size exceeded: code size {len(data)}, limit {_MAX_INIT_CODE_BYTES}"
        )
    return needed + _GAS_CREATION + _GAS_INIT_CODE_WORD * ((len(data) + 31) // 32)


def _check_gas(gas: int, to: bytes, data: bytes, listed_gas: int) -> None:
    needed = intrinsic_gas(to, data, listed_gas)
    if gas < needed:
        raise AdmissionError(f"intrinsic gas too low: gas {gas}, minimum needed {needed}")


def _sender(fields: _Fields, kind: int, chain_id: int) -> bytes:
    """The account whose key signed; checks that it signed for this chain."""
    v = fields.number(fields.count, 32)
    r, s = fields.number(fields.count + 1, 32), fields.number(fields.count + 2, 32)
    if kind == LEGACY:
        if v in (27, 28):
            raise AdmissionError("only replay-protected (EIP-155) transactions allowed over RPC")
        signed_for, parity = (v - 35) >> 1, (v - 35) & 1
        content = fields.unsigned() + _encode_number(chain_id) + b"\x80\x80"
        prefix = b""
    else:
        signed_for, parity = fields.number(0, 32), v
        content = fields.unsigned()
        prefix = bytes([kind])
    if (kind == LEGACY and v < 35) or parity > 1:
        raise AdmissionError("invalid sender: invalid transaction v, r, s values")
    if signed_for != chain_id:
        raise AdmissionError(
            f"invalid sender: invalid chain id for signer: have {signed_for} want {chain_id}"
        )
    if not 0 < r < _ORDER or not 0 < s <= _ORDER // 2:
        raise AdmissionError("invalid sender: invalid transaction v, r, s values")
    return _recover(keccak(prefix + _list_header(len(content)) + content), r, s, parity)


def _recover(digest: bytes, r: int, s: int, parity: int) -> bytes:
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
    try:
        point = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception as error:  # coincurve raises Exception itself
        raise AdmissionError("invalid sender") from error
    return bytes(keccak(point.format(compressed=False)[1:])[12:])


def _encode_number(value: int) -> bytes:
    if value < 0x80:
        return bytes([value]) if value else b"\x80"
    text = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([0x80 + len(text)]) + text


def _list_header(size: int) -> bytes:
    if size < 56:
        return bytes([0xC0 + size])
    text = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0xF7 + len(text)]) + text
