// A js-libp2p 3 host for the tests to talk to; the counterpart of stock_peer.py.
//
// `node --input-type=module - SEED PEER PORT < js_peer.mjs`, in a directory with js-libp2p in its
// node_modules, listens, prints its port, and if PORT is not 0 dials PEER there. It pings and
// identifies whoever connects, echoes each frame of the control channel back on a stream of its
// own, and prints a line of JSON for everything it sees.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [seed, peer, port] = process.argv.slice(2)
const CONTROL = '/dsequencer/1/control'
const BULK = '/dsequencer/1/bulk'
const tell = (facts) => console.log(JSON.stringify(facts))

const host = await createLibp2p({
  privateKey: await generateKeyPairFromSeed('Ed25519', Buffer.from(seed, 'hex')),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() }
})

let echo
const echoFrame = async (connection, frame) => {
  echo ??= connection.newStream(CONTROL)
  const stream = await echo
  const wire = Buffer.alloc(4 + frame.length)
  wire.writeUInt32BE(frame.length)
  frame.copy(wire, 4)
  if (!stream.send(wire)) await stream.onDrain()
}

const serve = async (stream, connection) => {
  let buffered = Buffer.alloc(0)
  for await (const chunk of stream) {
    buffered = Buffer.concat([buffered, chunk.subarray()])
    while (buffered.length >= 4 && buffered.length >= 4 + buffered.readUInt32BE(0)) {
      const frame = buffered.subarray(4, 4 + buffered.readUInt32BE(0))
      buffered = buffered.subarray(4 + frame.length)
      tell({ frame: frame.toString('hex'), protocol: stream.protocol })
      if (stream.protocol === CONTROL) await echoFrame(connection, frame)
    }
  }
}

await host.handle(CONTROL, serve)
await host.handle(BULK, serve)
host.addEventListener('peer:identify', ({ detail }) => {
  const key = Buffer.from(detail.peerId.publicKey.raw).toString('hex')
  tell({ agent: detail.agentVersion, key })
})
const connected = new Promise((done) => host.addEventListener('peer:connect', done))
tell({ port: Number(host.getMultiaddrs()[0].toString().split('/')[4]) })
if (port !== '0') await host.dial(multiaddr(`/ip4/127.0.0.1/tcp/${port}/p2p/${peer}`))
await connected
const [connection] = host.getConnections()
await host.services.ping.ping(connection.remotePeer)
await host.services.ping.ping(connection.remotePeer)
tell({ pings: 2 })
