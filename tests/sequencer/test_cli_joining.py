"""Joining and leaving by command, on a real contract: what happens, and every refusal in words."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from consensus.bls import KeySigner, new_bls_secret
from sequencer.cli.errors import NegativeResult
from sequencer.cli.joining import _bind, _what_leaving_waits_for
from sequencer.cli.operator import Operator, operate
from sequencer.keyring import stored_key
from sequencer.keys import NodeKeys, create_keys, load_keys, new_keys, show_keys
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.client import Receipt
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.registry import OperatorState, RegisteredMember, RegistrySnapshot
from sequencer.settlement.registry_abi import add_stake_call, register_call
from sequencer.settlement.wallet import Wallet
from testnet.l1 import L1Handle, launch_l1
from tests.net.meshes import until
from tests.sequencer.commands import PASSWORD, cheap_keys, good, run, wrong  # noqa: F401

ENV = {"SEQUENCER_PASSWORD": PASSWORD}
FOUNDERS, OTHERS = ("alice", "bob"), ("erin", "frank", "grace", "heidi", "ivan")
MIN_STAKE = 2 * 10**18


@dataclass(frozen=True)
class Network:
    """A contract with two founders on a running L1, and a directory for each person."""

    place: Path
    l1: L1Handle
    runner: asyncio.Runner

    def home(self, name: str) -> Path:
        return self.place / name

    def account(self, name: str) -> str:
        return show_keys(self.home(name))["l1_address"]

    def newcomer(self, name: str, keys: NodeKeys) -> Path:
        """Another directory for the L1 account of a person, with these keys otherwise."""
        home = self.place / f"{name}-{len(list(self.place.iterdir()))}"
        l1_key = load_keys(self.home(name), PASSWORD).l1_key
        create_keys(home, PASSWORD, light=True, keys=replace(keys, l1_key=l1_key))
        self.prepare(home)
        return home

    def prepare(self, home: Path) -> None:
        arguments = ("--genesis", self.place / "genesis.json", "--dir", home, "--l1", self.l1.url)
        good("init", *arguments)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    place = tmp_path_factory.mktemp("joining")
    funded = [
        create_keys(place / name, PASSWORD, light=True).l1_address for name in FOUNDERS + OTHERS
    ]
    members = [
        part
        for index, name in enumerate(FOUNDERS)
        for part in (
            "--member",
            f"{name}={place / name / 'keys' / 'public.json'}@/ip4/127.0.0.1/tcp/{9000 + index}",
        )
    ]
    good("genesis", "new", "--name", "mine", "--out", place / "genesis.json", *members)
    with asyncio.Runner() as runner:
        (place / "l1").mkdir()
        l1 = runner.run(launch_l1("embedded", place / "l1", block_time_s=0.1, fund=tuple(funded)))
        rules = ("min_stake=2", "exit_blocks=5", "activation_blocks=1")
        given = [part for rule in rules for part in ("--registry", rule)]
        deploy = ("--genesis", place / "genesis.json", "--l1", l1.url, "--dir", place / "alice")
        good("genesis", "deploy", *deploy, "--finality", "depth:2", *given, **ENV)
        found = Network(place, l1, runner)
        for name in FOUNDERS + OTHERS:
            found.prepare(place / name)
        yield found
        runner.run(l1.aclose())


def join(home: Path, *more: str, stake: str = "2", port: int = 9100) -> tuple[str | Path, ...]:
    where = ("--address", f"/ip4/127.0.0.1/tcp/{port}")
    return ("join", "--dir", home, "--stake", stake, *where, *more)


def allow(network: Network, name: str) -> None:
    good("registry", "allow", network.account(name), "--dir", network.home("alice"), **ENV)


def as_json(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(good(*arguments, "--json", **ENV))
    return found


def refusal(*arguments: str | Path) -> str:
    """The last line of a command that the contract refused."""
    result = run(*arguments, **ENV)
    assert result.exit_code == 1, result.output + repr(result.exception)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("refused: ")
    return last


# ---------------------------------------------------------------------- in, and out


def test_a_newcomer_is_let_in_registers_leaves_and_is_paid_back(network: Network) -> None:
    erin = network.home("erin")
    said = refusal(*join(erin))
    assert "not on the allow-list" in said
    assert f"sequencer registry allow 0x{network.account('erin')[2:].lower()}" in said
    allow(network, "erin")
    assert "below the 2 ether" in refusal(*join(erin, stake="1.999"))
    told = as_json(*join(erin, stake="2.5"))
    assert (told["founder"], told["status"], told["first_epoch"]) == (False, "pending", 1)
    assert told["stake_wei"] == str(25 * 10**17)
    assert told["address"].startswith("/ip4/127.0.0.1/tcp/9100/p2p/12D3")
    assert "epoch 1" in told["next"]
    assert "operates a member already" in refusal(*join(erin))
    good("registry", "add-stake", "500000000gwei", "--dir", erin, **ENV)
    good("registry", "move", "/dns4/erin.example/tcp/1", "--dir", erin, **ENV)
    shown = as_json("registry", "show", "--dir", erin)
    assert shown["this_operator"]["stake_wei"] == str(3 * 10**18)
    assert shown["this_operator"]["address"].startswith("/dns4/erin.example/tcp/1/p2p/")
    assert [member["name"] for member in shown["members"]] == list(FOUNDERS)
    assert "not left" in refusal("exit", "--dir", erin)
    assert "follower in epoch 0; registered" in registry_finding(erin)["sentence"]
    told = as_json("leave", "--dir", erin)
    assert told["free"]
    assert "may be stopped" in told["next"]
    assert as_json("leave", "--dir", erin)["free"]
    told = exited(erin)
    assert told["paid_wei"] == str(3 * 10**18)
    assert "registered before" in refusal(*join(erin))


def registry_finding(home: Path) -> dict[str, Any]:
    """What the doctor says of the registry."""
    findings = orjson.loads(run("doctor", "--dir", home, "--json").stdout)
    [found] = [finding for finding in findings if finding["subject"] == "registry"]
    return dict(found)


def exited(home: Path) -> dict[str, Any]:
    """Exit, again and again until the L1 has enough blocks."""
    for _ in range(50):
        result = run("exit", "--dir", home, "--json", **ENV)
        if result.exit_code == 0:
            found: dict[str, Any] = orjson.loads(result.stdout)
            return found
        assert "from L1 block" in result.stderr
    raise AssertionError("never paid back")


def test_a_founder_claims_its_place_and_rotates_its_key(network: Network) -> None:
    bob = network.home("bob")
    said = registry_finding(bob)
    assert said["state"] == "ok"
    assert said["sentence"].startswith("member 1 of 2 in epoch 0, by the genesis")
    assert "sequencer join claims it" in said["sentence"]
    assert "operates no member" in refusal("rotate", "--dir", bob)
    assert not (bob / "keys" / "bls-next.json").exists()
    told = as_json("join", "--dir", bob)
    assert (told["founder"], told["status"], told["first_epoch"]) == (True, "active", 0)
    assert "keep it running" in told["next"]
    told = as_json("rotate", "--dir", bob)
    fresh = stored_key(bob / "keys" / "bls-next.json")
    assert fresh is not None
    assert told["bls_key"] == "0x" + fresh.hex() != "0x" + show_keys(bob)["bls_key"]
    assert "member 1 of 2 in epoch 0" in registry_finding(bob)["sentence"]
    (bob / "keys" / "bls-next.json").rename(bob / "lost")
    assert "this node cannot vote" in registry_finding(bob)["sentence"]
    (bob / "lost").rename(bob / "keys" / "bls-next.json")
    again = run("rotate", "--dir", bob, **ENV)
    assert (again.exit_code, "registered already" in again.stderr) == (1, True)
    heidi = network.newcomer("heidi", load_keys(bob, PASSWORD))
    assert "has an operator already" in refusal("join", "--dir", heidi)
    assert "operated by another account, 0x" in registry_finding(heidi)["sentence"]
    ivan = registry_finding(network.home("ivan"))["sentence"]
    assert ivan == "this account operates no member; to become one: sequencer join"


def test_who_leaves_is_told_what_it_waits_for() -> None:
    mine, other = OperatorState("leaving", identity=b"\1" * 32), b"\2" * 32

    def told(*identities: bytes, least: int = 1) -> str:
        members = tuple(RegisteredMember(i, b"", 1, "", bytes(20)) for i in identities)
        return _what_leaving_waits_for(RegistrySnapshot(2, members, 9), mine, least)

    assert told(other).endswith("epoch 2 is without it, but not final yet")
    assert told(mine.identity, other).endswith("it is one of 2 members of epoch 2")
    alone = told(mine.identity)
    assert "1 member of epoch 2; a committee has 1 at least: somebody has to join" in alone


def test_only_the_owner_lets_operators_in(network: Network) -> None:
    bob, ivan = network.home("bob"), network.account("ivan")
    assert "not the owner" in refusal("registry", "allow", ivan, "--dir", bob)
    assert "no account" in wrong(2, "registry", "allow", "0x12", "--dir", bob, **ENV)
    spoilt = ivan[:-1] + ("0" if ivan[-1] != "0" else "1")
    assert "typing error" in wrong(2, "registry", "allow", spoilt, "--dir", bob, **ENV)


# ---------------------------------------------------------------------- bad input


def test_a_key_counts_once(network: Network) -> None:
    allow(network, "frank")
    alice = load_keys(network.home("alice"), PASSWORD)
    twin = network.newcomer("frank", replace(new_keys(), bls_secret=alice.bls_secret))
    assert "BLS key was registered before" in refusal(*join(twin))


def test_what_others_forge_is_refused_in_words(network: Network) -> None:
    """What the command itself would never send."""
    allow(network, "grace")
    home = network.home("grace")
    keys, public = load_keys(home, PASSWORD), show_keys(home)
    identity, key = bytes.fromhex(public["identity"]), bytes.fromhex(public["bls_key"])
    possession = bytes.fromhex(public["possession"])
    stranger = KeySigner(new_bls_secret(b"s" * 32), b"s" * 32)
    (home.parent / "password").write_text(PASSWORD)

    def refused(possession: bytes, binding: bytes | None, address: str) -> str:
        async def work(operator: Operator) -> None:
            bound = binding or _bind(operator, keys, key)
            call = register_call(identity, key, possession, bound, address)
            await operator.send(call, MIN_STAKE, address)

        with pytest.raises(NegativeResult) as raised:
            operate(work, home, None, home.parent / "password")
        return str(raised.value)

    assert "proof of possession is of another" in refused(stranger.prove_possession(), None, "/x")
    assert "do not belong together" in refused(possession, stranger.sign(b"x"), "/x")
    allow(network, "heidi")
    taken = as_json(*join(network.home("heidi"), port=9200))["address"]
    said = refused(possession, None, taken)
    assert f"another member is registered with the address {taken}" in said


def test_amounts_and_addresses_are_checked_before_anything_is_sent(network: Network) -> None:
    ivan = network.home("ivan")
    for stake in ("x", "-1", "1.5wei", "1e100", "nan", "inf", ""):
        assert "no amount" in wrong(2, *join(ivan, stake=stake or " "), **ENV)
    unknown = ("join", "--dir", ivan, "--stake", "2")
    assert "where do others reach this node" in wrong(2, *unknown, **ENV)
    peer = show_keys(network.home("alice"))["peer_id"]
    for address, says in (
        (f"/ip4/127.0.0.1/tcp/1/p2p/{peer}", "another peer id"),
        ("/ip4/127.0.0.1", "does not have the form"),
        ("nowhere", "not a multiaddress"),
    ):
        assert says in wrong(2, *unknown, "--address", address, **ENV)


def spoilt(network: Network, **l1: Any) -> Path:
    """A directory like ivan's whose genesis was changed."""
    home = network.newcomer("ivan", new_keys())
    genesis = orjson.loads((home / "genesis.json").read_bytes())
    genesis["l1"] |= l1
    if not l1:
        genesis["core"]["name"] = "mina"
    (home / "genesis.json").write_bytes(orjson.dumps(genesis))
    return home


