"""Protocol negotiation: what is agreed on, and that nonsense ends it with a PeerError."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.utils import encode_delim

from net.libp2p import multistream
from net.libp2p.errors import PeerError, Reason, StreamEnded
from tests.net.streams import pair, script

GREETING = multistream.encode(multistream.MULTISTREAM)


@given(st.text(max_size=200))
def test_messages_are_encoded_as_by_py_libp2p(text: str) -> None:
    assert multistream.encode(text) == encode_delim(text.encode())


async def test_a_proposal_the_listener_knows_is_agreed_on() -> None:
    dialer, listener = pair()
    accepting = asyncio.ensure_future(multistream.accept(listener, ("/a/1", "/b/1")))
    agreed = (await multistream.propose(dialer, "/b/1"), await accepting)
    assert agreed == (True, "/b/1")


async def test_a_proposal_the_listener_does_not_know_is_turned_down_and_another_may_follow() -> (
    None
):
    dialer, listener = pair()
    accepting = asyncio.ensure_future(multistream.accept(listener, ("/a/1",)))
    assert not await multistream.propose(dialer, "/plaintext/2.0.0")
    dialer.write(multistream.encode("/a/1"))
    assert await accepting == "/a/1"
    assert await multistream.read_message(dialer) == "/a/1"


async def test_after_so_many_unknown_proposals_the_listener_gives_up() -> None:
    proposals = [multistream.encode(f"/x/{n}") for n in range(multistream.MAX_PROPOSALS)]
    with pytest.raises(PeerError) as caught:
        await multistream.accept(script(GREETING + b"".join(proposals)), ("/a/1",))
    assert caught.value.reason is Reason.NEGOTIATION_FAILED


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: sequencer.example.org\r\nUser-Agent: curl\r\nAccept: */*\r\n\r\n",
        b"\x00",
        b"\xff\xff\xff\xff\xff",
        b"\x81\x08" + b"x" * 2_000,
        b"\x03ab\n",  # whole, but no greeting
        multistream.encode("/multistream/2.0.0"),
        b"\x05abcde",  # no newline
    ],
)
async def test_whatever_is_no_greeting_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        await multistream.accept(script(data), ("/a/1",))
    with pytest.raises(PeerError):
        await multistream.propose(script(data), "/a/1")


async def test_an_answer_that_was_not_proposed_is_refused() -> None:
    with pytest.raises(PeerError):
        await multistream.propose(script(GREETING + multistream.encode("/other/1")), "/a/1")


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(lambda b: GREETING + b)))
def test_any_bytes_end_in_agreement_a_peer_error_or_the_end_of_the_stream(data: bytes) -> None:
    async def both() -> None:
        for negotiation in (
            multistream.accept(script(data), ("/a/1",)),
            multistream.propose(script(data), "/a/1"),
        ):
            with suppress(PeerError, StreamEnded):
                await negotiation

    asyncio.run(both())
