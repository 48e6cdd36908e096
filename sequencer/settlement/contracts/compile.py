"""Compiles the contract and writes what is shipped: ABI, bytecode, compiler version, source hash.

python -m sequencer.settlement.contracts.compile            # write Sequencer.json
python -m sequencer.settlement.contracts.compile --check    # exit 1 if it is out of date
"""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = ("Sequencer.vy", "bls.vy", "committee.vy", "state.vy", "registry.vy", "epochs.vy")
ARTIFACT = HERE / "Sequencer.json"

# Vyper 0.4.3 declares no errors: these are the ones that the sources revert with.
_ERROR = re.compile(r'method_id\("(\w+)\(\)"\)')


def compile_source(source: str, name: str) -> tuple[list[dict[str, Any]], str]:
    """ABI and bytecode (0x...) of Vyper source that may import the modules beside this file."""
    import vyper
    from vyper.compiler.input_bundle import FilesystemInputBundle

    output = vyper.compile_code(
        source,
        contract_path=name,
        input_bundle=FilesystemInputBundle([HERE]),
        output_formats=["abi", "bytecode"],
    )
    return output["abi"], output["bytecode"]


def compile_contract() -> dict[str, Any]:
    """The artifact of the sources as they are now."""
    import vyper

    sources = [(HERE / name).read_text() for name in SOURCES]
    abi, bytecode = compile_source(sources[0], SOURCES[0])
    errors = sorted({error for source in sources for error in _ERROR.findall(source)})
    return {
        "compiler": f"vyper {vyper.__version__}",
        "source_sha256": hashlib.sha256("".join(sources).encode()).hexdigest(),
        "abi": abi + [{"type": "error", "name": name, "inputs": []} for name in errors],
        "bytecode": bytecode,
    }


def main(arguments: list[str]) -> int:
    """Writes the artifact, or compares it with `--check`; returns the exit code."""
    text = json.dumps(compile_contract(), indent=1) + "\n"
    if arguments == ["--check"]:
        return int(not ARTIFACT.exists() or ARTIFACT.read_text() != text)
    ARTIFACT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
