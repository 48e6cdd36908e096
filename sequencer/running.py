"""A running node as its RPC sees it: submit, look, wait. Implements `sequencer.service`."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from consensus.epochs import EpochChange
from consensus.interface import Instant
from consensus.types import members_of
from net.transport import PeerId
from sequencer import __version__
from sequencer.collection import transaction_id
from sequencer.config import NodeConfig
from sequencer.ethereum_hash import ethereum_hash, is_ethereum_envelope
from sequencer.genesis import Genesis
from sequencer.history import Pruned
from sequencer.ledger import AppliedBlock
from sequencer.node import Node
from sequencer.observe import Observer
from sequencer.service import Unready
from sequencer.settling import Settling
from sequencer.standing import (
    NOT_REGISTERED,
    REJOIN_LAG,
    InStep,
    describe_standing,
    describe_sync,
    says_how_far,
)

MAX_REMEMBERED = 1 << 18
"""Hashes of accepted transactions that are remembered until they are ordered."""
STALLED_AFTER_BASE_TIMEOUTS = 10
"""Work and no new height for this long: not ready."""


class RunningNode:
    """One node, its configuration, and what is known of its surroundings."""

    def __init__(
        self,
        node: Node,
        genesis: Genesis,
        config: NodeConfig,
        observer: Observer,
        settling: Settling | None,
        peers_up: Callable[[], frozenset[str]],
        wake: Callable[[], None],
        clock: Callable[[], Instant],
    ) -> None:
        self.node = node
        self.genesis = genesis
        self.config = config
        self.ledger = node.ledger
        self.settling = settling
        self._observer = observer
        self._peers_up = peers_up
        self._wake = wake
        self._clock = clock
        self._listeners: dict[int, Callable[[AppliedBlock], None]] = {}
        self._next_listener = 0
        self._pending: set[bytes] = set()
        self._pending_longer: set[bytes] = set()
        self._started = time.monotonic()
        self._grown_at = time.monotonic()
        self._idle_at = time.monotonic()
        self._safe: tuple[tuple[int, int], int] = ((-1, -1), 0)
        self._final: tuple[tuple[int, int], int] = ((-1, -1), 0)
        self._has_heard = False
        self._is_oriented = False
        self._in_step = InStep()
        self.registered = NOT_REGISTERED
        """What the registry has of this node's operator."""
        self.network_statistics: Callable[[], dict[str, int]] = dict
        self.other_chains: Mapping[PeerId, str] = {}
        """Peers that should be of this chain and are of another one (see `net.libp2p.chain`)."""

    # ------------------------------------------------------------------ transactions

    def submit(self, transactions: list[tuple[int, bytes]]) -> None:
        """Take admitted transactions, all or none."""
        if self.syncing:
            raise Unready("the node is syncing; send to another member or retry")
        if not self.is_oriented:
            raise Unready("the node has not heard yet how far the log is; retry, or send elsewhere")
        unposted = self.settling.unposted if self.settling else 0
        if unposted > self.config.l1.max_unposted_batches:
            raise Unready(
                f"{unposted} batches wait to be posted on the L1, and this node takes on no more "
                f"than {self.config.l1.max_unposted_batches}; retry when the L1 has caught up"
            )
        self.node.submit(transactions, self._clock())
        for namespace, transaction in transactions:
            self._pending.add(transaction_id(namespace, transaction))
            if is_ethereum_envelope(transaction):
                self._pending.add(ethereum_hash(transaction))
        if len(self._pending) > MAX_REMEMBERED // 2:
            self._pending, self._pending_longer = set(), self._pending
        self._wake()

    def pending(self, tx_hash: bytes) -> bool:
        """Whether a transaction was accepted here and is not ordered yet."""
        return tx_hash in self._pending or tx_hash in self._pending_longer

    def on_applied(self, applied: AppliedBlock) -> None:
        """Told by the node when a block is durable in the log."""
        self._observer.applied(applied, time.time_ns() // 1_000_000)
        self._grown_at = time.monotonic()
        if self._pending or self._pending_longer:
            ordered = applied.row.each_id() + [alias[:32] for alias, _ in applied.row.aliases]
            self._pending.difference_update(ordered)
            self._pending_longer.difference_update(ordered)
        for listener in list(self._listeners.values()):
            listener(applied)

    def heard(self, peer: PeerId, frame: bytes) -> None:
        """Told by the network of a frame that the node took and found nothing wrong with."""
        handle = self.node.peers.handle(peer)
        if not self._has_heard and handle is not None and self.node.peers.is_member(handle):
            self._has_heard = says_how_far(frame, self.node.epoch)

    def on_commit(self, callback: Callable[[AppliedBlock], None]) -> Callable[[], None]:
        """Call back after a block is applied and saved; returns what ends that."""
        number = self._next_listener
        self._next_listener += 1
        self._listeners[number] = callback
        return lambda: self._listeners.pop(number, None) and None

    # ------------------------------------------------------------------ looking

    def status(self) -> dict[str, Any]:
        """What this node is and how far it is."""
        node, head = self.node, self.ledger.head
        replica = node.replica
        ready, reason = self.ready()
        return {
            "version": __version__,
            "name": self.config.name,
            "chain_id": "0x" + self.genesis.chain_id.hex(),
            "member": node.me,
            "standing": self.standing(),
            "peer_id": node.peers.local,
            "epoch": replica.committee.epoch,
            "round": replica.round,
            "leader": replica.leader,
            "first_height": self.ledger.base.height + 1,
            "height": head.height,
            "highest_height": self.highest_height,
            "transactions": head.next_position,
            "log_root": "0x" + head.log_root.hex(),
            "latency_ms": self._observer.latency_ms,
            "pending_bytes": node.pool.pending_bytes,
            "peers_up": len(node.peers.other_members) - len(self._missing()),
            "peers": len(node.peers.other_members),
            "guests": len(self._peers_up() - set(node.peers.members)),
            "of_another_chain": self._of_another_chain(),
            "ready": ready,
            "reason": reason,
            "safe_height": self.safe_height(),
            "finalized_height": self.finalized_height(),
            "settlement": self.settling.status() if self.settling else None,
            "uptime_s": round(time.monotonic() - self._started, 1),
        }

    def standing(self) -> str:
        """What this node is in its epoch, and what comes next for its operator."""
        node = self.node
        runner = self.settling.runner if self.settling else None
        view = runner.machine.view if runner else None
        l1_block = view.head.number if view else 0
        return describe_standing(
            node.me, node.committee.size, node.epoch, self.registered, l1_block
        )

    @property
    def highest_height(self) -> int:
        """The highest height that this node knows to be committed, here or elsewhere."""
        replica = self.node.replica
        asks = self.node.me is None or replica.fetcher.syncing
        pending = replica.committer.pending
        return max(
            replica.head.height + (replica.catchup.behind if asks else 0),
            pending.height if pending is not None else 0,
            self.ledger.head.height,
        )

    def why(self) -> dict[str, Any]:
        """Why the log does or does not grow."""
        replica = self.node.replica
        committee = replica.committee
        voted = sorted(replica.aggregator.votes.slots(replica.round))
        timed_out = sorted(replica.aggregator.timeouts.slots(replica.round))
        tc = replica.record.high_tc
        ready, reason = self.ready()
        return {
            "ready": ready,
            "reason": reason,
            "standing": self.standing(),
            "round": replica.round,
            "leader": replica.leader,
            "leader_name": self.name_of(replica.leader),
            "height": self.ledger.head.height,
            "high_qc_round": replica.record.high_qc.round,
            "has_work": self.node.pool.has_work(),
            "timed_out": replica.pacemaker.timed_out,
            "votes": {"have": committee.weight(voted), "need": committee.quorum_weight},
            "timeouts": {"have": committee.weight(timed_out), "need": committee.quorum_weight},
            "voted": voted,
            "gave_up": timed_out,
            "last_timeout_certificate": tc.round if tc else None,
            "missing_members": self._missing(),
            "unapplied_blocks": self.node.unapplied,
            "syncing": self.syncing,
            "l1_alarms": dict(self.settling.alarms) if self.settling else {},
        }

    def _missing(self) -> list[str]:
        up = self._peers_up()
        peers = self.node.peers
        return [
            self.name_of(index) for index in peers.other_members if peers.members[index] not in up
        ]

    def _of_another_chain(self) -> list[str]:
        return [self.name_of_peer(peer) for peer in self.other_chains]

    def _with_other_chains(self, reason: str) -> str:
        """A reason, and who is there and of another chain."""
        strangers = ", ".join(self._of_another_chain())
        if not strangers:
            return reason
        return f"{reason}; of another chain, with another genesis: {strangers}"

    def name_of(self, member: int) -> str:
        """What a member of this epoch is called."""
        return self.genesis.name_of(self.node.committee.members[member].identity)

    def name_of_peer(self, peer: str) -> str:
        """What a peer is called: a member by its name, anybody else by its id."""
        members = self.node.peers.members
        return self.name_of(members.index(peer)) if peer in members else peer

    def ready(self) -> tuple[bool, str]:
        """Whether the node is synchronised and making progress, and if not, why."""
        replica = self.node.replica
        committee = replica.committee
        peers, up = self.node.peers, self._peers_up()
        reachable = [i for i, peer in enumerate(peers.members) if i == peers.me or peer in up]
        if self.syncing:
            return False, describe_sync(self.ledger.head.height, self.highest_height)
        if self.node.me is None and not up:
            return False, self._with_other_chains("a follower that is connected to nobody")
        if self.node.me is not None and not committee.is_quorum(reachable):
            others = len(reachable) - 1
            missing = f"connected to {others} of {committee.size - 1} other members"
            return False, self._with_other_chains(missing)
        if not self.is_oriented:
            return False, "no member has said yet how far the log is"
        patience_s = STALLED_AFTER_BASE_TIMEOUTS * self.genesis.rules.base_timeout_ms / 1000
        is_stalled = self._waiting_s() > patience_s
        if self.node.unapplied and is_stalled:
            return False, f"{self.node.unapplied} committed blocks wait for their collections"
        if self.node.me is None:
            return True, f"follows the committee through {len(reachable)} of its members"
        if is_stalled:
            return False, f"there is work, but no new height for {patience_s:.0f} s; see seq_why"
        return True, "in step with the committee"

    def look_for_work(self) -> None:
        """Remember when there was none; to be called now and then."""
        has_work = self.node.me is not None and self.node.pool.has_work()
        if not has_work and not self.node.unapplied:
            self._idle_at = time.monotonic()

    def _waiting_s(self) -> float:
        """For how long there has been work and no new height, counted from the first look at it."""
        self.look_for_work()
        return time.monotonic() - max(self._idle_at, self._grown_at)

    @property
    def syncing(self) -> bool:
        """Whether the log here is far behind; it always is a little."""
        in_step = self._in_step.at(self.highest_height - self.ledger.head.height)
        return not in_step or (self.node.me is not None and self.node.replica.fetcher.syncing)

    @property
    def is_oriented(self) -> bool:
        """Whether a member has said since the start how far the log is, and I have been there."""
        if not self._is_oriented:
            replica = self.node.replica
            rounds = replica.record.high_qc.round - replica.head.round
            alone = not self.node.peers.other_members
            self._is_oriented = alone or (self._has_heard and rounds <= REJOIN_LAG)
        return self._is_oriented

    def committee(self) -> dict[str, Any]:
        """The committee that governs the next height."""
        committee = self.node.replica.committee
        return {
            "epoch": committee.epoch,
            "digest": "0x" + committee.digest.hex(),
            "total_weight": committee.total_weight,
            "quorum_weight": committee.quorum_weight,
            "members": [
                {
                    "index": index,
                    "name": self.name_of(index),
                    "peer_id": self.node.peers.members[index],
                    "identity": "0x" + member.identity.hex(),
                    "bls_key": "0x" + member.bls_key.hex(),
                    "weight": member.weight,
                }
                for index, member in enumerate(committee.members)
            ],
        }

    def epoch_changes(self, from_epoch: int, limit: int) -> list[EpochChange]:
        """How `from_epoch` and those after it ended, oldest first."""
        return self.node.epochs.changes(from_epoch, limit)

    def metrics(self) -> bytes:
        """Prometheus text."""
        status = self.status()
        gauge = self._observer.gauge
        gauge("ready", "1 while this member is in step with the committee", status["ready"])
        shown = (
            "round",
            "first_height",
            "height",
            "highest_height",
            "transactions",
            "pending_bytes",
            "peers_up",
        )
        for name in shown:
            gauge(name, f"{name} as in seq_status", status[name])
        gauge("safe_height", "Highest height that is posted on L1", status["safe_height"])
        gauge("finalized_height", "Highest height final on L1", status["finalized_height"])
        for name, value in (status["settlement"] or {}).items():
            if isinstance(value, int):
                counted = name in ("closed", "certified", "posted", "final", "lag")
                metric = f"batches_{name}" if counted else f"l1_{name.removeprefix('l1_')}"
                gauge(metric, f"settlement: {name}, as in seq_status", value)
        if self.settling is not None:
            gauge("l1_alarms", "Things about the L1 that need somebody", len(self.settling.alarms))
        for name, value in self.network_statistics().items():
            gauge(f"network_{_metric_name(name)}", f"network: {name}", value)
        return self._observer.exposition()

    # ------------------------------------------------------------------ settlement

    def batch(self, number: int) -> dict[str, Any] | None:
        """A closed batch, with its certificate and its L1 transaction as far as there are.

        `Pruned` for one that is below what this node keeps.
        """
        if self.settling is None or number < 1:
            return None
        described = self.settling.describe(number)
        batcher = self.node.batcher
        if described is None and batcher is not None and number <= batcher.last_closed:
            raise Pruned(f"batch {number} holds nothing that this node keeps")
        if described is not None:
            signers = bytes.fromhex(described["signers"][2:])
            committee = self.node.epochs.committee_of(described["epoch"])
            members = committee.members if committee is not None else ()
            described["signer_names"] = [
                self.genesis.name_of(members[index].identity)
                for index in members_of(signers)
                if index < len(members)
            ]
        return described

    def settlement(self, position: int) -> dict[str, Any] | None:
        """The batch that holds a log position, and how far it is."""
        number = self.settling.number_holding(position) if self.settling else None
        described = self.batch(number) if number is not None else None
        if described is None:
            return None
        return {
            "batch": number,
            **{key: described[key] for key in ("state", "l1_transaction", "l1_block")},
        }

    def safe_height(self) -> int:
        """The highest height whose transactions are all posted."""
        posted = self.settling.posted_here if self.settling else 0
        self._safe = self._height_up_to(posted, self._safe)
        return self._safe[1]

    def finalized_height(self) -> int:
        """The highest height whose transactions are all final on L1."""
        final = self.settling.final_here if self.settling else 0
        self._final = self._height_up_to(final, self._final)
        return self._final[1]

    def _height_up_to(
        self, number: int, known: tuple[tuple[int, int], int]
    ) -> tuple[tuple[int, int], int]:
        key = (number, self.ledger.head.height)
        if self.settling is None or number == 0:
            return key, 0
        if known[0] == key:
            return known
        first = self.settling.last_position(number) + 1
        if first < self.ledger.base.next_position:
            return key, 0
        following = self.ledger.entries(first, 1)
        return key, following[0].height - 1 if following else self.ledger.head.height


def _metric_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
