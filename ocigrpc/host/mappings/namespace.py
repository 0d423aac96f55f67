"""User namespaces that nobody is in: held by a descriptor alone; user_namespaces(7)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ocigrpc.errors import cut
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.mappings.owners import Owners, Range
from ocigrpc.host.processes.child import Child
from ocigrpc.waiting import Deadline

# It ends when we do: then nobody holds the other end of its input.
_ARGV = ("unshare", "--user", "cat")
_TIMEOUT_S = 10.0


class NoUserNamespace(OSError):
    """The kernel makes none: it has none, or its limits are reached."""


@contextmanager
def user_namespace(owners: Owners) -> Iterator[int]:
    """A descriptor of a new user namespace with these users and groups, for a ``with``.

    A process is in it for as long as it takes to set it up. Raises ``NoUserNamespace``,
    ``OSError``, ``HostFailed``, ``Timeout``.
    """
    with ExitStack() as opened:
        with ExitStack() as ends:
            errors = ends.enter_context(closing_fd(os.memfd_create("stderr")))
            theirs, ours = os.pipe()
            child_in = opened.enter_context(closing_fd(ours))
            ends.enter_context(closing_fd(theirs))
            answers, theirs_out = os.pipe()
            opened.enter_context(closing_fd(answers))
            with closing_fd(theirs_out):
                child = ends.enter_context(Child(_ARGV, stdio=(theirs, theirs_out, errors)))
            os.write(child_in, b"\n")
            # What comes back was written in the namespace; nothing comes if there is none.
            Deadline(_TIMEOUT_S).wait(answers)
            if not os.read(answers, 1):
                text = os.pread(errors, 1024, 0).decode(errors="replace")
                raise NoUserNamespace(0, cut(text))
            directory = Path(f"/proc/{child.pid}")
            _write(directory / "uid_map", owners.uids)
            _write(directory / "gid_map", owners.gids)
            namespace = os.open(directory / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
            opened.enter_context(closing_fd(namespace))
            child.send_signal(signal.SIGKILL)
        yield namespace


def _write(file: Path, ranges: Sequence[Range]) -> None:
    # The kernel takes all of them in one write, or none.
    text = "".join(f"{there} {here} {count}\n" for there, here, count in ranges)
    with closing_fd(os.open(file, os.O_WRONLY | os.O_CLOEXEC)) as fd:
        os.write(fd, text.encode())
