"""`POST /submit`: many transactions in one binary body, for those who send thousands a second.

Body: for each transaction `u64 namespace | u32 length | bytes`, big-endian, one after the other.
All of them are taken, or none and the answer says which one is at fault.

Answer 200: the transaction ids in the order of the body, 32 bytes each; with `Accept:
application/json` `{"ids": ["0x..", ..]}`; with `Prefer: return=minimal` 204 and nothing at all.
Errors are JSON, `{"error": {"code", "message", "data"}}`: 400 (malformed or not admitted, `data`
has the `index`), 413 (too large), 429 (the pool is full: `Retry-After` and `retry_after_ms`), 503.
"""

import asyncio
from struct import Struct
from typing import TYPE_CHECKING, Final

from sequencer.collection import transaction_id
from sequencer.rpc.jsonrpc import INVALID_PARAMS, RpcError
from sequencer.rpc.limits import Limits

if TYPE_CHECKING:
    from sequencer.rpc.admission import Admission

_HEAD: Final = Struct(">QI")

HASHES_BETWEEN_YIELDS: Final = 1_024
"""Ids computed in a row (some 2 ms at 512 bytes) before others get the event loop."""


def encode_submission(transactions: list[tuple[int, bytes]]) -> bytes:
    """The body that carries these (namespace, bytes)."""
    parts: list[bytes] = []
    for namespace, transaction in transactions:
        parts += (_HEAD.pack(namespace, len(transaction)), transaction)
    return b"".join(parts)


def decode_submission(body: bytes, limits: Limits) -> list[tuple[int, bytes]]:
    """The (namespace, bytes) of one body.  Raises RpcError."""
    transactions: list[tuple[int, bytes]] = []
    offset, end, head = 0, len(body), _HEAD.size
    while offset < end:
        if end - offset < head:
            raise _malformed(len(transactions), "the body ends inside a length")
        namespace, length = _HEAD.unpack_from(body, offset)
        offset += head
        if length > end - offset:
            raise _malformed(len(transactions), "the body ends inside a transaction")
        transactions.append((namespace, body[offset : offset + length]))
        offset += length
    if not transactions:
        raise _malformed(0, "the body holds no transaction")
    if len(transactions) > limits.submit_transactions:
        most = limits.submit_transactions
        raise _malformed(most, f"{len(transactions)} transactions, want at most {most}")
    return transactions


def _malformed(index: int, reason: str) -> RpcError:
    return RpcError(INVALID_PARAMS, reason, {"index": index})


async def transaction_ids(transactions: list[tuple[int, bytes]]) -> list[bytes]:
    """The id of each (namespace, bytes), computed without holding the event loop for long."""
    ids: list[bytes] = []
    for start in range(0, len(transactions), HASHES_BETWEEN_YIELDS):
        if start:
            await asyncio.sleep(0)
        part = transactions[start : start + HASHES_BETWEEN_YIELDS]
        ids += [transaction_id(namespace, transaction) for namespace, transaction in part]
    return ids


async def take_submission(
    body: bytes, admission: "Admission", limits: Limits
) -> list[tuple[int, bytes]]:
    """Decode, admit and submit one body; returns its transactions.  Raises RpcError."""
    transactions = decode_submission(body, limits)
    await admission.take_all(transactions)
    return transactions
