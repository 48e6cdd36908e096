"""The contract of the store seam, on every implementation, and what each does beyond it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequencer.store.lmdb import LmdbStore
from sequencer.store.memory import MemoryStore, TornSave
from sequencer.store.schema import META_FORMAT, Table
from sequencer.store.seam import Store, StoreError, StoreFull, WriteBatch

CHAIN = b"\1" * 32
OTHER_CHAIN = b"\2" * 32


class Opened:
    """One store under test, and how to close and open it again."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.store: Store = self._new()

    def _new(self) -> Store:
        if self.kind == "memory":
            return MemoryStore(CHAIN, capacity_bytes=4 << 20)
        return LmdbStore(self.directory, CHAIN, map_size_bytes=8 << 20)

    def again(self) -> Store:
        if isinstance(self.store, MemoryStore):
            self.store = self.store.crash()
        else:
            self.store.close()
            self.store = self._new()
        return self.store


@pytest.fixture(params=["memory", "lmdb"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    made = Opened(request.param, tmp_path / "data")
    yield made
    made.store.close()


def batch_of(*changes: tuple[Table, bytes, bytes | None]) -> WriteBatch:
    batch = WriteBatch()
    for table, key, value in changes:
        if value is None:
            batch.delete(table, key)
        else:
            batch.put(table, key, value)
    return batch


def filled(store: Store, keys: list[bytes], table: Table = Table.HEIGHTS) -> None:
    store.save(batch_of(*((table, key, b"value of " + key) for key in keys)))


# --- the contract ---------------------------------------------------------------------------


def test_what_was_saved_is_read_back(opened: Opened) -> None:
    store = opened.store
    assert store.get(Table.META, b"a") is None
    store.save(batch_of((Table.META, b"a", b"1"), (Table.BLOCKS, b"a", b"2")))
    assert (store.get(Table.META, b"a"), store.get(Table.BLOCKS, b"a")) == (b"1", b"2")
    assert store.get(Table.PROOFS, b"a") is None


def test_an_empty_value_is_a_value(opened: Opened) -> None:
    opened.store.save(batch_of((Table.META, b"a", b"")))
    assert opened.store.get(Table.META, b"a") == b""
    assert opened.again().get(Table.META, b"a") == b""


def test_a_later_save_overwrites_and_deletes(opened: Opened) -> None:
    store = opened.store
    filled(store, [b"a", b"b"])
    store.save(
        batch_of(
            (Table.HEIGHTS, b"a", b"new"), (Table.HEIGHTS, b"b", None), (Table.HEIGHTS, b"c", None)
        )
    )
    assert store.range(Table.HEIGHTS, b"", 9) == [(b"a", b"new")]
    assert opened.again().range(Table.HEIGHTS, b"", 9) == [(b"a", b"new")]


def test_saved_things_outlive_the_process(opened: Opened) -> None:
    filled(opened.store, [b"a", b"b"])
    store = opened.again()
    assert [key for key, _ in store.range(Table.HEIGHTS, b"", 9)] == [b"a", b"b"]


def test_an_empty_batch_can_be_saved(opened: Opened) -> None:
    opened.store.save(WriteBatch())


def test_a_big_value_and_the_longest_key(opened: Opened) -> None:
    value = os.urandom(1 << 20)
    opened.store.save(batch_of((Table.COLLECTIONS, b"\xff" * 64, value)))
    assert opened.again().get(Table.COLLECTIONS, b"\xff" * 64) == value


def test_many_keys_at_once(opened: Opened) -> None:
    store = opened.store
    filled(store, [b"a", b"c"])
    assert store.get_many(Table.HEIGHTS, [b"c", b"b", b"a", b"c"]) == {
        b"a": b"value of a",
        b"c": b"value of c",
    }
    assert store.get_many(Table.HEIGHTS, []) == {}
    assert store.get_many(Table.BLOCKS, [b"a"]) == {}


@pytest.mark.parametrize(
    ("start", "limit", "reverse", "keys"),
    [
        (b"", 9, False, [b"b", b"d", b"f"]),
        (b"", 9, True, [b"f", b"d", b"b"]),
        (b"", 2, False, [b"b", b"d"]),
        (b"", 1, True, [b"f"]),
        (b"d", 9, False, [b"d", b"f"]),
        (b"d", 9, True, [b"d", b"b"]),
        (b"c", 9, False, [b"d", b"f"]),
        (b"c", 9, True, [b"b"]),
        (b"a", 9, False, [b"b", b"d", b"f"]),
        (b"a", 9, True, []),
        (b"g", 9, False, []),
        (b"g", 9, True, [b"f", b"d", b"b"]),
        (b"d\0", 9, False, [b"f"]),
        (b"d\0", 9, True, [b"d", b"b"]),
        (b"d", 0, False, []),
        (b"d", 0, True, []),
    ],
)
def test_ranges(opened: Opened, start: bytes, limit: int, reverse: bool, keys: list[bytes]) -> None:
    filled(opened.store, [b"d", b"b", b"f"])
    found = opened.store.range(Table.HEIGHTS, start, limit, reverse)
    assert found == [(key, b"value of " + key) for key in keys]


def test_a_range_of_an_empty_table_is_empty(opened: Opened) -> None:
    for reverse in (False, True):
        assert opened.store.range(Table.EVIDENCE, b"", 9, reverse) == []
        assert opened.store.range(Table.EVIDENCE, b"x", 9, reverse) == []


def test_a_closed_store_says_so(opened: Opened) -> None:
    store = opened.store
    store.close()
    store.close()
    acts: list[Callable[[], object]] = [
        lambda: store.get(Table.META, b"a"),
        lambda: store.get_many(Table.META, [b"a"]),
        lambda: store.range(Table.META, b"", 1),
        lambda: store.save(batch_of((Table.META, b"a", b"1"))),
    ]
    for act in acts:
        with pytest.raises(StoreError, match="closed"):
            act()


def test_a_full_store_says_so_and_keeps_what_it_has(opened: Opened) -> None:
    filled(opened.store, [b"a"])
    too_much = batch_of(
        *((Table.COLLECTIONS, bytes([index]), bytes(1 << 20)) for index in range(12)),
        (Table.HEIGHTS, b"b", b"lost"),
    )
    with pytest.raises(StoreFull, match=r"full|map size"):
        opened.store.save(too_much)
    store = opened.again()
    assert store.range(Table.HEIGHTS, b"", 9) == [(b"a", b"value of a")]
    assert store.range(Table.COLLECTIONS, b"", 9) == []
    filled(store, [b"c"])


def test_deleting_makes_room(opened: Opened) -> None:
    store = opened.store
    for index in range(40):
        key = index.to_bytes(8, "big")
        store.save(batch_of((Table.COLLECTIONS, key, bytes(1 << 20))))
        store.save(batch_of((Table.COLLECTIONS, key, None)))
    assert store.range(Table.COLLECTIONS, b"", 9) == []


CHANGES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([Table.META, Table.BLOCKS, Table.HEIGHTS]),
            st.binary(min_size=1, max_size=2).filter(lambda key: len(key) < 5),
            st.none() | st.binary(max_size=4),
        ),
        max_size=12,
    ),
    max_size=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES, st.binary(max_size=2), st.booleans())
