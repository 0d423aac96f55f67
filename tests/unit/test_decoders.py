"""Types that are decoded: known to msgspec before there are threads.

When two threads decode the same type for the first time, msgspec 0.22 may crash the process.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ocigrpc

_TOP = Path(ocigrpc.__file__).parent

_CHECK = """
import gc, importlib, sys
import msgspec
import ocigrpc.cli.main
pairs = [argument.split(":") for argument in sys.argv[1:]]
types = [getattr(importlib.import_module(module), name) for module, name in pairs]
def known():
    return sum(type(each).__name__ == "StructInfo" for each in gc.get_objects())
before = known()
for each in types:
    msgspec.json.Decoder(each)
    if known() != before:
        sys.exit(f"{each} is decoded for the first time in a thread")
class New(msgspec.Struct):
    field: list[str]
msgspec.json.Decoder(New)
if known() == before:
    sys.exit("new types can not be counted")
"""


def decoded() -> Iterator[str]:
    """The types that functions decode or convert to, as module and name."""
    for path in _TOP.rglob("*.py"):
        # The command line reads its settings before it starts a thread.
        if path.relative_to(_TOP).parts[0] in ("cli", "settings", "v1"):
            continue
        module = ".".join(["ocigrpc", *path.relative_to(_TOP).with_suffix("").parts])
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            wanted = {"Decoder": call.args[:1], "convert": call.args[1:2]}.get(call.func.attr, [])
            if call.func.attr == "decode":
                wanted = [each.value for each in call.keywords if each.arg == "type"]
            for each in wanted:
                if isinstance(each, ast.Name) and each.id not in ("Spec", "int"):
                    yield f"{module}:{each.id}"


def test_every_type_that_is_decoded_is_known_before_there_are_threads() -> None:
    types = sorted(decoded())
    assert "ocigrpc.oci.spec.seccomp_profile:Profile" in types
    assert "ocigrpc.oci.executable:_Process" in types
    check = subprocess.run(
        [sys.executable, "-c", _CHECK, *types], capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stderr) == (0, "")
