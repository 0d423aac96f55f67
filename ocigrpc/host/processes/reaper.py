"""A program of its own, not a part of the service: runs a runtime that leaves its child behind.

``reaper.py HELD PID_FILE RUNTIME ARGUMENT...`` runs the runtime, and then waits for the process
whose id that has written to PID_FILE; it ends with its exit code, 128+n for a signal n. It is the
subreaper, prctl(2), which such a process falls to: the kernel tells nobody but a parent how a
process ends. HELD is a descriptor that it keeps for as long, -1 for none.

It outlives the service, and imports next to nothing, to begin at once and to stay small.
"""

import ctypes
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main(held: int, pid_file: str, argv: list[str]) -> int:
    """Run the runtime and wait for what it leaves; its exit code, or the runtime's if it fails."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if held >= 0:
        os.set_inheritable(held, False)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    runtime = os.posix_spawnp(argv[0], argv, os.environ)
    # Else we would be one who holds the pipes of the program open.
    for stream in range(3):
        os.dup2(null, stream)
    _, status = os.waitpid(runtime, 0)
    if status:
        return _exit_code(status)
    with open(pid_file) as file:
        program = int(file.read())
    # Whatever else falls to us is reaped as well; it may have children without end.
    pid = 0
    while pid != program:
        pid, status = os.waitpid(-1, 0)
    return _exit_code(status)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
