"""The L1 account of a member: signs type 2 and blob transactions, deterministically (RFC 6979)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sequencer.settlement.blobs import BLOB_TRANSACTION


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers, in wei a gas: at most `max_fee`, of which `tip` to the author.

    `blob_fee` is the most it offers for a unit of blob gas; 0 without blobs.
    """

    max_fee: int
    tip: int
    blob_fee: int = 0


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """The raw bytes to send, and the hash (32 bytes) under which the L1 will know them."""

    raw: bytes
    tx_hash: bytes


class TransactionSigner(Protocol):
    """An account that signs. `address` has 20 bytes; the same fields give the same hash again."""

    address: bytes

    def sign(
        self,
        *,
        nonce: int,
        to: bytes | None,
        data: bytes,
        gas: int,
        fees: Fees,
        value: int = 0,
        blob_hashes: Sequence[bytes] = (),
    ) -> SignedTransaction:
        """A transaction to `to` (20 bytes), or one that creates a contract if it is None.

        With `blob_hashes` (32 bytes each) it carries blobs, and is sent with their sidecar.
        """
        ...


class L1Account:
    """A secp256k1 key (32 bytes) and its address on the chain `chain_id`."""

    def __init__(self, private_key: bytes, chain_id: int) -> None:
        # imported late: it takes half a second, and an observer needs no account
        from eth_account import Account

        self._account = Account.from_key(private_key)
        self._chain_id = chain_id
        self.address = bytes.fromhex(self._account.address.removeprefix("0x"))

    def sign(
        self,
        *,
        nonce: int,
        to: bytes | None,
        data: bytes,
        gas: int,
        fees: Fees,
        value: int = 0,
        blob_hashes: Sequence[bytes] = (),
    ) -> SignedTransaction:
        """A transaction to `to` (20 bytes), or one that creates a contract if it is None.

        With `blob_hashes` (32 bytes each) it carries blobs, and is sent with their sidecar.
        """
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "to": b"" if to is None else to,
            "value": value,
            "data": data,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.tip,
        }
        if blob_hashes:
            fields["type"] = BLOB_TRANSACTION
            fields["maxFeePerBlobGas"] = fees.blob_fee
            fields["blobVersionedHashes"] = list(blob_hashes)
        signed = self._account.sign_transaction(fields)
        return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash))
