"""A derived log as a file, which a later run goes on with.

Beside `log.bin` stands `log.bin.checkpoint`, a line of JSON for every batch: where it ends in the
file, the log root and committee after it, and its place on the L1. It is enough to verify what is
there, to go on behind the last batch, and to go back to an earlier one when the L1 was reorganised.
A file that is being written is called `log.bin.part`; it has its name only while it is whole.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from consensus.bls import Crypto
from consensus.committee import Committee, Member
from consensus.errors import InvalidConfiguration
from sequencer.logfile import encode_entries, first_difference, read_entries
from sequencer.settlement.batch import next_log_root
from sequencer.settlement.client import L1Block, SettlementClient
from sequencer.settlement.derive import (
    EMPTY_LOG,
    BlobSource,
    Checkpoint,
    DerivationError,
    DerivedBatch,
    LogEnd,
    PostedLog,
    Progress,
    Reorganised,
    check_start,
    derive_batches,
)

FORMAT: Final = 1
PART: Final = ".part"
CHECKPOINT: Final = ".checkpoint"
SYNC_BATCHES: Final = 64
SYNC_S: Final = 2.0
"""How much work a loss of power may cost, in batches and seconds."""
MAX_CHECKPOINT_BYTES: Final = 1 << 30


class DamagedFile(DerivationError):
    """What is in the file is not what was derived. `number` is the first bad batch, `byte` the
    first bad byte where it is known."""

    def __init__(self, path: Path, number: int, start: int, end: int, byte: int | None) -> None:
        where = f"bytes {start} to {end}" if byte is None else f"first at byte {byte}"
        super().__init__(
            f"{path}: batch {number} is not what was derived ({where}); delete {path} and "
            f"{path}{CHECKPOINT} to start over"
        )
        self.number = number
        self.byte = byte


class ForeignFile(Exception):
    """The checkpoint beside the file cannot be read, or belongs to another log."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of one batch: in the log and on the L1, and in the file, in bytes."""

    checkpoint: Checkpoint
    end_byte: int


