"""Node messages: one encoding each, and nothing but InvalidMessage for anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import InvalidMessage
from consensus.messages import SyncRequest
from net.transport import Channel
from sequencer.messages import (
    MAX_DIGESTS,
    BatchCertificate,
    BatchRequest,
    BatchVote,
    CollectionData,
    CollectionOffer,
    CollectionRequest,
    channel_of,
    decode_frame,
)

hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**64 - 1)
messages = st.one_of(
    st.builds(CollectionData, st.binary(max_size=300)),
    st.builds(CollectionRequest, st.lists(hashes, max_size=5).map(tuple)),
    st.builds(CollectionOffer, st.lists(hashes, max_size=5).map(tuple)),
    st.builds(
        BatchVote, numbers, numbers, hashes, st.integers(0, 2**32 - 1), st.binary(max_size=96)
    ),
    st.builds(
        BatchCertificate,
        numbers,
        st.binary(max_size=480),
        st.binary(max_size=16),
        st.binary(max_size=96),
    ),
    st.builds(BatchRequest, numbers),
)


@given(messages)
def test_a_message_survives_its_encoding(message: object) -> None:
    assert decode_frame(message.encode()) == message  # type: ignore[attr-defined]


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_invalid(frame: bytes) -> None:
    try:
        message = decode_frame(frame)
    except InvalidMessage:
        return
    assert message.encode() == frame


def test_the_core_answers_for_its_own_kinds() -> None:
    assert decode_frame(SyncRequest(7).encode()) == SyncRequest(7)


def test_an_unknown_kind_is_invalid() -> None:
    with pytest.raises(InvalidMessage, match="unknown message kind"):
        decode_frame(b"\xfe")


def test_too_many_digests_are_invalid() -> None:
    frame = CollectionRequest(tuple(bytes(32) for _ in range(MAX_DIGESTS + 1))).encode()
    with pytest.raises(InvalidMessage, match="items"):
        decode_frame(frame)


def test_votes_do_not_wait_behind_collections() -> None:
    assert channel_of(CollectionData(b"x")) is Channel.BULK
    assert channel_of(BatchVote(1, 0, bytes(32), 0, b"")) is Channel.CONTROL
