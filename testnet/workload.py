"""Traffic: what a testnet submits, made from a seed, and the clients that submit it.

Half of it is what wallets send: EIP-1559 transactions signed by eth-account for the chain ids of
two rollups, sent by web3.py to a node's `/rollup/<chain id>`.  The other half is opaque bytes in
two other namespaces, sent through `seq_submit` and through `POST /submit`.
"""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

ROLLUPS: Final = (901, 902)
"""Chain ids, and so namespaces, of the two rollups."""

OPAQUE_NAMESPACES: Final = (7_001, 7_002)
"""The first is served by `seq_submit`, the second by `POST /submit`."""

LANES: Final = 8
"""Clients of each kind per node: each sends one transaction after the other."""

ENVELOPE_BYTES: Final = 118
"""What an EIP-1559 transaction weighs beyond its calldata, about."""

MIN_TRANSACTION_BYTES: Final = 32
"""Shorter opaque payloads might be equal by chance, and equal ones count once."""

MAX_TRANSACTION_BYTES: Final = 90_000
"""Below what the default rules of a genesis admit."""

PART: Final = 1_000
"""Submissions that are signed in one go: about a second."""

MAX_FEE_WEI: Final = 30 * 10**9


@dataclass(frozen=True, slots=True)
class Submission:
    """One transaction, the node (index) that it goes to first, and which client sends it."""

    index: int
    node: int
    namespace: int
    data: bytes
    lane: int = 0

    @property
    def is_ethereum(self) -> bool:
        """Whether a wallet would send it."""
        return self.namespace in ROLLUPS


@dataclass(slots=True)
class Workload:
    """An endless, repeatable stream of submissions to `nodes` nodes.

    Each client has an account of its own, so that the nonces of an account arrive in order.
    """

    seed: int
    nodes: int
    transaction_bytes: int

    def __iter__(self) -> Iterator[Submission]:
        """Submissions 0, 1, 2, ...: kinds alternate, nodes take turns."""
        senders = {
            (rollup, node, lane): _Sender(self._account(rollup, node, lane), rollup)
            for rollup in ROLLUPS
            for node in range(self.nodes)
            for lane in range(LANES)
        }
        index = 0
        while True:
            # Four kinds for one node, then the next node: all nodes get all kinds.
            node, kind = index // 4 % self.nodes, index % 4
            lane = index // (4 * self.nodes) % LANES
            payload = random.Random(f"{self.seed}/{index}")
            if kind % 2 == 0:
                sender = senders[ROLLUPS[kind // 2], node, lane]
                data = sender.sign(payload, self.transaction_bytes)
                yield Submission(index, node, sender.chain_id, data, lane)
            else:
                data = payload.randbytes(self.transaction_bytes)
                yield Submission(index, node, OPAQUE_NAMESPACES[kind // 2], data, lane)
            index += 1

    async def take(self, count: int) -> list[Submission]:
        """The first `count`, signed in a thread: part by part, so that Ctrl-C waits for one."""
        found: list[Submission] = []
        stream = iter(self)
        while len(found) < count:
            part = min(PART, count - len(found))
            found += await asyncio.to_thread(list, itertools.islice(stream, part))
        return found

    def _account(self, rollup: int, node: int, lane: int) -> "LocalAccount":
        from eth_account import Account  # half a second that --help need not wait for

        key = hashlib.sha256(
            f"testnet account {self.seed}/{rollup}/{node}/{lane}".encode()
        ).digest()
        account: LocalAccount = Account.from_key(key)
        return account


class _Sender:
    """One account on one rollup, with its next nonce."""

    def __init__(self, account: "LocalAccount", chain_id: int) -> None:
        self.account = account
        self.chain_id = chain_id
        self.nonce = 0

    def sign(self, payload: random.Random, size: int) -> bytes:
        """The next raw transaction, about `size` bytes."""
        calldata = payload.randbytes(max(0, size - ENVELOPE_BYTES))
        signed = self.account.sign_transaction(
            {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": self.nonce,
                "to": payload.randbytes(20),
                "value": payload.randrange(10**18),
                "data": calldata,
                "gas": 30_000 + 40 * len(calldata),  # covers the floor of EIP-7623
                "maxFeePerGas": MAX_FEE_WEI,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        self.nonce += 1
        return bytes(signed.raw_transaction)
