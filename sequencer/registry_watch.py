"""A node's eye on the registry: which committee comes next, and where its members listen.

Only what is final on the L1 is believed of a snapshot (Ep1). No rule of the protocol waits for any
of it: while the L1 is down, the present committee goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consensus.committee import Committee
from net.libp2p.identity import parse_multiaddr, peer_id_from_public_key
from net.transport import PeerId
from sequencer.settlement.client import L1Block, SettlementError
from sequencer.settlement.registry import ContractReader, OperatorState, RegisteredMember, Registry
from sequencer.standing import NOT_REGISTERED

logger = logging.getLogger("sequencer")

if TYPE_CHECKING:
    from sequencer.settlement.ethereum import EthereumClient

OWN_ADDRESS_WITHIN_S = 3.0
"""How long a start waits for the L1 to say where the node is registered."""
REGISTRY_ALARM = "registry"
"""Topic of the alarm that the registry cannot be read."""
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the registry says.

    following       the committee of the epoch after the contract's, once its snapshot is final
    addresses       where the members of these two epochs listen, by peer id
    contract_epoch  at the newest L1 block, with the number of the batch the contract takes next
    own             what it has of this node's operator
    """

    following: Committee | None
    addresses: dict[PeerId, Address]
    contract_epoch: int
    next_number: int
    own: OperatorState = NOT_REGISTERED


class RegistryReader:
    """Reads the registry for the operator `account` (20 bytes), anew with every L1 block."""

    def __init__(self, client: "EthereumClient", account: bytes) -> None:
        self._client = client
        self._account = account
        self._seen: tuple[tuple[L1Block, L1Block], RegistryView] | None = None

    async def read(self) -> RegistryView:
        """The registry as it is now; `SettlementError` where the L1 does not answer well."""
        head, final = await self._client.head(), await self._client.finalized()
        if self._seen is None or self._seen[0] != (head, final):
            view = await _read(self._client, self._account, head, final)
            self._seen = (head, final), view
        return self._seen[1]


async def _read(
    client: "EthereumClient", account: bytes, head: L1Block, final: L1Block
) -> RegistryView:
    registry = Registry(client)
    state = await client.contract_state(head)
    pending = None
    if final.number >= client.deploy_block:
        pending = await registry.pending(final)
    present = await registry.members(head)
    members = present.members + (pending.members if pending is not None else ())
    following = pending.committee() if pending is not None else None
    own = await registry.operator(account, head)
    return RegistryView(following, _addresses(members), state.epoch, state.next_number, own)


async def find_own_address(client: ContractReader, account: bytes, peer: PeerId) -> Address | None:
    """Where the operator `account` (20 bytes) has registered its member `peer`, if it has.

    None as well when the L1 does not say so within `OWN_ADDRESS_WITHIN_S`.
    """
    try:
        async with asyncio.timeout(OWN_ADDRESS_WITHIN_S):
            own = await Registry(client).operator(account)
    except (SettlementError, TimeoutError) as error:
        logger.warning("the L1 does not say where this node is registered: %s", error)
        return None
    return _address(own.address, peer) if own.address else None


def _addresses(members: tuple[RegisteredMember, ...]) -> dict[PeerId, Address]:
    """Where members listen; what an operator wrote there need not be an address."""
    peers = {peer_id_from_public_key(member.identity): member.address for member in members}
    found = {peer: _address(text, peer) for peer, text in peers.items()}
    return {peer: address for peer, address in found.items() if address is not None}


def _address(text: str, peer: PeerId) -> Address | None:
    """Host and port of a multiaddress, with or without the peer id; None if it is none of it."""
    try:
        host, port, named = parse_multiaddr(text if "/p2p/" in text else f"{text}/p2p/{peer}")
    except ValueError:
        return None
    return (host, port) if named == peer else None


async def watch_registry(
    read: Callable[[], Awaitable[RegistryView]],
    tell: Callable[[RegistryView], None],
    alarm: Callable[[str | None], None],
    poll_s: float,
) -> None:
    """Tell what changed, for ever; `alarm` is told why nothing can be read, None when it can."""
    known: RegistryView | None = None
    while True:
        try:
            view = await read()
        except SettlementError as error:
            alarm(f"the registry cannot be read: {error}")
        else:
            alarm(None)
            if view != known:
                known = view
                tell(view)
        await asyncio.sleep(poll_s)
