"""What a posting offers and costs: the market, the next level, and blobs against calldata."""

from sequencer.settlement.account import Fees
from sequencer.settlement.blobs import GAS_PER_BLOB
from sequencer.settlement.poster_events import L1View

BASE_GAS = 21_000
ZERO_BYTE_GAS = 4
NONZERO_BYTE_GAS = 16
FLOOR_TOKEN_GAS = 10
TOKENS_PER_NONZERO_BYTE = 4
EXECUTION_GAS = 700_000
"""Upper bound of what the contract spends: certificate, keccak and memory of 120 KiB, log."""
USUAL_EXECUTION_GAS = 250_000
"""What it does spend, about; for comparing prices."""


def posting_gas(calldata: bytes, execution_gas: int = EXECUTION_GAS) -> int:
    """A gas limit that a posting never exceeds; what is not used is not paid (EIP-7623 floor)."""
    zeros = calldata.count(0)
    nonzeros = len(calldata) - zeros
    standard = ZERO_BYTE_GAS * zeros + NONZERO_BYTE_GAS * nonzeros + execution_gas
    floor = FLOOR_TOKEN_GAS * (zeros + TOKENS_PER_NONZERO_BYTE * nonzeros)
    return BASE_GAS + max(standard, floor)


def price(view: L1View, calldata: bytes, blobs: int = 0) -> int:
    """What posting with this input and so many blobs costs in wei at present, about."""
    gas = posting_gas(calldata, USUAL_EXECUTION_GAS)
    return gas * (view.head.base_fee + view.tip) + blobs * GAS_PER_BLOB * view.blob_base_fee


def market_fees(view: L1View, limit: int, blobs: int = 0) -> Fees | None:
    """Fees that hold for several full blocks; None if even one is above `limit` (wei a gas)."""
    if view.head.base_fee + view.tip > limit or (blobs and view.blob_base_fee > limit):
        return None
    blob_fee = min(limit, max(1, 2 * view.blob_base_fee)) if blobs else 0
    return Fees(min(limit, 2 * view.head.base_fee + view.tip), view.tip, blob_fee)


def raised_fees(last: Fees, market: Fees | None, limit: int) -> Fees | None:
    """The next level, at least the market's; None if it is above `limit`.

    Clients replace a transaction for 10 % more, and one with blobs for twice the three fees.
    """
    raised = _twice if last.blob_fee else _one_eighth_more
    least = market or Fees(0, 0)
    fees = Fees(
        max(raised(last.max_fee), least.max_fee),
        max(raised(last.tip), least.tip),
        max(raised(last.blob_fee), least.blob_fee),
    )
    return None if max(fees.max_fee, fees.blob_fee) > limit else fees


def most(fees: Fees, gas: int, blobs: int) -> int:
    """What a transaction may cost at most, in wei."""
    return gas * fees.max_fee + blobs * GAS_PER_BLOB * fees.blob_fee


def _one_eighth_more(fee: int) -> int:
    return fee + -(-fee // 8)


def _twice(fee: int) -> int:
    return 2 * fee
