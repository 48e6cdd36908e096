"""Running the `sequencer` command in this process, for tests."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sequencer import keystore
from sequencer.cli import main

PASSWORD = "correct horse"


def run(*arguments: str | Path, **environment: str) -> Result:
    """Run a command in this process."""
    given = [str(argument) for argument in arguments]
    return CliRunner().invoke(main, given, env={"SEQUENCER_PASSWORD": None, **environment})


def good(*arguments: str | Path, **environment: str) -> str:
    """Run a command that must succeed; its stdout."""
    result = run(*arguments, **environment)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def wrong(code: int, *arguments: str | Path, **environment: str) -> str:
    """Run a command that must end with this code and one line on stderr; that line."""
    result = run(*arguments, **environment)
    assert result.exit_code == code, result.output + repr(result.exception)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr.strip()


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys from passwords in a millisecond, in the modules that import this."""
    monkeypatch.setattr(keystore, "SCRYPT_ROUNDS", keystore.LIGHT_SCRYPT_ROUNDS)
