"""Traffic: repeatable from its seed, spread over nodes and kinds, signed as wallets sign."""

import itertools
from collections import Counter, defaultdict

from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from testnet import workload as module
from testnet.workload import LANES, OPAQUE_NAMESPACES, ROLLUPS, Submission, Workload


def first(count: int, seed: int = 7, nodes: int = 4, size: int = 300) -> list[Submission]:
    return list(itertools.islice(iter(Workload(seed, nodes, size)), count))


def test_the_same_seed_gives_the_same_transactions_and_another_seed_others():
    assert first(40) == first(40)
    assert not {item.data for item in first(40)} & {item.data for item in first(40, seed=8)}


def test_every_node_gets_every_kind_equally():
    counts = Counter((item.node, item.namespace) for item in first(160))
    assert len(counts) == 4 * 4
    assert set(counts.values()) == {10}


def test_no_two_transactions_are_equal():
    assert len({item.data for item in first(400, size=32)}) == 400


def test_half_are_signed_for_their_rollup_with_contiguous_nonces():
    nonces: dict[tuple[int, str], list[int]] = defaultdict(list)
    signed = [item for item in first(160) if item.namespace in ROLLUPS]
    for item in signed:
        sender = Account.recover_transaction(item.data)
        fields = TypedTransaction.from_bytes(HexBytes(item.data)).as_dict()
        assert fields["chainId"] == item.namespace
        nonces[item.node, sender].append(fields["nonce"])
    assert len(signed) == 80
    assert len(nonces) == 4 * len(ROLLUPS) * LANES
    assert all(given == list(range(len(given))) for given in nonces.values())


def test_sizes_are_as_asked():
    for item in first(80, size=1_000):
        if item.namespace in OPAQUE_NAMESPACES:
            assert len(item.data) == 1_000
        else:
            assert abs(len(item.data) - 1_000) < 20


async def test_what_is_taken_is_the_beginning_of_the_stream(monkeypatch):
    monkeypatch.setattr(module, "PART", 7)
    for count in (4, 7, 20):
        assert await Workload(7, 4, 300).take(count) == first(count)
