"""A node: ordering, settlement on L1, and the interfaces clients use."""

__version__ = "0.1.0"
