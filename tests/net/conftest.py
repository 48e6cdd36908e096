"""How the tests of this room run: on which event loops, and without haste."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

# how long an example takes says more about the machine than about the code
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop, as in production; the contract of the seam on plain asyncio as well."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "uvloop": uvloop.new_event_loop
    }
    if item.path.name == "test_transport_contract.py":
        factories["asyncio"] = asyncio.new_event_loop
    return factories
