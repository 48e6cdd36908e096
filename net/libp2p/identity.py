"""Who is who: an Ed25519 key, the peer id that *is* that key, and the address it is reached at.

A libp2p peer id of an Ed25519 key is the key itself, wrapped in a protobuf `PublicKey` and an
identity multihash (libp2p specs, `peer-ids/peer-ids.md`), so both directions are a matter of a
fixed prefix. Doing that here keeps `import libp2p` (half a second, 70 MB) out of every command.
"""

from dataclasses import dataclass

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from net.transport import PeerId

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32

# identity multihash of 36 bytes: protobuf field 1 (type) = Ed25519, field 2 (data) of 32 bytes
_PEER_ID_PREFIX = bytes.fromhex("002408011220")
_MAX_PEER_ID_CHARACTERS = 64
_MAX_ADDRESS_CHARACTERS = 512
_HOST_PROTOCOLS = frozenset({"ip4", "ip6", "dns", "dns4", "dns6"})


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 key and the peer id it amounts to."""

    seed: bytes
    public_key: bytes
    peer_id: PeerId

    @classmethod
    def from_seed(cls, seed: bytes) -> "Identity":
        """The identity of a 32-byte Ed25519 seed; ValueError for any other length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an identity seed has {SEED_BYTES} bytes, not {len(seed)}")
        public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        return cls(seed, public_key, peer_id_from_public_key(public_key))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of `message`."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


def is_signed_by(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the Ed25519 signature of `message` under a raw 32-byte key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def peer_id_from_public_key(public_key: bytes) -> PeerId:
    """The peer id ("12D3KooW...") of a raw 32-byte Ed25519 public key; else ValueError."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(
            f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}"
        )
    return base58.b58encode(_PEER_ID_PREFIX + public_key).decode("ascii")


def public_key_from_peer_id(peer: PeerId) -> bytes:
    """The raw 32-byte Ed25519 public key inside a peer id; ValueError says what is wrong."""
    if len(peer) > _MAX_PEER_ID_CHARACTERS:
        raise ValueError(f"a peer id of {len(peer)} characters is too long")
    try:
        raw = base58.b58decode(peer)
    except ValueError as error:
        raise ValueError(f"{peer!r} is not a peer id: {error}") from None
    if len(raw) != len(_PEER_ID_PREFIX) + PUBLIC_KEY_BYTES or not raw.startswith(_PEER_ID_PREFIX):
        raise ValueError(f"{peer!r} is not the peer id of an Ed25519 key")
    return raw[len(_PEER_ID_PREFIX) :]


def multiaddr_of(host: str, port: int, peer: PeerId) -> str:
    """The multiaddress of a member, such as `/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...`.

    `host` is an IPv4 or IPv6 address or a DNS name; ValueError when it is none of them, when the
    port is not in 0..65535 or when `peer` is not an Ed25519 peer id.
    """
    address = f"{listen_multiaddr(host, port)}/p2p/{peer}"
    parse_multiaddr(address)
    return address


def listen_multiaddr(host: str, port: int) -> str:
    """The multiaddress of a socket, such as `/ip6/::1/tcp/4001`; nothing is checked."""
    if ":" in host:
        return f"/ip6/{host}/tcp/{port}"
    return f"/{'ip4' if host.replace('.', '').isdigit() else 'dns4'}/{host}/tcp/{port}"


def parse_multiaddr(address: str) -> tuple[str, int, PeerId]:
    """Host, port and peer id of `/<ip4|ip6|dns|dns4|dns6>/<host>/tcp/<port>/p2p/<peer id>`.

    ValueError with a sentence for anything else.
    """
    if len(address) > _MAX_ADDRESS_CHARACTERS:
        raise ValueError(f"a multiaddress of {len(address)} characters is too long")
    try:
        parts = [(protocol.name, value) for protocol, value in Multiaddr(address).items()]
    except (MultiaddrError, ValueError) as error:
        raise ValueError(f"{address!r} is not a multiaddress: {error}") from None
    names = [name for name, _ in parts]
    if len(names) != 3 or names[0] not in _HOST_PROTOCOLS or names[1:] != ["tcp", "p2p"]:
        raise ValueError(
            f"{address!r} does not have the form /ip4/HOST/tcp/PORT/p2p/PEER (or ip6, dns4)"
        )
    host, port, peer = (str(value) for _, value in parts)
    public_key_from_peer_id(peer)
    return host, int(port), peer
