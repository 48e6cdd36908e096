"""A log that begins with what stands on the L1: derived, and bound to the blocks of the committee.

The L1 has every certified batch, so it alone says what was ordered, in which order and at which
height, and who is in the committee. It does not have the blocks: from which one a node goes on, it
is told by any running node, with headers and a proof. Nobody is trusted with either: batches and
proof carry the signatures of committees that are followed from the genesis on, and a committee of
which the L1 knows has to be the same there. Keys that left the committee cannot forge the log. If
they left since the newest batch, they could forge the header that it is bound to; nothing that the
present committee orders follows such a header, so the node would stand still there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from consensus.bls import Crypto
from consensus.codec import decode_whole, u64
from consensus.epochs import EpochChange
from consensus.errors import InvalidMessage
from consensus.types import Block, CommitProof
from sequencer.bootstrap import Began, Bootstrap, BootstrapError
from sequencer.settlement.derive import (
    MAX_SPAN_BLOCKS,
    BlobSource,
    PostedLog,
    Progress,
    derive_batches,
)
from sequencer.store.schema import Table
from sequencer.stored_batch import StoredBatch

if TYPE_CHECKING:
    from sequencer.genesis import Genesis
    from sequencer.settlement.client import L1Block, SettlementClient
    from sequencer.store.seam import Store

MAX_EPOCHS: Final = 1 << 16
"""Ends of epochs that a node may tell."""
MAX_HEX_BYTES: Final = 1 << 20
"""One header, proof or end of an epoch."""


class Asking(Protocol):
    """A running node, as `sequencer.client.SequencerClient` reaches it; it is not trusted."""

    async def call(self, method: str, *params: Any) -> Any:
        """The result of a call."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the parts come from: the L1, the blobs of its batches, and a running node."""

    l1: "SettlementClient"
    blobs: BlobSource | None
    node: Asking


async def begin_from_l1(
    sources: Sources,
    store: "Store",
    genesis: "Genesis",
    crypto: Crypto,
    progress: Progress | None = None,
) -> Began:
    """Fill an empty store with the log that the L1 holds up to its head.

    `BootstrapError` where the parts do not fit, `DerivationError` and `SettlementError` as
    `derive_batches`; the store is then to be thrown away.
    """
    bootstrap = Bootstrap(store, genesis, crypto)
    source, last = PostedLog.of(genesis), await sources.l1.head()
    changes = await _changes(sources.node, genesis.committee.epoch)
    _require_same(changes, await _committees(sources.l1, source, last))
    for change in changes:
        bootstrap.add_change(change)
    async for batch in derive_batches(
        sources.l1, source, until=last, crypto=crypto, progress=progress, blobs=sources.blobs
    ):
        bootstrap.add_batch(
            StoredBatch(batch.header.encode(), batch.data, batch.signers, batch.signature)
        )
    base = bootstrap.base_height
    if base == 0:
        return bootstrap.finish(None)
    for block in await _headers(sources.node, bootstrap.first_header, base):
        bootstrap.add_block(block)
    links, proof = await _proof(sources.node, base)
    return bootstrap.finish(proof, links)


async def require_committees(
    client: "SettlementClient", store: "Store", genesis: "Genesis"
) -> None:
    """`BootstrapError` unless the committees in a store are those that the contract has had, up to
    its present one.

    Keys that left a committee long ago can sign another past for somebody who looks at signatures
    alone; the contract remembers.
    """
    known = await _committees(client, PostedLog.of(genesis), await client.head())
    changes: list[EpochChange] = []
    while value := store.get(Table.EPOCHS, u64(genesis.committee.epoch + len(changes) + 1)):
        changes.append(EpochChange.decode(value))
    _require_same(changes, known)
    epoch = genesis.committee.epoch + len(changes)
    if max(known, default=epoch) > epoch:
        raise BootstrapError(
            f"it ends in epoch {epoch}, and the L1 is in epoch {max(known)} already: whoever "
            "signed it may have left since; fetch a newer one"
        )


def _require_same(changes: Sequence[EpochChange], known: Mapping[int, bytes]) -> None:
    for change in changes:
        epoch, digest = change.committee.epoch, change.committee.digest
        if known.get(epoch, digest) != digest:
            raise BootstrapError(f"the committee of epoch {epoch} is another one on the L1")


async def _committees(
    client: "SettlementClient", source: PostedLog, last: "L1Block"
) -> dict[int, bytes]:
    """Digests of the committees that the contract has had, by epoch."""
    found: dict[int, bytes] = {}
    for first in range(source.deploy_block, last.number + 1, MAX_SPAN_BLOCKS):
        end = min(first + MAX_SPAN_BLOCKS - 1, last.number)
        for handover in await client.handovers(first, end):
            found[handover.committee.epoch] = handover.committee.digest
    return found


async def _changes(node: Asking, epoch: int) -> list[EpochChange]:
    """How every epoch ended that the node knows of."""
    found: list[EpochChange] = []
    while len(found) < MAX_EPOCHS:
        answer = _list(await node.call("seq_getEpochs", epoch + len(found)))
        if not answer:
            break
        found += [_decoded(EpochChange.read, item) for item in answer]
    return found


async def _headers(node: Asking, first: int, last: int) -> list[Block]:
    found: list[Block] = []
    while first + len(found) <= last:
        answer = _list(await node.call("seq_getHeaders", first + len(found), last))
        if not answer:
            raise BootstrapError(
                f"the node does not have the headers from height {first} to {last} yet; ask another"
            )
        found += [_decoded(Block.read, item) for item in answer]
    return found


async def _proof(node: Asking, height: int) -> tuple[list[Block], CommitProof]:
    """The headers above a height up to one that is proved, and that proof."""
    answer = await node.call("seq_getProof", height)
    if not isinstance(answer, dict):
        raise BootstrapError(f"the node has no proof above height {height} yet; ask another")
    links = [_decoded(Block.read, item) for item in _list(answer.get("headers"))]
    return links, _decoded(CommitProof.read, answer.get("proof"))


def _list(answer: object) -> Sequence[object]:
    if not isinstance(answer, list):
        raise BootstrapError("the node answers something else than what was asked for")
    return answer


def _decoded(read: Any, item: object) -> Any:
    """What canonical bytes in hex hold."""
    if not isinstance(item, str) or len(item) > 2 * MAX_HEX_BYTES:
        raise BootstrapError("the node answers something else than what was asked for")
    try:
        return decode_whole(bytes.fromhex(item.removeprefix("0x")), read)
    except (ValueError, InvalidMessage) as error:
        raise BootstrapError(f"the node answers bytes that cannot be read: {error}") from None
