"""Every bound and interval of the mesh, by name, with the reason beside it."""

from dataclasses import dataclass

from net.transport import MAX_FRAME_BYTES

KIB = 1024
MIB = 1024 * KIB


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

    # -- who may connect
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
    dial_everyone: bool = False
    """For observers, whom nobody dials; between members the lower peer id dials."""

    # -- writing
    write_bytes: int = 256 * KIB
    """What is queued for a peer goes out in writes of up to so many bytes."""
    unsent_bytes: int = 512 * KIB
    """How much the kernel may hold unsent, so that a vote overtakes a backlog of blocks."""
