"""Which chain the nodes of a mesh are of: its id is part of what their channels are called.

A node of another chain is a foreign libp2p peer, with which no channel comes about. What it calls
its own, as identify tells, says why.
"""

import logging
import re
from collections.abc import Iterable
from typing import Final

from net.transport import Channel, PeerId

logger = logging.getLogger(__name__)

_PREFIX: Final = "/dsequencer/1/"
_ID_BYTES: Final = 8
_BEGINNING: Final = re.compile("[0-9a-f]{16}")


class Chain:
    """The chain of an id, or none in particular; and those who are of another one."""

    def __init__(self, chain_id: bytes) -> None:
        of = chain_id[:_ID_BYTES].hex() + "/" if chain_id else ""
        self.protocols = {channel: f"{_PREFIX}{of}{channel.name.lower()}" for channel in Channel}
        """What the two channels speak."""
        self.others: dict[PeerId, str] = {}
        """Peers that should be here and are of another chain: how its id begins, in hex."""

    def told_by(self, spoken: Iterable[str]) -> str | None:
        """How the id of another chain begins whose channels are `spoken`; None without any."""
        for name in spoken:
            if name.startswith(_PREFIX) and name not in self.protocols.values():
                theirs = name.removeprefix(_PREFIX).partition("/")[0]
                return theirs if _BEGINNING.fullmatch(theirs) else "unknown"
        return None

    def note(self, peer: PeerId, other: str) -> None:
        """A peer that should be of this chain is of another one; said once."""
        if self.others.get(peer) != other:
            self.others[peer] = other
            logger.warning("%s is of another chain, %s..: its genesis differs", peer, other)
