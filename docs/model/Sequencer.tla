------------------------------ MODULE Sequencer ------------------------------
(***************************************************************************)
(* What a member may sign, and what that makes final: the safety core of   *)
(* `consensus`. The letters and numbers are those of the rules in          *)
(* consensus/__init__.py; what signs is consensus/safety.py.               *)
(*                                                                         *)
(* There are no clocks, leaders or links. Anybody may propose any block on *)
(* any QC, and whatever was ever signed can reach anybody at any time, or  *)
(* never. Faulty members sign whatever helps: a certificate exists as soon *)
(* as the honest signatures and one of each faulty member are a quorum.    *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Honest,     \* the members that follow the rules
    Faulty,     \* how many others there are
    Quorum,     \* how many signatures make a certificate
    LastRound,  \* rounds are 1 .. LastRound
    InOrder,    \* FALSE: every order of signatures; TRUE: see "Rounds in order"
    Broken      \* the name of a rule that is switched off, or "none"

VARIABLES
    record,       \* S1: what each honest member has on disk
    votes,        \* the blocks that it ever voted for,
    commitVotes,  \* commit-voted for,
    timeouts,     \* and its timeouts: <<round, round of the high QC that it names>>
    turn          \* used only if InOrder

vars == <<record, votes, commitVotes, timeouts, turn>>

Rounds == 1 .. LastRound
Max(a, b) == IF a > b THEN a ELSE b
Keeps(rule) == Broken # rule

-----------------------------------------------------------------------------
(* Blocks. A block is the path to it from genesis: <<round, variant>> of each *)
(* block on the way. So a block has one parent, and ancestors are prefixes.   *)

Genesis == <<>>
RoundOf(block) == IF block = Genesis THEN 0 ELSE block[Len(block)][1]
Parent(block) == SubSeq(block, 1, Len(block) - 1)
StandsOn(block, ancestor) ==
    Len(ancestor) <= Len(block) /\ SubSeq(block, 1, Len(ancestor)) = ancestor

-----------------------------------------------------------------------------
(* Certificates that can be made from what has been signed *)

IsQuorum(signers) == Cardinality(signers) + Faulty >= Quorum

Voted == UNION {votes[m] : m \in Honest}
IsCertified(block) ==
    block = Genesis \/ IsQuorum({m \in Honest : block \in votes[m]})
Certified == {block \in Voted \cup {Genesis} : IsCertified(block)}

(* A TC of a round that names no QC above that of round `high`: the lower, the *)
(* more it permits, so only the lowest that can be made matters.               *)
HasTC(round, high) ==
    IsQuorum({m \in Honest : \E t \in timeouts[m] : t[1] = round /\ t[2] <= high})

(* E1, E2, V2, T2: a QC of round `high` leads into `round` because it is of the *)
(* round before, or beside a TC of the round before that names nothing higher.  *)
LeadsInto(high, round) ==
    \/ high + 1 = round
    \/ high < round /\ HasTC(round - 1, high)

CommitCertified ==
    {block \in Certified \ {Genesis} : IsQuorum({m \in Honest : block \in commitVotes[m]})}

(* C1, and C2: the parent of a certified child exactly one round up. Ancestors *)
(* of these are final too; that is what StandsOn is for.                       *)
Final ==
    CommitCertified \cup
    {Parent(child) : child \in
        {c \in Certified \ {Genesis} :
            RoundOf(Parent(c)) + 1 = RoundOf(c) \/ ~Keeps("C2")}}

-----------------------------------------------------------------------------
(* Rounds in order. What is signed in a round depends on certificates of      *)
(* earlier rounds and, for a commit vote, on the votes of its own; and a      *)
(* commit vote costs its author nothing before a timeout of its round or      *)
(* above, which forbids it (T1). So any run can be sorted by rounds, to one   *)
(* with the same signatures. In a sorted run, signatures of a round that make *)
(* no certificate only bind their author: a run without them gets as far.     *)

IsTurnOf(round) == ~InOrder \/ turn = round

NextTurn ==
    /\ InOrder
    /\ turn < LastRound
    /\ \A b \in Voted : RoundOf(b) = turn => b \in Certified
    /\ \A m \in Honest : \A b \in commitVotes[m] : RoundOf(b) = turn => b \in CommitCertified
    /\ \A m \in Honest : \A t \in timeouts[m] : t[1] = turn => HasTC(turn, turn)
    /\ turn' = turn + 1
    /\ UNCHANGED <<record, votes, commitVotes, timeouts>>

-----------------------------------------------------------------------------
(* What an honest member signs. It learns certificates just before it signs:  *)
(* what it signs knowing more, it could have signed before it knew. The lock  *)
(* is the round of the highest QC seen; `round` is the round it has entered.  *)

Blank == [lock |-> 0, round |-> 1, voted |-> 0, commitVoted |-> 0, timedOut |-> 0]

Vote(m, block) ==
    LET r == record[m]
        round == RoundOf(block)
        high == RoundOf(Parent(block))
    IN  /\ IsTurnOf(round)
        /\ round > r.voted \/ ~Keeps("V1")
        /\ round > r.timedOut \/ ~Keeps("T1 vote")
        /\ round >= r.round \/ ~Keeps("V4")
        /\ \/ LeadsInto(high, round)
           \/ ~Keeps("V2") /\ HasTC(round - 1, round)
        /\ block \notin votes[m]
        /\ votes' = [votes EXCEPT ![m] = @ \cup {block}]
        /\ record' = [record EXCEPT
             ![m].voted = Max(@, round),
             ![m].round = Max(@, round),
             ![m].lock = IF Keeps("V3") THEN Max(@, high) ELSE @]
        /\ UNCHANGED <<commitVotes, timeouts, turn>>

