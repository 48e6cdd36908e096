"""A node killed while it writes the log finds the same log again, and goes on as if nothing was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import sequencer.index
from consensus.rules import Rules
from consensus.types import Block, genesis_qc
from sequencer.collection import Collection, transaction_id
from sequencer.ledger import AppliedBlock, Ledger
from sequencer.store.lmdb import LmdbStore
from sequencer.store.memory import MemoryStore
from sequencer.store.seam import Store, WriteBatch

CHAIN = b"\1" * 32
RULES = Rules(duplicate_window_heights=6)
SEGMENT_ENTRIES = 12
KILLS = 8
RUN_AT_MOST_S = 0.08
"""How long a writer runs before it is killed, beyond its first block."""


def contents_of(height: int) -> list[list[tuple[int, bytes]]]:
    """What the chain orders at a height; many transactions come back some blocks later."""
    chosen = random.Random(height)
    return [
        [
            (901, b"\x02\xc8%08d" % chosen.randint(height * 5, height * 5 + 60))
            for _ in range(chosen.randint(1, 12))
        ]
        for _ in range(chosen.randint(0, 3))
    ]


def apply_next(ledger: Ledger, batch: WriteBatch) -> AppliedBlock:
    height = ledger.head.height + 1
    collections = [Collection.seal(content) for content in contents_of(height)]
    block = Block(
        0,
        height,
        height,
        ledger.head.block_id,
        genesis_qc(CHAIN),
        None,
        tuple(collection.digest for collection in collections),
        b"",
        1_000 + height,
        0,
    )
    return ledger.apply(batch, block, None, collections)


def write_for_ever(directory: Path) -> None:
    """The child process: one or two blocks a save, announced once they are saved."""
    sequencer.index.SEGMENT_ENTRIES = SEGMENT_ENTRIES  # type: ignore[misc]
    store = LmdbStore(directory, CHAIN)
    ledger = Ledger(store, CHAIN, RULES)
    while True:
        batch = WriteBatch()
        for _ in range(1 + ledger.head.height % 2):
            apply_next(ledger, batch)
        store.save(batch)
        print(ledger.head.height, flush=True)


def run_and_kill(directory: Path, patience_s: float) -> int:
    """Let a child write for a while and kill it; the last height it announced."""
    child = subprocess.Popen(
        [sys.executable, __file__, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout is not None
    announced = int(child.stdout.readline())
    time.sleep(patience_s)
    child.send_signal(signal.SIGKILL)
    lines = child.stdout.read().split("\n")[:-1]
    child.wait(10)
    return int(lines[-1]) if lines else announced


def test_a_log_killed_again_and_again_is_the_log_that_never_was(tmp_path: Path) -> None:
    chosen = random.Random(2)
    steady = Ledger(MemoryStore(CHAIN), CHAIN, RULES)
    expected: list[bytes] = []
    for _ in range(KILLS):
        announced = run_and_kill(tmp_path, chosen.random() * RUN_AT_MOST_S)
        store = LmdbStore(tmp_path, CHAIN)
        ledger = Ledger(store, CHAIN, RULES)
        assert announced <= ledger.head.height <= announced + 2
        while steady.head.height < ledger.head.height:
            expected += [entry[3] for entry in applied_by(steady).entries]
        assert ledger.head == steady.head
        check_log(ledger, expected, store)
        store.close()
    assert len(expected) > 100


def applied_by(ledger: Ledger) -> AppliedBlock:
    return apply_next(ledger, WriteBatch())


def check_log(ledger: Ledger, expected: list[bytes], store: Store) -> None:
    entries = ledger.entries(0, 1 << 30)
    assert [transaction_id(entry.namespace, entry.transaction) for entry in entries] == expected
    newest = {id: position for position, id in enumerate(expected)}
    for id, position in random.Random(3).sample(sorted(newest.items()), min(50, len(newest))):
        location = ledger.locate(id)
        assert location is not None
        assert location.position == position


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
