"""Every bound and interval of the mesh, by name, with the reason beside it."""

from dataclasses import dataclass

from net.transport import MAX_FRAME_BYTES

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """What is held for one peer, each per channel."""

    send_queue_bytes: int
    receive_window_bytes: int
    inbox_frames: int


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """How a mesh behaves; the defaults serve a committee of up to a hundred members."""

    # -- what is held for one peer
    send_queue_bytes: int = 32 * MIB
    """Per channel; `send` answers False beyond it."""
    receive_window_bytes: int = 2 * MAX_FRAME_BYTES
    """Per channel: a whole frame can arrive while another one still waits for the core."""
    inbox_frames: int = 4_096
    """Parsed frames per channel that the core has not taken; the rest stays in the window."""

    # -- what is held for one guest: enough to answer one request in full
    guest_send_queue_bytes: int = MAX_FRAME_BYTES + 64 * KIB
    guest_window_bytes: int = 12 * MIB
    """The largest frame fits although up to a quarter of the window is not granted anew yet."""
    guest_inbox_frames: int = 256
    guest_inbox_bytes: int = 32 * MIB
    """What all guests have said and the core has not taken; above it no new guest is let in."""
    guest_frames_per_s: float = 100.0
    guest_bytes_per_s: float = 8.0 * MIB
    guest_burst_s: float = 1.0
    """A guest that was silent may say at once what it could have said in so long."""

    # -- who may connect
    max_guests: int = 16
    """Linked peers that I was not told of; all of them, filling both channels both ways, make
    me hold 650 MB."""
    guest_silence_s: float = 30.0
    """A guest that has said nothing for so long gives way when all places are taken."""
    unauthenticated_connections: int = 64
    """Inbound and not authenticated yet; over it the oldest gives way."""
    handshake_timeout_s: float = 10.0
    streams: int = 64
    """Streams a peer may hold open on one connection."""
    pending_control_bytes: int = 64 * KIB
    """Answers to pings, window updates and the like that a peer leaves unread."""

    # -- liveness
    heartbeat_s: float = 1.0
    idle_timeout_s: float = 4.0
    """Nothing arrived for so long: the peer is gone, paused or cut off."""
    write_timeout_s: float = 8.0
    """The socket accepted nothing for so long although something waits."""
    dial_timeout_s: float = 5.0
    redial_first_s: float = 0.02
    redial_factor: float = 1.1
    """A tenth more each time: a peer is missed for at most a tenth of its outage longer."""
    redial_cap_s: float = 0.25
    """A refused dial takes a quarter of a millisecond: fifty absent peers cost 5 % of a core."""
    redial_unwelcome_cap_s: float = 5.0
    """Where somebody answers and does not take us, a dial costs both a handshake."""
    dial_patience_s: float = 1.0
    """The higher peer id dials too, unless the lower one has for so long."""

    # -- writing
    write_bytes: int = 256 * KIB
    """What is queued for a peer goes out in writes of up to so many bytes."""
    unsent_bytes: int = 512 * KIB
    """How much the kernel may hold unsent, so that a vote overtakes a backlog of blocks."""

    def limits(self, is_guest: bool) -> PeerLimits:
        """What is held for a guest, or for a peer that is none."""
        if is_guest:
            return PeerLimits(
                self.guest_send_queue_bytes, self.guest_window_bytes, self.guest_inbox_frames
            )
        return PeerLimits(self.send_queue_bytes, self.receive_window_bytes, self.inbox_frames)
