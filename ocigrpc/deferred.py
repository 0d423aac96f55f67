"""Modules that libraries import, and this process does not use: loaded at their first use.

gRPC imports asyncio and what it has for that, protobuf its messages in plain Python. They are a
third of the processor time of a short command, and 3 MiB of the service's memory.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader

UNUSED = (
    "asyncio",
    "google.protobuf.internal.python_message",
    "grpc.aio",
    "grpc.experimental.aio",
    "grpc_channelz.v1._async",
    "grpc_reflection.v1alpha._async",
    "grpc_status._async",
)

_loading = threading.RLock()
_deferred: dict[str, Loader] = {}


def defer(names: Collection[str]) -> None:
    """Have imports of modules, from now on, load nothing before the first use of an attribute.

    For a process that is ours alone: what it imports afterwards is loaded at another time. Nothing
    may import a module inside of one of these before that one is used.
    """
    sys.meta_path.insert(0, _Finder(names))


class _Finder:
    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(LazyLoader):
    """The standard one, except that importing a module twice does not load it."""

    loader: Loader

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        _deferred[module.__name__] = self.loader
        module.__class__ = _Deferred


class _Deferred(ModuleType):
    """A module that is loaded when something is looked for that it does not have yet."""

    def __getattr__(self, name: str) -> object:
        # Other threads wait until it is loaded; its own code finds what it has so far.
        with _loading:
            if self.__name__ in _deferred:
                _load(self)
        return ModuleType.__getattribute__(self, name)


def _load(module: ModuleType) -> None:
    loader = _deferred.pop(module.__name__)
    try:
        loader.exec_module(module)
    except BaseException:
        # The next use fails in the same way, and not for what the module lacks now.
        _deferred[module.__name__] = loader
        raise
