"""The gas that a transaction needs before anything is executed, from an Ethereum call object.

It is what admission asks for at least (`sequencer.transaction`, there from the signed bytes), so
that a wallet's default transfer is taken.  What a contract's code needs on top only the rollup
knows.
"""

from typing import Any, Final

from sequencer.rpc import params
from sequencer.rpc.jsonrpc import REFUSED, RpcError

TRANSACTION: Final = 21_000
CREATION: Final = 53_000
ZERO_BYTE: Final = 4
NONZERO_BYTE: Final = 16
INIT_CODE_WORD: Final = 2
LISTED_ADDRESS: Final = 2_400
LISTED_KEY: Final = 1_900
AUTHORIZATION: Final = 25_000
MAX_INIT_CODE_BYTES: Final = 49_152
MAX_LISTED: Final = 4_096
"""Entries of an access or authorization list; a transaction of 100,000 bytes holds fewer."""


def intrinsic_gas(call: Any) -> int:
    """The least gas of the transaction that a call object describes.  Raises RpcError."""
    if not isinstance(call, dict):
        raise params.invalid(0, "a call object is wanted")
    body = _data(call)
    zeros = body.count(0)
    gas = ZERO_BYTE * zeros + NONZERO_BYTE * (len(body) - zeros) + _listed_gas(call)
    if call.get("to") is not None:
        params.address(call["to"], 0)
        return gas + TRANSACTION
    if len(body) > MAX_INIT_CODE_BYTES:
        reason = f"code size {len(body)}, limit {MAX_INIT_CODE_BYTES}"
        raise RpcError(REFUSED, f"max initcode size exceeded: {reason}")
    return gas + CREATION + INIT_CODE_WORD * ((len(body) + 31) // 32)


def _data(call: dict[str, Any]) -> bytes:
    """The calldata, by its new name or the old one."""
    given = [params.hex_bytes(call[name], 0) for name in ("input", "data") if call.get(name)]
    if len(given) == 2 and given[0] != given[1]:
        reason = "use 'input' to pass transaction call data"
        raise params.invalid(0, f"both 'data' and 'input' are set and not equal; {reason}")
    return given[0] if given else b""


def _listed_gas(call: dict[str, Any]) -> int:
    gas = AUTHORIZATION * len(_list(call, "authorizationList"))
    for entry in _list(call, "accessList"):
        if not isinstance(entry, dict):
            raise params.invalid(0, "malformed accessList")
        gas += LISTED_ADDRESS + LISTED_KEY * len(_list(entry, "storageKeys"))
    return gas


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    found = fields.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MAX_LISTED:
        raise params.invalid(0, f"malformed {name}")
    return found
