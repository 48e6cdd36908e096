"""`testnet explore`."""

import time

import click

from testnet.errors import TestnetError


@click.command("explore")
@click.option("--nodes", type=click.IntRange(4, 10), default=4, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 8), default=4, show_default=True)
@click.option("--orders", is_flag=True, help="Every order of signatures; two rounds are many.")
def explore_command(nodes: int, rounds: int, orders: bool) -> None:
    """Try everything that the signing rules permit in a few rounds, not samples of it.

    Fewer than a third of the members are faulty and sign anything; the others sign what the
    production code lets them; every block may be proposed, every message come late or never. In
    no state may two blocks of a round be certified, or what is final not stand on one chain.
    Each round takes about twenty times as long as the one before. If the rules permit it: exit
    code 1, and the steps that lead there.

    \b
    Example:  testnet explore --nodes 4 --rounds 4
              testnet explore --nodes 7 --rounds 3
              testnet explore --orders --rounds 2
    """
    from testnet.simulation.exploration import explore_orders, explore_rounds

    began = time.monotonic()
    found = (explore_orders if orders else explore_rounds)(nodes, rounds)
    print(
        f"{nodes} members, {rounds} rounds: {found.states:,} states "
        f"in {time.monotonic() - began:.1f} s"
    )
    if found.violation is not None:
        for step in found.steps:
            print(f"  {step}")
        raise TestnetError(found.violation)
    print("no block of a round is certified beside another; what is final stands on one chain")
