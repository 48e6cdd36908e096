"""What the doctor finds out about the other members, and about the data."""

from pathlib import Path

import orjson
import pytest

from consensus.errors import InvalidMessage
from net.libp2p.identity import multiaddr_of
from net.libp2p.mesh import Mesh
from sequencer.cli.doctor import _check_chains
from sequencer.store.schema import Table
from sequencer.store.seam import StoreFull
from tests.net.meshes import LOOPBACK, QUICK, identities
from tests.sequencer.commands import PASSWORD, cheap_keys, good, run, spoil, wrong  # noqa: F401
from tests.sequencer.test_cli import stopped_node

PLACE = "see 'The data is lost' in docs/operators.md"
OURS, THEIRS = bytes([1]) * 32, bytes([2]) * 32


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The directory of a stopped node with a log of three blocks."""
    return stopped_node(tmp_path)


async def test_the_doctor_tells_a_node_of_another_chain_from_one_of_ours() -> None:
    first, second = identities(2)
    meshes = [Mesh(first.seed, LOOPBACK, {}, QUICK, OURS)]
    meshes.append(Mesh(second.seed, LOOPBACK, {}, QUICK, THEIRS))
    for mesh in meshes:
        await mesh.start()
    addresses = [multiaddr_of(*mesh.listen_address, mesh.local_peer) for mesh in meshes]
    answering = dict(zip(("alice", "bob"), addresses, strict=True))
    alice, bob = await _check_chains(OURS, answering)
    assert (alice.state, bob.state) == ("ok", "bad")
    assert f"bob at {addresses[1]} is of another chain, {'02' * 8}..: its genesis" in bob.sentence
    for mesh in meshes:
        await mesh.aclose()


@pytest.mark.parametrize("table", [Table.BLOCKS, Table.ENTRIES, Table.COLLECTIONS])
def test_damaged_data_is_a_sentence_of_every_reader(stored: Path, table: Table) -> None:
    assert "heights 1 to 3" in found(stored, "data")
    spoil(stored, table)
    forms: list[tuple[str | Path, ...]] = [("--transactions",)]
    if table is not Table.COLLECTIONS:
        forms.append(("--blocks",))
    if table is not Table.ENTRIES:
        forms.append(("--export", stored / "log.bin"))
    for form in forms:
        said = wrong(1, "log", "--dir", stored, *form)
        assert "damaged" in said, form
        assert PLACE in said
    assert PLACE in found(stored, "data")


@pytest.mark.parametrize(
    ("error", "code"), [(AssertionError(), 2), (InvalidMessage("9 bytes"), 2), (StoreFull("x"), 1)]
)
def test_a_start_on_damaged_data_is_a_sentence(
    stored: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def run_node(*_: object) -> int:
        raise error

    monkeypatch.setattr("sequencer.runtime.run_node", run_node)
    (stored / "node.toml").write_text("")
    said = wrong(code, "start", "--dir", stored, SEQUENCER_PASSWORD=PASSWORD)
    assert said == "x" if code == 1 else PLACE in said


def test_a_log_is_not_exported_to_a_full_disk(stored: Path) -> None:
    said = wrong(1, "log", "--dir", stored, "--export", "/dev/full")
    assert said == "/dev/full cannot be written: No space left on device"


def test_damaged_public_parts_are_for_start_to_repair(stored: Path) -> None:
    assert f"make them: sequencer keys new --dir {stored}" in found(stored, "keys")
    good("keys", "new", "--dir", stored, SEQUENCER_PASSWORD=PASSWORD)
    (stored / "keys" / "public.json").write_text("[]")
    said = found(stored, "keys")
    assert said.startswith("warning")
    assert said.endswith("public.json is damaged; sequencer start writes it again")


def found(directory: Path, subject: str) -> str:
    """What the doctor says of one thing, after how bad it is."""
    findings = orjson.loads(run("doctor", "--dir", directory, "--json").stdout)
    [finding] = [each for each in findings if each["subject"] == subject]
    return f"{finding['state']} {finding['sentence']}"