def test_a_genesis_that_differs_by_one_byte_is_another_chain(network: Network) -> None:
    assert "belongs to another chain" in wrong(2, *join(spoilt(network)), **ENV)


def test_the_wrong_l1_is_refused(network: Network) -> None:
    said = wrong(2, *join(spoilt(network, chain_id=1)), **ENV)
    assert "has chain id 31337, but the genesis names 1" in said
    said = wrong(2, *join(spoilt(network, contract="0x" + "11" * 20)), **ENV)
    assert "there is no contract at" in said
    ivan = network.home("ivan")
    assert "not reachable" in wrong(2, *join(ivan, "--l1", "http://127.0.0.1:1"), **ENV)
    assert "has to start with http" in wrong(2, *join(ivan, "--l1", "127.0.0.1:1"), **ENV)


def test_an_account_without_ether_is_told_to_get_some(network: Network) -> None:
    poor = network.place / "poor"
    create_keys(poor, PASSWORD, light=True)
    network.prepare(poor)
    account = show_keys(poor)["l1_address"]
    good("registry", "allow", account, "--dir", network.home("alice"), **ENV)
    result = run(*join(poor), **ENV)
    assert result.exit_code in (1, 2)
    assert "owns 0 ether" in result.stderr


def test_a_wrong_password_and_none_are_sentences(network: Network) -> None:
    ivan = network.home("ivan")
    for command in (join(ivan), ("leave", "--dir", ivan), ("rotate", "--dir", ivan)):
        assert "password is wrong" in wrong(2, *command, SEQUENCER_PASSWORD="guess")
        assert "--password-file" in wrong(2, *command)
    for command in (join(ivan), ("leave", "--dir", ivan)):
        assert PASSWORD not in run(*command, **ENV).output


