"""`sequencer join`, `leave`, `exit` and `rotate`: an operator's way in, through and out."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sequencer.cli.errors import CommandError, NegativeResult
from sequencer.cli.operator import POLL_S, Operator, l1_option, operate
from sequencer.cli.options import (
    directory_option,
    json_option,
    password_option,
    print_json,
    read_password,
)
from sequencer.cli.values import full_address, parse_amount

if TYPE_CHECKING:
    from sequencer.keys import NodeKeys
    from sequencer.settlement.registry import OperatorState, RegistrySnapshot

PRESENT = ("pending", "active")
"""What the registry calls a member that has not left."""


@click.command(
    epilog="Example: sequencer join --dir erin --stake 32 --address /dns4/erin.example/tcp/9000",
)
@l1_option
@click.option("--stake", help="What to lock up: ether, or with a unit as in 5gwei.  [default: 0]")
@click.option("--address", help="The multiaddress where other members reach this node.")
@click.option("--wait/--no-wait", help="Wait until an epoch holds this member.  [default: no]")
@directory_option
@password_option
@json_option
def join(
    l1_url: str | None,
    stake: str | None,
    address: str | None,
    wait: bool,
    directory: Path,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Register this node as a member, with its L1 account as the operator.

    A founding member, which the genesis names, claims its place instead.  The node votes from the
    first epoch on that holds it: keep it running and let it sync.  Exit code 1 if the contract
    refuses, with what to do about it.
    """
    wei = parse_amount(stake or "0")
    keys = _keys(directory, read_password(password_file))

    async def work(operator: Operator) -> dict[str, Any]:
        founder = any(
            member.identity.hex() == _public(keys)["identity"]
            for member in operator.genesis.committee.members
        )
        where = "" if founder and address is None else _address(operator.directory, keys, address)
        await _register(operator, keys, wei, where, founder)
        if wait:
            await _until_held(operator)
        return {"founder": founder, **await _joined(operator)}

    told = operate(work, directory, l1_url, password_file)
    _tell(told, as_json, f"{'claimed' if told['founder'] else 'registered'}: {told['identity']}")


def _keys(directory: Path, password: str) -> "NodeKeys":
    from sequencer.config import ConfigError
    from sequencer.keys import load_keys

    try:
        return load_keys(directory, password)
    except ConfigError as error:
        raise CommandError(str(error)) from None


def _public(keys: "NodeKeys") -> dict[str, str]:
    from dataclasses import asdict

    from sequencer.keys import public_keys

    return asdict(public_keys(keys))


def _address(directory: Path, keys: "NodeKeys", given: str | None) -> str:
    """The multiaddress to register, with the peer id of the keys in it."""
    from net.libp2p.identity import multiaddr_of
    from sequencer.config import NodeConfig

    peer = _public(keys)["peer_id"]
    if given is None:
        host, port = NodeConfig.load(directory).network.address
        if host in ("0.0.0.0", "::"):
            raise CommandError(
                "where do others reach this node? say it: --address /ip4/HOST/tcp/PORT, or dns4"
            )
        return multiaddr_of(host, port, peer)
    return full_address(given, peer)


async def _register(
    operator: Operator, keys: "NodeKeys", wei: int, address: str, founder: bool
) -> None:
    """One transaction, or for a founder with an address two."""
    from sequencer.settlement.registry_abi import change_address_call, claim_call, register_call

    public = _public(keys)
    identity, bls_key = bytes.fromhex(public["identity"]), bytes.fromhex(public["bls_key"])
    binding = _bind(operator, keys, bls_key)
    if not founder:
        possession = bytes.fromhex(public["possession"])
        call = register_call(identity, bls_key, possession, binding, address)
        await operator.send(call, wei, address)
        return
    await operator.send(claim_call(identity, binding), wei)
    if address:
        await operator.send(change_address_call(address), 0, address)


def _bind(operator: Operator, keys: "NodeKeys", bls_key: bytes) -> bytes:
    """The key's own signature that ties it to this account, contract and L1."""
    from consensus.bls import KeySigner
    from sequencer.settlement.registry_abi import binding_message

    signer = KeySigner(keys.bls_secret, keys.identity_seed)
    return signer.sign(
        binding_message(
            operator.genesis.chain_id,
            operator.l1.chain_id,
            operator.l1.contract,
            operator.account,
            signer.identity,
            bls_key,
        )
    )


