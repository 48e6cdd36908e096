"""What a peer can do wrong: one exception, caught in one place, counted by its reason."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a connection was refused or closed; the names appear in statistics and logs."""

    HUNG_UP = "hung_up"
    FAREWELL = "farewell"
    REPLACED = "replaced"
    IDLE = "idle"
    WRITE_TIMEOUT = "write_timeout"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    HANDSHAKE_FAILED = "handshake_failed"
    HANDSHAKE_OVERFLOW = "handshake_overflow"
    TOO_MANY_UNAUTHENTICATED = "too_many_unauthenticated"
    TOO_MANY_GUESTS = "too_many_guests"
    OWN_IDENTITY = "own_identity"
    MYSELF = "myself"
    OTHER_CHAIN = "other_chain"
    BAD_RECORD = "bad_record"
    YAMUX_VERSION = "yamux_version"
    YAMUX_TYPE = "yamux_type"
    YAMUX_STREAM = "yamux_stream"
    YAMUX_WINDOW = "yamux_window"
    TOO_MANY_STREAMS = "too_many_streams"
    CONTROL_FLOOD = "control_flood"
    FRAME_TOO_LARGE = "frame_too_large"
    CHANNEL_LOST = "channel_lost"
    NEGOTIATION_FAILED = "negotiation_failed"
    INTERNAL = "internal"


class PeerError(Exception):
    """A peer broke a rule or a bound; it costs that peer its connection."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason.value)
        self.reason = reason


class StreamEnded(Exception):
    """A stream was finished, reset or lost with its connection before the bytes came."""
