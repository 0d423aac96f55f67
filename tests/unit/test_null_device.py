"""Null devices of a program's own."""

from __future__ import annotations

import os
import stat

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.processes.null_device import open_null


def test_it_is_empty_takes_all_and_is_nobody_elses() -> None:
    with closing_fd(open_null()) as one, closing_fd(open_null()) as other:
        assert os.read(one, 1) == b""
        assert os.write(one, b"text") == 4
        os.fchown(one, 7, 8)
        os.fchmod(one, 0)
        with closing_fd(os.open(os.devnull, os.O_RDWR)) as hosts:
            for fd in (other, hosts):
                found = os.fstat(fd)
                assert stat.S_ISCHR(found.st_mode)
                assert found.st_rdev == os.fstat(one).st_rdev
                assert (found.st_uid, found.st_gid) == (0, 0)
                assert stat.S_IMODE(found.st_mode) == 0o666


def test_it_can_be_opened_once_more_by_its_descriptor() -> None:
    with closing_fd(open_null()) as fd:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
