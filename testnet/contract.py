"""Putting the contract of a testnet on its L1, and money into its members' accounts."""

from typing import Final

from sequencer.genesis import L1Settings
from sequencer.settlement.abi import load_contract
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.blobs import CALLDATA
from sequencer.settlement.client import SendOutcome, SettlementError
from sequencer.settlement.ethereum import EthereumClient, deploy, require_blobs
from sequencer.settlement.registry_abi import (
    RegistrySettings,
    allow_call,
    encode_constructor,
)
from sequencer.settlement.wallet import Wallet
from testnet.errors import TestnetError
from testnet.l1 import L1Handle
from testnet.members import Members

MAINNET: Final = 1
MEMBER_FUNDS_WEI: Final = 10**17
"""What each member gets on an L1 that is not ours, and one that joins on any; founders are funded
when a local one starts."""
TRANSFER_GAS: Final = 21_000


async def deploy_contract(
    l1: L1Handle, members: Members, key: bytes | None, data: str = CALLDATA
) -> L1Settings:
    """Deploy with the genesis committee; what the genesis says about the L1 from then on.

    `key` (32 bytes) pays on an L1 that is not ours; `data` says where batches are to be posted.
    Raises TestnetError.
    """
    if l1.kind == "url" and key is None:
        raise TestnetError("an L1 that is not ours needs an account that pays: --l1-key")
    if l1.chain_id == MAINNET:
        raise TestnetError("that is the Ethereum mainnet; a testnet has no business there")
    payer = L1Account(key or l1.funded_keys[0], l1.chain_id)
    genesis = members.genesis
    # local L1s mine every second, and nobody likes to wait
    settings = RegistrySettings(
        payer.address, activation_blocks=1, exit_blocks=10, min_epoch_blocks=3
    )
    arguments = encode_constructor(genesis.chain_id, genesis.committee, settings)
    try:
        if data != CALLDATA:
            await require_blobs(l1.url)
        contract, block = await deploy(l1.url, payer, load_contract().bytecode + arguments)
        if l1.kind == "url":
            await _fund(l1.url, payer, members.l1_addresses)
    except SettlementError as error:
        raise TestnetError(str(error)) from None
    return L1Settings(l1.chain_id, contract, block, "tag", data)


async def admit(l1: L1Handle, settings: L1Settings, owner_key: bytes, operators: list[str]) -> None:
    """Give each operator's account (0x...) money, and let it register; returns when that is mined.

    Raises TestnetError.
    """
    owner = L1Account(owner_key, l1.chain_id)
    client = EthereumClient(l1.url, settings.contract, settings.deploy_block)
    wallet = Wallet(client, owner)
    try:
        await _fund(l1.url, owner, operators)
        for operator in operators:
            await wallet.call(allow_call(bytes.fromhex(operator.removeprefix("0x")), True))
    except SettlementError as error:
        raise TestnetError(f"the registry did not let {', '.join(operators)} in: {error}") from None
    finally:
        await wallet.aclose()
        await client.aclose()


async def _fund(url: str, payer: L1Account, addresses: list[str]) -> None:
    client = EthereumClient(url, bytes(20))
    try:
        head, tip = await client.head(), await client.tip()
        nonce = await client.nonce(payer.address)
        for offset, address in enumerate(addresses):
            signed = payer.sign(
                nonce=nonce + offset,
                to=bytes.fromhex(address.removeprefix("0x")),
                data=b"",
                gas=TRANSFER_GAS,
                fees=Fees(2 * head.base_fee + tip, tip),
                value=MEMBER_FUNDS_WEI,
            )
            answer = await client.send(signed.raw)
            if answer.outcome not in (SendOutcome.ACCEPTED, SendOutcome.KNOWN):
                raise TestnetError(f"the L1 refused to fund member {offset}: {answer.text}")
    finally:
        await client.aclose()
