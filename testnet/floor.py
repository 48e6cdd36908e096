"""What this machine takes for the parts that the protocol cannot do without: the floor.

Absolute figures wander with the machine and its mood; measured in the same run as the cluster,
they turn a latency into a ratio that can be compared.
"""

import hashlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from consensus.bls import BlsCrypto, KeySigner, new_bls_secret

ROUNDS: Final = 60
MESSAGE: Final = b"a message that is about as long as a vote" * 3
HASHED_BYTES: Final = 1 << 20
ECHO_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Floor:
    """Medians in milliseconds; `sha256_mb_per_s` of one thread."""

    bls_sign_ms: float
    bls_verify_ms: float
    bls_verify_quorum_ms: float
    """A certificate of three."""
    ed25519_sign_ms: float
    ed25519_verify_ms: float
    lmdb_commit_ms: float
    """One small transaction, fully synced, on the disk of the testnet's directory."""
    echo_ms: float
    """256 bytes over loopback TCP to another thread and back."""
    sha256_mb_per_s: float

    @property
    def commit_ms(self) -> float:
        """The shortest way of a lone transaction to its commit certificate, nothing overlapping.

        Collection and proposal out, votes, commit votes: four one-way messages. On the way: the
        proposal is signed and verified; each phase signs once, verifies one certificate and saves
        once before it speaks; the log is saved before a client is told.
        """
        messages = 2 * self.echo_ms
        identity = self.ed25519_sign_ms + self.ed25519_verify_ms
        phase = self.bls_sign_ms + self.bls_verify_quorum_ms + self.lmdb_commit_ms
        return messages + identity + 2 * phase + self.lmdb_commit_ms

    def to_json(self) -> dict[str, float]:
        """All figures, rounded."""
        figures = asdict(self) | {"commit_ms": self.commit_ms}
        return {name: round(value, 3) for name, value in figures.items()}


def measure(directory: Path) -> Floor:
    """Measure for about a second; the disk is the one that `directory` is on."""
    signers = [KeySigner(new_bls_secret(bytes([index]) * 32), bytes(32)) for index in range(3)]
    crypto = BlsCrypto()
    keys = [signer.bls_key for signer in signers]
    signatures = [signer.sign(MESSAGE) for signer in signers]
    quorum = crypto.aggregate(signatures)
    assert quorum is not None
    identity = signers[0].sign_identity(MESSAGE)
    block = bytes(HASHED_BYTES)
    hashing = _median_ms(lambda: hashlib.sha256(block).digest())
    return Floor(
        bls_sign_ms=_median_ms(lambda: signers[0].sign(MESSAGE)),
        bls_verify_ms=_median_ms(lambda: crypto.verify(keys[0], MESSAGE, signatures[0])),
        bls_verify_quorum_ms=_median_ms(lambda: crypto.verify_aggregate(keys, MESSAGE, quorum)),
        ed25519_sign_ms=_median_ms(lambda: signers[0].sign_identity(MESSAGE)),
        ed25519_verify_ms=_median_ms(
            lambda: crypto.verify_identity(signers[0].identity, MESSAGE, identity)
        ),
        lmdb_commit_ms=_lmdb_commit_ms(directory),
        echo_ms=_echo_ms(),
        sha256_mb_per_s=HASHED_BYTES / 1_000 / hashing,
    )


def _median_ms(action: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1_000


def _lmdb_commit_ms(directory: Path) -> float:
    import lmdb

    with TemporaryDirectory(dir=directory) as place, lmdb.open(place) as environment:

        def commit() -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(os.urandom(16), bytes(300))

        return _median_ms(commit)


def _echo_ms() -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = threading.Thread(target=_serve_echo, args=(server,), daemon=True)
        echo.start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def once() -> None:
                client.sendall(bytes(ECHO_BYTES))
                left = ECHO_BYTES
                while left:
                    left -= len(client.recv(left))

            median = _median_ms(once)
        echo.join()
    return median


def _serve_echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(ECHO_BYTES):
            connection.sendall(data)
