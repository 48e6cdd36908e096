"""Rules whose breach shows in what never comes, comes late, or grows: progress and memory."""

from testnet.simulation.mutation import Edit, Mutant

_REPLICA = "consensus.replica:Replica"
_FETCHER = "consensus.fetcher:Fetcher"
_PACEMAKER = "consensus.pacemaker:Pacemaker"
_VERIFIER = "consensus.verifier:Verifier"
_SHELF = "sequencer.shelf:Shelf"
_POOL = "sequencer.pool:Pool"

_SHORT_REPLIES = (
    Edit("consensus.fetcher:is_long", "MAX_BLOCKS_PER_REPLY", "8"),
    Edit("consensus.blocktree:BlockTree.has_room", "MAX_BLOCKS", "40"),
)
"""So that missing a few dozen blocks is being far behind, as missing thousands is otherwise."""

LIVE_MUTANTS = (
    Mutant(
        "E4",
        "a timeout is sent once",
        (
            Edit(
                "consensus.pacemaker:Pacemaker.mark_timed_out",
                "now + self._rules.base_timeout_ms",
                "now + 10**9",
            ),
        ),
        seeds=(2, 4),
    ),
    Mutant(
        "T4",
        "no timer while there is work",
        (Edit("sequencer.pool:Pool.has_work", "len(self._shelf) > 0", "False"),),
        seeds=(4, 24),
    ),
    Mutant(
        "Q3",
        "votes for any round are kept",
        (Edit(f"{_REPLICA}._in_window", "round <= self.round + self._rules.round_window", "True"),),
        "flood",
        seeds=(6,),
    ),
    Mutant(
        "C1",
        "an orphaned collection is never ordered again",
        (
            Edit(
                f"{_SHELF}.select",
                "return tuple(chosen)",
                "gone = self.__dict__.setdefault('gone', {})\n"
                "    fresh = [digest for digest in chosen if digest not in gone]\n"
                "    if max_count > 1:\n"
                "        gone.update(dict.fromkeys(fresh))\n"
                "    return tuple(fresh)",
            ),
        ),
        seeds=(81, 94),
    ),
    Mutant(
        "Y2",
        "missing blocks are not served",
        (
            Edit(
                f"{_REPLICA}._dispatch",
                "self._send_reply(sender, self._server.blocks(sender, message, self._clock))",
                "pass",
            ),
        ),
        seeds=(1, 0),
    ),
    Mutant(
        "E5",
        "laggards get no answer",
        (Edit("consensus.reminder:Reminder.answer", "if member != self._me and", "if False and"),),
        seeds=(236, 731, 796),
    ),
    Mutant(
        "Y1",
        "ranges are not served",
        (
            Edit(
                f"{_REPLICA}._dispatch",
                "self._send_reply(sender, self._server.committed(sender, message, self._clock))",
                "pass",
            ),
        ),
        setting=_SHORT_REPLIES,
        seeds=(256, 245),
    ),
    Mutant(
        "Y1",
        "there is no way back from sync",
        (Edit(f"{_FETCHER}.end_sync", "self.syncing = False", "pass"),),
        setting=_SHORT_REPLIES,
        seeds=(256, 261),
    ),
    Mutant(
        "Y2",
        "a range is believed without a quorum behind it",
        (
            Edit(
                f"{_VERIFIER}.believe_range",
                "lightclient.verify_commit_proof("
                "self._committee, self._chain_id, proof, self._crypto)",
                "pass",
            ),
        ),
        "lying server",
        setting=_SHORT_REPLIES,
        changing=True,
        seeds=(0, 12),
    ),
    Mutant(
        "Y2",
        "a range is believed with the proof of another block",
        (Edit(f"{_VERIFIER}.believe_range", "proof.block_id != parent.id", "False"),),
        "lying server",
        setting=_SHORT_REPLIES,
        changing=True,
        seeds=(22, 49),
    ),
    Mutant(
        "Y2",
        "a range need not be a chain",
        (
            Edit(
                f"{_VERIFIER}.believe_range",
                "block.parent_id != parent.id or block.height != parent.height + 1",
                "False",
            ),
        ),
        "lying server",
        changing=True,
        seeds=(145, 155),
    ),
    Mutant(
        "T4",
        "collections are offered to nobody",
        (Edit(f"{_POOL}.offer_to", "if digests:", "if False:"),),
        seeds=(19, 79),
    ),
    Mutant(
        "Q3",
        "a peer's quota of collections is not kept",
        (
            Edit(
                f"{_SHELF}.is_over_quota",
                "len(self._by_author.get(author, ())) >= self._limits.max_peer_collections",
                "False",
            ),
        ),
        "flood",
        seeds=(202, 141),
    ),
    Mutant(
        "Q3",
        "whatever a block names is held above every quota",
        (
            Edit(f"{_POOL}.on_judged", "for block in refused", "for block in ()"),
            Edit(f"{_POOL}.on_committed", "release_spared(block.round)", "release_spared(0)"),
        ),
        "stuffer",
        seeds=(1, 2, 3),
    ),
    Mutant(
        "Q3",
        "what dead blocks name is asked for without end",
        (Edit(f"{_POOL}.on_committed", "self._wants.on_committed(block.round)", "pass"),),
        "stuffer",
        seeds=(2, 18),
    ),
)