async def _joined(operator: Operator) -> dict[str, Any]:
    """Where a member stands and what happens next, with sentences for a reader."""
    head = await operator.client.head()
    state = await operator.state()
    epoch = await operator.registry.epoch(head)
    pending = await operator.registry.pending(head)
    held = await _is_held(operator, state)
    first = epoch if held else (epoch if pending is None else pending.epoch) + 1
    return {
        **_described(state),
        "l1_block": head.number,
        "epoch": epoch,
        "first_epoch": first,
        "next": _next_step(operator, state, head.number, epoch, first, held),
    }


async def _is_held(operator: Operator, state: "OperatorState") -> bool:
    """Whether the committee of the contract's epoch has this identity in it."""
    present = await operator.registry.members(await operator.client.head())
    return any(member.identity == state.identity for member in present.members)


def _next_step(
    operator: Operator, state: "OperatorState", block: int, epoch: int, first: int, held: bool
) -> str:
    start = f"sequencer start --dir {operator.directory}"
    if not operator.node_has_l1:
        start = f"set l1.url in {operator.directory / 'node.toml'}, else it cannot post; {start}"
    if held:
        return f"it is in the committee of epoch {epoch}; keep it running: {start}"
    when = f"from L1 block {state.active_at} on (now {block})" if state.active_at > block else "now"
    return (
        f"it may be in a snapshot {when}, so the first committee that can hold it is that of epoch "
        f"{first}; until then it follows, then it votes: {start}"
    )


def _described(state: "OperatorState") -> dict[str, Any]:
    return {
        "status": state.status,
        "identity": "0x" + state.identity.hex(),
        "bls_key": "0x" + state.bls_key.hex(),
        "stake_wei": str(state.stake),
        "address": state.address,
        "active_at": state.active_at,
        "exit_at": state.exit_at,
    }


async def _until_held(operator: Operator) -> None:
    """Wait until an epoch of the contract holds this member."""
    while True:
        state = await operator.state()
        if await _is_held(operator, state):
            return
        if state.status not in PRESENT:
            raise NegativeResult("the member has left meanwhile; no epoch will hold it")
        head = await operator.client.head()
        epoch = await operator.registry.epoch(head)
        operator.progress(f"epoch {epoch} is without the member", f"(L1 block {head.number})")
        await asyncio.sleep(POLL_S)