CommitVote(m, block) ==
    LET r == record[m]
        round == RoundOf(block)
    IN  /\ IsTurnOf(round)
        /\ round > r.commitVoted
        /\ round > r.timedOut \/ ~Keeps("T1 commit vote")
        /\ commitVotes' = [commitVotes EXCEPT ![m] = @ \cup {block}]
        /\ record' = [record EXCEPT
             ![m].commitVoted = round,
             ![m].round = IF Keeps("L1") THEN Max(@, round + 1) ELSE @,
             ![m].lock = IF Keeps("L1") THEN Max(@, round) ELSE @]
        /\ UNCHANGED <<votes, timeouts, turn>>

Timeout(m, round, high) ==
    LET r == record[m]
    IN  /\ IsTurnOf(round)
        /\ round > r.timedOut
        /\ round >= r.round
        /\ high >= r.lock \/ ~Keeps("T2")
        /\ LeadsInto(high, round)
        /\ timeouts' = [timeouts EXCEPT ![m] = @ \cup {<<round, high>>}]
        /\ record' = [record EXCEPT
             ![m].timedOut = round,
             ![m].round = round,
             ![m].lock = Max(@, high)]
        /\ UNCHANGED <<votes, commitVotes, turn>>

(* A restart loses what is not in the record, and nothing here depends on      *)
(* that: it is a stuttering step. Unless the record itself is not kept (S1),   *)
(* or the highest round timed out in is not (L2).                              *)
Restart(m) ==
    /\ \/ ~Keeps("S1") /\ record' = [record EXCEPT ![m] = Blank]
       \/ ~Keeps("L2") /\ record' = [record EXCEPT ![m].timedOut = 0]
    /\ UNCHANGED <<votes, commitVotes, timeouts, turn>>

-----------------------------------------------------------------------------
(* Two blocks of one round on one parent may be proposed; the second gets its *)
(* name when the first has a vote, since they are alike otherwise.            *)
Proposable ==
    {Append(parent, <<round, 1>>) : parent \in Certified, round \in Rounds} \cup
    {Append(parent, <<round, 2>>) : parent \in Certified, round \in Rounds}
MayBeProposed(block) ==
    /\ RoundOf(Parent(block)) < RoundOf(block)
    /\ block[Len(block)][2] = 1 \/ Append(Parent(block), <<RoundOf(block), 1>>) \in Voted

Init ==
    /\ record = [m \in Honest |-> Blank]
    /\ votes = [m \in Honest |-> {}]
    /\ commitVotes = [m \in Honest |-> {}]
    /\ timeouts = [m \in Honest |-> {}]
    /\ turn = 1

Next ==
    \/ \E m \in Honest :
         \/ \E block \in Proposable : MayBeProposed(block) /\ Vote(m, block)
         \/ \E block \in Certified \ {Genesis} : CommitVote(m, block)
         \/ \E round \in Rounds, block \in Certified : Timeout(m, round, RoundOf(block))
         \/ Restart(m)
    \/ NextTurn

Spec == Init /\ [][Next]_vars
Symmetry == Permutations(Honest)

-----------------------------------------------------------------------------
(* What must hold in every state *)

(* Final blocks stand on one chain. *)
Agreement ==
    \A a, b \in Final : StandsOn(a, b) \/ StandsOn(b, a)

(* A block that is certified in a later round stands on every final one. *)
CertifiedStandsOnFinal ==
    \A final \in Final, block \in Certified :
        RoundOf(block) >= RoundOf(final) => StandsOn(block, final)

(* V1, L1: at most one block of a round has a vote of a member; nor is a commit *)
(* vote or a timeout of a round given twice.                                    *)
OncePerRound ==
    \A m \in Honest :
        /\ \A a, b \in votes[m] : RoundOf(a) = RoundOf(b) => a = b
        /\ \A a, b \in commitVotes[m] : RoundOf(a) = RoundOf(b) => a = b
        /\ \A s, t \in timeouts[m] : s[1] = t[1] => s = t

OneCertifiedPerRound ==
    \A a, b \in Certified : RoundOf(a) = RoundOf(b) => a = b

(* Not so: what TLC finds against these shows that the model gets somewhere. *)
NothingFinalAfterTimeout ==
    \A b \in CommitCertified : RoundOf(b) = RoundOf(Parent(b)) + 1
NoFork == \A a, b \in Certified : StandsOn(a, b) \/ StandsOn(b, a)
=============================================================================
