"""EVMs behind one small interface, so that each test of the contract runs on all of them."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount

from sequencer.settlement.blobs import (
    BLOB_TRANSACTION,
    Sidecar,
    empty_sidecar,
    with_sidecar,
)
from sequencer.settlement.contracts.evm import CHAIN_ID, LocalEvm, Outcome
from testnet.l1.precompiles import NATIVE_BLS_PRECOMPILES

GAS_LIMIT = 16_777_216
ACCOUNTS: list[LocalAccount] = [Account.from_key(bytes([7, number]) * 16) for number in range(1, 9)]


def address_of(account: LocalAccount) -> bytes:
    return bytes.fromhex(account.address[2:])


def zeros(count: int) -> Sidecar:
    """So many blobs of zeros."""
    one = empty_sidecar(cells=True)
    return Sidecar(one.blobs * count, one.commitments * count, one.proofs * count, one.cells)


class Evm(Protocol):
    """An L1 where the `ACCOUNTS` are funded."""

    chain_id: int

    def nonce(self, address: bytes) -> int: ...

    def transact_raw(self, raw: bytes) -> Outcome: ...

    def mine(self, blocks: int) -> None: ...

    def balance(self, address: bytes) -> int: ...


def transact(
    evm: Evm,
    to: bytes,
    data: bytes,
    *,
    account: LocalAccount = ACCOUNTS[0],
    gas: int = GAS_LIMIT,
    value: int = 0,
    authorizations: list[Any] | None = None,
    blob_hashes: Sequence[bytes] = (),
) -> Outcome:
    """Sign and run a transaction; an empty `to` creates a contract."""
    transaction: dict[str, Any] = {
        "chainId": evm.chain_id,
        "nonce": evm.nonce(address_of(account)),
        "maxFeePerGas": 100 * 10**9,
        "maxPriorityFeePerGas": 0,
        "gas": gas,
        "to": to,
        "value": value,
        "data": data,
    }
    if authorizations is not None:
        transaction["authorizationList"] = authorizations
    if blob_hashes:
        transaction |= {"blobVersionedHashes": list(blob_hashes), "maxFeePerBlobGas": 10**9}
        transaction["type"] = BLOB_TRANSACTION
    return evm.transact_raw(bytes(account.sign_transaction(transaction).raw_transaction))


class EmbeddedEvm:
    """py-evm in this process."""

    def __init__(self, chain_id: int = CHAIN_ID) -> None:
        self.chain_id = chain_id
        funded = [address_of(account) for account in ACCOUNTS]
        self._evm = LocalEvm(funded, NATIVE_BLS_PRECOMPILES, chain_id)

    def nonce(self, address: bytes) -> int:
        return self._evm.nonce(address)

    def transact_raw(self, raw: bytes) -> Outcome:
        return self._evm.transact(raw)

    def mine(self, blocks: int) -> None:
        self._evm.mine(blocks)

    def balance(self, address: bytes) -> int:
        return self._evm.balance(address)


class AnvilEvm:
    """anvil in a process of its own, a block per transaction."""

    def __init__(self, binary: Path) -> None:
        self.chain_id = CHAIN_ID
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [binary, "--port", str(port), "--chain-id", str(CHAIN_ID), "--hardfork", "osaka"],
            stdout=subprocess.DEVNULL,
        )
        try:
            self._wait_until_it_answers()
            for account in ACCOUNTS:
                self._rpc("anvil_setBalance", account.address, hex(10**24))
        except BaseException:
            self.close()
            raise

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                self._rpc("eth_chainId")
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _rpc(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        request = urllib.request.Request(
            self._url, body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            answer = json.load(response)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def nonce(self, address: bytes) -> int:
        return int(self._rpc("eth_getTransactionCount", "0x" + address.hex(), "latest"), 16)

    def mine(self, blocks: int) -> None:
        self._rpc("anvil_mine", hex(blocks))

    def balance(self, address: bytes) -> int:
        return int(self._rpc("eth_getBalance", "0x" + address.hex(), "latest"), 16)

    def _wait_for_receipt(self, identity: str) -> Any:
        deadline = time.monotonic() + 20
        while (receipt := self._rpc("eth_getTransactionReceipt", identity)) is None:
            assert time.monotonic() < deadline, "anvil does not mine"
            time.sleep(0.002)
        return receipt

    def transact_raw(self, raw: bytes) -> Outcome:
        """A blob transaction may name only blobs of zeros: they come here, with their proofs."""
        if raw[0] == BLOB_TRANSACTION:
            raw = with_sidecar(raw, zeros(len(rlp.decode(raw[1:])[10])))
        identity = self._rpc("eth_sendRawTransaction", "0x" + raw.hex())
        receipt = self._wait_for_receipt(identity)
        trace = self._rpc("debug_traceTransaction", identity, {"tracer": "callTracer"})
        return Outcome(
            success=receipt["status"] == "0x1",
            output=bytes.fromhex(trace.get("output", "0x")[2:]),
            gas_used=int(receipt["gasUsed"], 16),
            created=bytes.fromhex((receipt["contractAddress"] or "0x")[2:]),
            logs=[
                ([bytes.fromhex(t[2:]) for t in log["topics"]], bytes.fromhex(log["data"][2:]))
                for log in receipt["logs"]
            ],
        )
