"""An operator's own transactions: registering, leaving, rotating; one at a time, until mined.

A running node posts batches from the same account. Nonces are therefore taken behind what waits in
the L1's pool, and when another transaction uses ours up, which the L1 shows, the call is signed
again under the next one: only one transaction of a nonce can ever be mined.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sequencer.settlement import abi
from sequencer.settlement.account import Fees, SignedTransaction, TransactionSigner
from sequencer.settlement.client import (
    CallReverted,
    InvalidAnswer,
    L1Refused,
    L1Unreachable,
    Receipt,
    SendOutcome,
    SettlementError,
)
from sequencer.settlement.ethereum import EthereumClient
from sequencer.settlement.jsonrpc import JsonRpc, RevertedCall

GAS_PERCENT: Final = 125
"""Gas of a call in percent of its estimate."""
POLL_S: Final = 0.5
BUMP_AFTER_BLOCKS: Final = 4
"""L1 blocks after which a transaction that is not mined offers an eighth more."""
MAX_VERSIONS: Final = 12
MAX_NONCES: Final = 16
"""How often a nonce may be lost to another transaction of the account."""
MAX_LOOKS: Final = 4
"""Looks at a nonce that is used up, for the receipt: an L1 may show an account's new state before
it shows the transaction that brought it."""
MINED_WITHIN_S: Final = 600.0

_LOST_NONCE: Final = (SendOutcome.NONCE_TOO_LOW, SendOutcome.UNDERPRICED)


class NotMined(SettlementError):
    """It was sent and is not mined in time; it may still be."""


@dataclass
class _Flight:
    """The versions of a call under one nonce, and the L1 block in which the last was sent."""

    nonce: int
    fees: Fees
    sent_block: int
    versions: list[SignedTransaction] = field(default_factory=list)


class Wallet:
    """Sends calls of the client's contract for one account; `tell` hears how far it is."""

    def __init__(
        self,
        client: EthereumClient,
        account: TransactionSigner,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._account = account
        self._tell = tell
        self._rpc = JsonRpc(client.url)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

    async def call(self, data: bytes, value: int = 0, within_s: float = MINED_WITHIN_S) -> Receipt:
        """Send a call with `value` wei and wait until it is mined, and good.

        `CallReverted` names the contract's error, before anything is sent where possible;
        `NotMined` after `within_s`; any other `SettlementError` is a sentence.
        """
        await self._require_funds(value)  # an L1 that estimates says less about it
        gas = await self._estimate(data, value) * GAS_PERCENT // 100
        deadline = time.monotonic() + within_s
        for _ in range(MAX_NONCES):
            flight = await self._take_off(data, value, gas)
            receipt = (
                None if flight is None else await self._land(flight, data, value, gas, deadline)
            )
            if receipt is not None and receipt.succeeded:
                return receipt
            if receipt is not None:
                await self._estimate(data, value)  # says why it failed
                raise SettlementError(f"0x{receipt.tx_hash.hex()} failed on the L1")
            self._tell("the nonce went to another transaction of this account; once more")
            await asyncio.sleep(POLL_S)
        raise SettlementError("other transactions of this account take every nonce; try again")

    async def _estimate(self, data: bytes, value: int) -> int:
        message = {
            "from": "0x" + self._account.address.hex(),
            "to": "0x" + self._client.contract.hex(),
            "value": hex(value),
            "data": "0x" + data.hex(),
        }
        try:
            answer = await self._rpc.call("eth_estimateGas", [message, "pending"])
        except RevertedCall as error:
            raise CallReverted(abi.decode_revert(error.data) or str(error)) from error
        except L1Refused as error:
            if "revert" in str(error).lower():
                raise CallReverted(str(error)) from error
            raise
        return _quantity(answer)

    async def _require_funds(self, needed: int) -> None:
        balance = await self._client.balance(self._account.address)
        if balance < needed:
            raise SettlementError(
                f"0x{self._account.address.hex()} owns {ether(balance)} ether on the L1, and needs "
                f"{ether(needed)}: send it some"
            )

    async def _pending_nonce(self) -> int:
        address = "0x" + self._account.address.hex()
        return _quantity(await self._rpc.call("eth_getTransactionCount", [address, "pending"]))

    async def _take_off(self, data: bytes, value: int, gas: int) -> _Flight | None:
        """Sign and send under the next nonce; None if somebody else has just taken it."""
        nonce = await self._pending_nonce()
        head, tip = await asyncio.gather(self._client.head(), self._client.tip())
        fees = Fees(2 * head.base_fee + tip, tip)
        await self._require_funds(value + gas * fees.max_fee)
        flight = _Flight(nonce, fees, head.number)
        outcome = await self._send(flight, data, value, gas)
        return None if outcome in _LOST_NONCE else flight

    async def _send(self, flight: _Flight, data: bytes, value: int, gas: int) -> SendOutcome:
        signed = self._account.sign(
            nonce=flight.nonce,
            to=self._client.contract,
            data=data,
            gas=gas,
            fees=flight.fees,
            value=value,
        )
        flight.versions.append(signed)
        answer = await self._client.send(signed.raw)
        if answer.outcome is SendOutcome.REJECTED:
            raise SettlementError(f"the L1 refused the transaction: {answer.text}")
        if answer.outcome is SendOutcome.INSUFFICIENT_FUNDS:
            raise SettlementError(f"0x{self._account.address.hex()}: {answer.text}; send it some")
        self._tell(f"sent 0x{signed.tx_hash.hex()}, waiting for the L1")
        return answer.outcome

    async def _land(
        self, flight: _Flight, data: bytes, value: int, gas: int, deadline: float
    ) -> Receipt | None:
        """The receipt; None if another transaction used the nonce."""
        looks = 0
        while time.monotonic() < deadline:
            try:
                mined = await self._client.nonce(self._account.address)
                for version in flight.versions:
                    receipt = await self._client.receipt(version.tx_hash)
                    if receipt is not None:
                        return receipt
                looks = looks + 1 if mined > flight.nonce else 0
                if looks == MAX_LOOKS:
                    return None
                if looks == 0:
                    await self._push(flight, data, value, gas)
            except L1Unreachable as error:
                self._tell(f"{error}; it may have been sent, looking again")
            await asyncio.sleep(POLL_S)
        raise NotMined(
            f"0x{flight.versions[-1].tx_hash.hex()} was sent and is not mined yet; it may still "
            "be: look again before you repeat the command"
        )

    async def _push(self, flight: _Flight, data: bytes, value: int, gas: int) -> None:
        """Offer more when blocks pass without it."""
        head = await self._client.head()
        if head.number < flight.sent_block + BUMP_AFTER_BLOCKS:
            return
        flight.sent_block = head.number
        if len(flight.versions) < MAX_VERSIONS:
            fees = flight.fees
            flight.fees = Fees(_more(max(fees.max_fee, 2 * head.base_fee)), _more(fees.tip))
            await self._send(flight, data, value, gas)


def ether(wei: int) -> str:
    """An amount for a reader."""
    return f"{wei / 10**18:.6g}"


def _more(fee: int) -> int:
    return fee + -(-fee // 8)


def _quantity(value: object) -> int:
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 18:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise InvalidAnswer(f"the L1 answers {str(value)[:40]!r} where a number is due")
