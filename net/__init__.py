"""Bytes between members: the transport seam and its implementations."""
