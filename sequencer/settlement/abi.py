"""Talking to the contract: its shipped ABI and bytecode, calls, events and errors as bytes.

`post_batch` has one canonical encoding, and the contract accepts no other.  Its arguments are

    header (15 words) | offset of the bitmap | signature (8 words) | offset of the data
    bitmap: length, one padded word | data: length, padded words

so a transaction input is built and read here by position; `decode_post_batch` refuses whatever
the contract would refuse.  `post_blobs` has the number of blobs where the offset of the data is,
and nothing after the bitmap.  The registry's part of the contract is in `registry_abi`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

from sequencer.settlement.batch import HEADER_BYTES
from sequencer.settlement.blobs import MAX_BLOBS
from sequencer.settlement.encoding import SIGNATURE_BYTES, expand_key, expand_signature

MAX_MEMBERS: Final = 128
"""The largest committee the contract takes: its keys must fit the code of one account."""

MAX_BITMAP_BYTES: Final = MAX_MEMBERS // 8

ADDRESS_BYTES: Final = 20

_WORD: Final = 32
_SIGNATURE_AT: Final = HEADER_BYTES + _WORD
_BITMAP_AT: Final = _SIGNATURE_AT + SIGNATURE_BYTES + _WORD
_DATA_AT: Final = _BITMAP_AT + 2 * _WORD


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


class PostBlobsCall(NamedTuple):
    """The arguments of `post_blobs`: as of `post_batch`, and in how many blobs the data is."""

    header: bytes
    bitmap: bytes
    signature: bytes
    blobs: int


@dataclass(frozen=True, slots=True)
class BatchPosted:
    """The event of an accepted batch; `poster` is the sender's address, 20 bytes, and `blobs` says
    how many blobs hold its bytes: 0 if they are calldata."""

    number: int
    epoch: int
    first_position: int
    last_position: int
    log_root: bytes
    data_hash: bytes
    poster: bytes
    blobs: int = 0


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


def post_batch_calldata(header: bytes, bitmap: bytes, signature: bytes, data: bytes) -> bytes:
    """The transaction input that posts a batch.  Raises ValueError.

    `header` is `BatchHeader.encode()`, `bitmap` and `signature` (96 bytes compressed) are those of
    the certificate, `data` are the bytes that the header names.
    """
    head = _head("post_batch", header, bitmap, signature, _DATA_AT)
    return b"".join((head, word(len(data)), _padded(data)))


def post_blobs_calldata(header: bytes, bitmap: bytes, signature: bytes, blobs: int) -> bytes:
    """The input of the transaction that posts a batch in its `blobs`; see `post_batch_calldata`."""
    if not 1 <= blobs <= MAX_BLOBS:
        raise ValueError(f"a batch goes into 1 to {MAX_BLOBS} blobs")
    return _head("post_blobs", header, bitmap, signature, blobs)


def _head(name: str, header: bytes, bitmap: bytes, signature: bytes, last: int) -> bytes:
    """Selector and arguments up to the bitmap, its bytes included."""
    if len(header) != HEADER_BYTES or not 1 <= len(bitmap) <= MAX_BITMAP_BYTES:
        raise ValueError("header or bitmap has the wrong length")
    return b"".join(
        (
            selector(name),
            header,
            word(_BITMAP_AT),
            expand_signature(signature),
            word(last),
            word(len(bitmap)),
            _padded(bitmap),
        )
    )


def decode_post_batch(calldata: bytes) -> PostBatchCall:
    """The arguments in a transaction input that the contract accepted; ValueError for others."""
    arguments = calldata[4:]
    if calldata[:4] != selector("post_batch") or len(arguments) < _DATA_AT + _WORD:
        raise ValueError("not a call of post_batch")
    bitmap_size = number(arguments, _BITMAP_AT)
    data_size = number(arguments, _DATA_AT)
    if (
        number(arguments, HEADER_BYTES) != _BITMAP_AT
        or number(arguments, _BITMAP_AT - _WORD) != _DATA_AT
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


def decode_post_blobs(calldata: bytes) -> PostBlobsCall:
    """The arguments in a transaction input that the contract accepted; ValueError for others."""
    arguments = calldata[4:]
    if calldata[:4] != selector("post_blobs") or len(arguments) != _DATA_AT:
        raise ValueError("not a call of post_blobs")
    bitmap_size, blobs = number(arguments, _BITMAP_AT), number(arguments, _BITMAP_AT - _WORD)
    if (
        number(arguments, HEADER_BYTES) != _BITMAP_AT
        or not 1 <= bitmap_size <= MAX_BITMAP_BYTES
        or not 1 <= blobs <= MAX_BLOBS
    ):
        raise ValueError("arguments are not canonical")
    bitmap_start = _BITMAP_AT + _WORD
    return PostBlobsCall(
        header=arguments[:HEADER_BYTES],
        bitmap=arguments[bitmap_start : bitmap_start + bitmap_size],
        signature=arguments[_SIGNATURE_AT : _SIGNATURE_AT + SIGNATURE_BYTES],
        blobs=blobs,
    )


def view_calldata(name: str) -> bytes:
    """The input of a call of a view without arguments; its answer is one 32-byte word."""
    return selector(name)


def batch_posted_topic() -> bytes:
    """The first topic of the event of an accepted batch; the second is its number, as a word."""
    return event_topic("BatchPosted")


def decode_batch_posted(topics: Sequence[bytes], data: bytes) -> BatchPosted:
    """The event in a log entry of the contract.  Raises ValueError for another one."""
    known = len(topics) == 2 and topics[0] == batch_posted_topic()
    if not known or len(data) != 7 * _WORD or any(data[192:223]):
        raise ValueError("not a BatchPosted event")
    return BatchPosted(
        number=int.from_bytes(topics[1], "big"),
        epoch=number(data, 0),
        first_position=number(data, 32),
        last_position=number(data, 64),
        log_root=data[96:128],
        data_hash=data[128:160],
        poster=data[172:192],
        blobs=data[223],
    )


def decode_revert(data: bytes) -> str:
    """What a failed call says: the contract's error, a reason, or the bytes in hex; "" for none."""
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    if data[:4] == b"\x08\xc3\x79\xa0":  # Error(string)
        try:
            (reason,) = decode(["string"], data[4:])
        except (DecodingError, UnicodeDecodeError, OverflowError):
            return data.hex()
        return str(reason)
    return _errors().get(data[:4], data.hex())


def key_words(compressed: bytes) -> list[int]:
    """A 48-byte key as the four words of an EIP-2537 point.  Raises ValueError."""
    key = expand_key(compressed)
    return [number(key, at) for at in range(0, len(key), _WORD)]


def word(value: int) -> bytes:
    """A number as an ABI word; OverflowError above 256 bits."""
    return value.to_bytes(_WORD, "big")


def number(data: bytes, at: int) -> int:
    """The number in the word at this position, zero behind the end."""
    return int.from_bytes(data[at : at + _WORD], "big")


@cache
def selector(name: str) -> bytes:
    """The first four bytes of a call of this function."""
    return _hash_signature("function", name)[:4]


@cache
def event_topic(name: str) -> bytes:
    """The first topic of this event."""
    return _hash_signature("event", name)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _WORD)


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
