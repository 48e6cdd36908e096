"""What happened in a run, line by line, and a digest of it for comparing runs."""

from hashlib import sha256

from consensus.messages import (
    BlockReply,
    BlockRequest,
    Certificates,
    CommitVote,
    Proposal,
    SyncReply,
    SyncRequest,
    Timeout,
    Vote,
)
from consensus.types import Block


class Trace:
    """Lines of a run in the order of virtual time; `limit` keeps only the last ones."""

    def __init__(self, limit: int = 200_000) -> None:
        self._limit = limit
        self._digest = sha256()
        self.lines: list[str] = []

    def add(self, now: int, who: str, what: str) -> None:
        """One line: when (ms), which instance, what."""
        line = f"{now:>7} {who:<4} {what}"
        self._digest.update(line.encode() + b"\n")
        self.lines.append(line)
        if len(self.lines) > 2 * self._limit:
            del self.lines[: self._limit]

    @property
    def digest(self) -> str:
        """SHA-256 over every line so far."""
        return self._digest.hexdigest()


def describe(message: object) -> str:
    """A message in a few words."""
    match message:
        case Proposal(block=block):
            return f"proposal {describe_block(block)}"
        case Vote():
            return f"vote r{message.round} {message.block_id.hex()[:6]}"
        case CommitVote():
            return f"commit vote r{message.round} h{message.height} {message.block_id.hex()[:6]}"
        case Timeout():
            return f"timeout r{message.round} qc{message.high_qc_round}"
        case Certificates():
            tc = f" tc{message.high_tc.round}" if message.high_tc else ""
            commit = f" cc{message.commit.round}" if message.commit else ""
            return f"certificates qc{message.high_qc.round}{tc}{commit}"
        case BlockRequest():
            return f"block request {message.block_id.hex()[:6]} above h{message.known_height}"
        case BlockReply():
            return f"block reply {[describe_block(block) for block in message.blocks]}"
        case SyncRequest():
            return f"sync request from h{message.from_height}"
        case SyncReply():
            heights = [block.height for block in message.blocks]
            return f"sync reply {heights[:1]}..{heights[-1:]} of h{message.head}"
    return type(message).__name__


def describe_block(block: Block) -> str:
    """A block in a few words."""
    tc = f" tc{block.tc.round}/{block.tc.high_qc_round}" if block.tc else ""
    return (
        f"r{block.round} h{block.height} {block.id.hex()[:6]} on {block.parent_id.hex()[:6]} "
        f"qc{block.qc.round}{tc} x{len(block.collections)}"
    )
