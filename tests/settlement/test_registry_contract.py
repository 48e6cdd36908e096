"""Operators register members, and the committee follows them from epoch to epoch."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.bls import BlsCrypto
from consensus.committee import Committee, Member
from consensus.lightclient import verify_commit
from sequencer.settlement import registry_abi
from sequencer.settlement.registry_abi import Seat
from tests.settlement.committees import CHAIN, EPOCH, committee, identity, keys
from tests.settlement.l1s import Evm, address_of
from tests.settlement.registries import (
    ACTIVATION,
    EXIT,
    MIN_EPOCH,
    OPERATORS,
    OWNER,
    Registered,
    possession,
    rules,
)

ETHER = 10**18
ALICE, BOB, CAROL = OPERATORS[:3]


def committee_of(epoch: int, *numbers: int) -> Committee:
    """The committee of the members with these numbers and the keys of the same numbers."""
    top = max(numbers) + 1
    return Committee(
        epoch, tuple(Member(identity(number), keys(top)[number]) for number in numbers)
    )


def test_the_founders_are_the_first_committee(evm: Evm) -> None:
    contract = Registered(evm, 4, weights=[3, 1, 2, 1])
    assert contract.members_of(EPOCH) == [
        Seat(member.identity, member.bls_key, member.weight, bytes(20), "")
        for member in contract.founders().members
    ]
    assert contract.view("member_count") == 4
    assert contract.pending() is None
    assert not contract.due()


def test_a_member_joins_and_is_in_the_next_epoch(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE)
    state = contract.member(4)
    assert (state.identity, state.bls_key) == (identity(4), keys(5)[4])
    assert (state.operator, state.address) == (address_of(ALICE), "/dns4/member-4/tcp/4001")
    assert not state.seated
    expected = committee_of(EPOCH + 1, 0, 1, 2, 3, 4)
    assert contract.snapshot() == (EPOCH + 1, expected.digest, 5)
    pending = contract.pending()
    assert pending is not None
    assert pending[:2] == (EPOCH + 1, expected.digest)
    assert contract.view("epoch") == EPOCH
    assert contract.view("committee_size") == 4

    advanced = contract.advance([0, 1, 2, 3])
    assert advanced.committee == expected
    verify_commit(contract.founders(), CHAIN, advanced.certificate, BlsCrypto())
    assert contract.view("epoch") == EPOCH + 1
    assert contract.view("committee_size") == 5
    assert contract.view("committee_digest").to_bytes(32, "big") == expected.digest
    assert contract.pending() is None
    assert contract.member(4).seated
    seat = contract.members_of(EPOCH + 1)[4]
    assert seat == Seat(identity(4), keys(5)[4], 1, address_of(ALICE), "/dns4/member-4/tcp/4001")
    header = contract.header(epoch=EPOCH + 1)
    assert contract.refusal(contract.calldata(contract.header())) == "WrongEpoch"
    contract.size = 5
    assert contract.send(contract.calldata(header, members=[1, 2, 3, 4])).success


def test_a_key_is_rotated_from_the_next_epoch_on(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.call(registry_abi.claim_call(identity(2), contract.binding(2, BOB)), BOB)
    binding = contract.binding(2, BOB, key=9)
    contract.call(registry_abi.rotate_call(keys(10)[9], possession(9), binding), BOB)
    assert contract.members_of(EPOCH)[2].bls_key == keys(4)[2]
    contract.snapshot()
    members = list(committee(4, EPOCH).members)
    members[2] = replace(members[2], bls_key=keys(10)[9])
    assert contract.advance([0, 1, 2, 3]).committee == Committee(EPOCH + 1, tuple(members))
    assert contract.members_of(EPOCH)[2].bls_key == keys(4)[2]
    again = registry_abi.rotate_call(keys(4)[2], possession(2), contract.binding(2, BOB))
    assert contract.refused(again, BOB) == "KeyUsed"
    twice = registry_abi.rotate_call(keys(10)[9], possession(9), binding)
    assert contract.refused(twice, BOB) == "KeyUsed"


def test_a_member_leaves_and_gets_its_stake_back_when_it_is_no_longer_needed(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE, 3 * ETHER)
    contract.call(registry_abi.add_stake_call(), ALICE, ETHER)
    contract.snapshot()
    contract.advance([0, 1, 2, 3])
    assert contract.member(4).stake == 4 * ETHER
    assert contract.refused(registry_abi.exit_call(), ALICE) == "NotLeft"

    contract.call(registry_abi.leave_call(), ALICE)
    assert contract.refused(registry_abi.leave_call(), ALICE) == "AlreadyLeft"
    contract.evm.mine(EXIT)
    assert contract.refused(registry_abi.exit_call(), ALICE) == "StillSeated"
    contract.snapshot()
    contract.evm.mine(EXIT)
    assert contract.refused(registry_abi.exit_call(), ALICE) == "StillSeated"
    assert contract.member(4).exit_at == 0
    assert contract.advance([0, 1, 2, 3, 4]).committee == committee(4, EPOCH + 2)
    assert not contract.member(4).seated
    assert contract.member(4).exit_at > 0
    assert contract.refused(registry_abi.exit_call(), ALICE) == "TooEarly"
    contract.evm.mine(EXIT)
    before = evm.balance(address_of(ALICE))
    contract.call(registry_abi.exit_call(), ALICE)
    assert evm.balance(address_of(ALICE)) > before + 3 * ETHER
    assert evm.balance(contract.address) == 0
    assert contract.refused(registry_abi.exit_call(), ALICE) == "NotMember"
    assert contract.member(4).operator == bytes(20)


def test_who_was_in_no_committee_exits_after_the_delay_alone(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE, ETHER)
    contract.call(registry_abi.leave_call(), ALICE)
    assert contract.refused(registry_abi.exit_call(), ALICE) == "TooEarly"
    contract.evm.mine(EXIT)
    contract.call(registry_abi.exit_call(), ALICE)
    assert not contract.due()


def test_who_leaves_while_a_snapshot_holds_it_stays_for_that_epoch(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE, ETHER)
    contract.snapshot()
    contract.call(registry_abi.leave_call(), ALICE)
    contract.evm.mine(EXIT)
    assert contract.refused(registry_abi.exit_call(), ALICE) == "StillSeated"
    contract.advance([0, 1, 2, 3])
    contract.evm.mine(EXIT)
    assert contract.refused(registry_abi.exit_call(), ALICE) == "StillSeated"
    contract.snapshot()
    contract.advance([0, 1, 2, 3, 4])
    contract.evm.mine(EXIT)
    contract.call(registry_abi.exit_call(), ALICE)


def test_an_operator_may_come_back_with_other_keys(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE)
    contract.call(registry_abi.leave_call(), ALICE)
    contract.allow(ALICE)
    assert contract.refused(contract.registration(5, ALICE), ALICE) == "AlreadyMember"
    contract.evm.mine(EXIT)
    contract.call(registry_abi.exit_call(), ALICE)
    assert contract.refused(contract.registration(4, ALICE), ALICE) == "IdentityUsed"
    contract.call(contract.registration(5, ALICE, "/dns4/member-4/tcp/4001"), ALICE)
    assert contract.snapshot()[1] == committee_of(EPOCH + 1, 0, 1, 2, 3, 5).digest


def test_a_member_waits_for_its_activation(embedded: Evm) -> None:
    contract = Registered(embedded, 4, settings=rules(activation_blocks=20))
    contract.join(4, ALICE)
    contract.evm.mine(19)
    assert not contract.due()
    assert contract.refused(registry_abi.snapshot_call()) == "NothingChanged"
    contract.evm.mine(1)
    assert contract.due()
    contract.call(registry_abi.snapshot_call())


def test_an_epoch_lasts_a_while(embedded: Evm) -> None:
    contract = Registered(embedded, 4, settings=rules(min_epoch_blocks=30))
    contract.join(4, ALICE)
    contract.evm.mine(29)
    assert contract.refused(registry_abi.snapshot_call()) == "EpochTooYoung"
    contract.evm.mine(1)
    contract.call(registry_abi.snapshot_call())
    contract.advance([0, 1, 2, 3])
    contract.call(registry_abi.leave_call(), ALICE)
    contract.evm.mine(29)
    assert not contract.due()
    contract.evm.mine(1)
    assert contract.due()


def test_a_pending_snapshot_is_not_replaced(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE)
    digest = contract.snapshot()[1]
    contract.join(5, BOB)
    contract.evm.mine(ACTIVATION)
    assert not contract.due()
    assert contract.refused(registry_abi.snapshot_call()) == "SnapshotPending"
    assert contract.advance([0, 1, 2, 3]).committee.digest == digest
    assert contract.snapshot()[1] == committee_of(EPOCH + 2, 0, 1, 2, 3, 4, 5).digest


def test_nothing_changed_and_too_few_are_refused(embedded: Evm) -> None:
    contract = Registered(embedded, 4, settings=rules(min_members=4))
    contract.evm.mine(MIN_EPOCH)
    assert contract.refused(registry_abi.snapshot_call()) == "NothingChanged"
    contract.call(registry_abi.claim_call(identity(0), contract.binding(0, ALICE)), ALICE)
    assert not contract.due()
    contract.call(registry_abi.leave_call(), ALICE)
    assert not contract.due()
    assert contract.refused(registry_abi.snapshot_call()) == "TooFewMembers"
    contract.join(4, BOB)
    assert contract.snapshot()[1] == committee_of(EPOCH + 1, 1, 2, 3, 4).digest


def test_the_owner_takes_an_operator_off_the_list_and_its_member_leaves(evm: Evm) -> None:
    contract = Registered(evm, 4)
    contract.join(4, ALICE, ETHER)
    contract.snapshot()
    contract.advance([0, 1, 2, 3])
    contract.call(registry_abi.allow_call(address_of(ALICE), False))
    contract.call(registry_abi.allow_call(address_of(ALICE), False))
    assert contract.snapshot()[1] == committee(4, EPOCH + 2).digest
    contract.advance([0, 1, 2, 3, 4])
    contract.evm.mine(EXIT)
    contract.call(registry_abi.exit_call(), ALICE)


def test_the_owner_removes_a_founder_that_nobody_operates(evm: Evm) -> None:
    contract = Registered(evm, 5)
    contract.call(registry_abi.remove_call(1))
    assert contract.snapshot()[1] == committee_of(EPOCH + 1, 0, 2, 3, 4).digest
    contract.advance(range(5))
    claim = registry_abi.claim_call(identity(1), contract.binding(1, ALICE))
    assert contract.refused(claim, ALICE) == "AlreadyClaimed"


def test_the_highest_stakes_win(evm: Evm) -> None:
    contract = Registered(evm, 4, settings=rules(by_stake=True, min_stake=ETHER, max_members=3))
    assert contract.refused(contract.registration(4, ALICE), ALICE, ETHER - 1) == "StakeTooLow"
    contract.join(4, ALICE, ETHER)
    contract.join(5, BOB, 3 * ETHER)
    contract.join(6, CAROL, 2 * ETHER)
    assert contract.snapshot()[1] == committee_of(EPOCH + 1, 4, 5, 6).digest
    contract.advance([0, 1, 2, 3])
    contract.call(registry_abi.claim_call(identity(1), contract.binding(1, OWNER)), OWNER, ETHER)
    contract.evm.mine(MIN_EPOCH)
    assert contract.snapshot()[1] == committee_of(EPOCH + 2, 1, 5, 6).digest  # of equals the first
    contract.advance([4, 5, 6])
    contract.call(registry_abi.add_stake_call(), ALICE, 1)
    assert contract.snapshot()[1] == committee_of(EPOCH + 3, 4, 5, 6).digest


def test_without_stakes_who_comes_last_has_to_wait(embedded: Evm) -> None:
    contract = Registered(embedded, 4, settings=rules(max_members=5))
    contract.join(4, ALICE)
    contract.join(5, BOB, 9 * ETHER)
    assert contract.snapshot()[1] == committee_of(EPOCH + 1, 0, 1, 2, 3, 4).digest


def test_weights_follow_stakes_where_the_settings_say_so(embedded: Evm) -> None:
    contract = Registered(
        embedded, 4, weights=[5] * 4, settings=rules(by_stake=True, weight_unit=ETHER)
    )
    contract.join(4, ALICE, 3 * ETHER - 1)
    contract.join(5, BOB, 1)
    contract.snapshot()
    assert [seat.weight for seat in contract.members_of(EPOCH + 1)] == [1, 1, 1, 1, 2, 1]
    contract.advance([0, 1, 2, 3])
    contract.call(registry_abi.add_stake_call(), ALICE, 1)
    contract.snapshot()
    assert [seat.weight for seat in contract.members_of(EPOCH + 2)] == [1, 1, 1, 1, 3, 1]


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_digest_is_that_of_the_consensus(embedded: Evm, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 2, 7, 33]))
    weights = data.draw(st.lists(st.integers(1, 2**32), min_size=size, max_size=size))
    epoch = data.draw(st.sampled_from([0, 1, 2**63, 2**64 - 1]))
    contract = Registered(embedded, size, weights=weights, epoch=epoch)
    expected = committee(size, epoch, weights).digest
    assert contract.view("committee_digest").to_bytes(32, "big") == expected


def test_the_largest_committee_hands_over_to_another(embedded: Evm) -> None:
    contract = Registered(embedded, 128)
    contract.call(registry_abi.claim_call(identity(7), contract.binding(7, ALICE)), ALICE)
    contract.call(registry_abi.leave_call(), ALICE)
    contract.join(128, BOB)
    expected = committee_of(EPOCH + 1, *(number for number in range(129) if number != 7))
    assert contract.snapshot()[1] == expected.digest
    assert contract.advance(range(128)).committee == expected