class DerivedFile:
    """The file and its checkpoint, open for writing. Use `open`, then `close` whatever happens."""

    def __init__(
        self, path: Path, source: PostedLog, marks: list[Mark], file: IO[bytes], *, is_whole: bool
    ) -> None:
        self.path = path
        self.marks = marks
        self._is_whole = is_whole
        self._source = source
        self._file = file
        self._journal = _journal_of(path).open("ab")
        self._unsynced = 0
        self._synced_at = time.monotonic()
        if not marks:
            self._journal.truncate(0)
            self._note(_head_of(source))

    @classmethod
    def open(cls, path: Path, source: PostedLog) -> "DerivedFile":
        """What an earlier run left, verified, or an empty file.

        Raises `DamagedFile`, and `ForeignFile` where the checkpoint is of another log.
        """
        marks, torn = _read_journal(_journal_of(path), source)
        place = _place_of(path)
        is_whole = place == path
        size = place.stat().st_size if place.exists() else 0
        # A run that was cut off leaves a piece of the next batch; nothing cuts a whole file.
        there = marks if is_whole else [mark for mark in marks if mark.end_byte <= size]
        if not there:
            is_whole, place = False, _part_of(path)
        file = place.open("r+b" if there else "w+b")
        try:
            _verify(path, file, there, size if is_whole else None)
            file.truncate(there[-1].end_byte if there else 0)
            file.seek(0, os.SEEK_END)
            found = cls(path, source, there, file, is_whole=is_whole)
        except BaseException:
            file.close()
            raise
        if len(there) < len(marks) or torn:
            found._rewrite()
        return found

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on; None at the beginning."""
        return self.marks[-1].checkpoint if self.marks else None

    @property
    def _end_byte(self) -> int:
        return self.marks[-1].end_byte if self.marks else 0

    def append(self, batch: DerivedBatch) -> None:
        """Write the next batch."""
        self._begin()
        data = encode_entries(batch.entries)
        self._file.write(data)
        mark = Mark(batch.checkpoint, self._end_byte + len(data))
        self.marks.append(mark)
        self._unsynced += 1
        late = time.monotonic() - self._synced_at >= SYNC_S
        if late or self._unsynced >= SYNC_BATCHES:
            self.sync()

    def sync(self) -> None:
        """Make everything durable: the log first, then what says how far it goes."""
        _sync(self._file)
        start = len(self.marks) - self._unsynced
        for index in range(start, len(self.marks)):
            self._note_mark(index)
        _sync(self._journal)
        self._unsynced = 0
        self._synced_at = time.monotonic()

    def rewind(self) -> None:
        """Drop the newest batch: the L1 does not hold it there any more."""
        self._begin()
        self.marks.pop()
        self._file.truncate(self._end_byte)
        self._file.seek(0, os.SEEK_END)
        self._rewrite()

    def _begin(self) -> None:
        if self._is_whole:
            self.path.replace(_part_of(self.path))
            self._is_whole = False

    def finish(self) -> None:
        """Everything is there: give the file its name."""
        self.sync()
        if not self._is_whole:
            _part_of(self.path).replace(self.path)
            self._is_whole = True

    def close(self) -> None:
        """Keep what is there for the next run."""
        self.sync()
        self._file.close()
        self._journal.close()

    def _rewrite(self) -> None:
        self._journal.truncate(0)
        self._note(_head_of(self._source))
        for index in range(len(self.marks)):
            self._note_mark(index)
        _sync(self._journal)

    def _note_mark(self, index: int) -> None:
        mark = self.marks[index]
        before = self.marks[index - 1].checkpoint.committee if index else self._source.committee
        if mark.checkpoint.committee != before:
            self._note(_encode_committee(mark.checkpoint.committee))
        self._note(_encode_mark(mark))

    def _note(self, line: dict[str, Any]) -> None:
        self._journal.write(orjson.dumps(line) + b"\n")


@dataclass(frozen=True, slots=True)
class Written:
    """What a run found and did: the end of the log, transactions in it, batches that were there
    before, and batches taken back because the L1 was reorganised."""

    end: LogEnd
    resumed: int
    rewound: int


async def derive_to_file(
    client: SettlementClient,
    source: PostedLog,
    path: Path,
    *,
    until: L1Block | None = None,
    crypto: Crypto | None = None,
    progress: Progress | None = None,
    blobs: BlobSource | None = None,
) -> Written:
    """Derive a log into a file, from where an earlier run stopped.

    Raises as `derive_batches`; `DamagedFile`, with the first bad byte; `ForeignFile`. Whatever ends
    it, what is derived so far is kept for the next run.
    """
    try:
        file = DerivedFile.open(path, source)
    except DamagedFile as damage:
        raise await _pinpointed(client, source, path, damage, crypto, blobs) from None
    try:
        rewound = await _rewind_to_l1(client, file, until)
        resumed = len(file.marks)
        async for batch in derive_batches(
            client,
            source,
            until=until,
            start=file.checkpoint,
            crypto=crypto,
            progress=progress,
            blobs=blobs,
        ):
            file.append(batch)
        file.finish()
        found = file.checkpoint
        return Written(found.end if found else EMPTY_LOG, resumed, rewound)
    finally:
        file.close()


async def _rewind_to_l1(client: SettlementClient, file: DerivedFile, until: L1Block | None) -> int:
    """Back to the newest batch that the L1 holds where it did, up to `until`; how many went."""
    gone = 0
    while file.checkpoint is not None:
        if until is None or file.checkpoint.block_number <= until.number:
            try:
                await check_start(client, file.checkpoint)
                break
            except Reorganised:
                pass
        file.rewind()
        gone += 1
    return gone


async def _pinpointed(
    client: SettlementClient,
    source: PostedLog,
    path: Path,
    damage: DamagedFile,
    crypto: Crypto | None,
    blobs: BlobSource | None,
) -> DamagedFile:
    """The same damage with the very byte, after the batch is derived once more."""
    if damage.byte is not None:
        return damage
    marks, _ = _read_journal(_journal_of(path), source)
    before = marks[damage.number - 2] if damage.number > 1 else None
    start = before.end_byte if before else 0
    end = marks[damage.number - 1].end_byte
    checkpoint = before.checkpoint if before else None
    try:
        found = derive_batches(client, source, start=checkpoint, crypto=crypto, blobs=blobs)
        expected = encode_entries((await anext(aiter(found))).entries)
    except (Reorganised, StopAsyncIteration):
        return damage
    data = _place_of(path).read_bytes()[start:end]
    place = first_difference(expected, data)
    if place is None:  # the file is what it should be, so the checkpoint is not
        return damage
    return DamagedFile(path, damage.number, start, end, start + place)


def _verify(path: Path, file: IO[bytes], marks: list[Mark], size: int | None) -> None:
    """Every batch in the file leads from one log root to the next, and a file of `size` bytes ends
    with the last."""
    root, start = EMPTY_LOG.log_root, 0
    for mark in marks:
        data = file.read(mark.end_byte - start)
        try:
            for entry in read_entries(data):
                root = next_log_root(root, entry)
        except (ValueError, OverflowError):
            root = b""
        end = mark.checkpoint.end
        if root != end.log_root:
            raise DamagedFile(path, end.number, start, mark.end_byte, None)
        start = mark.end_byte
    if size is not None and size != start:
        raise DamagedFile(path, len(marks) + 1, start, size, start)


# the checkpoint


def _journal_of(path: Path) -> Path:
    return path.with_name(path.name + CHECKPOINT)


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _place_of(path: Path) -> Path:
    """Where the log is at present: under its name, or in the making."""
    part = _part_of(path)
    return path if path.exists() and not part.exists() else part


def _read_journal(journal: Path, source: PostedLog) -> tuple[list[Mark], bool]:
    """The marks, and whether the last line is torn."""
    if not journal.exists():
        return [], False
    if journal.stat().st_size > MAX_CHECKPOINT_BYTES:
        raise ForeignFile(f"{journal} is too large to be a checkpoint")
    *lines, torn = journal.read_bytes().split(b"\n")
    if not lines:
        return [], bool(torn)
    try:
        if orjson.loads(lines[0]) != _head_of(source):
            raise ForeignFile(
                f"{journal} belongs to another log (chain, L1 or contract); name another file"
            )
        return _decode_marks([orjson.loads(line) for line in lines[1:]], source), bool(torn)
    except (ValueError, TypeError, KeyError, InvalidConfiguration) as error:
        raise ForeignFile(f"{journal} cannot be read ({error}); delete it to start over") from None


def _decode_marks(lines: list[dict[str, Any]], source: PostedLog) -> list[Mark]:
    marks: list[Mark] = []
    committee = source.committee
    for line in lines:
        if "members" in line:
            committee = _decode_committee(line)
            continue
        mark = _decode_mark(line, committee)
        end_byte = marks[-1].end_byte if marks else 0
        if mark.checkpoint.end.number != len(marks) + 1 or mark.end_byte < end_byte:
            raise ValueError(f"batch {mark.checkpoint.end.number} is out of order")
        marks.append(mark)
    return marks


def _head_of(source: PostedLog) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "chain_id": source.chain_id.hex(),
        "l1_chain_id": source.l1_chain_id,
        "contract": source.contract.hex(),
    }


def _encode_mark(mark: Mark) -> dict[str, Any]:
    end, place = mark.checkpoint.end, mark.checkpoint
    return {
        "batch": end.number,
        "end_byte": mark.end_byte,
        "position": end.position,
        "log_root": end.log_root.hex(),
        "height": end.height,
        "timestamp_ms": end.timestamp_ms,
        "l1_block": place.block_number,
        "l1_hash": place.block_hash.hex(),
        "l1_log": place.log_index,
    }


def _decode_mark(line: dict[str, Any], committee: Committee) -> Mark:
    end = LogEnd(
        int(line["batch"]),
        int(line["position"]),
        bytes.fromhex(line["log_root"]),
        int(line["height"]),
        int(line["timestamp_ms"]),
    )
    block, block_hash = int(line["l1_block"]), bytes.fromhex(line["l1_hash"])
    checkpoint = Checkpoint(end, committee, block, block_hash, int(line["l1_log"]))
    return Mark(checkpoint, int(line["end_byte"]))


def _encode_committee(committee: Committee) -> dict[str, Any]:
    members = [
        [member.identity.hex(), member.bls_key.hex(), member.weight] for member in committee.members
    ]
    return {"epoch": committee.epoch, "members": members}


def _decode_committee(line: dict[str, Any]) -> Committee:
    members = [
        Member(bytes.fromhex(identity), bytes.fromhex(key), int(weight))
        for identity, key, weight in line["members"]
    ]
    return Committee(int(line["epoch"]), tuple(members))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
