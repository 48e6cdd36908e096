"""Committees with real keys, and L1s with real EVMs that the contract is deployed on."""

from collections.abc import Iterator

import pytest

from testnet.l1.launch import find_anvil
from tests.settlement.l1s import AnvilEvm, EmbeddedEvm, Evm


@pytest.fixture(scope="session")
def embedded() -> Evm:
    """py-evm with native BLS precompiles."""
    return EmbeddedEvm()


@pytest.fixture(scope="session", params=["embedded", "anvil"])
def evm(request: pytest.FixtureRequest) -> Iterator[Evm]:
    """Every EVM that is there: the contract must behave alike on all of them."""
    if request.param == "embedded":
        yield request.getfixturevalue("embedded")
        return
    binary = find_anvil()
    if binary is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    anvil = AnvilEvm(binary)
    try:
        yield anvil
    finally:
        anvil.close()
