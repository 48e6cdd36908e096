"""Batches as blobs of EIP-4844: the bytes in field elements, their hashes, and what goes with them.

A blob is 4,096 field elements of 32 big-endian bytes, each below the order of the curve: 31 bytes
of ours with a zero byte before them always are.  The payload is the length of the data (u32) and
the data, over as few blobs as hold it; the rest is zero.  Data has one encoding only, so members
that close the same batch commit to the same blobs.

A blob is known to the contract by its *versioned hash*; a header names the keccak of all of them.
What a transaction carries beside itself, and the contract never sees, is its *sidecar*: blobs, KZG
commitments and proofs, one proof a blob up to the Prague fork, one a cell from Osaka on (EIP-7594).

The functions that use KZG take 36 ms a blob to commit, 200 ms to prove its cells, and 1.4 s at
first, all of it holding Python's lock: a node asks a process of its own (`kzg`) instead.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from sequencer.settlement.batch import MAX_BATCH_BYTES

ELEMENTS: Final = 4_096
ELEMENT_BYTES: Final = 32
ELEMENT_DATA_BYTES: Final = 31
BLOB_BYTES: Final = ELEMENTS * ELEMENT_BYTES
BLOB_DATA_BYTES: Final = ELEMENTS * ELEMENT_DATA_BYTES
LENGTH_BYTES: Final = 4

MAX_BLOBS: Final = 6
"""Blobs in one transaction: what Osaka allows, and the contract takes."""
MAX_BLOB_BATCH_BYTES: Final = MAX_BLOBS * BLOB_DATA_BYTES - LENGTH_BYTES
"""The largest batch in bytes that blobs carry: 761,852."""
GAS_PER_BLOB: Final = 1 << 17
"""Blob gas, paid at the blob base fee."""

G1_BYTES: Final = 48
"""A commitment, or a proof."""
CELLS_PER_BLOB: Final = 128
VERSION: Final = b"\x01"
"""First byte of a versioned hash, and of a sidecar with cell proofs."""
BLOB_TRANSACTION: Final = 3
SETUP_SHA256: Final = "d39b9f2d047cc9dca2de58f264b6a09448ccd34db967881a6713eacacf0f26b7"
"""The trusted setup of Ethereum's KZG ceremony, as the libraries ship it."""


NO_BLOBS: Final = bytes(32)
"""What a header says of its blobs where there are none."""

CALLDATA: Final = "calldata"
EITHER: Final = "either"
BLOBS: Final = "blobs"
DATA_MODES: Final = (CALLDATA, EITHER, BLOBS)
"""Where batches of a chain are posted: `l1.data` of its genesis."""


class InvalidBlobs(ValueError):
    """Blobs that carry no data in the one encoding."""


def max_batch_bytes(data: str) -> int:
    """The largest batch, stored or uncompressed, of a chain with this `l1.data`."""
    return MAX_BLOB_BATCH_BYTES if data == BLOBS else MAX_BATCH_BYTES


