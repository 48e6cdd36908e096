"""Where a node is registered, as far as the L1 says so."""

import pytest

from net.libp2p.identity import Identity
from sequencer import registry_watch
from sequencer.registry_watch import find_own_address
from sequencer.settlement.client import L1Block, L1Unreachable
from sequencer.settlement.registry import OperatorState, Registry

ME, OTHER = (Identity.from_seed(bytes([n]) * 32).peer_id for n in (1, 2))


class Reader:
    """A contract that is never asked: the registry above it is replaced."""

    async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
        raise L1Unreachable("the L1 is down")


@pytest.mark.parametrize(
    ("registered", "found"),
    [
        ("/ip4/10.0.0.1/tcp/9000", ("10.0.0.1", 9000)),
        (f"/dns4/me.example/tcp/1/p2p/{ME}", ("me.example", 1)),
        (f"/ip4/10.0.0.1/tcp/9000/p2p/{OTHER}", None),
        ("nowhere", None),
        ("", None),
    ],
)
async def test_the_registered_address_is_found(
    monkeypatch: pytest.MonkeyPatch, registered: str, found: tuple[str, int] | None
) -> None:
    async def operator(_self: Registry, address: bytes) -> OperatorState:
        return OperatorState("active", address=registered)

    monkeypatch.setattr(Registry, "operator", operator)
    assert await find_own_address(Reader(), bytes(20), ME) == found


async def test_an_l1_that_is_down_does_not_hold_up_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_watch, "OWN_ADDRESS_WITHIN_S", 0.01)
    assert await find_own_address(Reader(), bytes(20), ME) is None
