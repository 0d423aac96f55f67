"""A separate program: runs an OCI runtime and reaps the process that the runtime leaves behind.

``reaper.py HELD PID_FILE RUNTIME ARGUMENT...`` runs the runtime, and then waits for the process
whose id the runtime has written to PID_FILE; it ends with the exit code of that process, 128+n
for signal n. It is a subreaper, prctl(2), so that the process becomes its child: the kernel
reports only to the parent how a process ends. HELD is a descriptor that it keeps open
until then, -1 for none.

It outlives the service, and imports next to nothing, so that it starts quickly and stays small.
"""

import ctypes
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main(held: int, pid_file: str, argv: list[str]) -> int:
    """Run the runtime and wait for what it leaves; its exit code, or that of a failed runtime."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if held >= 0:
        os.set_inheritable(held, False)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    runtime = os.posix_spawnp(argv[0], argv, os.environ)
    # Otherwise this process would hold the pipes of the program open.
    for stream in range(3):
        os.dup2(null, stream)
    _, status = os.waitpid(runtime, 0)
    if status:
        return _exit_code(status)
    with open(pid_file) as file:
        program = int(file.read())
    # Its other descendants are reaped as well, of which there may be any number.
    pid = 0
    while pid != program:
        pid, status = os.waitpid(-1, 0)
    return _exit_code(status)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
