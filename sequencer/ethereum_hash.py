"""What Ethereum clients call a transaction: the keccak-256 of its bytes."""

from eth_hash.auto import keccak

from sequencer.collection import transaction_id

_LIST = 0xC0
_LONG_LIST = 0xF7


def is_ethereum_envelope(transaction: bytes) -> bool:
    """Whether the bytes have an Ethereum transaction's outer form.

    That is one RLP list that fills them, behind a type byte of 1 to 4 or none. Every member has to
    answer alike, so this looks at the form alone.
    """
    if len(transaction) < 2:
        return False
    start = 1 if 1 <= transaction[0] <= 4 else 0
    head = transaction[start]
    if head < _LIST:
        return False
    if head <= _LONG_LIST:
        return start + 1 + head - _LIST == len(transaction)
    width = head - _LONG_LIST
    length = int.from_bytes(transaction[start + 1 : start + 1 + width], "big")
    return start + 1 + width + length == len(transaction)


def ethereum_hash(transaction: bytes) -> bytes:
    """The keccak-256 of a transaction, 32 bytes."""
    return bytes(keccak(transaction))


def public_hash(namespace: int, transaction: bytes) -> bytes:
    """What clients ask for a transaction by: its Ethereum hash if it has one, else its id."""
    if is_ethereum_envelope(transaction):
        return ethereum_hash(transaction)
    return transaction_id(namespace, transaction)
