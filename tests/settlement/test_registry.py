"""The registry as it is read: true answers are understood, lies do no harm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.bls import KeySigner
from consensus.committee import Committee
from sequencer.settlement import abi, registry_abi
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.client import CallReverted, InvalidAnswer, L1Block, SettlementError
from sequencer.settlement.ethereum import EthereumClient, deploy
from sequencer.settlement.registry import OperatorState, Registry, RegistrySnapshot
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor
from testnet.l1 import L1Handle
from testnet.l1.launch import find_anvil, launch_l1
from tests.settlement.committees import CHAIN, EPOCH, committee, identity, keys
from tests.settlement.l1s import EmbeddedEvm, Evm, address_of, transact
from tests.settlement.registries import EXIT, MIN_EPOCH, OPERATORS, Registered, rules

ALICE, BOB = OPERATORS[:2]
ETHER = 10**18


class EvmReader:
    """Asks views by transactions."""

    def __init__(self, contract: Registered) -> None:
        self._contract = contract

    async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
        outcome = transact(self._contract.evm, self._contract.address, calldata)
        if not outcome.success:
            raise CallReverted(abi.decode_revert(outcome.output))
        assert len(outcome.output) <= limit
        return outcome.output


class Liar:
    """Gives one answer to everything."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
        return self._answer


async def test_an_operator_sees_its_member_come_and_go(evm: Evm) -> None:
    contract = Registered(evm, 4)
    registry, account = Registry(EvmReader(contract)), address_of(ALICE)
    assert await registry.operator(account) == OperatorState("none")
    assert not await registry.is_allowed(account)
    contract.join(4, ALICE, ETHER)
    assert await registry.is_allowed(account)
    state = await registry.operator(account)
    assert (state.status, state.stake, state.exit_at) == ("pending", ETHER, 0)
    assert (state.identity, state.bls_key) == (identity(4), keys(5)[4])
    assert state.address == "/dns4/member-4/tcp/4001"
    assert state.active_at > 0

    statuses = []
    steps = [
        lambda: contract.snapshot(),
        lambda: contract.advance(range(4)),
        lambda: contract.call(registry_abi.leave_call(), ALICE),
        lambda: contract.snapshot(),
        lambda: contract.advance(range(5)),
        lambda: contract.evm.mine(EXIT),
        lambda: contract.call(registry_abi.exit_call(), ALICE),
    ]
    for step in steps:
        step()
        statuses.append((await registry.operator(account)).status)
    assert statuses == ["pending", "active", "leaving", "leaving", "left", "left", "exited"]


async def test_snapshots_and_members_are_committees(evm: Evm) -> None:
    contract = Registered(evm, 4, weights=[4, 3, 2, 1])
    registry = Registry(EvmReader(contract))
    assert await registry.pending() is None
    assert await registry.epoch() == EPOCH
    present = await registry.members()
    assert present.committee() == contract.founders()
    assert {member.operator for member in present.members} == {bytes(20)}
    contract.join(4, ALICE)
    contract.evm.mine(MIN_EPOCH + 9)
    assert await registry.snapshot_due()
    contract.snapshot()
    assert not await registry.snapshot_due()
    pending = await registry.pending()
    assert pending is not None
    assert pending.committee() == committee(5, EPOCH + 1, [4, 3, 2, 1, 1])
    assert pending.members[4].address == "/dns4/member-4/tcp/4001"
    assert pending.members[4].operator == address_of(ALICE)
    assert pending.l1_block > 0
    assert (await registry.members()).committee() == contract.founders()
    contract.advance(range(4))
    assert await registry.pending() is None
    assert await registry.epoch() == EPOCH + 1
    assert (await registry.members()).committee() == pending.committee()
    assert await registry.member_count() == 5
    assert (await registry.member_at(4)).seated


async def test_the_settings_are_those_of_the_deployment(embedded: Evm) -> None:
    chosen = rules(by_stake=True, min_stake=2**255, weight_unit=3, min_members=2, max_members=9)
    registry = Registry(EvmReader(Registered(embedded, 4, settings=chosen)))
    assert await registry.settings() == chosen


# Lies


@cache
def truths() -> dict[str, bytes]:
    """Answers of a contract with a pending snapshot."""
    contract = Registered(EmbeddedEvm(), 4)
    contract.join(4, ALICE)
    contract.snapshot()
    operator = abi.selector("operator") + address_of(ALICE).rjust(32, b"\0")
    calls = {
        "pending": abi.selector("pending"),
        "members": abi.selector("members_of") + abi.word(EPOCH + 1),
        "member": operator,
        "settings": abi.selector("settings"),
    }
    answers = {name: contract.call(call).output for name, call in calls.items()}
    certificate = contract.certificate(range(4), committee(5, EPOCH + 1).digest)
    (log,) = contract.call(registry_abi.advance_call(certificate)).logs
    return {**answers, "advanced": log[1]}


DECODERS = {
    "pending": registry_abi.decode_pending,
    "members": registry_abi.decode_members,
    "member": registry_abi.decode_member,
    "settings": registry_abi.decode_settings,
    "advanced": lambda data: registry_abi.decode_advanced(
        [registry_abi.advanced_topic(), abi.word(EPOCH + 1)], data
    ),
}


@given(st.sampled_from(list(DECODERS)), st.binary(max_size=2000))
def test_any_answer_is_understood_or_refused(kind: str, data: bytes) -> None:
    with suppress(ValueError):
        DECODERS[kind](data)


@settings(deadline=None)
@given(st.sampled_from(list(DECODERS)), st.data())
def test_a_spoilt_answer_is_understood_or_refused(kind: str, data: st.DataObject) -> None:
    answer = bytearray(truths()[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 1, 31, 32, 64]))
    with suppress(ValueError):
        DECODERS[kind](bytes(answer[: len(answer) - cut]))


