"""Talking to the contract: its shipped ABI and bytecode, calls, events and errors as bytes.

`post_batch` has one canonical encoding, and the contract accepts no other.  Its arguments are

    header (15 words) | offset of the bitmap | signature (8 words) | offset of the data
    bitmap: length, one padded word | data: length, padded words

so a transaction input is built and read here by position; `decode_post_batch` refuses whatever
the contract would refuse.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

from sequencer.settlement.batch import HEADER_BYTES
from sequencer.settlement.encoding import SIGNATURE_BYTES, add_keys, expand_key, expand_signature

MAX_MEMBERS: Final = 128
"""The largest committee the contract takes: its keys must fit the code of one account."""

MAX_BITMAP_BYTES: Final = MAX_MEMBERS // 8

_WORD: Final = 32
_SIGNATURE_AT: Final = HEADER_BYTES + _WORD
_BITMAP_AT: Final = _SIGNATURE_AT + SIGNATURE_BYTES + _WORD
_DATA_AT: Final = _BITMAP_AT + 2 * _WORD
_WEIGHT_SHIFT: Final = 128


@dataclass(frozen=True, slots=True)
class ContractArtifact:
    """The compiled contract; `bytecode` is the creation code without constructor arguments."""

    abi: list[dict[str, Any]]
    bytecode: bytes
    compiler: str
    source_sha256: str


class PostBatchCall(NamedTuple):
    """The arguments of `post_batch`: header and data as they were signed, the bitmap as in the
    certificate, the signature as 256 EIP-2537 bytes."""

    header: bytes
    bitmap: bytes
    signature: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class BatchPosted:
    """The event of an accepted batch; `poster` is the sender's address, 20 bytes."""

    number: int
    epoch: int
    first_position: int
    last_position: int
    log_root: bytes
    data_hash: bytes
    poster: bytes


@cache
def load_contract() -> ContractArtifact:
    """The artifact that ships with this package."""
    text = resources.files("sequencer.settlement.contracts").joinpath("Sequencer.json").read_text()
    stored = json.loads(text)
    return ContractArtifact(
        abi=stored["abi"],
        bytecode=bytes.fromhex(stored["bytecode"].removeprefix("0x")),
        compiler=stored["compiler"],
        source_sha256=stored["source_sha256"],
    )


def encode_constructor(
    chain_id: bytes, epoch: int, keys: Sequence[bytes], weights: Sequence[int]
) -> bytes:
    """Constructor arguments: append them to the bytecode to deploy.

    `chain_id` is the digest of the genesis core (32 bytes), `keys` are the members' compressed
    keys (48 bytes each) in committee order.  Raises ValueError.
    """
    from eth_abi.abi import encode

    if not 1 <= len(keys) == len(weights) <= MAX_MEMBERS:
        raise ValueError(f"the contract takes 1 to {MAX_MEMBERS} members, each with a weight")
    if len(set(keys)) != len(keys):
        raise ValueError("two members have the same key")
    types = ["bytes32", "uint256[4][]", "uint64[]", "uint64"]
    return encode(types, [chain_id, [_key_words(key) for key in keys], list(weights), epoch])


