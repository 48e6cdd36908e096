"""The log as its readers see it: one rollup's blocks for Ethereum clients, events for `seq_*`.

A rollup-view block has the height, id and time of a committed block, and of its transactions
those of one namespace; transaction indices count within that.  Nothing is executed here, so
roots are zero, gas is zero and a receipt's status 1 means "ordered".  Where there is no transaction
the roots of transactions and receipts are those of an empty trie: clients in Go compare them.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import rlp
from eth_hash.auto import keccak

from consensus.types import Block, genesis_block
from sequencer.block_entries import ID_BYTES, BlockEntries
from sequencer.history import Pruned
from sequencer.rpc.commits import Commits
from sequencer.rpc.envelope import ZERO_ADDRESS, data, describe, quantity
from sequencer.rpc.limits import Limits
from sequencer.rpc.senders import sender_of
from sequencer.service import NodeService
from sequencer.settlement.batch import GENESIS_LOG_ROOT
from sequencer.transaction import EthereumTransaction

if TYPE_CHECKING:
    from sequencer.ledger import AppliedBlock, Location

Item = TypeVar("Item")
Made = TypeVar("Made")

ZERO_HASH: Final = "0x" + "00" * 32
ZERO_BLOOM: Final = "0x" + "00" * 256
NO_UNCLES: Final = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
"""keccak-256 of an empty RLP list."""
EMPTY_TRIE: Final = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
"""keccak-256 of an empty RLP string: the root of a trie that holds nothing."""
GAS_LIMIT: Final = quantity(30_000_000)
"""What wallets see as the gas limit of a block; nothing is measured against it."""
ITEMS_BETWEEN_YIELDS: Final = 32
NO_ENTRIES: Final = BlockEntries(GENESIS_LOG_ROOT, 0, (), (), b"", ())


async def in_turns(make: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """`make` of every item, letting others have the event loop in between."""
    made: list[Made] = []
    for start in range(0, len(items), ITEMS_BETWEEN_YIELDS):
        if start:
            await asyncio.sleep(0)
        made += map(make, items[start : start + ITEMS_BETWEEN_YIELDS])
    return made


class View:
    """One committed block and its entries; `transactions` are their (namespace, bytes)."""

    def __init__(
        self, block: Block, row: BlockEntries, transactions: list[tuple[int, bytes]]
    ) -> None:
        self.block = block
        self.row = row
        self.transactions = transactions

    @cached_property
    def _aliases(self) -> dict[int, bytes]:
        return {index: alias[:ID_BYTES] for alias, index in self.row.aliases}

    def public_hash(self, index: int) -> bytes:
        """What clients ask for an entry by: its Ethereum hash if it has one, else its id."""
        return self._aliases.get(index) or self.row.id(index)

    def of(self, namespace: int) -> list[int]:
        """The indices of the entries of one namespace."""
        return [index for index, entry in enumerate(self.transactions) if entry[0] == namespace]

    def index_in(self, namespace: int, index: int) -> int:
        """How many entries of the namespace stand before index `index` of the block."""
        return sum(entry[0] == namespace for entry in self.transactions[:index])


class Views:
    """Blocks of the log, decoded; the last few are kept because many readers are at the head."""

    def __init__(self, service: NodeService, commits: Commits, limits: Limits) -> None:
        self._service = service
        self._commits = commits
        self._ledger = service.ledger
        self._most = limits.views
        self._views: OrderedDict[int, View] = OrderedDict()
        self._reading = asyncio.Lock()

    def at(self, height: int) -> View | None:
        """The committed block of this height; None above the head, `Pruned` below the base."""
        self.require(height)
        view = self._views.get(height)
        if view is None:
            view = self._load(height)
            if view is not None:
                self._keep(view)
        else:
            self._views.move_to_end(height)
        return view

    def require(self, height: int) -> None:
        """`Pruned` for a height that is no longer kept here."""
        if self._ledger.is_pruned(height):
            first = self._ledger.base.height + 1
            raise Pruned(f"this node keeps the log from height {first} on")

    def on_commit(self, applied: "AppliedBlock") -> None:
        """Keep a new block: whoever follows the log asks for it next."""
        self._keep(View(applied.block, applied.row, applied.transactions))

    def _keep(self, view: View) -> None:
        self._views[view.block.height] = view
        if len(self._views) > self._most:
            self._views.popitem(last=False)

    def _load(self, height: int) -> View | None:
        if height == 0:
            return View(genesis_block(self._service.genesis.chain_id), NO_ENTRIES, [])
        if height > self._commits.height:
            return None
        block, row = self._ledger.block(height), self._ledger.block_row(height)
        if block is None or row is None:
            return None
        entries = self._ledger.block_entries(height)
        return View(block, row, [(entry.namespace, entry.transaction) for entry in entries])

    def header(self, view: View, namespace: int) -> dict[str, Any]:
        """The fields of a rollup-view block but its transactions."""
        block = view.block
        sizes = [len(body) for owner, body in view.transactions if owner == namespace]
        root = ZERO_HASH if sizes else EMPTY_TRIE
        return {
            "number": quantity(block.height),
            "hash": data(block.id),
            "parentHash": data(block.parent_id),
            "nonce": "0x0000000000000000",
            "sha3Uncles": NO_UNCLES,
            "logsBloom": ZERO_BLOOM,
            "transactionsRoot": root,
            "stateRoot": ZERO_HASH,
            "receiptsRoot": root,
            "mixHash": ZERO_HASH,
            "miner": ZERO_ADDRESS,
            "difficulty": "0x0",
            "totalDifficulty": "0x0",
            "extraData": "0x",
            "size": quantity(len(block.encode()) + sum(sizes)),
            "gasLimit": GAS_LIMIT,
            "gasUsed": "0x0",
            "baseFeePerGas": quantity(self.base_fee(namespace)),
            "timestamp": quantity(block.timestamp_ms // 1_000),
        }

    def base_fee(self, namespace: int) -> int:
        """The fee floor of a namespace in wei a gas: what a transaction has to offer here."""
        settings = self._service.config.namespaces.get(namespace)
        return settings.min_fee_wei if settings else 0

    async def block(self, view: View, namespace: int, full: bool) -> dict[str, Any]:
        """A rollup-view block, with hashes or whole transactions."""
        indices = view.of(namespace)
        transactions: list[Any] = [data(view.public_hash(index)) for index in indices]
        if full:
            places = list(enumerate(indices))
            transactions = await in_turns(
                lambda place: self._placed_transaction(view, *place), places
            )
        return {**self.header(view, namespace), "transactions": transactions, "uncles": []}

    def transaction(self, location: "Location") -> dict[str, Any]:
        """An ordered transaction in its rollup's view."""
        view = self.at(location.height)
        assert view is not None
        index = view.index_in(location.namespace, location.index)
        return self._placed_transaction(view, index, location.index)

    def _placed_transaction(self, view: View, shown_index: int, index: int) -> dict[str, Any]:
        return {
            **self.pending_transaction(*view.transactions[index], view.public_hash(index)),
            "blockHash": data(view.block.id),
            "blockNumber": quantity(view.block.height),
            "transactionIndex": quantity(shown_index),
        }

    def pending_transaction(
        self, namespace: int, transaction: bytes, tx_hash: bytes
    ) -> dict[str, Any]:
        """A transaction that has no place yet."""
        return {
            **describe(transaction),
            "hash": data(tx_hash),
            "from": _sender(namespace, transaction),
            "blockHash": None,
            "blockNumber": None,
            "transactionIndex": None,
        }

    def transaction_at(self, view: View, namespace: int, shown_index: int) -> Any:
        """The transaction at an index of a rollup-view block; None if there are fewer."""
        indices = view.of(namespace)
        if shown_index >= len(indices):
            return None
        return self._placed_transaction(view, shown_index, indices[shown_index])

    def receipt(self, location: "Location") -> dict[str, Any]:
        """The receipt of an ordered transaction in its rollup's view."""
        view = self.at(location.height)
        assert view is not None
        index = view.index_in(location.namespace, location.index)
        return self._placed_receipt(view, index, location.index)

    async def receipts(self, view: View, namespace: int) -> list[dict[str, Any]]:
        """The receipts of a rollup-view block, in order."""
        places = list(enumerate(view.of(namespace)))
        return await in_turns(lambda place: self._placed_receipt(view, *place), places)

    def _placed_receipt(self, view: View, shown_index: int, index: int) -> dict[str, Any]:
        namespace, transaction = view.transactions[index]
        fields, found = describe(transaction), sender_of(namespace, transaction)
        return {
            "transactionHash": data(view.public_hash(index)),
            "transactionIndex": quantity(shown_index),
            "blockHash": data(view.block.id),
            "blockNumber": quantity(view.block.height),
            "from": data(found.sender) if found else ZERO_ADDRESS,
            "to": fields["to"],
            "type": fields["type"],
            "status": "0x1",
            "gasUsed": "0x0",
            "cumulativeGasUsed": "0x0",
            "effectiveGasPrice": self._price(namespace, found) if found else fields["gasPrice"],
            "contractAddress": _created(found) if found and not found.to else None,
            "logs": [],
            "logsBloom": ZERO_BLOOM,
        }

    def _price(self, namespace: int, transaction: EthereumTransaction) -> str:
        """What a gas costs at the fee floor, with the tip (EIP-1559)."""
        offered = self.base_fee(namespace) + transaction.max_priority_fee
        return quantity(min(transaction.max_fee, offered))

    async def read(self, height: int) -> View:
        """The committed block of a height that is not above the head, for readers of the past.

        All of them together take half of a core at most.
        """
        view = self._views.get(height)
        if view is not None:
            return view
        async with self._reading:
            started = time.perf_counter()
            view = self.at(height)
            assert view is not None
            await asyncio.sleep(time.perf_counter() - started)
        return view

    def header_renderer(self, namespace: int) -> Callable[[int], Awaitable[dict[str, Any]]]:
        """Heights to `newHeads` events."""

        async def render(height: int) -> dict[str, Any]:
            return self.header(await self.read(height), namespace)

        return render

    def event_renderer(
        self, namespace: int | None, bodies: bool
    ) -> Callable[[int], Awaitable[dict[str, Any]]]:
        """Heights to `seq_subscribe` events: with `bodies` the transactions, else their ids."""

        async def render(height: int) -> dict[str, Any]:
            return await self._event(await self.read(height), namespace, bodies)

        return render

    async def _event(self, view: View, namespace: int | None, bodies: bool) -> dict[str, Any]:
        count = len(view.transactions)
        indices = range(count) if namespace is None else view.of(namespace)

        def with_body(index: int) -> dict[str, Any]:
            owner, transaction = view.transactions[index]
            return {
                "id": data(view.row.id(index)),
                "index": index,
                "position": view.row.first_position + index,
                "namespace": owner,
                "transaction": data(transaction),
            }

        def id_only(index: int) -> str:
            return data(view.row.id(index))

        return {
            "height": view.block.height,
            "block_id": data(view.block.id),
            "timestamp_ms": view.block.timestamp_ms,
            "first_position": view.row.first_position,
            "count": count,
            "transactions": await in_turns(with_body if bodies else id_only, indices),
        }


def _sender(namespace: int, transaction: bytes) -> str:
    found = sender_of(namespace, transaction)
    return data(found.sender) if found else ZERO_ADDRESS


def _created(creation: EthereumTransaction) -> str:
    """Where a creation puts its contract: the sender's nonce-th address."""
    return data(keccak(rlp.encode([creation.sender, creation.nonce]))[12:])
