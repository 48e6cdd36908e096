"""One key in two processes: the one that finds the other at its own address stops."""

import asyncio

import pytest

from net.libp2p.mesh import Mesh
from sequencer import doubles
from sequencer.doubles import KeyRunsTwice, require_single, watch_for_double
from tests.net.meshes import LOOPBACK, QUICK, identities, until


async def mesh(index: int = 0) -> Mesh:
    made = Mesh(identities(2)[index].seed, LOOPBACK, {}, QUICK)
    await made.start()
    return made


async def test_a_second_process_with_my_key_stops_the_one_that_finds_it() -> None:
    first, second = await mesh(), await mesh()
    heard: list[str] = []
    first.on_own_identity = heard.append
    with pytest.raises(KeyRunsTwice, match=r"runs with these keys at 127\.0\.0\.1:\d+; .* export"):
        await require_single(second.has_double_at, first.listen_address)
    await until(lambda: len(heard) == 1)
    await first.aclose()
    await second.aclose()


async def test_myself_somebody_else_and_nobody_are_no_double() -> None:
    me, other = await mesh(), await mesh(1)
    for address in (me.listen_address, other.listen_address, ("127.0.0.1", 1), None):
        await require_single(me.has_double_at, address)
    await me.aclose()
    await other.aclose()


async def test_a_double_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published address leads to this machine, then to another one."""
    monkeypatch.setattr(doubles, "LOOK_S", 0.01)
    old = await mesh()
    published = [old.listen_address]
    watch = asyncio.ensure_future(watch_for_double(old.has_double_at, lambda: published[0]))
    await asyncio.sleep(0.05)
    assert not watch.done()
    new = await mesh()
    published[0] = new.listen_address
    with pytest.raises(KeyRunsTwice):
        await asyncio.wait_for(watch, 5)
    await old.aclose()
    await new.aclose()
