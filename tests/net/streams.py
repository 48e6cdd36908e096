"""Byte streams in memory, with the ends that handshakes and negotiations talk through."""

import asyncio

from net.libp2p.errors import StreamEnded


class MemoryStream:
    """One end of a stream in memory: what the other end writes is read here."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.other: MemoryStream | None = None
        self.written = b""

    async def read_exactly(self, count: int) -> bytes:
        try:
            return await self.reader.readexactly(count)
        except asyncio.IncompleteReadError:
            raise StreamEnded("the script is over") from None

    def write(self, data: bytes) -> None:
        self.written += data
        if self.other is not None:
            self.other.reader.feed_data(data)


def pair() -> tuple[MemoryStream, MemoryStream]:
    """Two ends that are connected."""
    here, there = MemoryStream(), MemoryStream()
    here.other, there.other = there, here
    return here, there


def script(data: bytes) -> MemoryStream:
    """An end at which `data` arrives and then nothing more."""
    stream = MemoryStream()
    stream.reader.feed_data(data)
    stream.reader.feed_eof()
    return stream
