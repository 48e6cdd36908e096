"""Receipts: the proof that a transaction is ordered, for anyone who has the genesis.

A receipt leads from the transaction to signatures of the committee: its leaf and the path to the
digest of its collection, the block that orders this collection, the headers from there up to a
block that is proved final, and that proof. A block's id covers its parent, so a quorum's signature
over one block is over all its ancestors. `epochs` leads from the committee of the genesis to that
which signed: how each epoch before ended, signed by its own committee (`consensus.epochs`).

`index` and `position` are the place in the log after repetitions were dropped. They follow from the
whole log before, which a receipt does not carry: they are what the node says, not what is proved.
So is `settlement`: the batch, and the L1 transaction that posted it; null while there is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from consensus.bls import BlsCrypto, Crypto
from consensus.codec import decode_whole
from consensus.committee import Committee
from consensus.epochs import EpochChange, follow
from consensus.errors import InvalidMessage
from consensus.lightclient import verify_commit_proof
from consensus.types import Block, CommitProof
from sequencer.collection import transaction_id, verify_path
from sequencer.genesis import Genesis
from sequencer.ledger import Ledger, Location

VERSION: Final = 1
MAX_HEADERS: Final = 256
MAX_PATH: Final = 32
MAX_EPOCHS: Final = 65_536
MAX_HEX_BYTES: Final = 4 * 1024 * 1024
"""The largest single value in a receipt, as bytes."""

_KEYS: Final = (
    "version",
    "chain_id",
    "namespace",
    "transaction",
    "id",
    "height",
    "index",
    "position",
    "collection",
    "headers",
    "proof",
    "epochs",
    "settlement",
)
_COLLECTION_KEYS: Final = ("digest", "place", "index", "count", "path")


class InvalidReceipt(Exception):
    """Why a receipt proves nothing, in a sentence."""


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proves: this transaction stands there in a final block.

    place, collection_index  its collection in the block, and its place in that collection
    index, position          of its entry in the block and the log: told by the node, not proved
    epoch                    whose committee signed
    """

    namespace: int
    transaction: bytes
    id: bytes
    height: int
    timestamp_ms: int
    place: int
    collection_index: int
    index: int
    position: int
    epoch: int


Changes = Callable[[int, int], Sequence[EpochChange]]
"""How an epoch and those after it ended, oldest first, at most so many."""


def build_receipt(
    ledger: Ledger,
    genesis: Genesis,
    tx_hash: bytes,
    namespace: int | None = None,
    changes: Changes = lambda _epoch, _most: (),
) -> dict[str, Any] | None:
    """The receipt of a transaction known by its id or Ethereum hash, JSON-able.

    None while it is not in the log, or too far from the next proof.
    """
    location = ledger.locate(tx_hash, namespace)
    if location is None:
        return None
    proved = ledger.proof_at_or_after(location.height)
    if proved is None or proved[0] - location.height >= MAX_HEADERS:
        return None
    blocks = [ledger.block(height) for height in range(location.height, proved[0] + 1)]
    assert blocks[0] is not None
    first, last = genesis.committee.epoch, blocks[0].epoch
    return {
        "version": VERSION,
        "chain_id": genesis.chain_id.hex(),
        "namespace": location.namespace,
        "transaction": ledger.transaction(location).hex(),
        "id": location.id.hex(),
        "height": location.height,
        "index": location.index,
        "position": location.position,
        "collection": _collection(ledger, blocks[0], location),
        "headers": [block.encode().hex() for block in blocks if block is not None],
        "proof": proved[1].encode().hex(),
        "epochs": [change.encode().hex() for change in changes(first, last - first)],
        "settlement": None,
    }


def _collection(ledger: Ledger, block: Block | None, location: Location) -> dict[str, Any]:
    assert block is not None
    digest = block.collections[location.place]
    collection = ledger.collection(digest)
    assert collection is not None
    return {
        "digest": digest.hex(),
        "place": location.place,
        "index": location.collection_index,
        "count": collection.count,
        "path": [node.hex() for node in collection.path(location.collection_index)],
    }