def test_any_history_of_saves_reads_like_a_dictionary(
    opened: Opened,
    history: list[list[tuple[Table, bytes, bytes | None]]],
    start: bytes,
    reverse: bool,
) -> None:
    store = opened.store
    wipe = WriteBatch()
    tables = (Table.META, Table.BLOCKS, Table.HEIGHTS)
    for table in tables:
        for key, _ in store.range(table, b"", 10_000):
            if len(key) < 5:
                wipe.delete(table, key)
    store.save(wipe)
    model: dict[Table, dict[bytes, bytes]] = {
        table: dict(store.range(table, b"", 10_000)) for table in tables
    }
    for changes in history:
        store.save(batch_of(*changes))
        for table, key, value in changes:
            model[table].pop(key, None)
            if value is not None:
                model[table][key] = value
    for table in tables:
        expected = sorted(model[table].items(), reverse=reverse)
        if start:
            expected = [
                item for item in expected if (item[0] <= start if reverse else item[0] >= start)
            ]
        assert store.range(table, start, 10_000, reverse) == expected


def test_threads_read_while_one_writes(opened: Opened) -> None:
    store = opened.store
    filled(store, [b"a"])
    seen: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                values = {store.get(Table.HEIGHTS, b"a"), *dict(store.range(Table.META, b"", 9))}
                assert None not in values
            except Exception as error:
                seen.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for index in range(30):
        store.save(batch_of((Table.HEIGHTS, b"a", b"%d" % index), (Table.META, b"z", b"1")))
    stop.set()
    for thread in threads:
        thread.join()
    assert seen == []


# --- batches --------------------------------------------------------------------------------


def test_a_batch_shows_what_a_read_after_the_save_would_give(opened: Opened) -> None:
    store = opened.store
    filled(store, [b"a", b"b"])
    batch = batch_of((Table.HEIGHTS, b"b", None), (Table.HEIGHTS, b"c", b"3"))
    keys = [b"a", b"b", b"c", b"d"]
    before = [batch.get(Table.HEIGHTS, key, store) for key in keys]
    assert [batch.get(Table.HEIGHTS, key) for key in keys] == [None, None, b"3", None]
    store.save(batch)
    assert before == [store.get(Table.HEIGHTS, key) for key in keys]


