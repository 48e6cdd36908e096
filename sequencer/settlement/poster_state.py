"""What the poster saves: its transactions that may be in flight. A hint, never the truth."""

from dataclasses import dataclass, field

import orjson

from sequencer.settlement.account import Fees

FORMAT = 2
MAX_STATE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """One signed transaction: the same batch and nonce may be signed again with higher fees.

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
    """The versions signed for one batch under one nonce, oldest first, never none."""

    number: int
    nonce: int
    versions: list[Version] = field(default_factory=list)


def encode_state(flights: list[Flight]) -> bytes:
    """The bytes to save."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "flights": [
                {
                    "number": flight.number,
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
                int(entry["number"]),
                int(entry["nonce"]),
                [_decode_version(version) for version in entry["versions"]],
            )
            for entry in stored["flights"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return []
    return [flight for flight in flights if flight.versions]


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
