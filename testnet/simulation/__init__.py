"""A whole cluster in one thread and one seed, and everything that goes wrong with it.

`world` runs the production node on a heap of (time, sequence, action); `swarm` draws from a seed
what happens to it; `checkers` stand outside the nodes and remember across crashes; `adversaries`
and `twins` are the members that lie; `mutants` break one rule each, to prove that it would be
noticed. Same seed, same run: `testnet sim --seed S --trace` replays any of them.
"""
