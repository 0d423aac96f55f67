"""Keeps the host's ``/dev/null`` root's while crun creates a container.

crun gives a program's standard streams to the program's user. In a user namespace ``/dev/null`` is
the host's own, bound there, and its new owner could take it away from everybody by chmod(2):
containers/crun#1845. The program runs only when the container is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import ValidationError, convert

from ocigrpc.host.mappings.null_device import take_null_device_back
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import Spec, table
from ocigrpc.oci.spec.linux_types import SpecIdMapping
from ocigrpc.oci.spec.user_namespace import ranges_of

log = get_logger()


@contextmanager
def null_device_kept(spec: Spec) -> Iterator[None]:
    """Have ``/dev/null`` be root's again at the end of a ``with``; raises ``HostFailed``."""
    try:
        yield
    finally:
        owners = _owners_of(spec)
        if owners is not None and take_null_device_back(owners):
            log.info("null_device.taken_back")


def _owners_of(spec: Spec) -> Owners | None:
    """The users and groups of its user namespace; None if it makes none."""
    linux = table(spec, "linux")
    try:
        uids, gids = (
            ranges_of(convert(linux.get(key) or [], list[SpecIdMapping]))
            for key in ("uidMappings", "gidMappings")
        )
    except ValidationError:
        # No runtime takes such ones.
        return None
    return Owners(uids, gids) if uids and gids else None
