"""Each rule broken in turn, to prove that the simulation would notice; `mutation` says how."""

from testnet.simulation.epoch_mutants import EPOCH_MUTANTS
from testnet.simulation.live_mutants import LIVE_MUTANTS
from testnet.simulation.mutation import Edit, Mutant

_SAFETY = "consensus.safety:Safety"
_REPLICA = "consensus.replica:Replica"
_PROPOSALS = "consensus.proposals:Proposals"
_ORDERING = "consensus.ordering:Ordering"
_VERIFIER = "consensus.verifier:Verifier"

SAFETY_MUTANTS = (
    Mutant(
        "V1",
        "a second vote in a round",
        (
            Edit(
                f"{_PROPOSALS}.try_vote",
                "self._safety.record.last_voted_round >= block.round",
                "False",
            ),
            Edit(f"{_SAFETY}._check_vote", "block.round < record.last_voted_round", "False"),
            Edit(f"{_SAFETY}._check_vote", "block.round == record.last_voted_round", "False"),
            Edit(f"{_SAFETY}.vote", "block.round == record.last_voted_round", "False"),
            Edit(
                f"{_PROPOSALS}._equivocation",
                "self._accused_round = block.round",
                "self._by_round[block.round] = second\n    self.keep_blocks()",
            ),
        ),
        "equivocating leader",
        seeds=(0, 1, 4),
    ),
    Mutant(
        "V2",
        "a QC below the TC's highest",
        (
            Edit(
                "consensus.safety:follows_certificates",
                "block.tc.high_qc_round <= block.qc.round < block.round",
                "True",
            ),
        ),
        "hider",
        seeds=(6,),
    ),
    Mutant(
        "V2",
        "any QC of any round",
        (
            Edit(
                "consensus.safety:follows_certificates", "block.qc.round + 1 == block.round", "True"
            ),
        ),
        "stale certificates",
        seeds=(1, 6, 14),
    ),
    Mutant(
        "V3",
        "the block's QC is not processed before the vote",
        (
            Edit(f"{_REPLICA}._on_proposal", "self._learn_qc(block.qc)", "pass"),
            Edit(f"{_SAFETY}._check_vote", "record.high_qc.round < block.qc.round", "False"),
        ),
        "hider",
        seeds=(7, 17, 20),
    ),
    Mutant(
        "V4",
        "a vote without the collections",
        (
            Edit(
                f"{_PROPOSALS}.try_vote",
                "not all(self._payload.holds(digest) for digest in block.collections)",
                "False",
            ),
        ),
        "collection to leader only",
        seeds=(0, 1, 2),
    ),
    Mutant(
        "V5",
        "a block that orders a collection again",
        (Edit(f"{_ORDERING}.judge", "self._tree.repeats(block, chain)", "False"),),
        "hider",
        seeds=(17, 24, 32),
    ),
    Mutant(
        "T1",
        "a vote after a timeout",
        (Edit(f"{_SAFETY}._check_vote", "block.round <= record.highest_timeout_round", "False"),),
        "hider",
        seeds=(0, 1, 2),
    ),
    Mutant(
        "T1",
        "a commit vote after a timeout",
        (Edit(f"{_SAFETY}.commit_vote", "qc.round <= record.highest_timeout_round", "False"),),
        "hider",
        seeds=(0, 1, 4),
    ),
    Mutant(
        "T2",
        "a timeout that names less than the lock",
        (
            Edit(
                f"{_SAFETY}.timeout",
                "record = self.record\n",
                "record = self.record\n"
                "    if record.high_tc and record.high_tc.round == round - 1:\n"
                "        record = replace(record, high_qc=record.high_tc.high_qc)\n",
            ),
            Edit(f"{_SAFETY}.timeout", "replace(record, highest", "replace(self.record, highest"),
        ),
        "hider",
        seeds=(3, 7),
    ),
    Mutant(
        "L1",
        "a commit vote for a block without a QC",
        (
            Edit(
                f"{_PROPOSALS}.try_vote",
                "self._out.send(None, vote)",
                "self._out.send(None, vote)\n"
                "    qc = type(block.qc)(0, block.round, block.id, b'', b'')\n"
                "    self._out.send(None, self._safety.commit_vote(block, qc))",
            ),
            Edit(f"{_SAFETY}.commit_vote", "qc.round > record.high_qc.round", "False"),
        ),
        seeds=(0, 1, 2),
    ),
    Mutant(
        "L2",
        "the timeout watermark is lost in a restart",
        (
            Edit(
                "consensus.safety:SafetyRecord._read",
                "(reader.u64(), reader.u64(), reader.u64())",
                "(reader.u64(), 0 * reader.u64(), reader.u64())",
            ),
        ),
        "hider",
        seeds=(0, 1, 3),
    ),
    Mutant(
        "S1",
        "the last vote is lost in a restart",
        (
            Edit(
                "consensus.safety:SafetyRecord._read",
                "(reader.u64(), reader.u64(), reader.u64())",
                "(0 * reader.u64(), reader.u64(), reader.u64())",
            ),
        ),
        "equivocating leader",
        seeds=(0, 3, 6),
    ),
    Mutant(
        "P1",
        "a restarted leader proposes again",
        (
            Edit(
                f"{_SAFETY}.propose",
                "stored is not None and block.round <= stored.block.round",
                "False",
            ),
            Edit(f"{_SAFETY}.propose", "block.round <= self.record.last_voted_round", "False"),
            Edit(
                f"{_PROPOSALS}.__init__",
                "stored.block.round if stored is not None else 0",
                "0",
            ),
        ),
        seeds=(1, 2, 3),
    ),
    Mutant(
        "C2",
        "two-chain commit without consecutive rounds",
        (
            Edit(
                "consensus.committer:Committer.observe_qc",
                "parent.round + 1 != child.round",
                "False",
            ),
        ),
        "hider",
        seeds=(0, 1, 5),
    ),
    Mutant(
        "C3",
        "commits newest first",
        (Edit("consensus.blocktree:BlockTree.commit", "return chain", "return chain[::-1]"),),
        seeds=(0, 1, 3),
    ),
    Mutant(
        "Q2",
        "aggregates are not verified",
        (
            Edit(
                "consensus.aggregator:Tally._check_groups",
                "return self._crypto",
                "return True or self._crypto",
            ),
        ),
        "forged signatures",
        seeds=(0, 1, 2),
    ),
    Mutant(
        "quorum",
        "2f + 1 at n = 5",
        (
            Edit(
                "consensus.committee:Committee.__post_init__",
                "quorum = 2 * total // 3 + 1",
                "quorum = 2 * ((total - 1) // 3) + 1",
            ),
        ),
        "hider",
        5,
        seeds=(0, 3, 4),
    ),
    Mutant(
        "V4",
        "a vote for a block of somebody who does not lead",
        (
            Edit(
                f"{_VERIFIER}.check_proposal",
                "block.author != self._committee.leader(block.round)",
                "False",
            ),
        ),
        "usurper",
        seeds=(0, 1, 2),
    ),
    Mutant(
        "V5",
        "a height that is not the parent's plus one",
        (
            Edit(f"{_ORDERING}.judge", "block.height != parent.height + 1", "False"),
            Edit(
                "consensus.committer:Committer.keep_proposed",
                "block.height == parent.height + 1",
                "True",
            ),
        ),
        "spoiled blocks",
        seeds=(0, 1, 3),
    ),
    Mutant(
        "V5",
        "a timestamp not above the parent's",
        (Edit(f"{_ORDERING}.judge", "block.timestamp_ms <= parent.timestamp_ms", "False"),),
        "spoiled blocks",
        seeds=(9, 11),
    ),
    Mutant(
        "V5",
        "a parent that is not the QC's block",
        (Edit(f"{_VERIFIER}.check_proposal", "block.parent_id != block.qc.block_id", "False"),),
        "spoiled blocks",
        seeds=(4, 6, 14),
    ),
    Mutant(
        "E1",
        "a round entered on timeouts below a quorum",
        (
            Edit(
                f"{_REPLICA}._on_timeout",
                "self._time_out()",
                "self._enter(timeout.round + 1, True)",
            ),
        ),
        seeds=(0, 1, 3),
    ),
    Mutant(
        "Ld1",
        "leaders depend on what is committed",
        (
            Edit(
                f"{_REPLICA}.leader",
                "self.committee.leader(self.round)",
                "self.committee.leader(self.round + self.head.height)",
            ),
        ),
        seeds=(0, 1, 2),
    ),
    Mutant(
        "Q1",
        "evidence without checking signatures",
        (
            Edit(
                "consensus.aggregator:Tally._conflict",
                "if not self._is_signed(ballot, signed)",
                "if False",
            ),
            Edit(
                "consensus.aggregator:Tally._conflict",
                "known.verified or self._is_signed(known.ballot, known.content)",
                "True",
            ),
            Edit(
                "consensus.aggregator:Tally.add",
                "sender != ballot.voter or ballot.voter in self._barred",
                "False",
            ),
        ),
        "forged signatures",
        seeds=(2, 0, 3),
    ),
    Mutant(
        "Q2",
        "certificates of others are not verified",
        (
            Edit(
                "consensus.lightclient:verify_qc",
                "crypto.verify_aggregate(keys, message, qc.signature)",
                "True",
            ),
        ),
        "forged certificates",
        seeds=(0, 1, 2),
    ),
    Mutant(
        "S1",
        "votes leave before they are saved",
        (
            Edit(
                "sequencer.node:Node._drain",
                "    saved = self._must_save(ready, batches) and self._save()\n",
                "",
            ),
            Edit(
                "sequencer.node:Node._drain",
                "    for notice in ready.notices:",
                "    saved = self._must_save(ready, batches) and self._save()\n"
                "    for notice in ready.notices:",
            ),
        ),
        seeds=(0, 1, 2),
    ),
    Mutant(
        "S1",
        "the record is never saved",
        (Edit("sequencer.node:Node._put", "if ready.record is not None", "if False"),),
        seeds=(0, 1, 2),
    ),
    Mutant(
        "S3",
        "collections are not saved",
        (Edit("sequencer.node:Node._put", "writes, collected", "writes, type(collected)()"),),
        seeds=(0, 1, 2),
    ),
    Mutant(
        "C1",
        "a transaction counts every time it is ordered",
        (
            Edit(
                "sequencer.ledger:Ledger._append",
                "tuple(self._index.add_block(block.height, ids, batch))",
                "tuple(self._index.add_block(block.height, ids, batch))[:0]",
            ),
        ),
        seeds=(1, 5, 8),
    ),
    Mutant(
        "T2",
        "a TC without the highest QC it names",
        (
            Edit("consensus.lightclient:verify_tc", "tc.high_qc.round == tc.high_qc_round", "True"),
            Edit(
                f"{_SAFETY}.observe_tc",
                "assert self.record.high_qc.round >= tc.high_qc_round",
                "pass",
            ),
        ),
        "hider",
        seeds=(1, 22),
    ),
    Mutant(
        "L1",
        "a QC is not locked while its block is unknown",
        (
            Edit(
                f"{_REPLICA}._observe_qc",
                "if qc.round > self.record.high_qc.round:",
                "if qc.round > self.record.high_qc.round and qc.block_id in self.tree:",
            ),
        ),
        "hider",
        seeds=(4, 5, 6),
    ),
    Mutant(
        "quorum",
        "a quorum of heads and not of weight",
        (
            Edit(
                "consensus.committee:Committee.__post_init__",
                "sum(member.weight for member in self.members)",
                "len(self.members)",
            ),
            Edit(
                "consensus.committee:Committee.weight",
                "sum(self.members[index].weight for index in indices)",
                "len(list(indices))",
            ),
        ),
        seeds=(1, 6, 7),
    ),
    Mutant(
        "V5",
        "a timestamp of tomorrow",
        (
            Edit(
                f"{_ORDERING}.judge",
                "block.timestamp_ms > now.unix_ms + self._rules.max_clock_skew_ms",
                "False",
            ),
        ),
        seeds=(6, 9),
    ),
    Mutant(
        "S1",
        "the newest TC is lost in a restart",
        (
            Edit(
                "consensus.safety:SafetyRecord._read",
                "high_tc = reader.optional(TimeoutCertificate.read)",
                "high_tc = None if reader.optional(TimeoutCertificate.read) else None",
            ),
        ),
        seeds=(2, 3),
    ),
)
MUTANTS = (*SAFETY_MUTANTS, *LIVE_MUTANTS, *EPOCH_MUTANTS)
