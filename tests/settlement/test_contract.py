"""The contract accepts certified batches, in their order, from anyone."""

import random
from collections.abc import Sequence

import pytest
from eth_hash.auto import keccak

from consensus.committee import Committee, Member
from sequencer.settlement import abi
from sequencer.settlement.abi import BatchPosted
from sequencer.settlement.batch import GENESIS_LOG_ROOT, MAX_BATCH_BYTES, MAX_CALLDATA_BYTES
from tests.settlement.committees import CHAIN, EPOCH, Deployment, committee, keys, quorum_of
from tests.settlement.l1s import ACCOUNTS, Evm, address_of


@pytest.mark.parametrize("size", [1, 4, 5, 8, 9, 16, 64, 100, 128])
def test_a_quorum_of_any_committee_is_enough(evm: Evm, size: int) -> None:
    contract = Deployment(evm, size)
    header = contract.header()
    needed = quorum_of(size)
    source = random.Random(size)
    signer_sets: list[Sequence[int]] = [
        range(needed),
        range(size - needed, size),
        range(size),
        sorted(source.sample(range(size), source.randint(needed, size))),
    ]
    for members in signer_sets:
        outcome = contract.send(contract.calldata(header, members=members))
        assert outcome.success, abi.decode_revert(outcome.output)
        header = contract.following(header, b"\0data")
    assert contract.view("next_number") == 1 + len(signer_sets)


def test_the_views_say_where_the_log_stands(evm: Evm) -> None:
    contract = Deployment(evm, 5)
    assert contract.view("next_number") == 1
    assert contract.view("next_position") == 0
    assert contract.view("last_log_root").to_bytes(32, "big") == GENESIS_LOG_ROOT
    assert contract.view("epoch") == EPOCH
    assert contract.view("committee_size") == 5
    assert contract.view("chain_id_digest").to_bytes(32, "big") == CHAIN
    digest = committee(5, EPOCH).digest
    assert contract.view("committee_digest").to_bytes(32, "big") == digest
    deploy_block = contract.view("deploy_block")

    header = contract.header()
    assert contract.send(contract.calldata(header)).success
    assert contract.view("next_number") == 2
    assert contract.view("next_position") == header.last_position + 1
    assert contract.view("last_log_root").to_bytes(32, "big") == header.log_root
    assert contract.view("deploy_block") == deploy_block


def test_the_event_says_what_was_accepted_and_who_sent_it(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    header = contract.header()
    outcome = contract.send(contract.calldata(header), account=ACCOUNTS[3])
    (log,) = outcome.logs
    assert abi.decode_batch_posted(*log) == BatchPosted(
        number=1,
        epoch=EPOCH,
        first_position=header.first_position,
        last_position=header.last_position,
        log_root=header.log_root,
        data_hash=header.data_hash,
        poster=address_of(ACCOUNTS[3]),
    )


def test_batches_certified_ahead_are_accepted_in_their_order_only(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    headers = [contract.header(b"\0one")]
    for data in (b"\0two", b"\0three"):
        headers.append(contract.following(headers[-1], data))
    first, second, third = (
        contract.calldata(header, data)
        for header, data in zip(headers, (b"\0one", b"\0two", b"\0three"), strict=True)
    )
    assert contract.refusal(second) == "NotNext"
    assert contract.refusal(third) == "NotNext"
    assert contract.send(first).success
    assert contract.refusal(third) == "NotNext"
    assert contract.refusal(first) == "AlreadyPosted"
    assert contract.send(second, account=ACCOUNTS[1]).success
    assert contract.send(third).success
    assert contract.refusal(second) == "AlreadyPosted"
    assert contract.view("next_number") == 4


def test_a_late_duplicate_pays_for_its_bytes_and_little_more(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    calldata = contract.calldata(contract.header())
    assert contract.send(calldata).success
    outcome = contract.send(calldata)
    assert not outcome.success
    zeros = calldata.count(0)
    # EIP-7623: 10 gas for a zero byte and 40 for another are the least that calldata costs.
    assert outcome.gas_used == 21_000 + 10 * zeros + 40 * (len(calldata) - zeros)


def test_weights_decide_and_not_heads(evm: Evm) -> None:
    heavy = Deployment(evm, 4, weights=[10, 1, 1, 1])
    assert heavy.refusal(heavy.calldata(heavy.header(), members=[1, 2, 3])) == "NoQuorum"
    assert heavy.send(heavy.calldata(heavy.header(), members=[0])).success
    uneven = Deployment(evm, 4, weights=[3, 1, 1, 1])
    assert uneven.refusal(uneven.calldata(uneven.header(), members=[0, 1])) == "NoQuorum"
    assert uneven.refusal(uneven.calldata(uneven.header(), members=[1, 2, 3])) == "NoQuorum"
    assert uneven.send(uneven.calldata(uneven.header(), members=[0, 1, 3])).success


def test_the_quorum_is_the_one_of_consensus(embedded: Evm) -> None:
    source = random.Random(7)
    for size in (3, 6, 7, 10):
        weights = [source.choice([1, 1, 5, 2**32]) for _ in range(size)]
        members = tuple(
            Member(bytes([index]) * 32, key, weight)
            for index, (key, weight) in enumerate(zip(keys(size), weights, strict=True))
        )
        committee = Committee(EPOCH, members)
        for _ in range(4):
            contract = Deployment(embedded, size, weights=weights)
            signers = sorted(source.sample(range(size), source.randint(1, size)))
            outcome = contract.send(contract.calldata(contract.header(), members=signers))
            assert outcome.success == committee.is_quorum(signers)


@pytest.mark.parametrize("size", [4, 5, 6, 7, 16, 64, 100, 128])
def test_one_less_than_a_quorum_is_refused(evm: Evm, size: int) -> None:
    contract = Deployment(evm, size)
    needed = quorum_of(size)
    for members in (range(needed - 1), range(size - needed + 1, size), range((size - 1) // 3 + 1)):
        assert contract.refusal(contract.calldata(contract.header(), members=members)) == "NoQuorum"
    assert contract.send(contract.calldata(contract.header())).success


def test_a_batch_may_fill_a_transaction(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    data = random.Random(1).randbytes(MAX_BATCH_BYTES)
    header = contract.header(data)
    calldata = contract.calldata(header, data)
    assert len(calldata) <= MAX_CALLDATA_BYTES
    outcome = contract.send(calldata)
    assert outcome.success
    assert abi.decode_post_batch(calldata).data == data
    # EIP-7623: 40 gas for each byte, which covers everything the contract does.
    assert outcome.gas_used < 21_000 + 40 * len(calldata)


def test_small_batches_do_not_pay_for_the_largest(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    header = contract.header()
    assert contract.send(contract.calldata(header)).success
    following = contract.following(header, b"\0data")
    assert contract.send(contract.calldata(following)).gas_used < 221_500
    last = contract.following(following, b"\0data")
    assert contract.send(contract.calldata(last, members=range(4))).gas_used < 219_000


def test_two_certificates_for_one_number_are_one_batch(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    header = contract.header()
    fork = contract.header(log_root=keccak(b"another log"))
    calldata, forked = contract.calldata(header), contract.calldata(fork, members=[1, 2, 3])
    on_fork = contract.calldata(contract.following(fork, b"\0data"))
    assert contract.send(calldata).success
    assert contract.refusal(forked) == "AlreadyPosted"
    assert contract.refusal(on_fork) == "WrongParent"
