"""The secure channel: the Noise XX handshake of libp2p and the encrypted records after it.

Source: https://github.com/libp2p/specs/tree/master/noise. The handshake is py-libp2p's
`PatternXX` (it touches no trio primitive and runs on any event loop); it proves that the other
end holds the key which its peer id is. Everything after it travels in records: a 2-byte length
and up to 65,535 bytes of ChaCha20-Poly1305, the nonce being the number of the record.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from net.libp2p.errors import PeerError, Reason, StreamEnded
from net.libp2p.identity import Identity
from net.libp2p.multistream import ByteStream
from net.transport import PeerId

NOISE = "/noise"
LENGTH_BYTES = 2
TAG_BYTES = 16
MAX_RECORD_BYTES = 65_535
MAX_PLAINTEXT_BYTES = MAX_RECORD_BYTES - TAG_BYTES

_MAX_ERROR_CHARACTERS = 300
_LENGTH = Struct(">H")
_NONCE = Struct("<4xQ")


class RecordEncoder:
    """Plaintext into records, under the key of one direction."""

    __slots__ = ("_count", "_encrypt")

    def __init__(self, key: bytes) -> None:
        self._encrypt = ChaCha20Poly1305(key).encrypt
        self._count = 0

    def encode(self, plaintext: bytes) -> list[bytes]:
        """The records of `plaintext`, each as its length and its ciphertext; none if empty."""
        if len(plaintext) <= MAX_PLAINTEXT_BYTES:
            return self._record(plaintext) if plaintext else []
        parts: list[bytes] = []
        view = memoryview(plaintext)
        for start in range(0, len(view), MAX_PLAINTEXT_BYTES):
            parts += self._record(view[start : start + MAX_PLAINTEXT_BYTES])
        return parts

    def _record(self, plaintext: bytes | memoryview) -> list[bytes]:
        sealed = self._encrypt(_NONCE.pack(self._count), plaintext, None)
        self._count += 1
        return [_LENGTH.pack(len(sealed)), sealed]


class RecordDecoder:
    """Records back into plaintext, under the key of one direction."""

    __slots__ = ("_count", "_decrypt")

    def __init__(self, key: bytes) -> None:
        self._decrypt = ChaCha20Poly1305(key).decrypt
        self._count = 0

    def decode(self, buffer: memoryview) -> tuple[list[bytes], int]:
        """The plaintexts of all whole records in `buffer` and how many bytes those took.

        PeerError if a record is too short or was not sealed by the other end.
        """
        plaintexts: list[bytes] = []
        start, size = 0, len(buffer)
        while size - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES + _LENGTH.unpack_from(buffer, start)[0]
            if end > size:
                break
            plaintexts.append(self._open(buffer[start + LENGTH_BYTES : end]))
            start = end
        return plaintexts, start

    def _open(self, sealed: memoryview) -> bytes:
        if len(sealed) < TAG_BYTES:
            raise PeerError(Reason.BAD_RECORD, f"record of {len(sealed)} bytes")
        try:
            plaintext = self._decrypt(_NONCE.pack(self._count), sealed, None)
        except InvalidTag:
            raise PeerError(Reason.BAD_RECORD, f"record {self._count} is forged") from None
        self._count += 1
        return plaintext


@dataclass(frozen=True, slots=True)
class SecureChannel:
    """Who is at the other end, and the codecs of both directions."""

    peer: PeerId
    static_key: bytes
    """The X25519 key of the other end's process: each `Noise` has its own."""
    encoder: RecordEncoder
    decoder: RecordDecoder


class Noise:
    """One identity's side of Noise handshakes, with a static X25519 key of its own.

    Constructing one imports py-libp2p, which takes about half a second and 70 MB.
    """

    def __init__(self, identity: Identity) -> None:
        from libp2p.crypto.ed25519 import create_new_key_pair
        from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
        from libp2p.peer.id import ID
        from libp2p.security.noise.patterns import PatternXX

        self._id = ID.from_base58
        static = create_new_x25519_key_pair()
        self.static_key: bytes = static.public_key.to_bytes()
        """What others see as my `SecureChannel.static_key`."""
        self._pattern = PatternXX(
            ID.from_base58(identity.peer_id),
            create_new_key_pair(identity.seed).private_key,
            static.private_key,
        )

    async def initiate(self, stream: ByteStream, peer: PeerId) -> SecureChannel:
        """Shake hands as dialler; PeerError unless `peer` is at the other end."""
        return await _channel(
            self._pattern.handshake_outbound(_raw_connection(stream), self._id(peer))
        )

    async def respond(self, stream: ByteStream) -> SecureChannel:
        """Shake hands as listener; PeerError unless the other end holds the key it shows."""
        return await _channel(self._pattern.handshake_inbound(_raw_connection(stream)))


async def _channel(handshake: Awaitable[Any]) -> SecureChannel:
    """Run a handshake and take the keys out of py-libp2p's session."""
    try:
        session = await handshake
    except (OSError, StreamEnded):
        raise
    except Exception as error:
        # the libraries report a peer's nonsense in a dozen exception types
        text = f"noise: {type(error).__name__}: {error}"
        raise PeerError(Reason.HANDSHAKE_FAILED, text[:_MAX_ERROR_CHARACTERS]) from None
    ciphers = session.conn.noise_state.noise_protocol
    return SecureChannel(
        session.get_remote_peer().to_base58(),
        session.remote_permanent_pubkey.to_bytes(),
        RecordEncoder(ciphers.cipher_state_encrypt.k),
        RecordDecoder(ciphers.cipher_state_decrypt.k),
    )


def _raw_connection(stream: ByteStream) -> Any:
    return _RawConnection(stream)  # of py-libp2p's interface only what the handshake calls


class _RawConnection:
    """A byte stream in the shape that py-libp2p's handshake reads and writes."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def read(self, count: int) -> bytes:
        return await self._stream.read_exactly(count)

    async def write(self, data: bytes) -> None:
        self._stream.write(data)
