"""A separate program: runs an OCI runtime and reaps the process that the runtime leaves behind.

``reaper.py OUTPUTS STARTED PID_FILE RUNTIME ARGUMENT...`` runs the runtime, and then waits for the
process whose id the runtime has written to PID_FILE; it ends with the exit code of that process,
128+n for signal n. It is a subreaper, prctl(2), so that the process becomes its child: the kernel
reports only to the parent how a process ends. STARTED is an eventfd that it sets when the runtime
has succeeded. OUTPUTS is a socket by which the service sends what it reads the program's output
from; see ``ocigrpc.host.processes.outputs``. -1 for none of them.

It may outlive the service, and imports next to nothing, so that it starts quickly and stays small.
"""

import _thread
import ctypes
import os
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK_BYTES = 1 << 20

# Between two reads: programs that write without end must not take a whole CPU.
_PAUSE_S = 0.01


def main(outputs: int, started: int, pid_file: str, argv: list[str]) -> int:
    """Run the runtime and wait for what it leaves; its exit code, or that of a failed runtime."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for fd in (outputs, started):
        if fd >= 0:
            os.set_inheritable(fd, False)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    runtime = os.posix_spawnp(argv[0], argv, os.environ)
    # Otherwise this process would hold the pipes of the program open.
    for stream in range(3):
        os.dup2(null, stream)
    if outputs >= 0:
        _thread.start_new_thread(_outlive, (outputs,))
    _, status = os.waitpid(runtime, 0)
    if status:
        return _exit_code(status)
    with open(pid_file) as file:
        program = int(file.read())
    if started >= 0:
        os.eventfd_write(started, 1)
    # Its other descendants are reaped as well, of which there may be any number.
    pid = 0
    while pid != program:
        pid, status = os.waitpid(-1, 0)
    return _exit_code(status)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _outlive(outputs: int) -> None:
    """Hold the outputs open that come by a socket; read and drop them once the service is gone."""
    # Not for every program: it takes a megabyte.
    import socket

    held: list[int] = []
    with socket.socket(fileno=outputs) as connection:
        word = b"\0"
        while word:
            word, fds, _, _ = socket.recv_fds(connection, 1, 4, socket.MSG_CMSG_CLOEXEC)
            held += fds
    for fd in held:
        # It is the same open file for which the service has set the opposite.
        os.set_blocking(fd, True)
        _thread.start_new_thread(_drop, (fd,))


def _drop(fd: int) -> None:
    try:
        while os.read(fd, _CHUNK_BYTES):
            time.sleep(_PAUSE_S)
    except OSError:
        # EIO: a terminal that no process holds open.
        pass


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
