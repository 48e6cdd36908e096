"""Blobs from a beacon node: which block is asked for, and what it means when they are not there."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sequencer.settlement import beacon as module
from sequencer.settlement.beacon import BeaconClient, BlobsGone
from sequencer.settlement.blobs import encode_blobs
from sequencer.settlement.client import Accepted, InvalidAnswer, L1Unreachable

PLACE = Accepted(7, bytes(32), bytes(32), bytes(32), 100, bytes(32), 1)
GENESIS_S = 1_000
OURS, OTHER = encode_blobs(b"ours")[0], encode_blobs(b"other")[0]


async def hashes(blobs: Sequence[bytes]) -> list[bytes]:
    return [b"\x01" + sha256(blob).digest()[1:] for blob in blobs]


async def hash_of(blob: bytes) -> bytes:
    return (await hashes([blob]))[0]


@dataclass
class FakeBeacon:
    """Answers paths with `data`; everything else is not found."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path not in self.answers:
            return web.json_response({"code": 404, "message": "NOT_FOUND"}, status=404)
        return web.json_response({"data": self.answers[request.path]})


@pytest.fixture
async def fake() -> AsyncIterator[tuple[FakeBeacon, BeaconClient]]:
    found = FakeBeacon()
    app = web.Application()
    app.router.add_get("/{path:.*}", found.handle)
    server = TestServer(app)
    await server.start_server()
    client = BeaconClient(str(server.make_url("/")), hashes)
    yield found, client
    await client.aclose()
    await server.close()


Fake = tuple[FakeBeacon, BeaconClient]


def spell(*blobs: bytes) -> list[str]:
    return ["0x" + blob.hex() for blob in blobs]


def slots(found: FakeBeacon, **spec: str) -> None:
    found.answers["/eth/v1/config/spec"] = spec
    found.answers["/eth/v1/beacon/genesis"] = {"genesis_time": str(GENESIS_S)}


@pytest.mark.parametrize("spec", [{"SECONDS_PER_SLOT": "12"}, {"SLOT_DURATION_MS": "12000"}])
async def test_the_slot_follows_from_the_time_of_the_block(fake: Fake, spec: Any) -> None:
    found, client = fake
    slots(found, **spec)
    found.answers["/eth/v1/beacon/blobs/5"] = spell(OTHER, OURS)
    wanted = [await hash_of(OURS)]
    assert await client.blobs(PLACE, GENESIS_S + 60, wanted) == (OURS,)
    assert await client.blobs(PLACE, GENESIS_S + 60, wanted) == (OURS,)
    assert found.asked.count("/eth/v1/config/spec") == 1


async def test_without_slots_blocks_have_the_numbers_of_the_l1(fake: Fake) -> None:
    found, client = fake
    found.answers["/eth/v1/beacon/blobs/100"] = spell(OURS, OTHER)
    wanted = [await hash_of(OTHER), await hash_of(OURS)]
    assert await client.blobs(PLACE, 0, wanted) == (OTHER, OURS)


async def test_an_older_node_serves_sidecars(fake: Fake) -> None:
    found, client = fake
    sidecars = [{"index": "0", "blob": text} for text in spell(OURS)]
    found.answers["/eth/v1/beacon/blob_sidecars/100"] = sidecars
    assert await client.blobs(PLACE, 0, [await hash_of(OURS)]) == (OURS,)


async def test_blobs_that_are_gone_are_said_to_be_and_where_else_to_look(fake: Fake) -> None:
    found, client = fake
    with pytest.raises(BlobsGone, match=r"L1 block 100 .* batch 7: .* 18 days.* --beacon"):
        await client.blobs(PLACE, 0, [await hash_of(OURS)])
    found.answers["/eth/v1/beacon/blobs/100"] = spell(OTHER)
    with pytest.raises(BlobsGone, match="does not have blob 0x01"):
        await client.blobs(PLACE, 0, [await hash_of(OURS)])


@pytest.mark.parametrize("answer", [{}, ["0x00"], [None], [7], ["0xzz"], [{"blob": "0x"}]])
async def test_nonsense_is_an_error(fake: Fake, answer: Any) -> None:
    found, client = fake
    found.answers["/eth/v1/beacon/blobs/100"] = answer
    with pytest.raises(InvalidAnswer):
        await client.blobs(PLACE, 0, [await hash_of(OURS)])


@pytest.mark.parametrize("spec", [{}, {"SECONDS_PER_SLOT": "x"}])
async def test_slots_that_cannot_be_read_are_an_error(fake: Fake, spec: Any) -> None:
    found, client = fake
    slots(found, **spec)
    with pytest.raises(InvalidAnswer, match="names no slots"):
        await client.blobs(PLACE, 0, [])


async def test_an_answer_without_end_is_cut_off(fake: Fake, monkeypatch: Any) -> None:
    found, client = fake
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1_000)
    found.answers["/eth/v1/beacon/blobs/100"] = spell(OURS)
    with pytest.raises(InvalidAnswer, match="answers without end"):
        await client.blobs(PLACE, 0, [])


async def test_an_endpoint_that_is_not_there_is_unreachable() -> None:
    client = BeaconClient("http://127.0.0.1:1", hashes)
    with pytest.raises(L1Unreachable):
        await client.blobs(PLACE, 0, [])
    await client.aclose()
