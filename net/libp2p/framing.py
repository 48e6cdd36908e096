"""Frames in a byte stream: a 4-byte big-endian length, then that many bytes.

`SendQueue` cuts what is queued into pieces of the size that the connection can send now;
`FrameReader` puts frames together again, no matter how the bytes were cut.
"""

from collections import deque

from net.libp2p.errors import PeerError, Reason
from net.transport import MAX_FRAME_BYTES

PREFIX_BYTES = 4

# a view keeps the whole decrypted record alive (64 KiB); smaller pieces are copied instead
_VIEW_BYTES = 16 * 1024

Buffer = bytes | memoryview


def encode_frame(payload: bytes) -> bytes:
    """`payload` with its length in front; ValueError above MAX_FRAME_BYTES."""
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes exceeds {MAX_FRAME_BYTES}")
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


class SendQueue:
    """Byte strings waiting to be sent in order."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[Buffer] = deque()
        self.size = 0

    def push(self, data: Buffer) -> None:
        """Append `data`, which must not change any more."""
        self._pieces.append(data)
        self.size += len(data)

    def take(self, limit: int) -> list[Buffer]:
        """Remove up to `limit` bytes, as pieces in order."""
        pieces = self._pieces
        if self.size <= limit:
            taken = list(pieces)
            self.clear()
            return taken
        taken, room = [], limit
        while room >= len(pieces[0]):
            piece = pieces.popleft()
            taken.append(piece)
            room -= len(piece)
        if room:
            head = memoryview(pieces[0])
            taken.append(head[:room])
            pieces[0] = head[room:]
        self.size -= limit
        return taken

    def clear(self) -> None:
        """Forget everything queued."""
        self._pieces.clear()
        self.size = 0


class FrameReader:
    """Whole frames out of a byte stream; what it holds is bounded by the receive window."""

    __slots__ = ("_chunks", "_need", "_offset", "_size")

    def __init__(self) -> None:
        self._chunks: deque[Buffer | bytearray] = deque()
        self._offset = 0  # bytes of the first chunk that are used up
        self._size = 0  # unused bytes in all chunks
        self._need: int | None = None  # length of the frame being read, once its prefix is

    def feed(self, data: memoryview) -> None:
        """Append bytes as they arrived."""
        self._size += len(data)
        if len(data) >= _VIEW_BYTES:
            self._chunks.append(data)
        elif self._chunks and type(last := self._chunks[-1]) is bytearray:
            if len(self._chunks) == 1:
                del last[: self._offset]  # or it would grow for ever, never quite used up
                self._offset = 0
            last += data
        else:
            self._chunks.append(bytearray(data))

    def take(self, limit: int) -> list[bytes]:
        """Up to `limit` whole frames; PeerError if a length exceeds MAX_FRAME_BYTES."""
        frames: list[bytes] = []
        while len(frames) < limit:
            if self._need is None:
                if self._size < PREFIX_BYTES:
                    break
                self._need = int.from_bytes(self._pull(PREFIX_BYTES), "big")
                if self._need > MAX_FRAME_BYTES:
                    raise PeerError(Reason.FRAME_TOO_LARGE, f"frame of {self._need} bytes")
            if self._size < self._need:
                break
            frames.append(self._pull(self._need))
            self._need = None
        return frames

    def _pull(self, count: int) -> bytes:
        """Remove exactly `count` bytes, of which at least so many are held."""
        self._size -= count
        parts: list[bytes] = []
        while count:
            head = self._chunks[0]
            end = self._offset + count
            if end < len(head):
                parts.append(bytes(memoryview(head)[self._offset : end]))
                self._offset = end
                break
            parts.append(bytes(memoryview(head)[self._offset :]))
            count = end - len(head)
            self._offset = 0
            self._chunks.popleft()
        return parts[0] if len(parts) == 1 else b"".join(parts)
