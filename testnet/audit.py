"""What is checked at the end of a run, from outside the nodes.

The log is taken from where nobody can dress it up: from the L1 by `derive`, which trusts nothing
but the genesis, and from the disks of nodes that have stopped.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from consensus.bls import BlsCrypto
from consensus.codec import u64
from consensus.epochs import EpochChange, follow
from consensus.errors import InvalidMessage
from sequencer.genesis import GENESIS_FILE, Genesis
from sequencer.ledger import Ledger
from sequencer.receipt import InvalidReceipt, verify_receipt
from sequencer.settlement.abi import batch_posted_topic, decode_batch_posted
from sequencer.settlement.batch import GENESIS_LOG_ROOT, LogEntry, next_log_root
from sequencer.settlement.beacon import BeaconClient
from sequencer.settlement.client import SettlementError
from sequencer.settlement.derive import DerivationError, PostedLog, derive_batches
from sequencer.settlement.ethereum import EthereumClient
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import Table
from testnet.client import NodeClient
from testnet.cluster import NodeSpec
from testnet.errors import TestnetError
from testnet.l1 import L1LaunchError
from testnet.l1.launch import rpc
from testnet.launch import Testnet
from testnet.report import Stage
from testnet.traffic import Accepted

POLL_S: Final = 0.25
STANDSTILL_S: Final = 30.0
"""An L1 whose head or finalized block does not move for so long stands still."""
RECEIPTS_CHECKED: Final = 12


@dataclass(frozen=True, slots=True)
class Derived:
    """The log as the L1 has it, and what posting it cost there: bytes of calldata, gas, blobs."""

    entries: list[LogEntry]
    batches: int
    posters: int
    posted_bytes: int
    gas: int
    blobs: int
    batches_of: Mapping[int, int]
    """Batches by the epoch whose committee signed them."""


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch of a log: its members in order, its heights, how many entries it ordered.

    The last epoch goes on; `last_height` is where the log ends.
    """

    epoch: int
    members: tuple[bytes, ...]
    first_height: int
    last_height: int
    entries: int


def open_client(testnet: Testnet) -> EthereumClient:
    """A client of the testnet's contract; close it."""
    assert testnet.l1 is not None
    assert testnet.genesis.l1 is not None
    return EthereumClient(
        testnet.l1.url, testnet.genesis.l1.contract, testnet.genesis.l1.deploy_block
    )


async def wait_final(
    testnet: Testnet,
    transactions: int,
    timeout_s: float,
    check: Callable[[], None],
    stage: Stage,
) -> None:
    """Wait until batches with all `transactions` entries are final on the L1.

    TestnetError says how far posting is, that the L1 stands still, or that it does not answer.
    """
    client = open_client(testnet)
    deadline = time.monotonic() + timeout_s
    final_block, moved, words = -1, time.monotonic(), "nothing is known"
    try:
        while True:
            check()
            try:
                final = await client.finalized()
                posted = await posted_entries(testnet, (await client.head()).number)
                settled = await posted_entries(testnet, final.number)
                if final.number != final_block:
                    final_block, moved = final.number, time.monotonic()
                words = f"{posted} of {transactions} posted, {settled} final"
                if settled >= transactions:
                    return
            except (SettlementError, L1LaunchError, aiohttp.ClientError, TimeoutError) as error:
                words = f"it fails: {error}"  # perhaps for a moment only
            finally:
                stage.note(words)
            now = time.monotonic()
            if now - moved > STANDSTILL_S:
                where = f"its finalized block is {final_block}"
                raise TestnetError(f"the L1 stands still for {STANDSTILL_S:g} s: {where}; {words}")
            if now > deadline:
                raise TestnetError(f"not all was final on the L1 within {timeout_s:g} s: {words}")
            await asyncio.sleep(POLL_S)
    finally:
        await client.aclose()


async def posted_entries(testnet: Testnet, last_block: int) -> int:
    """How many log entries the batches accepted up to an L1 block hold."""
    assert testnet.l1 is not None
    l1 = testnet.genesis.l1
    assert l1 is not None
    query = {
        "address": "0x" + l1.contract.hex(),
        "topics": ["0x" + batch_posted_topic().hex()],
        "fromBlock": hex(l1.deploy_block),
        "toBlock": hex(last_block),
    }
    logs = await rpc(testnet.l1.url, "eth_getLogs", [query])
    events = (
        decode_batch_posted([_bytes(topic) for topic in log["topics"]], _bytes(log["data"]))
        for log in logs
    )
    return max((event.last_position + 1 for event in events), default=0)


def _bytes(spelled: str) -> bytes:
    return bytes.fromhex(spelled.removeprefix("0x"))


async def derive_log(testnet: Testnet) -> Derived:
    """Rebuild the log from what is final on the L1.  TestnetError if what it holds is not valid."""
    assert testnet.l1 is not None
    client = open_client(testnet)
    entries: list[LogEntry] = []
    batches = posted_bytes = gas = blobs = 0
    batches_of: Counter[int] = Counter()
    beacon = BeaconClient(testnet.l1.url)
    posters: set[str] = set()
    try:
        until = await client.finalized()
        source = PostedLog.of(testnet.genesis)
        async for batch in derive_batches(client, source, until=until, blobs=beacon):
            entries.extend(batch.entries)
            batches += 1
            batches_of[batch.header.epoch] += 1
            receipt = await rpc(
                testnet.l1.url, "eth_getTransactionReceipt", ["0x" + batch.place.tx_hash.hex()]
            )
            gas += int(receipt["gasUsed"], 16)
            posters.add(receipt["from"])
            posted_bytes += len(await client.transaction_input(batch.place.tx_hash))
            blobs += batch.place.blobs
    except (SettlementError, DerivationError) as error:
        raise TestnetError(f"the log cannot be rebuilt from the L1: {error}") from None
    finally:
        await client.aclose()
        await beacon.aclose()
    return Derived(entries, batches, len(posters), posted_bytes, gas, blobs, batches_of)


