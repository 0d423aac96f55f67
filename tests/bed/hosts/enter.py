"""Run a program in the namespaces of another process, as if it had been started here.

    python enter.py PID NAMESPACES CGROUP PROGRAM [ARGUMENT...]

Unlike nsenter with a pid namespace, a signal to this process reaches the program, the
program dies with it, and it ends as the program ends. NAMESPACES is a list such as
``mnt,pid``; CGROUP a directory to join before, or empty.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_FLAGS = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
}
_PR_SET_PDEATHSIG = 1
_FORWARDED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1}

_libc = ctypes.CDLL(None, use_errno=True)


def main(pid: str, namespaces: str, cgroup: str, *argv: str) -> None:
    """Enter and become, or start and follow, the program."""
    here = os.getcwd()
    if cgroup:
        with open(f"{cgroup}/cgroup.procs", "w") as procs:
            procs.write("0")
    flags = sum(_FLAGS[name] for name in namespaces.split(","))
    # setns(2) of a pidfd enters all of them or none.
    if _libc.setns(os.pidfd_open(int(pid)), flags):
        raise OSError(ctypes.get_errno(), f"setns to {pid}")
    os.chdir(here)
    # A pid namespace takes effect for children only.
    if not flags & _FLAGS["pid"]:
        os.execvp(argv[0], argv)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvp(argv[0], argv)
    _end_as(_follow(child))


def _follow(child: int) -> int:
    """Hand every signal on until the child has ended; its wait status."""
    while True:
        number = signal.sigwait({*_FORWARDED, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status


def _end_as(status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    main(*sys.argv[1:])
