"""The contract's events over Ethereum JSON-RPC: asked for page by page, read with suspicion."""

from collections.abc import Callable
from typing import Any, TypeVar

from sequencer.settlement import abi, registry_abi
from sequencer.settlement.answers import as_bytes, as_bytes32, as_number, as_object
from sequencer.settlement.client import Accepted, Handover, InvalidAnswer
from sequencer.settlement.jsonrpc import JsonRpc

PAGE_BLOCKS = 2_000
"""Blocks asked for at once; the smallest limit among common providers."""
MAX_PAGE_LOGS = 10_000
MAX_EVENT_BYTES = registry_abi.MAX_ADVANCED_BYTES

T = TypeVar("T", Accepted, Handover)


class ContractLogs:
    """What the contract at `contract` (20 bytes), deployed in `deploy_block`, has told."""

    def __init__(self, rpc: JsonRpc, url: str, contract: bytes, deploy_block: int) -> None:
        self._rpc = rpc
        self._url = url
        self._contract = contract
        self._deploy_block = deploy_block

    async def accepted(self, first_block: int, last_block: int) -> list[Accepted]:
        """The batches accepted in these blocks, in order."""
        return await self._pages(abi.batch_posted_topic(), first_block, last_block, _accepted)

    async def handovers(self, first_block: int, last_block: int) -> list[Handover]:
        """The handovers in these blocks, in order."""
        return await self._pages(registry_abi.advanced_topic(), first_block, last_block, _handover)

    async def _pages(
        self,
        topic: bytes,
        first_block: int,
        last_block: int,
        read: Callable[[dict[str, Any], list[bytes], bytes], T],
    ) -> list[T]:
        found: list[T] = []
        first = max(first_block, self._deploy_block)
        while first <= last_block:
            last = min(first + PAGE_BLOCKS - 1, last_block)
            found += await self._page(topic, first, last, read)
            first = last + 1
        return found

    async def _page(
        self,
        topic: bytes,
        first: int,
        last: int,
        read: Callable[[dict[str, Any], list[bytes], bytes], T],
    ) -> list[T]:
        query = {
            "address": "0x" + self._contract.hex(),
            "topics": ["0x" + topic.hex()],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        logs = await self._rpc.call("eth_getLogs", [query])
        if not isinstance(logs, list) or len(logs) > MAX_PAGE_LOGS:
            raise InvalidAnswer(f"the L1 at {self._url} answers logs without end")
        found = [self._read(as_object(log, "log"), read) for log in logs]
        if any(not first <= event.block_number <= last for event in found):
            raise InvalidAnswer(f"the L1 at {self._url} answers logs of blocks not asked for")
        return sorted(found, key=lambda event: (event.block_number, event.log_index))

    def _read(
        self, log: dict[str, Any], read: Callable[[dict[str, Any], list[bytes], bytes], T]
    ) -> T:
        if as_bytes(log.get("address"), "address", 20) != self._contract:
            raise InvalidAnswer("the L1 answers a log of another contract")
        topics = log.get("topics")
        if not isinstance(topics, list):
            raise InvalidAnswer("the L1 answers a log without topics")
        words = [as_bytes32(topic, "topic") for topic in topics]
        try:
            return read(log, words, as_bytes(log.get("data"), "event", MAX_EVENT_BYTES))
        except ValueError as error:
            raise InvalidAnswer(
                f"the L1 answers a log that is not of our event: {error}"
            ) from error


def _accepted(log: dict[str, Any], topics: list[bytes], data: bytes) -> Accepted:
    event = abi.decode_batch_posted(topics, data)
    return Accepted(
        number=event.number,
        log_root=event.log_root,
        data_hash=event.data_hash,
        tx_hash=as_bytes32(log.get("transactionHash"), "transaction hash"),
        block_number=as_number(log.get("blockNumber"), "block number", 64),
        block_hash=as_bytes32(log.get("blockHash"), "block hash"),
        blobs=event.blobs,
        log_index=as_number(log.get("logIndex"), "log index", 32),
    )


def _handover(log: dict[str, Any], topics: list[bytes], data: bytes) -> Handover:
    event = registry_abi.decode_advanced(topics, data)
    return Handover(
        certificate=event.certificate,
        committee=event.committee,
        tx_hash=as_bytes32(log.get("transactionHash"), "transaction hash"),
        block_number=as_number(log.get("blockNumber"), "block number", 64),
        block_hash=as_bytes32(log.get("blockHash"), "block hash"),
        log_index=as_number(log.get("logIndex"), "log index", 32),
    )
