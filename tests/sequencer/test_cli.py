"""The `sequencer` command: what it prints, how it ends, what it says if something is wrong."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from eth_hash.auto import keccak

from sequencer.cli import COMMANDS, main
from sequencer.cli.doctor import _check_clock
from sequencer.collection import Collection, transaction_id
from sequencer.genesis import Genesis, L1Settings
from sequencer.ledger import Ledger
from sequencer.settlement.batch import GENESIS_LOG_ROOT, LogEntry, next_log_root
from sequencer.store.lmdb import LmdbStore
from tests.sequencer.commands import PASSWORD, cheap_keys, good, run, wrong  # noqa: F401
from tests.sequencer.ordering_node import BLOCK_MS, START_MS, OrderingNode, genesis_of_one
from tests.sequencer.rpc_fixtures import ROLLUP, in_background, signed

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def genesis_file(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_text(genesis_of_one().dump())
    return path


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The directory of a stopped node with a log of three blocks."""
    return stopped_node(tmp_path)


def stopped_node(place: Path) -> Path:
    """The same, in a directory of `place`."""
    directory = place / "node"
    directory.mkdir()
    node = OrderingNode(automatic=False)
    (directory / "genesis.json").write_text(node.genesis.dump())
    store = LmdbStore(directory / "data", node.genesis.chain_id)
    node.store = store  # type: ignore[assignment]
    node.ledger = Ledger(store, node.genesis.chain_id, node.genesis.rules)
    node.apply([Collection.seal([(5, b"a"), (6, b"b")])])
    node.apply([])
    node.apply([Collection.seal([(5, b"a"), (5, b"c")])])
    store.close()
    return directory


def exported(entries: list[tuple[int, int, bytes]]) -> bytes:
    """The bytes of a log of (height, namespace, transaction)."""
    return b"".join(
        height.to_bytes(8, "big")
        + (START_MS + BLOCK_MS * height).to_bytes(8, "big")
        + namespace.to_bytes(8, "big")
        + len(transaction).to_bytes(4, "big")
        + transaction
        for height, namespace, transaction in entries
    )


# ---------------------------------------------------------------------- all commands


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sequencer.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'libp2p', 'blspy', 'web3', 'orjson', 'rich', 'lmdb', 'uvloop'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def every_command() -> list[str]:
    """All of them, those of groups with the group before."""
    with click.Context(main) as context:
        found = []
        for name in COMMANDS:
            command = main.get_command(context, name)
            inner = command.commands if isinstance(command, click.Group) else {"": None}
            found += [f"{name} {each}".strip() for each in inner]
    return found


@pytest.mark.parametrize("command", every_command())
def test_every_command_shows_an_example(command: str) -> None:
    text = good(*command.split(), "--help")
    assert "Example" in text
    assert f"sequencer {command}" in " ".join(text.split())


def test_the_list_of_commands_says_what_each_does() -> None:
    text = good("--help")
    for name, (_, summary) in COMMANDS.items():
        assert name in text
        assert summary in text


def test_an_unknown_command_or_option_is_a_usage_error() -> None:
    assert run("mine").exit_code == 2
    assert run("status", "--colour").exit_code == 2


# ---------------------------------------------------------------------- keys


def test_keys_are_made_shown_and_never_overwritten(tmp_path: Path) -> None:
    made = orjson.loads(
        good("keys", "new", "--dir", tmp_path, "--json", SEQUENCER_PASSWORD=PASSWORD)
    )
    assert orjson.loads(good("keys", "show", "--dir", tmp_path, "--json")) == made
    assert made["l1_address"] in good("keys", "show", "--dir", tmp_path)
    reason = wrong(2, "keys", "new", "--dir", tmp_path, SEQUENCER_PASSWORD=PASSWORD)
    assert "not overwritten" in reason


def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    from sequencer.keys import load_keys

    (tmp_path / "password").write_text(PASSWORD + "\n")
    good("keys", "new", "--dir", tmp_path, "--password-file", tmp_path / "password")
    assert load_keys(tmp_path, PASSWORD).bls_secret
    assert "SEQUENCER_PASSWORD" in wrong(2, "keys", "new", "--dir", tmp_path / "other")
    missing = tmp_path / "nothing"
    reason = wrong(2, "keys", "new", "--dir", tmp_path / "other", "--password-file", missing)
    assert str(missing) in reason


