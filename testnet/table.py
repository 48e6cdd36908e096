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
    *("node", "state", "round", "height", "transactions", "tx/s", "latency"),
    *("leader", "poster", "L1 lag", "clients"),
)
MISSING: Final = "-"


@dataclass(slots=True)
class Sampler:
    """Asks every node how it is, and remembers the last answers to tell rates from them."""

    specs: Sequence[NodeSpec]
    _clients: dict[str, SequencerClient] = field(default_factory=dict)
    _before: dict[str, tuple[float, int]] = field(default_factory=dict)

    async def sample(self, states: Mapping[str, str]) -> list[dict[str, Any]]:
        """A row per node, JSON-able; `states` says of some of them what their process does."""
        rows = await asyncio.gather(*(self._row(spec, states) for spec in self.specs))
        return list(rows)

    async def _row(self, spec: NodeSpec, states: Mapping[str, str]) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
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
            "round": status.get("round"),
            "height": status.get("height"),
            "transactions": count,
            "tx/s": round(rate, 1),
            "latency": status.get("latency_ms"),
            "leader": self._name_of(status.get("leader")),
            "poster": self._name_of(settlement.get("poster")),
            "L1 lag": settlement.get("lag"),
        }

    def _name_of(self, index: int | None) -> str | None:
        return None if index is None else self.specs[index].name


def render(rows: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> RenderableType:
    """The table, and some lines below it."""
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        textual = column in ("node", "state", "clients")
        table.add_column(column, justify="left" if textual else "right", no_wrap=True)
    for row in rows:
        style = None if row["state"] == "running" else "yellow"
        table.add_row(*(_spell(column, row[column]) for column in COLUMNS), style=style)
    return Group(table, Text(), *(Text(line, style="dim") for line in lines))


def _spell(column: str, value: Any) -> str:
    if value is None:
        return MISSING
    if column == "latency":
        return f"{value:.0f} ms"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
