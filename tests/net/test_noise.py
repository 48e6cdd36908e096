"""The secure channel against py-libp2p's: handshakes both ways, records both ways, forgeries."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.peer.id import ID
from libp2p.security.noise.messages import NoiseHandshakePayload
from libp2p.security.noise.patterns import PatternXX
from noise.connection import NoiseConnection

from net.libp2p.errors import PeerError, Reason, StreamEnded
from net.libp2p.identity import Identity
from net.libp2p.noise import (
    MAX_PLAINTEXT_BYTES,
    MAX_RECORD_BYTES,
    Noise,
    RecordDecoder,
    RecordEncoder,
    SecureChannel,
)
from tests.net.streams import MemoryStream, pair, script

KEY = bytes(range(32))
ALICE, BOB, EVE = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2, 3))

texts = st.one_of(st.binary(min_size=1, max_size=300), st.integers(1, 200_000).map(bytes))


class RawConnection:
    """A memory stream as py-libp2p's handshake wants it."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream

    async def read(self, count: int) -> bytes:
        return await self.stream.read_exactly(count)

    async def write(self, data: bytes) -> None:
        self.stream.write(data)


def stock_pattern(identity: Identity) -> Any:
    keys = create_new_key_pair(identity.seed)
    static = create_new_x25519_key_pair().private_key
    return PatternXX(ID.from_base58(identity.peer_id), keys.private_key, static)


def stock_cipher_pair() -> tuple[NoiseConnection, NoiseConnection]:
    """Both ends of a finished noiseprotocol handshake."""
    ends = []
    for is_initiator in (True, False):
        end = NoiseConnection.from_name(b"Noise_NN_25519_ChaChaPoly_SHA256")
        end.set_as_initiator() if is_initiator else end.set_as_responder()
        end.start_handshake()
        ends.append(end)
    initiator, responder = ends
    responder.read_message(bytes(initiator.write_message()))
    initiator.read_message(bytes(responder.write_message()))
    return initiator, responder


# -- records


@given(st.lists(texts, max_size=6), st.integers(1, 70_000))
def test_records_survive_any_cutting(plaintexts: list[bytes], size: int) -> None:
    encoder, decoder = RecordEncoder(KEY), RecordDecoder(KEY)
    wire = b"".join(b"".join(encoder.encode(text)) for text in plaintexts)
    received, buffered = b"", b""
    for start in range(0, len(wire), size):
        buffered += wire[start : start + size]
        opened, used = decoder.decode(memoryview(buffered))
        received += b"".join(opened)
        buffered = buffered[used:]
        assert len(buffered) < 2 + MAX_RECORD_BYTES
    assert received == b"".join(plaintexts)
    assert not buffered


@given(st.lists(texts, max_size=5))
def test_noiseprotocol_opens_our_records_and_we_open_those_it_sealed(texts: list[bytes]) -> None:
    initiator, responder = stock_cipher_pair()
    protocol = initiator.noise_protocol
    encoder = RecordEncoder(protocol.cipher_state_encrypt.k)
    decoder = RecordDecoder(protocol.cipher_state_decrypt.k)
    for text in texts:
        parts = encoder.encode(text)
        lengths = [int.from_bytes(length, "big") for length in parts[::2]]
        assert lengths == [len(sealed) for sealed in parts[1::2]]
        assert b"".join(responder.decrypt(sealed) for sealed in parts[1::2]) == text
        sealed = responder.encrypt(text[:MAX_PLAINTEXT_BYTES])
        wire = len(sealed).to_bytes(2, "big") + sealed
        assert decoder.decode(memoryview(wire)) == ([text[:MAX_PLAINTEXT_BYTES]], len(wire))


def test_no_record_is_longer_than_its_length_can_say() -> None:
    parts = RecordEncoder(KEY).encode(bytes(3 * MAX_PLAINTEXT_BYTES + 1))
    assert [len(part) for part in parts[1::2]] == [MAX_RECORD_BYTES] * 3 + [17]


def test_nothing_to_say_is_no_record() -> None:
    # py-libp2p takes an empty record for the end of the connection
    assert RecordEncoder(KEY).encode(b"") == []


