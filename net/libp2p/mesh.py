"""The mesh: a link to every peer it is told of, over libp2p, for a node to speak through.

Of two peers the one with the lower peer id dials, again and again until the other is there. The
higher one gives it a moment and then dials as well: the lower one may not know it, or know an
address that it has left. A peer has one connection: a new one replaces the old one, which is how
a restarted peer gets rid of its own ghost.

Whoever connects without being in the mapping is a guest. Guests have limits of their own, in
number and in what is held for each, so they take nothing from the others. When all places are
taken the guest that has been silent longest goes, if it has been silent for long; else the
newcomer is turned away, since whoever has something to say would otherwise be pushed out by
anybody who can make up keys.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from functools import partial
from typing import Any, TypeVar

from net.libp2p.chain import Chain
from net.libp2p.connection import Connection, ProtocolHandler
from net.libp2p.dialing import Address, connect
from net.libp2p.errors import PeerError, Reason, StreamEnded
from net.libp2p.framing import encode_frame
from net.libp2p.handshake import (
    RawStream,
    Upgraded,
    secure_outbound,
    upgrade_inbound,
    upgrade_outbound,
)
from net.libp2p.identity import Identity
from net.libp2p.inbox import MAX_TURN_EVENTS, Inbox
from net.libp2p.link import Link
from net.libp2p.noise import Noise, SecureChannel
from net.libp2p.options import MeshOptions
from net.libp2p.protocols import (
    IDENTIFY,
    PING,
    IdentifyService,
    PeerDescription,
    identify,
    ping,
    serve_ping,
)
from net.libp2p.stream import Stream
from net.transport import Channel, NetworkEvent, PeerId

logger = logging.getLogger(__name__)

_FAREWELL_S = 0.25

T = TypeVar("T")


class Mesh:
    """A `Transport` over libp2p connections; all of it lives on one event loop."""

    def __init__(
        self,
        identity_seed: bytes,
        listen: Address,
        peers: Mapping[PeerId, Address | None],
        options: MeshOptions = MeshOptions(),  # noqa: B008  (frozen)
        chain_id: bytes = b"",
    ) -> None:
        self._identity = Identity.from_seed(identity_seed)
        self._listen = listen
        self._addresses: dict[PeerId, Address | None] = dict(peers)
        self._options = options
        self.on_own_identity: Callable[[str], None] = lambda _: None
        """Called with the address from which another process has shown my own key."""
        self._counters: Counter[str] = Counter()
        self._inbox = Inbox()
        self._links: dict[PeerId, Link] = {}
        self._unauthenticated: dict[RawStream, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialers: dict[PeerId, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._noise: Noise | None = None
        self._identify = IdentifyService(self._identity)
        self._handlers: dict[str, ProtocolHandler] = {
            PING: serve_ping,
            IDENTIFY: self._identify.serve,
        }
        self._chain = Chain(chain_id)
        self.other_chains: Mapping[PeerId, str] = self._chain.others
        for channel, protocol in self._chain.protocols.items():
            self._handlers[protocol] = partial(self._serve_channel, channel)
        self._identify.protocols = tuple(self._handlers)

    # -- the seam

    @property
    def local_peer(self) -> PeerId:
        """Who I am to the others."""
        return self._identity.peer_id

    @property
    def peers_up(self) -> frozenset[PeerId]:
        """The peers that can be sent to now."""
        return frozenset(peer for peer, link in self._links.items() if link.is_up)

    def send(self, peer: PeerId, channel: Channel, frame: bytes) -> bool:
        """Queue a frame; False when the peer is down or its queue is full. Never blocks."""
        return self._queue(peer, channel, encode_frame(frame))

    def broadcast(self, channel: Channel, frame: bytes, to: Iterable[PeerId]) -> int:
        """Queue one frame, encoded once, for several peers; how many accepted it."""
        wire = encode_frame(frame)
        return sum(self._queue(peer, channel, wire) for peer in to)

    # -- what arrives

    def drain_events(self, limit: int = MAX_TURN_EVENTS) -> list[NetworkEvent]:
        """Take up to `limit` events; taking frames lets their senders send more."""
        return self._inbox.drain(limit)

    async def wait_event(self) -> None:
        """Return when `drain_events` has something to give."""
        await self._inbox.wait()

    async def turns(self) -> AsyncIterator[Iterator[NetworkEvent]]:
        """What is queued, turn by turn (`Inbox.turn`); for a single consumer, which takes it all.

        What it says of a peer by `distrust` counts within the turn.
        """
        while True:
            await self._inbox.wait()
            yield self._inbox.turn()
            await asyncio.sleep(0)  # read what arrived meanwhile: it may go first

    def distrust(self, peer: PeerId) -> None:
        """A peer sent what cannot be right: for a while others go before it, as before guests."""
        if peer in self._addresses and self._inbox.distrust(peer):
            self._counters["distrusted"] += 1

    # -- asking peers

    async def ping(self, peer: PeerId) -> float:
        """Round trip to a connected peer in seconds; ConnectionError if there is no answer."""
        return await self._ask(peer, ping)

    async def identify(self, peer: PeerId) -> PeerDescription:
        """What a connected peer tells of itself; ConnectionError if there is no answer."""
        return await self._ask(peer, identify)

    async def _ask(self, peer: PeerId, question: Callable[[Connection], Awaitable[T]]) -> T:
        link = self._links.get(peer)
        if link is None:
            raise ConnectionError(f"{peer} is not connected")
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s):
                return await question(link.connection)
        except (PeerError, StreamEnded, TimeoutError) as error:
            raise ConnectionError(f"{peer} did not answer: {error!r}") from None

    async def has_double_at(self, address: Address) -> bool:
        """Whether another process with my key listens at `address`, such as my published one.

        If so the other one hears `on_own_identity`; False also when nobody can be asked.
        """
        assert self._noise is not None
        raw = RawStream()
        try:
            async with asyncio.timeout(self._options.dial_timeout_s):
                await connect(raw, address, self._options.dial_timeout_s)
                channel = await secure_outbound(raw, self._noise, self.local_peer)
        except (OSError, PeerError, StreamEnded, TimeoutError):
            return False
        finally:
            raw.fail(StreamEnded("all is known"))
        return channel.static_key != self._noise.static_key

    # -- life

    @property
    def listen_address(self) -> Address:
        """Where peers reach us; the port is the real one after `start` even if 0 was asked."""
        return self._listen

    async def start(self) -> None:
        """Listen, and dial; OSError says which address is taken."""
        if self._noise is None:
            self._noise = Noise(self._identity)
        loop = asyncio.get_running_loop()
        host, port = self._listen
        try:
            self._server = await loop.create_server(partial(RawStream, self._accept), host, port)
        except OSError as error:
            text = error.strerror or str(error)
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {text}") from None
        self._listen = (host, self._server.sockets[0].getsockname()[1])
        self._identify.listen_address = self._listen
        self._spawn(self._beat())
        self.set_peers(self._addresses)

    def set_peers(self, peers: Mapping[PeerId, Address | None]) -> None:
        """Whom I know from now on, and where each listens (None: nobody knows; it dials me).

        No link is lost: a peer that is not among them any more becomes a guest, a guest that is
        gets rid of a guest's limits, and a new address counts from the next dial on. What is said
        of myself is ignored.
        """
        self._addresses = dict(peers)
        self._addresses.pop(self.local_peer, None)
        if self._server is None:
            return
        for peer, link in self._links.items():
            link.set_guest(peer not in self._addresses)
        self._limit_guests(self._options.max_guests)
        for peer in list(self._dialers):
            if self._addresses.get(peer) is None:
                self._dialers.pop(peer).cancel()
        for peer, address in self._addresses.items():
            if peer not in self._dialers and address is not None:
                self._dialers[peer] = self._spawn(self._keep_dialing(peer))

    def statistics(self) -> dict[str, int]:
        """Counters since the start, and how many links are up.

        `frames_in`, `frames_out`, `bytes_in`, `bytes_out` (on the wire), `dials`, `links_up` (how
        often a link came up), `dropped_peer_down`, `dropped_queue_full`, `distrusted` (how
        often a peer lost its place); and by `Reason`
        `dial_...` (ours that failed), `refused_...` (others', before they were admitted) and
        `closed_...` (admitted connections that ended). What never happened is missing.
        """
        counters = self._counters.copy()
        for link in self._links.values():
            self._add_traffic(counters, link.connection)
        return {**counters, "peers_up": len(self.peers_up)}

    async def aclose(self) -> None:
        """Say farewell, close every socket and end every task."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._dialers.clear()
        for raw in list(self._unauthenticated):
            raw.fail(StreamEnded("the mesh closes"))
        connections = [link.connection for link in self._links.values()]
        for connection in connections:
            connection.close_politely()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.wait_closed(_FAREWELL_S) for each in connections))
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    # -- dialling and being dialled

    async def _keep_dialing(self, peer: PeerId) -> None:
        options = self._options
        patience = 0.0 if self.local_peer < peer else options.dial_patience_s
        pause, wait = patience, options.redial_first_s
        while True:
            await asyncio.sleep(pause)
            raw = RawStream()
            link = self._links.get(peer) or await self._dial(peer, raw)
            if link is not None:
                await asyncio.wait((link.connection.closed,))
            pause = wait * random.uniform(0.5, 1.0)
            if link is not None and link.was_up:
                wait = options.redial_first_s
                pause = max(patience, pause)
            elif peer in self.other_chains:
                wait = options.redial_unwelcome_cap_s
            else:
                cap = options.redial_unwelcome_cap_s if raw.was_connected else options.redial_cap_s
                wait = min(wait * options.redial_factor, cap)

    async def _dial(self, peer: PeerId, raw: RawStream) -> Link | None:
        """One attempt to connect to `peer`, whose name is resolved anew; None if it failed."""
        assert self._noise is not None
        address = self._addresses[peer]
        assert address is not None
        self._counters["dials"] += 1
        try:
            async with asyncio.timeout(self._options.dial_timeout_s):
                await connect(raw, address, self._options.dial_timeout_s)
                return self._adopt(await upgrade_outbound(raw, self._noise, peer), True)
        except Exception as error:
            self._count_refusal("dial", peer, error)
            return None
        finally:
            raw.fail(StreamEnded("dialling has ended"))

    def _accept(self, raw: RawStream) -> None:
        """Somebody connected; of too many who have not said who they are, the oldest goes."""
        if len(self._unauthenticated) >= self._options.unauthenticated_connections:
            oldest = next(iter(self._unauthenticated))
            del self._unauthenticated[oldest]
            oldest.fail(PeerError(Reason.TOO_MANY_UNAUTHENTICATED))
        self._unauthenticated[raw] = None
        self._spawn(self._authenticate(raw))

    async def _authenticate(self, raw: RawStream) -> None:
        assert self._noise is not None
        try:
            async with asyncio.timeout(self._options.handshake_timeout_s):
                upgraded = await upgrade_inbound(raw, self._noise, partial(self._admit, raw.remote))
            self._adopt(upgraded, False)
        except Exception as error:
            self._count_refusal("refused", raw.remote, error)
        finally:
            raw.fail(StreamEnded("the handshake has ended"))
            self._unauthenticated.pop(raw, None)

    def _count_refusal(self, kind: str, whom: str, error: Exception) -> None:
        if isinstance(error, PeerError):
            cause = error.reason.value
        elif isinstance(error, TimeoutError):
            cause = Reason.HANDSHAKE_TIMEOUT.value
        elif isinstance(error, (OSError, StreamEnded)):
            cause = "unreachable" if kind == "dial" else Reason.HUNG_UP.value
        else:
            cause = Reason.INTERNAL.value
            logger.error("%s %s failed", kind, whom, exc_info=error)
        self._counters[f"{kind}_{cause}"] += 1
        logger.debug("%s %s: %s: %s", kind, whom, cause, error)

    def _admit(self, remote: str, channel: SecureChannel) -> None:
        """PeerError unless whoever has just proved who it is may be linked."""
        assert self._noise is not None
        if channel.peer != self.local_peer:
            self._require_place(channel.peer)
        elif channel.static_key == self._noise.static_key:
            raise PeerError(Reason.MYSELF, "I was told my own address")
        else:
            self.on_own_identity(remote)
            raise PeerError(Reason.OWN_IDENTITY, f"{remote} has my key")

    def _require_place(self, peer: PeerId) -> None:
        """PeerError if `peer` would be one guest too many."""
        if peer in self._addresses or peer in self._links:
            return
        guests = self._guests()
        if self._inbox.guest_bytes >= self._options.guest_inbox_bytes:
            raise PeerError(Reason.TOO_MANY_GUESTS, "guests have said more than can be heard")
        if len(guests) < self._options.max_guests:
            return
        long_ago = asyncio.get_running_loop().time() - self._options.guest_silence_s
        if not any(guest.heard_at <= long_ago for guest in guests):
            raise PeerError(Reason.TOO_MANY_GUESTS, f"no place for {peer}")

    def _guests(self) -> list[Link]:
        return [link for link in self._links.values() if link.is_guest]

    def _limit_guests(self, count: int) -> None:
        """Part with those guests that have been silent longest until so many are left."""
        while len(guests := self._guests()) > count:
            _most_silent(guests).connection.close(Reason.TOO_MANY_GUESTS)

    def _adopt(self, upgraded: Upgraded, is_dialer: bool) -> Link:
        """Make an authenticated connection the link to its peer, instead of an older one."""
        peer = upgraded.channel.peer
        existing = self._links.get(peer)
        # of two that crossed, both ends keep what the lower id dialled
        crossed = existing is not None and existing.connection.is_dialer != is_dialer
        try:
            self._require_place(peer)  # somebody else may have got the last place meanwhile
            if crossed and is_dialer == (peer < self.local_peer):
                raise PeerError(Reason.REPLACED)
        except PeerError:
            upgraded.transport.abort()
            raise
        if existing is not None:
            existing.connection.close(Reason.REPLACED)
        is_guest = peer not in self._addresses
        if is_guest:
            self._limit_guests(self._options.max_guests - 1)
        connection = Connection(upgraded, is_dialer, self._handlers, self._options)
        link = Link(connection, is_guest, self._inbox, self._options, self._counters, self._chain)
        self._links[peer] = link
        connection.on_closed = partial(self._on_closed, link)
        connection.start()
        connection.spawn(link.open)
        return link

    def _on_closed(self, link: Link, connection: Connection) -> None:
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
        link.down()
        self._add_traffic(self._counters, connection)
        self._counters[f"closed_{connection.reason}"] += 1
        logger.info("%s closed: %s %s", link.peer, connection.reason, connection.detail)

    async def _serve_channel(
        self, channel: Channel, connection: Connection, stream: Stream
    ) -> None:
        link = self._links.get(connection.peer)
        if link is not None and link.connection is connection:
            link.accept(channel, stream)

    # -- the rest

    def _queue(self, peer: PeerId, channel: Channel, wire: bytes) -> bool:
        link = self._links.get(peer)
        if link is None or not link.is_up:
            self._counters["dropped_peer_down"] += 1
            return False
        return link.send(channel, wire)

    async def _beat(self) -> None:
        """Heartbeats, and an eye on whoever does not answer them."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(self._options.heartbeat_s)
            now = loop.time()
            we_slept = now - before > self._options.heartbeat_s + self._options.idle_timeout_s / 2
            for link in list(self._links.values()):
                if we_slept:
                    link.connection.forgive(now)
                link.connection.guard(partial(link.connection.beat, now))

    @staticmethod
    def _add_traffic(counters: Counter[str], connection: Connection) -> None:
        counters["bytes_in"] += connection.bytes_in
        counters["bytes_out"] += connection.bytes_out

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _most_silent(links: list[Link]) -> Link:
    return min(links, key=lambda link: link.heard_at)
