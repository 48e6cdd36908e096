"""The next nonce of a sender, from ordering alone.

This node executes nothing, so what Ethereum clients ask by `eth_getTransactionCount` is answered
from the log: the first nonce that is missing above those seen in order.  Seen means since this
node started, and in the last entries before that; `Limits.accounts` senders are remembered, the
least recently active are forgotten and count from 0 again, and what lies below a sender's first
nonce is taken as used.  Of the nonces below a sender's highest one `NONCE_WINDOW` are told apart,
older ones count as used.  A rollup whose wallets need more configures `rollup_rpc`.  A nonce is
refused as past only where it is known to be ordered or that old, so forgetting never refuses a
good transaction.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

NONCE_WINDOW: Final = 256
"""Nonces below the highest ordered one that are remembered one by one; older ones are past."""


@dataclass(slots=True)
class Nonces:
    """The nonces seen of one sender: `end` is one above the highest; bit i of `window` is nonce
    `end - 1 - i`; gaps count from `first` on."""

    end: int = 0
    window: int = 0
    first: int = 0

    def add(self, nonce: int) -> None:
        """One was seen."""
        if not self.window:
            self.first = nonce
        rise = nonce + 1 - self.end
        if rise > 0:
            self.window = (self.window << min(rise, NONCE_WINDOW)) | 1
            self.window &= (1 << NONCE_WINDOW) - 1
            self.end = nonce + 1
        elif -rise < NONCE_WINDOW:
            self.window |= 1 << -rise

    def has(self, nonce: int) -> bool:
        """Whether one was seen, or is too old to tell."""
        if nonce >= self.end:
            return False
        below = self.end - 1 - nonce
        return below >= NONCE_WINDOW or bool(self.window >> below & 1)

    def following(self) -> int:
        """The lowest one from `first` on that was not seen."""
        known = (1 << max(0, min(self.end - self.first, NONCE_WINDOW))) - 1
        return self.end - (~self.window & known).bit_length()


@dataclass(slots=True)
class Account:
    """The nonces of a sender that are `ordered`, and those beside them that were `admitted` here.

    `losses` is what the count of losses was when it was last active.
    """

    losses: int
    ordered: Nonces = field(default_factory=Nonces)
    admitted: Nonces = field(default_factory=Nonces)


class Accounts:
    """Bounded memory of (namespace, sender): pure, no clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._losses = 0
        self._accounts: OrderedDict[tuple[int, bytes], Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def next_nonce(self, namespace: int, sender: bytes, pending: bool) -> int:
        """The first nonce that is not ordered (or with `pending` also not admitted)."""
        account = self._accounts.get((namespace, sender))
        if account is None:
            return 0
        ordered = account.ordered.following()
        return max(ordered, account.admitted.following()) if pending else ordered

    def end(self, namespace: int, sender: bytes) -> int:
        """One above the highest nonce that is ordered."""
        account = self._accounts.get((namespace, sender))
        return account.ordered.end if account else 0

    def is_past(self, namespace: int, sender: bytes, nonce: int) -> bool:
        """Whether a transaction of this nonce is in the log."""
        account = self._accounts.get((namespace, sender))
        return account is not None and account.ordered.has(nonce)

    def admitted(self, namespace: int, sender: bytes, nonce: int) -> None:
        """A transaction was taken here and is not ordered yet."""
        self._touch(namespace, sender, nonce).admitted.add(nonce)

    def ordered(self, namespace: int, sender: bytes, nonce: int) -> None:
        """A transaction is in the log."""
        account = self._touch(namespace, sender, nonce)
        account.ordered.add(nonce)
        account.admitted.add(nonce)

    def lost(self) -> None:
        """Ordered transactions went by unseen: a gap before a sender's next nonce may be none."""
        self._losses += 1

    def _touch(self, namespace: int, sender: bytes, nonce: int) -> Account:
        key = (namespace, sender)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(self._losses)
            if len(self._accounts) > self._most:
                self._accounts.popitem(last=False)
            return account
        self._accounts.move_to_end(key)
        if account.losses != self._losses:
            account.losses = self._losses
            for seen in (account.ordered, account.admitted):
                seen.first = max(seen.first, nonce)
        return account
