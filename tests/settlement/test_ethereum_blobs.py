"""What the L1 client asks and is told about blobs."""

import pytest

from sequencer.settlement import blobs
from sequencer.settlement.client import InvalidAnswer, L1Refused, SettlementError
from sequencer.settlement.ethereum import EthereumClient, require_blobs
from tests.settlement.test_ethereum_client import FakeL1, Refuse
from tests.settlement.test_ethereum_client import fake as fake

Fake = tuple[FakeL1, EthereumClient]
MISSING = Refuse({"code": -32601, "message": "method not found"})


async def test_the_blob_base_fee_is_asked_for(fake: Fake) -> None:
    l1, client = fake
    l1.answers["eth_blobBaseFee"] = "0x5"
    assert await client.blob_base_fee() == 5
    await require_blobs(client.url)


async def test_an_l1_without_blobs_says_so_before_anything_is_paid(fake: Fake) -> None:
    l1, client = fake
    l1.answers["eth_blobBaseFee"] = MISSING
    with pytest.raises(L1Refused):
        await client.blob_base_fee()
    with pytest.raises(SettlementError, match=r"takes no blobs \(method not found\).*calldata"):
        await require_blobs(client.url)


@pytest.mark.parametrize(
    ("precompiles", "cells"),
    [({"P256VERIFY": "0x100"}, True), ({"SHA256": "0x02"}, False), ({}, False)],
)
async def test_the_fork_decides_about_sidecars(fake: Fake, precompiles: dict, cells: bool) -> None:
    l1, client = fake
    l1.answers["eth_config"] = {"current": {"precompiles": precompiles}, "next": None}
    assert await client.takes_cells() is cells


async def test_an_l1_that_names_no_fork_is_one_of_today(fake: Fake) -> None:
    l1, client = fake
    l1.answers["eth_config"] = MISSING
    assert await client.takes_cells() is True


@pytest.mark.parametrize("answer", [None, [], {"current": None}, {"current": {}}])
async def test_a_configuration_that_is_none_is_an_error(fake: Fake, answer: object) -> None:
    l1, client = fake
    l1.answers["eth_config"] = answer
    with pytest.raises(InvalidAnswer):
        await client.takes_cells()


async def test_the_blobs_of_a_transaction_are_read(fake: Fake) -> None:
    l1, client = fake
    hashes = ["0x01" + "ab" * 31, "0x01" + "cd" * 31]
    l1.answers["eth_getTransactionByHash"] = {"blobVersionedHashes": hashes}
    found = await client.blob_hashes(bytes(32))
    assert found == tuple(bytes.fromhex(item[2:]) for item in hashes)
    l1.answers["eth_getTransactionByHash"] = {"type": "0x2"}
    assert await client.blob_hashes(bytes(32)) == ()


@pytest.mark.parametrize("hashes", ["0x", 7, ["0x01"], [None], ["0x" + "ab" * 32] * 7])
async def test_hashes_that_are_none_are_an_error(fake: Fake, hashes: object) -> None:
    l1, client = fake
    l1.answers["eth_getTransactionByHash"] = {"blobVersionedHashes": hashes}
    with pytest.raises(InvalidAnswer):
        await client.blob_hashes(bytes(32))


async def test_the_time_of_a_block_is_read(fake: Fake) -> None:
    l1, client = fake
    l1.answers["eth_getBlockByHash"] = {"timestamp": "0x10"}
    assert await client.timestamp_s(bytes(32)) == 16
    l1.answers["eth_getBlockByHash"] = None
    with pytest.raises(InvalidAnswer):
        await client.timestamp_s(bytes(32))


async def test_a_call_is_simulated_with_its_blobs(fake: Fake) -> None:
    l1, client = fake
    l1.answers["eth_blobBaseFee"] = "0x5"
    await client.simulate(bytes(20), b"call", 100, [b"\x01" * 32])
    (message, block) = l1.requests[-1]["params"]
    assert message["blobVersionedHashes"] == ["0x" + "01" * 32]
    assert (message["maxFeePerBlobGas"], block) == ("0xa", "pending")
    await client.simulate(bytes(20), b"call", 100)
    assert "blobVersionedHashes" not in l1.requests[-1]["params"][0]


async def test_a_transaction_is_sent_with_its_sidecar(fake: Fake) -> None:
    from sequencer.settlement.account import Fees, L1Account

    l1, client = fake
    l1.answers["eth_sendRawTransaction"] = "0x" + "00" * 32
    sidecar = blobs.empty_sidecar(True)
    account, hashes = L1Account(b"\x01" * 32, 1), sidecar.versioned_hashes
    fields = {"nonce": 0, "to": account.address, "data": b"", "gas": 21_000}
    signed = account.sign(**fields, fees=Fees(2, 1, 1), blob_hashes=hashes)
    await client.send(signed.raw, sidecar)
    (sent,) = l1.requests[-1]["params"]
    assert sent == "0x" + blobs.with_sidecar(signed.raw, sidecar).hex()
