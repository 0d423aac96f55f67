"""Services on hosts, for the tests to use and to leave without a trace."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from tests.bed.bundles.bundle import make_rootfs
from tests.bed.bundles.shell_container import V2_SIDE, WITHOUT_V2_SIDE
from tests.bed.faults.runtimes import FAULTS, Gate, Switches, write_faults
from tests.bed.hosts.host import Host, booted_by_systemd, cgroup2_host, native, systemd_host
from tests.bed.services.service import Service
from tests.bed.services.serving import serving as serving

StartService = Callable[..., Service]
Runtimes = dict[str, dict[str, str]]


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A busybox for all to read, with a ``/tmp`` to write to; where every host sees it."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-rootfs-", dir="/var/tmp") as directory:
        yield make_rootfs(Path(directory))


@pytest.fixture(autouse=True)
def _no_files_of_others(rootfs: Path) -> Iterator[None]:
    """What a test's containers wrote to ``/tmp`` is no other test's to find."""
    yield
    for left in (rootfs / "tmp").iterdir():
        left.unlink()


@contextmanager
def crun_host() -> Iterator[Host]:
    """The host as it is found, but for what crun refuses."""
    with native() as host:
        if not (V2_SIDE.exists() and V2_SIDE.read_text().strip()):
            yield host
            return
        roots = tuple(root for root in host.cgroup_roots if root != V2_SIDE.parent)
        yield Host("v1", roots, WITHOUT_V2_SIDE)


_KINDS = {
    "native-runc": (native, {}),
    "native-crun": (crun_host, {"default_runtime": "crun"}),
    "cgroup2-runc": (cgroup2_host, {}),
    "systemd-runc": (systemd_host, {"cgroup_manager": "systemd"}),
}
_MORE_KINDS = {
    "systemd-crun": (systemd_host, {"cgroup_manager": "systemd", "default_runtime": "crun"})
}

# A private systemd has no controllers. Of the four that there are with a real one, those two
# have both runtimes and both managers, which is enough for every day.
_EVERY_DAY = [
    pytest.param(name, marks=pytest.mark.node) for name in ("native-runc", "systemd-crun")
]
_NOW_AND_THEN = ["native-crun", "systemd-runc"]

with_controllers = pytest.mark.parametrize(
    "_service_of_kind",
    [*_EVERY_DAY, *_NOW_AND_THEN] if booted_by_systemd() else ["native-runc", "native-crun"],
    indirect=True,
    scope="module",
)
"""``any_service`` where every controller is; with both managers on a host of systemd's."""


each_runtime = pytest.mark.parametrize(
    "_service_of_kind", ["native-runc", "native-crun"], indirect=True, scope="module"
)
"""``any_service`` with each runtime, where it does not matter who manages cgroups."""


@pytest.fixture(scope="module")
def switches() -> Iterator[Switches]:
    """A runtime whose verbs can be made to go wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="ocigrpc-faults-", dir="/var/tmp") as directory,
        closing(Switches(Path(directory))) as switches,
    ):
        yield switches


@contextmanager
def used(service: Service) -> Iterator[Service]:
    """A service that runs already, for one test that leaves nothing but containers behind."""
    yield service
    service.remove_all()
    assert service.ids() == []
    assert service.leaks() == []


@pytest.fixture(scope="module")
def _native_service(rootfs: Path) -> Iterator[Service]:
    with native() as host, serving(host, rootfs) as service:
        yield service


@pytest.fixture
def service(_native_service: Service) -> Iterator[Service]:
    """The service with runc, on the host as it is found."""
    with used(_native_service):
        yield _native_service


# A host that has cgroup v2 alone needs no other one made of it.
_DISTINCT = [
    name for name in _KINDS if name != "cgroup2-runc" or Hierarchies.detect().kind is not Kind.V2
]


@pytest.fixture(scope="module", params=_DISTINCT)
def _service_of_kind(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    make_host, settings = (_KINDS | _MORE_KINDS)[request.param]
    with make_host() as host, serving(host, rootfs, **settings) as service:
        yield service


each_kind = pytest.mark.parametrize(
    "_service_of_kind",
    [*_EVERY_DAY, *_NOW_AND_THEN] if booted_by_systemd() else _DISTINCT,
    indirect=True,
    scope="module",
)
"""``any_service`` with each runtime under each manager, as far as they run here."""


@pytest.fixture
def any_service(_service_of_kind: Service) -> Iterator[Service]:
    """The service on every kind of host, with both runtimes and both cgroup managers."""
    with used(_service_of_kind):
        yield _service_of_kind


@pytest.fixture
def start_service(rootfs: Path) -> Iterator[StartService]:
    """``start_service(**settings)``: a service for this test alone."""
    with native() as host, ExitStack() as stack:

        def start(**settings: object) -> Service:
            return stack.enter_context(serving(host, rootfs, **settings))

        yield start


# For the whole module, since services that use them are ended after each test.
@pytest.fixture(scope="module")
def faults_directory() -> Iterator[Path]:
    """Where the faulty runtimes are, and what they leave each other."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-faults-", dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def faulty_runtimes(faults_directory: Path) -> Runtimes:
    """The setting of that name, with every fault as a handler."""
    scripts = write_faults(faults_directory)
    return {name: {"path": str(scripts[name])} for name in FAULTS}


@pytest.fixture(scope="module")
def _gate(faults_directory: Path) -> Iterator[Gate]:
    with closing(Gate(faults_directory)) as gate:
        yield gate


@pytest.fixture
def gate(_gate: Gate) -> Gate:
    """The gate of these runtimes; what one test has not waited for is not for the next."""
    _gate.reset()
    return _gate
