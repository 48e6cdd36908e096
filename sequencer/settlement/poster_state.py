"""What the poster saves: its transactions that may be in flight. A hint, never the truth."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import orjson

from sequencer.settlement.account import Fees

FORMAT = 3
MAX_STATE_BYTES = 4 << 20


class UpkeepKind(Enum):
    """What the contract needs besides batches."""

    SNAPSHOT = "snapshot"
    """Of the registry: it fixes the members of the next epoch."""
    HANDOVER = "handover"
    """To the committee of the pending snapshot, by the certificate that ended the epoch before."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """A transaction of upkeep, for the epoch that is to come by it."""

    kind: UpkeepKind
    epoch: int

    def __str__(self) -> str:
        return f"{self.kind.value} for epoch {self.epoch}"


Job: TypeAlias = int | Upkeep
"""What a transaction is for: a batch, by its number, or upkeep."""


def spelled(job: Job) -> str:
    """A job for a reader."""
    return str(job) if isinstance(job, Upkeep) else f"batch {job}"


@dataclass(frozen=True, slots=True)
class Version:
    """One signed transaction: the same job and nonce may be signed again with higher fees.

    With `cancel` it is an empty transaction to ourselves that only uses up the nonce. Only a
    transaction with blobs (their number is `blobs`) takes the place of another one.
    """

    tx_hash: bytes
    gas: int
    fees: Fees
    cancel: bool = False
    blobs: int = 0


@dataclass
class Flight:
    """The versions signed for one job under one nonce, oldest first, never none."""

    job: Job
    nonce: int
    versions: list[Version] = field(default_factory=list)


def encode_state(flights: list[Flight]) -> bytes:
    """The bytes to save."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "flights": [
                {
                    "job": _encode_job(flight.job),
                    "nonce": flight.nonce,
                    "versions": [_encode_version(version) for version in flight.versions],
                }
                for flight in flights
            ],
        }
    )


def decode_state(data: bytes) -> list[Flight]:
    """The flights in saved bytes; none if they are damaged, since L1 knows what happened."""
    if len(data) > MAX_STATE_BYTES:
        return []
    try:
        stored = orjson.loads(data)
        if stored["format"] != FORMAT:
            return []
        flights = [
            Flight(
                _decode_job(entry["job"]),
                int(entry["nonce"]),
                [_decode_version(version) for version in entry["versions"]],
            )
            for entry in stored["flights"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return []
    return [flight for flight in flights if flight.versions]


def _encode_job(job: Job) -> int | list[str | int]:
    return [job.kind.value, job.epoch] if isinstance(job, Upkeep) else job


def _decode_job(stored: Any) -> Job:
    if isinstance(stored, list):
        kind, epoch = stored
        return Upkeep(UpkeepKind(kind), int(epoch))
    return int(stored)


def _encode_version(version: Version) -> dict[str, str | int | bool]:
    # wei exceed the integers of JSON
    return {
        "hash": version.tx_hash.hex(),
        "gas": version.gas,
        "max_fee": str(version.fees.max_fee),
        "tip": str(version.fees.tip),
        "blob_fee": str(version.fees.blob_fee),
        "cancel": version.cancel,
        "blobs": version.blobs,
    }


def _decode_version(stored: dict[str, str]) -> Version:
    return Version(
        bytes.fromhex(stored["hash"]),
        int(stored["gas"]),
        Fees(int(stored["max_fee"]), int(stored["tip"]), int(stored["blob_fee"])),
        bool(stored["cancel"]),
        int(stored["blobs"]),
    )