def test_an_empty_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    new = ("keys", "new", "--dir", tmp_path / "node")
    assert "is empty" in wrong(2, *new, "--password-file", tmp_path / "empty")
    assert "is empty" in wrong(2, *new, SEQUENCER_PASSWORD="")
    assert not (tmp_path / "node").exists()


def test_imported_keys_are_the_ones_given(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    made = orjson.loads(good("keys", "new", "--dir", old, "--json", SEQUENCER_PASSWORD="old one"))
    (tmp_path / "old.password").write_text("old one")
    (tmp_path / "seed").write_text("0x" + "07" * 32)
    imported = orjson.loads(
        good(
            *("keys", "import", "--dir", new, "--json"),
            *("--bls", old / "keys" / "bls.json", "--identity", tmp_path / "seed"),
            *("--from-password-file", tmp_path / "old.password"),
            SEQUENCER_PASSWORD=PASSWORD,
        )
    )
    assert imported["bls_key"] == made["bls_key"]
    assert imported["identity"] not in ("", made["identity"])
    assert imported["l1_address"] != made["l1_address"]
    bls = old / "keys" / "bls.json"
    again = ("keys", "import", "--dir", tmp_path / "third", "--bls", bls)
    assert "cannot be opened" in wrong(2, *again, SEQUENCER_PASSWORD="wrong")
    assert "nothing to import" in wrong(2, "keys", "import", "--dir", new)


def test_showing_keys_that_are_not_there_says_how_to_make_them(tmp_path: Path) -> None:
    assert "sequencer keys new" in wrong(2, "keys", "show", "--dir", tmp_path)


# ---------------------------------------------------------------------- init, start, doctor


def test_a_directory_is_prepared_from_a_file(tmp_path: Path, genesis_file: Path) -> None:
    from sequencer.config import NodeConfig

    directory = tmp_path / "node"
    options = ("--listen", "127.0.0.1:9001", "--rpc", "127.0.0.1:9002", "--name", "me")
    l1 = ("--l1", "http://127.0.0.1:8555")
    text = good("init", "--genesis", genesis_file, "--dir", directory, *options, *l1)
    assert genesis_of_one().chain_id.hex() in text
    assert "sequencer keys new" in text
    config = NodeConfig.load(directory)
    assert (config.name, config.rpc.address, config.l1.url) == ("me", ("127.0.0.1", 9002), l1[1])
    assert Genesis.load(directory / "genesis.json") == genesis_of_one()
    assert "exists" in wrong(2, "init", "--genesis", genesis_file, "--dir", directory)


def test_a_directory_is_prepared_from_a_running_node(tmp_path: Path) -> None:
    with in_background() as served:
        good("init", "--genesis", served.url + "/genesis", "--dir", tmp_path / "node")
    assert Genesis.load(tmp_path / "node" / "genesis.json") == genesis_of_one()


def test_a_genesis_of_another_chain_is_not_taken(tmp_path: Path, genesis_file: Path) -> None:
    directory, chain_id = tmp_path / "node", genesis_of_one().chain_id.hex()
    init = ("init", "--genesis", genesis_file, "--dir", directory)
    changed = tmp_path / "changed.json"
    changed.write_text(
        genesis_file.read_text().replace('"max_block_bytes": ', '"max_block_bytes": 1')
    )
    refused = wrong(2, *init[:1], "--genesis", changed, *init[3:], "--chain-id", chain_id)
    assert f"not of {chain_id}" in refused
    assert not directory.exists()
    assert "is no hash" in wrong(2, *init, "--chain-id", "12")
    good(*init, "--chain-id", "0x" + chain_id)


def test_init_notes_peers_and_refuses_what_is_none(tmp_path: Path, genesis_file: Path) -> None:
    from sequencer.config import NodeConfig

    peer = "/ip4/127.0.0.1/tcp/9000/p2p/12D3KooWKQ94dtE7cj8yWcBftL2QYMrjm7UrmHyLTnrMYC6YaJAr"
    init = ("init", "--genesis", genesis_file, "--dir", tmp_path / "node")
    assert "network.peers" in wrong(2, *init, "--peer", "/ip4/127.0.0.1/tcp/9000")
    good(*init, "--peer", peer, "--peer", peer.replace("9000", "9001"))
    assert NodeConfig.load(tmp_path / "node").network.peers == (peer, peer.replace("9000", "9001"))


def test_what_is_no_genesis_prepares_nothing(tmp_path: Path) -> None:
    directory, junk = tmp_path / "node", tmp_path / "junk"
    junk.write_text("{}")
    for source in (str(junk), str(tmp_path / "missing"), NOBODY + "/genesis"):
        assert source in wrong(2, "init", "--genesis", source, "--dir", directory)
    bad = ("init", "--genesis", genesis_of(tmp_path), "--dir", directory, "--rpc", "nowhere")
    assert "rpc.listen" in wrong(2, *bad)
    assert not (directory / "genesis.json").exists()


def genesis_of(directory: Path) -> Path:
    path = directory / "good.json"
    path.write_text(genesis_of_one().dump())
    return path


def test_start_runs_the_node_and_ends_with_its_code(
    tmp_path: Path, genesis_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sequencer.runtime
    from sequencer.config import ConfigError

    started: list[tuple[Path, str]] = []
    answers: list[int | ConfigError] = [0, 1, ConfigError("rpc.listen is nowhere")]

    def run_node(directory: Path, password: str, after_data_loss: bool) -> int:
        started.append((directory, password))
        answer = answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    monkeypatch.setattr(sequencer.runtime, "run_node", run_node)
    directory = tmp_path / "node"
    good("init", "--genesis", genesis_file, "--dir", directory)
    start = ("start", "--dir", directory)
    assert run(*start, SEQUENCER_PASSWORD=PASSWORD).exit_code == 0
    assert run(*start, SEQUENCER_PASSWORD=PASSWORD).exit_code == 1
    reason = wrong(2, *start, SEQUENCER_PASSWORD=PASSWORD)
    assert reason == "error: rpc.listen is nowhere"
    assert started == [(directory, PASSWORD)] * 3
    assert "sequencer init" in wrong(2, "start", "--dir", tmp_path)


def test_the_doctor_finds_what_is_missing_and_what_is_good(
    tmp_path: Path, genesis_file: Path
) -> None:
    directory = tmp_path / "node"
    good("init", "--genesis", genesis_file, "--dir", directory, "--rpc", "127.0.0.1:0")
    result = run("doctor", "--dir", directory, "--json")
    assert result.exit_code == 1
    found = {item["subject"]: item for item in orjson.loads(result.stdout)}
    assert found["genesis"]["state"] == found["node.toml"]["state"] == "ok"
    assert found["keys"]["state"] == "bad"
    assert "sequencer keys new" in found["keys"]["sentence"]
    good("keys", "new", "--dir", directory, SEQUENCER_PASSWORD=PASSWORD)
    assert "no founding member, follows until it joins" in good("doctor", "--dir", directory)
    imposter = {"--identity": "07" * 32, "--bls": "01" * 32}
    for option, secret in imposter.items():
        (tmp_path / option[2:]).write_text(secret)
    given = [part for option in imposter for part in (option, tmp_path / option[2:])]
    (directory / "keys").rename(tmp_path / "old")
    good("keys", "import", "--dir", directory, *given, SEQUENCER_PASSWORD=PASSWORD)
    result = run("doctor", "--dir", directory)
    assert "member 0 has another BLS key in the genesis" in result.stdout
    assert result.exit_code == 1


def test_the_doctor_passes_a_member(tmp_path: Path, genesis_file: Path) -> None:
    directory = tmp_path / "node"
    good("init", "--genesis", genesis_file, "--dir", directory, "--rpc", "127.0.0.1:0")
    (tmp_path / "seed").write_text("07" * 32)
    from consensus.bls import new_bls_secret

    (tmp_path / "bls").write_text(new_bls_secret(b"one" * 11).hex())
    secrets = ("--bls", tmp_path / "bls", "--identity", tmp_path / "seed")
    good("keys", "import", "--dir", directory, *secrets, SEQUENCER_PASSWORD=PASSWORD)
    text = good("doctor", "--dir", directory)
    assert "member 0, one" in text
    assert "bad" not in text


def test_the_doctor_looks_at_the_l1_and_the_clock(tmp_path: Path) -> None:
    directory, file = tmp_path / "node", tmp_path / "genesis.json"
    file.write_text(genesis_of_one().with_l1(L1Settings(1337, b"\x11" * 20, 0)).dump())
    good("init", "--genesis", file, "--dir", directory, "--l1", NOBODY, "--rpc", "127.0.0.1:0")
    found = orjson.loads(run("doctor", "--dir", directory, "--json").stdout)
    l1 = next(item for item in found if item["subject"] == "l1")
    assert l1["state"] == "bad"
    assert "not reachable" in l1["sentence"]
    assert _check_clock(1_000, 1_000.5).state == "ok"
    assert _check_clock(1_000, 960).state == "bad"
    assert _check_clock(1_000, 2_000).state == "warning"


# ---------------------------------------------------------------------- asking a node


def test_asking_a_node_that_is_not_there_says_so() -> None:
    for command in (["status"], ["why"], ["send", "--namespace", "5", "--text", "a"]):
        assert "is the node running?" in wrong(2, *command, "--url", NOBODY)
    assert "is the node running?" in wrong(2, "receipt", "00" * 32, "--url", NOBODY)


def test_a_status_is_watched_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[dict[str, Any]] = [
        {"name": "a", "standing": "follower in epoch 0", "height": 5, "highest_height": 9},
        {"name": "a", "standing": "follower in epoch 0", "height": 5, "highest_height": 9},
        {"name": "a", "standing": "member 4 of 5 in epoch 1", "height": 9, "highest_height": 9},
    ]

    def call(_client: object, _method: str) -> dict[str, Any]:
        if not answers:
            raise KeyboardInterrupt
        return answers.pop(0)

    monkeypatch.setattr("sequencer.client.SyncSequencerClient.call", call)
    monkeypatch.setattr("sequencer.cli.ask.WATCH_S", 0)
    lines = good("status", "--watch", "--url", NOBODY).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["height 5/9", "height 9/9"]
    assert "member 4 of 5 in epoch 1" in lines[1]


def test_status_and_why() -> None:
    with in_background() as served:
        url = ("--url", served.url)
        assert orjson.loads(good("status", *url, "--json")) == {"name": "one", "height": 0}
        assert good("status", *url).splitlines() == ["name    one", "height  0"]
        assert orjson.loads(good("why", *url, "--json"))["round"] == 1
        assert "round" in good("why", "--url", NOBODY, *url)
        assert "one" in good("status", SEQUENCER_URL=served.url)


def test_send_and_wait_and_fetch_and_follow(tmp_path: Path) -> None:
    with in_background() as served:
        url = ("--url", served.url)
        text = good("send", *url, "--namespace", "5", "--text", "hello", "--wait")
        ident = "0x" + transaction_id(5, b"hello").hex()
        assert text.splitlines() == [ident, "ordered at height 1, position 0"]
        (tmp_path / "body").write_bytes(b"\0\1")
        bodies = (("--file", tmp_path / "body"), ("--hex", "0x0a0b"))
        for body in bodies:
            good("send", *url, "--namespace", "5", *body, "--wait")
        raw = signed(0)
        answer = orjson.loads(
            good("send", *url, "--namespace", str(ROLLUP), "--raw", raw.hex(), "--wait", "--json")
        )
        assert answer["hash"] == "0x" + keccak(raw).hex()
        assert (answer["height"], answer["state"]) == (4, "ordered")
        lines = good("follow", *url, "--from", "1", "--limit", "4", "--json").splitlines()
        feed = [orjson.loads(line) for line in lines]
        assert [entry["position"] for entry in feed] == [0, 1, 2, 3]
        assert feed[0]["transaction"] == "0x" + b"hello".hex()
        mine = ("--namespace", str(ROLLUP), "--limit", "1")
        assert "ns 901" in good("follow", *url, "--from", "1", *mine)


def test_send_says_what_is_wrong() -> None:
    with in_background() as served:
        url = ("--url", served.url, "--namespace", "5")
        assert "exactly one" in wrong(2, "send", *url)
        assert "exactly one" in wrong(2, "send", *url, "--text", "a", "--hex", "0a")
        assert "hex digits" in wrong(2, "send", *url, "--hex", "zz")
        assert "oversized" in wrong(1, "send", *url, "--text", "a" * 100_001)
        assert "invalid chain id" in wrong(1, "send", *url, "--raw", signed(0).hex())
        assert "64 bits" in wrong(2, "send", "--namespace", str(2**64), "--text", "a")
        served.node.automatic = False
        late = wrong(1, "send", *url, "--text", "a", "--wait", "--timeout", "0.1")
        assert "not ordered after 0.1 s" in late


# ---------------------------------------------------------------------- proofs


def test_a_receipt_is_fetched_and_verified_without_the_node(
    tmp_path: Path, genesis_file: Path
) -> None:
    file = tmp_path / "receipt.json"
    with in_background() as served:
        url = ("--url", served.url)
        good("send", *url, "--namespace", "5", "--text", "hello", "--wait")
        ident = transaction_id(5, b"hello").hex()
        assert "height 1" in good("receipt", ident, *url, "--out", file)
        assert orjson.loads(good("receipt", "0x" + ident, *url)) == orjson.loads(file.read_bytes())
        assert "not ordered" in wrong(1, "receipt", "11" * 32, *url)
        assert "64 hex digits" in wrong(2, "receipt", "hello", *url)
    text = good("verify", file, "--genesis", genesis_file)
    assert "proved" in text
    assert "height 1" in text
    verified = orjson.loads(good("verify", file, "--genesis", genesis_file, "--json"))
    assert verified["transaction"] == "0x" + b"hello".hex()


def test_a_receipt_that_proves_nothing_is_told_from_a_usage_error(
    tmp_path: Path, genesis_file: Path
) -> None:
    file = tmp_path / "receipt.json"
    with in_background() as served:
        url = ("--url", served.url)
        good("send", *url, "--namespace", "5", "--text", "hello", "--wait")
        good("receipt", transaction_id(5, b"hello").hex(), *url, "--out", file)
    receipt = orjson.loads(file.read_bytes())
    receipt["transaction"] = "0x" + b"other".hex()
    file.write_bytes(orjson.dumps(receipt))
    assert "not proved" in wrong(1, "verify", file, "--genesis", genesis_file)
    file.write_bytes(b"{}")
    assert "not proved" in wrong(1, "verify", file, "--genesis", genesis_file)
    file.write_bytes(b"[")
    assert "not proved" in wrong(1, "verify", file, "--genesis", genesis_file)
    genesis_file.write_text("{}")
    assert "core" in wrong(2, "verify", file, "--genesis", genesis_file)


# ---------------------------------------------------------------------- the log


def test_the_log_of_a_stopped_node_is_summed_up(stored: Path) -> None:
    summary = orjson.loads(good("log", "--dir", stored, "--json"))
    assert (summary["height"], summary["transactions"], summary["evidence"]) == (3, 3, 0)
    root = GENESIS_LOG_ROOT
    for height, namespace, body in ((1, 5, b"a"), (1, 6, b"b"), (3, 5, b"c")):
        entry = LogEntry(height, START_MS + BLOCK_MS * height, namespace, body)
        root = next_log_root(root, entry)
    assert summary["log_root"] == "0x" + root.hex()
    assert "transactions" in good("log", "--dir", stored)


def test_blocks_and_transactions_are_listed(stored: Path) -> None:
    blocks = orjson.loads(good("log", "--dir", stored, "--blocks", "--json"))
    assert [block["transactions"] for block in blocks] == [2, 0, 1]
    assert blocks[2]["repeated"] == 1
    listed = orjson.loads(good("log", "--dir", stored, "--transactions", "--json"))
    assert [entry["position"] for entry in listed] == [0, 1, 2]
    assert listed[2]["id"] == "0x" + transaction_id(5, b"c").hex()
    one = good("log", "--dir", stored, "--transactions", "--from", "2", "--limit", "1")
    assert one.startswith("height=3  position=2")
    assert orjson.loads(good("log", "--dir", stored, "--batches", "--json")) == []
    assert orjson.loads(good("log", "--dir", stored, "--evidence", "--json")) == []


def test_the_bytes_of_the_log_are_exported(stored: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.bin"
    assert "3 transactions" in good("log", "--dir", stored, "--export", file)
    assert file.read_bytes() == exported([(1, 5, b"a"), (1, 6, b"b"), (3, 5, b"c")])


def test_a_directory_without_a_log_says_so(tmp_path: Path) -> None:
    assert "genesis.json" in wrong(2, "log", "--dir", tmp_path)
    (tmp_path / "genesis.json").write_text(genesis_of_one().dump())
    assert "no log yet" in wrong(2, "log", "--dir", tmp_path)


# ---------------------------------------------------------------------- derivation


@pytest.fixture
def posted_genesis(tmp_path: Path) -> Path:
    path = tmp_path / "posted.json"
    path.write_text(genesis_of_one().with_l1(L1Settings(1337, b"\x11" * 20, 0)).dump())
    return path


def l1_that_holds(
    monkeypatch: pytest.MonkeyPatch, batches: list[list[LogEntry]], failure: Exception | None
) -> None:
    """Let `derive` find these batches, then the failure."""
    from types import SimpleNamespace

    import sequencer.settlement.derived_file as module
    from sequencer.settlement.derive import Checkpoint, LogEnd
    from sequencer.settlement.ethereum import EthereumClient

    async def check(self: Any, l1_chain_id: int, chain_id: bytes) -> None:
        assert (l1_chain_id, chain_id) == (1337, genesis_of_one().chain_id)

    async def derive_batches(client: Any, source: Any, **_: Any) -> AsyncIterator[Any]:
        assert source.contract == b"\x11" * 20
        position = -1
        for number, entries in enumerate(batches, 1):
            position += len(entries)
            last = entries[-1]
            end = LogEnd(number, position, bytes([number]) * 32, last.height, last.timestamp_ms)
            checkpoint = Checkpoint(end, source.committee, number, bytes(32), 0)
            yield SimpleNamespace(checkpoint=checkpoint, entries=entries)
        if failure is not None:
            raise failure

    monkeypatch.setattr(EthereumClient, "check", check)
    monkeypatch.setattr(module, "derive_batches", derive_batches)


def test_a_derived_log_has_the_bytes_of_an_exported_one(
    tmp_path: Path, posted_genesis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry(height: int, namespace: int, body: bytes) -> LogEntry:
        return LogEntry(height, START_MS + BLOCK_MS * height, namespace, body)

    batches = [[entry(1, 5, b"a"), entry(1, 6, b"b")], [entry(3, 5, b"c")]]
    l1_that_holds(monkeypatch, batches, None)
    file = tmp_path / "log.bin"
    derive = ("derive", "--l1", NOBODY, "--genesis", posted_genesis, "--out", file, "--json")
    assert orjson.loads(good(*derive)) == {
        "batches": 2,
        "transactions": 3,
        "height": 3,
        "log_root": "0x" + "02" * 32,
        "resumed": 0,
        "rewound": 0,
    }
    assert file.read_bytes() == exported([(1, 5, b"a"), (1, 6, b"b"), (3, 5, b"c")])


def test_a_log_that_cannot_be_derived_leaves_no_file(
    tmp_path: Path, posted_genesis: Path, genesis_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sequencer.settlement.derive import DerivationError

    file = tmp_path / "log.bin"
    given = ("--l1", NOBODY, "--out", file)
    derive = ("derive", *given, "--genesis", posted_genesis)
    assert "try again" in wrong(2, *derive)
    assert "l1 is null" in wrong(2, "derive", *given, "--genesis", genesis_file)
    failure = DerivationError("batch 2: log root is a, not b")
    l1_that_holds(monkeypatch, [[LogEntry(1, 1, 5, b"a")]], failure)
    assert wrong(1, *derive) == "not derived: batch 2: log root is a, not b"
    assert not file.exists()
    assert "one of them" in wrong(2, *derive, "--check", posted_genesis)
