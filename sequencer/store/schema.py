"""One table of every key.

Integers are big-endian, so the order of keys is the order of numbers. "id" and "digest" are 32
bytes. Encodings of blocks, certificates and headers are those of `consensus.types` and
`sequencer.settlement.batch`.

| table        | key                          | value                                             |
|--------------|------------------------------|---------------------------------------------------|
| META         | one of the `META_*` names    | see below                                         |
| BLOCKS       | block id                     | header (`Block.encode`), committed or not         |
| UNCOMMITTED  | height u64, block id         | nothing: of blocks above the head of the log      |
| HEIGHTS      | height u64                   | block id; committed only                          |
| PROOFS       | height u64                   | `CommitProof.encode`; not for every height        |
| COLLECTIONS  | digest                       | encoded collection, ordered or not                |
| UNORDERED    | digest                       | of a collection that waits: its author's peer id  |
| ORDERED      | digest                       | height u64 of the last block that orders it       |
| ENTRIES      | height u64                   | `sequencer.block_entries.BlockEntries`            |
| POSITIONS    | first log position u64       | height u64; blocks that hold entries only         |
| TRANSACTIONS | segment u32, id or alias     | height u64, index in that block's entries u32     |
| SEGMENTS     | segment u32                  | shard u8, last height in the segment u64          |
| BATCHES      | batch number u64             | settlement's: header, certificate parts, data     |
| POSTED       | batch number u64             | L1 transaction hash, L1 block u64, its hash       |
| EVIDENCE     | digest of the evidence       | two messages that contradict each other           |
| EPOCHS       | epoch u64, from the second   | how the epoch before it ended, its committee      |

TRANSACTIONS is written in runs, *segments*, of some thousand transactions, each sorted: a random
key per transaction in one ever growing tree touches a page per transaction, 18 microseconds each
at ten million (measured). An alias is the keccak-256 of a transaction that looks like Ethereum's,
alone and with its namespace u64 behind it; every kind of key leads to the same place. The newest
blocks are in no segment yet: the index (`sequencer.index`) keeps their ids in memory and reads
them back from ENTRIES when it opens.

| META key       | value                                                                         |
|----------------|-------------------------------------------------------------------------------|
| META_FORMAT    | u32, `FORMAT_VERSION`                                                         |
| META_CHAIN_ID  | the chain id, 32 bytes                                                        |
| META_HEAD      | `sequencer.ledger.Head.encode`: the head that is applied                      |
| META_BASE      | `sequencer.history.Base.encode`: below it the log is not here; none: genesis  |
| META_SAFETY    | the safety record of the replica                                              |
| META_FIRST_RECORD | the safety record of whoever never signed, where there is a META_BASE     |
| META_FINAL     | u64, the highest batch number that is final on the L1                         |
| META_POSTER    | the poster's own record                                                       |
| META_NEXT_COMMITTEE | `encode_committee` of the next epoch's, where the registry has named it  |
"""

from enum import Enum
from typing import Final

FORMAT_VERSION: Final = 3


class Table(Enum):
    """The tables of a store; the value is the name on disk."""

    META = b"meta"
    BLOCKS = b"blocks"
    UNCOMMITTED = b"uncommitted"
    HEIGHTS = b"heights"
    PROOFS = b"proofs"
    COLLECTIONS = b"collections"
    UNORDERED = b"unordered"
    ORDERED = b"ordered"
    ENTRIES = b"entries"
    POSITIONS = b"positions"
    TRANSACTIONS = b"transactions"
    SEGMENTS = b"segments"
    BATCHES = b"batches"
    POSTED = b"posted"
    EVIDENCE = b"evidence"
    EPOCHS = b"epochs"


META_FORMAT: Final = b"format"
META_CHAIN_ID: Final = b"chain-id"
META_HEAD: Final = b"head"
META_BASE: Final = b"base"
META_SAFETY: Final = b"safety"
META_FIRST_RECORD: Final = b"first-record"
META_FINAL: Final = b"final"
META_POSTER: Final = b"poster"
META_NEXT_COMMITTEE: Final = b"next-committee"