async def verify_receipts(testnet: Testnet, accepted: Sequence[Accepted]) -> int:
    """Fetch receipts of transactions of every kind from all nodes, and verify them offline.

    TestnetError if one is missing, wrong, or proves another transaction; their number.
    """
    genesis = Genesis.load(testnet.directory / GENESIS_FILE)
    step = max(1, len(accepted) // RECEIPTS_CHECKED)
    chosen = list(accepted)[::step]
    for number, item in enumerate(chosen):
        client = _asked(testnet, number)
        receipt = await client.api.receipt(item.id)
        if receipt is None:
            raise TestnetError(f"{client.url} has no receipt of transaction {item.id.hex()}")
        try:
            verified = verify_receipt(receipt, genesis)
        except InvalidReceipt as error:
            raise TestnetError(f"{client.url} gave an invalid receipt: {error}") from None
        if verified.transaction != item.submission.data:
            raise TestnetError(f"{client.url} gave the receipt of another transaction")
        if item.submission.is_ethereum:
            await _check_ethereum_receipt(testnet, number, item)
    return len(chosen)


def _asked(testnet: Testnet, number: int) -> NodeClient:
    """The nodes that run are asked in turns."""
    nodes = zip(testnet.cluster.nodes, testnet.clients, strict=True)
    running = [client for node, client in nodes if node.is_running]
    return running[number % len(running)]


async def _check_ethereum_receipt(testnet: Testnet, number: int, item: Accepted) -> None:
    """What web3.py asks after sending."""
    from eth_hash.auto import keccak
    from hexbytes import HexBytes

    client = _asked(testnet, number)
    web3 = client.web3(item.submission.namespace)
    found: Mapping[str, Any] = await web3.eth.get_transaction_receipt(
        HexBytes(keccak(item.submission.data))
    )
    if found["status"] != 1:
        raise TestnetError(f"{client.url} says that an ordered transaction failed")


def read_log(testnet: Testnet, spec: NodeSpec) -> list[LogEntry]:
    """The whole log of a node that has stopped, read from its disk."""
    genesis = testnet.genesis
    store = LmdbStore(spec.directory / "data", genesis.chain_id, read_only=True)
    try:
        ledger = Ledger(store, genesis.chain_id, genesis.rules)
        entries = ledger.entries(0, ledger.head.next_position)
        if root_of(entries) != ledger.head.log_root:
            raise TestnetError(f"the log of {spec.name} does not give the log root it stored")
        return entries
    finally:
        store.close()


def read_epochs(testnet: Testnet, spec: NodeSpec, log: Sequence[LogEntry]) -> list[EpochRecord]:
    """The epochs of a node that has stopped and whose log this is, oldest first.

    TestnetError if its chain of committees does not follow from the genesis.
    """
    genesis, changes = testnet.genesis, list[EpochChange]()
    store = LmdbStore(spec.directory / "data", genesis.chain_id, read_only=True)
    try:
        while value := store.get(Table.EPOCHS, u64(genesis.committee.epoch + len(changes) + 1)):
            changes.append(EpochChange.decode(value))
        end = Ledger(store, genesis.chain_id, genesis.rules).head.height
        follow(genesis.committee, genesis.chain_id, changes, BlsCrypto())
    except InvalidMessage as error:
        raise TestnetError(f"{spec.name} has a committee that nobody elected: {error}") from None
    finally:
        store.close()
    committees = [genesis.committee, *(change.committee for change in changes)]
    lasts = [*(change.last.height for change in changes), end]
    found, first = [], 1
    for committee, last in zip(committees, lasts, strict=True):
        entries = sum(first <= entry.height <= last for entry in log)
        members = tuple(member.identity for member in committee.members)
        found.append(EpochRecord(committee.epoch, members, first, last, entries))
        first = last + 1
    return found


def root_of(entries: Sequence[LogEntry]) -> bytes:
    """The log root (32 bytes) after these entries of a whole log."""
    root = GENESIS_LOG_ROOT
    for entry in entries:
        root = next_log_root(root, entry)
    return root


def require_equal(
    name: str, log: Sequence[LogEntry], other: str, reference: Sequence[LogEntry]
) -> None:
    """TestnetError that names the first difference between two logs."""
    for position, (mine, theirs) in enumerate(zip(log, reference, strict=False)):
        if mine != theirs:
            raise TestnetError(
                f"{name} and {other} differ at position {position}: "
                f"height {mine.height} and {theirs.height}, "
                f"namespace {mine.namespace} and {theirs.namespace}, "
                f"{len(mine.transaction)} and {len(theirs.transaction)} bytes"
            )
    if len(log) != len(reference):
        raise TestnetError(f"{name} has {len(log)} entries, {other} has {len(reference)}")


def require_submitted(log: Sequence[LogEntry], accepted: Mapping[bytes, Accepted]) -> None:
    """TestnetError unless the log holds exactly what was submitted, each once."""
    found = sorted((entry.namespace, entry.transaction) for entry in log)
    wanted = sorted((item.submission.namespace, item.submission.data) for item in accepted.values())
    if found != wanted:
        raise TestnetError(
            f"the log holds {len(found)} transactions, "
            f"{len(set(found) & set(wanted))} of the {len(wanted)} that were submitted"
        )
