"""The doors of a node: JSON-RPC over HTTP and WebSocket, binary submission, health and metrics.

limits      the bound of every input          jsonrpc     requests to answers, no HTTP
server      the HTTP port                     websocket   connections and subscriptions
submit      the binary body                   admission   policies, then the pool
ethereum    eth_*, net_*, web3_*              native      seq_*
views       the log as readers see it         envelope    a transaction's fields, for display
accounts    next nonces                       senders     keeps them up with the log
commits     who waits for the log to grow     forward     questions for the rollup's own RPC
methods     all of it put together            params      JSON values to numbers and bytes
"""
