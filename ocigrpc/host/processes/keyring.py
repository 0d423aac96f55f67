"""The session keyring of a thread and of what it starts: session-keyring(7), keyctl(2).

Neither Python nor the C library has a call for it.
"""

from __future__ import annotations

import errno
import platform

from ocigrpc.errors import HostFailed
from ocigrpc.host.libc import last_error, libc

_SYS_KEYCTL = {
    "x86_64": 250,
    "i686": 288,
    "aarch64": 219,
    "riscv64": 219,
    "loongarch64": 219,
    "armv7l": 311,
    "ppc64le": 271,
    "s390x": 280,
}
_JOIN_SESSION_KEYRING = 1


def leave_session_keyring() -> None:
    """Put the calling thread, and all that it starts from now on, into a new session keyring.

    Otherwise a child could read and change the keys of the service's own session. Does nothing
    on a kernel without keys, or on an architecture not named above. Raises ``HostFailed``
    (KEYRING_FAILED).
    """
    number = _SYS_KEYCTL.get(platform.machine())
    if number is None or libc.syscall(number, _JOIN_SESSION_KEYRING, None) >= 0:
        return
    error = last_error()
    if error.errno != errno.ENOSYS:
        text = error.strerror
        problem = f"can't make a session keyring: {text}"
        raise HostFailed(problem, reason="KEYRING_FAILED", error=text)