@pytest.mark.parametrize("kind", DECODERS)
def test_an_answer_that_ends_early_or_goes_on_is_refused(kind: str) -> None:
    answer = truths()[kind]
    DECODERS[kind](answer)
    for spoilt in (answer[:-32], answer + bytes(32), answer[:-1], b""):
        with pytest.raises(ValueError):  # noqa: PT011
            DECODERS[kind](spoilt)


def test_an_event_of_another_digest_or_epoch_is_refused() -> None:
    data, topic = truths()["advanced"], registry_abi.advanced_topic()
    for topics in ([topic, abi.word(EPOCH)], [topic, abi.word(2**64)], [topic], [bytes(32)] * 2):
        with pytest.raises(ValueError):  # noqa: PT011
            registry_abi.decode_advanced(topics, data)
    with pytest.raises(ValueError, match="digest"):
        registry_abi.decode_advanced([topic, abi.word(EPOCH + 1)], bytes(32) + data[32:])


@pytest.mark.parametrize(
    "answer", [b"", b"\0", bytes(32), bytes(96), b"\xff" * 96, b"\xff" * 64_000, bytes(64_000)]
)
async def test_a_liar_is_found_out_or_believed_but_never_crashes(answer: bytes) -> None:
    registry = Registry(Liar(answer))
    for question in (
        registry.pending(),
        registry.members(),
        registry.epoch(),
        registry.snapshot_due(),
        registry.operator(bytes(20)),
        registry.settings(),
        registry.member_at(1),
        registry.member_count(),
        registry.is_allowed(bytes(20)),
    ):
        with suppress(InvalidAnswer):
            await question


async def test_members_that_are_no_committee_are_refused() -> None:
    """Twice the same member: the contract never says so, an endpoint may."""

    class Doubling(Liar):
        async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
            if calldata[:4] != abi.selector("members_of"):
                return abi.word(EPOCH + 1)
            answer = truths()["members"]
            first = answer[64 + 5 * 32 :][: len(answer[64 + 5 * 32 :]) // 5]
            heads = b"".join(abi.word(64 + index * len(first)) for index in range(2))
            return abi.word(32) + abi.word(2) + heads + first + first

    with pytest.raises(InvalidAnswer, match="no committee"):
        await Registry(Doubling(b"")).members()


async def test_a_snapshot_of_other_members_is_refused() -> None:
    class Swapping(Liar):
        async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
            if calldata == abi.selector("pending"):
                return truths()["pending"][:32] + bytes(31) + b"\1" + truths()["pending"][64:]
            return truths()["members"]

    with pytest.raises(InvalidAnswer, match="another digest"):
        await Registry(Swapping(b"")).pending()


# Over JSON-RPC


@pytest_asyncio.fixture(params=["embedded", "anvil"])
async def l1(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[L1Handle]:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip("anvil is neither on PATH nor in an npm tree")
    handle = await launch_l1(request.param, tmp_path, block_time_s=0.1)
    yield handle
    await handle.aclose()


async def test_an_operator_joins_over_json_rpc(l1: L1Handle) -> None:
    owner = L1Account(l1.funded_keys[0], l1.chain_id)
    fast = RegistrySettings(owner.address, activation_blocks=0, min_epoch_blocks=0)
    code = abi.load_contract().bytecode + encode_constructor(CHAIN, committee(4, 0), fast)
    contract, deploy_block = await deploy(l1.url, owner, code)
    client = EthereumClient(l1.url, contract, deploy_block)
    try:
        registry, before = Registry(client), await client.head()
        signer = KeySigner((7).to_bytes(32, "big"), bytes(32))
        message = registry_abi.binding_message(
            CHAIN, l1.chain_id, contract, owner.address, signer.identity, signer.bls_key
        )
        register = registry_abi.register_call(
            signer.identity,
            signer.bls_key,
            signer.prove_possession(),
            signer.sign(message),
            "/dns4/new/tcp/1",
        )
        with pytest.raises(CallReverted) as refusal:
            await client.simulate(owner.address, register, 2_000_000)
        assert refusal.value.reason == "NotAllowed"
        for call in (
            registry_abi.allow_call(owner.address, True),
            register,
            registry_abi.snapshot_call(),
        ):
            await send(client, owner, call)
        pending = await registry.pending(await client.head())
        assert isinstance(pending, RegistrySnapshot)
        assert pending.committee().members[:4] == committee(4, 0).members
        assert pending.members[4].identity == signer.identity
        assert isinstance(pending.committee(), Committee)
        state = await registry.operator(owner.address)
        assert (state.status, state.address) == ("pending", "/dns4/new/tcp/1")
        # an older block is asked for by its hash
        assert await registry.pending(before) is None
        assert await registry.operator(owner.address, before) == OperatorState("none")
        assert await registry.settings() == fast
        with pytest.raises(SettlementError):
            await client.read(abi.selector("settings"), None, 10 * 32 - 1)
    finally:
        await client.aclose()


async def send(client: EthereumClient, account: L1Account, calldata: bytes) -> None:
    """Send a call and wait until it is mined."""
    head = await client.head()
    signed = account.sign(
        nonce=await client.nonce(account.address),
        to=client.contract,
        data=calldata,
        gas=3_000_000,
        fees=Fees(2 * head.base_fee + 10**9, 10**9),
    )
    await client.send(signed.raw)
    async with asyncio.timeout(20):
        while True:
            receipt = await client.receipt(signed.tx_hash)
            if receipt is not None:
                assert receipt.succeeded
                return
            await asyncio.sleep(0.02)
