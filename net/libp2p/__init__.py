"""libp2p on asyncio: the wire protocols that a committee needs, and the mesh they carry.

`/multistream/1.0.0`, `/noise` (XX), `/yamux/1.0.0`, `/ipfs/ping/1.0.0` and `/ipfs/id/1.0.0` are
spoken natively on asyncio; keys, peer ids, multiaddresses, the Noise handshake and the identify
message come from py-libp2p, whose own swarm needs a trio loop and is not used.

Bottom up, each module using only those before it:

- `identity`     Ed25519 seed <-> peer id <-> multiaddress
- `errors`       the one exception for whatever a peer does wrong, and its reasons
- `options`      every bound and interval by name
- `framing`      length-prefixed frames in and out of a byte stream
- `multistream`  which protocol a stream speaks
- `noise`        who is at the other end, and the encrypted records
- `yamux`        many streams with flow control over one connection (a machine without I/O)
- `handshake`    from an accepted socket to an authenticated, encrypted channel
- `dialing`      from an address, or a name, to a connected socket
- `connection`   one authenticated connection and its streams on asyncio
- `protocols`    ping and identify
- `inbox`        what has arrived, and in which order the core gets it
- `link`         the control and bulk channels of one peer
- `mesh`         all links: listening, dialling, heartbeat; the `Transport` that a node uses
"""
