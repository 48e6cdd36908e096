"""A node: ordering, settlement on L1, and the interfaces clients use."""
