"""What an L1 endpoint answers, checked for shape and bounds; `InvalidAnswer` says what is wrong."""

from typing import Any

from sequencer.settlement.client import InvalidAnswer


def as_object(value: Any, name: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise InvalidAnswer(f"the L1's {name} is no object")
    return value


def as_number(value: Any, name: str, bits: int) -> int:
    """A hex number of at most so many bits."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 2 + bits // 4 + 1:
        raise InvalidAnswer(f"the L1's {name} is no hex number of at most {bits} bits")
    try:
        found = int(value, 16)
    except ValueError as error:
        raise InvalidAnswer(f"the L1's {name} is no hex number") from error
    if found >> bits:
        raise InvalidAnswer(f"the L1's {name} exceeds {bits} bits")
    return found


def as_bytes(value: Any, name: str, limit: int) -> bytes:
    """A hex string of at most `limit` bytes."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 2 + 2 * limit:
        raise InvalidAnswer(f"the L1's {name} is no hex string of at most {limit} bytes")
    try:
        return bytes.fromhex(value[2:])
    except ValueError as error:
        raise InvalidAnswer(f"the L1's {name} is no hex string") from error


def as_bytes32(value: Any, name: str) -> bytes:
    """A hex string of 32 bytes."""
    found = as_bytes(value, name, 32)
    if len(found) != 32:
        raise InvalidAnswer(f"the L1's {name} has {len(found)} bytes, not 32")
    return found
