"""`python -m sequencer.cli` is the `sequencer` command."""

from sequencer.cli import main

main(prog_name="sequencer")
