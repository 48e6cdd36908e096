"""Whatever is asked, there is an answer, and it is never our own fault."""

import asyncio
from contextlib import suppress
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from sequencer.config import NamespaceConfig
from sequencer.rpc.jsonrpc import INTERNAL_ERROR, Caller
from sequencer.rpc.limits import Limits
from sequencer.rpc.methods import Rpc
from tests.sequencer.ordering_node import OrderingNode
from tests.sequencer.rpc_fixtures import ROLLUP, hexed, signed

LIMITS = Limits(wait_default_ms=1, wait_max_ms=1)
RAW = signed(0)

hexes = st.one_of(
    st.binary(max_size=40).map(hexed),
    st.binary(min_size=20, max_size=20).map(hexed),
    st.binary(min_size=32, max_size=32).map(hexed),
    st.sampled_from([hexed(RAW), hexed(RAW[:-1]), hexed(RAW + b"\0")]),
)
tags = st.sampled_from(["latest", "pending", "safe", "finalized", "earliest", "0x1", "newHeads"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(max_size=20)
)
values = st.recursive(
    st.one_of(scalars, hexes, tags),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def a_node() -> OrderingNode:
    node = OrderingNode(automatic=False, n902=NamespaceConfig(policy="ethereum"))
    node.commit((ROLLUP, signed(0)), (ROLLUP, b"\x02junk"), (902, b"\xc0"))
    node.commit()
    return node


async def answer(rpc: Rpc, body: bytes, namespace: int | None) -> Any:
    answered = await rpc.dispatcher.answer(body, Caller(namespace))
    return None if answered is None else orjson.loads(answered)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_no_parameters_are_too_strange(data: st.DataObject) -> None:
    async def ask_everything() -> None:
        rpc = Rpc(a_node(), LIMITS)
        for name, method in rpc.dispatcher.methods.items():
            most = method.required + method.optional
            params = data.draw(st.lists(values, max_size=most + 1), label=name)
            namespace = data.draw(st.sampled_from([None, ROLLUP, 902, 2**64 - 1]))
            body = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
            try:
                encoded = orjson.dumps(body)
            except TypeError:
                continue  # a number that JSON cannot carry
            found = await answer(rpc, encoded, namespace)
            code = found.get("error", {}).get("code")
            assert code != INTERNAL_ERROR, (name, params, found)
        await rpc.close()

    asyncio.run(ask_everything())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), values)
def test_no_body_is_too_strange(junk: bytes, value: Any) -> None:
    async def ask() -> None:
        rpc = Rpc(a_node(), LIMITS)
        bodies = [junk, b"[" + junk + b"]"]
        with suppress(TypeError):  # a number that JSON cannot carry
            bodies.append(orjson.dumps(value))
            bodies.append(orjson.dumps([value, {"jsonrpc": "2.0", "id": value, "method": value}]))
        for body in bodies:
            await answer(rpc, body, ROLLUP)
        assert INTERNAL_ERROR not in rpc.dispatcher.errors
        await rpc.close()

    asyncio.run(ask())
