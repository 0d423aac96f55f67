"""Runtimes that are killed while they have something mounted."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

# umount2 is the end of what runc does while its program is mounted: there it is killed.
_KILLED = """#!{python} -S
import ctypes, os, platform, struct, sys

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_UMOUNT2 = {{"x86_64": 166, "aarch64": 39}}[platform.machine()]
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

if "{verb}" in sys.argv:
    program = b"".join(
        struct.pack("HBBI", *each)
        for each in (
            (_LOAD, 0, 0, 0),
            (_EQUAL, 0, 1, _UMOUNT2),
            (_RETURN, 0, 0, _KILL_PROCESS),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    kept = ctypes.create_string_buffer(program)
    filters = struct.pack("HxxxxxxP", 4, ctypes.addressof(kept))
    if ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0):
        sys.exit("no filter")
    if {hangs}:
        os.spawnvp(os.P_WAIT, "{runtime}", ["{runtime}", *sys.argv[1:]])
        open("{directory}/begun", "w").write("begun\\n")
        os.execvp("sleep", ["sleep", "1000"])
os.execvp("{runtime}", ["{runtime}", *sys.argv[1:]])
"""

# Newer versions mount nothing; what a killed older one would leave is imitated.
_IMITATED = """#!{python} -S
import os, signal, subprocess, sys

if "{verb}" in sys.argv and not sys.argv[-1].startswith("-"):
    state = os.path.join(sys.argv[sys.argv.index("--root") + 1], sys.argv[-1])
    os.makedirs(state, exist_ok=True)
    # On a file made just now, and not of the real program: through the mount it could be written.
    path = os.path.join(state, "runc." + os.urandom(3).hex())
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    subprocess.run(["mount", "--bind", "{program}", path], check=True)
    if {hangs}:
        open("{directory}/begun", "w").write("begun\\n")
        os.execvp("sleep", ["sleep", "1000"])
    os.kill(os.getpid(), signal.SIGKILL)
os.execvp("{runtime}", ["{runtime}", *sys.argv[1:]])
"""

# The first version of runc of which we know that it does without.
_MOUNTS_NOTHING = (1, 1, 15)


@functools.cache
def _version_of(runtime: str) -> tuple[int, ...]:
    output = subprocess.check_output([runtime, "--version"], text=True)
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", output)
    assert found is not None, output
    return tuple(map(int, found.groups()))


def write_killed(
    directory: Path, name: str, runtime: str, verb: str, *, hangs: bool = False
) -> Path:
    """A runtime that is killed in a verb while it has something mounted.

    One that ``hangs`` reports it in the FIFO that a :class:`Gate` has in the directory.
    """
    script = directory / name
    imitated = _version_of(runtime) >= _MOUNTS_NOTHING
    program = directory / f"{name}-program" / runtime
    program.parent.mkdir(exist_ok=True)
    program.write_bytes(b"what it has mounted")
    script.write_text(
        (_IMITATED if imitated else _KILLED).format(
            python=sys.executable,
            verb=verb,
            runtime=runtime,
            program=program,
            hangs=hangs,
            directory=directory,
        )
    )
    script.chmod(0o755)
    return script