# ---------------------------------------------------------------------- beside a running node


def test_a_nonce_that_the_poster_takes_is_no_obstacle(network: Network) -> None:
    """While the L1 stands still, a dearer transaction with the same nonce replaces ours."""
    home = beside_the_node(network)
    said: list[str] = []

    async def race(client: EthereumClient, account: L1Account, wallet: Wallet) -> None:
        await network.l1.stall()
        call = asyncio.ensure_future(wallet.call(add_stake_call(), 7, within_s=20))
        await until(lambda: said)
        nonce = await client.nonce(account.address)
        dear = Fees(10**12, 10**11)
        other = account.sign(nonce=nonce, to=account.address, data=b"", gas=21_000, fees=dear)
        await client.send(other.raw)
        await network.l1.resume()
        assert (await call).succeeded
        assert await client.receipt(other.tx_hash) is not None
        assert any("nonce went to another" in sentence for sentence in said)

    before = as_json("registry", "show", "--dir", home)["this_operator"]["stake_wei"]
    with_wallet(network, home, said, race)
    after = as_json("registry", "show", "--dir", home)["this_operator"]["stake_wei"]
    assert int(after) == int(before) + 7


def test_a_transaction_that_offers_too_little_offers_more(network: Network) -> None:
    """The base fee rises a thousandfold while it waits."""
    home = beside_the_node(network)
    said: list[str] = []

    async def rise(client: EthereumClient, _account: L1Account, wallet: Wallet) -> None:
        await network.l1.stall()
        call = asyncio.ensure_future(wallet.call(add_stake_call(), 7, within_s=20))
        await until(lambda: said)
        await network.l1.spike(10**12)
        await network.l1.resume()
        assert (await call).succeeded
        assert len([sentence for sentence in said if sentence.startswith("sent ")]) > 1

    with_wallet(network, home, said, rise)


