"""The genesis: equal everywhere or another chain, and every violation said at once."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.bls import KeySigner, new_bls_secret
from consensus.rules import Rules
from net.libp2p.identity import peer_id_from_public_key
from sequencer.config import ConfigError
from sequencer.genesis import Genesis, GenesisMember, L1Settings

SIGNERS = [KeySigner(new_bls_secret(bytes([n + 1]) * 32), bytes([n + 1]) * 32) for n in range(4)]
PEERS = [peer_id_from_public_key(signer.identity) for signer in SIGNERS]
MEMBERS = [
    GenesisMember(
        f"node{index}",
        signer.identity,
        signer.bls_key,
        signer.prove_possession(),
        f"/ip4/127.0.0.1/tcp/{9000 + index}/p2p/{PEERS[index]}",
        weight=index + 1,
    )
    for index, signer in enumerate(SIGNERS)
]
GENESIS = Genesis.create("test", MEMBERS, Rules())
L1 = L1Settings(31337, b"\xaa" * 20, 12, "depth:4")

Change = Callable[[dict[str, Any]], object]


def parsed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GENESIS.dump())
    return found


def with_change(change: Change) -> str:
    data = parsed()
    change(data)
    return json.dumps(data)


def wrong(change: Change) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        Genesis.parse(with_change(change))
    return raised.value.sentences


def test_a_genesis_reads_back() -> None:
    assert Genesis.parse(GENESIS.dump()) == GENESIS
    assert Genesis.parse(GENESIS.dump().encode()) == GENESIS
    posting = GENESIS.with_l1(L1)
    assert Genesis.parse(posting.dump()) == posting
    assert posting.l1 == L1


def test_members_are_in_the_order_they_were_given() -> None:
    assert [member.identity for member in GENESIS.committee.members] == [
        signer.identity for signer in SIGNERS
    ]
    assert [member.weight for member in GENESIS.committee.members] == [1, 2, 3, 4]
    assert GENESIS.names == ("node0", "node1", "node2", "node3")
    assert GENESIS.committee.epoch == 0
    assert GENESIS.rules == Rules()
    assert [GENESIS.address_of(index) for index in range(4)] == [item.address for item in MEMBERS]


def test_the_chain_id_is_pinned() -> None:
    core = json.dumps(parsed()["core"], sort_keys=True, separators=(",", ":"))
    assert GENESIS.chain_id == sha256(core.encode()).digest()
    alone = Genesis.create("pinned", MEMBERS[:1], Rules())
    without_rules = json.loads(alone.dump())["core"] | {"rules": {}}
    canonical = json.dumps(without_rules, sort_keys=True, separators=(",", ":")).encode()
    assert (
        sha256(canonical).hexdigest()
        == "961a4d7ad929820ce3a6d45f1d2c0a202644a37df3335e041ff6fcea28f1a4c9"
    )


CHANGES: dict[str, Change] = {
    "name": lambda data: data["core"].update(name="other"),
    "epoch": lambda data: data["core"].update(epoch=1),
    "order": lambda data: data["core"]["committee"].reverse(),
    "fewer": lambda data: (
        data["core"]["committee"].pop(),
        data["addresses"].pop(SIGNERS[3].identity.hex()),
    ),
    "member name": lambda data: data["core"]["committee"][0].update(name="x"),
    "weight": lambda data: data["core"]["committee"][0].update(weight=9),
}


def raise_rule(name: str) -> Change:
    return lambda data: data["core"]["rules"].update({name: data["core"]["rules"][name] + 1})


CHANGES |= {f"rule {item.name}": raise_rule(item.name) for item in fields(Rules)}


@pytest.mark.parametrize("name", CHANGES)
def test_another_core_is_another_chain(name: str) -> None:
    assert Genesis.parse(with_change(CHANGES[name])).chain_id != GENESIS.chain_id


SAME: dict[str, Change] = {
    "l1": lambda data: data.update(
        l1={
            "chain_id": 1,
            "contract": "0x" + "aa" * 20,
            "deploy_block": 0,
            "finality": "tag",
        }
    ),
    "an address": lambda data: data["addresses"].update(
        {SIGNERS[0].identity.hex(): f"/dns4/example.org/tcp/1/p2p/{PEERS[0]}"}
    ),
    "hex in capitals": lambda data: data["core"]["committee"][0].update(
        identity=SIGNERS[0].identity.hex().upper()
    ),
    "hex with 0x": lambda data: data["core"]["committee"][0].update(
        bls_key="0x" + SIGNERS[0].bls_key.hex()
    ),
    "order of keys": lambda data: data.update(core=dict(reversed(data["core"].items()))),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_not_core_leaves_the_chain_as_it_is(name: str) -> None:
    assert Genesis.parse(with_change(SAME[name])).chain_id == GENESIS.chain_id


def test_the_peer_id_of_an_address_is_added() -> None:
    short = "/ip4/127.0.0.1/tcp/9000"
    genesis = Genesis.parse(
        with_change(lambda data: data["addresses"].update({SIGNERS[0].identity.hex(): short}))
    )
    assert genesis.address_of(0) == f"{short}/p2p/{PEERS[0]}"


def test_finality_is_a_tag_or_a_depth() -> None:
    assert L1.finality_depth == 4
    assert replace(L1, finality="tag").finality_depth is None
    for finality in ("", "depth:", "depth:0", "depth:-1", "depth:x", "depth:100000", "latest", 4):
        text = GENESIS.with_l1(L1).dump().replace('"depth:4"', json.dumps(finality))
        with pytest.raises(ConfigError, match=r'l1\.finality has to be "tag" or "depth:N"'):
            Genesis.parse(text)


def test_data_goes_to_calldata_unless_the_genesis_says_otherwise() -> None:
    assert L1.data == "calldata"
    text = GENESIS.with_l1(L1).dump()
    without = json.loads(text)
    del without["l1"]["data"]
    assert Genesis.parse(json.dumps(without)).l1 == L1
    for data in ("calldata", "either", "blobs"):
        chosen = replace(L1, data=data)
        assert Genesis.parse(GENESIS.with_l1(chosen).dump()).l1 == chosen
    for wrong_data in ("blob", "", None, 4, []):
        with pytest.raises(ConfigError, match=r"l1\.data has to be one of calldata, either, blobs"):
            Genesis.parse(text.replace('"data": "calldata"', f'"data": {json.dumps(wrong_data)}'))


def test_only_blobs_carry_large_batches() -> None:
    large = Genesis.create("large", MEMBERS, replace(Rules(), batch_max_bytes=761_852))
    assert Genesis.parse(large.with_l1(replace(L1, data="blobs")).dump()).l1 is not None
    for data in ("calldata", "either"):
        with pytest.raises(ConfigError, match=r'761852.* carries 122880: l1.data .* "blobs"'):
            Genesis.parse(large.with_l1(replace(L1, data=data)).dump())


def member(index: int, **changes: Any) -> Change:
    return lambda data: data["core"]["committee"][index].update(changes)


WRONG: dict[str, tuple[Change, str]] = {
    "unknown key": (lambda data: data.update(x=1), "the genesis has an unknown 'x'"),
    "unknown in core": (lambda data: data["core"].update(x=1), "core has an unknown 'x'"),
    "no core": (lambda data: data.update(core=[]), "core has to be an object"),
    "version": (lambda data: data["core"].update(version=2), "core.version is 2"),
    "name": (lambda data: data["core"].update(name=""), "core.name has to be a text"),
    "long name": (lambda data: data["core"].update(name="x" * 65), "core.name has to be a text"),
    "epoch": (lambda data: data["core"].update(epoch=-1), "core.epoch has to be"),
    "epoch true": (lambda data: data["core"].update(epoch=True), "core.epoch has to be"),
    "no members": (
        lambda data: (data["core"].update(committee=[]), data.update(addresses={})),
        "core.committee: a committee has 1 to",
    ),
    "a rule is missing": (
        lambda data: data["core"]["rules"].pop("round_window"),
        "core.rules lacks 'round_window'",
    ),
    "a rule too many": (lambda data: data["core"]["rules"].update(x=1), "unknown 'x'"),
    "a rule is text": (
        lambda data: data["core"]["rules"].update(round_window="64"),
        "core.rules.round_window has to be a whole number",
    ),
    "rules contradict": (
        lambda data: data["core"]["rules"].update(max_timeout_ms=1),
        "core.rules.max_timeout_ms is below rules.base_timeout_ms",
    ),
    "weight zero": (member(1, weight=0), "core.committee[1].weight has to be"),
    "short identity": (member(1, identity="00" * 31), "core.committee[1].identity has to be 32"),
    "spaced hex": (member(1, identity="00 " * 32), "core.committee[1].identity has to be 32"),
    "no hex": (member(1, bls_key="zz" * 48), "core.committee[1].bls_key has to be 48"),
    "no key": (member(1, bls_key="00" * 48), "does not prove that node1 has its key"),
    "identity key": (member(1, bls_key="c0" + "00" * 47), "does not prove"),
    "somebody else's key": (
        member(1, bls_key=SIGNERS[0].bls_key.hex()),
        "core.committee[1].possession does not prove that node1 has its key",
    ),
    "somebody else's proof": (
        member(1, possession=SIGNERS[0].prove_possession().hex()),
        "does not prove that node1 has its key",
    ),
    "same key twice": (
        member(
            1,
            bls_key=SIGNERS[0].bls_key.hex(),
            possession=SIGNERS[0].prove_possession().hex(),
        ),
        "two members have the same bls_key",
    ),
    "same name twice": (member(1, name="node0"), "two members have the same name"),
    "no addresses": (lambda data: data.update(addresses=None), "addresses has to be an object"),
    "address missing": (
        lambda data: data["addresses"].pop(SIGNERS[2].identity.hex()),
        "addresses lacks a multiaddr for node2",
    ),
    "address of a stranger": (
        lambda data: data["addresses"].update({"ab" * 32: "/ip4/1.2.3.4/tcp/1"}),
        "who is not in the committee",
    ),
    "no multiaddr": (
        lambda data: data["addresses"].update({SIGNERS[2].identity.hex(): "localhost:9"}),
        "the address of node2",
    ),
    "another peer": (
        lambda data: data["addresses"].update(
            {SIGNERS[2].identity.hex(): f"/ip4/1.2.3.4/tcp/1/p2p/{PEERS[0]}"}
        ),
        "the address of node2 has another peer id than its identity",
    ),
    "window too short": (
        lambda data: data["core"]["rules"].update(digest_window_heights=2),
        "digest_window_heights is 2, and it takes 10 rounds until each member has led",
    ),
    "l1 incomplete": (lambda data: data.update(l1={}), "l1 lacks 'contract'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_violation_is_a_sentence(name: str) -> None:
    change, sentence = WRONG[name]
    assert any(sentence in found for found in wrong(change))


def test_all_violations_are_said_at_once() -> None:
    def change(data: dict[str, Any]) -> None:
        data["core"].update(name="", version=7)
        data["core"]["committee"][0].update(weight="x", identity=5)
        data["core"]["committee"][2].update(possession=SIGNERS[0].prove_possession().hex())
        data["core"]["rules"].update(base_timeout_ms="x", x=1)
        data["l1"] = {"chain_id": 0, "contract": "x", "deploy_block": -1, "finality": "y"}

    found = wrong(change)
    for part in (
        "core.name",
        "core.version",
        "committee[0].weight",
        "committee[0].identity",
        "committee[2].possession",
        "rules.base_timeout_ms",
        "unknown 'x'",
        "l1.chain_id",
        "l1.contract",
        "l1.deploy_block",
        "l1.finality",
    ):
        assert any(part in sentence for sentence in found), part


def test_creating_checks_as_parsing_does() -> None:
    with pytest.raises(ConfigError, match="does not prove that node0 has its key"):
        Genesis.create("x", [replace(MEMBERS[0], possession=bytes(96))], Rules())
    with pytest.raises(ConfigError, match="two members have the same identity"):
        Genesis.create(
            "x", [MEMBERS[0], replace(MEMBERS[1], identity=MEMBERS[0].identity)], Rules()
        )
    with pytest.raises(ConfigError, match="rules"):
        Genesis.create("x", MEMBERS[:1], Rules(max_timeout_ms=1))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        found += [place for key in keys for place in places(value[key], (*path, key))]
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.data(), JSON)
def test_any_change_is_read_or_refused(data: st.DataObject, value: object) -> None:
    genesis = parsed()
    *path, last = data.draw(st.sampled_from(places(genesis)))
    holder = genesis
    for key in path:
        holder = holder[key]
    holder[last] = value
    read_or_refused(json.dumps(genesis))


@given(st.binary(max_size=100) | st.text(max_size=100) | JSON.map(json.dumps))
def test_any_text_is_read_or_refused(data: bytes | str) -> None:
    read_or_refused(data)


def read_or_refused(data: bytes | str) -> None:
    try:
        genesis = Genesis.parse(data)
    except ConfigError:
        return
    assert Genesis.parse(genesis.dump()) == genesis


def test_odd_json_is_refused() -> None:
    for data in (b"", b"\xff", "[" * 100_000, " " * (1 << 21), "NaN"):
        with pytest.raises(ConfigError):
            Genesis.parse(data)


def test_a_file_is_loaded_or_named(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    with pytest.raises(ConfigError, match=r"genesis\.json cannot be read: No such file"):
        Genesis.load(path)
    path.write_text(GENESIS.dump())
    assert Genesis.load(path) == GENESIS
    path.write_text(GENESIS.dump()[:-5])
    with pytest.raises(ConfigError, match=r"genesis\.json: it is not JSON"):
        Genesis.load(path)
