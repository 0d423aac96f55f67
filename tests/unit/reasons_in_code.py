"""The reasons that the code gives its exceptions, found in its syntax.

A reason stands in the call of an exception, or of a function that hands it on by a parameter
of the name ``reason``, such as ``Violations.add``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import ocigrpc
from ocigrpc import errors

_TOP = Path(ocigrpc.__file__).parent
_REASON = re.compile(r"[A-Z]+(_[A-Z]+)*")
_KINDS = {
    name
    for name, each in vars(errors).items()
    if isinstance(each, type) and issubclass(each, errors.OcigrpcError)
}
# What the output of a runtime means is in a table, whose rows all become this exception.
_BY_TABLE = {"_cause": "CannotRun"}

_Function = ast.FunctionDef


def reasons_in_code() -> set[tuple[str, str]]:
    """The names of exceptions with the reasons that they are given somewhere."""
    nodes = [node for tree in _trees() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, _Function)]
    tables = [node for tree in _trees() for node in tree.body if isinstance(node, ast.Assign)]
    handers = {each.name: each for each in functions if "reason" in _parameters(each)}
    kinds = _kinds_of(handers)
    return {
        (kind, reason)
        for part in (*functions, *tables)
        for call, value in _calls(part, handers)
        for reason in _constants(value, part)
        for kind in ([_callee(call)] if _callee(call) in _KINDS else kinds[_callee(call)])
    }


def _trees() -> Iterator[ast.Module]:
    for path in sorted(_TOP.rglob("*.py")):
        if path.parent.name != "v1":
            yield ast.parse(path.read_text())


def _kinds_of(handers: dict[str, _Function]) -> dict[str, set[str]]:
    """The exceptions that each of the functions hands its reason on to."""
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    kinds.update({name: {kind} for name, kind in _BY_TABLE.items()})
    for _ in handers:
        for name, function in handers.items():
            for call, value in _calls(function, handers):
                if isinstance(value, ast.Name) and value.id == "reason":
                    callee = _callee(call)
                    kinds[name] |= {callee} if callee in _KINDS else kinds[callee]
    return kinds


def _calls(part: ast.stmt, handers: dict[str, _Function]) -> Iterator[tuple[ast.Call, ast.expr]]:
    """The calls in a function or table that give a reason, with what stands for it."""
    for call in ast.walk(part):
        if not isinstance(call, ast.Call):
            continue
        callee = _callee(call)
        named = [each.value for each in call.keywords if each.arg == "reason"]
        if named and (callee in _KINDS or callee in handers):
            yield call, named[0]
        elif callee in handers:
            at = _parameters(handers[callee]).index("reason")
            if at < len(call.args):
                yield call, call.args[at]


def _callee(call: ast.Call) -> str:
    """The name of an exception or a function, of ``Kind(...)``, ``Kind.of(...)`` and the like."""
    found = call.func
    if isinstance(found, ast.Attribute) and found.attr == "of":
        found = found.value
    if isinstance(found, ast.Attribute):
        return found.attr
    return found.id if isinstance(found, ast.Name) else ""


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
