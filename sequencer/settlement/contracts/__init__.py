"""The L1 contract: `Sequencer.vy` with the modules beside it, compiled to `Sequencer.json`.

The compiled form is shipped, so the compiler is needed only to change the contract:
`python -m sequencer.settlement.contracts.compile` writes it anew.
"""