def test_the_last_change_of_a_key_wins() -> None:
    batch = WriteBatch()
    batch.put(Table.META, b"a", b"1")
    batch.delete(Table.META, b"a")
    batch.put_many(Table.META, [(b"a", b"2"), (b"b", b"3")])
    batch.delete(Table.META, b"b")
    assert (batch.get(Table.META, b"a"), batch.get(Table.META, b"b")) == (b"2", None)
    assert len(batch) == 2
    batch.clear()
    assert len(batch) == 0


# --- memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", list(TornSave))
def test_a_torn_save_is_lost_or_kept_as_a_whole(torn: TornSave) -> None:
    store = MemoryStore(CHAIN)
    filled(store, [b"a"])
    store.fail_next_save(torn)
    with pytest.raises(StoreError):
        filled(store, [b"b", b"c"])
    kept = [b"a", b"b", b"c"] if torn is TornSave.KEPT else [b"a"]
    assert [key for key, _ in store.crash().range(Table.HEIGHTS, b"", 9)] == kept


def test_a_crashed_store_is_dead() -> None:
    store = MemoryStore(CHAIN)
    revived = store.crash()
    with pytest.raises(StoreError, match="closed"):
        store.save(batch_of((Table.META, b"a", b"1")))
    revived.save(batch_of((Table.META, b"a", b"1")))
    assert revived.saves == 2


# --- lmdb -----------------------------------------------------------------------------------


def test_another_chain_s_directory_is_refused(tmp_path: Path) -> None:
    LmdbStore(tmp_path, CHAIN).close()
    with pytest.raises(StoreError, match=f"belongs to chain {CHAIN.hex()}.*{OTHER_CHAIN.hex()}"):
        LmdbStore(tmp_path, OTHER_CHAIN)
    LmdbStore(tmp_path, CHAIN).close()


def test_another_format_is_refused(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, CHAIN)
    store.save(batch_of((Table.META, META_FORMAT, (9).to_bytes(4, "big"))))
    store.close()
    with pytest.raises(StoreError, match="has format 9, this version reads format 3"):
        LmdbStore(tmp_path, CHAIN)


