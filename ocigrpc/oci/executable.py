"""Whether the kernel can execute a program, from the content of its file; execve(2).

Runtimes report a container as started before they find out that its program's interpreter is
missing, or that the kernel does not know the format: the container then ends, with the error
in its log. So the file is read first, on the path where the runtime will find it. Permissions
are left to the kernel.
"""

from __future__ import annotations

import errno
import os
import posixpath
import struct
from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec import Struct

from ocigrpc.errors import CannotRun
from ocigrpc.oci.runtime_errors import NOT_EXECUTABLE_CODE, NOT_FOUND_CODE

# How much of a file is read; its headers are at the front.
_HEAD_BYTES = 4096

# How much of a script's first line the kernel reads.
_SCRIPT_BYTES = 256

# Most scripts that are each other's interpreter; the kernel's limit.
_INTERPRETERS_LIMIT = 5

_PT_INTERP = 3
# By class, elf(5): the offset of e_phoff; the format of e_phoff, e_phentsize and e_phnum; the
# format of p_type, p_offset and p_filesz in each segment.
_ELF_FORMS = {
    1: (28, "=I10xHH", "=II8xI"),
    2: (32, "=Q14xHH", "=I4xQ16xQ"),
}

_BINFMT = "/proc/sys/fs/binfmt_misc"
_BINFMT_CONTROL = {"register", "status"}

# Gives the first bytes of the file at an absolute path in the container; raises ``OSError``.
ReadHead = Callable[[str, int], bytes]


class _Process(Struct):
    args: list[str]
    cwd: str
    env: list[str] | None = None


# Made at import: msgspec crashes when two threads use a type for the first time.
msgspec.json.Decoder(_Process)


def require_executable(process: Mapping[str, object], read_head: ReadHead) -> None:
    """Raise ``CannotRun`` if the kernel would refuse the file of a program, or its interpreter.

    ``process`` is ``process`` of the runtime spec. The reason is PROGRAM_NOT_FOUND when an
    interpreter is missing, PROGRAM_NOT_EXECUTABLE when the format is unknown. A program that
    is missing itself, or can't be read, is left to the runtime.
    """
    known = msgspec.convert(process, _Process)
    for path in _candidates(known):
        try:
            head = read_head(path, _HEAD_BYTES)
        except OSError:
            continue
        _require(path, head, known.cwd, read_head)
        return


def _require(path: str, head: bytes, cwd: str, read_head: ReadHead) -> None:
    for _ in range(_INTERPRETERS_LIMIT):
        interpreter = interpreter_of(head)
        if interpreter is None:
            if head[:4] != b"\x7fELF" and not _has_more_formats():
                problem = f"{path!r} is neither a binary nor a script with an interpreter"
                raise _refused(path, problem, "PROGRAM_NOT_EXECUTABLE", NOT_EXECUTABLE_CODE)
            return
        wanted_by, path = path, posixpath.join(cwd, interpreter)
        try:
            head = read_head(path, _HEAD_BYTES)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                problem = f"{wanted_by!r} needs {interpreter!r}, which is not there"
                raise _refused(path, problem, "PROGRAM_NOT_FOUND", NOT_FOUND_CODE) from error
            return


def _refused(path: str, problem: str, reason: str, exit_code: int) -> CannotRun:
    return CannotRun(problem, reason=reason, path=path, exit_code=exit_code)


def _candidates(process: _Process) -> Iterator[str]:
    program, cwd = process.args[0], process.cwd
    if "/" in program:
        yield posixpath.join(cwd, program)
        return
    paths = [value.removeprefix("PATH=") for value in process.env or () if value[:5] == "PATH="]
    for directory in paths[-1].split(":") if paths else ():
        yield posixpath.join(cwd, directory, program)


def interpreter_of(head: bytes) -> str | None:
    """The interpreter of a script, or the dynamic loader of a binary; None if there is none."""
    if head.startswith(b"#!"):
        parts = head[2:_SCRIPT_BYTES].split(b"\n")[0].split()
        return os.fsdecode(parts[0]) if parts else None
    if head.startswith(b"\x7fELF"):
        try:
            return _elf_interpreter(head)
        except (struct.error, IndexError, KeyError):
            return None
    return None


def _elf_interpreter(head: bytes) -> str | None:
    """PT_INTERP of a binary of this machine's byte order, if ``head`` reaches that far."""
    header_begin, header, segment = _ELF_FORMS[head[4]]
    begin, size_bytes, count = struct.unpack_from(header, head, header_begin)
    for each in range(count):
        kind, offset, length = struct.unpack_from(segment, head, begin + each * size_bytes)
        if kind == _PT_INTERP and offset + length <= len(head):
            return os.fsdecode(head[offset : offset + length].rstrip(b"\0"))
    return None


def _has_more_formats() -> bool:
    """Whether formats are registered with the kernel's binfmt_misc."""
    try:
        return bool(set(os.listdir(_BINFMT)) - _BINFMT_CONTROL)
    except OSError:
        return False
