"""The L1 contract: `Sequencer.vy` with its module `bls.vy`, compiled to `Sequencer.json`.

The compiled form is shipped, so the compiler is needed only to change the contract:
`python -m sequencer.settlement.contracts.compile` writes it anew.
"""
