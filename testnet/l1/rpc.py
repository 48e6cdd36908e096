"""The JSON-RPC methods of the embedded L1: the `eth_` ones that clients use, and faults on request.

`testnet_stall` and `testnet_resume` stop and start mining, `testnet_reorg(depth, drop?)` replaces
the last blocks, `testnet_spike(base_fee)` sets the next base fee, `testnet_mine(count)` mines now.
"""

import time
from collections.abc import Callable, Iterable

from testnet.l1 import formats
from testnet.l1.chain import CALL_GAS_LIMIT, Call, EmbeddedChain
from testnet.l1.errors import METHOD_NOT_FOUND_CODE, RpcError, invalid_params
from testnet.l1.evm import Header, Log, State
from testnet.l1.formats import Json, data, quantity

CLIENT_VERSION = "sequencer-testnet/embedded-l1/py-evm"
DEFAULT_TIP = 10**9
"""Suggested tip, wei a gas."""
MAX_LOG_RANGE = 50_000
MAX_LOGS = 10_000
MAX_FEE_HISTORY = 1024
MAX_MINE = 1_000
MAX_FILTER_ALTERNATIVES = 1_000
MAX_TOPICS = 4


def clock() -> int:
    """Unix time in seconds."""
    return int(time.time())


class EthereumRpc:
    """Answers one request at a time from an `EmbeddedChain`. `stalled` tells the miner to wait."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain
        self.stalled = False
        self._methods: dict[str, Callable[..., Json]] = {
            "web3_clientVersion": lambda: CLIENT_VERSION,
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: quantity(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [],
            "eth_blockNumber": lambda: quantity(chain.head.block_number),
            "eth_gasPrice": lambda: quantity(chain.next_base_fee() + DEFAULT_TIP),
            "eth_maxPriorityFeePerGas": lambda: quantity(DEFAULT_TIP),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send_raw,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "testnet_stall": lambda: self._set_stalled(True),
            "testnet_resume": lambda: self._set_stalled(False),
            "testnet_reorg": self._reorg,
            "testnet_spike": self._spike,
            "testnet_mine": self._mine,
        }

    def answer(self, method: str, parameters: list[Json]) -> Json:
        """The result of a request, or `RpcError`."""
        handler = self._methods.get(method)
        if handler is None:
            raise RpcError(
                f"the method {method} does not exist/is not available", METHOD_NOT_FOUND_CODE
            )
        try:
            return handler(*parameters)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise invalid_params(f"{method}: wrong number of parameters") from error
            raise

    # blocks

    def _header(self, tag: Json) -> Header:
        """The header a caller means by a tag, number, or EIP-1898 object; not for `pending`."""
        header = self._find_header(tag)
        if header is None:
            raise RpcError("header not found")
        return header

    def _find_header(self, tag: Json) -> Header | None:
        chain = self._chain
        if isinstance(tag, dict):
            if "blockHash" in tag:
                return chain.header_by_hash(formats.to_bytes(tag["blockHash"], "blockHash", 32))
            tag = tag.get("blockNumber")
        if tag in ("latest", "pending", None):
            return chain.head
        if tag in ("safe", "finalized"):
            return chain.header_by_number(chain.finalized_number)
        if tag == "earliest":
            return chain.header_by_number(0)
        return chain.header_by_number(formats.to_int(tag, "block"))

    def _block_by_number(self, tag: Json, full: bool = False) -> Json:
        header = self._find_header(tag)
        return None if header is None else formats.block_json(self._chain.block(header), full)

    def _block_by_hash(self, block_hash: Json, full: bool = False) -> Json:
        return self._block_by_number({"blockHash": block_hash}, full)

    def _block_receipts(self, tag: Json) -> Json:
        header = self._find_header(tag)
        return None if header is None else self._receipts_of(header)

    def _receipts_of(self, header: Header) -> list[dict[str, Json]]:
        block = self._chain.block(header)
        return formats.receipts_json(block, self._chain.receipts(header))

    def _fee_history(self, count: Json, newest: Json, percentiles: Json = None) -> Json:
        wanted = count if isinstance(count, int) else formats.to_int(count, "blockCount")
        last = int(self._header(newest).block_number)
        first = max(0, last - min(wanted, MAX_FEE_HISTORY) + 1)
        headers = [self._header(quantity(number)) for number in range(first, last + 1)]
        after = self._chain.header_by_number(last + 1)
        next_fee = after.base_fee_per_gas if after else self._chain.next_base_fee()
        found: dict[str, Json] = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [
                quantity(fee) for fee in [*(h.base_fee_per_gas for h in headers), next_fee]
            ],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
        }
        if percentiles:
            rewards = [quantity(DEFAULT_TIP)] * len(percentiles)
            found["reward"] = [rewards for _ in headers]
        return found

    # accounts

    def _state(self, tag: Json) -> State:
        if tag == "pending":
            return self._chain.pending_state(clock())
        return self._chain.state_at(self._header(tag))

    def _balance(self, address: Json, tag: Json = "latest") -> str:
        return quantity(self._state(tag).get_balance(_address(address)))

    def _code(self, address: Json, tag: Json = "latest") -> str:
        return data(self._state(tag).get_code(_address(address)))

    def _storage(self, address: Json, slot: Json, tag: Json = "latest") -> str:
        place = formats.to_int(slot, "slot")
        return formats.word(self._state(tag).get_storage(_address(address), place))

    def _transaction_count(self, address: Json, tag: Json = "latest") -> str:
        sender = _address(address)
        if tag != "pending":
            return quantity(self._state(tag).get_nonce(sender))
        nonce = self._state("latest").get_nonce(sender)
        return quantity(self._chain.mempool.pending_nonce(sender, nonce))

    # execution

    def _call(self, message: Json, tag: Json = "latest", overrides: Json = None) -> str:
        _refuse_overrides(overrides)
        state = self._state(tag)
        return data(self._chain.call(state, _to_call(message, state)))

    def _estimate(self, message: Json, tag: Json = "pending", overrides: Json = None) -> str:
        _refuse_overrides(overrides)
        state = self._state(tag)
        return quantity(self._chain.estimate(state, _to_call(message, state)))

    def _send_raw(self, raw: Json) -> str:
        return data(self._chain.submit(formats.to_bytes(raw, "transaction")))

    def _transaction(self, transaction_hash: Json) -> Json:
        wanted = formats.to_bytes(transaction_hash, "hash", 32)
        found = self._chain.find(wanted)
        if found is not None:
            header, index = found
            transaction = self._chain.block(header).transactions[index]
            return formats.transaction_json(transaction, header, index)
        pooled = self._chain.mempool.get(wanted)
        return None if pooled is None else formats.transaction_json(pooled.transaction)

    def _receipt(self, transaction_hash: Json) -> Json:
        found = self._chain.find(formats.to_bytes(transaction_hash, "hash", 32))
        if found is None:
            return None
        header, index = found
        return self._receipts_of(header)[index]

    # logs

    def _logs(self, query: Json) -> Json:
        if not isinstance(query, dict):
            raise invalid_params("filter: object expected")
        addresses = frozenset(_address(entry) for entry in _alternatives(query.get("address")))
        topics = _topics(query.get("topics"))
        found: list[Json] = []
        for header in self._log_headers(query):
            if header.bloom:
                found += self._logs_in(header, addresses, topics)
            if len(found) > MAX_LOGS:
                raise RpcError(f"query returned more than {MAX_LOGS} results", -32005)
        return found

    def _log_headers(self, query: dict[str, Json]) -> Iterable[Header]:
        if "blockHash" in query:
            header = self._find_header({"blockHash": query["blockHash"]})
            if header is None:
                raise RpcError("unknown block")
            return [header]
        head = int(self._chain.head.block_number)
        first = _bound(query.get("fromBlock", "latest"), self._find_header, head + 1)
        last = _bound(query.get("toBlock", "latest"), self._find_header, head)
        if last - first >= MAX_LOG_RANGE:
            raise RpcError(f"block range is larger than {MAX_LOG_RANGE}", -32005)
        return (self._header(quantity(number)) for number in range(first, min(last, head) + 1))

    def _logs_in(
        self,
        header: Header,
        addresses: frozenset[bytes],
        topics: tuple[frozenset[int] | None, ...],
    ) -> list[Json]:
        raw: list[Log] = [log for receipt in self._chain.receipts(header) for log in receipt.logs]
        if not any(formats.log_matches(log, addresses, topics) for log in raw):
            return []
        shaped = [log for receipt in self._receipts_of(header) for log in receipt["logs"]]
        return [
            shape
            for log, shape in zip(raw, shaped, strict=True)
            if formats.log_matches(log, addresses, topics)
        ]

    # faults

    def _set_stalled(self, stalled: bool) -> bool:
        self.stalled = stalled
        return True

    def _reorg(self, depth: Json, drop: bool = False) -> str:
        return data(self._chain.reorg(_count(depth, "depth"), clock(), drop).hash)

    def _spike(self, base_fee: Json) -> bool:
        self._chain.set_next_base_fee(_count(base_fee, "base fee"))
        return True

    def _mine(self, count: Json = 1) -> str:
        for _ in range(min(_count(count, "count"), MAX_MINE)):
            self._chain.mine(clock())
        return quantity(self._chain.head.block_number)


def _address(value: Json) -> bytes:
    return formats.to_bytes(value, "address", 20)


def _count(value: Json, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return formats.to_int(value, name)


def _bound(tag: Json, find: Callable[[Json], Header | None], beyond: int) -> int:
    """The height a caller means as a bound of a range; `beyond` if the chain is not that high."""
    header = find(tag)
    return beyond if header is None else int(header.block_number)


def _alternatives(value: Json) -> list[Json]:
    found = [] if value is None else value if isinstance(value, list) else [value]
    if len(found) > MAX_FILTER_ALTERNATIVES:
        raise invalid_params(f"filter: more than {MAX_FILTER_ALTERNATIVES} alternatives")
    return found


def _topics(value: Json) -> tuple[frozenset[int] | None, ...]:
    places = value or []
    if not isinstance(places, list) or len(places) > MAX_TOPICS:
        raise invalid_params(f"topics: list of at most {MAX_TOPICS} expected")
    return tuple(
        frozenset(formats.to_int(topic, "topic") for topic in _alternatives(place)) or None
        for place in places
    )


def _refuse_overrides(overrides: Json) -> None:
    if overrides:
        raise invalid_params("state overrides are not supported")


def _to_call(message: Json, state: State) -> Call:
    if not isinstance(message, dict):
        raise invalid_params("transaction: object expected")
    sender = _address(message.get("from") or data(bytes(20)))
    recipient = message.get("to")
    gas = message.get("gas")
    return Call(
        sender=sender,
        to=b"" if recipient is None else _address(recipient),
        data=formats.to_bytes(message.get("input") or message.get("data") or "0x", "input"),
        value=formats.to_int(message.get("value") or "0x0", "value"),
        gas=CALL_GAS_LIMIT if gas is None else min(CALL_GAS_LIMIT, formats.to_int(gas, "gas")),
        nonce=state.get_nonce(sender),
    )
