"""The protocol: what a sequencer may sign, and when. Pure: no I/O, clocks, threads, randomness.

Two-chain HotStuff (the DiemBFT v4 / Jolteon rules) with votes broadcast to all and a second,
explicit commit vote (Aptos AIP-89). Three message delays to finality, the lower bound for
n = 3f + 1; one timeout per dead leader; a block does not depend on the next leader to commit.

Words. *round*, *height*, *epoch*; *collection*: transactions sealed by the member that received
them, known by the Merkle root over them; *block*: a round's proposal, an ordered list of collection
digests; *batch*: a run of committed log entries that is posted to L1 as one unit.

Quorum. `q = floor(2 * total / 3) + 1` by weight. Echo threshold: `total - q + 1`.

Messages. Every signed byte string is a domain of its own, the chain id (digest of the genesis
core), the epoch, then its fields.

| message    | signed fields                          | certificate                           |
|------------|----------------------------------------|---------------------------------------|
| Proposal   | the block's id (Ed25519)               | none; two of a round are evidence     |
| Vote       | round, block id                        | QuorumCertificate                     |
| CommitVote | round, height, block id, next committee | CommitCertificate                     |
| Timeout    | round, round of the sender's high QC   | TimeoutCertificate with that QC       |

Rules, and where they are kept.

Entering a round (`replica`, `pacemaker`, `reminder`)
  E1  A round is entered only on a QC or a TC of the round before it.
  E2  A proposal for r carries a QC of r-1 and no TC, or a TC of r-1 and a QC at least as high as
      the TC's highest.
  E3  Timeouts for my round beyond the echo threshold make me time out too, once.
  E4  The signed timeout is re-sent unchanged every base period and when a peer connects, with the
      newest certificates. With it, and once halfway through a slow round, go the stored proposal
      and vote of the round and the stored commit vote above the head: they may have been lost.
  E5  A proposal or timeout for a round below mine, a vote below the one before, and whatever shows
      older certificates than mine are answered with mine, rate-limited; so who begins an epoch
      late, or comes back, learns at once what it missed. An echo threshold of members beyond my
      window starts a sync.
Proposing (`safety.propose`, `ordering`)
  P1  One proposal per round, ever, across restarts.
  P2  A leader proposes when there is work (T4) or after the idle heartbeat.
Voting (`safety.vote`, `ordering.judge`, `verifier`, `replica`)
  V1  At most one block per round, in rising rounds; asked again, the stored vote.
  V2  The block's QC is of the round before, or its TC is and its QC is at least as high as the
      highest the TC names. A TC is always verified: two of one round may differ in this.
  V3  The block's QC is processed first.
  V4  Only in my round, only for its leader, only with every collection of the block held.
  V5  Only for a well-formed block on a header chain known back to my committed head.
  V6  A second proposal for a round is evidence and gets no vote; its block is kept only when a
      certificate names it.
Timing out (`safety.timeout`, `pacemaker`)
  T1  After a timeout for r no new vote and no new commit vote for any round <= r.
  T2  A timeout for r carries a QC or TC of r-1; the signed high-QC round is that of the QC it
      carries, and below r.
  T3  Timer = base, growing with failed rounds in a row beyond a few, capped, reset on commit.
  T4  The timer runs while there is work: a collection held and not ordered, a certified block above
      the committed head, a proposal seen this round, or a block that is wanted to close a batch.
      Arriving work may shorten the deadline, never extend it. Halfway, holders re-offer collections
      to the leader, and with every timeout to all. Without work the deadline is the idle heartbeat
      plus the timer.
  T5  A leader whose last two rounds timed out here gets a short timer, a few times what rounds
      take here; every so often it is probed with a whole one.
Locking and commit votes (`safety.commit_vote`, `replica`)
  L1  A QC is locked at once, even if its block is unknown. The commit vote follows when its header
      chain is known, if its round is above every round I timed out in or commit-voted.
  L2  The timeout watermark survives restarts.
Committing (`committer`, `blocktree`)
  C1  A commit certificate commits its block and all uncommitted ancestors, oldest first, once.
  C2  A QC for a child exactly one round up commits the parent.
  C3  Heights are contiguous and parents match; a missing ancestor is fetched, never skipped.
Saving (`safety.SafetyRecord`; the node's drain)
  S1  The record with the full high QC and TC is durable before any signature it covers leaves.
  S2  Everything decided in one drain is saved in one transaction, then sent.
  S3  The collections of a block are durable before my vote for it leaves.
Counting (`aggregator`)
  Q1  One vote, commit vote and timeout per member and round; the first counts; a differing second
      vote or commit vote, verified, is evidence.
  Q2  Collect unverified, sum at quorum, verify once; on failure one by one, and bar the forger.
  Q3  Only rounds within a bounded window are stored.
Leaders (`committee`)
  Ld1 The leader is a function of (committee, round) alone, weighted by stake.
Epochs (`epochs`, `committer`, `ordering`; the node's hand-over)
  Ep1 The committee of an epoch is a snapshot in the L1 registry that is final there.
  Ep2 A leader that has seen the next one attests it (epoch, committee digest) in its blocks. The
      epoch ends with the first block in whose chain a quorum attests one digest: the newest word
      of each author within `digest_window_heights` counts. So the end follows from ancestors
      alone, and no rule asks the L1 anything. A committee that waits is work (T4). Who attests it
      has it on disk: whatever befalls memories and the L1, a quorum knows whom it named.
  Ep3 Above the last block only empty blocks are proposed, and commit votes on them name the last
      block and the next committee's digest. The first certificate that does ends the epoch; it is
      the root of the next. C2 may commit the last block, but ends no epoch, and commits nothing
      above. The next epoch begins when all of the one before is in the log.
  Ep4 (epoch, round) rises lexicographically: a new epoch begins in the round after its root, with
      watermarks of its own, saved before anything of it is said. Who speaks in an older epoch is
      told how it ended, who speaks in a newer one is asked; such ends in a row prove a committee.
  Ep5 Who is no member signs nothing and asks for ranges; a new member syncs first, leads later.
Sync (`catchup`, `fetcher`, `server`)
  Y1  A member can always fall back to sync and return by itself.
  Y2  Signers of a QC hold the block; everybody is tried; ranges are bounded and believed only
      through the hash chain to my committed head and a proof.
  Y3  Sync needs nobody to make progress meanwhile.

Deviations and additions. The lock is the round of the high QC, so it has no field of its own.
Certificates for one block may differ in their signers: the first is verified, later ones for the
same round and block are taken to say the same, and only verified bytes count or are passed on.
Those inside a block may be others: the quorum behind the block vouches that there are good ones.
A proposal enters the tree only on a known parent and at its height, so that no leader fills the
tree with blocks that no commit ever clears (Q3).
The author's signature over a block covers its attestation, so there is none of its own (Ep2).
"""
