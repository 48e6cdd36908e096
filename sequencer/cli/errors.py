"""How a command ends: 0 good, 1 a negative result, 2 usage or configuration; one line each."""

from typing import IO, Any

import click


class CommandError(click.ClickException):
    """The command cannot do its work as it was called; says in one line what to do about it."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """The sentence on stderr."""
        click.echo(f"error: {self.format_message()}", err=True, file=file)


class NegativeResult(click.ClickException):
    """The command did its work and the answer is no."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """The sentence on stderr."""
        click.echo(self.format_message(), err=True, file=file)
