"""The chain of committees from the genesis on: which one governs, how that is proved, what is next.

Rules Ep2 and Ep4. What ended each epoch is stored for ever; it is small, and everything that is
believed across epochs starts with it. The committee to attest is stored until its epoch begins.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from consensus.bls import Crypto
from consensus.codec import u64
from consensus.committee import Committee
from consensus.epochs import EpochChange, decode_committee, encode_committee
from consensus.errors import InvalidMessage
from consensus.types import CommitCertificate
from sequencer.store.schema import META_NEXT_COMMITTEE, Table
from sequencer.store.seam import DAMAGED_ROW, Store, StoreError, WriteBatch

Decoded = TypeVar("Decoded")

MAX_LEARNED = 8
"""Epochs ahead of mine whose committees are kept."""


class Epochs:
    """Where a node is in the chain of epochs; `epoch` is what its safety record says."""

    def __init__(
        self, store: Store, genesis: Committee, chain_id: bytes, crypto: Crypto, epoch: int
    ) -> None:
        self._store = store
        self._genesis = genesis
        self._chain_id = chain_id
        self._crypto = crypto
        self._snapshots: dict[int, Committee] = {}
        self._told: list[EpochChange] = []
        self.change = self.change_to(epoch)
        self.committee = self.change.committee if self.change is not None else genesis
        self._recall_next()

    # ------------------------------------------------------------------ the past

    def change_to(self, epoch: int) -> EpochChange | None:
        """How an epoch began; None for the first one, and for those that have not begun."""
        value = self._store.get(Table.EPOCHS, u64(epoch))
        return _read(EpochChange.decode, value, f"the change to epoch {epoch}")

    def committee_of(self, epoch: int) -> Committee | None:
        """The committee of an epoch that has begun."""
        if epoch == self.committee.epoch:
            return self.committee
        if epoch == self._genesis.epoch:
            return self._genesis
        change = self.change_to(epoch)
        return change.committee if change is not None else None

    def changes(self, from_epoch: int, limit: int) -> list[EpochChange]:
        """How `from_epoch` and those after it ended, oldest first."""
        found: list[EpochChange] = []
        while len(found) < limit and from_epoch < self.committee.epoch:
            from_epoch += 1
            change = self.change if from_epoch == self.committee.epoch else None
            change = change or self.change_to(from_epoch)
            if change is None:
                break
            found.append(change)
        return found

    # ------------------------------------------------------------------ the next

    def learn_snapshot(self, committee: Committee, writes: WriteBatch) -> None:
        """A committee that is final in the registry.

        Ep2: the next one is saved with `writes`, which goes before the block that attests it.
        """
        if not 0 < committee.epoch - self.committee.epoch <= MAX_LEARNED:
            return
        if self._snapshots.get(committee.epoch) != committee:
            self._snapshots[committee.epoch] = committee
            self._keep_next(writes)

    def _recall_next(self) -> None:
        """What was learned before a restart: no L1 is needed to know whom a digest means."""
        value = self._store.get(Table.META, META_NEXT_COMMITTEE)
        committee = _read(decode_committee, value, "the next committee")
        if committee is not None and committee.epoch == self.committee.epoch + 1:
            self._snapshots[committee.epoch] = committee

    def _keep_next(self, writes: WriteBatch) -> None:
        """One row: the committee to attest, none while the registry has named none."""
        following = self._snapshots.get(self.committee.epoch + 1)
        if following is not None:
            writes.put(Table.META, META_NEXT_COMMITTEE, encode_committee(following))
        else:
            writes.delete(Table.META, META_NEXT_COMMITTEE)

    def next_digest(self) -> bytes | None:
        """Ep2: what to attest."""
        following = self._snapshots.get(self.committee.epoch + 1)
        return following.digest if following is not None else None

    def hear(self, changes: Sequence[EpochChange]) -> CommitCertificate | None:
        """What ended my epoch, if that is among these; `InvalidMessage` if it is forged."""
        mine = [change for change in changes if change.certificate.epoch == self.committee.epoch]
        if not mine:
            return None
        mine[0].verify(self.committee, self._chain_id, self._crypto)
        self._told = list(changes)
        return mine[0].certificate

    def successor(self, certificate: CommitCertificate) -> Committee | None:
        """The committee that a certificate names, if it is known here."""
        known = [change.committee for change in self._told]
        known += self._snapshots.values()
        for committee in known:
            if committee.digest == certificate.next_committee:
                return committee
        return None

    def begin(self, change: EpochChange, writes: WriteBatch) -> CommitCertificate | None:
        """Enter the next epoch; what ended that one in turn, if somebody told it already."""
        self.change, self.committee = change, change.committee
        epoch = self.committee.epoch
        writes.put(Table.EPOCHS, u64(epoch), change.encode())
        self._snapshots = {at: kept for at, kept in self._snapshots.items() if at > epoch}
        self._keep_next(writes)
        told, self._told = self._told, []
        try:
            return self.hear([change for change in told if change.certificate.epoch >= epoch])
        except InvalidMessage:
            return None  # the first of what was told was good, this is not


def _read(decode: Callable[[bytes], Decoded], value: bytes | None, what: str) -> Decoded | None:
    try:
        return decode(value) if value is not None else None
    except InvalidMessage:
        raise StoreError(f"{what} {DAMAGED_ROW}") from None
