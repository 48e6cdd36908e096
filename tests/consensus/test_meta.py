"""The specification and the tests stay together: every numbered rule has a test named for it."""

import ast
import re
from pathlib import Path

import pytest

import consensus

HERE = Path(__file__).parent
ROOM = Path(consensus.__file__).parent
RULES = re.findall(r"^  ([A-Z][a-z]?\d) ", consensus.__doc__ or "", re.MULTILINE)


SOURCES = {path.name: path.read_text() for path in sorted(ROOM.glob("*.py"))}
TESTS = {path.name: path.read_text() for path in sorted(HERE.glob("test_*.py"))}


def functions_of(source: str) -> list[str]:
    """The names of the functions at the top of a module."""
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


NAMES = {name: functions_of(source) for name, source in TESTS.items()}


def test_the_specification_numbers_its_rules_once() -> None:
    assert len(RULES) == len(set(RULES)) == 38


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_test_named_for_it(rule: str) -> None:
    names = [name for found in NAMES.values() for name in found]
    assert any(name.startswith(f"test_{rule}_") for name in names)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_cited_where_it_is_kept(rule: str) -> None:
    code = [source for name, source in SOURCES.items() if name != "__init__.py"]
    assert any(re.search(rf"\b{rule}\b", source) for source in code)


def test_nothing_cites_a_rule_that_does_not_exist() -> None:
    cited_rule = re.compile(r"(?:test_|\b)((?:Ep|E|P|V|T|L|C|S|Q|Ld|Y)\d)(?:\b|_)")
    for name, source in [*SOURCES.items(), *TESTS.items()]:
        for cited in cited_rule.findall(source):
            assert cited in RULES, f"{name} cites {cited}"


def test_no_two_tests_of_a_file_share_a_name() -> None:
    for file, names in NAMES.items():
        assert len(names) == len(set(names)), file
