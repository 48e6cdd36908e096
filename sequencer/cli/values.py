"""Values that operators write: amounts, accounts, addresses, rules of a registry."""

from typing import TYPE_CHECKING, Any, Final

from sequencer.cli.errors import CommandError

if TYPE_CHECKING:
    from sequencer.settlement.registry_abi import RegistrySettings

WEI: Final = {"wei": 1, "gwei": 10**9, "ether": 10**18}
MAX_DIGITS: Final = 100
"""Digits of an amount; 256 bits have 78."""
_AMOUNTS: Final = ("min_stake", "weight_unit")


def parse_amount(text: str) -> int:
    """Wei of "32", "0.5ether", "7gwei" or "1wei"; ether is the default. Exact."""
    from decimal import Decimal, InvalidOperation, localcontext

    unit = next((name for name in ("gwei", "wei", "ether") if text.endswith(name)), "")
    with localcontext(prec=MAX_DIGITS):
        try:
            wei = Decimal(text.removesuffix(unit).strip()[:MAX_DIGITS]) * WEI[unit or "ether"]
        except InvalidOperation:
            wei = Decimal("NaN")
    if not wei.is_finite() or wei != wei.to_integral_value() or not 0 <= wei < 1 << 256:
        raise CommandError(f"{text!r} is no amount: a number, or one with wei, gwei or ether")
    return int(wei)


def parse_account(text: str) -> bytes:
    """20 bytes of an L1 account in hex; where its case carries a checksum, that has to fit."""
    from sequencer.keys import checksummed

    try:
        account = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        account = b""
    if len(account) != 20:
        raise CommandError(f"{text!r} is no account: 40 hex digits, with or without 0x")
    digits = text.removeprefix("0x")
    mixed = digits not in (digits.lower(), digits.upper())
    if mixed and checksummed(account) != "0x" + digits:
        raise CommandError(f"{text} has a typing error: its upper and lower case do not fit")
    return account


def full_address(given: str, peer: str) -> str:
    """A multiaddr with the peer id of these keys, which is added where it is not there."""
    from net.libp2p.identity import parse_multiaddr

    address = given if "/p2p/" in given else f"{given.rstrip('/')}/p2p/{peer}"
    try:
        found = parse_multiaddr(address)[2]
    except ValueError as error:
        raise CommandError(str(error)) from None
    if found != peer:
        raise CommandError(f"{given} has another peer id than these keys, which is {peer}")
    return address


def parse_registry(texts: tuple[str, ...], owner: bytes) -> "RegistrySettings":
    """The rules of a registry from SETTING=VALUE, the rest as by default."""
    from dataclasses import fields

    from sequencer.settlement.registry_abi import RegistrySettings

    known = [field.name for field in fields(RegistrySettings)]
    values: dict[str, Any] = {"owner": owner}
    for text in texts:
        setting, equals, value = text.partition("=")
        if setting not in known or not equals:
            raise CommandError(f"{text!r} is not SETTING=VALUE; settings: {', '.join(known)}")
        values[setting] = _setting(setting, value)
    try:
        return RegistrySettings(**values)
    except ValueError as error:
        raise CommandError(f"--registry: {error}") from None


def _setting(setting: str, value: str) -> Any:
    if setting == "owner":
        return parse_account(value)
    if setting == "by_stake":
        if value not in ("true", "false"):
            raise CommandError(f"by_stake is {value!r}, it has to be true or false")
        return value == "true"
    if setting in _AMOUNTS:
        return parse_amount(value)
    if not value.isascii() or not value.isdigit():
        raise CommandError(f"{setting} is {value!r}, it has to be a whole number")
    return int(value)
