"""The house rules that a program can check: size, documentation, purity, finished work."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("consensus", "net", "sequencer", "testnet")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
CORE = [path for path in MODULES if path.is_relative_to(ROOT / "consensus")]

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 60
IMPURE = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "threading",
    "time",
}
BLS_BINDINGS = {
    "blspy": {"consensus/bls.py"},
    "py_arkworks_bls12381": {
        # the byte order of the L1's precompiles, and the precompiles of the embedded one
        "sequencer/settlement/encoding.py",
        "testnet/l1/precompiles.py",
    },
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> Iterator[str]:
    """The top-level packages that a module imports, also inside functions."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from definitions(node.body)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_holds_one_idea_and_says_which(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_MODULE_LINES
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name} in line {node.lineno} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_public_names_are_documented(path: Path) -> None:
    module = tree(path)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    public = [node for node in [*classes, *definitions(module.body)] if node.name[0] != "_"]
    silent = [
        f"{node.name} in line {node.lineno}" for node in public if not ast.get_docstring(node)
    ]
    private_parts = {
        f"{node.name} in line {node.lineno}"
        for owner in classes
        if owner.name.startswith("_")
        for node in definitions(owner.body)
    }
    assert [each for each in silent if each not in private_parts] == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_nothing_is_left_undone(path: Path) -> None:
    undone = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    assert not undone.search(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_is_pure(path: Path) -> None:
    module = tree(path)
    assert not IMPURE & set(imported(module))
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(module) if isinstance(node, kinds)]
    floats = [
        node.lineno
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert not floats


@pytest.mark.parametrize("binding", BLS_BINDINGS)
def test_the_bls_bindings_have_their_places(binding: str) -> None:
    users = {name(path) for path in MODULES if binding in set(imported(tree(path)))}
    assert users == BLS_BINDINGS[binding]


def test_trio_is_never_run() -> None:
    assert not [name(path) for path in MODULES if "trio" in set(imported(tree(path)))]


def test_nothing_is_called_after_nothing() -> None:
    parts = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not {part for part in parts if re.search(r"util|manager|helper|misc|common", part)}
