"""A log that begins with the L1: what it holds, bound to the committee's blocks, or refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from consensus.codec import u64
from consensus.committee import Committee
from consensus.epochs import EpochChange
from sequencer import from_l1
from sequencer.bootstrap import Began, BootstrapError
from sequencer.from_l1 import Sources, begin_from_l1, require_committees
from sequencer.history import Pruned, Retention, windows
from sequencer.ledger import Ledger
from sequencer.rpc.jsonrpc import Caller
from sequencer.rpc.limits import Limits
from sequencer.rpc.methods import Rpc
from sequencer.settlement import abi
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.client import Accepted, ContractState, Handover, L1Block
from sequencer.settlement.derive import DerivationError
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import WriteBatch
from tests.sequencer.certified_chain import CRYPTO, RULES, CertifiedChain, numbered
from tests.sequencer.ordering_node import OrderingNode

BLOCKS_APART = 3


@dataclass
class PostedL1:
    """An L1 that holds the batches of a chain up to `last`, and its handovers before `epochs`."""

    chain: CertifiedChain
    last: int
    changes: list[tuple[int, EpochChange]] = field(default_factory=list)

    def _batch(self, number: int) -> Any:
        assert self.chain.batcher is not None
        return self.chain.batcher.batch(number)

    def _at(self, number: int) -> int:
        return BLOCKS_APART * number

    async def head(self) -> L1Block:
        return L1Block(self._at(self.last + 1), bytes(32), 0, 0)

    async def accepted(self, first_block: int, last_block: int) -> list[Accepted]:
        found = []
        for number in range(1, self.last + 1):
            header = BatchHeader.decode(self._batch(number).header)
            place = number, header.log_root, header.data_hash
            found.append(Accepted(*place, number.to_bytes(32, "big"), self._at(number), bytes(32)))
        return [event for event in found if first_block <= event.block_number <= last_block]

    async def handovers(self, first_block: int, last_block: int) -> list[Handover]:
        return [
            Handover(change.certificate, change.committee, bytes(32), self._at(number) + 1, b"")
            for number, change in self.changes
            if first_block <= self._at(number) + 1 <= last_block
        ]

    async def transaction_input(self, tx_hash: bytes) -> bytes:
        batch = self._batch(int.from_bytes(tx_hash, "big"))
        return abi.post_batch_calldata(batch.header, batch.signers, batch.signature, batch.data)

    async def contract_state(self, block: L1Block) -> ContractState:
        root = (
            BatchHeader.decode(self._batch(self.last).header).log_root if self.last else bytes(32)
        )
        return ContractState(self.last + 1, root, len(self.changes))


class Serving(OrderingNode):
    """A node that serves a chain."""

    def __init__(self, chain: CertifiedChain, changes: list[EpochChange]) -> None:
        super().__init__(automatic=False)
        self.genesis, self.store, self.ledger = chain.genesis, chain.store, chain.ledger  # type: ignore[assignment]
        self.changes = changes

    def epoch_changes(self, from_epoch: int, limit: int) -> list[EpochChange]:
        return self.changes[from_epoch : from_epoch + limit]


class Asked:
    """The RPC of a node, as a client calls it; `spoil` changes its answers."""

    def __init__(self, chain: CertifiedChain, *changes: EpochChange) -> None:
        self.rpc = Rpc(Serving(chain, list(changes)), Limits())
        self.spoil: Callable[[str, Any], Any] = lambda method, answer: answer

    async def call(self, method: str, *params: Any) -> Any:
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = orjson.loads(await self.rpc.dispatcher.answer(body, Caller()) or b"")
        if "error" in answer:
            raise BootstrapError(answer["error"]["message"])
        return self.spoil(method, answer["result"])


def grown(heights: int, chain: CertifiedChain | None = None) -> CertifiedChain:
    chain = chain or CertifiedChain()
    first = chain.ledger.head.height + 1
    for height in range(first, first + heights):
        content = numbered(height, 10_000 + height) if height % 4 else []
        chain.commit(*([content] if content else []), proved=height % 3 == 0)
    return chain


def closed(chain: CertifiedChain) -> int:
    assert chain.batcher is not None
    return chain.batcher.last_closed


async def began(l1: PostedL1, node: Asked, store: MemoryStore) -> Began:
    sources = Sources(l1, None, node)  # type: ignore[arg-type]
    try:
        return await begin_from_l1(sources, store, l1.chain.genesis, CRYPTO)
    finally:
        await node.rpc.close()


async def refuses(l1: PostedL1, node: Asked, sentence: str) -> None:
    with pytest.raises((BootstrapError, DerivationError), match=sentence):
        await began(l1, node, MemoryStore(l1.chain.genesis.chain_id))


def replay(chain: CertifiedChain, copy: CertifiedChain) -> None:
    """What a node gets by sync after it began."""
    for height in range(copy.ledger.head.height + 1, chain.ledger.head.height + 1):
        block = chain.ledger.block(height)
        assert block is not None
        collections = [chain.ledger.collection(digest) for digest in block.collections]
        certificate = chain.certify(block) if height % 3 == 0 else None
        copy.apply(block, [held for held in collections if held is not None], certificate)


@pytest.mark.parametrize(("heights", "behind"), [(93, 0), (94, 0), (95, 1), (96, 2), (150, 9)])
async def test_a_log_goes_on_from_the_l1_as_if_it_had_never_been_cut(
    heights: int, behind: int
) -> None:
    chain = grown(heights)
    store = MemoryStore(chain.genesis.chain_id)
    l1 = PostedL1(chain, closed(chain) - behind)
    found = await began(l1, Asked(chain), store)
    assert found.last_batch == l1.last
    assert found.head.height == found.base.height < heights
    assert found.base.log_root == chain.ledger.log_root(found.base.height)
    copy = CertifiedChain(store)
    with pytest.raises(Pruned):
        copy.ledger.entries(0, 1)
    replay(chain, copy)
    assert copy.ledger.head == chain.ledger.head
    assert closed(copy) == closed(chain)
    assert copy.batcher is not None
    assert chain.batcher is not None
    for number in range(found.first_batch, closed(chain) + 1):
        mine, theirs = copy.batcher.batch(number), chain.batcher.batch(number)
        assert mine is not None
        assert theirs is not None
        assert mine.header == theirs.header


async def test_batches_that_end_inside_a_block_are_continued_behind_their_last_entry() -> None:
    chain = CertifiedChain()
    for height in range(1, 12):
        chain.commit([(901, bytes([height, place]) * 15_000) for place in range(5)])
    store = MemoryStore(chain.genesis.chain_id)
    for last in range(closed(chain) - 3, closed(chain) + 1):
        store = MemoryStore(chain.genesis.chain_id)
        await began(PostedL1(chain, last), Asked(chain), store)
        copy = CertifiedChain(store)
        replay(chain, copy)
        assert copy.ledger.head == chain.ledger.head
        assert closed(copy) == closed(chain)


async def test_only_the_windows_of_a_long_log_are_kept() -> None:
    chain = grown(200)
    store = MemoryStore(chain.genesis.chain_id)
    found = await began(PostedL1(chain, closed(chain)), Asked(chain), store)
    assert found.first_batch > closed(chain) - 20
    assert len(store.range(Table.ENTRIES, b"", 10**6)) < windows(RULES) + 20
    copy = CertifiedChain(store)
    replay(chain, copy)
    content = numbered(*range(170, 200))
    assert copy.commit(content).row == chain.commit(content).row


async def test_a_log_of_one_block_begins_with_the_genesis() -> None:
    chain = CertifiedChain()
    chain.commit(numbered(1))
    grown(6, chain)
    store = MemoryStore(chain.genesis.chain_id)
    found = await began(PostedL1(chain, 0), Asked(chain), store)
    assert (found.head.height, found.last_batch) == (0, 0)
    replay(chain, CertifiedChain(store))


async def test_committees_are_the_l1s_and_the_nodes() -> None:
    chain = grown(50)
    change = chain.end_epoch(numbered(40_000))
    before = closed(chain)
    for height in range(8):
        chain.commit(numbered(50_000 + height))
    l1 = PostedL1(chain, closed(chain), [(before, change)])
    found = await began(l1, Asked(chain, change), MemoryStore(chain.genesis.chain_id))
    assert found.epoch == 1
    await refuses(l1, Asked(chain), "how epoch 1 began is not proved")
    other = CertifiedChain()
    grown(50, other)
    elsewhere = other.end_epoch(numbered(40_000))
    member = chain.genesis.committee.members[0]
    following = Committee(1, (member,))
    forged = EpochChange(
        CertifiedChain().certify(elsewhere.last, following.digest), elsewhere.last, following
    )
    await refuses(l1, Asked(chain, forged), "the committee of epoch 1 is another one on the L1")


async def test_a_snapshot_may_be_held_against_the_l1() -> None:
    """A former committee can sign another past; the contract remembers whom it handed over to."""
    chain, other = grown(50), grown(50)
    change = chain.end_epoch(numbered(40_000))
    l1 = PostedL1(chain, closed(chain), [(closed(chain), change)])
    await require_committees(l1, chain.store, chain.genesis)  # type: ignore[arg-type]
    early = grown(9)
    with pytest.raises(BootstrapError, match="ends in epoch 0, and the L1 is in epoch 1"):
        await require_committees(l1, early.store, early.genesis)  # type: ignore[arg-type]
    following = Committee(1, chain.genesis.committee.members)
    last = other.block_of([])
    forged = EpochChange(other.certify(last, following.digest), last, following)
    writes = WriteBatch()
    writes.put(Table.EPOCHS, u64(1), forged.encode())
    other.store.save(writes)
    with pytest.raises(BootstrapError, match="the committee of epoch 1 is another one"):
        await require_committees(l1, other.store, other.genesis)  # type: ignore[arg-type]


def spoiled(method: str, spoil: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, answer: spoil(answer) if name == method else answer


async def test_a_node_that_lies_about_its_blocks_is_refused() -> None:
    chain = grown(93)
    l1 = PostedL1(chain, closed(chain))
    other = CertifiedChain()
    for height in range(1, 94):
        other.commit(numbered(60_000 + height))
    expectations: list[tuple[str, Callable[[Any], Any], str]] = [
        ("seq_getHeaders", lambda answer: answer[1:2] * len(answer), "the blocks begin at"),
        ("seq_getHeaders", lambda answer: answer[:2] + answer[3:], "no child of the one before"),
        ("seq_getHeaders", lambda answer: "no", "something else than what was asked"),
        ("seq_getHeaders", lambda answer: [7], "something else than what was asked"),
        ("seq_getHeaders", lambda answer: ["0xzz"], "cannot be read"),
        ("seq_getHeaders", lambda answer: [], "does not have the headers"),
        ("seq_getProof", lambda answer: None, "has no proof above height"),
        (
            "seq_getProof",
            lambda answer: {**answer, "headers": answer["headers"][1:]},
            "do not lead|another block",
        ),
        (
            "seq_getProof",
            lambda answer: {**answer, "proof": answer["proof"][:-2] + "00"},
            "not proved final|cannot be read",
        ),
    ]
    for method, spoil, sentence in expectations:
        node = Asked(chain)
        node.spoil = spoiled(method, spoil)
        await refuses(l1, node, sentence)


async def test_blocks_the_committee_never_ordered_do_not_fit_the_log() -> None:
    """Headers of another log with the same keys: what is applied next does not fit the batches."""
    chain, other = grown(93), CertifiedChain()
    for height in range(1, 94):
        other.commit(numbered(60_000 + height))
    store = MemoryStore(chain.genesis.chain_id)
    await began(PostedL1(chain, closed(chain)), Asked(other), store)
    copy = CertifiedChain(store)
    with pytest.raises(Exception, match="does not lead to the certified log root"):
        replay(other, copy)


async def test_a_node_that_has_pruned_the_base_says_so() -> None:
    chain, pruned = grown(150), CertifiedChain()
    pruned.ledger.retention = Retention(windows(RULES))
    grown(150, pruned)
    sentence = "pruned history unavailable: this node keeps the log from"
    await refuses(PostedL1(chain, 5), Asked(pruned), sentence)


async def test_what_a_node_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sequencer.rpc.history.MAX_HEADERS", 3)
    chain = grown(93)
    node = Asked(chain)
    assert len(await node.call("seq_getHeaders", 10, 90)) == 3
    assert await node.call("seq_getHeaders", 92, 99) == await node.call("seq_getHeaders", 92, 93)
    with pytest.raises(BootstrapError, match="is not reached yet"):
        await node.call("seq_getProof", 94)
    with pytest.raises(BootstrapError, match="below the first height"):
        await node.call("seq_getHeaders", 10, 9)
    store = MemoryStore(chain.genesis.chain_id)
    found = await began(PostedL1(chain, closed(chain)), node, store)
    assert Ledger(store, chain.genesis.chain_id, RULES).head == found.head
    monkeypatch.setattr(from_l1, "MAX_HEX_BYTES", 10)
    await refuses(PostedL1(chain, closed(chain)), Asked(chain), "something else than")
