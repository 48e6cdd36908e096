"""The next nonce of a sender, from ordering alone.

This node executes nothing, so what Ethereum clients ask by `eth_getTransactionCount` is answered
from the log: the highest nonce seen in order, plus one.  Seen means since this node started, and
in the last `SEEDED_ENTRIES` entries before that; `Limits.accounts` senders are remembered, the
least recently active are forgotten and count from 0 again.  A rollup whose wallets need more
configures `rollup_rpc`.  A nonce is refused as past only where it is known to be ordered, so
forgetting never refuses a good transaction.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

NONCE_WINDOW: Final = 256
"""Nonces below the highest ordered one that are remembered one by one; older ones are past."""


@dataclass(slots=True)
class Account:
    """`ordered` and `admitted` are one above the highest nonce; bit i of `window` is nonce
    `ordered - 1 - i`."""

    ordered: int = 0
    admitted: int = 0
    window: int = 0


class Accounts:
    """Bounded memory of (namespace, sender): pure, no clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._accounts: OrderedDict[tuple[int, bytes], Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def next_nonce(self, namespace: int, sender: bytes, pending: bool) -> int:
        """One above the highest nonce that is ordered (or with `pending` also only admitted)."""
        account = self._accounts.get((namespace, sender))
        if account is None:
            return 0
        return max(account.ordered, account.admitted) if pending else account.ordered

    def is_past(self, namespace: int, sender: bytes, nonce: int) -> bool:
        """Whether a transaction of this nonce is in the log."""
        account = self._accounts.get((namespace, sender))
        if account is None or nonce >= account.ordered:
            return False
        below = account.ordered - 1 - nonce
        return below >= NONCE_WINDOW or bool(account.window >> below & 1)

    def admitted(self, namespace: int, sender: bytes, nonce: int) -> None:
        """A transaction was taken here and is not ordered yet."""
        account = self._touch(namespace, sender)
        account.admitted = max(account.admitted, nonce + 1)

    def ordered(self, namespace: int, sender: bytes, nonce: int) -> None:
        """A transaction is in the log."""
        account = self._touch(namespace, sender)
        rise = nonce + 1 - account.ordered
        if rise > 0:
            account.window = (account.window << min(rise, NONCE_WINDOW)) | 1
            account.window &= (1 << NONCE_WINDOW) - 1
            account.ordered = nonce + 1
        elif -rise < NONCE_WINDOW:
            account.window |= 1 << -rise

    def _touch(self, namespace: int, sender: bytes) -> Account:
        key = (namespace, sender)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account()
            if len(self._accounts) > self._most:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key)
        return account
