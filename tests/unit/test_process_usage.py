"""What /proc says of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ocigrpc.host.processes.usage import process_usage, uid_ranges
from tests.bed.hosts.leaks import until


def test_a_process_is_seen_as_it_is() -> None:
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", "two  words", ""]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as child:
        found = process_usage(child.pid)
        child.communicate()
    assert found is not None
    assert (found.pid, found.parent_pid, found.uid) == (child.pid, os.getpid(), os.geteuid())
    assert found.container_pid > 0
    assert found.rss_bytes > 0
    assert found.cpu_ns >= 0


def test_the_command_has_all_arguments_and_a_bound() -> None:
    argv = ["/bin/sh", "-c", "read x", "two  words", "", "x" * 10_000]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        while (found := process_usage(child.pid)) is not None and found.command[0] != "/bin/sh":
            pass  # Between fork and exec it is this one.
        child.communicate()
    assert found is not None
    assert found.command[:5] == ("/bin/sh", "-c", "read x", "two  words", "")
    assert sum(map(len, found.command)) < 4096


def test_a_zombie_has_its_name_in_brackets() -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = process_usage(child.pid)
    assert found is not None
    assert (found.command, found.rss_bytes) == (("[true]",), 0)


def test_a_name_that_looks_like_a_line_of_its_own_is_none() -> None:
    # Where the first thread has ended and others live on, there is no line of its memory.
    forging = (
        "import ctypes, threading, time\n"
        "open('/proc/self/comm', 'w').write('\\rVmRSS: x')\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", forging], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            stat = Path(f"/proc/{child.pid}/stat")
            until(lambda: stat.read_bytes().rpartition(b")")[2].split()[0] == b"Z")
            found = process_usage(child.pid)
        finally:
            child.kill()
    assert found is not None
    assert found.rss_bytes == 0


def test_nobody_has_no_usage() -> None:
    assert process_usage(2**22 + 1) is None


def test_uids_of_a_process_in_our_user_namespace_are_ours() -> None:
    assert list(uid_ranges(os.getpid())) == [(0, 0, 1 << 32)]
