"""Two transactions of one sender and nonce at one node; what a choosy namespace answers."""

import pytest

from sequencer.collection import transaction_id
from sequencer.config import NamespaceConfig
from sequencer.rpc import senders
from sequencer.rpc.submit import encode_submission
from tests.sequencer.ordering_node import OrderingNode
from tests.sequencer.rpc_fixtures import ACCOUNT, ROLLUP, Served, hexed, serving, signed

FIRST, RIVAL = signed(0), signed(0, value=2)
UNDERPRICED = {"code": -32000, "message": "replacement transaction underpriced"}


def choosy() -> OrderingNode:
    return OrderingNode(automatic=False, n901=NamespaceConfig(policy="ethereum"))


async def send(served: Served, raw: bytes) -> None:
    await served.call("eth_sendRawTransaction", hexed(raw))


async def test_the_second_of_a_nonce_is_refused_while_the_first_waits() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        await send(served, FIRST)
        assert await served.refusal("eth_sendRawTransaction", hexed(RIVAL)) == UNDERPRICED
        await send(served, FIRST)
        await send(served, signed(1))
        assert served.node.submitted == [(ROLLUP, FIRST), (ROLLUP, signed(1))]
        served.node.commit()
        error = await served.refusal("eth_sendRawTransaction", hexed(RIVAL))
        assert error["message"] == "nonce too low: next nonce 2, tx nonce 0"


async def test_a_first_that_the_node_gave_up_holds_nothing() -> None:
    async with serving(OrderingNode(automatic=False)) as served:
        await send(served, FIRST)
        served.node.waiting.clear()
        await send(served, RIVAL)
        assert await served.refusal("eth_sendRawTransaction", hexed(FIRST)) == UNDERPRICED


async def test_a_first_that_waits_too_long_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "HELD_S", 0.0)
    async with serving(OrderingNode(automatic=False)) as served:
        await send(served, FIRST)
        await send(served, RIVAL)


async def test_what_holds_nonces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "ADMITTED_ENTRIES", 2)
    async with serving(OrderingNode(automatic=False)) as served:
        for nonce in range(3):
            await send(served, signed(nonce))
        await send(served, RIVAL)
        error = await served.refusal("eth_sendRawTransaction", hexed(signed(2, value=2)))
        assert error == UNDERPRICED


async def test_rivals_in_one_submission_are_refused_and_named() -> None:
    async with serving(choosy()) as served:
        given = [hexed(signed(1)), hexed(FIRST), hexed(FIRST), hexed(RIVAL)]
        error = await served.refusal("seq_submit", ROLLUP, given)
        assert error == {**UNDERPRICED, "data": {"index": 3}}
        assert served.node.submitted == []
        await send(served, FIRST)
        body = encode_submission([(ROLLUP, signed(1)), (ROLLUP, RIVAL)])
        async with served.session.post(f"{served.url}/submit", data=body) as response:
            assert response.status == 400
            assert (await response.json())["error"] == {**UNDERPRICED, "data": {"index": 1}}
        ids = await served.call("seq_submit", ROLLUP, [hexed(FIRST), hexed(signed(1))])
        assert ids == [hexed(transaction_id(ROLLUP, raw)) for raw in (FIRST, signed(1))]


async def test_a_gap_does_not_move_what_a_wallet_is_told() -> None:
    async with serving() as served:
        for nonce in (0, 30):
            await served.call("eth_sendRawTransactionSync", hexed(signed(nonce)), 2_000)
        for tag in ("latest", "pending"):
            assert await served.call("eth_getTransactionCount", ACCOUNT.address, tag) == "0x1"


async def test_a_choosy_namespace_says_so_after_the_words_of_geth() -> None:
    async with serving(choosy()) as served:
        hint = "(namespace 901 takes signed transactions of its chain id only: policy ethereum)"
        for raw, words in (
            (b"hello", "transaction type not supported"),
            (signed(0, chain_id=902), "invalid sender: invalid chain id for signer: "),
        ):
            error = await served.refusal("seq_submit", ROLLUP, [hexed(raw)])
            assert error["code"] == -32000
            assert error["message"].startswith(words)
            assert error["message"].endswith(hint)
        await send(served, FIRST)
        served.node.commit()
        error = await served.refusal("seq_submit", ROLLUP, [hexed(RIVAL)])
        assert error["message"] == "nonce too low: next nonce 1, tx nonce 0"
