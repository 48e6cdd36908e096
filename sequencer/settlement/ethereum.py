"""The settlement seam over Ethereum JSON-RPC: any execution client, any provider.

web3.py is not used: it imports slowly and re-sends requests on its own, raw transactions too.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from sequencer.settlement import abi, registry_abi
from sequencer.settlement.account import Fees, L1Account
from sequencer.settlement.answers import as_bytes, as_bytes32, as_number, as_object
from sequencer.settlement.blobs import MAX_BLOBS, Sidecar, with_sidecar
from sequencer.settlement.client import (
    EMPTY_CONTRACT,
    Accepted,
    CallReverted,
    ContractState,
    Handover,
    InvalidAnswer,
    L1Block,
    L1Mismatch,
    L1Refused,
    L1Unreachable,
    Receipt,
    SendAnswer,
    SendOutcome,
    SettlementError,
    UpkeepState,
)
from sequencer.settlement.jsonrpc import JsonRpc, RevertedCall
from sequencer.settlement.logs import ContractLogs

MAX_INPUT_BYTES = 128 * 1024
"""No Ethereum client takes a larger transaction."""
PENDING_BYTES = 3 * 32
DEPLOY_TIMEOUT_S = 120.0
DEPLOY_POLL_S = 0.1
DEPLOY_GAS_PERCENT = 110
"""Gas to deploy with, in percent of the estimate."""

_OUTCOMES = (
    ("already known", SendOutcome.KNOWN),
    ("alreadyknown", SendOutcome.KNOWN),  # Nethermind
    ("known transaction", SendOutcome.KNOWN),  # Besu
    ("already imported", SendOutcome.KNOWN),  # anvil
    ("nonce too low", SendOutcome.NONCE_TOO_LOW),
    ("oldnonce", SendOutcome.NONCE_TOO_LOW),  # Nethermind
    ("underpriced", SendOutcome.UNDERPRICED),
    ("below minimum", SendOutcome.UNDERPRICED),
    ("replacementnotallowed", SendOutcome.UNDERPRICED),  # Nethermind
    ("feetoolow", SendOutcome.UNDERPRICED),  # Nethermind
    ("less than block base fee", SendOutcome.UNDERPRICED),
    ("insufficient funds", SendOutcome.INSUFFICIENT_FUNDS),
    ("insufficientfunds", SendOutcome.INSUFFICIENT_FUNDS),  # Nethermind
)
"""Words in the refusals of geth, reth, anvil, Nethermind, Besu, Erigon; the first match counts."""

_FAILED_CALL = ("revert", "out of gas", "outofgas", "opcode", "intrinsic gas")
"""Words that say that a call ran and failed, rather than that the endpoint has a problem."""


class EthereumClient:
    """A `SettlementClient` for the contract at `contract` (20 bytes), deployed in `deploy_block`.

    Final is what the L1 calls `finalized`, or, with `finality_depth`, what lies that many blocks
    behind its head.
    """

    def __init__(
        self,
        url: str,
        contract: bytes,
        deploy_block: int = 0,
        *,
        finality_depth: int | None = None,
    ) -> None:
        self.url = url
        self.contract = contract
        self.deploy_block = deploy_block
        self._finality_depth = finality_depth
        self._rpc = JsonRpc(url)
        self._logs = ContractLogs(self._rpc, url, contract, deploy_block)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

    async def check(self, l1_chain_id: int, chain_id: bytes) -> None:
        """Refuse to start on the wrong L1 or contract: `L1Mismatch` or `L1Unreachable`.

        `chain_id` is the digest of the genesis core (32 bytes), which the contract was given.
        """
        found = await chain_id_of(self._rpc)
        if found != l1_chain_id:
            raise L1Mismatch(
                f"the L1 at {self.url} has chain id {found}, but the genesis names {l1_chain_id}"
            )
        address = "0x" + self.contract.hex()
        code = as_bytes(await self._rpc.call("eth_getCode", [address, "latest"]), "code", 1 << 20)
        if not code:
            head = await self.head()
            if head.number < self.deploy_block:
                raise L1Unreachable(
                    f"the L1 at {self.url} has come to block {head.number}, the contract stands in "
                    f"block {self.deploy_block}"
                )
            raise L1Mismatch(
                f"there is no contract at {address} on the L1 at {self.url} (chain id {found})"
            )
        digest = await self._word("chain_id_digest", "latest")
        if digest != chain_id:
            raise L1Mismatch(
                f"the contract at {address} belongs to another chain: it was deployed with "
                f"digest {digest.hex()}, the digest of this genesis is {chain_id.hex()}"
            )

    # what the chain says

    async def head(self) -> L1Block:
        """The newest block."""
        return await self._block("latest")

    async def finalized(self) -> L1Block:
        """The newest final block."""
        if self._finality_depth is None:
            return await self._block("finalized")
        head = await self._block("latest")
        return await self._block(hex(max(0, head.number - self._finality_depth)))

    async def block(self, number: int) -> L1Block:
        """The block at this height; `InvalidAnswer` while there is none."""
        return await self._block(hex(number))

    async def _block(self, tag: str) -> L1Block:
        found = await self._rpc.call("eth_getBlockByNumber", [tag, False])
        if found is None:
            raise InvalidAnswer(f"the L1 at {self.url} has no {tag} block yet")
        block = as_object(found, "block")
        return L1Block(
            number=as_number(block.get("number"), "block number", 64),
            block_hash=as_bytes32(block.get("hash"), "block hash"),
            timestamp_s=as_number(block.get("timestamp"), "timestamp", 64),
            base_fee=as_number(block.get("baseFeePerGas"), "base fee", 128),
        )

    async def contract_state(self, block: L1Block) -> ContractState:
        """The contract after `block`, found by its hash (EIP-1898)."""
        if block.number < self.deploy_block:
            return EMPTY_CONTRACT
        at = {"blockHash": "0x" + block.block_hash.hex()}
        number, root, epoch = await asyncio.gather(
            *(self._word(view, at) for view in ("next_number", "last_log_root", "epoch"))
        )
        return ContractState(int.from_bytes(number, "big"), root, int.from_bytes(epoch, "big"))

    async def upkeep(self, block: L1Block) -> UpkeepState:
        """What the contract waits for after `block`."""
        if block.number < self.deploy_block:
            return UpkeepState()
        pending, due = await asyncio.gather(
            self.read(abi.view_calldata("pending"), block, PENDING_BYTES),
            self.read(abi.view_calldata("snapshot_due"), block, 32),
        )
        try:
            snapshot = registry_abi.decode_pending(pending)
        except ValueError as error:
            raise InvalidAnswer(f"the L1's pending snapshot cannot be read: {error}") from error
        return UpkeepState(snapshot[0] if snapshot else 0, any(due))

    async def _word(self, view: str, block: Any) -> bytes:
        message = {"to": "0x" + self.contract.hex(), "data": "0x" + abi.view_calldata(view).hex()}
        return as_bytes32(await self._rpc.call("eth_call", [message, block]), view)

    async def accepted(self, first_block: int, last_block: int) -> list[Accepted]:
        """The batches accepted in these blocks, in order; asks page by page."""
        return await self._logs.accepted(first_block, last_block)

    async def handovers(self, first_block: int, last_block: int) -> list[Handover]:
        """The handovers to another committee in these blocks, in order."""
        return await self._logs.handovers(first_block, last_block)

    async def transaction_input(self, tx_hash: bytes) -> bytes:
        """The input of a mined transaction."""
        found = await self._rpc.call("eth_getTransactionByHash", ["0x" + tx_hash.hex()])
        if found is None:
            raise InvalidAnswer(f"the L1 at {self.url} has no transaction 0x{tx_hash.hex()}")
        return as_bytes(as_object(found, "transaction").get("input"), "input", MAX_INPUT_BYTES)

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """What became of a transaction."""
        found = await self._rpc.call("eth_getTransactionReceipt", ["0x" + tx_hash.hex()])
        if found is None:
            return None
        receipt = as_object(found, "receipt")
        if receipt.get("blockHash") is None:
            return None  # some clients answer for pending transactions
        contract = receipt.get("contractAddress")
        return Receipt(
            tx_hash=tx_hash,
            block_number=as_number(receipt.get("blockNumber"), "block number", 64),
            block_hash=as_bytes32(receipt.get("blockHash"), "block hash"),
            succeeded=as_number(receipt.get("status"), "status", 1) == 1,
            contract=None if contract is None else as_bytes(contract, "address", 20),
        )

    # what we need to send, and sending

    async def tip(self) -> int:
        """The tip that the L1 suggests, in wei a gas."""
        return as_number(await self._rpc.call("eth_maxPriorityFeePerGas", []), "tip", 128)

    async def balance(self, address: bytes) -> int:
        """Wei at the head."""
        found = await self._rpc.call("eth_getBalance", ["0x" + address.hex(), "latest"])
        return as_number(found, "balance", 256)

    async def nonce(self, address: bytes) -> int:
        """Mined transactions at the head."""
        found = await self._rpc.call("eth_getTransactionCount", ["0x" + address.hex(), "latest"])
        return as_number(found, "nonce", 64)

    async def simulate(
        self, sender: bytes, calldata: bytes, gas: int, blob_hashes: Sequence[bytes] = ()
    ) -> None:
        """`eth_call` on the pending state; raises `CallReverted`."""
        message: dict[str, Any] = {
            "from": "0x" + sender.hex(),
            "to": "0x" + self.contract.hex(),
            "gas": hex(gas),
            "input": "0x" + calldata.hex(),
        }
        if blob_hashes:
            message["maxFeePerBlobGas"] = hex(2 * await self.blob_base_fee())
            message["blobVersionedHashes"] = ["0x" + found.hex() for found in blob_hashes]
        await self._call(message, "pending")

    async def estimate(self, sender: bytes, calldata: bytes) -> int:
        """`eth_estimateGas` on the pending state; raises `CallReverted`."""
        message = {
            "from": "0x" + sender.hex(),
            "to": "0x" + self.contract.hex(),
            "data": "0x" + calldata.hex(),
        }
        return as_number(await self._call(message, "pending", "eth_estimateGas"), "gas", 64)

    async def read(self, calldata: bytes, block: L1Block | None, limit: int) -> bytes:
        """The answer of a view after `block` (None: the newest), at most `limit` bytes; raises
        `CallReverted` too."""
        message = {"to": "0x" + self.contract.hex(), "input": "0x" + calldata.hex()}
        at = "latest" if block is None else {"blockHash": "0x" + block.block_hash.hex()}
        return as_bytes(await self._call(message, at), "answer", limit)

    async def _call(self, message: dict[str, Any], block: Any, method: str = "eth_call") -> Any:
        try:
            return await self._rpc.call(method, [message, block])
        except RevertedCall as error:
            raise CallReverted(abi.decode_revert(error.data) or str(error)) from error
        except L1Refused as error:
            if any(word in str(error).lower() for word in _FAILED_CALL):
                raise CallReverted(str(error)) from error
            raise

    async def send(self, raw: bytes, sidecar: Sidecar | None = None) -> SendAnswer:
        """Hand over a signed transaction."""
        pooled = raw if sidecar is None else with_sidecar(raw, sidecar)
        try:
            await self._rpc.call("eth_sendRawTransaction", ["0x" + pooled.hex()])
        except L1Refused as error:
            text = str(error)
            return SendAnswer(classify_refusal(text), text)
        except SettlementError as error:
            return SendAnswer(SendOutcome.UNREACHABLE, str(error))
        return SendAnswer(SendOutcome.ACCEPTED)

    # blobs

    async def blob_base_fee(self) -> int:
        """Wei for a unit of blob gas in the next block; `L1Refused` where there are no blobs."""
        return as_number(await self._rpc.call("eth_blobBaseFee", []), "blob base fee", 128)

    async def takes_cells(self) -> bool:
        """Osaka brought the cells and the precompile P256VERIFY (EIP-7607): asked by EIP-7910.

        An L1 that does not say which fork it is at is taken for one of today.
        """
        try:
            answer = as_object(await self._rpc.call("eth_config", []), "configuration")
        except L1Refused:
            return True
        current = as_object(answer.get("current"), "current configuration")
        return "P256VERIFY" in as_object(current.get("precompiles"), "list of precompiles")

    async def blob_hashes(self, tx_hash: bytes) -> tuple[bytes, ...]:
        """The versioned hashes of a mined transaction's blobs."""
        found = await self._rpc.call("eth_getTransactionByHash", ["0x" + tx_hash.hex()])
        hashes = as_object(found, "transaction").get("blobVersionedHashes", [])
        if not isinstance(hashes, list) or len(hashes) > MAX_BLOBS:
            raise InvalidAnswer(f"the L1 at {self.url} answers a transaction of endless blobs")
        return tuple(as_bytes32(item, "versioned hash") for item in hashes)

    async def timestamp_s(self, block_hash: bytes) -> int:
        """When a block was made."""
        found = await self._rpc.call("eth_getBlockByHash", ["0x" + block_hash.hex(), False])
        return as_number(as_object(found, "block").get("timestamp"), "timestamp", 64)


