"""`node.toml`: defaults for everything, and everything that is wrong said at once."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.rules import Rules
from sequencer.config import (
    MAX_FILE_BYTES,
    ConfigError,
    L1Config,
    LogConfig,
    NamespaceConfig,
    NetworkConfig,
    NodeConfig,
    PoolConfig,
    RpcConfig,
    parse_address,
    write_default,
)

BOB = "12D3KooWKQ94dtE7cj8yWcBftL2QYMrjm7UrmHyLTnrMYC6YaJAr"
FULL = """
name = "alice"
[network]
listen = "0.0.0.0:9001"
peers = ["/dns4/bob.example/tcp/9000/p2p/12D3KooWKQ94dtE7cj8yWcBftL2QYMrjm7UrmHyLTnrMYC6YaJAr"]
[rpc]
listen = "[::1]:8546"
[l1]
url = "http://127.0.0.1:8545"
confirmations = 4
poll_ms = 250
takeover_blocks = 5
[pool]
seal_bytes = 1000
seal_ms = 7
max_pending_bytes = 1000000
[namespaces."901"]
policy = "ethereum"
min_fee_wei = 7
rollup_rpc = "https://rollup.example"
[namespaces.902]
policy = "opaque"
[log]
level = "debug"
json = true
"""


def wrong(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        NodeConfig.parse(text)
    return tuple(
        sentence.removeprefix("node.toml").removeprefix(": ") for sentence in raised.value.sentences
    )


def test_every_setting_is_read() -> None:
    assert NodeConfig.parse(FULL) == NodeConfig(
        "alice",
        NetworkConfig("0.0.0.0:9001", (f"/dns4/bob.example/tcp/9000/p2p/{BOB}",)),
        RpcConfig("[::1]:8546"),
        L1Config("http://127.0.0.1:8545", 4, 250, 5),
        PoolConfig(1000, 7, 1_000_000),
        {
            901: NamespaceConfig("ethereum", 7, "https://rollup.example"),
            902: NamespaceConfig("opaque"),
        },
        LogConfig("debug", True),
    )


def test_everything_has_a_default_that_works() -> None:
    assert NodeConfig.parse("") == NodeConfig()
    assert NodeConfig().violations(Rules()) == []


def test_addresses_come_apart() -> None:
    config = NodeConfig.parse(FULL)
    assert config.network.address == ("0.0.0.0", 9001)
    assert config.rpc.address == ("::1", 8546)
    assert config.network.peer_addresses == {BOB: ("bob.example", 9000)}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "x", "x:", ":1", "x:y", "x:-1", "x:65536", "::1:80", "x:1 ", "x:١", "x:+1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_address(text)


def test_all_wrong_settings_are_said_at_once() -> None:
    assert wrong(
        'nam = "x"\n[network]\nlisten = 5\n[rpc]\nport = 1\n[l1]\npoll_ms = true\n'
        "[namespaces.x]\n[namespaces.1]\npolicy = 1\n[log]\njson = 1"
    ) == (
        "namespaces.x is not a number of 64 bits",
        "namespaces.1.policy is 1, it has to be a string in quotes",
        "there is no setting nam",
        "network.listen is 5, it has to be a string in quotes",
        "there is no setting rpc.port",
        "l1.poll_ms is True, it has to be a whole number",
        "log.json is 1, it has to be true or false",
    )


def test_peers_are_multiaddresses_with_a_peer_id() -> None:
    assert wrong('[network]\npeers = "x"') == (
        "network.peers is 'x', it has to be a list of strings",
    )
    assert wrong("[network]\npeers = [1]") == (
        "network.peers is [1], it has to be a list of strings",
    )
    found = wrong('[network]\npeers = ["x", "/ip4/127.0.0.1/tcp/9000"]')
    assert "is not a multiaddress" in found[0]
    assert "does not have the form" in found[1]
    many = ", ".join([f'"/ip4/127.0.0.1/tcp/1/p2p/{BOB}"'] * 129)
    assert "128 is the most" in wrong(f"[network]\npeers = [{many}]")[0]


def test_all_impossible_values_are_said_at_once() -> None:
    sentences = wrong(
        'name = ""\n[network]\nlisten = "x"\n[rpc]\nlisten = "y"\n'
        '[l1]\nurl = "ftp://x"\nconfirmations = -1\npoll_ms = 1\ntakeover_blocks = 2\n'
        "[pool]\nseal_bytes = 200000\nseal_ms = -1\nmax_pending_bytes = 100000\n"
        '[namespaces.7]\npolicy = "any"\nmin_fee_wei = -1\nrollup_rpc = "x"\n'
        '[log]\nlevel = "loud"'
    )
    subjects = [
        "name has to have 1 to 64 characters",
        "network.listen: 'x' is not host:port",
        "rpc.listen: 'y' is not host:port",
        "log.level is 'loud'",
        "l1.url is 'ftp://x'",
        "l1.confirmations is -1",
        "l1.poll_ms is 1",
        "l1.takeover_blocks is 2",
        "pool.seal_ms is -1",
        "pool.seal_bytes is above pool.max_pending_bytes",
        "namespaces.7.policy is 'any'",
        "namespaces.7.min_fee_wei is below zero",
        "namespaces.7.rollup_rpc is 'x'",
    ]
    assert len(sentences) == len(subjects)
    for sentence, subject in zip(sentences, subjects, strict=True):
        assert sentence.startswith(subject)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "is not TOML"),
        ("rpc = 5", "rpc has to be a table"),
        ("namespaces = 5", "namespaces has to be a table"),
        ("[namespaces]\n7 = 5", "namespaces.7 has to be a table"),
        ("[namespaces.18446744073709551616]", "not a number of 64 bits"),
        ("[namespaces.-1]", "not a number of 64 bits"),
        ("[rpc.listen]\nx = 1", "it has to be a string"),
    ],
)
def test_malformed_settings_are_a_sentence(text: str, sentence: str) -> None:
    (found,) = wrong(text)
    assert sentence in found


def test_settings_are_checked_against_the_rules() -> None:
    config = NodeConfig(pool=PoolConfig(seal_bytes=2000))
    assert config.violations(Rules()) == []
    (sentence,) = config.violations(Rules(max_collection_bytes=1999))
    assert sentence == "pool.seal_bytes is 2000, the genesis allows collections of 1999"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(TEXTS, TEXTS, st.integers(0, 2**64 - 1), st.integers(0, 2**62), st.booleans())
def test_what_is_dumped_is_read_back(
    name: str, path: str, number: int, fee: int, json: bool
) -> None:
    config = NodeConfig(
        name=name,
        l1=L1Config("http://" + path),
        namespaces={number: NamespaceConfig("ethereum", fee, "https://" + path)},
        log=LogConfig("error", json),
    )
    assert NodeConfig.parse(config.dump()) == config


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert NodeConfig.parse(text).violations() == []


def test_a_default_file_is_written_and_loaded(tmp_path: Path) -> None:
    directory = tmp_path / "node7"
    directory.mkdir()
    assert write_default(directory).name == "node7"
    written = write_default(
        directory, name="x", listen="0.0.0.0:1", rpc="0.0.0.0:2", l1_url="http://l1"
    )
    assert NodeConfig.load(directory) == written
    assert written == NodeConfig(
        "x", NetworkConfig("0.0.0.0:1"), RpcConfig("0.0.0.0:2"), L1Config("http://l1")
    )


def test_an_impossible_default_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        write_default(tmp_path, listen="x", l1_url="y")
    assert len(raised.value.sentences) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    with pytest.raises(ConfigError, match=r"node\.toml cannot be read: No such file"):
        NodeConfig.load(tmp_path)
    file.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="is not UTF-8"):
        NodeConfig.load(tmp_path)
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match=r"node\.toml has more than"):
        NodeConfig.load(tmp_path)
    file.write_text("x = 1")
    with pytest.raises(ConfigError, match=f"{tmp_path}/node.toml: there is no setting x"):
        NodeConfig.load(tmp_path)


def test_history_is_kept_whole_or_for_so_many_heights() -> None:
    assert NodeConfig().history.heights is None
    assert NodeConfig.parse('[history]\nkeep = "all"').history.heights is None
    config = NodeConfig.parse("[history]\nkeep = 9000")
    assert config.history.heights == 9_000
    assert NodeConfig.parse(config.dump()) == config
    assert wrong("[history]\nkeep = true") == (
        "history.keep is True, it has to be a string in quotes or a whole number",
    )
    assert wrong('[history]\nkeep = "9000"') == ("history.keep is '9000', not \"all\" or a number",)
    assert wrong("[history]\nkeep = 0") == ("history.keep is 0, it has to be at least 1",)


def test_history_reaches_as_far_back_as_the_rules_look() -> None:
    rules = Rules(duplicate_window_heights=1_000, digest_window_heights=100)
    assert NodeConfig.parse("[history]\nkeep = 1100").violations(rules) == []
    assert NodeConfig.parse("[history]\nkeep = 1099").violations(rules) == [
        "history.keep is 1099; the genesis looks back 1100 heights (duplicate_window_heights and "
        "digest_window_heights), so less cannot be kept"
    ]