def blob_count(size: int) -> int:
    """How many blobs carry `size` bytes.  Raises ValueError for none, and for what six do not."""
    if not 1 <= size <= MAX_BLOB_BATCH_BYTES:
        raise ValueError(f"{MAX_BLOBS} blobs carry 1 to {MAX_BLOB_BATCH_BYTES} bytes")
    return -(-(LENGTH_BYTES + size) // BLOB_DATA_BYTES)


def encode_blobs(data: bytes) -> tuple[bytes, ...]:
    """The blobs that carry `data`.  Raises ValueError as `blob_count`."""
    count = blob_count(len(data))
    payload = len(data).to_bytes(LENGTH_BYTES, "big") + data
    payload = payload.ljust(count * BLOB_DATA_BYTES, b"\0")
    elements = b"".join(
        b"\0" + payload[start : start + ELEMENT_DATA_BYTES]
        for start in range(0, len(payload), ELEMENT_DATA_BYTES)
    )
    return tuple(
        elements[start : start + BLOB_BYTES] for start in range(0, len(elements), BLOB_BYTES)
    )


def decode_blobs(blobs: Sequence[bytes]) -> bytes:
    """Inverse of `encode_blobs`.  Raises InvalidBlobs for anything that it does not make."""
    if not 1 <= len(blobs) <= MAX_BLOBS or any(len(blob) != BLOB_BYTES for blob in blobs):
        raise InvalidBlobs(f"not 1 to {MAX_BLOBS} blobs of {BLOB_BYTES} bytes")
    elements = b"".join(blobs)
    if any(elements[::ELEMENT_BYTES]):
        raise InvalidBlobs("a field element holds more than 31 bytes")
    payload = b"".join(
        elements[start + 1 : start + ELEMENT_BYTES]
        for start in range(0, len(elements), ELEMENT_BYTES)
    )
    size = int.from_bytes(payload[:LENGTH_BYTES], "big")
    end = LENGTH_BYTES + size
    if size == 0 or end > len(payload) or blob_count(size) != len(blobs) or any(payload[end:]):
        raise InvalidBlobs("the length does not fit the blobs, or bytes follow the data")
    return payload[LENGTH_BYTES:end]


def versioned_hash(commitment: bytes) -> bytes:
    """What the EVM knows a blob by (32 bytes), from its commitment (48 bytes)."""
    return VERSION + hashlib.sha256(commitment).digest()[1:]


def blobs_digest(versioned_hashes: Sequence[bytes]) -> bytes:
    """What a header says about its blobs: keccak-256 over their versioned hashes."""
    from eth_hash.auto import keccak

    return keccak(b"".join(versioned_hashes))


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a blob transaction carries beside itself.

    `proofs` are one a blob, or with `cells` 128 a blob, in order; all have 48 bytes.
    """

    blobs: tuple[bytes, ...]
    commitments: tuple[bytes, ...]
    proofs: tuple[bytes, ...]
    cells: bool

    @property
    def versioned_hashes(self) -> tuple[bytes, ...]:
        """What the transaction itself names."""
        return tuple(versioned_hash(commitment) for commitment in self.commitments)


def empty_sidecar(cells: bool) -> Sidecar:
    """One blob of zeros: only a blob transaction replaces another one.

    It is the polynomial zero, so its commitment and all proofs are the point at infinity.
    """
    infinity = b"\xc0".ljust(G1_BYTES, b"\0")
    proofs = (infinity,) * (CELLS_PER_BLOB if cells else 1)
    return Sidecar((bytes(BLOB_BYTES),), (infinity,), proofs, cells)


def with_sidecar(raw: bytes, sidecar: Sidecar) -> bytes:
    """The form of a signed blob transaction that an L1 takes into its pool."""
    import rlp

    if raw[:1] != bytes([BLOB_TRANSACTION]):
        raise ValueError("not a blob transaction")
    wrapper: list[Any] = [VERSION] if sidecar.cells else []
    parts = [
        rlp.decode(raw[1:]),
        *wrapper,
        list(sidecar.blobs),
        list(sidecar.commitments),
        list(sidecar.proofs),
    ]
    return raw[:1] + bytes(rlp.encode(parts))


# KZG: slow, and holds Python's lock


def commitments_of(blobs: Sequence[bytes]) -> tuple[bytes, ...]:
    """The KZG commitment (48 bytes) of each blob."""
    import ckzg

    setup = trusted_setup()
    return tuple(bytes(ckzg.blob_to_kzg_commitment(blob, setup)) for blob in blobs)


def hashes_of(blobs: Sequence[bytes]) -> tuple[bytes, ...]:
    """The versioned hash of each blob."""
    return tuple(versioned_hash(commitment) for commitment in commitments_of(blobs))


def prove(data: bytes, cells: bool) -> Sidecar:
    """Everything that a transaction needs to carry `data`, with proofs of cells or of blobs."""
    import ckzg

    setup, blobs = trusted_setup(), encode_blobs(data)
    commitments = commitments_of(blobs)
    proofs: list[bytes] = []
    for blob, commitment in zip(blobs, commitments, strict=True):
        if cells:
            proofs += map(bytes, ckzg.compute_cells_and_kzg_proofs(blob, setup)[1])
        else:
            proofs.append(bytes(ckzg.compute_blob_kzg_proof(blob, commitment, setup)))
    return Sidecar(blobs, commitments, tuple(proofs), cells)


@cache
def trusted_setup() -> Any:
    """Ethereum's trusted setup, read once (1.4 s).  Raises ValueError if it is not the one."""
    import ckzg

    name = "typed_transactions/blob_transactions/kzg_trusted_setup.txt"
    with resources.as_file(resources.files("eth_account").joinpath(name)) as path:
        if hashlib.sha256(path.read_bytes()).hexdigest() != SETUP_SHA256:
            raise ValueError(f"{path} is not the trusted setup of Ethereum's ceremony")
        return ckzg.load_trusted_setup(str(path), 0)
