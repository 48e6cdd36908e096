"""From an address to a connected socket.

A name is resolved at every dial, since operators move; whatever it means now is tried in turn,
so one address of several that leads nowhere does not use up all the time there is.
"""

import asyncio
import socket

from net.libp2p.handshake import RawStream

Address = tuple[str, int]
"""A host, as an IP address or a name, and a TCP port."""

MAX_RESOLVED = 4
"""How many addresses of one name are tried."""


async def connect(raw: RawStream, address: Address, timeout_s: float) -> None:
    """Connect `raw` to `address`; OSError (or TimeoutError, which is one) if it does not work."""
    name, port = address
    async with asyncio.timeout(timeout_s):
        hosts = await resolve(name, port)
        failure = OSError(f"{name} has no address")
        for host in hosts:
            try:
                async with asyncio.timeout(timeout_s / len(hosts)):
                    loop = asyncio.get_running_loop()
                    await loop.create_connection(lambda: raw, host, port)
                    return
            except OSError as error:
                failure = error
        raise failure


async def resolve(name: str, port: int) -> list[str]:
    """The IP addresses that a host has now, up to `MAX_RESOLVED`; OSError if it has none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{name!r} is no name of a host: {error}") from None
    return list(dict.fromkeys(str(where[0]) for *_, where in found))[:MAX_RESOLVED]
