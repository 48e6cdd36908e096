"""JSON-RPC 2.0 without HTTP: what is answered, what is refused, and with which codes."""

import asyncio
from typing import Any

import orjson
import pytest

from sequencer.rpc.jsonrpc import Caller, Dispatcher, Method, RpcError
from sequencer.rpc.limits import Limits


async def echo(caller: Caller, first: Any, second: Any = None) -> Any:
    await asyncio.sleep(0)
    return [caller.namespace, first, second]


def refuse(_caller: Caller) -> Any:
    raise RpcError(-32005, "full", {"retry_after_ms": 7})


def break_down(_caller: Caller) -> Any:
    raise ZeroDivisionError("a secret of ours")


METHODS = {
    "echo": Method(echo, 1, 1),
    "refuse": Method(refuse),
    "break": Method(break_down),
    "long": Method(lambda _caller: "x" * 1_000),
    "bytes": Method(lambda _caller: {"id": b"\x01\xff"}),
}


async def answer(body: Any, limits: Limits | None = None) -> Any:
    dispatcher = Dispatcher(METHODS, limits or Limits())
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    answered = await dispatcher.answer(data, Caller(901))
    return None if answered is None else orjson.loads(answered)


def call(method: Any, params: Any = None, ident: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}


async def test_a_call_is_answered_with_its_id_and_result() -> None:
    assert await answer(call("echo", ["a"], "seven")) == {
        "jsonrpc": "2.0",
        "id": "seven",
        "result": [901, "a", None],
    }


async def test_bytes_in_results_become_hex() -> None:
    assert (await answer(call("bytes")))["result"] == {"id": "0x01ff"}


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", -32700, "parse error"),
        (b"", -32700, "parse error"),
        (b"\xff\xfe", -32700, "parse error"),
        (b"[" * 100_000 + b"]" * 100_000, -32700, "parse error"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, -32700, "parse error"),
        (b"[]", -32600, "empty batch"),
        (b"1", -32600, "invalid request"),
        (b"null", -32600, "invalid request"),
        (b'{"id":1,"method":"echo"}', -32600, "invalid request"),
        (b'{"jsonrpc":"2.0","id":{},"method":"echo"}', -32600, "invalid request"),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600, "invalid request"),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"eth_mine"}',
            -32601,
            "the method eth_mine does not exist/is not available",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"echo"}',
            -32602,
            "missing value for required argument 0",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"echo","params":[1,2,3]}',
            -32602,
            "too many arguments, want at most 2",
        ),
        (b'{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":1}}', -32602, "non-array args"),
    ],
)
async def test_bad_requests_get_the_codes_and_sentences_of_geth(
    body: bytes, code: int, message: str
) -> None:
    error = (await answer(body))["error"]
    assert error["code"] == code
    assert error["message"].startswith(message)


async def test_a_refusal_carries_its_data() -> None:
    error = (await answer(call("refuse")))["error"]
    assert error == {"code": -32005, "message": "full", "data": {"retry_after_ms": 7}}


async def test_our_own_faults_say_nothing_about_us() -> None:
    assert (await answer(call("break")))["error"] == {"code": -32603, "message": "internal error"}


async def test_a_batch_is_answered_in_order_with_its_errors() -> None:
    answers = await answer([call("echo", [1], 1), call("nothing", None, 2), call("echo", [3], 3)])
    assert [item["id"] for item in answers] == [1, 2, 3]
    assert [("error" in item) for item in answers] == [False, True, False]


async def test_notifications_are_not_answered() -> None:
    note = {"jsonrpc": "2.0", "method": "echo", "params": [1]}
    assert await answer(note) is None
    assert await answer([note, note]) is None
    assert len(await answer([note, call("echo", [1])])) == 1
    assert await answer({"jsonrpc": "2.0", "method": "nothing"}) is None


async def test_a_batch_has_a_largest_number_of_calls() -> None:
    limits = Limits(batch_calls=3)
    assert len(await answer([call("echo", [1])] * 3, limits)) == 3
    assert (await answer([call("echo", [1])] * 4, limits))["error"]["message"] == "batch too large"


async def test_answers_have_a_largest_size() -> None:
    limits = Limits(response_bytes=1_500)
    answers = await answer([call("long")] * 4, limits)
    assert [item.get("error", {}).get("code") for item in answers] == [None, None, -32003, -32003]
    assert (await answer(call("long"), Limits(response_bytes=500)))["error"]["code"] == -32003


async def test_calls_and_errors_are_counted() -> None:
    dispatcher = Dispatcher(METHODS, Limits())
    for method in ("refuse", "refuse", "long", "nothing"):
        await dispatcher.answer(orjson.dumps(call(method)), Caller())
    assert dispatcher.calls["refuse"] == 2
    assert dispatcher.calls["long"] == 1
    assert dispatcher.errors == {-32005: 2, -32601: 1}
    assert "nothing" not in dispatcher.calls


async def test_a_long_batch_lets_others_run() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    dispatcher = Dispatcher(METHODS, Limits())
    counter = asyncio.create_task(count())
    await dispatcher.answer(orjson.dumps([call("long")] * 200), Caller())
    counter.cancel()
    assert turns >= 10