def verify_receipt(
    receipt: object, genesis: Genesis, crypto: Crypto | None = None
) -> VerifiedReceipt:
    """What the receipt proves to somebody who trusts the genesis; `InvalidReceipt` if nothing."""
    fields = _table(receipt, _KEYS, "the receipt")
    if fields["version"] != VERSION:
        raise InvalidReceipt(f"it has version {fields['version']!r}, this reads {VERSION}")
    if _bytes(fields["chain_id"], "chain_id", 32) != genesis.chain_id:
        raise InvalidReceipt("it is of another chain than the genesis")
    namespace = _number(fields["namespace"], "namespace")
    transaction = _bytes(fields["transaction"], "transaction")
    id = transaction_id(namespace, transaction)
    if _bytes(fields["id"], "id", 32) != id:
        raise InvalidReceipt("its id is not that of its transaction")
    digest, place, collection_index = _check_path(fields["collection"], id)
    crypto = crypto if crypto is not None else BlsCrypto()
    committee = _follow(fields["epochs"], genesis, crypto)
    block = _check_final(fields, genesis.chain_id, committee, crypto)
    if block.height != _number(fields["height"], "height"):
        raise InvalidReceipt("its height is not that of its block")
    if place >= len(block.collections) or block.collections[place] != digest:
        raise InvalidReceipt("its block does not order its collection at that place")
    return VerifiedReceipt(
        namespace,
        transaction,
        id,
        block.height,
        block.timestamp_ms,
        place,
        collection_index,
        _number(fields["index"], "index"),
        _number(fields["position"], "position"),
        block.epoch,
    )


def _follow(data: object, genesis: Genesis, crypto: Crypto) -> Committee:
    """The committee at the end of the chain of changes that a receipt carries."""
    encoded = _list(data, MAX_EPOCHS, "epochs")
    try:
        changes = [EpochChange.decode(_bytes(change, "epochs")) for change in encoded]
        return follow(genesis.committee, genesis.chain_id, changes, crypto)
    except InvalidMessage as error:
        raise InvalidReceipt(f"its changes of the committee are not proved: {error}") from None


def _check_path(data: object, id: bytes) -> tuple[bytes, int, int]:
    """Digest, place, and index in it, of a collection that the id is proved to be in."""
    fields = _table(data, _COLLECTION_KEYS, "collection")
    digest = _bytes(fields["digest"], "collection.digest", 32)
    index, count = (_number(fields[key], f"collection.{key}") for key in ("index", "count"))
    nodes = _list(fields["path"], MAX_PATH, "collection.path")
    path = [_bytes(node, "collection.path", 32) for node in nodes]
    if not verify_path(id, index, count, path, digest):
        raise InvalidReceipt("its path does not lead to the digest of its collection")
    return digest, _number(fields["place"], "collection.place"), index


def _check_final(
    fields: dict[str, Any], chain_id: bytes, committee: Committee, crypto: Crypto
) -> Block:
    """The first of the headers, once the last one is proved final and they form a chain."""
    encoded = _list(fields["headers"], MAX_HEADERS, "headers")
    if not encoded:
        raise InvalidReceipt("it has no headers")
    try:
        blocks = [Block.decode(_bytes(header, "headers")) for header in encoded]
        proof = decode_whole(_bytes(fields["proof"], "proof"), CommitProof.read)
        verify_commit_proof(committee, chain_id, proof, crypto)
    except InvalidMessage as error:
        raise InvalidReceipt(str(error)) from None
    for parent, child in pairwise(blocks):
        if child.parent_id != parent.id or child.height != parent.height + 1:
            raise InvalidReceipt("its headers are not a chain")
    if any(block.epoch != committee.epoch for block in blocks):
        raise InvalidReceipt("its headers are of another epoch than its last committee")
    if proof.block_id != blocks[-1].id:
        raise InvalidReceipt("its proof is of another block than the last of its headers")
    return blocks[0]


def _table(data: object, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(data, dict) or sorted(map(str, data)) != sorted(keys):
        raise InvalidReceipt(f"{where} has to be an object of {', '.join(keys)}")
    return data


def _list(data: object, most: int, where: str) -> list[Any]:
    if not isinstance(data, list) or len(data) > most:
        raise InvalidReceipt(f"{where} has to be a list of at most {most}")
    return data


def _number(data: object, where: str) -> int:
    if type(data) is not int or not 0 <= data < 1 << 64:
        raise InvalidReceipt(f"{where} has to be a number of 64 bits")
    return data


def _bytes(data: object, where: str, size: int | None = None) -> bytes:
    if isinstance(data, str) and len(data) <= 2 * MAX_HEX_BYTES:
        try:
            read = bytes.fromhex(data.removeprefix("0x"))
        except ValueError:
            read = None
        if read is not None and size in (None, len(read)):
            return read
    raise InvalidReceipt(f"{where} has to be {'' if size is None else f'{size} '}bytes in hex")
