"""Scenarios: what happens to a cluster and what is expected of it, as sentences.

vocabulary   `Scenario`, and the actions beyond those of the simulation
expectations what can be expected of the commits over time
record       what a run showed, the same for both worlds
named        the scenarios, by name
simulated    runs one in virtual time, under the checkers of the simulation
real         runs one on processes, sockets and disks, and audits the logs afterwards
"""
