"""File systems in which the kernel makes the files, and some of them anew for each reader."""

from __future__ import annotations

import ctypes

from ocigrpc.host.libc import last_error, libc

# proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, devpts, mqueue, fusectl,
# binfmt_misc, configfs, pstore, efivarfs, selinuxfs; linux/magic.h.
_TYPES = frozenset(
    {
        *(0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x64626720, 0x74726163, 0x73636673),
        *(0xCAFE4A11, 0x1CD1, 0x19800202, 0x65735543, 0x42494E4D, 0x62656570, 0x6165676C),
        *(0xDE5E81E4, 0xF97CFF8C),
    }
)

# More than struct statfs has anywhere; the type is its first field, a long on most architectures.
_STATFS_BYTES = 512


def is_generated(fd: int) -> bool:
    """Whether an open file is on such a file system; raises ``OSError``."""
    found = (ctypes.c_long * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    if libc.fstatfs(fd, found):
        raise last_error()
    return (found[0] & 0xFFFFFFFF) in _TYPES
