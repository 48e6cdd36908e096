"""A node of one, for the tests of what it serves: a real ledger, real certificates, no network.

It orders what it is given when it is told to (`commit`), or on its own a moment after `submit`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.epochs import EpochChange
from consensus.rules import Rules
from consensus.types import Block, CommitCertificate, CommitProof, genesis_qc
from sequencer.collection import Collection, transaction_id
from sequencer.config import NamespaceConfig, NodeConfig
from sequencer.ethereum_hash import public_hash
from sequencer.genesis import Genesis, GenesisMember
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.pool import PoolFull
from sequencer.service import Unready
from sequencer.store.memory import MemoryStore
from sequencer.store.seam import WriteBatch

SIGNER = KeySigner(new_bls_secret(b"one" * 11), b"\x07" * 32)
START_MS = 1_700_000_000_000
BLOCK_MS = 250
COMMIT_AFTER_S = 0.005


def genesis_of_one(rules: Rules | None = None) -> Genesis:
    """A genesis whose committee is `SIGNER` alone."""
    member = GenesisMember(
        name="one",
        identity=SIGNER.identity,
        bls_key=SIGNER.bls_key,
        possession=SIGNER.prove_possession(),
        address="/ip4/127.0.0.1/tcp/9000",
    )
    return Genesis.create("test", [member], rules or Rules())


class OrderingNode:
    """Implements `NodeService`."""

    def __init__(self, *, automatic: bool = True, **namespaces: NamespaceConfig) -> None:
        self.genesis = genesis_of_one()
        self.config = NodeConfig(
            name="one", namespaces={int(name[1:]): value for name, value in namespaces.items()}
        )
        self.store = MemoryStore(self.genesis.chain_id)
        self.ledger = Ledger(self.store, self.genesis.chain_id, self.genesis.rules)
        self.automatic = automatic
        self.waiting: list[tuple[int, bytes]] = []
        self.submitted: list[tuple[int, bytes]] = []
        self.refuse: PoolFull | Unready | None = None
        self.readiness = (True, "ready")
        self.safe = self.final = 0
        self.batches: dict[int, dict[str, Any]] = {}
        self._callbacks: list[Callable[[AppliedBlock], None]] = []

    def submit(self, transactions: list[tuple[int, bytes]]) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.submitted += transactions
        if self.automatic and not self.waiting:
            asyncio.get_running_loop().call_later(COMMIT_AFTER_S, self.commit)
        self.waiting += transactions

    def commit(self, *transactions: tuple[int, bytes]) -> AppliedBlock:
        """Order what waits and what is given, as one block."""
        ordered, self.waiting = [*self.waiting, *transactions], []
        collections = [Collection.seal(ordered)] if ordered else []
        applied = self.apply(collections)
        for callback in list(self._callbacks):
            callback(applied)
        return applied

    def apply(self, collections: list[Collection]) -> AppliedBlock:
        """Append a block to the ledger and save it, telling nobody."""
        head, height = self.ledger.head, self.ledger.head.height + 1
        block = Block(
            epoch=0,
            round=height,
            height=height,
            parent_id=head.block_id,
            qc=genesis_qc(self.genesis.chain_id),
            tc=None,
            collections=tuple(collection.digest for collection in collections),
            attestation=b"",
            timestamp_ms=START_MS + BLOCK_MS * height,
            author=0,
        )
        writes = WriteBatch()
        applied = self.ledger.apply(writes, block, self._prove(block), collections)
        self.store.save(writes)
        return applied

    def _prove(self, block: Block) -> CommitProof:
        fields = (0, block.round, block.height, block.id, bytes(32))
        message = CommitCertificate.signed_bytes(self.genesis.chain_id, *fields)
        signature = BlsCrypto().aggregate([SIGNER.sign(message)])
        assert signature is not None
        return CommitProof(CommitCertificate(*fields, b"\1", signature), None, None)

    def pending(self, tx_hash: bytes) -> bool:
        return any(
            tx_hash in (transaction_id(*entry), public_hash(*entry)) for entry in self.waiting
        )

    def status(self) -> dict[str, Any]:
        return {"name": "one", "height": self.ledger.head.height}

    def why(self) -> dict[str, Any]:
        return {"round": self.ledger.head.height + 1, "missing": []}

    def metrics(self) -> bytes:
        return b"# HELP node_up Up\n# TYPE node_up gauge\nnode_up 1.0\n"

    def committee(self) -> dict[str, Any]:
        return {"epoch": 0, "members": [{"name": "one", "weight": 1}]}

    def epoch_changes(self, from_epoch: int, limit: int) -> list[EpochChange]:
        return []

    def batch(self, number: int) -> dict[str, Any] | None:
        return self.batches.get(number)

    def safe_height(self) -> int:
        return self.safe

    def finalized_height(self) -> int:
        return self.final

    def settlement(self, position: int) -> dict[str, Any] | None:
        height = self.ledger.entries(position, 1)[0].height
        return {"batch": 1, "state": "posted"} if height <= self.safe else None

    def on_commit(self, callback: Callable[[AppliedBlock], None]) -> Callable[[], None]:
        self._callbacks.append(callback)

        def unregister() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unregister

    @property
    def listeners(self) -> int:
        return len(self._callbacks)

    def ready(self) -> tuple[bool, str]:
        return self.readiness
