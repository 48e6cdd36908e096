"""Ethereum transactions as clients want to see them: every field of the envelope, in hex.

For display only.  What stands in the log was admitted by some node, perhaps a faulty one: bytes
that are no transaction are shown as bytes, and nothing here raises.
"""

from typing import Any, Final

import rlp
from rlp.exceptions import RLPException

ZERO_ADDRESS: Final = "0x" + "00" * 20

_LEGACY: Final = ("nonce", "gasPrice", "gas", "to", "value", "input", "v", "r", "s")
_ACCESS_LIST: Final = (
    *("chainId", "nonce", "gasPrice", "gas", "to", "value", "input"),
    *("accessList", "yParity", "r", "s"),
)
_DYNAMIC_FEE: Final = (
    *("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "input"),
    *("accessList", "yParity", "r", "s"),
)
_SET_CODE: Final = (*_DYNAMIC_FEE[:-3], "authorizationList", *_DYNAMIC_FEE[-3:])
_LAYOUTS: Final = {0: _LEGACY, 1: _ACCESS_LIST, 2: _DYNAMIC_FEE, 4: _SET_CODE}
_AUTHORIZATION: Final = ("chainId", "address", "nonce", "yParity", "r", "s")


def quantity(data: bytes | int) -> str:
    """A number as Ethereum clients write it: 0x hex without leading zeros."""
    return hex(data if isinstance(data, int) else int.from_bytes(data, "big"))


def data(value: bytes) -> str:
    """Bytes as 0x hex."""
    return "0x" + value.hex()


def describe(transaction: bytes) -> dict[str, Any]:
    """The fields of a signed envelope but its sender, or of bytes that are none."""
    try:
        return _describe_envelope(transaction)
    except (RLPException, ValueError, TypeError, LookupError, RecursionError):
        return _describe_bytes(transaction)


def _describe_envelope(transaction: bytes) -> dict[str, Any]:
    kind = transaction[0] if transaction[0] < 0x80 else 0
    payload = transaction[1:] if kind else transaction
    items = rlp.decode(payload, strict=True)
    names = _LAYOUTS[kind]
    if len(items) != len(names):
        raise ValueError("wrong number of fields")
    fields = {name: _field(name, item) for name, item in zip(names, items, strict=True)}
    fields["type"] = hex(kind)
    fields.setdefault("v", fields.get("yParity"))
    fields.setdefault("gasPrice", fields.get("maxFeePerGas"))
    if kind == 0:
        signed_v = int(fields["v"], 16)
        if signed_v >= 35:
            fields["chainId"] = hex((signed_v - 35) // 2)
    return fields


def _field(name: str, item: Any) -> Any:
    if name in ("to", "address"):
        return data(item) if item else None
    if name == "input":
        return data(item)
    if name == "accessList":
        return [
            {"address": data(address), "storageKeys": [data(key) for key in keys]}
            for address, keys in item
        ]
    if name == "authorizationList":
        return [
            {key: _field(key, part) for key, part in zip(_AUTHORIZATION, entry, strict=True)}
            for entry in item
        ]
    if not isinstance(item, bytes):
        raise TypeError("a list where a number stands")
    return quantity(item)


def _describe_bytes(transaction: bytes) -> dict[str, Any]:
    zeros = dict.fromkeys(("nonce", "gasPrice", "gas", "value", "v", "r", "s"), "0x0")
    return {**zeros, "type": "0x0", "to": None, "input": data(transaction)}
