"""What an OCI runtime's words of failure mean: whose fault it is.

Runtimes have no codes: runc 1.1 to 1.3 and crun 1.8 to 1.21 say it in sentences. What the
request asked for, and can't be had, is told apart from what is broken; words that nobody
knows are taken for the latter.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ocigrpc.errors import CannotRun, RuntimeFailed, cut

NOT_FOUND_CODE, NOT_EXECUTABLE_CODE, KILLED_CODE = 127, 126, 137
"""What a shell would have exited with."""


class _Meaning(NamedTuple):
    pattern: re.Pattern[str]
    reason: str
    exit_code: int | None = None


def _meaning(reason: str, *phrases: str, exit_code: int | None = None) -> _Meaning:
    return _Meaning(re.compile("|".join(phrases), re.IGNORECASE), reason, exit_code)


_MISSING = "(no such file or directory|not a directory)"
_REFUSED = (
    "(permission denied|operation not permitted|is a directory|exec format error|"
    "too many levels of symbolic links|text file busy)"
)

_MEANINGS = (
    _meaning(
        "MEMORY_LIMIT_TOO_LOW",
        "unable to set memory limit to",  # runc, where the kernel refuses less than is used
        "memory limit too low",  # runc from 1.1, where it kills instead
        "the memory limit could be too low",  # crun
    ),
    # Before all others: a hook may say anything.
    _meaning(
        "HOOK_FAILED",
        r"error running (\w+ )?hook",  # runc
        "error executing hook",  # crun
        "^timeout expired for ",  # crun, of a hook
    ),
    _meaning(
        "PROGRAM_NOT_FOUND",
        "executable file .*not found",
        rf'exec: ".*": stat .*: {_MISSING}',
        rf"(^|process: )exec /\S*: {_MISSING}",
        rf"exec container process .*: {_MISSING}",
        rf"(open executable|cannot open `.*`): {_MISSING}",
        exit_code=NOT_FOUND_CODE,
    ),
    _meaning(
        "PROGRAM_NOT_EXECUTABLE",
        rf'exec: ".*": (stat .*: )?{_REFUSED}',
        rf"(^|process: )exec /\S*: {_REFUSED}",
        rf"exec container process .*: {_REFUSED}",
        rf"(open executable|cannot open `.*`): {_REFUSED}",
        "exists but it is not executable|is not a regular file",
        exit_code=NOT_EXECUTABLE_CODE,
    ),
    _meaning(
        # Of runc, whose part in the container was killed before it executed the program.
        "PROGRAM_KILLED",
        "container process: read init-p: (connection reset by peer|EOF)",
        exit_code=KILLED_CODE,
    ),
    # After the programs: the search of one says that it can't enter a directory, too.
    _meaning(
        "WORKING_DIR_UNUSABLE",
        r"chdir (to )?(cwd )?[(`\"]",
        "container init: mkdir /",  # runc, which makes what is missing
        "cwd: |current working directory",
    ),
    _meaning(
        "MOUNT_FAILED",
        'error mounting "',
        "mount `",
        "error stat'ing file `|cannot stat `|error creating directory `|mkdir `",
    ),
    # Each program of the runtime begins with few files open.
    _meaning("RLIMIT_REFUSED", "setrlimit|rlimit", "too many open files$"),
    _meaning("SYSCTL_REFUSED", "/proc/sys/|sysctl"),
    _meaning("NAMESPACE_UNUSABLE", "namespace path"),
    _meaning("SECURITY_LABEL_UNUSABLE", "apparmor|selinux|attr/(exec|keycreate)"),
    _meaning("SECCOMP_REFUSED", "seccomp"),
    # runc has the whole path of a cgroup's file, crun often its name alone.
    _meaning(
        "LIMIT_REFUSED",
        r"[/`](cpu|cpuset|memory|pids|hugetlb|io|blkio|rdma|misc|cgroup\.max)\.[a-z]",
        "/sys/fs/cgroup/hugetlb/",
    ),
)


def explained(error: RuntimeFailed) -> RuntimeFailed:
    """``CannotRun`` in place of an error whose ``output`` says that the request is at fault.

    Its metadata are those of ``error``, with ``exit_code`` where a shell would have one.
    """
    found = _found(error.metadata.get("output", ""))
    if found is None:
        return error
    known = {} if found.exit_code is None else {"exit_code": found.exit_code}
    metadata: dict[str, object] = {**error.metadata, **known}
    return CannotRun(error.message, reason=found.reason, **metadata)


def _found(words: str) -> _Meaning | None:
    said = cut(words)
    return next((each for each in _MEANINGS if each.pattern.search(said)), None)


def create_failed(output: str) -> RuntimeFailed:
    """The error of a runtime that did not create the container."""
    output = cut(output)
    return explained(
        RuntimeFailed(
            f"the OCI runtime could not create the container: {output or 'it said nothing'}",
            verb="create",
            output=output,
        )
    )
