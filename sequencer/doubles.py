"""One key in two processes: found over the network, and one of them stops.

The store's lock keeps two processes apart that share a directory. Copies of a directory on two
machines would both sign, and the committee would count that as lying. So a node dials the address
that is published for its own identity: where another process with its key answers, this one stops.
The one that is at the address goes on, so an accidental second start does no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable

from net.libp2p.dialing import Address

LOOK_S = 30.0
"""Between two looks at the address; it may lead elsewhere after a while."""
UNKNOWN_S = 1.0
""".. while no address is known yet."""


class KeyRunsTwice(Exception):
    """Another process runs with these keys; the message says where, and what to do."""


async def require_single(
    has_double_at: Callable[[Address], Awaitable[bool]], address: Address | None
) -> None:
    """`KeyRunsTwice` if another process with my keys answers at my published address."""
    if address is not None and await has_double_at(address):
        host, port = address
        raise KeyRunsTwice(
            f"another process runs with these keys at {host}:{port}; one that signs twice counts "
            "as faulty. Stop that one for good, take along what it signed (sequencer keys guard "
            "export), and start here then"
        )


async def watch_for_double(
    has_double_at: Callable[[Address], Awaitable[bool]], address: Callable[[], Address | None]
) -> None:
    """Look again and again; ends with `KeyRunsTwice`."""
    while True:
        found = address()
        await require_single(has_double_at, found)
        await asyncio.sleep(LOOK_S if found is not None else UNKNOWN_S)
