"""Running the `sequencer` command in this process, for tests."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sequencer import keystore
from sequencer.cli import main
from sequencer.genesis import Genesis
from sequencer.store.lmdb import LmdbStore
from sequencer.store.schema import Table
from sequencer.store.seam import WriteBatch

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


def spoil(directory: Path, table: Table) -> None:
    """Write other bytes over every value of a table in a stopped node's data."""
    genesis = Genesis.load(directory / "genesis.json")
    store = LmdbStore(directory / "data", genesis.chain_id)
    writes = WriteBatch()
    writes.put_many(table, [(key, b"\xff" * 9) for key, _ in store.range(table, b"", 1_000)])
    store.save(writes)
    store.close()


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys from passwords in a millisecond, in the modules that import this."""
    monkeypatch.setattr(keystore, "SCRYPT_ROUNDS", keystore.LIGHT_SCRYPT_ROUNDS)
