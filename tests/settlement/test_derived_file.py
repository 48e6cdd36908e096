"""A derivation goes on where it was cut off, verifies what is there, and names what is wrong."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from sequencer.logfile import encode_entries, first_difference, read_entries
from sequencer.settlement import derived_file as module
from sequencer.settlement.batch import LogEntry
from sequencer.settlement.client import ContractState, L1Block
from sequencer.settlement.derive import DerivationError
from sequencer.settlement.derived_file import (
    DamagedFile,
    ForeignFile,
    Written,
    derive_to_file,
)
from sequencer.settlement.log_comparison import Differs, compare_with_l1
from tests.settlement.test_derive import RecordedL1, fresh, three_batches
from tests.settlement.test_derive_epochs import two_epochs


class CutOff(Exception):
    """The power fails."""


class Interrupted(RecordedL1):
    """Fails at the input of one transaction."""

    fails_at = -1
    asked = 0

    async def transaction_input(self, tx_hash: bytes) -> bytes:
        self.asked += 1
        if int.from_bytes(tx_hash, "big") == self.fails_at:
            raise CutOff
        return await super().transaction_input(tx_hash)


def l1_of(batches: int) -> Interrupted:
    deployed = fresh()
    for number in range(batches):
        deployed.certify(count=1 + number % 3)
    return Interrupted(deployed)


def run(l1: RecordedL1, path: Path, until: L1Block | None = None) -> Written:
    return asyncio.run(derive_to_file(l1, l1.deployed.source, path, until=until))


def compare(l1: RecordedL1, path: Path) -> int:
    return asyncio.run(compare_with_l1(l1, l1.deployed.source, path)).number


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def journal(path: Path) -> Path:
    return path.with_name(path.name + ".checkpoint")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.bin"


def whole(l1: RecordedL1) -> bytes:
    return encode_entries(l1.deployed.entries)


def test_a_whole_run_leaves_the_log_and_its_checkpoint(path: Path) -> None:
    l1 = l1_of(5)
    written = run(l1, path)
    assert (written.end.number, written.resumed, written.rewound) == (5, 0, 0)
    assert written.end.log_root == l1.deployed.root
    assert path.read_bytes() == whole(l1)
    assert not part(path).exists()


@pytest.mark.parametrize("cut", range(7))
def test_a_run_that_was_cut_off_goes_on_behind_its_last_batch(path: Path, cut: int) -> None:
    l1 = l1_of(7)
    l1.fails_at = cut
    with pytest.raises(CutOff):
        run(l1, path)
    assert not path.exists()
    l1.fails_at, l1.asked = -1, 0
    written = run(l1, path)
    assert (written.resumed, l1.asked) == (cut, 7 - cut)
    assert path.read_bytes() == whole(l1)


def test_a_torn_end_is_dropped(path: Path) -> None:
    l1 = l1_of(4)
    l1.fails_at = 3
    with pytest.raises(CutOff):
        run(l1, path)
    with part(path).open("ab") as file:
        file.write(b"half an ent")
    with journal(path).open("ab") as file:
        file.write(b'{"batch": 4, "end_by')
    l1.fails_at = -1
    assert run(l1, path).resumed == 3
    assert path.read_bytes() == whole(l1)
    assert run(l1, path).resumed == 4


def test_a_log_that_lost_its_end_is_derived_from_there(path: Path) -> None:
    l1 = l1_of(4)
    l1.fails_at = 3
    with pytest.raises(CutOff):
        run(l1, path)
    data = part(path).read_bytes()
    part(path).write_bytes(data[:-5])
    l1.fails_at = -1
    assert run(l1, path).resumed == 2
    assert path.read_bytes() == whole(l1)


def test_a_whole_log_grows_with_the_l1(path: Path) -> None:
    l1 = l1_of(3)
    run(l1, path)
    assert run(l1, path).resumed == 3
    l1.add(l1.deployed.certify())
    l1.asked = 0
    written = run(l1, path)
    assert (written.end.number, written.resumed, l1.asked) == (4, 3, 1)
    assert path.read_bytes() == whole(l1)


def test_a_whole_log_keeps_its_name_when_the_l1_fails(path: Path) -> None:
    l1 = l1_of(3)
    run(l1, path)
    l1.state = ContractState(9, bytes(32))
    with pytest.raises(DerivationError, match="withholds"):
        run(l1, path)
    assert path.read_bytes() == whole(l1)


def test_a_reorganisation_is_noticed_and_only_what_it_took_is_derived_again(
    path: Path,
) -> None:
    l1 = l1_of(5)
    run(l1, path)
    for index in (3, 4):  # the same batches, in other blocks
        event = l1.events[index]
        block = event.block_number + 50
        l1.events[index] = replace(event, block_number=block, block_hash=l1.hash_of(block))
    l1.forked_from = l1.events[2].block_number + 1
    l1.asked = 0
    written = run(l1, path)
    assert (written.resumed, written.rewound, l1.asked) == (3, 2, 2)
    assert path.read_bytes() == whole(l1)


def test_less_of_the_l1_is_less_of_the_log(path: Path) -> None:
    l1 = l1_of(5)
    run(l1, path)
    until = L1Block(l1.events[1].block_number, bytes(32), 0, 0)
    written = run(l1, path, until)
    assert (written.end.number, written.rewound) == (2, 3)
    assert path.read_bytes() == encode_entries(l1.deployed.entries[:3])


@pytest.mark.parametrize("place", [0, 30, 61, 90, 200, -1])
def test_the_first_bad_byte_of_a_changed_file_is_named(path: Path, place: int) -> None:
    l1 = l1_of(4)
    run(l1, path)
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=f"first at byte {place}") as damage:
        run(l1, path)
    ends = [mark.end_byte for mark in module._read_journal(journal(path), l1.deployed.source)[0]]
    assert damage.value.number == 1 + sum(end <= place for end in ends)


def test_what_somebody_added_to_a_whole_file_is_named(path: Path) -> None:
    l1 = l1_of(3)
    run(l1, path)
    size = len(path.read_bytes())
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DamagedFile, match=f"first at byte {size}"):
        run(l1, path)


def test_a_file_whose_end_was_cut_is_named(path: Path) -> None:
    l1 = l1_of(3)
    run(l1, path)
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    with pytest.raises(DamagedFile, match=f"batch 3 .*first at byte {len(data) - 3}"):
        run(l1, path)


def test_a_changed_checkpoint_is_found_out(path: Path) -> None:
    l1 = l1_of(3)
    run(l1, path)
    line = journal(path).read_text().splitlines()[-1]
    for changed in (line.replace('"batch":3', '"batch":4'), line[:40]):
        journal(path).write_text(journal(path).read_text().replace(line, changed))
        with pytest.raises(ForeignFile, match="cannot be read"):
            run(l1, path)
        journal(path).write_text(journal(path).read_text().replace(changed, line))
    root = l1.deployed.root.hex()
    journal(path).write_text(journal(path).read_text().replace(root, "00" * 32))
    with pytest.raises(DamagedFile, match="batch 3"):
        run(l1, path)


def test_the_checkpoint_of_another_log_is_refused(path: Path) -> None:
    l1 = l1_of(3)
    run(l1, path)
    other = replace(l1.deployed.source, contract=b"\x0e" * 20)
    with pytest.raises(ForeignFile, match="another log"):
        asyncio.run(derive_to_file(l1, other, path))
    assert path.read_bytes() == whole(l1)


def test_a_wrong_batch_on_the_l1_stops_at_the_last_good_one(path: Path) -> None:
    l1 = three_batches()
    l1.inputs[1] = l1.inputs[1][:-40] + b"\xff" + l1.inputs[1][-39:]
    with pytest.raises(DerivationError, match="batch 2"):
        run(l1, path)
    assert not path.exists()
    first = BATCH_ENTRIES = 3
    assert part(path).read_bytes() == encode_entries(l1.deployed.entries[:first])
    assert first == BATCH_ENTRIES


def test_what_was_cut_off_in_another_epoch_goes_on_with_its_committee(path: Path) -> None:
    l1 = two_epochs()
    events, inputs, changes = list(l1.events), list(l1.inputs), list(l1.changes)
    del l1.events[3:], l1.inputs[3:]
    l1.changes = [c for c in changes if c.block_number <= l1.events[-1].block_number]
    run(l1, path)
    assert '"members"' in journal(path).read_text()
    l1.events, l1.inputs, l1.changes = events, inputs, changes
    written = run(l1, path)
    assert written.resumed == 3
    assert path.read_bytes() == whole(l1)


def test_a_file_is_compared_with_the_l1_byte_by_byte(path: Path) -> None:
    l1 = l1_of(4)
    data = whole(l1)
    path.write_bytes(data + b"what the node ordered since")
    assert compare(l1, path) == 4
    for place in (0, 100, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(Differs, match=f"byte {place}, in batch . on the L1, is something"):
            compare(l1, path)
    path.write_bytes(data[:-1])
    with pytest.raises(Differs, match=f"byte {len(data) - 1}, in batch 4 on the L1, ends before"):
        compare(l1, path)


def test_entries_survive_their_file() -> None:
    entries = [LogEntry(1, 5, 7, b""), LogEntry(2, 6, 8, b"x" * 300)]
    data = encode_entries(entries)
    assert list(read_entries(data)) == entries
    with pytest.raises(ValueError, match="the entry at byte 28 is cut off"):
        list(read_entries(data[:-1]))


@pytest.mark.parametrize(
    ("found", "place"), [(b"abc", None), (b"abd", 2), (b"ab", 2), (b"abcd", 3), (b"", 0)]
)
def test_the_first_difference(found: bytes, place: int | None) -> None:
    assert first_difference(b"abc", found) == place
