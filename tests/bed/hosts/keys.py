"""Keys of the session that a program is in, for hosts and containers without keyctl(1).

A program of its own, without the environment of the tests::

    keys.py add NAME TEXT
    keys.py read NAME

prints what it has found, "" for nothing, and in a second line the name of its keyring.
"""

from __future__ import annotations

import ctypes
import platform
import sys

_ADD_KEY, _KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
_JOIN, _DESCRIBE, _SEARCH, _READ = 1, 6, 10, 11
_SESSION = -3

_libc = ctypes.CDLL(None, use_errno=True)
_buffer = ctypes.create_string_buffer(256)


def join(name: str) -> None:
    """Put the calling thread, and what it starts, into a new session keyring of this name."""
    assert _libc.syscall(_KEYCTL, _JOIN, name.encode()) > 0, ctypes.get_errno()


def add(name: str, text: str) -> None:
    added = _libc.syscall(_ADD_KEY, b"user", name.encode(), text.encode(), len(text), _SESSION)
    assert added > 0, ctypes.get_errno()


def read(name: str) -> str:
    """What a key of this name holds that the session's keyring leads to."""
    key = _libc.syscall(_KEYCTL, _SEARCH, _SESSION, b"user", name.encode(), 0)
    size = _libc.syscall(_KEYCTL, _READ, key, _buffer, len(_buffer)) if key > 0 else 0
    return _buffer.raw[: max(size, 0)].decode()


def session() -> str:
    """The name of the session's keyring."""
    size = _libc.syscall(_KEYCTL, _DESCRIBE, _SESSION, _buffer, len(_buffer))
    return _buffer.raw[: size - 1].decode().rpartition(";")[2]


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "add":
        add(*arguments)
    print(read(arguments[0]))
    print(session())
