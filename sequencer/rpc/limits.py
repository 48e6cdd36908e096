"""The bound of every input of the RPC: over it there is a clear error, never growth."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds unless the name says milliseconds."""

    connections: int = 2_048
    """Open connections; the next one is answered 503 and closed."""
    idle_s: float = 75.0
    """A connection without a whole request head for so long is closed."""
    body_s: float = 20.0
    """A request body has to arrive within this time."""
    json_body_bytes: int = 8 * 1024 * 1024
    """One JSON-RPC body."""
    websocket_message_bytes: int = 1024 * 1024
    """One message of a WebSocket client."""
    submit_body_bytes: int = 16 * 1024 * 1024
    """One body of `POST /submit`."""
    submit_transactions: int = 65_536
    """Transactions in one body of `POST /submit` or one `seq_submit`."""
    incoming_bytes: int = 256 * 1024 * 1024
    """Bodies and messages that are being read or answered, all together; above it, 503."""
    outgoing_bytes: int = 256 * 1024 * 1024
    """Large answers and events that clients have not taken yet, all together; above it, 503, and
    subscribers are disconnected; they resume where they were."""
    batch_calls: int = 1_000
    """Calls in one JSON-RPC batch (geth's default)."""
    response_bytes: int = 25_000_000
    """Results in one answer (geth's default)."""
    websockets: int = 512
    """Open WebSocket connections."""
    subscriptions: int = 64
    """Subscriptions of one WebSocket connection."""
    send_s: float = 30.0
    """A client that does not take a large answer or an event within this time is disconnected."""
    waiters: int = 4_096
    """Calls that wait for a transaction to be ordered."""
    wait_default_ms: int = 2_000
    """How long `eth_sendRawTransactionSync` waits when it is not told."""
    wait_max_ms: int = 60_000
    """How long anybody may ask a call to wait."""
    recent_bytes: int = 16 * 1024 * 1024
    """Transactions taken here and not ordered yet, kept to answer questions about them."""
    accounts: int = 100_000
    """Senders whose next nonce is remembered."""
    views: int = 8
    """Blocks kept decoded for those who read the log block by block."""
    forward_s: float = 10.0
    """A rollup's own RPC has to answer within this time."""
    forward_bytes: int = 8 * 1024 * 1024
    """One answer of a rollup's own RPC."""
