"""A chain of one member on any store: real ledger, batcher, certificates, and epochs."""

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret
from consensus.codec import ZERO_HASH, u64
from consensus.committee import Committee, Member
from consensus.epochs import EpochChange, root_qc
from consensus.rules import Rules
from consensus.types import Block, CommitCertificate, CommitProof, QuorumCertificate, genesis_qc
from sequencer.batcher import Batcher, Binding
from sequencer.collection import Collection
from sequencer.genesis import Genesis, L1Settings
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import Table
from sequencer.store.seam import Store, WriteBatch
from sequencer.stored_batch import put_batches
from tests.sequencer.ordering_node import SIGNER, genesis_of_one

RULES = Rules(
    duplicate_window_heights=20,
    digest_window_heights=8,
    batch_max_blocks=4,
    batch_max_ms=1_000_000,
)
L1 = L1Settings(31337, b"\x0c" * 20, 1)
CRYPTO = BlsCrypto()
START_MS = 1_700_000_000_000
NEXT_SIGNER = KeySigner(new_bls_secret(b"two" * 11), b"\x08" * 32)
Transactions = list[tuple[int, bytes]]


def genesis_with(rules: Rules = RULES, l1: L1Settings | None = L1) -> Genesis:
    return genesis_of_one(rules).with_l1(l1)


def numbered(*numbers: int) -> Transactions:
    return [(901, b"transaction %d" % number) for number in numbers]


class CertifiedChain:
    """Commits what it is given. Opened on a store that has a log, it goes on from there."""

    def __init__(
        self,
        store: Store | None = None,
        genesis: Genesis | None = None,
        signer: KeySigner = SIGNER,
        committee: Committee | None = None,
    ) -> None:
        self.genesis = genesis or genesis_with()
        self.signer = signer
        self.committee = committee or self.genesis.committee
        self.store: Store = store if store is not None else MemoryStore(self.genesis.chain_id)
        self.ledger = Ledger(self.store, self.genesis.chain_id, self.genesis.rules)
        self.batcher = self._open_batcher()
        self.root: QuorumCertificate | None = None

    def _open_batcher(self) -> Batcher | None:
        l1, genesis = self.genesis.l1, self.genesis
        if l1 is None:
            return None
        batcher = Batcher(
            Binding(genesis.chain_id, l1.chain_id, l1.contract),
            self.committee,
            0,
            genesis.rules,
            CRYPTO,
            self.signer,
            self.store,
        )
        head = self.ledger.head
        missing = head.next_position - batcher.open_position
        batcher.resume(self.ledger.entries(batcher.open_position, missing), head.log_root)
        return batcher

    def block_of(self, collections: list[Collection]) -> Block:
        head = self.ledger.head
        height = head.height + 1
        return Block(
            self.committee.epoch,
            height,
            height,
            head.block_id,
            self.root or genesis_qc(self.genesis.chain_id),
            None,
            tuple(collection.digest for collection in collections),
            b"",
            START_MS + 10 * height,
            0,
        )

    def commit(self, *contents: Transactions, proved: bool = True) -> AppliedBlock:
        collections = [Collection.seal(content) for content in contents]
        block = self.block_of(collections)
        return self.apply(block, collections, self.certify(block) if proved else None)

    def apply(
        self, block: Block, collections: list[Collection], certificate: CommitCertificate | None
    ) -> AppliedBlock:
        writes = WriteBatch()
        proof = CommitProof(certificate, None, None) if certificate is not None else None
        applied = self.ledger.apply(writes, block, proof, collections)
        if self.batcher is not None:
            entries = applied.log_entries()
            self.batcher.on_block(block.height, block.timestamp_ms, entries, applied.log_root, 0)
            put_batches(writes, self.batcher.take().save)
        self.store.save(writes)
        return applied

    def certify(self, block: Block, next_committee: bytes = ZERO_HASH) -> CommitCertificate:
        fields = (block.epoch, block.round, block.height, block.id, next_committee)
        message = CommitCertificate.signed_bytes(self.genesis.chain_id, *fields)
        signature = CRYPTO.aggregate([self.signer.sign(message)])
        assert signature is not None
        return CommitCertificate(*fields, b"\1", signature)

    def end_epoch(self, *contents: Transactions) -> EpochChange:
        """One more block, the last of its epoch; `NEXT_SIGNER` is the next committee."""
        collections = [Collection.seal(content) for content in contents]
        block = self.block_of(collections)
        member = Member(NEXT_SIGNER.identity, NEXT_SIGNER.bls_key)
        following = Committee(self.committee.epoch + 1, (member,))
        certificate = self.certify(block, following.digest)
        self.apply(block, collections, certificate)
        change = EpochChange(certificate, block, following)
        writes = WriteBatch()
        writes.put(Table.EPOCHS, u64(following.epoch), change.encode())
        if self.batcher is not None:
            self.batcher.close_epoch(0)
            self.batcher.begin_epoch(following, 0, NEXT_SIGNER)
            put_batches(writes, self.batcher.take().save)
        self.store.save(writes)
        self.committee, self.signer = following, NEXT_SIGNER
        self.root = root_qc(following.epoch, block)
        return change
