"""Rules of epochs broken in turn; the runs are those in which committees follow each other."""

from testnet.simulation.mutation import Edit, Mutant

_NODE = "sequencer.node:Node"
_EPOCH_END = "consensus.epochs:EpochEnd"
_ORDERING = "consensus.ordering:Ordering"
_COMMITTER = "consensus.committer:Committer"
_HANDOVER = "sequencer.handover:Handover"


_SEEDS = {
    "a committee that waits is no work": (56, 67),
    "no blocks above the last one": (16, 33),
    "transactions above the last block": (1, 4),
    "the two-chain rule ends an epoch": (9, 14),
    "the two-chain rule commits above the last block": (43, 64),
    "who is behind is not answered": (1, 2),
    "votes of any epoch count": (1, 4),
    "a guest speaks with a member's number": (0, 2),
    "who has left keeps its number": (35, 65, 75),
}
"""Seeds that are known to show a mutant that not every seed shows."""


def _broken(rule: str, name: str, *edits: Edit, adversary: str | None = None) -> Mutant:
    return Mutant(rule, name, edits, adversary, changing=True, seeds=_SEEDS.get(name, (0, 1)))


EPOCH_MUTANTS = (
    _broken(
        "Ep2",
        "attestations count without a quorum",
        Edit(
            f"{_EPOCH_END}._is_last",
            "self._committee.is_quorum(",
            "len(newest) > 0 or self._committee.is_quorum(",
        ),
    ),
    _broken(
        "Ep2",
        "a committee that waits is no work",
        Edit(
            f"{_ORDERING}.change_is_pending",
            "return self._me is not None and self._payload.next_committee() is not None",
            "return False",
        ),
    ),
    _broken(
        "Ep3",
        "no blocks above the last one",
        Edit(
            f"{_ORDERING}.propose_at",
            "if self._epoch_end.on(chain) is not None:",
            "if self._epoch_end.on(chain) is not None:\n        return None\n    if False:",
        ),
    ),
    _broken(
        "Ep3",
        "transactions above the last block",
        Edit(f"{_ORDERING}._contents", "self._epoch_end.on(chain) is not None", "False"),
        Edit(
            f"{_ORDERING}.judge",
            "self._epoch_end.on(chain) is not None and (block.collections or block.attestation)",
            "False",
        ),
    ),
    _broken(
        "Ep3",
        "the two-chain rule ends an epoch",
        Edit(
            f"{_COMMITTER}.observe_qc",
            "self._commit(parent.id, CommitProof(None, child, qc))",
            "self._commit(parent.id, CommitProof(None, child, qc))\n"
            "        end = self._epoch_end.last\n"
            "        if end is not None:\n"
            "            self.ended = CommitCertificate(\n"
            "                parent.epoch, parent.round, parent.height, parent.id,\n"
            "                end.next_committee, qc.signers, qc.signature\n"
            "            )",
        ),
    ),
    _broken(
        "Ep3",
        "the two-chain rule commits above the last block",
        Edit(
            f"{_COMMITTER}._is_suffix",
            "return end is not None and block.id != end.block.id",
            "return False",
        ),
    ),
    _broken(
        "Ep3",
        "a commit vote above the last block names its own",
        Edit(
            "consensus.safety:Safety.commit_vote",
            "end if end is not None else (block, ZERO_HASH)",
            "(block, ZERO_HASH)",
        ),
    ),
    _broken(
        "Ep3",
        "an epoch begins before the last block is in the log",
        Edit(
            f"{_NODE}._try_next_epoch",
            "ended is None or self.unapplied or self.ledger.head.block_id != ended.block_id",
            "ended is None or self.replica.head.id != ended.block_id",
        ),
    ),
    _broken(
        "Ep3",
        "the last block of an epoch closes no batch",
        Edit(f"{_NODE}._batch", "end is not None and end.block.id == block.id", "False"),
    ),
    _broken(
        "Ep4",
        "leaders of the committee before",
        Edit(
            "consensus.replica:Replica.leader",
            "self.committee.leader(self.round)",
            "self.committee.leader(self.round + self.committee.epoch)",
        ),
    ),
    _broken(
        "Ep4",
        "watermarks beyond the root",
        Edit(
            f"{_NODE}._begin_epoch",
            "SafetyRecord(self.epoch, change.root)",
            "SafetyRecord(self.epoch, change.root, None, before.record.last_voted_round + 4,"
            " before.record.highest_timeout_round + 4)",
        ),
    ),
    _broken(
        "Ep4",
        "the certificates of the epoch before",
        Edit(
            f"{_NODE}._begin_epoch",
            "SafetyRecord(self.epoch, change.root)",
            "SafetyRecord(self.epoch, before.record.high_qc)",
        ),
    ),
    _broken(
        "Ep4",
        "the record of the epoch before",
        Edit(
            f"{_NODE}._begin_epoch",
            "SafetyRecord(self.epoch, change.root)",
            "before.record",
        ),
    ),
    _broken(
        "Ep4",
        "a change of the epoch is not on the disk",
        Edit(
            "sequencer.epochs:Epochs.begin",
            "writes.put(Table.EPOCHS, u64(epoch), change.encode())",
            "pass",
        ),
    ),
    _broken(
        "Ep4",
        "an epoch is spoken in before it is saved",
        Edit(
            f"{_NODE}._drain",
            "    saved = self._must_save(ready, batches) and self._save()\n",
            "",
        ),
        Edit(
            f"{_NODE}._drain",
            "    for notice in ready.notices:",
            "    saved = self._must_save(ready, batches) and self._save()\n"
            "    for notice in ready.notices:",
        ),
    ),
    _broken(
        "Ep4",
        "who is behind is not answered",
        Edit(f"{_HANDOVER}.on_request", "if changes:", "if False:"),
    ),
    _broken(
        "Ep4",
        "votes of any epoch count",
        Edit(f"{_HANDOVER}.is_for_my_epoch", "theirs is None or theirs == mine", "True"),
        Edit("consensus.verifier:Verifier.check_epoch", "epoch != self._committee.epoch", "False"),
    ),
    _broken(
        "Ep4",
        "a guest speaks with a member's number",
        Edit(
            "sequencer.peers:Peers.__init__",
            "self._next_guest = MAX_MEMBERS",
            "self._next_guest = 0",
        ),
    ),
    _broken(
        "Ep4",
        "who has left is not heard",
        Edit(
            f"{_NODE}.on_frame",
            "self.peers.is_member(handle) or isinstance(message, GUESTS_MAY_SAY)",
            "self.peers.is_member(handle)",
        ),
    ),
    _broken(
        "Ep5",
        "who is no member looks for nothing",
        Edit("consensus.catchup:Catchup.follow", "if now >= self.follow_at:", "if False:"),
    ),
    _broken(
        "Ep5",
        "who has left keeps its number",
        Edit(
            "sequencer.peers:Peers.begin_epoch",
            "indices.get(self.local)",
            "indices.get(self.local, self.me)",
        ),
    ),
)
