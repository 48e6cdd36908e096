"""Whose the collections on disk are, so that each fills its author's quota again after a restart.

The disk knows authors by their peer ids, because handles change with every epoch.
"""

from sequencer.ledger import Ledger
from sequencer.peers import Peers
from sequencer.pool import Pool, PoolReady
from sequencer.shelf import FOLLOWER, UNKNOWN_AUTHOR
from sequencer.store.seam import WriteBatch


def put_collections(
    writes: WriteBatch, ready: PoolReady, pool: Pool, ledger: Ledger, peers: Peers
) -> None:
    """Save what the pool newly holds, and drop what it has dropped.

    What has been ordered since is saved with its block.
    """
    for digest in ready.drop:
        if pool.get(digest) is None:
            ledger.drop_collection(writes, digest)
    for collection in ready.save:
        if pool.get(collection.digest) is not None:
            author = pool.author(collection.digest)
            peer = peers.local if author == FOLLOWER else peers.peer(author)
            ledger.put_collection(writes, collection, (peer or "").encode())


def recover_collections(pool: Pool, ledger: Ledger, peers: Peers) -> None:
    """Hold again what was saved and is not ordered.

    A follower knows its own alone, and offers the rest: nobody else may hold it.
    """
    for collection in ledger.unordered_collections():
        peer = ledger.author_of(collection.digest).decode()
        if peer == peers.local:
            author: int | None = FOLLOWER if peers.me is None else peers.me
        else:
            author = peers.handle(peer) if peers.me is not None else None
        pool.recover([collection], UNKNOWN_AUTHOR if author is None else author)
