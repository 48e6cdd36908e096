"""A testnet that stays: supervised by one process until somebody ends it.

The supervisor owns the L1 and the nodes.  Other commands find it through `running.json` and tell
it what to do over its control socket, so a node that is restarted is still its child.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from testnet import table
from testnet.control import ControlServer, Tell, ask
from testnet.errors import TestnetError
from testnet.faults import NODE_VERBS, cut_links, l1_fault, l1_states, link_states, node_states
from testnet.interrupts import Interrupted, heard
from testnet.launch import Plan, Testnet, launch, remove_testnet
from testnet.membership import MEMBER_VERBS
from testnet.report import Progress
from testnet.state import Layout, Running, process_started

REFRESH_S: Final = 1.0


@dataclass(slots=True)
class Supervisor:
    """Runs `testnet` until `stopped` is set, by a signal or by a command.

    A node that fails does not end it: the others go on, and the table says so.
    """

    testnet: Testnet
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, console: Console, with_table: bool) -> None:
        """Serve verbs, and show the live table on `console` if it is a terminal."""
        directory = self.testnet.directory
        control = ControlServer(self.handle)
        port = await control.start()
        for line in self.testnet.layout.describe(directory):
            console.print(line, highlight=False, soft_wrap=True)
        pid = os.getpid()
        Running(pid, process_started(pid), port, control.token).save(directory)
        try:
            if with_table and console.is_terminal:
                await self._show(console)
            await self.stopped.wait()
        finally:
            control.close()
            Running.remove(directory)

    async def handle(self, verb: str, arguments: dict[str, Any], tell: Tell) -> Any:
        """Do what a command asks for.  Raises TestnetError."""
        if verb == "status":
            return {
                "nodes": node_states(self.testnet.cluster),
                "links": link_states(self.testnet),
                "l1": l1_states(self.testnet.l1),
            }
        if verb in NODE_VERBS:
            return await NODE_VERBS[verb](self.testnet, str(arguments.get("node")))
        if verb in MEMBER_VERBS:
            return await MEMBER_VERBS[verb](self.testnet, arguments, tell)
        if verb == "links":
            return cut_links(self.testnet, arguments)
        if verb == "l1":
            return await l1_fault(self.testnet.l1, arguments)
        raise TestnetError(f"unknown verb {verb!r}")

    async def _show(self, console: Console) -> None:
        sampler = table.Sampler(self.testnet.specs)
        try:
            with Live(console=console, auto_refresh=False) as live:
                while not self.stopped.is_set():
                    sampler.specs = self.testnet.specs
                    rows = await sampler.sample(node_states(self.testnet.cluster))
                    live.update(table.render(rows, self._notes()), refresh=True)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(REFRESH_S):
                            await self.stopped.wait()
        finally:
            await sampler.aclose()

    def _notes(self) -> list[str]:
        failures = [
            f"{node.spec.name} failed: {node.last_words()} (testnet restart {node.spec.name})"
            for node in self.testnet.cluster.nodes
            if node.failed
        ]
        wrong = link_states(self.testnet) + l1_states(self.testnet.l1)
        return [*wrong, *failures, "Ctrl-C stops it"]


async def supervise(plan: Plan, fresh: bool, console: Console, with_table: bool) -> None:
    """Bring a testnet up, keep it until a signal asks to end, and stop it cleanly."""
    if fresh:
        remove_testnet(plan.directory)
    stopped = asyncio.Event()
    this = asyncio.current_task()
    assert this is not None
    up, came = False, list[int]()

    def stop(number: int) -> None:
        if not up and not came:
            this.cancel()  # it is still coming up: give that up
        came.append(number)
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in heard():
        loop.add_signal_handler(number, stop, number)
    progress = Progress(console)
    try:
        async with launch(plan, progress) as testnet:
            up = True
            await Supervisor(testnet, stopped).run(console, with_table)
            with progress.stage("stop the nodes"):
                await testnet.cluster.stop()
    except asyncio.CancelledError:
        if not came:
            raise
        raise Interrupted(came[0]) from None


async def snapshot(
    running: Running, layout: Layout, directory: Path
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """The rows of the table, over a second, so that they hold rates.

    And lines about what is wrong on request with its `links` and its `l1`.
    """
    sampler = table.Sampler(layout.specs(directory))
    try:
        await sampler.sample((await ask(running, "status"))["nodes"])
        await asyncio.sleep(REFRESH_S)
        found = await ask(running, "status")
        return await sampler.sample(found.pop("nodes")), found
    finally:
        await sampler.aclose()
