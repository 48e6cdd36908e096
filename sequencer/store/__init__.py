"""Where a node keeps what it must not forget: the seam, its tables, and two implementations.

`seam` says what a store is, `schema` what is in it; `memory` serves simulations, `lmdb` the world.
"""
