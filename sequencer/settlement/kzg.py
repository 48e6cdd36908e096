"""KZG in a process of its own: `ckzg` holds Python's lock, and ordering must not wait for it.

The process reads requests from its standard input and writes answers to its standard output

    request   kind (u8) | length (u32) | data            answer   length (u32) | points of 48 bytes

and ends when its input does, so it cannot outlive the node.  If it fails, the request raises
`KzgError` and the next request starts another process: an alarm, and never a node that stops.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from sequencer.settlement.blobs import (
    CELLS_PER_BLOB,
    G1_BYTES,
    MAX_BLOB_BATCH_BYTES,
    MAX_BLOBS,
    Sidecar,
    blob_count,
    commitments_of,
    encode_blobs,
    prove,
    versioned_hash,
)
from sequencer.settlement.client import SettlementError

COMMAND: Final = (sys.executable, "-m", "sequencer.settlement.kzg")
COMMIT: Final = 0
PROVE_BLOBS: Final = 1
PROVE_CELLS: Final = 2
LENGTH_BYTES: Final = 4
MAX_ANSWER_BYTES: Final = MAX_BLOBS * (1 + CELLS_PER_BLOB) * G1_BYTES
REQUEST_TIMEOUT_S: Final = 60.0
"""Six blobs take 1.5 s after a start of 2 s; on a machine that does much else, ten times that."""
NICENESS: Final = 5
"""Ordering comes first where processors are few."""


class KzgError(SettlementError):
    """Commitments or proofs could not be computed."""


class BlobProver(Protocol):
    """Who computes for the node what blobs need.  Raises `SettlementError`."""

    async def versioned_hashes(self, data: bytes) -> tuple[bytes, ...]:
        """The versioned hashes (32 bytes each) of the blobs that carry `data`."""
        ...

    async def sidecar(self, data: bytes, cells: bool) -> Sidecar:
        """What a transaction carries beside itself, with proofs of cells or of blobs."""
        ...


class KzgProcess:
    """A `BlobProver`; one request after another.  Its process starts with the first one."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    async def versioned_hashes(self, data: bytes) -> tuple[bytes, ...]:
        """See `BlobProver`."""
        return tuple(versioned_hash(point) for point in await self._ask(COMMIT, data))

    async def sidecar(self, data: bytes, cells: bool) -> Sidecar:
        """See `BlobProver`."""
        points = await self._ask(PROVE_CELLS if cells else PROVE_BLOBS, data)
        blobs = encode_blobs(data)
        return Sidecar(blobs, points[: len(blobs)], points[len(blobs) :], cells)

    async def aclose(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _ask(self, kind: int, data: bytes) -> tuple[bytes, ...]:
        expected = _points(kind, blob_count(len(data)))
        async with self._lock:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    answer = await self._exchange(kind, data)
            except (TimeoutError, OSError, EOFError) as error:
                await self.aclose()
                raise KzgError(f"commitments to blobs cannot be computed: {error!r}") from error
            except BaseException:
                await self.aclose()  # its answer would be taken for the next one's
                raise
        if len(answer) != expected * G1_BYTES:
            raise KzgError("the process that computes commitments to blobs answers nonsense")
        return tuple(answer[at : at + G1_BYTES] for at in range(0, len(answer), G1_BYTES))

    async def _exchange(self, kind: int, data: bytes) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_environment(),
            )
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        sink.write(bytes([kind]) + len(data).to_bytes(LENGTH_BYTES, "big") + data)
        await sink.drain()
        size = int.from_bytes(await source.readexactly(LENGTH_BYTES), "big")
        if size > MAX_ANSWER_BYTES:
            raise EOFError("an answer without end")
        return await source.readexactly(size)


def _points(kind: int, blobs: int) -> int:
    """Commitments and proofs in the answer about so many blobs."""
    return blobs * {COMMIT: 1, PROVE_BLOBS: 2, PROVE_CELLS: 1 + CELLS_PER_BLOB}[kind]


def _environment() -> dict[str, str]:
    """Ours, with the directory of these packages importable."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def compute(kind: int, data: bytes) -> Sequence[bytes]:
    """What the process answers: commitments, and proofs after them."""
    if kind == COMMIT:
        return commitments_of(encode_blobs(data))
    sidecar = prove(data, kind == PROVE_CELLS)
    return (*sidecar.commitments, *sidecar.proofs)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until the source ends."""
    while head := source.read(1 + LENGTH_BYTES):
        size = int.from_bytes(head[1:], "big")
        assert size <= MAX_BLOB_BATCH_BYTES
        answer = b"".join(compute(head[0], source.read(size)))
        sink.write(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
        sink.flush()


def main() -> None:
    """The process: an interrupt from the terminal is the node's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
