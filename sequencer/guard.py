"""A member that forgot what it signed may sign the opposite: a guard against starting like that.

The data directory holds the safety record. The keys directory remembers for which chains these keys
have a record somewhere; when there is none in the data that a node is started with, it refuses.
"""

import os
from pathlib import Path

from consensus.safety import SafetyRecord
from sequencer.config import ConfigError
from sequencer.keys import KEYS_DIRECTORY
from sequencer.store.schema import META_SAFETY, Table
from sequencer.store.seam import Store, WriteBatch

SIGNED_FILE = "signed-for"


def require_memory(directory: Path, chain_id: bytes, store: Store, after_data_loss: bool) -> None:
    """Refuse to start keys that have signed for this chain on data that does not know what.

    A first start saves an empty record before the keys remember it, so a crash in between is
    harmless. `ConfigError` with what to do.
    """
    file = directory / KEYS_DIRECTORY / SIGNED_FILE
    signed_for = file.read_text().split() if file.exists() else []
    has_record = store.get(Table.META, META_SAFETY) is not None
    if chain_id.hex() in signed_for and not has_record and not after_data_loss:
        raise ConfigError(
            f"these keys have signed for this chain, but {directory / 'data'} does not know what: "
            "a member that forgot its votes may vote twice, which counts as lying. Restore the "
            "data; or, if it is lost, wait until the other members have committed new blocks and "
            "start once with --after-data-loss"
        )
    if not has_record:
        writes = WriteBatch()
        writes.put(Table.META, META_SAFETY, SafetyRecord.initial(chain_id).encode())
        store.save(writes)
    if chain_id.hex() not in signed_for:
        with file.open("a") as marks:
            marks.write(chain_id.hex() + "\n")
            marks.flush()
            os.fsync(marks.fileno())
