"""The protocol, pure."""
