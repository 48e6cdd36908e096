"""Each rule broken in turn, to prove that the simulation would notice.

A mutant is an edit to the text of a few functions of the production code: `old` has to stand in
the function exactly once, so a mutant that no longer applies fails loudly instead of passing for
caught. The edited function replaces the original for as long as the mutant lives.
"""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType


class Stale(Exception):
    """The code that a mutant edits has changed; the mutant has to follow."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old` by `new` in one function, named `module:Class.method` or `module:function`."""

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken rule. `adversary` is who shows it best, None for faults alone."""

    rule: str
    name: str
    edits: tuple[Edit, ...]
    adversary: str | None = None
    nodes: int | None = None


def _function(target: str) -> tuple[object, str, object, FunctionType]:
    """Who owns a function, its name there, the attribute as it stands, and the bare function."""
    module_name, path = target.split(":")
    owner: object = import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    raw = inspect.getattr_static(owner, name)
    bare = raw.fget if isinstance(raw, property) else getattr(raw, "__func__", raw)
    assert isinstance(bare, FunctionType)
    return owner, name, raw, bare


def _rebuilt(target: str, edits: Sequence[Edit]) -> tuple[object, str, object, object]:
    owner, name, raw, bare = _function(target)
    source = textwrap.dedent(inspect.getsource(bare))
    source = source[source.index("def ") :]
    for edit in edits:
        if source.count(edit.old) != 1:
            raise Stale(f"{target} holds {source.count(edit.old)} times: {edit.old}")
        source = source.replace(edit.old, edit.new)
    scope: dict[str, object] = {}
    exec("from __future__ import annotations\n" + source, bare.__globals__, scope)
    made = scope[name]
    if isinstance(raw, classmethod | staticmethod | property):
        made = type(raw)(made)  # type: ignore[arg-type]
    return owner, name, raw, made


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The program with this mutant in it."""
    undo: list[tuple[object, str, object]] = []
    try:
        for target in dict.fromkeys(edit.target for edit in mutant.edits):
            edits = [edit for edit in mutant.edits if edit.target == target]
            owner, name, original, changed = _rebuilt(target, edits)
            undo.append((owner, name, original))
            setattr(owner, name, changed)
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


_SAFETY = "consensus.safety:Safety"
_REPLICA = "consensus.replica:Replica"

MUTANTS = (
    Mutant(
        "V1",
        "a second vote in a round",
        (
            Edit(f"{_REPLICA}._try_vote", "self.record.last_voted_round >= block.round", "False"),
            Edit(f"{_SAFETY}._check_vote", "block.round < record.last_voted_round", "False"),
            Edit(f"{_SAFETY}._check_vote", "block.round == record.last_voted_round", "False"),
            Edit(f"{_SAFETY}.vote", "block.round == record.last_voted_round", "False"),
            Edit(
                f"{_REPLICA}._on_proposal",
                "self._equivocation(known, proposal)\n        return",
                "pass",
            ),
        ),
        "equivocating leader",
    ),
    Mutant(
        "V2",
        "a QC below the TC's highest",
        (
            Edit(
                "consensus.safety:follows_certificates",
                "block.qc.round >= block.tc.high_qc_round",
                "True",
            ),
        ),
        "hider",
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
    ),
    Mutant(
        "V3",
        "the block's QC is not processed before the vote",
        (
            Edit(f"{_REPLICA}._on_proposal", "self._learn_qc(block.qc)", "pass"),
            Edit(f"{_SAFETY}._check_vote", "record.high_qc.round < block.qc.round", "False"),
        ),
        "hider",
    ),
    Mutant(
        "V4",
        "a vote without the collections",
        (
            Edit(
                f"{_REPLICA}._try_vote",
                "if not self._payload.holds(digest)",
                "if False",
            ),
        ),
        "collection to leader only",
    ),
    Mutant(
        "V5",
        "a block that orders a collection again",
        (Edit(f"{_REPLICA}._judge", "self.tree.repeats(block, chain)", "False"),),
        "hider",
    ),
    Mutant(
        "T1",
        "a vote after a timeout",
        (Edit(f"{_SAFETY}._check_vote", "block.round <= record.highest_timeout_round", "False"),),
        "hider",
    ),
    Mutant(
        "T1",
        "a commit vote after a timeout",
        (Edit(f"{_SAFETY}.commit_vote", "qc.round <= record.highest_timeout_round", "False"),),
        "hider",
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
    ),
    Mutant(
        "L1",
        "a commit vote for a block without a QC",
        (
            Edit(
                f"{_REPLICA}._try_vote",
                "self._send(None, vote)",
                "self._send(None, vote)\n"
                "    qc = type(block.qc)(0, block.round, block.id, b'', b'')\n"
                "    self._send(None, self.safety.commit_vote(block, qc))",
            ),
            Edit(f"{_SAFETY}.commit_vote", "qc.round > record.high_qc.round", "False"),
        ),
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
            Edit(f"{_REPLICA}._resume", "self._proposed_round = self.round", "pass"),
        ),
    ),
    Mutant(
        "C2",
        "two-chain commit without consecutive rounds",
        (Edit(f"{_REPLICA}._try_two_chain", "parent.round + 1 != child.round", "False"),),
        "hider",
    ),
    Mutant(
        "C3",
        "commits newest first",
        (Edit("consensus.blocktree:BlockTree.commit", "return chain", "return chain[::-1]"),),
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
    ),
)
