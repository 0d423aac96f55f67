"""Whether a call has the descriptors that it is going to need."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from ocigrpc.host.descriptors import require_descriptors

LEFT = 40


@pytest.fixture(autouse=True)
def _few_are_left() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    # All up to the last one are in use then.
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < highest:
        held.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1 + LEFT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for each in held:
        os.close(each)


@pytest.fixture(params=["counted by the kernel", "found out by opening them"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux of either kind: before 6.2, the size of the directory is 0."""
    status = os.fstat

    def before_6_2(fd: int) -> os.stat_result:
        known = list(status(fd))
        known[6] = 0
        return os.stat_result(known)

    if request.param != "counted by the kernel":
        monkeypatch.setattr(os, "fstat", before_6_2)
    elif not os.stat("/proc/self/fd").st_size:
        pytest.skip("the kernel is older than 6.2")


@pytest.mark.usefixtures("_kernel")
def test_as_many_as_are_left_can_be_had_and_not_one_more() -> None:
    before = os.listdir("/proc/self/fd")
    require_descriptors(LEFT)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)) as failed:
        require_descriptors(LEFT + 1)
    assert failed.value.errno == errno.EMFILE
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.usefixtures("_kernel")
def test_a_host_that_opens_no_more_files_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_nothing(path: str, flags: int) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE), path)

    monkeypatch.setattr(os, "open", open_nothing)
    with pytest.raises(OSError, match=os.strerror(errno.ENFILE)) as failed:
        require_descriptors(1)
    assert failed.value.errno == errno.ENFILE
