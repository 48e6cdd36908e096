"""Settlement: from the ordered log to L1 and back.

A run of log entries becomes a batch (`batch`): a header that the committee signs and the bytes
that it commits to.  The contract (`contracts/Sequencer.vy`, reached through `abi`) accepts a batch
when a quorum of the committee signed exactly its header.  Keys and signatures travel to the
contract as EIP-2537 points (`encoding`).  What the contract accepted is what `derive` reads back.
"""
