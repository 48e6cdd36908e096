"""The table of a cluster that runs: a row per node, from what the nodes say about themselves."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sequencer.client import ClientError, Refused, SequencerClient
from testnet.cluster import NodeSpec

STATUS_TIMEOUT_S: Final = 2.0
COLUMNS: Final = (
    *("node", "state", "epoch", "seat", "round", "height", "transactions", "tx/s", "latency"),
    *("leader", "poster", "L1 lag", "clients"),
)
MISSING: Final = "-"
FOLLOWS: Final = "follows"
"""Where a member's index in the committee would stand."""


@dataclass(slots=True)
class Sampler:
    """Asks every node how it is, and remembers the last answers to tell rates from them."""

    specs: Sequence[NodeSpec]
    _clients: dict[str, SequencerClient] = field(default_factory=dict)
    _before: dict[str, tuple[float, int]] = field(default_factory=dict)

    async def sample(self, states: Mapping[str, str]) -> list[dict[str, Any]]:
        """A row per node, JSON-able; `states` says of some of them what their process does."""
        rows = list(await asyncio.gather(*(self._row(spec, states) for spec in self.specs)))
        seats = {(row["epoch"], row["seat"]): row["node"] for row in rows}
        for row in (row for row in rows if row["epoch"] is not None):
            for role in ("leader", "poster"):  # indices in the committee of the row's epoch
                row[role] = seats.get((row["epoch"], row[role]), row[role])
        return rows

    async def _row(self, spec: NodeSpec, states: Mapping[str, str]) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(
            (*COLUMNS, "members", "contract_epoch", "pending_epoch")
        )
        state = states.get(spec.name, "running")
        row |= {"node": spec.name, "state": state, "clients": spec.rpc_url}
        if state != "running":
            return row
        client = self._clients.setdefault(
            spec.name, SequencerClient(spec.rpc_url, STATUS_TIMEOUT_S)
        )
        try:
            status = await client.status()
        except ClientError as error:
            row["state"] = "starting" if isinstance(error, Refused) else "silent"
            return row
        return row | self._read(spec.name, status)

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.close()

    def _read(self, name: str, status: dict[str, Any]) -> dict[str, Any]:
        now, count = time.monotonic(), int(status.get("transactions", 0))
        then, before = self._before.get(name, (now, count))
        self._before[name] = (now, count)
        rate = (count - before) / (now - then) if now > then else 0.0
        settlement = status.get("settlement") or {}
        return {
            "epoch": status.get("epoch"),
            "seat": FOLLOWS if status.get("member") is None else status["member"],
            "members": status.get("peers", 0) + (status.get("member") is not None),
            "contract_epoch": settlement.get("contract_epoch"),
            "pending_epoch": settlement.get("pending_epoch"),
            "round": status.get("round"),
            "height": status.get("height"),
            "transactions": count,
            "tx/s": round(rate, 1),
            "latency": status.get("latency_ms"),
            "leader": status.get("leader"),
            "poster": settlement.get("poster"),
            "L1 lag": settlement.get("lag"),
        }


def render(rows: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> RenderableType:
    """The table, and some lines below it."""
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        textual = column in ("node", "state", "clients")
        table.add_column(column, justify="left" if textual else "right", no_wrap=True)
    for row in rows:
        style = {"running": None, "left": "dim"}.get(row["state"], "yellow")
        table.add_row(*(_spell(column, row[column]) for column in COLUMNS), style=style)
    told = [*describe_epochs(rows), *lines]
    return Group(table, Text(), *(Text(line, style="dim") for line in told))


def describe_epochs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whose epoch it is, here and on the L1, in a line; none while no node answers."""
    epochs = [row["epoch"] for row in rows if row["epoch"] is not None]
    if not epochs:
        return []
    newest = max(epochs)
    members = [
        (row["seat"], row["node"])
        for row in rows
        if row["epoch"] == newest and row["seat"] != FOLLOWS
    ]
    line = f"epoch    {newest}: {', '.join(name for _, name in sorted(members))}"
    count = max(row["members"] for row in rows if row["epoch"] == newest)
    if missing := count - len(members):
        line += f" and {missing} more of its {count} members"
    contract = [row["contract_epoch"] for row in rows if row["contract_epoch"] is not None]
    if contract:
        line += f"; the contract is in epoch {max(contract)}"
        pending = max((row["pending_epoch"] or 0 for row in rows), default=0)
        line += f", the members of epoch {pending} are fixed" if pending > max(contract) else ""
    return [line]


def _spell(column: str, value: Any) -> str:
    if value is None:
        return MISSING
    if column == "latency":
        return f"{value:.0f} ms"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
