"""What posting needs in a simulation: signatures that are no points, coroutines that never wait."""

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sequencer.settlement import abi, registry_abi
from sequencer.settlement import derive as derivation
from sequencer.settlement.encoding import SIGNATURE_BYTES
from testnet.l1 import simulated

STUBBED = ("expand_signature", "compress_signature")

T = TypeVar("T")


@contextmanager
def stub_signatures() -> Iterator[None]:
    """Stub signatures are no points of a curve: in calldata they stand as they are, padded."""
    rooms = [vars(module) for module in (abi, registry_abi, derivation, simulated)]
    originals = [dict(room) for room in rooms]
    for room in rooms:
        if "expand_signature" in room:
            room["expand_signature"] = lambda signature: signature.ljust(SIGNATURE_BYTES, b"\0")
        if "compress_signature" in room:
            room["compress_signature"] = lambda expanded: expanded[:96]
    try:
        yield
    finally:
        for room, original in zip(rooms, originals, strict=True):
            room.update({name: original[name] for name in STUBBED if name in original})


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("something waits for what is not the simulated L1")
