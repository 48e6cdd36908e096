"""The L1 contract: `Sequencer.vy`, and what it compiles to, `Sequencer.json`.

The compiled form is shipped, so the compiler is needed only to change the contract:
`python -m sequencer.settlement.contracts.compile` writes it anew.
"""