def _tell(told: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(told)
        return
    click.echo(sentence)
    click.echo(f"next: {told['next']}")


# ---------------------------------------------------------------------- out


@click.command(
    epilog="Example: sequencer leave --dir erin && kill the node; later: sequencer exit --dir erin",
)
@l1_option
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until the node is not needed any more.",
)
@directory_option
@password_option
@json_option
def leave(
    l1_url: str | None,
    wait: bool,
    directory: Path,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Take this node's member out of the set, and wait until the node may be stopped.

    That is when an epoch without the member has begun and everything before it is final on the L1;
    until then the committee counts on its votes.  The command may be repeated.
    """
    from sequencer.settlement.registry_abi import leave_call

    async def work(operator: Operator) -> dict[str, Any]:
        state = await operator.state()
        if state.status in (*PRESENT, "none"):
            await operator.send(leave_call())
        if wait:
            await _until_free(operator)
        return await _left(operator)

    told = operate(work, directory, l1_url, password_file)
    _tell(told, as_json, "left" if told["free"] else "leaving: the node is still needed")


async def _until_free(operator: Operator) -> None:
    """Wait until no epoch holds the member, and that is final on the L1."""
    settings = await operator.settings()
    while True:
        final = await operator.client.finalized()
        if await _is_free(operator):
            return
        head = await operator.client.head()
        present = await operator.registry.members(head)
        waiting = _what_leaving_waits_for(present, await operator.state(), settings.min_members)
        operator.progress(waiting, f"(L1 block {head.number}, final {final.number})")
        await asyncio.sleep(POLL_S)


def _what_leaving_waits_for(
    present: "RegistrySnapshot", state: "OperatorState", min_members: int
) -> str:
    size = len(present.members)
    if all(member.identity != state.identity for member in present.members):
        return f"keep the node running: epoch {present.epoch} is without it, but not final yet"
    members = "1 member" if size == 1 else f"{size} members"
    waiting = f"keep the node running: it is one of {members} of epoch {present.epoch}"
    if size <= min_members:
        waiting += f"; a committee has {min_members} at least: somebody has to join"
    return waiting


async def _is_free(operator: Operator) -> bool:
    """An epoch is over on the L1 once all its batches are there."""
    final = await operator.registry.operator(operator.account, await operator.client.finalized())
    return final.status == "exited" or (final.status not in PRESENT and final.exit_at > 0)


async def _left(operator: Operator) -> dict[str, Any]:
    state, free = await operator.state(), await _is_free(operator)
    if state.status == "exited":
        step = "nothing: the member is gone and its stake is paid back"
    elif free:
        step = (
            f"the node may be stopped; {state.stake / 10**18:g} ether come back from L1 block "
            f"{state.exit_at} on: sequencer exit --dir {operator.directory}"
        )
    else:
        step = f"wait with the node running: sequencer leave --dir {operator.directory}"
    return {**_described(state), "free": free, "next": step}


@click.command("exit", epilog="Example: sequencer exit --dir erin")
@l1_option
@directory_option
@password_option
@json_option
def exit_(l1_url: str | None, directory: Path, password_file: Path | None, as_json: bool) -> None:
    """Have the stake of a member that has left paid back to its account."""
    from sequencer.settlement.registry_abi import exit_call
    from sequencer.settlement.wallet import ether

    async def work(operator: Operator) -> dict[str, Any]:
        state, head = await operator.state(), await operator.client.head()
        if state.exit_at > head.number + 1:
            raise NegativeResult(
                f"refused: the stake comes back from L1 block {state.exit_at} on, now it is block "
                f"{head.number}"
            )
        receipt = await operator.send(exit_call())
        return {
            "paid_wei": str(state.stake),
            "l1_transaction": "0x" + receipt.tx_hash.hex(),
            "next": f"{ether(state.stake)} ether are back; the directory is not needed any more",
        }

    _tell(operate(work, directory, l1_url, password_file), as_json, "paid back")


# ---------------------------------------------------------------------- another key


@click.command(epilog="Example: sequencer rotate --dir erin")
@l1_option
@directory_option
@password_option
@json_option
def rotate(l1_url: str | None, directory: Path, password_file: Path | None, as_json: bool) -> None:
    """Give this node's member another BLS key.

    The key is made as keys/bls-next.json and registered.  The running node takes it, without a
    restart, when an epoch begins that names it; the old keystore then goes to keys/archive.  Keep
    the password as it is until then.
    """
    password = read_password(password_file)
    keys = _keys(directory, password)

    async def work(operator: Operator) -> dict[str, Any]:
        state = await operator.state()
        if state.status not in PRESENT:
            await operator.refuse("NotMember" if state.status == "none" else "AlreadyLeft")
        path, secret, is_fresh = _next_key(directory, password, state)
        try:
            await _register_key(operator, replace(keys, bls_secret=secret))
        except NegativeResult:
            if is_fresh:
                path.unlink()
            raise
        return await _rotated(operator)

    told = operate(work, directory, l1_url, password_file)
    _tell(told, as_json, f"registered BLS key {told['bls_key']}")


def _next_key(directory: Path, password: str, state: "OperatorState") -> tuple[Path, bytes, bool]:
    """The next keystore, its secret, and whether it was made just now.

    One that an earlier run left and could not register is taken again.
    """
    from secrets import token_bytes

    from consensus.bls import new_bls_secret
    from sequencer.keyring import NEXT_FILE, make_next_key, stored_key
    from sequencer.keys import KEYS_DIRECTORY, read_keystore

    path = directory / KEYS_DIRECTORY / NEXT_FILE
    if not path.exists():
        secret = new_bls_secret(token_bytes(32))
        return make_next_key(directory, password, secret), secret, True
    if stored_key(path) == state.bls_key:
        raise NegativeResult(
            f"nothing to do: the key in {path} is registered already, and the running node takes "
            "it when an epoch begins that names it"
        )
    return path, read_keystore(path, password), False


async def _register_key(operator: Operator, keys: "NodeKeys") -> None:
    from sequencer.settlement.registry_abi import rotate_call

    public = _public(keys)
    bls_key, possession = bytes.fromhex(public["bls_key"]), bytes.fromhex(public["possession"])
    await operator.send(rotate_call(bls_key, possession, _bind(operator, keys, bls_key)))


async def _rotated(operator: Operator) -> dict[str, Any]:
    state, head = await operator.state(), await operator.client.head()
    epoch = await operator.registry.epoch(head)
    pending = await operator.registry.pending(head)
    first = (epoch if pending is None else pending.epoch) + 1
    return {
        **_described(state),
        "epoch": epoch,
        "first_epoch": first,
        "next": f"keep the node running: it votes with the new key from epoch {first} on, without "
        "a restart, and then archives the old one",
    }