def classify_refusal(text: str) -> SendOutcome:
    """What an L1 client means by refusing a raw transaction with these words."""
    words = text.lower()
    for part, outcome in _OUTCOMES:
        if part in words:
            return outcome
    return SendOutcome.REJECTED


async def chain_id_of(rpc: JsonRpc) -> int:
    """The L1's own chain id. Raises `SettlementError`."""
    return as_number(await rpc.call("eth_chainId", []), "chain id", 256)


async def fetch_l1_chain_id(url: str) -> int:
    """The chain id of the L1 at `url`. Raises `SettlementError`."""
    rpc = JsonRpc(url)
    try:
        return await chain_id_of(rpc)
    finally:
        await rpc.aclose()


async def require_blobs(url: str) -> None:
    """See that the L1 at `url` takes blobs: `SettlementError` with a sentence if it does not."""
    client = EthereumClient(url, bytes(20))
    try:
        await client.blob_base_fee()
    except L1Refused as error:
        raise SettlementError(
            f'the L1 at {url} takes no blobs ({error}); post to it with data "calldata", or choose '
            "an L1 of the Cancun fork or later"
        ) from error
    finally:
        await client.aclose()


async def deploy(url: str, account: L1Account, creation_code: bytes) -> tuple[bytes, int]:
    """Create a contract and wait until it is mined: its address (20 bytes) and block number.

    `creation_code` is bytecode and constructor arguments. Raises `SettlementError`.
    """
    client = EthereumClient(url, bytes(20))
    rpc = JsonRpc(url)
    try:
        sender = "0x" + account.address.hex()
        message = {"from": sender, "data": "0x" + creation_code.hex()}
        estimate = as_number(await rpc.call("eth_estimateGas", [message]), "gas", 64)
        head, tip = await asyncio.gather(client.head(), client.tip())
        signed = account.sign(
            nonce=await client.nonce(account.address),
            to=None,
            data=creation_code,
            gas=estimate * DEPLOY_GAS_PERCENT // 100,
            fees=Fees(2 * head.base_fee + tip, tip),
        )
        answer = await client.send(signed.raw)
        if answer.outcome not in (SendOutcome.ACCEPTED, SendOutcome.KNOWN):
            raise SettlementError(f"the L1 refused the deployment: {answer.text}")
        async with asyncio.timeout(DEPLOY_TIMEOUT_S):
            return await _created(client, signed.tx_hash)
    except TimeoutError as error:
        raise L1Unreachable(f"not mined within {DEPLOY_TIMEOUT_S:g} s on {url}") from error
    finally:
        await client.aclose()
        await rpc.aclose()


async def _created(client: EthereumClient, tx_hash: bytes) -> tuple[bytes, int]:
    while True:
        receipt = await client.receipt(tx_hash)
        if receipt is not None and receipt.contract is not None and receipt.succeeded:
            return receipt.contract, receipt.block_number
        if receipt is not None:
            raise SettlementError(f"the deployment 0x{tx_hash.hex()} failed on the L1")
        await asyncio.sleep(DEPLOY_POLL_S)
