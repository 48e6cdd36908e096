"""Local Ethereum chains for a testnet.

`launch_l1` starts one: *embedded* (py-evm with native BLS precompiles, in its own process; needs
nothing but Python and keeps its chain over restarts) or *anvil* (where it is installed). Both can
be stalled, reorganised and made expensive on request. `simulated` is a third one for simulations:
no EVM, no process, no clock, everything from one seed.
"""

from testnet.l1.launch import L1Handle, L1LaunchError, find_anvil, funded_key, launch_l1

__all__ = ["L1Handle", "L1LaunchError", "find_anvil", "funded_key", "launch_l1"]
