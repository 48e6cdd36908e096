"""SIGINT, SIGTERM and SIGHUP end a command in order, and once.

Who sees nothing for a second presses Ctrl-C again: that must not interrupt what ends the nodes and
deletes what is temporary.  Signals are listened to again `INSIST_AFTER_S` later, and then end the
process at once; the kernel ends its nodes with it.
"""

import os
import signal
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSIST_AFTER_S: Final = 10.0
"""Longer than ending takes, where nothing hangs."""


class Interrupted(KeyboardInterrupt):
    """One of `SIGNALS` came; `exit_code` is what a shell expects of that."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def heard() -> list[signal.Signals]:
    """Those of `SIGNALS` that we were not started to ignore, as by `nohup`."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def raise_interrupted() -> None:
    """From now on the first signal raises `Interrupted`."""

    def stop(number: int, _frame: FrameType | None) -> None:
        be_deaf()
        raise Interrupted(number)

    _handle_by(stop)


def be_deaf() -> None:
    """From now on signals change nothing, until there is reason to insist."""
    since = time.monotonic()

    def insist(number: int, _frame: FrameType | None) -> None:
        if time.monotonic() - since > INSIST_AFTER_S:
            os._exit(128 + number)

    _handle_by(insist)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`; the first signal cancels `main`, and when that is done raises."""
    import asyncio  # what needs no loop does not wait for it

    came: list[int] = []

    async def whole() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def stop(number: int, _frame: FrameType | None) -> None:
            came.append(number)
            be_deaf()
            loop.call_soon_threadsafe(task.cancel)

        _handle_by(stop)
        return await main

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return asyncio.run(whole())
    except asyncio.CancelledError:
        if came:
            raise Interrupted(came[0]) from None
        raise
    finally:
        if not came:
            for number, handler in before.items():
                signal.signal(number, handler)


def _handle_by(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in heard():
        signal.signal(number, handler)
