"""A cluster on one machine, and everything that goes wrong with it."""
