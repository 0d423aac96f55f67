"""The reasons that the code gives its exceptions, found in its syntax.

A reason stands in the call of an exception, or of a function that passes it on by a parameter
of the name ``reason``, such as ``Violations.add``. A call without one gives the default reason.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import ocigrpc
from ocigrpc import errors, image_errors

_TOP = Path(ocigrpc.__file__).parent
_REASON = re.compile(r"[A-Z]+(_[A-Z]+)*")
KINDS = {
    name: each
    for name, each in {**vars(errors), **vars(image_errors)}.items()
    if isinstance(each, type) and issubclass(each, errors.OcigrpcError)
}
# What the output of a runtime means is in a table, whose rows all become this exception.
_BY_TABLE = {"_cause": "CannotRun"}

_Function = ast.FunctionDef
# By function: the exceptions that it makes, and the keys of their metadata.
_Ends = dict[str, dict[str, set[str]]]


def reasons_in_code() -> Mapping[tuple[str, str], set[str]]:
    """By the name of an exception and its reason: the keys of the metadata, as far as seen."""
    nodes = [node for tree in _trees() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, _Function)]
    tables = [node for tree in _trees() for node in tree.body if isinstance(node, ast.Assign)]
    passers = {each.name: each for each in functions if "reason" in _parameters(each)}
    ends = _ends_of(passers)
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for part in (*functions, *tables):
        for call, value in _calls(part, passers):
            callee = _callee(call)
            for reason in _constants(value, part) if value else {KINDS[callee].reason}:
                for kind, keys in _ends(callee, ends).items():
                    found[kind, reason] |= keys | _keys(call)
    return found


def _trees() -> Iterator[ast.Module]:
    for path in sorted(_TOP.rglob("*.py")):
        # The client makes exceptions of what it was sent.
        if path.parent.name not in ("v1", "client"):
            yield ast.parse(path.read_text())


def _ends_of(passers: Mapping[str, _Function]) -> _Ends:
    """The exceptions that each of the functions passes its reason to, with their keys."""
    ends: _Ends = {name: {_BY_TABLE[name]: set()} if name in _BY_TABLE else {} for name in passers}
    for _ in passers:
        for name, function in passers.items():
            for call, value in _calls(function, passers):
                if isinstance(value, ast.Name) and value.id == "reason":
                    for kind, keys in _ends(_callee(call), ends).items():
                        ends[name].setdefault(kind, set()).update(keys | _keys(call))
    return ends


def _ends(callee: str, ends: _Ends) -> dict[str, set[str]]:
    return {callee: set()} if callee in KINDS else ends[callee]


def _calls(
    part: ast.stmt, passers: Mapping[str, _Function]
) -> Iterator[tuple[ast.Call, ast.expr | None]]:
    """The calls in a function or table that give a reason; None stands for the default one."""
    for call in ast.walk(part):
        if not isinstance(call, ast.Call):
            continue
        callee = _callee(call)
        named = {each.arg: each.value for each in call.keywords}
        if callee in KINDS and ("reason" in named or None not in named):
            yield call, named.get("reason")
        elif callee in passers:
            at = _parameters(passers[callee]).index("reason")
            if "reason" in named or at < len(call.args):
                yield call, named["reason"] if "reason" in named else call.args[at]


def _callee(call: ast.Call) -> str:
    """The name of an exception or a function, of ``Kind(...)``, ``Kind.of(...)`` and the like."""
    found = call.func
    if isinstance(found, ast.Attribute) and found.attr == "of":
        found = found.value
    if isinstance(found, ast.Attribute):
        return found.attr
    return found.id if isinstance(found, ast.Name) else ""


def _keys(call: ast.Call) -> set[str]:
    """The keys of the metadata that a call gives."""
    keys = {each.arg for each in call.keywords if each.arg and each.arg != "reason"}
    if isinstance(call.func, ast.Attribute) and call.func.attr == "of":
        make = getattr(KINDS[_callee(call)], "of", None)
        if make is not None:
            parameters = inspect.signature(make).parameters.values()
            made: errors.OcigrpcError = make(
                *("" for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)
            )
            keys |= set(made.metadata)
    return keys


def _parameters(function: _Function) -> list[str]:
    """Those that may be given by place, without ``self``, and then the others."""
    arguments = function.args
    names = [each.arg for each in (*arguments.args, *arguments.kwonlyargs)]
    return names[1:] if names[:1] == ["self"] else names


def _constants(value: ast.expr, part: ast.stmt) -> set[str]:
    """The reasons that a value can be; those of a variable are what it is set to."""
    if isinstance(value, ast.Name):
        sources = [
            each.value if isinstance(each, ast.Assign) else each.iter
            for each in ast.walk(part)
            if isinstance(each, ast.Assign | ast.For)
            and value.id in _names(each.targets if isinstance(each, ast.Assign) else [each.target])
        ]
    else:
        sources = [value]
    return {
        each.value
        for source in sources
        for each in ast.walk(source)
        if isinstance(each, ast.Constant)
        and isinstance(each.value, str)
        and _REASON.fullmatch(each.value)
    }


def _names(targets: list[ast.expr]) -> set[str]:
    return {
        each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
    }
