"""Modules that are loaded at their first use: until then, nothing of them runs."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ocigrpc.deferred import defer

# A module that counts its loads, in its package, and three that import it.
_FILES = {
    "__init__.py": "",
    "late.py": "import sys\nsys.modules[__package__].loads += 1\nimport {0}.late\nanswer = 42\n",
    "user.py": "import {0}.late\nfrom {0} import late\n",
    "one.py": "from {0}.late import answer\n",
    "all.py": "from {0}.late import *\n",
    "broken.py": "answer = 42\nraise KeyError(answer)\n",
}


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ModuleType:
    """A package with a name of its own, whose module ``late`` is deferred."""
    name = f"package_{abs(hash(request.node.name))}"
    (tmp_path / name).mkdir()
    for file, text in _FILES.items():
        (tmp_path / name / file).write_text(text.format(name))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    defer([f"{name}.late", f"{name}.broken"])
    package = import_module(name)
    vars(package)["loads"] = 0
    return package


@pytest.fixture
def late(package: ModuleType) -> ModuleType:
    return import_module(f"{package.__name__}.late")


def test_imports_load_nothing_however_many_there_are(package: ModuleType, late: ModuleType) -> None:
    assert import_module(late.__name__) is late
    assert late.__name__ == f"{package.__name__}.late"
    import_module(f"{package.__name__}.user")
    assert package.loads == 0


def test_the_first_use_loads_it_once(package: ModuleType, late: ModuleType) -> None:
    assert (late.answer, late.answer, package.loads) == (42, 42, 1)


@pytest.mark.parametrize("importer", ["one", "all"])
def test_a_name_imported_from_it_is_a_use(package: ModuleType, importer: str) -> None:
    assert import_module(f"{package.__name__}.{importer}").answer == 42
    assert package.loads == 1


def test_a_name_that_it_lacks_is_missing_as_ever(late: ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'question'"):
        assert late.question


def test_threads_that_use_it_at_once_find_it_whole(package: ModuleType, late: ModuleType) -> None:
    ready, found = threading.Barrier(8), list[int]()

    def use() -> None:
        ready.wait()
        found.append(late.answer)

    threads = [threading.Thread(target=use) for _ in range(ready.parties)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (found, package.loads) == ([42] * ready.parties, 1)


def test_what_is_deferred_here_is_still_there_to_be_used() -> None:
    program = (
        "import sys\n"
        "from ocigrpc.deferred import UNUSED, defer\n"
        "defer(UNUSED)\n"
        "import ocigrpc.client, ocigrpc.rpc.server\n"
        # That of an extra is seen where the extra is: in real/test_channelz.
        "known = {each for each in UNUSED if not each.startswith('grpc_channelz.')}\n"
        "assert known <= set(sys.modules), known - set(sys.modules)\n"
        "assert 'asyncio.events' not in sys.modules\n"
        "import grpc.aio, asyncio\n"
        "async def answer(): return grpc.aio.insecure_channel('unix:/nowhere')\n"
        "print(type(asyncio.run(answer())).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("Channel\n", "")


def test_one_that_can_not_be_loaded_says_so_at_each_use(package: ModuleType) -> None:
    broken = import_module(f"{package.__name__}.broken")
    for _ in range(2):
        with pytest.raises(KeyError):
            _ = broken.nothing
