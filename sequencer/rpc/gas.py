"""The gas that a transaction needs before anything is executed, from an Ethereum call object.

It is what admission asks for at least (`sequencer.transaction`), so that a wallet's default
transfer is taken.  What a contract's code needs on top only the rollup knows.
"""

from typing import Any, Final

from sequencer.rpc import params
from sequencer.rpc.jsonrpc import REFUSED, RpcError
from sequencer.transaction import (
    GAS_AUTHORIZATION,
    GAS_LISTED_ADDRESS,
    GAS_LISTED_KEY,
    AdmissionError,
    intrinsic_gas,
)

MAX_LISTED: Final = 4_096
"""Entries of an access or authorization list; a transaction of 100,000 bytes holds fewer."""


def intrinsic_gas_of(call: Any) -> int:
    """The least gas of the transaction that a call object describes.  Raises RpcError."""
    if not isinstance(call, dict):
        raise params.invalid(0, "a call object is wanted")
    body, listed = _data(call), _listed_gas(call)
    to = b"" if call.get("to") is None else params.address(call["to"], 0)
    try:
        return intrinsic_gas(to, body, listed)
    except AdmissionError as refusal:
        raise RpcError(REFUSED, str(refusal)) from None


def _data(call: dict[str, Any]) -> bytes:
    """The calldata, by its new name or the old one."""
    given = [params.hex_bytes(call[name], 0) for name in ("input", "data") if call.get(name)]
    if len(given) == 2 and given[0] != given[1]:
        reason = "use 'input' to pass transaction call data"
        raise params.invalid(0, f"both 'data' and 'input' are set and not equal; {reason}")
    return given[0] if given else b""


def _listed_gas(call: dict[str, Any]) -> int:
    gas = GAS_AUTHORIZATION * len(_list(call, "authorizationList"))
    for entry in _list(call, "accessList"):
        if not isinstance(entry, dict):
            raise params.invalid(0, "malformed accessList")
        gas += GAS_LISTED_ADDRESS + GAS_LISTED_KEY * len(_list(entry, "storageKeys"))
    return gas


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    found = fields.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MAX_LISTED:
        raise params.invalid(0, f"malformed {name}")
    return found
