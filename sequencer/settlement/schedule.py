"""Who posts a batch, and from which L1 block on.

For every batch the members are put in an order that depends on the chain and the batch number
alone. The member of rank k may send k * `takeover_blocks` L1 blocks after the first one may: if
rank 0 is down, rank 1 takes over, and so on. Views of the L1 differ a little between members, so
two may send at once; the contract accepts one.
"""

import hashlib

MIN_TAKEOVER_BLOCKS = 3
"""One block to be included in, one that may be missed, one to be seen."""
NEVER = 1 << 32
"""The rank of somebody who does not post."""


def posting_order(chain_id: bytes, number: int, size: int) -> list[int]:
    """The members' indexes by rank for batch `number`: a permutation of 0..size-1."""
    seed = hashlib.sha256(chain_id + number.to_bytes(8, "big")).digest()
    return sorted(
        range(size), key=lambda index: hashlib.sha256(seed + index.to_bytes(4, "big")).digest()
    )


def rank(chain_id: bytes, number: int, size: int, member: int) -> int:
    """The rank of one member for batch `number`: 0 posts, the others wait for their turn.

    Somebody outside the committee, -1, has a rank that never comes.
    """
    if member < 0:
        return NEVER
    return posting_order(chain_id, number, size).index(member)


def first_block(rank_of_member: int, since_block: int, takeover_blocks: int) -> int:
    """The L1 height from which a member may send.

    `since_block` is the later of the block that accepted the previous batch and the head at which
    the member first held this batch's certificate.
    """
    return since_block + rank_of_member * takeover_blocks
