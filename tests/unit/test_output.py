"""Standard output of the command."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

# An interrupt comes at a random moment of each line, and far more often than a user's would.
_PROGRAM = r"""
import signal, sys
from ocigrpc.cli.streams import prepare_streams

def interrupt(*_):
    raise KeyboardInterrupt

prepare_streams()
signal.signal(signal.SIGALRM, interrupt)
for number in range(3000):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00003)
        # As one, so that no line has the end of another.
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        while True:
            pass
    except KeyboardInterrupt:
        pass
sys.stdout.flush()
"""


def test_no_output_is_written_twice_for_an_interrupt() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 0
    lines = Counter(done.stdout.decode().splitlines())
    # A line may be lost, since it was interrupted before it was written.
    assert len(lines) > 1000
    assert [line for line, count in lines.items() if count > 1] == []


# What Python may have done by the time that it closes the streams.
_CLEARED = """
from ocigrpc.cli import streams
streams.prepare_streams()
print("all")
vars(streams).clear()
"""


def test_output_is_closed_without_the_names_of_its_module() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CLEARED], capture_output=True, text=True, timeout=20, check=True
    )
    assert (done.stdout, done.stderr) == ("all\n", "")


def test_a_failure_has_its_status_even_if_it_can_not_be_printed() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "ocigrpc", "nosuch"], stderr=full, timeout=60)
    assert done.returncode == 2
