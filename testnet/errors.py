"""What a testnet fails with."""

import asyncio
from typing import Any


class TestnetError(Exception):
    """It did not succeed; the message is one sentence that says what is wrong."""

    __test__ = False  # pytest would take the name for a test class


def sentence_of(task: asyncio.Task[Any]) -> None:
    """Raise what a finished task failed with, the TestnetError out of a group of them first."""
    if not task.done() or task.cancelled():
        return
    failure = task.exception()
    while isinstance(failure, BaseExceptionGroup):
        ours, _ = failure.split(TestnetError)
        failure = (ours or failure).exceptions[0]
    if failure is not None:
        raise failure
