"""Ethereum's JSON forms: parameters in, blocks, transactions, receipts and logs out."""

from collections.abc import Iterator
from typing import Any

import rlp
from eth_utils.crypto import keccak

from testnet.l1.errors import invalid_params
from testnet.l1.evm import Block, Header, Log, Receipt

Json = Any
EMPTY_NONCE = "0x0000000000000000"
EMPTY_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"


def quantity(value: int) -> str:
    """A number as hex without leading zeros."""
    return hex(value)


def data(value: bytes) -> str:
    """Bytes as hex."""
    return "0x" + value.hex()


def word(value: int) -> str:
    """A number as 32 bytes of hex."""
    return f"0x{value:064x}"


def to_bytes(value: Json, name: str, size: int | None = None) -> bytes:
    """Hex bytes from a caller, of exactly `size` if given; raises `RpcError`."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise invalid_params(f"{name}: hex string with 0x prefix expected")
    try:
        found = bytes.fromhex(value[2:])
    except ValueError as error:
        raise invalid_params(f"{name}: {error}") from error
    if size is not None and len(found) != size:
        raise invalid_params(f"{name}: {size} bytes expected, not {len(found)}")
    return found


def to_int(value: Json, name: str) -> int:
    """A hex quantity from a caller, below 2**256; raises `RpcError`."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 66:
        raise invalid_params(f"{name}: hex quantity with 0x prefix expected")
    try:
        return int(value, 16)
    except ValueError as error:
        raise invalid_params(f"{name}: {error}") from error


def contract_address(sender: bytes, nonce: int) -> bytes:
    """The 20-byte address of a contract that `sender` creates with `nonce`."""
    return bytes(keccak(rlp.encode([sender, nonce]))[12:])


def header_json(header: Header) -> dict[str, Json]:
    """A block without its transactions."""
    return {
        "number": quantity(header.block_number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "nonce": EMPTY_NONCE,
        "sha3Uncles": EMPTY_UNCLES,
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": "0x0",
        "extraData": data(header.extra_data),
        "size": quantity(len(rlp.encode(header))),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "uncles": [],
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawals": [],
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
    }


def block_json(block: Block, full: bool) -> dict[str, Json]:
    """A block with its transactions, or their hashes."""
    found = header_json(block.header)
    if full:
        found["transactions"] = [
            transaction_json(transaction, block.header, index)
            for index, transaction in enumerate(block.transactions)
        ]
    else:
        found["transactions"] = [data(transaction.hash) for transaction in block.transactions]
    return found


def transaction_json(
    transaction: Any, header: Header | None = None, index: int | None = None
) -> dict[str, Json]:
    """A transaction, with its place if it has one."""
    found = {
        "blockHash": data(header.hash) if header else None,
        "blockNumber": quantity(header.block_number) if header else None,
        "transactionIndex": quantity(index) if index is not None else None,
        "hash": data(transaction.hash),
        "type": quantity(transaction.type_id or 0),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "nonce": quantity(transaction.nonce),
        "gas": quantity(transaction.gas),
        "value": quantity(transaction.value),
        "input": data(transaction.data),
        "chainId": quantity(transaction.chain_id),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        "v": quantity(transaction.y_parity),
    }
    if transaction.type_id is None:
        found["v"] = quantity(transaction.v)
        found["gasPrice"] = quantity(transaction.gas_price)
        return found
    return found | _typed_fields(transaction, header)


def _typed_fields(transaction: Any, header: Header | None) -> dict[str, Json]:
    found: dict[str, Json] = {
        "yParity": quantity(transaction.y_parity),
        "accessList": [
            {"address": data(address), "storageKeys": [word(slot) for slot in slots]}
            for address, slots in transaction.access_list
        ],
    }
    if transaction.type_id == 1:
        return found | {"gasPrice": quantity(transaction.gas_price)}
    price = effective_gas_price(transaction, header) if header else transaction.max_fee_per_gas
    return found | {
        "maxFeePerGas": quantity(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
        "gasPrice": quantity(price),
    }


def effective_gas_price(transaction: Any, header: Header) -> int:
    """What a transaction pays in a block, in wei a gas."""
    paid = header.base_fee_per_gas + transaction.max_priority_fee_per_gas
    return int(min(transaction.max_fee_per_gas, paid))


def receipts_json(block: Block, receipts: tuple[Receipt, ...]) -> list[dict[str, Json]]:
    """The receipts of a block."""
    found = []
    gas_before = logs_before = 0
    for index, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        creates = not transaction.to
        made = contract_address(transaction.sender, transaction.nonce) if creates else None
        found.append(
            {
                "transactionHash": data(transaction.hash),
                "transactionIndex": quantity(index),
                "blockHash": data(block.header.hash),
                "blockNumber": quantity(block.header.block_number),
                "from": data(transaction.sender),
                "to": None if creates else data(transaction.to),
                "contractAddress": data(made) if made else None,
                "cumulativeGasUsed": quantity(receipt.gas_used),
                "gasUsed": quantity(receipt.gas_used - gas_before),
                "effectiveGasPrice": quantity(effective_gas_price(transaction, block.header)),
                "logs": list(_logs_json(block, index, receipt, logs_before)),
                "logsBloom": f"0x{receipt.bloom:0512x}",
                "status": quantity(int(receipt.state_root == b"\x01")),
                "type": quantity(transaction.type_id or 0),
            }
        )
        gas_before = receipt.gas_used
        logs_before += len(receipt.logs)
    return found


def _logs_json(
    block: Block, index: int, receipt: Receipt, logs_before: int
) -> Iterator[dict[str, Json]]:
    for position, log in enumerate(receipt.logs):
        yield {
            "address": data(log.address),
            "topics": [word(topic) for topic in log.topics],
            "data": data(log.data),
            "blockNumber": quantity(block.header.block_number),
            "blockHash": data(block.header.hash),
            "blockTimestamp": quantity(block.header.timestamp),
            "transactionHash": data(block.transactions[index].hash),
            "transactionIndex": quantity(index),
            "logIndex": quantity(logs_before + position),
            "removed": False,
        }


def log_matches(
    log: Log, addresses: frozenset[bytes], topics: tuple[frozenset[int] | None, ...]
) -> bool:
    """Whether a log passes a filter; no addresses mean any, `None` at a place means any topic."""
    if addresses and log.address not in addresses:
        return False
    if len(topics) > len(log.topics):
        return False
    return all(
        wanted is None or topic in wanted for wanted, topic in zip(topics, log.topics, strict=False)
    )
