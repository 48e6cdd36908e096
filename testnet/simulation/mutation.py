"""Each rule broken in turn, to prove that the simulation would notice.

A mutant is an edit to the text of a few functions of the production code: `old` has to stand in
the function exactly once, so a mutant that no longer applies fails loudly instead of passing for
caught. The edited function replaces the original for as long as the mutant lives.
"""

import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType


class Stale(Exception):
    """The code that a mutant edits has changed; the mutant has to follow."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old` by `new` in one function, named `module:Class.method` or `module:function`."""

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken rule. `adversary` is who shows it best, None for faults alone."""

    rule: str
    name: str
    edits: tuple[Edit, ...]
    adversary: str | None = None
    nodes: int | None = None
    setting: tuple[Edit, ...] = ()
    """Edits that break nothing, such as smaller limits, and make the breach show sooner."""
    changing: bool = False
    """Whether it takes committees that follow each other to show it."""
    seeds: tuple[int, ...] = ()
    """Seeds that are known to show it, tried first."""


def _function(target: str) -> tuple[object, str, object, FunctionType]:
    """Who owns a function, its name there, the attribute as it stands, and the bare function."""
    module_name, path = target.split(":")
    owner: object = import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    raw = inspect.getattr_static(owner, name)
    bare = raw.fget if isinstance(raw, property) else getattr(raw, "__func__", raw)
    assert isinstance(bare, FunctionType)
    return owner, name, raw, bare


def _rebuilt(target: str, edits: Sequence[Edit]) -> tuple[object, str, object, object]:
    owner, name, raw, bare = _function(target)
    source = textwrap.dedent(inspect.getsource(bare))
    source = source[source.index("def ") :]
    for edit in edits:
        if source.count(edit.old) != 1:
            raise Stale(f"{target} holds {source.count(edit.old)} times: {edit.old}")
        source = source.replace(edit.old, edit.new)
    scope: dict[str, object] = {}
    exec("from __future__ import annotations\n" + source, bare.__globals__, scope)
    made = scope[name]
    if isinstance(raw, classmethod | staticmethod | property):
        made = type(raw)(made)  # type: ignore[arg-type]
    return owner, name, raw, made


def _holders(owner: object, name: str, original: object) -> list[object]:
    """Who else knows a function by import: every module of the program that holds it."""
    ours = ("consensus.", "sequencer.")
    modules = [module for key, module in list(sys.modules.items()) if key.startswith(ours)]
    return [owner, *(m for m in modules if m is not owner and vars(m).get(name) is original)]


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The program with this mutant in it."""
    undo: list[tuple[object, str, object]] = []
    try:
        everything = (*mutant.setting, *mutant.edits)
        for target in dict.fromkeys(edit.target for edit in everything):
            edits = [edit for edit in everything if edit.target == target]
            owner, name, original, changed = _rebuilt(target, edits)
            for holder in _holders(owner, name, original):
                undo.append((holder, name, original))
                setattr(holder, name, changed)
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)
