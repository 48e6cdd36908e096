"""`sequencer genesis`: founding a network by hand, from published keys to a contract."""

import asyncio
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sequencer import keystore
from sequencer.cli import main
from sequencer.cli.doctor import _check_funds
from sequencer.genesis import Genesis
from sequencer.keys import show_keys
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.registry_abi import RegistrySettings
from testnet.l1 import launch_l1

PASSWORD = {"SEQUENCER_PASSWORD": "correct horse"}


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys from passwords in a millisecond."""
    monkeypatch.setattr(keystore, "SCRYPT_ROUNDS", keystore.LIGHT_SCRYPT_ROUNDS)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=PASSWORD)


def found(directory: Path, *more: str, members: int = 4) -> Result:
    """Make keys for some members in `directory` and a genesis of them."""
    given: list[str] = []
    for index in range(members):
        home = directory / f"n{index}"
        if not home.exists():
            assert run("keys", "new", "--dir", home).exit_code == 0
        public = home / "keys" / "public.json"
        given += ["--member", f"n{index}={public}@/ip4/127.0.0.1/tcp/{9000 + index}"]
    return run(
        "genesis", "new", "--name", "mine", "--out", directory / "genesis.json", *given, *more
    )


def test_a_genesis_is_made_of_what_members_published(tmp_path: Path) -> None:
    result = found(tmp_path, "--rule", "base_timeout_ms=2000")
    assert result.exit_code == 0, result.output
    genesis = Genesis.load(tmp_path / "genesis.json")
    assert genesis.names == ("n0", "n1", "n2", "n3")
    assert genesis.rules.base_timeout_ms == 2_000
    assert genesis.chain_id.hex() in result.stdout
    assert genesis.l1 is None
    assert genesis.address_of(3).startswith("/ip4/127.0.0.1/tcp/9003/p2p/")


def test_an_existing_genesis_is_not_overwritten(tmp_path: Path) -> None:
    assert found(tmp_path).exit_code == 0
    again = found(tmp_path)
    assert again.exit_code == 2
    assert "exists" in again.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--rule", "base_timeout=5"), "is not SETTING=NUMBER; settings: base_timeout_ms"),
        (("--rule", "max_timeout_ms=10"), "rules.max_timeout_ms is below"),
        (("--member", "x"), "is not NAME=PUBLIC.JSON@MULTIADDR"),
        (("--member", "x=/nowhere.json@/ip4/127.0.0.1/tcp/1"), "cannot read /nowhere.json"),
        (("--member", "x=/dev/null@/ip4/127.0.0.1/tcp/1"), "is no public.json"),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence(
    tmp_path: Path, more: tuple[str, str], says: str
) -> None:
    result = found(tmp_path, *more, members=1)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "genesis.json").exists()


def test_one_key_cannot_be_two_members(tmp_path: Path) -> None:
    public = tmp_path / "n0" / "keys" / "public.json"
    result = found(tmp_path, "--member", f"twin={public}@/ip4/127.0.0.1/tcp/1")
    assert result.exit_code == 2
    assert "two members have the same identity" in result.stderr


async def test_the_contract_is_deployed_and_belongs_to_the_genesis(tmp_path: Path) -> None:
    assert (await asyncio.to_thread(found, tmp_path)).exit_code == 0
    payer = show_keys(tmp_path / "n0")["l1_address"]
    file = tmp_path / "genesis.json"
    (tmp_path / "l1").mkdir()
    l1 = await launch_l1("embedded", tmp_path / "l1", block_time_s=0.2, fund=(payer,))
    arguments = ("--genesis", file, "--l1", l1.url, "--dir", tmp_path / "n0")
    try:
        before = Genesis.load(file)
        refused = await asyncio.to_thread(run, "genesis", "deploy", *arguments, "--data", "blobs")
        assert refused.exit_code == 2
        assert "takes no blobs" in refused.stderr
        result = await asyncio.to_thread(run, "genesis", "deploy", *arguments)
        assert result.exit_code == 0, result.output
        genesis = Genesis.load(file)
        assert genesis.chain_id == before.chain_id
        assert genesis.l1 is not None
        assert genesis.l1.data == "calldata"
        client = EthereumClient(l1.url, genesis.l1.contract, genesis.l1.deploy_block)
        await client.check(genesis.l1.chain_id, genesis.chain_id)
        states = [(await _check_funds(client, tmp_path / name))[0].state for name in ("n0", "n1")]
        assert states == ["ok", "warning"]
        await client.aclose()
        again = await asyncio.to_thread(run, "genesis", "deploy", *arguments)
        assert again.exit_code == 2
        assert "names a contract already" in again.stderr
    finally:
        await l1.aclose()


def test_an_l1_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    assert found(tmp_path, members=1).exit_code == 0
    result = run(
        "genesis",
        "deploy",
        "--genesis",
        tmp_path / "genesis.json",
        "--l1",
        "http://127.0.0.1:1",
        "--dir",
        tmp_path / "n0",
    )
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "finality", "reason"),
    [
        ("127.0.0.1:8545", "tag", "http://"),
        ("http://127.0.0.1:1", "sometime", "finality"),
    ],
)
def test_what_makes_a_deployment_useless_is_said_before_it_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, finality: str, reason: str
) -> None:
    found(tmp_path)

    async def paid(*_: object) -> None:
        pytest.fail("the contract was deployed")

    monkeypatch.setattr("sequencer.cli.genesis._deploy", paid)
    result = run(
        *("genesis", "deploy", "--genesis", tmp_path / "genesis.json", "--dir", tmp_path / "n0"),
        *("--l1", url, "--finality", finality),
    )
    assert result.exit_code == 2
    assert reason in result.stderr


def test_batches_that_only_blobs_carry_are_not_deployed_for_calldata(tmp_path: Path) -> None:
    found(tmp_path)
    public = tmp_path / "n0" / "keys" / "public.json"
    file = tmp_path / "large.json"
    member = f"n0={public}@/ip4/127.0.0.1/tcp/9000"
    rule = ("--rule", "batch_max_bytes=761852")
    made = run("genesis", "new", "--name", "large", "--out", file, "--member", member, *rule)
    assert made.exit_code == 0, made.output
    arguments = ("--genesis", file, "--l1", "http://127.0.0.1:1", "--dir", tmp_path / "n0")
    result = run("genesis", "deploy", *arguments, "--data", "either")
    assert result.exit_code == 2
    assert 'l1.data has to be "blobs"' in result.stderr


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    found(tmp_path)
    public = tmp_path / "n0" / "keys" / "public.json"
    out = tmp_path / "nowhere" / "genesis.json"
    member = f"n0={public}@/ip4/127.0.0.1/tcp/9000"
    result = run("genesis", "new", "--name", "mine", "--out", out, "--member", member)
    assert result.exit_code == 2
    assert result.stderr == f"error: {out}: No such file or directory\n"


def test_the_defaults_of_the_registry_are_those_of_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {}
    for names, values, *_ in (row for row in rows if len(row) == 3):
        for name, value in zip(names.strip("| ").split(", "), values.split(", "), strict=False):
            told[name.strip("`")] = value.split(" (")[0]
    for name, default in asdict(RegistrySettings(bytes(20))).items():
        expected = "the deployer" if name == "owner" else str(default).lower()
        assert told[name] == expected, name
