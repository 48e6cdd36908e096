"""What is on disk fills its authors' quotas again, so that nobody gains by a restart."""

from collections.abc import Iterable
from hashlib import sha256

from consensus.committee import Committee, Member
from consensus.rules import Rules
from consensus.types import Block, genesis_qc
from sequencer.authors import put_collections, recover_collections
from sequencer.collection import Collection
from sequencer.ledger import Ledger
from sequencer.limits import PoolLimits
from sequencer.peers import Peers
from sequencer.pool import Pool
from sequencer.shelf import FOLLOWER, UNKNOWN_AUTHOR
from sequencer.store.memory import MemoryStore
from sequencer.store.seam import WriteBatch

CHAIN = b"\1" * 32
RULES = Rules()


def member(name: str) -> Member:
    return Member(sha256(name.encode()).digest(), sha256(name.encode()).digest() + bytes(16))


def collection(number: int) -> Collection:
    return Collection.seal([(901, b"transaction %d" % number)])


def naming(digests: Iterable[bytes], round: int = 1) -> Block:
    names, qc = tuple(digests), genesis_qc(CHAIN)
    return Block(0, round, round, bytes(32), qc, None, names, b"", 0, 1)


class Place:
    """A node's pool, disk and peers; started again, it has the disk alone."""

    def __init__(self, names: str = "abcd", me: str = "a", limit: int = 100) -> None:
        self.store = MemoryStore(CHAIN)
        self.limits = PoolLimits(max_peer_collections=limit)
        self.start(names, me)

    def start(self, names: str, me: str = "a") -> None:
        identities = {member(name).identity: name for name in "abcdefgh"}
        committee = Committee(0, tuple(member(name) for name in names))
        self.peers = Peers(committee, member(me).identity, identities.__getitem__)
        self.ledger = Ledger(self.store, CHAIN, RULES)
        self.pool = Pool(self.peers.me, committee.size, RULES, self.limits)
        recover_collections(self.pool, self.ledger, self.peers)

    def hear(self, peer: str, items: Iterable[Collection]) -> int:
        """How many of a peer's collections are held; they are saved too."""
        handle = self.peers.connected(peer)
        assert handle is not None
        return sum(self.pool.on_collection(handle, item.data, 0) is not None for item in items)

    def save(self) -> None:
        writes = WriteBatch()
        put_collections(writes, self.pool.take(), self.pool, self.ledger, self.peers)
        self.store.save(writes)

    def authors(self, items: Iterable[Collection]) -> list[int]:
        return [self.pool.author(item.digest) for item in items]


def test_after_a_restart_everything_is_its_authors_again() -> None:
    place, given = Place(), [collection(number) for number in range(3)]
    place.pool.submit([(901, b"mine")], 0)
    place.pool.tick(0)
    place.hear("c", given[:2])
    place.hear("f", given[2:])
    place.save()
    pending = place.pool.pending_bytes
    place.start("abcd")
    assert place.authors(given) == [2, 2, UNKNOWN_AUTHOR]
    assert place.pool.pending_bytes == pending > 0


def test_an_author_is_found_under_the_index_it_has_now() -> None:
    place, given = Place(), [collection(number) for number in range(2)]
    place.hear("c", given[:1])
    place.hear("d", given[1:])
    place.save()
    place.start("bcae")
    assert place.authors(given) == [1, UNKNOWN_AUTHOR]


def test_a_follower_knows_its_own_and_offers_all_that_it_saved() -> None:
    place, given = Place(me="e"), [collection(1)]
    place.pool.submit([(901, b"mine")], 0)
    place.pool.tick(0)
    place.hear("b", given)
    place.save()
    pending = place.pool.pending_bytes
    place.start("abcd", "e")
    assert place.authors(given) == [UNKNOWN_AUTHOR]
    assert place.pool.pending_bytes == pending > 0
    assert [place.pool.author(digest) for digest in place.pool.own()] == [FOLLOWER, UNKNOWN_AUTHOR]


def test_a_restart_gives_nobody_a_new_quota() -> None:
    place = Place(limit=8)
    taken = 0
    for run in range(5):
        items = [collection(100 * run + number) for number in range(20)]
        taken += place.hear("b", items[:10]) + place.hear(f"f{run}", items[10:])
        place.save()
        place.start("abcd")
    assert taken == 8 + 8
    assert len(place.ledger.unordered_collections()) == taken, "and nothing is lost"


def test_what_was_ordered_before_it_was_saved_waits_for_no_block() -> None:
    place, item = Place(), collection(1)
    place.hear("b", [item])
    place.pool.on_committed(naming([item.digest]))
    place.save()
    assert place.ledger.unordered_collections() == []


def test_what_the_pool_gives_up_goes_from_the_disk() -> None:
    place, items = Place(limit=1), [collection(number) for number in range(3)]
    place.pool.need(naming([item.digest for item in items[1:]], round=7), 0)
    assert place.hear("b", items) == 3
    place.save()
    assert len(place.ledger.unordered_collections()) == 3
    place.pool.on_committed(naming([], round=8))
    place.pool.need(naming([items[2].digest], round=9), 0)
    assert place.hear("c", items[2:]) == 1, "it comes again before that is saved"
    place.save()
    assert sorted(item.digest for item in place.ledger.unordered_collections()) == sorted(
        [items[0].digest, items[2].digest]
    )


def test_a_disk_without_authors_is_read_as_nobodys() -> None:
    place, item = Place(), collection(1)
    writes = WriteBatch()
    place.ledger.put_collection(writes, item)
    place.store.save(writes)
    place.start("abcd")
    assert place.authors([item]) == [UNKNOWN_AUTHOR]
    assert place.pool.has_work()
