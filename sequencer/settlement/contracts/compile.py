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

SOURCE = Path(__file__).with_name("Sequencer.vy")
ARTIFACT = Path(__file__).with_name("Sequencer.json")

# Vyper 0.4.3 declares no errors: these are the ones that the source reverts with.
_ERROR = re.compile(r'raw_revert\(method_id\("(\w+)\(\)"\)\)')


def compile_contract() -> dict[str, Any]:
    """The artifact of the source as it is now."""
    import vyper

    source = SOURCE.read_text()
    output = vyper.compile_code(
        source, contract_path=SOURCE.name, output_formats=["abi", "bytecode"]
    )
    errors = sorted(set(_ERROR.findall(source)))
    return {
        "compiler": f"vyper {vyper.__version__}",
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "abi": output["abi"] + [{"type": "error", "name": name, "inputs": []} for name in errors],
        "bytecode": output["bytecode"],
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