def test_a_second_process_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, CHAIN)
    filled(store, [b"a"])
    with pytest.raises(StoreError, match="in use by another process"):
        LmdbStore(tmp_path, CHAIN)
    read = (
        "import sys; from pathlib import Path\n"
        "from sequencer.store.lmdb import LmdbStore\n"
        "from sequencer.store.schema import Table\n"
        "from sequencer.store.seam import StoreError, WriteBatch\n"
        "store = LmdbStore(Path(sys.argv[1]), b'\\1' * 32, read_only=True)\n"
        "batch = WriteBatch(); batch.put(Table.META, b'a', b'1')\n"
        "try: store.save(batch)\n"
        "except StoreError: print(store.get(Table.HEIGHTS, b'a').decode(), end='')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", read, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert answer.stdout == "value of a", answer.stderr
    store.close()


def test_reading_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        LmdbStore(tmp_path / "nothing", CHAIN, read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbStore(tmp_path / "file" / "data", CHAIN)


def grown_file(directory: Path) -> Path:
    store = LmdbStore(directory, CHAIN)
    for index in range(8):
        store.save(batch_of((Table.COLLECTIONS, bytes([index]), os.urandom(1 << 20))))
    store.close()
    return directory / "data.mdb"


@pytest.mark.parametrize("size", [0, 1, 1000, 8192, 1 << 20])
def test_a_cut_file_is_an_error_or_an_empty_store_but_never_a_crash(
    tmp_path: Path, size: int
) -> None:
    file = grown_file(tmp_path)
    os.truncate(file, size)
    if size == 0:
        LmdbStore(tmp_path, CHAIN).close()
        return
    with pytest.raises(StoreError, match=r"damaged|failed"):
        LmdbStore(tmp_path, CHAIN)


def test_a_file_of_garbage_is_an_error(tmp_path: Path) -> None:
    file = grown_file(tmp_path)
    file.write_bytes(os.urandom(1 << 16))
    with pytest.raises(StoreError, match=r"is damaged.*keep it, and see"):
        LmdbStore(tmp_path, CHAIN)


def test_pages_of_zeros_are_an_error(tmp_path: Path) -> None:
    file = grown_file(tmp_path)
    with file.open("r+b") as handle:
        handle.seek(8192)
        handle.write(bytes(file.stat().st_size - 8192))
    with pytest.raises(StoreError):
        LmdbStore(tmp_path, CHAIN).get(Table.META, META_FORMAT)


def test_a_write_cut_short_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, CHAIN)
    filled(store, [b"a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StoreError):
            store.save(batch_of((Table.COLLECTIONS, b"a", bytes(4 << 20))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
        store.close()
    store = LmdbStore(tmp_path, CHAIN)
    assert store.range(Table.COLLECTIONS, b"", 9) == []
    assert store.get(Table.HEIGHTS, b"a") == b"value of a"
    store.close()


FILLER = """
import sys
from pathlib import Path
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import Table
from sequencer.store.seam import StoreFull, WriteBatch

store = LmdbStore(Path(sys.argv[1]), b"\\1" * 32)
try:
    for number in range(99):
        batch = WriteBatch()
        batch.put(Table.COLLECTIONS, number.to_bytes(8, "big"), bytes(1 << 20))
        store.save(batch)
except StoreFull as full:
    kept = store.range(Table.COLLECTIONS, b"", 99)
    assert len(kept) == number and {len(value) for _, value in kept} == {1 << 20}
    print(full)
"""


OPENED_ON_A_FULL_DISK = """
import contextlib, os, sys
from pathlib import Path
from sequencer.store.lmdb import LmdbStore
from sequencer.store.seam import StoreFull

old, new = (Path(sys.argv[1] + end) for end in ("/old", "/new"))
LmdbStore(old, b"\\1" * 32).close()
(old / "lock.mdb").unlink()  # as in a copy of the data
new.mkdir()
filler = os.open(old / "filler", os.O_WRONLY | os.O_CREAT)
with contextlib.suppress(OSError):
    while os.write(filler, bytes(4096)):
        pass
for place, read_only in ((old, False), (old, True), (new, False)):
    try:
        LmdbStore(place, b"\\1" * 32, read_only=read_only)
    except StoreFull as full:
        print(full)
"""


@pytest.mark.parametrize(("script", "places"), [(FILLER, 1), (OPENED_ON_A_FULL_DISK, 3)])
def test_a_disk_without_room_is_a_full_store(tmp_path: Path, script: str, places: int) -> None:
    shell = (
        f"mount -t tmpfs -o size=8m tmpfs {tmp_path} && exec {sys.executable} -u - {tmp_path}/data"
    )
    own_mounts = ["unshare", "-rm", "sh", "-c", shell]
    if not shutil.which("unshare") or subprocess.run([*own_mounts[:2], "true"]).returncode:
        pytest.skip("needs a mount namespace for a disk of eight megabytes")
    answer = subprocess.run(own_mounts, input=script, capture_output=True, text=True, timeout=30)
    assert answer.stdout.count("no room left on the disk") == places, answer.stderr


@pytest.mark.parametrize("limit_bytes", [8 << 20, (8 << 20) + 12_288 + 100])
def test_a_file_that_may_not_grow_is_a_full_store(tmp_path: Path, limit_bytes: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    answer = subprocess.run(
        [sys.executable, "-", str(tmp_path / "data")],
        input=FILLER,
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=limit,
    )
    assert "no room left on the disk" in answer.stdout, answer.stderr


WRITER = """
import sys
from pathlib import Path
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import Table
from sequencer.store.seam import WriteBatch

store = LmdbStore(Path(sys.argv[1]), b"\\1" * 32)
number = int.from_bytes(store.get(Table.META, b"number") or b"", "big")
while True:
    number += 1
    batch = WriteBatch()
    for part in range(40):
        key = (number * 7919 % 251 * 1000 + part).to_bytes(8, "big")
        batch.put(Table.HEIGHTS, key, number.to_bytes(8, "big") * 20)
    batch.put(Table.COLLECTIONS, number.to_bytes(8, "big"), bytes(20000))
    batch.delete(Table.COLLECTIONS, max(0, number - 3).to_bytes(8, "big"))
    batch.put(Table.META, b"number", number.to_bytes(8, "big"))
    store.save(batch)
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_saves_and_all_it_announced(
    tmp_path: Path,
) -> None:
    announced = 0
    for kill_after_lines in (1, 2, 5, 9, 17):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(kill_after_lines):
            announced = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split("\n")[:-1]
        announced = int(rest[-1]) if rest else announced
        process.wait(10)
        check_whole(tmp_path, announced)


def check_whole(directory: Path, announced: int) -> None:
    store = LmdbStore(directory, CHAIN)
    number = int.from_bytes(store.get(Table.META, b"number") or b"", "big")
    assert announced <= number <= announced + 1
    start = number * 7919 % 251 * 1000
    run = store.range(Table.HEIGHTS, start.to_bytes(8, "big"), 40)
    assert {value for _, value in run} == {number.to_bytes(8, "big") * 20}
    left = [int.from_bytes(key, "big") for key, _ in store.range(Table.COLLECTIONS, b"", 99)]
    assert left == [kept for kept in range(number - 2, number + 1) if kept > 0]
    store.close()