@given(st.integers(2, 117), st.integers(0, 7))
def test_a_record_with_one_bit_changed_is_refused(index: int, bit: int) -> None:
    wire = bytearray(b"".join(RecordEncoder(KEY).encode(bytes(100))))
    wire[index] ^= 1 << bit
    with pytest.raises(PeerError) as caught:
        RecordDecoder(KEY).decode(memoryview(wire))
    assert caught.value.reason is Reason.BAD_RECORD


def test_a_record_out_of_its_turn_or_twice_is_refused() -> None:
    encoder = RecordEncoder(KEY)
    first, second = (b"".join(encoder.encode(text)) for text in (b"first", b"second"))
    with pytest.raises(PeerError):
        RecordDecoder(KEY).decode(memoryview(second))
    with pytest.raises(PeerError):
        RecordDecoder(KEY).decode(memoryview(first + first))


@given(st.binary(max_size=400))
def test_any_bytes_are_no_record_or_not_a_whole_one(data: bytes) -> None:
    with suppress(PeerError):
        assert RecordDecoder(KEY).decode(memoryview(data)) == ([], 0)


# -- handshakes


def assert_connected(ours: SecureChannel, theirs: Any) -> None:
    """Both ends hold the same keys, crosswise."""
    state = theirs.conn.noise_state
    [_, sealed] = ours.encoder.encode(b"to them")
    assert state.decrypt(sealed) == b"to them"
    sealed = state.encrypt(b"to us")
    wire = memoryview(len(sealed).to_bytes(2, "big") + sealed)
    assert ours.decoder.decode(wire)[0] == [b"to us"]


async def test_we_shake_hands_with_py_libp2p_as_dialler() -> None:
    here, there = pair()
    ours, theirs = await asyncio.gather(
        Noise(ALICE).initiate(here, BOB.peer_id),
        stock_pattern(BOB).handshake_inbound(RawConnection(there)),
    )
    assert ours.peer == BOB.peer_id
    assert theirs.get_remote_peer() == ALICE.peer_id
    assert_connected(ours, theirs)


async def test_we_shake_hands_with_py_libp2p_as_listener() -> None:
    here, there = pair()
    ours, theirs = await asyncio.gather(
        Noise(ALICE).respond(here),
        stock_pattern(BOB).handshake_outbound(RawConnection(there), ID.from_base58(ALICE.peer_id)),
    )
    assert ours.peer == BOB.peer_id
    assert_connected(ours, theirs)


async def test_a_dialler_who_meets_somebody_else_says_nothing_of_itself() -> None:
    here, there = pair()
    answering = asyncio.ensure_future(Noise(EVE).respond(there))
    with pytest.raises(PeerError) as caught:
        await Noise(ALICE).initiate(here, BOB.peer_id)
    assert caught.value.reason is Reason.HANDSHAKE_FAILED
    assert len(here.written) == 2 + 32  # the ephemeral key alone
    answering.cancel()


async def test_nobody_can_show_another_ones_key() -> None:
    pattern = stock_pattern(EVE)
    honest_payload = pattern.make_handshake_payload()
    stolen = create_new_key_pair(BOB.seed).public_key
    pattern.make_handshake_payload = lambda: NoiseHandshakePayload(stolen, honest_payload.id_sig)
    here, there = pair()
    dialing = asyncio.ensure_future(
        pattern.handshake_outbound(RawConnection(there), ID.from_base58(ALICE.peer_id))
    )
    with pytest.raises(PeerError) as caught:
        await Noise(ALICE).respond(here)
    assert caught.value.reason is Reason.HANDSHAKE_FAILED
    await dialing


@given(st.lists(st.binary(max_size=200), max_size=3), st.booleans())
def test_any_bytes_end_a_handshake_in_a_peer_error_or_the_end_of_the_stream(
    messages: list[bytes], as_dialer: bool
) -> None:
    wire = b"".join(len(message).to_bytes(2, "big") + message for message in messages)

    async def shake() -> None:
        stream = script(wire)
        noise = NOISE_OF_ALICE
        with pytest.raises((PeerError, StreamEnded)):
            await (noise.initiate(stream, BOB.peer_id) if as_dialer else noise.respond(stream))

    asyncio.run(shake())


NOISE_OF_ALICE = Noise(ALICE)
