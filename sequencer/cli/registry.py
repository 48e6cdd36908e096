"""`sequencer registry`: the set of members on the L1, for everybody to see and for its owner."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sequencer.cli.errors import CommandError
from sequencer.cli.operator import Operator, l1_option, operate
from sequencer.cli.options import (
    directory_option,
    json_option,
    password_option,
    print_fields,
    print_json,
)
from sequencer.cli.values import full_address, parse_account, parse_amount

if TYPE_CHECKING:
    from sequencer.settlement.registry import RegistrySnapshot
    from sequencer.settlement.registry_abi import RegistrySettings


@click.group(epilog="Example: sequencer registry show --dir node0")
def registry() -> None:
    """The members that the contract knows: look at them, and let operators in."""


@registry.command(epilog="Example: sequencer registry show --dir node0 --json")
@l1_option
@directory_option
@json_option
def show(l1_url: str | None, directory: Path, as_json: bool) -> None:
    """Show the rules, the present committee, the next one if it is fixed, and this operator.

    Needs no password.
    """
    told = operate(_look, directory, l1_url, None, sends=False)
    if as_json:
        print_json(told)
    else:
        print_fields(told)


async def _look(operator: Operator) -> dict[str, Any]:
    reader, head = operator.registry, await operator.client.head()
    present, pending = await reader.members(head), await reader.pending(head)
    mine = await operator.state()
    return {
        "l1_block": head.number,
        "contract": "0x" + operator.l1.contract.hex(),
        "rules": _rules(await operator.settings()),
        "epoch": present.epoch,
        "members": _members(operator, present),
        "next_epoch": None if pending is None else pending.epoch,
        "next_members": [] if pending is None else _members(operator, pending),
        "snapshot_due": await reader.snapshot_due(head),
        "this_operator": {
            "account": "0x" + operator.account.hex(),
            "status": mine.status,
            "stake_wei": str(mine.stake),
            "address": mine.address,
            "active_at": mine.active_at,
            "exit_at": mine.exit_at,
            "allowed": await reader.is_allowed(operator.account, head),
        },
    }


def _rules(settings: "RegistrySettings") -> dict[str, Any]:
    from dataclasses import asdict

    shown = asdict(settings) | {"owner": "0x" + settings.owner.hex()}
    wei = ("min_stake", "weight_unit")
    return {key: str(value) if key in wei else value for key, value in shown.items()}


def _members(operator: Operator, snapshot: "RegistrySnapshot") -> list[dict[str, Any]]:
    names = operator.genesis
    return [
        {
            "index": index,
            "name": names.name_of(member.identity),
            "identity": "0x" + member.identity.hex(),
            "weight": member.weight,
            "operator": "0x" + member.operator.hex() if any(member.operator) else None,
            "address": member.address,
        }
        for index, member in enumerate(snapshot.members)
    ]


@registry.command(
    epilog="Example: sequencer registry allow 0xE32FD19B10f992E87B94C1c58E1EC4D1831D3fd7 --dir me",
)
@click.argument("account")
@click.option("--remove", is_flag=True, help="Take it off the list; its member leaves.")
@l1_option
@directory_option
@password_option
@json_option
def allow(
    account: str,
    remove: bool,
    l1_url: str | None,
    directory: Path,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Let the operator ACCOUNT register a member; for the owner of the registry."""
    from sequencer.settlement.registry_abi import allow_call

    operator_account = parse_account(account)

    async def work(operator: Operator) -> dict[str, Any]:
        receipt = await operator.send(allow_call(operator_account, not remove))
        return {
            "account": "0x" + operator_account.hex(),
            "allowed": not remove,
            "l1_transaction": "0x" + receipt.tx_hash.hex(),
        }

    told = operate(work, directory, l1_url, password_file)
    if as_json:
        print_json(told)
    elif remove:
        click.echo(f"{told['account']} is off the list; its member, if it had one, leaves")
    else:
        click.echo(f"{told['account']} may join now: sequencer join")


@registry.command("add-stake", epilog="Example: sequencer registry add-stake 16 --dir erin")
@click.argument("amount")
@l1_option
@directory_option
@password_option
@json_option
def add_stake(
    amount: str, l1_url: str | None, directory: Path, password_file: Path | None, as_json: bool
) -> None:
    """Add AMOUNT to the stake of this operator's member: ether, or with a unit as in 5gwei."""
    from sequencer.settlement.registry_abi import add_stake_call

    wei = parse_amount(amount)

    async def work(operator: Operator) -> dict[str, Any]:
        await operator.send(add_stake_call(), wei)
        return {"stake_wei": str((await operator.state()).stake)}

    told = operate(work, directory, l1_url, password_file)
    if as_json:
        print_json(told)
    else:
        click.echo(f"the stake is {int(told['stake_wei']) / 10**18:g} ether")


@registry.command(
    epilog="Example: sequencer registry move /dns4/erin.example/tcp/9000 --dir erin",
)
@click.argument("address")
@l1_option
@directory_option
@password_option
@json_option
def move(
    address: str, l1_url: str | None, directory: Path, password_file: Path | None, as_json: bool
) -> None:
    """Register ADDRESS, a multiaddr, as the place where others reach this operator's member."""
    from sequencer.config import ConfigError
    from sequencer.keys import show_keys
    from sequencer.settlement.registry_abi import change_address_call

    try:
        where = full_address(address, show_keys(directory)["peer_id"])
    except ConfigError as error:
        raise CommandError(str(error)) from None

    async def work(operator: Operator) -> dict[str, Any]:
        await operator.send(change_address_call(where), 0, where)
        return {"address": (await operator.state()).address}

    told = operate(work, directory, l1_url, password_file)
    if as_json:
        print_json(told)
    else:
        click.echo(f"others look for this member at {told['address']} from the next epoch on")
