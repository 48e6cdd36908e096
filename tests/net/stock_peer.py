"""A stock py-libp2p host in a process of its own, on trio, for the tests to talk to.

`python -m tests.net.stock_peer SEED PEER PORT` listens, prints its port, and if PORT is not 0
dials PEER there. It then pings and identifies whoever connects to it, echoes each frame of the
control channel back on a stream of its own, and prints a line of JSON for everything it sees.
"""

import json
import sys
from typing import Any

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.io.utils import read_exactly
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.utils import read_length_prefixed_protobuf

CONTROL = TProtocol("/dsequencer/1/control")
BULK = TProtocol("/dsequencer/1/bulk")
IDENTIFY = TProtocol("/ipfs/id/1.0.0")


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


async def main(seed: bytes, peer: ID, port: int) -> None:
    keys = create_new_key_pair(seed)
    noise = NoiseTransport(keys, create_new_x25519_key_pair().private_key)
    host = new_host(key_pair=keys, sec_opt={TProtocol("/noise"): noise})
    echoes, requests = trio.open_memory_channel[bytes](16)

    async def serve_frames(stream: Any) -> None:
        while True:
            length = int.from_bytes(await read_exactly(stream, 4), "big")
            frame = await read_exactly(stream, length)
            tell(frame=frame.hex(), protocol=str(stream.get_protocol()))
            if stream.get_protocol() == CONTROL:
                await echoes.send(frame)

    host.set_stream_handler(CONTROL, serve_frames)
    host.set_stream_handler(BULK, serve_frames)
    async with host.run([multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        tell(port=int(host.get_addrs()[0].value_for_protocol("tcp")))
        if port:
            address = multiaddr.Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")
            await host.connect(PeerInfo(peer, [address]))
        while peer not in host.get_network().connections:  # noqa: ASYNC110
            await trio.sleep(0.01)
        tell(pings=len(await PingService(host).ping(peer, ping_amt=2)))
        stream = await host.new_stream(peer, [IDENTIFY])
        message = parse_identify_response(await read_length_prefixed_protobuf(stream, True))
        tell(agent=message.agent_version, key=message.public_key.hex())
        echo = await host.new_stream(peer, [CONTROL])
        async for frame in requests:
            await echo.write(len(frame).to_bytes(4, "big") + frame)


if __name__ == "__main__":
    trio.run(main, bytes.fromhex(sys.argv[1]), ID.from_base58(sys.argv[2]), int(sys.argv[3]))
