"""Blobs, read back from a beacon node: the execution layer has only their hashes.

`GET /eth/v1/beacon/blobs/{block_id}`, or `blob_sidecars/{block_id}` on nodes older than that. What
it answers is not believed: a blob is the one asked for if its commitment says so. Beacon nodes drop
blobs after 4,096 epochs, 18 days; whoever derives a log later needs an archive of them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import aiohttp

from sequencer.settlement.blobs import BLOB_BYTES, hashes_of
from sequencer.settlement.client import Accepted, InvalidAnswer, L1Unreachable, SettlementError
from sequencer.settlement.jsonrpc import CONNECT_TIMEOUT_S

REQUEST_TIMEOUT_S: Final = 30.0
MAX_BLOCK_BLOBS: Final = 256
"""Blobs in one block; today 21 at most."""
MAX_ANSWER_BYTES: Final = 2 * MAX_BLOCK_BLOBS * (BLOB_BYTES + 2_048)

Hashes = Callable[[Sequence[bytes]], Awaitable[Sequence[bytes]]]
"""Blobs to their versioned hashes."""


class BlobsGone(SettlementError):
    """The endpoint does not have the blobs of a block, or not any more."""


async def hashes_in_a_thread(blobs: Sequence[bytes]) -> Sequence[bytes]:
    """For commands that have nothing else to do meanwhile: KZG holds Python's lock."""
    return await asyncio.to_thread(hashes_of, blobs)


class BeaconClient:
    """The blobs that a beacon node at `url` keeps. anvil keeps them as well, by block number."""

    def __init__(self, url: str, hashes: Hashes = hashes_in_a_thread) -> None:
        self._url = url.rstrip("/")
        self._hashes = hashes
        self._session: aiohttp.ClientSession | None = None
        self._clock: tuple[int, int] | None = None
        """Genesis time and milliseconds per slot; (0, 0) where blocks have no slots."""

    async def blobs(
        self, place: Accepted, timestamp_s: int, versioned_hashes: Sequence[bytes]
    ) -> tuple[bytes, ...]:
        """These blobs of the L1 block in which a batch was accepted.  Raises `SettlementError`."""
        block_id = await self._block_id(place, timestamp_s)
        found = await self._of_block(block_id, place)
        known = dict(zip(await self._hashes(found), found, strict=True))
        missing = [wanted for wanted in versioned_hashes if wanted not in known]
        if missing:
            raise self._gone(place, block_id, f"blob 0x{missing[0].hex()}")
        return tuple(known[wanted] for wanted in versioned_hashes)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _block_id(self, place: Accepted, timestamp_s: int) -> int:
        """The slot of an L1 block, by its time; its number where there are no slots."""
        if self._clock is None:
            self._clock = await self._read_clock()
        genesis_s, slot_ms = self._clock
        return (timestamp_s - genesis_s) * 1000 // slot_ms if slot_ms else place.block_number

    async def _read_clock(self) -> tuple[int, int]:
        status, spec = await self._get("/eth/v1/config/spec")
        if status != 200:
            return 0, 0
        status, genesis = await self._get("/eth/v1/beacon/genesis")
        try:
            slot_ms = int(spec.get("SLOT_DURATION_MS") or 1000 * int(spec["SECONDS_PER_SLOT"]))
            clock = int(genesis["genesis_time"]), slot_ms
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidAnswer(f"the beacon endpoint {self._url} names no slots") from error
        return clock

    async def _of_block(self, block_id: int, place: Accepted) -> list[bytes]:
        status, found = await self._get(f"/eth/v1/beacon/blobs/{block_id}")
        if status != 200:
            status, found = await self._get(f"/eth/v1/beacon/blob_sidecars/{block_id}")
            if status == 200 and isinstance(found, list):
                found = [item.get("blob") if isinstance(item, dict) else None for item in found]
        if status != 200:
            raise self._gone(place, block_id, f"blobs (HTTP {status})")
        if not isinstance(found, list) or len(found) > MAX_BLOCK_BLOBS:
            raise InvalidAnswer(f"the beacon endpoint {self._url} answers no list of blobs")
        return [self._blob(item) for item in found]

    def _blob(self, value: Any) -> bytes:
        try:
            blob = bytes.fromhex(value.removeprefix("0x"))
        except (AttributeError, ValueError):
            blob = b""
        if len(blob) != BLOB_BYTES:
            raise InvalidAnswer(f"the beacon endpoint {self._url} answers what is no blob")
        return blob

    def _gone(self, place: Accepted, block_id: int, what: str) -> BlobsGone:
        return BlobsGone(
            f"the beacon endpoint {self._url} does not have {what} of L1 block "
            f"{place.block_number} (its block {block_id}), which hold batch {place.number}: beacon "
            "nodes drop blobs after 18 days, so name one that keeps them all by --beacon"
        )

    async def _get(self, path: str) -> tuple[int, Any]:
        """HTTP status, and `data` of the answer."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.get(self._url + path) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise InvalidAnswer(f"the beacon endpoint {self._url} answers without end")
                return response.status, _data(bytes(body)) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise L1Unreachable(
                f"the beacon endpoint {self._url} is not reachable: {error!r}"
            ) from error


def _data(body: bytes) -> Any:
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer.get("data") if isinstance(answer, dict) else None