def committee_digest(keys: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """What the contract's `committee_digest()` answers for this committee (32 bytes)."""
    from eth_abi.abi import encode
    from eth_hash.auto import keccak

    total = sum(weights)
    records = [[len(keys), total, 2 * total // 3 + 1, 0], _key_words(add_keys(keys))]
    for key, weight in zip(keys, weights, strict=True):
        first, *rest = _key_words(key)
        records.append([first | weight << _WEIGHT_SHIFT, *rest])
    return keccak(b"\0" + encode(["uint256[4][]"], [records]))


def post_batch_calldata(header: bytes, bitmap: bytes, signature: bytes, data: bytes) -> bytes:
    """The transaction input that posts a batch.  Raises ValueError.

    `header` is `BatchHeader.encode()`, `bitmap` and `signature` (96 bytes compressed) are those of
    the certificate, `data` are the bytes that the header names.
    """
    if len(header) != HEADER_BYTES or not 1 <= len(bitmap) <= MAX_BITMAP_BYTES:
        raise ValueError("header or bitmap has the wrong length")
    return b"".join(
        (
            _selector("post_batch"),
            header,
            _word(_BITMAP_AT),
            expand_signature(signature),
            _word(_DATA_AT),
            _word(len(bitmap)),
            _padded(bitmap),
            _word(len(data)),
            _padded(data),
        )
    )


def decode_post_batch(calldata: bytes) -> PostBatchCall:
    """The arguments in a transaction input that the contract accepted; ValueError for others."""
    arguments = calldata[4:]
    if calldata[:4] != _selector("post_batch") or len(arguments) < _DATA_AT + _WORD:
        raise ValueError("not a call of post_batch")
    bitmap_size = _number(arguments, _BITMAP_AT)
    data_size = _number(arguments, _DATA_AT)
    if (
        _number(arguments, HEADER_BYTES) != _BITMAP_AT
        or _number(arguments, _BITMAP_AT - _WORD) != _DATA_AT
        or not 1 <= bitmap_size <= MAX_BITMAP_BYTES
        or len(arguments) != _DATA_AT + _WORD + data_size + -data_size % _WORD
    ):
        raise ValueError("arguments are not canonical")
    bitmap_start, data_start = _BITMAP_AT + _WORD, _DATA_AT + _WORD
    return PostBatchCall(
        header=arguments[:HEADER_BYTES],
        bitmap=arguments[bitmap_start : bitmap_start + bitmap_size],
        signature=arguments[_SIGNATURE_AT : _SIGNATURE_AT + SIGNATURE_BYTES],
        data=arguments[data_start : data_start + data_size],
    )


def view_calldata(name: str) -> bytes:
    """The input of a call of a view without arguments; its answer is one 32-byte word."""
    return _selector(name)


@cache
def batch_posted_topic() -> bytes:
    """The first topic of the event of an accepted batch; the second is its number, as a word."""
    return _hash_signature("event", "BatchPosted")


def decode_batch_posted(topics: Sequence[bytes], data: bytes) -> BatchPosted:
    """The event in a log entry of the contract.  Raises ValueError for another one."""
    if len(topics) != 2 or topics[0] != batch_posted_topic() or len(data) != 6 * _WORD:
        raise ValueError("not a BatchPosted event")
    return BatchPosted(
        number=int.from_bytes(topics[1], "big"),
        epoch=_number(data, 0),
        first_position=_number(data, 32),
        last_position=_number(data, 64),
        log_root=data[96:128],
        data_hash=data[128:160],
        poster=data[172:192],
    )


def decode_revert(data: bytes) -> str:
    """What a failed call says: the contract's error, a reason, or the bytes in hex; "" for none."""
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    selector = data[:4]
    if selector == b"\x08\xc3\x79\xa0":  # Error(string)
        try:
            (reason,) = decode(["string"], data[4:])
        except (DecodingError, UnicodeDecodeError, OverflowError):
            return data.hex()
        return str(reason)
    return _errors().get(selector, data.hex())


def _key_words(compressed: bytes) -> list[int]:
    key = expand_key(compressed)
    return [_number(key, at) for at in range(0, len(key), _WORD)]


def _word(number: int) -> bytes:
    return number.to_bytes(_WORD, "big")


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + _WORD], "big")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _WORD)


@cache
def _selector(name: str) -> bytes:
    return _hash_signature("function", name)[:4]


@cache
def _errors() -> dict[bytes, str]:
    names = [entry["name"] for entry in load_contract().abi if entry["type"] == "error"]
    return {_hash_signature("error", name)[:4]: name for name in names}


def _hash_signature(kind: str, name: str) -> bytes:
    from eth_hash.auto import keccak

    for entry in load_contract().abi:
        if entry["type"] == kind and entry["name"] == name:
            types = ",".join(map(_type_name, entry["inputs"]))
            return keccak(f"{name}({types})".encode())
    raise KeyError(name)


def _type_name(argument: dict[str, Any]) -> str:
    if argument["type"].startswith("tuple"):
        fields = ",".join(map(_type_name, argument["components"]))
        return f"({fields})" + str(argument["type"][len("tuple") :])
    return str(argument["type"])
