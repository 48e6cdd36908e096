"""Run TLC on Sequencer.tla as it is, and with one rule at a time switched off.

    TLA2TOOLS=path/to/tla2tools.jar python docs/model/check.py [NAME ...]

Exit code 1 if TLC finds anything but what is expected. See README.md beside this file.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
HEAP = "-Xmx4g"


class Case(NamedTuple):
    """A configuration, what is changed in it, and the invariant that TLC must find violated."""

    name: str
    expected: str | None = None
    changes: tuple[tuple[str, str], ...] = ()
    config: str = "Sequencer.cfg"


def without(rule: str, expected: str | None = "Agreement") -> Case:
    """One rule of the module switched off."""
    return Case(rule, expected, (('"none"', f'"{rule}"'),))


CASES = (
    Case("orders", config="Orders.cfg"),
    Case("fork", "NoFork"),
    Case("final after a timeout", "NothingFinalAfterTimeout"),
    Case("quorum 2f", "Agreement", (("Quorum = 3", "Quorum = 2"),)),
    Case("quorum 2f + 1 of 5", "Agreement", (("{a, b, c}", "{a, b, c, d}"),)),
    without("V1"),
    without("V2"),
    without("V3"),
    without("T1 vote"),
    without("T1 commit vote"),
    without("T2"),
    without("L1"),
    without("L2"),
    without("S1"),
    without("C2", "CertifiedStandsOnFinal"),
    Case("rounds"),
    without("V4", None),  # as for what is final, V1 and T1 imply it
)


def configuration(case: Case) -> str:
    """The text of its .cfg; where a violation is expected, that invariant alone is checked."""
    text = (HERE / case.config).read_text(encoding="utf-8")
    for before, after in case.changes:
        assert before in text
        text = text.replace(before, after)
    if case.expected is not None:
        text = re.sub("INVARIANTS .*", f"INVARIANT {case.expected}", text)
    return text


def tlc(jar: str, case: Case, directory: Path) -> str:
    """What TLC says about it."""
    config = directory / "MC.cfg"
    config.write_text(configuration(case), encoding="utf-8")
    options = ["-workers", "1", "-noGenerateSpecTE", "-metadir", str(directory), "-config"]
    command = ["java", HEAP, "-XX:+UseSerialGC", "-cp", jar, "tlc2.TLC", *options, str(config)]
    done = subprocess.run(
        [*command, "Sequencer.tla"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def check(jar: str, case: Case) -> bool:
    """Run one case and print a line about it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        said = tlc(jar, case, Path(directory))
    violated = re.search(r"Invariant (\w+) is violated", said)
    states = re.search(r"([\d,]+) distinct states found, \d", said)
    if violated is None and "No error has been found" not in said:
        print(said)
        return False
    found = violated[1] if violated else None
    steps = f", {len(re.findall('^State [0-9]+:', said, re.MULTILINE)) - 1} steps" if found else ""
    print(
        f"{case.name:24}{f'{found} is violated' if found else 'holds':40}"
        f"{states[1] if states else '?':>10} states, {time.monotonic() - began:.0f} s{steps}"
        f"{'' if found == case.expected else f', expected: {case.expected}'}",
        flush=True,
    )
    return found == case.expected


def main() -> int:
    """All cases, or those that are named."""
    jar = os.environ.get("TLA2TOOLS")
    unknown = set(sys.argv[1:]) - {case.name for case in CASES}
    if jar is None or not Path(jar).is_file() or unknown:
        print(__doc__, "Names:", ", ".join(case.name for case in CASES), file=sys.stderr)
        return 2
    jar = str(Path(jar).resolve())
    chosen = [case for case in CASES if case.name in sys.argv[1:] or len(sys.argv) == 1]
    as_expected = [check(jar, case) for case in chosen]
    return 0 if all(as_expected) else 1


if __name__ == "__main__":
    sys.exit(main())
