"""Peer ids and multiaddresses are those of py-libp2p; whatever is not one is refused in words."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from net.libp2p.identity import (
    Identity,
    is_signed_by,
    multiaddr_of,
    parse_multiaddr,
    peer_id_from_public_key,
    public_key_from_peer_id,
)

ALICE = Identity.from_seed(bytes(range(32)))
ALICE_PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def test_a_pinned_seed_has_a_pinned_peer_id() -> None:
    assert ALICE.peer_id == ALICE_PEER


@given(st.binary(min_size=32, max_size=32))
def test_peer_ids_are_those_of_py_libp2p(seed: bytes) -> None:
    theirs = create_new_key_pair(seed)
    ours = Identity.from_seed(seed)
    assert ours.peer_id == str(ID.from_pubkey(theirs.public_key))
    assert ours.public_key == theirs.public_key.to_bytes()
    assert theirs.public_key.verify(b"message", ours.sign(b"message"))


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_gives_its_public_key_back(key: bytes) -> None:
    assert public_key_from_peer_id(peer_id_from_public_key(key)) == key


@given(st.text(max_size=80))
def test_any_text_is_a_peer_id_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert peer_id_from_public_key(public_key_from_peer_id(text)) == text


@pytest.mark.parametrize(
    "peer",
    [
        "",
        "12D3KooW",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # a hash, not a key
        "16Uiu2HAm9mKAhMwL7PLUEFmRG4tLQMSgJQ1u1ZhVwVLYAtfLKqnK",  # secp256k1
        "1" * 1_000_000,
    ],
)
def test_what_is_not_an_ed25519_peer_id_is_refused(peer: str) -> None:
    with pytest.raises(ValueError, match="peer id"):
        public_key_from_peer_id(peer)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_and_seeds_have_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        peer_id_from_public_key(bytes(length))
    with pytest.raises(ValueError, match="32 bytes"):
        Identity.from_seed(bytes(length))


def test_a_signature_counts_for_its_key_and_message_alone() -> None:
    signature = ALICE.sign(b"message")
    bob = Identity.from_seed(bytes(32))
    assert is_signed_by(ALICE.public_key, b"message", signature)
    assert not is_signed_by(ALICE.public_key, b"massage", signature)
    assert not is_signed_by(bob.public_key, b"message", signature)
    assert not is_signed_by(ALICE.public_key, b"message", signature[:-1])
    assert not is_signed_by(b"short", b"message", signature)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("127.0.0.1", "/ip4/127.0.0.1/tcp/4001/p2p/"),
        ("::1", "/ip6/::1/tcp/4001/p2p/"),
        ("node-0.example.org", "/dns4/node-0.example.org/tcp/4001/p2p/"),
    ],
)
def test_a_multiaddress_round_trips(host: str, text: str) -> None:
    address = multiaddr_of(host, 4001, ALICE_PEER)
    assert address == text + ALICE_PEER
    assert parse_multiaddr(address) == (host, 4001, ALICE_PEER)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1/tcp/4001",
        f"/ip4/127.0.0.1/udp/4001/p2p/{ALICE_PEER}",
        f"/ip4/127.0.0.1/tcp/65536/p2p/{ALICE_PEER}",
        f"/ip4/1.2.3/tcp/4001/p2p/{ALICE_PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{ALICE_PEER}/p2p-circuit",
        "/ip4/127.0.0.1/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "/ip4/127.0.0.1" * 1_000,
    ],
)
def test_any_other_address_is_refused_in_words(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|peer id|form"):
        parse_multiaddr(address)


@pytest.mark.parametrize(("host", "port"), [("a b", 1), ("x/tcp/1", 1), ("", 1), ("h", 70_000)])
def test_no_multiaddress_is_made_of_nonsense(host: str, port: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        multiaddr_of(host, port, ALICE_PEER)


@given(st.text(max_size=120))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        parse_multiaddr(text)