def test_an_l1_that_shows_the_nonce_before_the_receipt_is_looked_at_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the call would be made twice."""
    home = beside_the_node(network)
    said: list[str] = []

    async def hide(client: EthereumClient, account: L1Account, wallet: Wallet) -> None:
        before, shown, hidden = await client.nonce(account.address), client.receipt, []

        async def late(tx_hash: bytes) -> Receipt | None:
            receipt = await shown(tx_hash)
            if receipt is not None and len(hidden) < 2:
                hidden.append(tx_hash)
                return None
            return receipt

        monkeypatch.setattr(client, "receipt", late)
        receipt = await wallet.call(add_stake_call(), 7, within_s=20)
        assert receipt.tx_hash == hidden[0]
        assert await client.nonce(account.address) == before + 1

    with_wallet(network, home, said, hide)
    assert not any("nonce went to another" in sentence for sentence in said)


def beside_the_node(network: Network) -> Path:
    """A member's directory, whose account a node would use as well."""
    home = network.home("ivan")
    if as_json("registry", "show", "--dir", home)["this_operator"]["status"] == "none":
        allow(network, "ivan")
        good(*join(home, port=9300), **ENV)
    return home


def with_wallet(
    network: Network,
    home: Path,
    said: list[str],
    work: Callable[[EthereumClient, L1Account, Wallet], Awaitable[None]],
) -> None:
    """Run `work` with a client, the account of a directory, and a wallet that tells `said`."""
    key = load_keys(home, PASSWORD).l1_key
    genesis = orjson.loads((home / "genesis.json").read_bytes())
    contract = bytes.fromhex(genesis["l1"]["contract"][2:])

    async def run_it() -> None:
        client = EthereumClient(network.l1.url, contract)
        account = L1Account(key, network.l1.chain_id)
        wallet = Wallet(client, account, said.append)
        try:
            await work(client, account, wallet)
        finally:
            await wallet.aclose()
            await client.aclose()

    network.runner.run(run_it())


def test_a_member_of_the_present_committee_is_needed_until_the_next_one(network: Network) -> None:
    alice = network.home("alice")
    good("join", "--dir", alice, **ENV)
    told = as_json("leave", "--dir", alice, "--no-wait")
    assert (told["free"], told["status"]) == (False, "leaving")
    assert "wait with the node running" in told["next"]
    assert "still holds the member" in refusal("exit", "--dir", alice)
    assert "has left" in refusal("rotate", "--dir", alice)
    assert not (alice / "keys" / "bls-next.json").exists()
    assert "leaving: still needed" in registry_finding(alice)["sentence"]
