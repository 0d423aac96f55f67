"""What runc 1.1 to 1.3 and crun 1.8 to 1.21 say, and whose fault that is."""

from __future__ import annotations

import pytest

from ocigrpc.errors import CannotRun, RuntimeFailed
from ocigrpc.oci.runtime_errors import classified

INIT = "runc create failed: unable to start container process: "
LATE = f"{INIT}error during container init: "
NOT_FOUND, NOT_EXECUTABLE = ("PROGRAM_NOT_FOUND", "127"), ("PROGRAM_NOT_EXECUTABLE", "126")
HOOK = ("HOOK_FAILED", None)
MOUNT = ("MOUNT_FAILED", None)

SAID = {
    f'{INIT}exec: "nope": executable file not found in $PATH': NOT_FOUND,
    f'{INIT}exec: "/bin/nope": stat /bin/nope: no such file or directory': NOT_FOUND,
    f'{INIT}exec: "/afile/x": stat /afile/x: not a directory': NOT_FOUND,
    "exec failed: unable to start container process: exec /bin/dyn: no such file or directory": (
        NOT_FOUND
    ),
    "exec /bin/script: no such file or directory": NOT_FOUND,
    "executable file `nope` not found in $PATH: No such file or directory": NOT_FOUND,
    "executable file `/bin/nope` not found: No such file or directory": NOT_FOUND,
    "open executable: Not a directory": NOT_FOUND,
    "cannot open `/afile/x`: Not a directory": NOT_FOUND,
    "exec container process (missing dynamic library?) `/bin/dyn`: No such file or directory": (
        NOT_FOUND
    ),
    f'{INIT}exec: "/bin/noexec": permission denied': NOT_EXECUTABLE,
    f'{INIT}exec: "/etc": is a directory': NOT_EXECUTABLE,
    f'{INIT}exec: "/secret/x": stat /secret/x: permission denied': NOT_EXECUTABLE,
    f'{INIT}exec: "/bin/loop": stat /bin/loop: too many levels of symbolic links': NOT_EXECUTABLE,
    "exec /bin/garbage: exec format error": NOT_EXECUTABLE,
    "open executable: Permission denied": NOT_EXECUTABLE,
    "open executable: Operation not permitted": NOT_EXECUTABLE,
    "the path `/bin/noexec` exists but it is not executable: Operation not permitted": (
        NOT_EXECUTABLE
    ),
    "the path `/etc` is not a regular file: Operation not permitted": NOT_EXECUTABLE,
    "cannot open `/bin/loop`: Too many levels of symbolic links": NOT_EXECUTABLE,
    "exec container process `/bin/garbage`: Exec format error": NOT_EXECUTABLE,
    f"{LATE}mkdir /afile: not a directory": ("WORKING_DIR_UNUSABLE", None),
    'unable to start container process: chdir to cwd ("/x") set in config.json failed: '
    "permission denied": ("WORKING_DIR_UNUSABLE", None),
    "chdir `/afile`: Not a directory": ("WORKING_DIR_UNUSABLE", None),
    "chdir to `/afile`: Not a directory": ("WORKING_DIR_UNUSABLE", None),
    f"{LATE}error running hook #0: error running hook: exit status 3, stdout: , stderr: bad": HOOK,
    f"{LATE}error running createContainer hook #0: exit status 3, stdout: , stderr: bad": HOOK,
    f"{LATE}error running hook #0: fork/exec /no/hook: no such file or directory": HOOK,
    f"{LATE}error running hook #0: hook ran past specified timeout of 1.0s": HOOK,
    "error executing hook `/bin/sh` (exit code: 3)": HOOK,
    '{"msg":"error executing hook `/bin/sh` (exit code: 3)","level":"error"}': HOOK,
    "timeout expired for `/bin/sleep`": HOOK,
    f'{LATE}error mounting "/no/src" to rootfs at "/m": stat /no/src: no such file or directory': (
        MOUNT
    ),
    f'{LATE}error mounting "x" to rootfs at "/m": mount x:/m (via /proc/self/fd/6), '
    "data: nosuchopt=1: invalid argument": MOUNT,
    "error stat'ing file `/no/such/src`: No such file or directory": MOUNT,
    "cannot stat `/no/such/src`: No such file or directory": MOUNT,
    "mkdir `/afile/x`: Not a directory": MOUNT,
    "error creating directory `afile/x` since `afile` exists and it is not a directory: "
    "Not a directory": MOUNT,
    "mount `x` to `m`: No such device": MOUNT,
    f"{LATE}error setting rlimits for ready process: error setting rlimit type 7: "
    "operation not permitted": ("RLIMIT_REFUSED", None),
    f"{INIT}error closing exec fds: open /proc/self/fd: too many open files": (
        "RLIMIT_REFUSED",
        None,
    ),
    "setrlimit `RLIMIT_NOFILE`: Operation not permitted": ("RLIMIT_REFUSED", None),
    f"{LATE}open /proc/sys/net/ipv4/nosuch: no such file or directory": ("SYSCTL_REFUSED", None),
    "open `/proc/sys/net/ipv4/nosuch`: No such file or directory": ("SYSCTL_REFUSED", None),
    f"{LATE}unable to apply apparmor profile: apparmor failed to apply profile": (
        "SECURITY_LABEL_UNUSABLE",
        None,
    ),
    "runc create failed: selinux label is specified in config, but selinux is disabled": (
        "SECURITY_LABEL_UNUSABLE",
        None,
    ),
    "write to `/proc/self/attr/keycreate`: Invalid argument": ("SECURITY_LABEL_UNUSABLE", None),
    "string SCMP_ACT_NOSUCH is not a valid action for seccomp": ("SECCOMP_REFUSED", None),
    "runc create failed: unable to create new parent process: namespace path: lstat /no/ns: "
    "no such file or directory": ("NAMESPACE_UNUSABLE", None),
    "exec failed: unable to start container process: read init-p: connection reset by peer": (
        "PROGRAM_KILLED",
        "137",
    ),
    "writing to pipe: Broken pipe": ("PROGRAM_KILLED", "137"),
    "container init was OOM-killed (memory limit too low?)": ("MEMORY_LIMIT_TOO_LOW", None),
}


@pytest.mark.parametrize(("words", "meant"), SAID.items())
def test_impossible_request_is_distinguished(words: str, meant: tuple[str, str | None]) -> None:
    error = classified(RuntimeFailed("it failed", verb="create", output=words))
    assert isinstance(error, CannotRun)
    assert (error.reason, error.metadata.get("exit_code")) == meant
    assert (error.metadata["verb"], error.metadata["output"]) == ("create", words)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "open /run/runc/x/state.json: no such file or directory",
        "container with given ID already exists",
        "write /run/ocigrpc/x: no space left on device",
        "runc create failed: unable to start container process: fork/exec /proc/self/exe: "
        "resource temporarily unavailable",
        "signal: killed",
    ],
)
def test_other_output_is_the_runtimes_failure(words: str) -> None:
    error = RuntimeFailed("it failed", verb="create", output=words)
    assert classified(error) is error
