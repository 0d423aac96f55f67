"""The errors of OCI runtimes, and what they mean: whether the request is at fault, or the node.

Runtimes have no error codes, so this matches the sentences of runc 1.1 to 1.3 and crun 1.8 to
1.21. A message that matches nothing counts as a failure of the runtime or the node.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ocigrpc.errors import CannotRun, RuntimeFailed, cut
from ocigrpc.oci.decoding import decoded

# The exit codes that a shell gives in these cases.
NOT_FOUND_CODE, NOT_EXECUTABLE_CODE, KILLED_CODE = 127, 126, 137


# Most bytes of a runtime's log that are read.
_LOG_LIMIT_BYTES = 1 << 16


class _LogEntry(Struct, frozen=True):
    level: str = ""
    msg: str = ""


# Made at import: msgspec crashes when two threads use a type for the first time.
_LOG_ENTRY = msgspec.json.Decoder(_LogEntry)


class _Cause(NamedTuple):
    pattern: re.Pattern[str]
    reason: str
    exit_code: int | None = None


def _cause(reason: str, *patterns: str, exit_code: int | None = None) -> _Cause:
    return _Cause(re.compile("|".join(patterns), re.IGNORECASE), reason, exit_code)


_MISSING = "(no such file or directory|not a directory)"
_REFUSED = (
    "(permission denied|operation not permitted|is a directory|exec format error|"
    "too many levels of symbolic links|text file busy)"
)

# The first that matches counts.
_CAUSES = (
    _cause(
        "MEMORY_LIMIT_TOO_LOW",
        "unable to set memory limit to",  # runc, where the kernel refuses less than is used
        "memory limit too low",  # runc from 1.1, where it kills instead
        "the memory limit could be too low",  # crun
    ),
    # Before all others, because the output of a hook may match any of them.
    _cause(
        "HOOK_FAILED",
        r"error running (\w+ )?hook",  # runc
        "error executing hook",  # crun
        "^timeout expired for ",  # crun, of a hook
    ),
    _cause(
        "PROGRAM_NOT_FOUND",
        "executable file .*not found",
        rf'exec: ".*": stat .*: {_MISSING}',
        rf"(^|process: )exec /\S*: {_MISSING}",
        rf"exec container process .*: {_MISSING}",
        rf"(open executable|cannot open `.*`): {_MISSING}",
        exit_code=NOT_FOUND_CODE,
    ),
    _cause(
        "PROGRAM_NOT_EXECUTABLE",
        rf'exec: ".*": (stat .*: )?{_REFUSED}',
        rf"(^|process: )exec /\S*: {_REFUSED}",
        rf"exec container process .*: {_REFUSED}",
        rf"(open executable|cannot open `.*`): {_REFUSED}",
        "exists but it is not executable|is not a regular file",
        exit_code=NOT_EXECUTABLE_CODE,
    ),
    _cause(
        # From either, when its process in the container was gone before it executed the program.
        "PROGRAM_KILLED",
        "container process: read init-p: (connection reset by peer|EOF)",  # runc
        "^writing to pipe: Broken pipe$",  # crun, which now and then loses what that one said
        exit_code=KILLED_CODE,
    ),
    # After the programs: a failed search for one may mention a directory, too.
    _cause(
        "WORKING_DIR_UNUSABLE",
        r"chdir (to )?(cwd )?[(`\"]",
        "container init: mkdir /",  # runc, which makes a missing directory
        "cwd: |current working directory",
    ),
    _cause(
        "MOUNT_FAILED",
        'error mounting "',
        "mount `",
        "error stat'ing file `|cannot stat `|error creating directory `|mkdir `",
    ),
    # The runtime itself opens few files, so this is the container's rlimit.
    _cause("RLIMIT_REFUSED", "setrlimit|rlimit", "too many open files$"),
    _cause("SYSCTL_REFUSED", "/proc/sys/|sysctl"),
    _cause("NAMESPACE_UNUSABLE", "namespace path"),
    _cause("SECURITY_LABEL_UNUSABLE", "apparmor|selinux|attr/(exec|keycreate)"),
    _cause("SECCOMP_REFUSED", "seccomp"),
    # runc prints the whole path of a cgroup's file, crun often only its name.
    _cause(
        "LIMIT_REFUSED",
        r"[/`](cpu|cpuset|memory|pids|hugetlb|io|blkio|rdma|misc|cgroup\.max)\.[a-z]",
        "/sys/fs/cgroup/hugetlb/",
    ),
)


def logged_error(path: str | Path) -> str:
    """The last error in a runtime's own log of JSON lines; empty if there is no error or no log."""
    try:
        with open(path, "rb") as log:
            lines = log.read(_LOG_LIMIT_BYTES).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        with suppress(ValueError):
            entry = decoded(_LOG_ENTRY, line)
            if entry.level in ("error", "fatal"):
                return entry.msg
    return ""


def classified(error: RuntimeFailed) -> RuntimeFailed:
    """``CannotRun`` in place of an error whose ``output`` shows that the request is at fault.

    The metadata are those of ``error``, with ``exit_code`` where a shell would give one.
    """
    output = cut(error.metadata.get("output", ""))
    cause = next((each for each in _CAUSES if each.pattern.search(output)), None)
    if cause is None:
        return error
    known = {} if cause.exit_code is None else {"exit_code": cause.exit_code}
    metadata: dict[str, object] = {**error.metadata, **known}
    return CannotRun(error.message, reason=cause.reason, **metadata)


def create_failed(output: str) -> RuntimeFailed:
    """The error for a runtime that printed ``output`` and did not create the container."""
    output = cut(output)
    return classified(
        RuntimeFailed(
            f"the OCI runtime could not create the container: {output or 'it printed nothing'}",
            verb="create",
            output=output,
        )
    )
