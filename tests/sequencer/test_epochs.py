"""What a node knows of the committees to come: it outlives the process until the epoch begins."""

import pytest

from consensus.codec import u64
from consensus.committee import Committee, Member
from consensus.epochs import EpochChange
from consensus.types import CommitCertificate, genesis_block
from sequencer.epochs import Epochs
from sequencer.store.memory import MemoryStore
from sequencer.store.schema import META_NEXT_COMMITTEE, Table
from sequencer.store.seam import StoreError, WriteBatch
from testnet.simulation.crypto import StubCrypto

CHAIN = b"\x11" * 32


def committee(epoch: int, weight: int = 1) -> Committee:
    members = [Member(bytes([at]) * 32, bytes([at]) * 48, weight + at) for at in range(1, 5)]
    return Committee(epoch, tuple(members))


def opened(store: MemoryStore, epoch: int = 0) -> Epochs:
    return Epochs(store, committee(0), CHAIN, StubCrypto(), epoch)


def ended_with(following: Committee) -> CommitCertificate:
    block_id = genesis_block(CHAIN).id
    return CommitCertificate(following.epoch - 1, 7, 5, block_id, following.digest, b"\x07", b"s")


def learn(epochs: Epochs, store: MemoryStore, *committees: Committee) -> None:
    writes = WriteBatch()
    for named in committees:
        epochs.learn_snapshot(named, writes)
    store.save(writes)


def begin(epochs: Epochs, store: MemoryStore, following: Committee) -> None:
    writes = WriteBatch()
    epochs.begin(EpochChange(ended_with(following), genesis_block(CHAIN), following), writes)
    store.save(writes)


def test_the_committee_to_attest_is_known_after_a_restart_without_the_l1() -> None:
    store = MemoryStore(CHAIN)
    learn(opened(store), store, committee(1))
    again = opened(store.crash())
    assert again.next_digest() == committee(1).digest
    assert again.successor(ended_with(committee(1))) == committee(1)


def test_what_was_not_saved_is_not_attested_after_a_restart() -> None:
    store = MemoryStore(CHAIN)
    opened(store).learn_snapshot(committee(1), WriteBatch())
    assert opened(store).next_digest() is None


def test_a_committee_that_is_told_again_is_not_saved_again() -> None:
    store, writes = MemoryStore(CHAIN), WriteBatch()
    learn(opened(store), store, committee(1))
    again = opened(store)
    again.learn_snapshot(committee(1), writes)
    assert len(writes) == 0


def test_the_last_word_of_the_registry_on_an_epoch_replaces_the_one_before() -> None:
    store = MemoryStore(CHAIN)
    learn(opened(store), store, committee(1), committee(1, weight=9))
    assert opened(store).next_digest() == committee(1, weight=9).digest


def test_the_row_goes_when_its_epoch_begins() -> None:
    store = MemoryStore(CHAIN)
    epochs = opened(store)
    learn(epochs, store, committee(1))
    begin(epochs, store, committee(1))
    assert store.get(Table.META, META_NEXT_COMMITTEE) is None
    assert store.get(Table.EPOCHS, u64(1)) is not None
    assert opened(store, epoch=1).next_digest() is None


def test_a_committee_of_a_later_epoch_is_kept_from_when_it_is_the_next() -> None:
    store = MemoryStore(CHAIN)
    epochs = opened(store)
    learn(epochs, store, committee(1), committee(2))
    assert opened(store).next_digest() == committee(1).digest
    begin(epochs, store, committee(1))
    assert opened(store, epoch=1).next_digest() == committee(2).digest


def test_a_row_of_another_epoch_is_passed_over() -> None:
    store = MemoryStore(CHAIN)
    epochs = opened(store)
    begin(epochs, store, committee(1))
    learn(epochs, store, committee(2))
    assert opened(store, epoch=0).next_digest() is None


@pytest.mark.parametrize(
    ("table", "key", "epoch", "what"),
    [
        (Table.META, META_NEXT_COMMITTEE, 0, "the next committee"),
        (Table.EPOCHS, u64(1), 1, "the change to epoch 1"),
    ],
)
def test_a_damaged_row_is_a_sentence(table: Table, key: bytes, epoch: int, what: str) -> None:
    store, writes = MemoryStore(CHAIN), WriteBatch()
    writes.put(table, key, b"rotten")
    store.save(writes)
    with pytest.raises(StoreError, match=f"{what} is damaged on disk; keep it"):
        opened(store, epoch)
