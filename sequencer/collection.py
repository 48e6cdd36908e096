"""Collections: the transactions one node sealed together, known by their Merkle root.

Encoded: `count u32`, then per transaction `namespace u64, length u32, bytes`, big-endian. The
digest is an RFC 6962 style tree over the transactions in order: a leaf is
`sha256(0x00 || namespace u64 || transaction)`, an inner node `sha256(0x01 || left || right)`, and
a node without a sibling moves up unchanged, which gives RFC 6962's tree for every count. The
digest is `sha256(0x02 || count u32 || top of the tree)`: without the count in it, a proof could
name another index for the same leaf.

A leaf is also the transaction's id: it is computed once per node, when the digest is checked, and
used by everything that comes after. This is the hot path of the whole program, hence plain loops
over bytes and offsets and no object per transaction.
"""

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct

from consensus.errors import InvalidMessage
from consensus.rules import Rules

COUNT_BYTES = 4
HEADER_BYTES = 12
_HEADER = Struct(">QI")
_LEAF = b"\0"
_INNER = b"\1"
_ROOT = b"\2"


def transaction_id(namespace: int, transaction: bytes) -> bytes:
    """What a transaction is known by, 32 bytes: its leaf in every tree it stands in."""
    return sha256(_LEAF + namespace.to_bytes(8, "big") + transaction).digest()


class Collection:
    """One sealed collection; immutable.

    digest  Merkle root, 32 bytes
    data    the encoded bytes
    count   transactions in it, at least 1
    leaves  the ids of the transactions, in order
    """

    __slots__ = ("count", "data", "digest", "leaves")

    def __init__(self, data: bytes, leaves: tuple[bytes, ...]) -> None:
        self.data = data
        self.leaves = leaves
        self.count = len(leaves)
        self.digest = _root(leaves)

    @classmethod
    def seal(cls, transactions: Sequence[tuple[int, bytes]]) -> "Collection":
        """A collection of these (namespace, bytes), at least one; the sealer keeps the bounds."""
        if not transactions:
            raise ValueError("a collection holds at least one transaction")
        parts = [len(transactions).to_bytes(COUNT_BYTES, "big")]
        for namespace, transaction in transactions:
            parts.append(_HEADER.pack(namespace, len(transaction)))
            parts.append(transaction)
        leaves = tuple([transaction_id(*transaction) for transaction in transactions])
        return cls(b"".join(parts), leaves)

    @classmethod
    def decode(cls, data: bytes, rules: Rules) -> "Collection":
        """The collection with these bytes; `InvalidMessage` if empty, oversized or malformed."""
        if len(data) > rules.max_collection_bytes:
            raise InvalidMessage(
                f"collection of {len(data)} bytes where {rules.max_collection_bytes} are allowed"
            )
        return cls(data, tuple(_read_leaves(data, rules.max_transaction_bytes)))

    def transactions(self) -> list[tuple[int, bytes]]:
        """Every (namespace, bytes), in order."""
        return read_transactions(self.data)

    def path(self, index: int) -> list[bytes]:
        """The siblings from leaf `index` up to the root: what `verify_path` needs."""
        return merkle_path(self.leaves, index)


def read_transactions(data: bytes) -> list[tuple[int, bytes]]:
    """Every (namespace, bytes) in the encoded bytes of a collection that was checked before."""
    unpack = _HEADER.unpack_from
    found = []
    start = COUNT_BYTES
    while start < len(data):
        namespace, length = unpack(data, start)
        start += HEADER_BYTES + length
        found.append((namespace, data[start - length : start]))
    return found


def _read_leaves(data: bytes, max_transaction_bytes: int) -> list[bytes]:
    """The ids of the transactions in encoded bytes that are exactly one collection."""
    size = len(data)
    count = int.from_bytes(data[:COUNT_BYTES], "big")
    if size < COUNT_BYTES or not 1 <= count <= (size - COUNT_BYTES) // HEADER_BYTES:
        raise InvalidMessage("collection is empty or shorter than its count says")
    unpack, digest = _HEADER.unpack_from, sha256
    leaves = []
    start = COUNT_BYTES
    for _ in range(count):
        body = start + HEADER_BYTES
        if body > size:
            raise InvalidMessage("collection ends early")
        length = unpack(data, start)[1]
        if length > max_transaction_bytes:
            raise InvalidMessage(
                f"transaction of {length} bytes where {max_transaction_bytes} are allowed"
            )
        leaves.append(digest(_LEAF + data[start : start + 8] + data[body : body + length]).digest())
        start = body + length
    if start != size:
        raise InvalidMessage("collection is not as long as its transactions")
    return leaves


def _level_above(nodes: Sequence[bytes]) -> list[bytes]:
    digest = sha256
    above = [
        digest(_INNER + nodes[left] + nodes[left + 1]).digest()
        for left in range(0, len(nodes) - 1, 2)
    ]
    if len(nodes) & 1:
        above.append(nodes[-1])
    return above


def _root(leaves: Sequence[bytes]) -> bytes:
    nodes = leaves
    while len(nodes) > 1:
        nodes = _level_above(nodes)
    return _with_count(len(leaves), nodes[0])


def _with_count(count: int, top: bytes) -> bytes:
    return sha256(_ROOT + count.to_bytes(COUNT_BYTES, "big") + top).digest()


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings of leaf `index`, lowest first; levels where it has none are left out."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    path, nodes = [], leaves
    while len(nodes) > 1:
        sibling = index ^ 1
        if sibling < len(nodes):
            path.append(nodes[sibling])
        nodes = _level_above(nodes)
        index >>= 1
    return path


def verify_path(leaf: bytes, index: int, count: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under `root`."""
    if not 0 <= index < count < 1 << 8 * COUNT_BYTES:
        return False
    node, width, used = leaf, count, 0
    while width > 1:
        sibling = index ^ 1
        if sibling < width:
            if used == len(path):
                return False
            pair = (path[used], node) if index & 1 else (node, path[used])
            node = sha256(_INNER + pair[0] + pair[1]).digest()
            used += 1
        width = (width + 1) // 2
        index >>= 1
    return used == len(path) and _with_count(count, node) == root
