"""Parameters of calls: from JSON values to numbers and bytes, or geth's "invalid argument"."""

from typing import Any

from sequencer.rpc.jsonrpc import INVALID_PARAMS, RpcError

MAX_U64 = 2**64 - 1


def invalid(index: int, reason: str) -> RpcError:
    """What a caller is told whose parameter at `index` (from 0) cannot be read."""
    return RpcError(INVALID_PARAMS, f"invalid argument {index}: {reason}")


def hex_bytes(value: Any, index: int) -> bytes:
    """Bytes written as 0x and an even number of hex digits."""
    if not isinstance(value, str):
        raise invalid(index, "a hex string is wanted")
    if value[:2] not in ("0x", "0X"):
        raise invalid(index, "hex string without 0x prefix")
    if len(value) % 2:
        raise invalid(index, "hex string of odd length")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise invalid(index, "invalid hex string") from None
    if len(data) * 2 != len(value) - 2:
        raise invalid(index, "invalid hex string")  # fromhex skips white space
    return data


def hash_bytes(value: Any, index: int) -> bytes:
    """A hash: 32 bytes in hex."""
    data = hex_bytes(value, index)
    if len(data) != 32:
        raise invalid(index, f"hex string has {len(data)} bytes, want 32 for a hash")
    return data


def address(value: Any, index: int) -> bytes:
    """An address: 20 bytes in hex."""
    data = hex_bytes(value, index)
    if len(data) != 20:
        raise invalid(index, f"hex string has {len(data)} bytes, want 20 for an address")
    return data


def number(value: Any, index: int) -> int:
    """An unsigned 64-bit number: a JSON integer, or a string in decimal or 0x hex."""
    parsed = parse_number(value)
    if parsed is None:
        raise invalid(index, "a number of 64 bits is wanted, decimal or 0x hex")
    return parsed


def parse_number(value: Any) -> int | None:
    """An unsigned 64-bit number out of a JSON value or a path segment; None if it is none."""
    if isinstance(value, str) and value.isascii() and 0 < len(value) <= 20:
        digits = value[2:] if value[:2].lower() == "0x" else value
        if not digits.isalnum():
            return None
        try:
            value = int(value, 16 if digits is not value else 10)
        except ValueError:
            return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_U64:
        return value
    return None


def flag(value: Any, index: int) -> bool:
    """A JSON boolean; null is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(index, "true or false is wanted")
    return value


def wait_ms(value: Any, index: int, default: int, most: int) -> int:
    """A time to wait in milliseconds: null and 0 mean `default`, more than `most` means `most`."""
    if value is None:
        return default
    return min(number(value, index) or default, most)
